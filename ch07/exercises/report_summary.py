"""Where a learner stands, in a sentence: after a check, and compared with the check before."""

from collections.abc import Sequence

from ch07.exercises.catalogue import find
from ch07.exercises.report import Report

WORDS = {"passed": "right", "not started": "not started"}


def summary(reports: Sequence[Report]) -> str:
    """How many are right, wrong and not started, and which exercise comes next."""
    statuses = [report.status for report in reports]
    n_mistakes = statuses.count("mistake")
    text = f"{statuses.count('passed')} right, {n_mistakes} with a mistake"
    text += f", {statuses.count('not started')} not started."
    not_started = [report.exercise for report in reports if report.status == "not started"]
    if n_mistakes or not not_started:
        return text
    exercise = find(not_started[0])
    return f"{text} Next: {exercise.name}, about {exercise.minutes} minutes."


def difference(before: Sequence[Report], after: Sequence[Report]) -> str:
    """What a save has changed: "2 of 3 now pass (1 before). KVCache: cache-forgets -> right"."""
    n_before = sum(report.ok for report in before)
    n_after = sum(report.ok for report in after)
    verb = "passes" if n_after == 1 else "pass"
    if n_after == n_before:
        text = f"{n_after} of {len(after)} {verb}, as before."
    else:
        text = f"{n_after} of {len(after)} now {verb} ({n_before} before)."
    earlier = {report.exercise: _state(report) for report in before}
    changes = [
        f"{report.exercise}: {earlier.get(report.exercise, 'new')} -> {_state(report)}"
        for report in after
        if earlier.get(report.exercise) != _state(report)
    ]
    left = {report.exercise for report in after}
    changes += [f"{name}: {state} -> gone" for name, state in earlier.items() if name not in left]
    if not changes:
        return text
    more = f" (and {len(changes) - 1} more)" if len(changes) > 1 else ""
    return f"{text} {changes[0]}{more}"


def _state(report: Report) -> str:
    """ "right", "not started", or the mistake's name."""
    return WORDS.get(report.status, report.diagnosis)
