"""One row -> an entry: its fields under our names, checked and stripped.

The one idea: nothing is changed, dropped or cut silently. Whatever was noticed about a row becomes
a `Finding` with its place. Knows nothing of files or tokens.
"""

from collections.abc import Mapping
from typing import Any

from ch07.data.field_names import COUNTS, FIELDS, KNOWN_KEYS, READ_NAMES, SPLIT_NAMES, SPLITS
from ch07.data.findings import Finding, FindingSink, RowFault
from ch07.data.json_objects import ObjectWithRepeatedKey, repeated_key_in
from ch07.data.row_forms import FileForm, recognise_row
from ch07.utils.validation import MAX_LISTED, a_type, has_lone_surrogate, quote
from instruction_dataset import Entry

PLACEHOLDERS = ("n/a", "<noinput>", "noinput")
MAX_FIELD_CHARACTERS = 100_000  # of one field: no model here could read more
ALPACA_FORM = FileForm()


def check_row(
    place: str, row: Any, findings: FindingSink, form: FileForm = ALPACA_FORM
) -> Entry | None:
    """The row as an entry with stripped fields, or None if it can't be used.

    What was noticed is appended to `findings`, at `place` ("row 3").
    """

    noted: set[str] = set()

    def note(text: str) -> None:
        if text not in noted:
            noted.add(text)
            findings.append(Finding(place, "note", text))

    try:
        if not isinstance(row, dict):
            raise RowFault(f"expected an object, found {a_type(row)}")
        if isinstance(row, ObjectWithRepeatedKey):
            raise RowFault(f"the key {quote(row.repeated_key)} appears twice")
        _check_repeated_keys(row)
        if float in map(type, row.values()):  # perhaps NaN, which a table has for nothing
            row = {key: None if value != value else value for key, value in row.items()}
        entry, keys = recognise_row(row, form, note)
        for name in (*FIELDS, "system", "family"):
            if name in entry:
                key = keys.get(name, name)
                entry[name] = stripped_text(entry[name], key, note)
        _check_values(entry, keys, note)
        if "history" in entry:
            in_one = keys.get("instruction") == keys.get("output")  # all turns under one key
            _check_history(entry, keys["instruction"] if in_one else "history", note)
    except RowFault as fault:
        findings.append(Finding(place, fault.level, str(fault), fault.kind))
        return None
    for text in _oddities(entry, keys):
        note(text)
    return entry


def _check_repeated_keys(row: Mapping[str, Any]) -> None:
    """RowFault for a part that is read, such as the messages, in which a key appears twice."""
    for key, value in row.items():
        if not isinstance(value, list | dict) or key.strip().casefold() not in READ_NAMES:
            continue
        repeated = repeated_key_in(value)
        if repeated is not None:
            raise RowFault(f"in {quote(key)}, the key {quote(repeated)} appears twice")


def stripped_text(value: Any, key: str, note: Any) -> str:
    """A field's text without outer white space; RowFault if it isn't usable text.

    `key` is what the reader's file calls the field.
    """
    if not isinstance(value, str):
        raise RowFault(f"{quote(key)} is {a_type(value)}, but must be text")
    if len(value) > MAX_FIELD_CHARACTERS:
        raise RowFault(f"{quote(key)} has more than {MAX_FIELD_CHARACTERS:,} characters")
    if has_lone_surrogate(value):
        raise RowFault(f"{quote(key)} contains half a character (a lone surrogate)")
    stripped = value.replace("\r\n", "\n").strip()
    if stripped != value:
        note(f"outer white space or CRLF of {quote(key)} removed")
    return stripped


def _check_values(entry: Entry, keys: Mapping[str, str], note: Any) -> None:
    """RowFault if the instruction or the output is empty, or the split unknown."""
    question, answer = quote(keys["instruction"]), quote(keys["output"])
    if question == answer:  # a conversation's key
        question, answer = f"the question in {question}", f"the answer in {answer}"
    if not entry["instruction"]:
        raise RowFault(f"{question} is empty")
    if not entry["output"]:
        raise RowFault(f"{answer} is empty", "dropped")
    if not entry.get("system", "system"):
        del entry["system"]
    if "split" not in entry:
        return
    split = entry["split"]
    name = SPLIT_NAMES.get(split.strip().casefold()) if isinstance(split, str) else None
    if name is None:
        known = ", ".join(SPLITS)
        raise RowFault(f"'split' is {quote(str(split))}; choose one of {known}")
    if name != split:
        note(f"'split' {quote(split)} read as {name!r}")
        entry["split"] = name


def _check_history(entry: Entry, key: str, note: Any) -> None:
    """Replace the turns before the last one by checked ones; RowFault for one that is faulty.

    `key` is where the reader's file has them.
    """
    turns: list[Entry] = []
    for i, turn in enumerate(entry["history"], start=1):
        try:
            turns.append(_checked_turn(turn, key, note))
        except RowFault as fault:  # without the number, rows with the same fault are told together
            raise RowFault(f"turn {i}: {fault}", fault.level, kind=f"a turn: {fault}") from None
    entry["history"] = turns
    _checked_counts(entry)


def _checked_turn(turn: Entry, key: str, note: Any) -> Entry:
    """An earlier turn with stripped fields; RowFault if it can't be used."""
    checked: Entry = {}
    for name in FIELDS:
        if name != "input" or turn.get("input"):
            checked[name] = stripped_text(turn[name], key, note)
    if not checked["instruction"]:
        raise RowFault(f"the question in {quote(key)} is empty")
    if not checked["output"]:
        raise RowFault(f"the answer in {quote(key)} is empty", "dropped")
    return checked | _checked_counts(turn)


def _checked_counts(turn: Entry) -> dict[str, bool]:
    """{"counts": False} for an answer that doesn't count; RowFault if that isn't true or false."""
    counts = turn.get(COUNTS, True)
    if not isinstance(counts, bool):
        raise RowFault(f"{COUNTS!r} is {a_type(counts)}, but must be true or false")
    return {} if counts else {COUNTS: False}


def _oddities(entry: Entry, keys: Mapping[str, str]) -> list[str]:
    """Notes on an entry that can be used, but may not be what its author meant."""
    known = (*KNOWN_KEYS, COUNTS) if "history" in entry else KNOWN_KEYS
    unknown = [key for key, value in entry.items() if key not in known and value is not None]
    notes = [f"the key {quote(str(key))} is not trained on" for key in unknown[:MAX_LISTED]]
    if len(unknown) > MAX_LISTED:
        notes.append(f"{len(unknown) - MAX_LISTED} more keys are not trained on")
    for key in unknown:
        repeated = repeated_key_in(entry[key])
        if repeated is not None:
            notes.append(f"in {quote(str(key))}, a key appears twice; its last value is kept")
    if entry["input"].casefold() in PLACEHOLDERS:
        name = quote(keys.get("input", "input"))
        notes.append(f"{name} is the placeholder {entry['input']!r}; leave it empty instead")
    return notes
