"""Bytes -> rows: a JSON or JSONL file, told apart by content, whatever it is called.

The one idea: what a stranger wrote is read in one place, and every way in which it can be wrong
becomes a sentence. Knows nothing of what a row should hold.
"""

import hashlib
import json
import os
import re
import stat
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ch07.utils.errors import DataError
from ch07.utils.validation import MAX_LISTED, max_json_bytes, quoted, type_name

DUPLICATE_KEY = "\0stands twice"  # marks a row in whose object a key stands twice


PACKED_FORMATS = {
    "gzip": b"\x1f\x8b",
    "Parquet": b"PAR1",
}  # their first bytes (RFC 1952; Parquet's format)


MAX_FAULTY_ROWS = (
    100_000  # faulty rows, if most are: whatever the file is, it isn't instruction data
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing seen in one row: an "error", a "dropped" row or a mere "note"."""

    where: str  # "row 3", or "line 3" in JSONL
    level: str
    what: str


def read_utf8(path, kind="a JSON or JSONL file"):
    """The file's text and the sha256 of its bytes; DataError if it is no UTF-8 or too large."""
    largest = max_json_bytes()
    try:
        data = _read(path, largest + 1)
        if len(data) > largest:
            raise DataError(
                f"{path}: more than {largest / 1e6:,.0f} MB, which may not fit into the free "
                "memory once it is read: split the file"
            )
        if kind := next(
            (kind for kind, first in PACKED_FORMATS.items() if data.startswith(first)), None
        ):
            raise DataError(
                f"{path} is {kind}: unpack it with: python -m ch07 prepare-data {path} OUT.jsonl"
            )
        text = data.decode("utf-8").removeprefix("\ufeff").replace("\r\n", "\n")
        return text, hashlib.sha256(data).hexdigest()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: not UTF-8: byte {error.start} is 0x{error.object[error.start]:02x}; "
            "save the file with UTF-8 encoding"
        ) from None
    except OSError as error:
        if Path(path).is_dir():
            raise DataError(f"{path} is a folder, but must be {kind}") from None
        raise DataError(f"{path}: {error.strerror or error}") from None


def _read(path, most):
    """At most so many bytes: a pipe or a device has no size that could be asked."""

    def opener(path, flags):  # a pipe that nobody writes to is not waited for
        return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))

    with open(path, "rb", opener=opener) as file:
        if not stat.S_ISFIFO(os.fstat(file.fileno()).st_mode):
            return file.read(most)
        first = b""
        with suppress(BlockingIOError):  # somebody will write, but has not yet
            first = os.read(file.fileno(), 1)
            if not first:
                raise DataError(f"{path}: a pipe that nothing comes from")
        os.set_blocking(file.fileno(), True)
        return first + file.read(most)


def parse_rows(text, path, findings, is_row):
    """(where, row) for each row; `is_row` says whether a lone object is one."""
    if not text.strip():
        raise DataError(f"{path}: the file is empty")
    value, problem = _decoded(text)
    if problem is not None and not text.lstrip().startswith("["):
        rows = list(
            parse_jsonl_lines(text.split("\n"), path, findings)
        )  # splitlines() cuts at U+2028
        if any(isinstance(row, dict) for _, row in rows):
            yield from rows
            return
    if problem is not None:
        raise DataError(f"{path}: not JSON: {problem}")
    if isinstance(value, dict):
        if not is_row(value):
            raise DataError(f"{path}: {_about_dict(value)}")
        value = [value]  # JSONL of one line
    if not isinstance(value, list):
        raise DataError(f"{path}: expected a list of entries, found a {type_name(value)}")
    yield from ((f"row {i}", row) for i, row in enumerate(value, start=1))


def parse_jsonl_lines(lines, path, findings):
    """JSONL, (where, row) for each line that is JSON; blank lines are skipped."""
    good = bad = 0
    for number, line in enumerate(lines, start=1):
        if line.strip():
            value, problem = _decoded(line, "")
            if problem is None:
                good += 1
                yield f"line {number}", value
            else:
                bad += 1
                findings.append(Finding(f"line {number}", "error", f"not JSON: {problem}"))
                check_error_count(path, bad, good)


def check_error_count(path, bad, good):
    """DataError if so many rows are faulty that a list of them would help nobody."""
    if bad > max(MAX_FAULTY_ROWS, good):
        raise DataError(f"{path}: {bad:,} of its first {bad + good:,} rows can't be used")


def _decoded(text, line="line {}, "):
    """(value, None), or (None, what is wrong with line, column and the place).

    `line` is how the line is told: "" where it is known already.
    """
    try:
        return json.loads(text, object_pairs_hook=_without_doubles), None
    except json.JSONDecodeError as error:
        snippet = error.doc[max(0, error.pos - 20) : error.pos + 20]
        place = f"{line.format(error.lineno)}column {error.colno}, near {snippet!r}"
        if "'" in snippet and "double quotes" in error.msg:
            return None, f"{error.msg}: {place} (JSON wants \" where Python also takes ')"
        if _closes_after_a_comma(error.doc, error.pos):
            return None, f"{error.msg}: {place} (is there a comma too many?)"
        return None, f"{error.msg}: {place}"
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, 100,000 brackets
        return None, str(error)


def _closes_after_a_comma(text, pos):
    """Whether a bracket or brace closes at `pos` after a comma; Python 3.13 points at the comma."""
    start = pos if text[pos : pos + 1] == "," else len(text[:pos].rstrip()) - 1
    return re.compile(r",\s*[\]}]").match(text, max(0, start)) is not None


def _without_doubles(pairs):
    row = dict(pairs)
    if len(row) < len(pairs):
        times = Counter(name for name, _ in pairs)
        row[DUPLICATE_KEY] = next(name for name in times if times[name] > 1)
    return row


def _about_dict(value):
    lists = [key for key, item in value.items() if isinstance(item, list)]
    hint = f"; are the entries in its {quoted(lists[0])}?" if lists else ""
    keys = ", ".join(map(quoted, list(value)[:MAX_LISTED]))
    return f"the top level is one object with the keys {keys}; expected a list of entries{hint}"
