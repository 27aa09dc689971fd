"""A learner's own code: `pytest --impl=FILE`. Without it, the project's own code is checked."""

import pytest

from ch07.exercises.catalogue import exercises, solution
from ch07.exercises.checker import diagnose
from ch07.exercises.sandbox import check_file


@pytest.fixture(scope="session")
def reports(request):
    """{exercise name: report} of the learner's file, or None."""
    path = request.config.getoption("--impl")
    try:
        return None if path is None else {r.exercise: r for r in check_file(path)}
    except (ValueError, OSError) as error:
        pytest.exit(f"--impl: {error}", returncode=4)


@pytest.mark.parametrize("exercise", exercises(), ids=lambda exercise: exercise.name)
def test_exercise(exercise, reports):
    if reports is None:
        assert diagnose(exercise.name, solution(exercise)).ok
        return
    unusable = [report for name, report in reports.items() if name.endswith(".py")]
    report = unusable[0] if unusable else reports.get(exercise.name)
    if report is None:
        pytest.skip(f"{exercise.name} is not in the file: its stub is {exercise.stub}")
    if report.status == "not started":
        pytest.skip(f"{exercise.name} is not started")
    if not report.ok:
        pytest.fail(str(report), pytrace=False)
