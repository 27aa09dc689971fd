"""Which files a learner has saved: what `check --watch` checks again.

The one idea: files are compared by what they contain, not by when they were written, so it doesn't
matter how an editor saves (over the old file, by a new one under its name, twice in a row). A file
counts once it has stayed the same from one look to the next; one that is missing or empty for a
moment is waited for.
"""

import ast
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ch07.utils.errors import DataError
from ch07.utils.plain_files import read_plain

POLL_SECONDS = 0.3  # between two looks
PATIENCE = 10  # looks at a missing or empty file, before it is taken for what the learner wants
MAX_FILE_BYTES = 10_000_000

Contents = dict[Path, bytes]


@dataclass(frozen=True)
class Saved:
    """What has changed since the last look."""

    to_check: list[Path]  # changed, or importing what has changed
    gone: list[Path]


def saved_files(path: Path, sleep: Callable[[float], None] = time.sleep) -> Iterator[Saved]:
    """At first all Python files of a folder, or the one file; then what each save has changed.

    Runs until `sleep` raises KeyboardInterrupt. Beside the one file, those that it imports from its
    folder are looked at, too.
    """
    is_folder = path.is_dir()
    seen: Contents | None = None
    while True:
        now = _settled_contents(path, is_folder, seen, sleep)
        before = seen or {}
        gone = sorted(before.keys() - now.keys())
        changed = {file for file, data in now.items() if before.get(file) != data}
        changed.update(gone)
        files = sorted(now) if is_folder else [file for file in now if file == path]
        to_check = [file for file in files if changed & _with_imports(file, now.get).keys()]
        if to_check or gone:
            yield Saved(to_check, gone)
        seen = now
        sleep(POLL_SECONDS)


def _settled_contents(
    path: Path, is_folder: bool, seen: Contents | None, sleep: Callable[[float], None]
) -> Contents:
    """The files as they are once nothing is being written to them any more."""
    before = _contents(path, is_folder, seen or {})
    if seen is None or before == seen:
        return before
    n_same = 0
    while True:
        sleep(POLL_SECONDS)
        now = _contents(path, is_folder, seen)
        n_same = n_same + 1 if now == before else 0
        half_written = any(data and not now.get(file) for file, data in seen.items())
        if n_same >= (PATIENCE if half_written else 1):
            return now
        before = now


def _contents(path: Path, is_folder: bool, seen: Contents) -> Contents:
    """What is in the Python files of a folder, or in a file and those that it imports.

    A file that is imported no more is still looked at: it is not gone. One that can't be read just
    now is left out.
    """
    if is_folder:
        found = {file: _read(file) for file in path.glob("*.py")}
    else:
        found = {file: _read(file) for file in seen}
        found |= _with_imports(path, _read)
    return {file: data for file, data in found.items() if data is not None}


def _read(file: Path) -> bytes | None:
    """What is in a file; of one that is too large, only that: it is there, and is checked."""
    try:
        return read_plain(file, MAX_FILE_BYTES)
    except OSError:
        return None
    except DataError as error:
        return str(error).encode("utf-8", "surrogateescape") if file.is_file() else None


def _with_imports(file: Path, read: Callable[[Path], bytes | None]) -> dict[Path, bytes | None]:
    """A file and those beside it that it imports, directly or through others; None: not there."""
    found: dict[Path, bytes | None] = {}
    to_visit = [file]
    while to_visit:
        visited = to_visit.pop()
        if visited not in found:
            found[visited] = read(visited)
            names = _imported_names(found[visited] or b"")
            to_visit += [visited.with_name(f"{name}.py") for name in names]
    return found


def _imported_names(source: bytes) -> set[str]:
    """The first parts of the modules' names; none if Python can't read the source."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names
