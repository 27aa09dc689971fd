"""Instruction data: whatever holds it becomes a list of checked entries, and back.

The one idea: every fault is collected with its row and reported together with the others. Knows
nothing of tokens or models.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ch07.data.data_files import Source, source_name, source_rows
from ch07.data.entry_checks import Entry, check_row
from ch07.data.field_names import FIELDS
from ch07.data.findings import (
    Finding,
    FindingCounts,
    FindingSink,
    check_error_count,
    no_usable_row,
    raise_faulty_rows,
    summarize_findings,
)
from ch07.data.row_forms import FileForm
from ch07.utils.atomic_files import write_bytes, write_jsonl

RowCheck = Callable[[str, Any, FindingSink, FileForm], Entry | None]


@dataclass(frozen=True)
class DataFile:
    """A file that was read; row number i is `entries[i]`, found at `places[i]` in the file."""

    path: Path | str  # of the file, or the name of the dataset
    entries: Sequence[Entry]
    places: Sequence[str]  # "row 3" or "line 3"
    findings: list[Finding]
    sha256: str  # of the bytes, or the rows, that were read


def load_entries(source: Source, skip_bad_rows: bool = False) -> list[Entry]:
    """The entries of a file, or of several: dicts with "instruction", "input" and "output".

    Other keys are kept. Faulty rows are a DataError that lists them, or with `skip_bad_rows` are
    left out; rows with an empty answer are always left out. Outer white space of fields is
    stripped.
    """
    return list(read_data(source, skip_bad_rows).entries)


def read_data(
    source: Source,
    skip_bad_rows: bool = False,
    *,
    check: RowCheck = check_row,
    fields: Sequence[str] = FIELDS,
) -> DataFile:
    """`load_entries` with the place of each entry and the findings, as a `DataFile`.

    `source` is a path, "-" for standard input, "hf:NAME[:SPLIT]", "toy:NAME" (bundled), a folder,
    a pattern such as "data/*.jsonl", or several of these. `check` makes a row an entry, or None; a
    row with the same `fields` as an earlier one is noted.
    """
    findings: list[Finding] = []
    digest = hashlib.sha256()
    name = source_name(source)
    entries: list[Entry] = []
    places: list[str] = []
    first_place: dict[tuple[Any, ...], str] = {}
    n_refused = 0
    rows = source_rows(source, findings, in_memory=True, digest=digest)
    for form, place, row in rows:
        entry = check(place, row, findings, form)
        if entry is None:
            n_refused += 1
            check_error_count(name, n_refused, len(entries))
            continue
        key = entry_key(entry, fields)
        if first_place.setdefault(key, place) != place:
            text = "the same as an earlier row"
            first = f"{text}; first as {first_place[key]}"
            findings.append(Finding(place, "note", first, kind=text))
        entries.append(entry)
        places.append(place)
    counts = FindingCounts(findings)
    if counts.n_errors and not skip_bad_rows:
        raise_faulty_rows(name, counts)
    if not entries:
        raise no_usable_row(name, summarize_findings(findings))
    path = source if isinstance(source, Path) else name
    return DataFile(path, entries, places, findings, digest.hexdigest())


def entry_key(entry: Entry, fields: Sequence[str] = FIELDS) -> tuple[Any, ...]:
    """Equal for entries that say the same, with the same system prompt and turns before."""
    turns = [(turn["instruction"], turn["output"]) for turn in entry.get("history", ())]
    return (*(entry[field] for field in fields), entry.get("system"), *turns)


def write_new_entries(path: Path | str, entries: Iterable[Entry]) -> None:
    """Entries as a new file that `load_entries` reads: JSONL if its name says so, else JSON."""
    path = Path(path)
    if path.suffix == ".jsonl":
        write_jsonl(path, entries, strict=False, new=True)
    else:
        text = json.dumps(list(entries), ensure_ascii=False, indent=2, default=str) + "\n"
        # a lone surrogate, in a key that isn't trained on, is written as the escape it came from
        write_bytes(path, text.encode(errors="backslashreplace"), new=True)
