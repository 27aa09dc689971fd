"""Bytes -> rows: a JSON or JSONL file, recognized by its content, whatever it is called.

The one idea: files from outside are read in one place, and every fault in one becomes a one-line
error. Knows nothing of what a row should contain.
"""

import hashlib
import json
import os
import re
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from ch07.utils.errors import DataError
from ch07.utils.validation import MAX_LISTED, max_json_bytes, quote, type_name

DUPLICATE_KEY = "\0duplicate key"  # marks a row in whose object a key appears twice

# The first bytes of compressed files (RFC 1952; Parquet's format).
COMPRESSED_FORMATS = {"gzip": b"\x1f\x8b", "Parquet": b"PAR1"}

# If more rows than these, and more than half, are faulty, the file isn't instruction data.
MAX_FAULTY_ROWS = 100_000
WRITER_SECONDS = 1.0  # how long a pipe may be without a process that writes to it
POLL_SECONDS = 0.01

Level = Literal["error", "dropped", "note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing noticed about one row: an "error", a "dropped" row or a mere "note"."""

    place: str  # "row 3", or "line 3" in JSONL
    level: Level
    text: str


class FindingSink(Protocol):
    """Whatever collects findings: a list, or `FindingCounts` where there may be millions."""

    def append(self, finding: Finding, /) -> None:
        """Take one more."""
        ...


# --- bytes to text --------------------------------------------------------------------------------
def read_utf8(path: Path | str, kind: str = "a JSON or JSONL file") -> tuple[str, str]:
    """The file's text and the sha256 of its bytes; DataError if it isn't UTF-8, or too large.

    `kind` says in messages what the file should be.
    """
    largest = max_json_bytes()
    try:
        data = _read_at_most(path, largest + 1)
    except OSError as error:
        if Path(path).is_dir():
            raise DataError(f"{path} is a folder, but must be {kind}") from None
        raise DataError(f"{path}: {error.strerror or error}") from None
    if len(data) > largest:
        raise DataError(
            f"{path}: more than {largest / 1e6:,.0f} MB, which may not fit into the free "
            "memory once it is read: split the file"
        )
    for packed, first_bytes in COMPRESSED_FORMATS.items():
        if data.startswith(first_bytes):
            raise DataError(
                f"{path} is {packed}: convert it with: python -m ch07 prepare-data {path} OUT.jsonl"
            )
    try:
        text = data.decode("utf-8").removeprefix("\ufeff").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: not UTF-8: byte {error.start} is 0x{error.object[error.start]:02x}; "
            "save the file with UTF-8 encoding"
        ) from None
    return text, hashlib.sha256(data).hexdigest()


def _read_at_most(path: Path | str, n_bytes: int) -> bytes:
    """The file's first bytes; a pipe or a device can't be asked for its size."""

    def open_without_waiting(path: str, flags: int) -> int:
        """Don't wait for a pipe that nobody writes to."""
        return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))

    with open(path, "rb", opener=open_without_waiting) as file:
        if not stat.S_ISFIFO(os.fstat(file.fileno()).st_mode):
            return file.read(n_bytes)
        first = _first_byte_of_pipe(file.fileno(), path)
        os.set_blocking(file.fileno(), True)
        return first + file.read(n_bytes)


def _first_byte_of_pipe(descriptor: int, path: Path | str) -> bytes:
    """The first byte, or nothing if a process has opened the pipe but written nothing yet.

    A process that was started together with this one has a moment to open the pipe. If the pipe
    were closed at once, a process that had just opened it would be killed by SIGPIPE.
    """
    end = time.monotonic() + WRITER_SECONDS
    while True:
        try:
            first = os.read(descriptor, 1)
        except BlockingIOError:
            return b""
        if first:
            return first
        if time.monotonic() >= end:
            raise DataError(f"{path} is a pipe that no process writes to")
        time.sleep(POLL_SECONDS)


