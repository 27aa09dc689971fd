"""Reading instruction data: a JSON or JSONL file becomes a list of checked entries.

The one idea: every fault is collected with its row and reported with the others; nothing is
changed, dropped or cut in silence. Knows nothing of tokens or models.
"""

import hashlib
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

# Other names for (instruction, output) that are read as such, and reported.
SCHEMAS = [("question", "answer"), ("prompt", "completion"), ("instruction", "response")]
SPLITS = ("train", "test", "validation")
KNOWN = ("instruction", "input", "output", "family", "split")
PLACEHOLDERS = ("n/a", "<noinput>", "noinput")
LONGEST = 100_000  # characters of a field: no model here could read more
_DOUBLE = "\0stands twice"  # marks a row in whose object a key stands twice
SHOWN = 10  # findings or row numbers listed before "and so on"


class DataError(ValueError):
    """The data can't be trained on as it is; the message says where and what to do."""


@dataclass(frozen=True)
class Finding:
    """One thing seen in one row: an "error", a "dropped" row or a mere "note"."""

    where: str  # "row 3", or "line 3" in JSONL
    level: str
    what: str


@dataclass(frozen=True)
class DataFile:
    """A file that was read: its entries, where each stands in it, and what was seen."""

    entries: list
    places: list  # "row 3" or "line 3" for each entry
    findings: list
    sha256: str  # of the bytes that were read


def load_entries(path, skip_bad_rows=False):
    """The file's entries: dicts with "instruction", "input" and "output", other keys kept.

    Faulty rows are a DataError that lists them, or are left out with `skip_bad_rows`; rows with
    an empty answer are left out in any case. Outer white space of fields is stripped.
    """
    return read_data(path, skip_bad_rows).entries


def read_data(path, skip_bad_rows=False):
    """`load_entries`, with the place of each entry and the findings, as a `DataFile`."""
    path = Path(path)
    findings, entries, places, first_seen = [], [], [], {}
    text, digest = _read_text(path)
    for where, row in _parse(text, path, findings):
        entry = _checked(where, row, findings)
        if entry is None:
            continue
        key = (entry["instruction"], entry["input"], entry["output"])
        if first_seen.setdefault(key, where) != where:
            what = f"the same as an earlier row; first as {first_seen[key]}"
            findings.append(Finding(where, "note", what))
        entries.append(entry)
        places.append(where)
    errors = [f for f in findings if f.level == "error"]
    if errors and not skip_bad_rows:
        lines = "\n".join(f"  {f.where}: {f.what}" for f in errors[:SHOWN])
        more = f"\n  ... and {len(errors) - SHOWN} more" if len(errors) > SHOWN else ""
        raise DataError(
            f"{path}: {count(len(errors), 'faulty row')}; mend the file, or leave such rows out "
            f"with --skip-bad-rows\n{lines}{more}"
        )
    if not entries:
        raise DataError(f"{path}: no usable row" + "".join(f"\n  {s}" for s in summary(findings)))
    return DataFile(entries, places, findings, digest)


def count(n, noun):
    """ "1 row", "2 rows"."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def summary(findings):
    """Findings in a line for each kind, with their number and the first rows."""
    rows = defaultdict(list)
    for finding in findings:
        what = finding.what.split("; first as ")[0]
        rows[finding.level, what].append(finding.where)
    verdict = {"error": "left out: ", "dropped": "left out: ", "note": ""}
    return [
        f"{verdict[level]}{what} ({len(places)}: {', '.join(places[:SHOWN])}"
        + (", ...)" if len(places) > SHOWN else ")")
        for (level, what), places in rows.items()
    ]


# --- from bytes to rows -------------------------------------------------------------------------


def _read_text(path):
    """The file's text and the sha256 of its bytes."""
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
        return text, hashlib.sha256(data).hexdigest()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: not UTF-8: byte {error.start} is 0x{error.object[error.start]:02x}; "
            "save the file with UTF-8 encoding"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None


def _parse(text, path, findings):
    """(where, row) for each row; JSON or JSONL by content, whatever the file is called."""
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
        if not _has_a_schema(value):
            raise DataError(f"{path}: {_about_dict(value)}")
        value = [value]  # JSONL of one line
    if not isinstance(value, list):
        raise DataError(f"{path}: expected a list of entries, found a {_type_name(value)}")
    yield from ((f"row {i}", row) for i, row in enumerate(value, start=1))


