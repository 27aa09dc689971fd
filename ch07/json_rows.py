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
from dataclasses import dataclass, fields
from pathlib import Path

import psutil

TWICE = "\0stands twice"  # marks a row in whose object a key stands twice
SHOWN = 10  # findings or row numbers listed before "and so on"
# What a byte of JSON can become in memory, as measured: "{}," is three bytes, an empty dict 64, and
# one emoji makes four bytes of every letter of the text.
BLOW_UP = 40
PACKED = {"gzip": b"\x1f\x8b", "Parquet": b"PAR1"}  # their first bytes (RFC 1952; Parquet's format)
SMALL = 5_000_000  # bytes: many times what a config.json or an index of weights has
TOO_MANY = 100_000  # faulty rows, if most are: whatever the file is, it isn't instruction data


class DataError(ValueError):
    """The data can't be trained on as it is; the message says where and what to do."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing seen in one row: an "error", a "dropped" row or a mere "note"."""

    where: str  # "row 3", or "line 3" in JSONL
    level: str
    what: str


def has_half_character(text):
    r"""Whether a text holds a lone surrogate, which no file in UTF-8 can have.

    >>> has_half_character("a\ud83d"), has_half_character("\U0001f600")
    (True, False)
    """
    return any("\ud800" <= letter <= "\udfff" for letter in text)


def check_kinds(kind, values):
    """TypeError unless each value is of the kind that this field of a dataclass has."""
    for field in fields(kind):
        value = values.get(field.name, field.default)
        if not isinstance(value, field.type | int if field.type is float else field.type):
            raise TypeError(f"the option {field.name} is {named(str(value))}")


def read_utf8(path, kind="a JSON or JSONL file"):
    """The file's text and the sha256 of its bytes; DataError if it is no UTF-8 or too large."""
    largest = fitting()
    try:
        data = _read(path, largest + 1)
        if len(data) > largest:
            raise DataError(
                f"{path}: more than {largest / 1e6:,.0f} MB, which may not fit into the free "
                "memory once it is read: split the file"
            )
        if kind := next((kind for kind, first in PACKED.items() if data.startswith(first)), None):
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


def fitting():
    """Bytes of JSON that fit into the free memory, whatever they hold."""
    return psutil.virtual_memory().available // BLOW_UP


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


def check_size(path, largest=None):
    """DataError for what isn't a plain file of at most so many bytes (None: what fits into memory).

    What is read whole is looked at first: a stranger's folder may hold pipes, devices, or
    gigabytes. A file that isn't there is left to whoever opens it.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise DataError(f"{path} is no file")
    largest = fitting() if largest is None else largest
    if path.exists() and path.stat().st_size > largest:
        raise DataError(f"{path} is too large to be read: more than {largest / 1e6:,.0f} MB")


def parse(text, path, findings, is_row):
    """(where, row) for each row; `is_row` says whether a lone object is one."""
    if not text.strip():
        raise DataError(f"{path}: the file is empty")
    value, problem = _decoded(text)
    if problem is not None and not text.lstrip().startswith("["):
        rows = list(parse_lines(text.split("\n"), path, findings))  # splitlines() cuts at U+2028
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


def parse_lines(lines, path, findings):
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
                refuse_many(path, bad, good)


def refuse_many(path, bad, good):
    """DataError if so many rows are faulty that a list of them would help nobody."""
    if bad > max(TOO_MANY, good):
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
        row[TWICE] = next(name for name in times if times[name] > 1)
    return row


def _about_dict(value):
    lists = [key for key, item in value.items() if isinstance(item, list)]
    hint = f"; are the entries in its {named(lists[0])}?" if lists else ""
    keys = ", ".join(map(named, list(value)[:SHOWN]))
    return f"the top level is one object with the keys {keys}; expected a list of entries{hint}"


def named(text, most=60):
    """A file's own words in a message, in quotes; what is longer than a name is cut."""
    return repr(text if len(text) <= most else f"{text[:most]} ...")


def type_name(value):
    """What JSON calls the type of a value."""
    if isinstance(value, float) and value != value:
        return "NaN"
    names = {dict: "object", list: "list", bool: "boolean", type(None): "null", str: "text"}
    number = "number" if isinstance(value, int | float) else type(value).__name__
    return names.get(type(value), number)
