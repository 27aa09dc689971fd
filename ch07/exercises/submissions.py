"""What a class has handed in: a folder with one file or one folder for each learner.

The one idea: everything is read before anything runs. So what one learner's code deletes or changes
is no other's work, and the result is that of the files as they were.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ch07.exercises.catalogue import exercises
from ch07.utils.errors import InputError
from ch07.utils.plain_files import read_plain
from ch07.utils.unicode_text import compose, fold_case

MAX_FILE_BYTES = 1_000_000  # of a Python file; a long one has a hundredth of it
MAX_FILES = 200  # of one learner
MAX_DEPTH = 30  # folders, one in the other
TO_UNPACK = (".zip", ".7z", ".rar", ".gz", ".tgz", ".tar", ".xz", ".bz2")
NOT_WRITTEN_BY_HAND = ("__pycache__", "__MACOSX", "site-packages", "node_modules")


@dataclass(frozen=True)
class Submission:
    """One learner's Python files, and what could not be read."""

    learner: str  # the name of the file or folder, fit to be shown and written as UTF-8
    files: dict[str, bytes]  # by path within the submission, with "/"
    problems: tuple[str, ...] = ()  # a sentence each


@dataclass(frozen=True)
class NamedPath:
    """A file or folder of the class's folder."""

    path: Path
    name: str  # without ".py", composed


def read_submissions(folder: str | Path) -> tuple[list[Submission], list[str]]:
    """The submissions in a folder, by name, and the names of other files, which are left out.

    InputError if there are none, or if the folder is that of one learner.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: name the one that holds the submissions")
    paths = [path for path in folder.iterdir() if not _is_hidden(path.name)]
    stubs = {exercise.stub for exercise in exercises()}
    if any(path.name in stubs for path in paths):
        raise InputError(
            f"{folder} holds one learner's exercises: check them with python -m ch07 check, or "
            "name the folder above it"
        )
    chosen = [path for path in paths if _can_be_submission(path)]
    if not chosen:
        raise InputError(
            f"{folder} holds no submission: put one file NAME.py or one folder NAME in it for "
            "each learner"
        )
    submissions = [_read(submitted) for submitted in _named_paths(chosen)]
    others = sorted(readable_name(path.name) for path in paths if path not in chosen)
    return submissions, others


def readable_name(name: str) -> str:
    r"""A file's name as text that can be printed and written as UTF-8.

    Its accented letters are composed, as macOS does not store them; bytes that are no UTF-8 are
    escaped.

    >>> print(readable_name("Ana\udce9"))
    Ana\xe9
    """
    return compose(os.fsencode(name).decode("utf-8", "backslashreplace"))


def reading_order(name: str) -> str:
    """What names are sorted by: "Learner 2" before "learner 10"."""
    folded = fold_case(readable_name(name))
    return re.sub(r"[0-9]+", lambda digits: digits[0].zfill(9), folded)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in NOT_WRITTEN_BY_HAND


def _can_be_submission(path: Path) -> bool:
    """Also what can't be read as it is, so that nobody is missing from the report unnoticed."""
    if path.is_symlink() or path.is_dir():
        return True
    return path.suffix.lower() in (".py", ".ipynb", *TO_UNPACK)


def _named_paths(paths: list[Path]) -> list[NamedPath]:
    """Each with a name of its own, in the order of the names.

    A file and a folder of the same name keep their whole names.
    """
    short = {path: path.stem if path.suffix.lower() == ".py" else path.name for path in paths}
    taken = Counter(readable_name(name) for name in short.values())
    named = []
    for path in paths:
        name = readable_name(short[path])
        named.append(NamedPath(path, name if taken[name] == 1 else readable_name(path.name)))
    return sorted(named, key=lambda submitted: (reading_order(submitted.name), submitted.path.name))


def _read(submitted: NamedPath) -> Submission:
    files: dict[str, bytes] = {}
    problems: list[str] = []
    try:
        for name, path in _python_files(submitted.path, problems):
            if len(files) == MAX_FILES:
                problems.append(
                    f"There are more than {MAX_FILES} Python files; the rest is left out."
                )
                break
            _read_file(name, path, files, problems)
    except OSError as error:
        problems.append(f"{submitted.name} can't be read: {error.strerror}.")
    return Submission(submitted.name, files, tuple(problems))


def _read_file(name: str, path: Path, files: dict[str, bytes], problems: list[str]) -> None:
    shown = readable_name(name)
    try:
        files[name] = read_plain(path, MAX_FILE_BYTES)
    except OSError as error:
        problems.append(f"{shown} can't be read: {error.strerror}.")
    except ValueError:  # DataError, with the whole path
        limit = MAX_FILE_BYTES // 1_000_000
        problems.append(f"{shown} is no plain file of at most {limit} MB.")


def _python_files(path: Path, problems: list[str]) -> Iterator[tuple[str, Path]]:
    """The Python files of a submission, by name, each with its name within it.

    Links are not followed: they could lead to another's work, or out of the folder.
    """
    shown = readable_name(path.name)
    if path.is_symlink():
        problems.append(_link_problem(path.name))
    elif path.is_dir():
        yield from _files_below(path, PurePosixPath(), problems)
    elif path.suffix.lower() == ".py":
        yield f"{path.stem}.py", path
    elif path.suffix.lower() == ".ipynb":
        problems.append(f"{shown} is a notebook: save its answers as a Python file.")
    else:
        problems.append(f"{shown} is packed: unpack it first.")


def _files_below(
    folder: Path, inside: PurePosixPath, problems: list[str]
) -> Iterator[tuple[str, Path]]:
    """The Python files of a folder and of those in it; `inside`: its place in the submission."""
    if len(inside.parts) > MAX_DEPTH:
        shown = readable_name("/".join(inside.parts[:2]))
        problems.append(
            f"{shown} holds more than {MAX_DEPTH} folders, one in the other; the rest is left out."
        )
        return
    try:
        paths = sorted(folder.iterdir(), key=lambda path: (reading_order(path.name), path.name))
    except OSError as error:
        shown = readable_name(str(inside) if inside.parts else folder.name)
        problems.append(f"{shown} can't be read: {error.strerror}.")
        return
    taken = {path.name for path in paths}
    for path in paths:
        name = str(inside / path.name)
        if _is_hidden(path.name):
            continue
        if path.is_symlink():
            problems.append(_link_problem(name))
        elif path.is_dir() and not (path / "pyvenv.cfg").exists():
            yield from _files_below(path, inside / path.name, problems)
        elif path.suffix.lower() == ".py":
            importable = f"{path.name[:-3]}.py"
            if importable != path.name and importable in taken:
                problems.append(_name_problem(name, importable))
                continue
            taken.add(importable)
            yield f"{name[:-3]}.py", path


def _name_problem(name: str, taken: str) -> str:
    shown = readable_name(name)
    return (
        f"{shown} is left out, since {readable_name(taken)} is there as well: rename one of them."
    )


def _link_problem(name: str) -> str:
    shown = readable_name(name)
    return f"{shown} is a link, which is not followed: put the file itself there."
