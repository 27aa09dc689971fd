"""A class's submissions: who passed what, and which mistakes were made how often.

python -m ch07 grade FOLDER [--exercise NAME] [--json FILE] [--jobs N]
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ch07.exercises.class_report import ClassReport, Grades, grade_all, wanted_exercises
from ch07.exercises.class_table import class_text, fit, learner_line, summary
from ch07.exercises.sandbox_limits import EXERCISE_SECONDS
from ch07.exercises.submissions import read_submissions
from ch07.utils.console import json_text, terminal_line
from ch07.utils.errors import OptionError
from ch07.utils.exit_codes import EXIT_FAILED
from ch07.utils.publication import atomic_write

PROGRESS_WIDTH = 79


def grade(
    folder: str,
    *,
    exercise: Sequence[str] = (),
    json: str | None = None,
    jobs: int = 1,
    seconds: float = EXERCISE_SECONDS,
) -> int:
    """Grade each file NAME.py and each folder NAME of a folder, and print the class's report.

    Returns 0 however many mistakes there are, and 1 if a submission could not be read.
    """
    if not folder:
        raise OptionError("FOLDER is empty: name the one that holds the submissions")
    if json is not None:
        _check_can_be_written(Path(json))
    wanted = wanted_exercises(exercise)
    submissions, others = read_submissions(folder)
    if others:
        _say(f"left out, since neither a Python file nor a folder: {', '.join(others)}")
    graded: list[Grades] = []
    for grades in grade_all(submissions, wanted, seconds, jobs):
        graded.append(grades)
        _show_progress(learner_line(grades, len(graded), len(submissions)))
    _show_progress("")
    report = ClassReport(wanted, tuple(graded))
    print(class_text(report))
    print(f"\n{summary(report)}")
    if json is not None:
        _write_json(Path(json), report.to_json())
        text = f"The report, with a sentence on each mistake, is in {json}."
        print(terminal_line(text, width=None))
    return EXIT_FAILED if any(grades.problems for grades in graded) else 0


def _check_can_be_written(path: Path) -> None:
    """OptionError before anything is graded, not after."""
    is_other = os.path.lexists(path) and not path.is_file()  # a folder, a pipe or a device
    if is_other or not os.access(path.parent, os.W_OK | os.X_OK):
        raise OptionError(
            f"--json {path} can't be written: name a file in a folder that exists and can be "
            "written to"
        )


def _write_json(path: Path, value: Any) -> None:
    with atomic_write(path) as temporary:
        temporary.write_bytes(f"{json_text(value)}\n".encode())


def _show_progress(text: str) -> None:
    """A line on standard error for each learner; on a terminal, one that is written over."""
    if not sys.stderr.isatty():
        if text:
            _say(text)
        return
    line = fit(text, PROGRESS_WIDTH)
    print(f"\r{line}\r" if not text else f"\r{line}", end="", file=sys.stderr, flush=True)


def _say(text: str) -> None:
    """One line, even where a name holds a line break."""
    print(terminal_line(text, width=None), file=sys.stderr, flush=True)
