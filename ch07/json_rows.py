"""Bytes -> rows: a JSON or JSONL file, told apart by content, whatever it is called.

The one idea: what a stranger wrote is read in one place, and every way in which it can be wrong
becomes a sentence. Knows nothing of what a row should hold.
"""

import hashlib
import json
import re
from dataclasses import dataclass

import psutil

TWICE = "\0stands twice"  # marks a row in whose object a key stands twice
SHOWN = 10  # findings or row numbers listed before "and so on"
# What a byte of JSON can become in memory: "{}," is three bytes, and an empty dict 64.
BLOW_UP = 25


class DataError(ValueError):
    """The data can't be trained on as it is; the message says where and what to do."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing seen in one row: an "error", a "dropped" row or a mere "note"."""

    where: str  # "row 3", or "line 3" in JSONL
    level: str
    what: str


def read_utf8(path):
    """The file's text and the sha256 of its bytes; DataError if it is no UTF-8 or too large."""
    largest = psutil.virtual_memory().available // BLOW_UP
    try:
        with open(path, "rb") as file:  # a pipe or a device has no size that could be asked
            data = file.read(largest + 1)
        if len(data) > largest:
            raise DataError(
                f"{path}: more than {largest / 1e6:,.0f} MB, which may not fit into the free "
                "memory once it is read: split the file"
            )
        text = data.decode("utf-8").removeprefix("\ufeff").replace("\r\n", "\n")
        return text, hashlib.sha256(data).hexdigest()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: not UTF-8: byte {error.start} is 0x{error.object[error.start]:02x}; "
            "save the file with UTF-8 encoding"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None


def parse(text, path, findings, is_row):
    """(where, row) for each row; `is_row` says whether a lone object is one."""
    if not text.strip():
        raise DataError(f"{path}: the file is empty")
    value, problem = _decoded(text)
    if problem is not None and not text.lstrip().startswith("["):
        rows = list(_parse_lines(text, findings))
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


def _parse_lines(text, findings):
    """JSONL: a JSON object on each line; blank lines are skipped."""
    for number, line in enumerate(text.split("\n"), start=1):  # splitlines() would cut at U+2028
        if line.strip():
            value, problem = _decoded(line, "")
            if problem is None:
                yield f"line {number}", value
            else:
                findings.append(Finding(f"line {number}", "error", f"not JSON: {problem}"))


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
        names = [name for name, _ in pairs]
        row[TWICE] = next(name for name in names if names.count(name) > 1)
    return row


def _about_dict(value):
    lists = [key for key, item in value.items() if isinstance(item, list)]
    hint = f"; are the entries in its {lists[0]!r}?" if lists else ""
    keys = ", ".join(map(repr, list(value)[:SHOWN]))
    return f"the top level is one object with the keys {keys}; expected a list of entries{hint}"


def type_name(value):
    """What JSON calls the type of a value."""
    if isinstance(value, float) and value != value:
        return "NaN"
    names = {dict: "object", list: "list", bool: "boolean", type(None): "null", str: "text"}
    return names.get(type(value), "number")