def _parse_lines(text, findings):
    """JSONL: a JSON object on each line; blank lines are skipped."""
    for number, line in enumerate(text.split("\n"), start=1):  # splitlines() would cut at U+2028
        if line.strip():
            value, problem = _decoded(line)
            if problem is None:
                yield f"line {number}", value
            else:
                findings.append(Finding(f"line {number}", "error", f"not JSON: {problem}"))


def _decoded(text):
    """(value, None), or (None, what is wrong with line, column and the place)."""
    try:
        return json.loads(text, object_pairs_hook=_without_doubles), None
    except json.JSONDecodeError as error:
        snippet = error.doc[max(0, error.pos - 20) : error.pos + 20]
        place = f"line {error.lineno}, column {error.colno}, near {snippet!r}"
        if "'" in snippet and "double quotes" in error.msg:
            return None, f"{error.msg}: {place} (JSON wants \" where Python also takes ')"
        if error.doc[: error.pos].rstrip().endswith(","):
            return None, f"{error.msg}: {place} (is there a comma too many?)"
        return None, f"{error.msg}: {place}"
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, 100,000 brackets
        return None, str(error)


def _without_doubles(pairs):
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        row[_DOUBLE] = next(name for name in names if names.count(name) > 1)
    return row


def _about_dict(value):
    lists = [key for key, item in value.items() if isinstance(item, list)]
    hint = f"; are the entries in its {lists[0]!r}?" if lists else ""
    keys = ", ".join(map(repr, list(value)[:SHOWN]))
    return f"the top level is one object with the keys {keys}; expected a list of entries{hint}"


# --- from rows to entries -----------------------------------------------------------------------


def _has_a_schema(row):
    return "instruction" in row or any(all(key in row for key in keys) for keys in SCHEMAS)


def _checked(where, row, findings):
    """The row as an entry with stripped fields, or None; what was seen goes to `findings`."""

    def report(level, what):
        findings.append(Finding(where, level, what))

    if not isinstance(row, dict):
        return report("error", f"expected an object, found a {_type_name(row)}")
    if _DOUBLE in row:
        return report("error", f"the key {row[_DOUBLE]!r} stands twice")
    entry = dict(row)
    if not ("instruction" in row and "output" in row):
        names = next((keys for keys in SCHEMAS if all(key in row for key in keys)), None)
        if names is None:
            return report("error", _missing(row))
        both = [key for key in ("instruction", "output") if key in row and key not in names]
        if both:
            return report("error", f"{both[0]!r} stands beside {names[0]!r} and {names[1]!r}")
        entry["instruction"], entry["output"] = (entry.pop(name) for name in names)
        report("note", f"{names[0]}/{names[1]} read as instruction/output")
    if entry.get("input") is None:
        entry["input"] = ""
    for key in ("instruction", "input", "output", *(("family",) if "family" in entry else ())):
        if not isinstance(entry[key], str):
            return report("error", f"{key!r} is a {_type_name(entry[key])}, but must be text")
        if len(entry[key]) > LONGEST:
            return report("error", f"{key!r} has more than {LONGEST:,} characters")
        if any("\ud800" <= letter <= "\udfff" for letter in entry[key]):
            return report("error", f"{key!r} holds half a character (a lone surrogate)")
        text = entry[key].replace("\r\n", "\n").strip()
        if text != entry[key]:
            report("note", f"outer white space or CRLF of {key!r} removed")
        entry[key] = text
    if not entry["instruction"]:
        return report("error", "'instruction' is empty")
    if not entry["output"]:
        return report("dropped", "'output' is empty")
    if entry.get("split", "train") not in SPLITS:
        return report("error", f"'split' is {entry['split']!r}; choose one of {', '.join(SPLITS)}")
    for key in entry:
        if key not in KNOWN:
            report("note", f"the key {key!r} is not trained on")
    if entry["input"].casefold() in PLACEHOLDERS:
        report("note", f"'input' is the placeholder {entry['input']!r}; leave it empty instead")
    return entry


def _missing(row):
    keys = ", ".join(map(repr, list(row)[:SHOWN])) or "none"
    missing = " and ".join(repr(key) for key in ("instruction", "output") if key not in row)
    missing += " are" if " and " in missing else " is"
    chat = next((key for key in ("messages", "conversations") if key in row), None)
    hint = f"; {chat!r} looks like a chat: make it one instruction and one output" if chat else ""
    return f"{missing} missing; keys found: {keys}{hint}"


def _type_name(value):
    if isinstance(value, float) and value != value:
        return "NaN"
    names = {dict: "object", list: "list", bool: "boolean", type(None): "null", str: "text"}
    return names.get(type(value), "number")
