"""Exercises in the terminal: list them, start them, check a file, ask for a hint.

python -m ch07 check [FILE | FOLDER | EXERCISE] [--watch] [--hint NAME] [--start FOLDER]
"""

import os
import sys
from dataclasses import asdict
from pathlib import Path

from ch07.commands.check_watch import watch_files
from ch07.exercises.catalogue import Exercise, exercises, find
from ch07.exercises.catalogue import hint as hint_of
from ch07.exercises.report import Report
from ch07.exercises.report_summary import summary
from ch07.exercises.sandbox import check_file, open_sandbox
from ch07.exercises.sandbox_limits import EXERCISE_SECONDS
from ch07.utils.console import json_text, shell_path, terminal_line, terminal_safe
from ch07.utils.errors import InputError, OptionError
from ch07.utils.publication import atomic_write

FOLDER = Path("my_exercises")  # where the stubs are copied to, unless another folder is named


def check(
    path: str | None = None,
    *,
    hint: str | None = None,
    level: int = 1,
    start: str | None = None,
    seconds: float = EXERCISE_SECONDS,
    as_json: bool = False,
    watch: bool = False,
) -> int:
    """Print a hint, copy the stubs, check a file, or list the exercises.

    `path` is a file, a folder, or the number or name of an exercise. Returns 1 if a mistake was
    found, else 0. `watch`: check again at each save, until Ctrl-C, and return 0; without a path, in
    the folder where the stubs are.
    """
    if hint is not None:
        print(hint_of(hint, level))
        return 0
    if start is not None:
        return _copy_stubs(Path(start))
    if watch and as_json:
        raise OptionError(
            "--watch prints for a reader, --json for a program: leave one of them out"
        )
    if watch and path is None:
        path = str(FOLDER)
    if path is None:
        return _list_exercises()
    if path == "":
        raise OptionError("FILE is empty: name a file, a folder or an exercise")
    if watch:
        return watch_files(_checkable(_file_or_folder(path)), seconds)
    reports = _check(_file_or_folder(path), seconds)
    if as_json:
        print(json_text([asdict(report) for report in reports]))
    else:
        for report in reports:
            print(terminal_safe(str(report)))
        print(f"\n{summary(reports)}")
    return int(any(report.status == "mistake" for report in reports))


def _file_or_folder(path: str) -> Path:
    """The path itself or, if it is the number or name of an exercise, the reader's file for it."""
    if Path(path).exists():
        return Path(path)
    if Path(path).suffix:
        raise InputError(f"{path} does not exist")
    exercise = _find_exercise(path)
    if exercise is None:
        raise InputError(
            f"{path} is neither a file, nor a folder, nor an exercise; "
            "list the exercises with: python -m ch07 check"
        )
    for folder in (FOLDER, Path()):
        if (folder / exercise.stub).is_file():
            return folder / exercise.stub
    raise InputError(
        f"{exercise.stub} is neither in {FOLDER} nor in this folder; "
        f"start the exercises with: python -m ch07 check --start {FOLDER}"
    )


def _find_exercise(name: str) -> Exercise | None:
    try:
        return find(name)
    except InputError:
        return None


def _check(path: Path, seconds: float) -> list[Report]:
    """The reports on a file, or on all Python files of a folder.

    Files of a folder that define no exercise are named on standard error.
    """
    if not _checkable(path).is_dir():
        return check_file(path, seconds)
    reports: list[Report] = []
    with open_sandbox() as sandbox:
        for file in sorted(path.glob("*.py")):
            try:
                reports += sandbox.check_file(file, seconds)
            except InputError as error:
                print(terminal_safe(f"skipped: {error}"), file=sys.stderr)
    return reports


def _checkable(path: Path) -> Path:
    """The path; InputError for a notebook, and for a folder without a Python file."""
    if path.suffix == ".ipynb":
        raise InputError(f"{path} is a notebook: use ch07.exercises.notebook.check(fn) in it")
    if path.is_dir() and not any(path.glob("*.py")):
        raise InputError(
            f"{path} contains no Python file; "
            f"copy the stubs there with: python -m ch07 check --start {shell_path(path)}"
        )
    return path


def _list_exercises() -> int:
    """Print all exercises and the minutes they take."""
    width = max(len(exercise.name) for exercise in exercises())
    for exercise in exercises():
        minutes = f"{exercise.minutes:>3} min"
        print(f"{exercise.number:>2}  {exercise.name:<{width}}  {minutes}  {exercise.title}")
    print(f"\nTo begin: python -m ch07 check --start {FOLDER}")
    return 0


def _copy_stubs(folder: Path) -> int:
    """Copy the stubs into a folder; files that are there already are not changed."""
    folder.mkdir(parents=True, exist_ok=True)
    n_existing = 0
    for exercise in exercises():
        written = _write_new_file(folder / exercise.stub, exercise.stub_file.read_bytes())
        if not written:
            n_existing += 1
    note = f" ({n_existing} were there already and were not changed)" if n_existing else ""
    first = folder / exercises()[0].stub
    text = f"{len(exercises())} exercises are in {folder}{note}. Edit {first}, then run:"
    print(terminal_line(text, width=None))
    print(f"  python -m ch07 check {shell_path(first)}")
    return 0


def _write_new_file(path: Path, data: bytes) -> bool:
    """Write a file that appears whole or not at all; False if something has its name already."""
    if os.path.lexists(path):
        return False
    try:
        with atomic_write(path, new=True) as temporary:
            temporary.write_bytes(data)
    except OptionError:  # something has got the name since then
        return False
    return True