# --- text to rows ---------------------------------------------------------------------------------
def parse_rows(
    text: str,
    path: Path | str,
    findings: FindingSink,
    is_row: Callable[[dict[str, Any]], bool],
) -> Iterator[tuple[str, Any]]:
    """(place, row) for each row of a JSON list or of JSONL; `is_row` accepts a single object.

    Lines that aren't JSON are appended to `findings`; DataError if the whole text isn't.
    """
    if not text.strip():
        raise DataError(f"{path}: the file is empty")
    value, problem = _decode_json(text)
    if problem is not None and not text.lstrip().startswith("["):
        lines = text.split("\n")  # splitlines() would also break at U+2028
        rows = list(parse_jsonl_lines(lines, path, findings))
        if any(isinstance(row, dict) for _, row in rows):
            yield from rows
            return
    if problem is not None:
        raise DataError(f"{path}: not JSON: {problem}")
    if isinstance(value, dict):
        if not is_row(value):
            raise DataError(f"{path}: {_explain_object_at_top(value)}")
        value = [value]  # JSONL of one line
    if not isinstance(value, list):
        raise DataError(f"{path}: expected a list of entries, found a {type_name(value)}")
    yield from ((f"row {i}", row) for i, row in enumerate(value, start=1))


def parse_jsonl_lines(
    lines: Iterable[str], path: Path | str, findings: FindingSink
) -> Iterator[tuple[str, Any]]:
    """("line 3", row) for each line that is JSON; blank lines are skipped."""
    n_good = 0
    n_bad = 0
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        value, problem = _decode_json(line, with_line=False)
        if problem is None:
            n_good += 1
            yield f"line {number}", value
        else:
            n_bad += 1
            findings.append(Finding(f"line {number}", "error", f"not JSON: {problem}"))
            check_error_count(path, n_bad, n_good)


def check_error_count(path: Path | str, n_bad: int, n_good: int) -> None:
    """DataError if so many rows are faulty that a list of them would help nobody."""
    if n_bad > max(MAX_FAULTY_ROWS, n_good):
        raise DataError(f"{path}: {n_bad:,} of its first {n_bad + n_good:,} rows can't be used")


def _decode_json(text: str, with_line: bool = True) -> tuple[Any, str | None]:
    """(value, None), or (None, what is wrong and where).

    `with_line` names the line as well; in JSONL it is known already.
    """
    try:
        return json.loads(text, object_pairs_hook=_mark_duplicate_keys), None
    except json.JSONDecodeError as error:
        snippet = error.doc[max(0, error.pos - 20) : error.pos + 20]
        line = f"line {error.lineno}, " if with_line else ""
        problem = f"{error.msg}: {line}column {error.colno}, near {snippet!r}"
        if "'" in snippet and "double quotes" in error.msg:
            return None, f"{problem} (JSON wants \" where Python also takes ')"
        if _closes_after_comma(error.doc, error.pos):
            return None, f"{problem} (is there a comma too many?)"
        return None, problem
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, 100,000 brackets
        return None, str(error)


def _closes_after_comma(text: str, position: int) -> bool:
    """Whether a bracket or brace closes here after a comma; Python 3.13 points at the comma."""
    at_comma = text[position : position + 1] == ","
    start = position if at_comma else len(text[:position].rstrip()) - 1
    return re.compile(r",\s*[\]}]").match(text, max(0, start)) is not None


def _mark_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        row[DUPLICATE_KEY] = next(key for key, n in counts.items() if n > 1)
    return row


def _explain_object_at_top(value: dict[str, Any]) -> str:
    lists = [key for key, item in value.items() if isinstance(item, list)]
    hint = f"; are the entries in its {quote(lists[0])}?" if lists else ""
    keys = ", ".join(map(quote, list(value)[:MAX_LISTED]))
    return f"the top level is one object with the keys {keys}; expected a list of entries{hint}"
