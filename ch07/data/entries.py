"""Instruction data on disk: a JSON or JSONL file becomes a list of checked entries, and back.

The one idea: every fault is collected with its row and reported together with the others. Knows
nothing of tokens or models.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ch07.data.entry_checks import Entry, check_row, is_row
from ch07.data.field_names import FIELDS
from ch07.data.json_reader import Finding, Level, check_error_count, parse_rows, read_utf8
from ch07.utils.atomic_files import write_bytes, write_jsonl
from ch07.utils.console import count
from ch07.utils.errors import DataError
from ch07.utils.validation import MAX_LISTED

RowCheck = Callable[[str, Any, list[Finding]], Entry | None]


@dataclass(frozen=True)
class DataFile:
    """A file that was read; row number i is `entries[i]`, found at `places[i]` in the file."""

    path: Path | str  # of the file, or the name of the dataset
    entries: Sequence[Entry]
    places: Sequence[str]  # "row 3" or "line 3"
    findings: list[Finding]
    sha256: str  # of the bytes, or the rows, that were read


def load_entries(path: Path | str, skip_bad_rows: bool = False) -> list[Entry]:
    """The file's entries: dicts with "instruction", "input" and "output"; other keys are kept.

    Faulty rows are a DataError that lists them, or with `skip_bad_rows` are left out; rows with an
    empty answer are always left out. Outer white space of fields is stripped.
    """
    return list(read_data(path, skip_bad_rows).entries)


def read_data(path: Path | str, skip_bad_rows: bool = False) -> DataFile:
    """`load_entries` with the place of each entry and the findings, as a `DataFile`."""
    path = Path(path)
    findings: list[Finding] = []
    text, sha256 = read_utf8(path)
    rows = parse_rows(text, path, findings, is_row)
    return check_rows(path, rows, sha256, findings, skip_bad_rows=skip_bad_rows)


def check_rows(
    path: Path | str,
    rows: Iterable[tuple[str, Any]],
    sha256: str,
    findings: list[Finding],
    *,
    skip_bad_rows: bool = False,
    check: RowCheck = check_row,
    fields: Sequence[str] = FIELDS,
) -> DataFile:
    """The `DataFile` of (place, row) pairs; new findings are appended to `findings`.

    `check` makes a row an entry, or None; a row with the same `fields` as an earlier one is noted.
    DataError as for `load_entries`, or if no row is left.
    """
    entries: list[Entry] = []
    places: list[str] = []
    first_place: dict[tuple[Any, ...], str] = {}
    n_refused = 0
    for place, row in rows:
        entry = check(place, row, findings)
        if entry is None:
            n_refused += 1
            check_error_count(path, n_refused, len(entries))
            continue
        key = tuple(entry[field] for field in fields)
        if first_place.setdefault(key, place) != place:
            text = f"the same as an earlier row; first as {first_place[key]}"
            findings.append(Finding(place, "note", text))
        entries.append(entry)
        places.append(place)
    errors = [finding for finding in findings if finding.level == "error"]
    if errors and not skip_bad_rows:
        raise_faulty_rows(path, len(errors), errors[:MAX_LISTED])
    if not entries:
        raise no_usable_row(path, summarize_findings(findings))
    return DataFile(path, entries, places, findings, sha256)


def write_entries(path: Path | str, entries: Iterable[Entry]) -> None:
    """Entries as a file that `load_entries` reads: JSONL if its name says so, else JSON."""
    path = Path(path)
    if path.suffix == ".jsonl":
        write_jsonl(path, entries, strict=False)
    else:
        text = json.dumps(list(entries), ensure_ascii=False, indent=2) + "\n"
        # a lone surrogate, in a key that isn't trained on, is written as the escape it came from
        write_bytes(path, text.encode(errors="backslashreplace"))


# --- findings, summarized -------------------------------------------------------------------------
def raise_faulty_rows(path: Path | str, n: int, errors: Sequence[Finding]) -> None:
    """DataError about `n` faulty rows, of which `errors` are the first few."""
    lines = "\n".join(f"  {error.place}: {error.text}" for error in errors)
    more = f"\n  ... and {n - len(errors)} more" if n > len(errors) else ""
    raise DataError(
        f"{path}: {count(n, 'faulty row')}; correct the file, or leave such rows out "
        f"with --skip-bad-rows\n{lines}{more}"
    )


def no_usable_row(path: Path | str, lines: Iterable[str]) -> DataError:
    """The DataError for a file without a usable row, with the reasons."""
    return DataError(f"{path}: no usable row" + "".join(f"\n  {line}" for line in lines))


def group_by_kind(findings: Iterable[Finding]) -> dict[tuple[Level, str], list[str]]:
    """{(level, text): places, in order}: findings that say the same, put together."""
    kinds: dict[tuple[Level, str], list[str]] = defaultdict(list)
    for finding in findings:
        kinds[finding.level, finding.text.split("; first as ")[0]].append(finding.place)
    return kinds


def lost_rows(findings: Iterable[Finding]) -> list[Finding]:
    """The findings because of which a row is left out; the others are notes."""
    return [finding for finding in findings if finding.level != "note"]


def summarize_findings(findings: Iterable[Finding]) -> list[str]:
    """A line for each kind of finding, with their number and the first places."""
    kinds = group_by_kind(findings).items()
    return [_kind_line(level, text, len(places), places) for (level, text), places in kinds]


def _kind_line(level: Level, text: str, n: int, places: Sequence[str]) -> str:
    """The line for one kind of finding, seen `n` times."""
    prefix = "" if level == "note" else "left out: "
    more = ", ..." if n > MAX_LISTED else ""
    return f"{prefix}{text} ({n}: {', '.join(places[:MAX_LISTED])}{more})"


@dataclass
class KindCount:
    """How often one kind of finding was seen, and the first few places."""

    n: int
    places: list[str]


class FindingCounts:
    """Findings of a file of any size: of each kind their number and the first few places."""

    def __init__(self) -> None:
        self.kinds: dict[tuple[Level, str], KindCount] = {}
        self.errors: list[Finding] = []  # the first few
        self.n_errors = 0

    def append(self, finding: Finding) -> None:
        """Count a finding; the counterpart of `list.append`."""
        kind = self.kinds.setdefault((finding.level, finding.text), KindCount(0, []))
        kind.n += 1
        if len(kind.places) < MAX_LISTED:
            kind.places.append(finding.place)
        if finding.level == "error":
            self.n_errors += 1
            if len(self.errors) < MAX_LISTED:
                self.errors.append(finding)

    def lines(self) -> list[str]:
        """A line for each kind, as `summarize_findings` writes it."""
        return [
            _kind_line(level, text, kind.n, kind.places)
            for (level, text), kind in self.kinds.items()
        ]
