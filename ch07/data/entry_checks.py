"""One row -> an entry: its fields under our names, checked and stripped.

The one idea: nothing is changed, dropped or cut silently. Whatever was noticed about a row becomes
a `Finding` with its place. Knows nothing of files or tokens.
"""

from collections.abc import Callable, Mapping
from typing import Any

from ch07.data.field_names import CHAT_KEYS, FIELD_ALIASES, FIELDS, INPUT_ALIAS, KNOWN_KEYS, SPLITS
from ch07.data.json_reader import DUPLICATE_KEY, Finding, FindingSink, Level
from ch07.utils.validation import MAX_LISTED, has_lone_surrogate, quote, type_name
from instruction_dataset import Entry

PLACEHOLDERS = ("n/a", "<noinput>", "noinput")
MAX_FIELD_CHARACTERS = 100_000  # of one field: no model here could read more


Report = Callable[[Level, str], None]


def is_row(value: Mapping[str, Any]) -> bool:
    """Whether a single object is itself a row, perhaps a faulty one, not a container of rows."""
    known = (("instruction",), *FIELD_ALIASES, *((key,) for key in CHAT_KEYS))
    return any(all(key in value for key in keys) for keys in known)


def check_row(place: str, row: Any, findings: FindingSink) -> Entry | None:
    """The row as an entry with stripped fields, or None if it can't be used.

    What was noticed is appended to `findings`, at `place` ("row 3").
    """

    def report(level: Level, text: str) -> None:
        findings.append(Finding(place, level, text))

    if not isinstance(row, dict):
        report("error", f"expected an object, found a {type_name(row)}")
        return None
    if DUPLICATE_KEY in row:
        report("error", f"the key {quote(row[DUPLICATE_KEY])} appears twice")
        return None
    entry = _rename_fields(row, report)
    if entry is None or not _strip_fields(entry, report) or not _check_values(entry, report):
        return None
    _report_oddities(entry, report)
    return entry


def _rename_fields(row: Entry, report: Report) -> Entry | None:
    """A copy of the row with "instruction", "input" and "output", or None where it lacks them."""
    entry = dict(row)
    if not ("instruction" in row and "output" in row):
        names = next((keys for keys in FIELD_ALIASES if all(key in row for key in keys)), None)
        if names is None:
            report("error", _missing_fields(row))
            return None
        both = [key for key in ("instruction", "output") if key in row and key not in names]
        if both:
            report("error", f"{both[0]!r} is given as well as {names[0]!r} and {names[1]!r}")
            return None
        entry["instruction"] = entry.pop(names[0])
        entry["output"] = entry.pop(names[1])
        report("note", f"{names[0]}/{names[1]} read as instruction/output")
    if "input" not in entry and isinstance(entry.get(INPUT_ALIAS), str):
        entry["input"] = entry.pop(INPUT_ALIAS)
        report("note", f"{INPUT_ALIAS!r} read as 'input'")
    if entry.get("input") is None:
        entry["input"] = ""
    return entry


def _missing_fields(row: Entry) -> str:
    """Which fields a row lacks, what it has instead, and a hint where the reason is known."""
    keys = ", ".join(map(quote, list(row)[:MAX_LISTED])) or "none"
    missing = [repr(key) for key in ("instruction", "output") if key not in row]
    verb = "are" if len(missing) > 1 else "is"
    text = f"{' and '.join(missing)} {verb} missing; keys found: {keys}"
    if "input" in row and "output" in row:
        return text + "; if 'input' is the question: python -m ch07 prepare-data FILE OUT"
    if "text" in row:
        return text + "; 'text' alone is for pretraining: each row here needs a question and answer"
    chat = next((key for key in CHAT_KEYS if key in row), None)
    if chat is not None:
        return text + f"; {chat!r} looks like a chat: turn it into one instruction and one output"
    return text


def _strip_fields(entry: Entry, report: Report) -> bool:
    """Strip the text fields in place; False if one of them is not usable text."""
    for key in (*FIELDS, "family") if "family" in entry else FIELDS:
        text = entry[key]
        if not isinstance(text, str):
            report("error", f"{key!r} is a {type_name(text)}, but must be text")
            return False
        if len(text) > MAX_FIELD_CHARACTERS:
            report("error", f"{key!r} has more than {MAX_FIELD_CHARACTERS:,} characters")
            return False
        if has_lone_surrogate(text):
            report("error", f"{key!r} contains half a character (a lone surrogate)")
            return False
        stripped = text.replace("\r\n", "\n").strip()
        if stripped != text:
            report("note", f"outer white space or CRLF of {key!r} removed")
        entry[key] = stripped
    return True


def _check_values(entry: Entry, report: Report) -> bool:
    """Whether an entry's instruction and output are not empty, and its split exists."""
    if not entry["instruction"]:
        report("error", "'instruction' is empty")
        return False
    if not entry["output"]:
        report("dropped", "'output' is empty")
        return False
    if entry.get("split", "train") not in SPLITS:
        split = quote(str(entry["split"]))
        report("error", f"'split' is {split}; choose one of {', '.join(SPLITS)}")
        return False
    return True


def _report_oddities(entry: Entry, report: Report) -> None:
    """Notes on an entry that can be used, but may not be what its author meant."""
    unknown = [key for key in entry if key not in KNOWN_KEYS]
    for key in unknown[:MAX_LISTED]:
        report("note", f"the key {quote(key)} is not trained on")
    if len(unknown) > MAX_LISTED:
        report("note", f"{len(unknown) - MAX_LISTED} more keys are not trained on")
    if entry["input"].casefold() in PLACEHOLDERS:
        report("note", f"'input' is the placeholder {entry['input']!r}; leave it empty instead")
