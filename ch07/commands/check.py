"""Exercises in the terminal: list them, start them, check a file, ask for a hint.

python -m ch07 check [FILE] [--hint NAME] [--start FOLDER]
"""

import shutil
import sys
from dataclasses import asdict
from pathlib import Path

from ch07.exercises.catalogue import exercises, find
from ch07.exercises.catalogue import hint as hint_of
from ch07.exercises.sandbox import SECONDS, check_file, open_sandbox
from ch07.utils.console import json_text, terminal_safe
from ch07.utils.errors import InputError, OptionError


def check(path=None, hint=None, level=1, start=None, seconds=SECONDS, as_json=False):
    """Do what was asked for; returns 1 if a mistake was found, else 0."""
    if hint is not None:
        print(hint_of(hint, level))
        return 0
    if start is not None:
        return _start(Path(start))
    if path is None:
        return _list()
    if path == "":
        raise OptionError("FILE is empty: name a file or a folder")
    reports = _reports(Path(path), seconds)
    if as_json:
        print(json_text([asdict(report) for report in reports]))
    else:
        for report in reports:
            print(terminal_safe(str(report)))
        print(_summary(reports))
    return int(any(report.status == "mistake" for report in reports))


def _reports(path, seconds):
    """Of a file, or of all Python files of a folder; helpers without an exercise are named."""
    if not path.is_dir():
        if path.suffix == ".ipynb":
            raise InputError(f"{path} is a notebook: there, use ch07.exercises.notebook.check(fn)")
        return check_file(path, seconds)
    files = sorted(path.glob("*.py"))
    if not files:
        raise InputError(f"{path} holds no Python file: python -m ch07 check --start {path}")
    reports = []
    with open_sandbox() as sandbox:
        for file in files:
            try:
                reports += sandbox.check_file(file, seconds)
            except ValueError as error:
                print(terminal_safe(f"passed over: {error}"), file=sys.stderr)
    return reports


def _list():
    """All exercises, with the minutes they take."""
    width = max(len(exercise.name) for exercise in exercises())
    for exercise in exercises():
        minutes = f"{exercise.minutes:>3} min"
        print(f"{exercise.number:>2}  {exercise.name:<{width}}  {minutes}  {exercise.title}")
    print("\nTo begin: python -m ch07 check --start my_exercises")
    return 0


def _start(folder):
    """Copy the stubs into a folder; what stands there already is left as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = 0
    for exercise in exercises():
        target = folder / exercise.stub
        if target.exists():
            kept += 1
        else:
            shutil.copyfile(exercise.stub_file, target)
    note = f" ({kept} stood there already and were left as they are)" if kept else ""
    first = folder / exercises()[0].stub
    print(f"{len(exercises())} exercises are in {folder}{note}. Write in {first}, then:")
    print(f"  python -m ch07 check {first}")
    return 0


def _summary(reports):
    counts = {status: 0 for status in ("passed", "mistake", "not started")}
    for report in reports:
        counts[report.status] += 1
    text = f"\n{counts['passed']} right, {counts['mistake']} with a mistake"
    text += f", {counts['not started']} not started."
    rest = [report.exercise for report in reports if report.status == "not started"]
    if counts["mistake"] or not rest:
        return text
    exercise = find(rest[0])
    return f"{text} Next: {exercise.name}, about {exercise.minutes} minutes."
