"""What was noticed about the rows of a file: collected by row, told by kind.

The one idea: a fault is reported with its place, and however many rows have it, it is one line.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from ch07.utils.console import count
from ch07.utils.errors import DataError, UserError
from ch07.utils.validation import MAX_LISTED

# If more rows than these, and more than half, are faulty, the file isn't instruction data.
MAX_FAULTY_ROWS = 100_000
MAX_KINDS_TOLD = 15  # of findings that are printed

Level = Literal["error", "dropped", "note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing noticed about one row: an "error", a "dropped" row or a mere "note"."""

    place: str  # "row 3", or "line 3" in JSONL
    level: Level
    text: str
    kind: str = ""  # what it has in common with others, if that isn't the whole text

    @property
    def group(self) -> tuple[Level, str]:
        """Equal for findings that are told together."""
        return self.level, self.kind or self.text


class RowFault(UserError, ValueError):
    """A row that can't be used: what is wrong with it, and whether it is an error or dropped."""

    def __init__(self, text: str, level: Level = "error", kind: str = "") -> None:
        super().__init__(text)
        self.level: Level = level
        self.kind = kind


class FindingSink(Protocol):
    """Whatever collects findings: a list, or `FindingCounts` where there may be millions."""

    def append(self, finding: Finding, /) -> None:
        """Take one more."""
        ...


@dataclass
class KindCount:
    """How often one kind of finding was seen, its first example and the first few places."""

    n: int
    first: Finding
    places: list[str]


class FindingCounts:
    """Findings of a file of any size: of each kind their number and the first few places."""

    def __init__(self, findings: Iterable[Finding] = ()) -> None:
        self.kinds: dict[tuple[Level, str], KindCount] = {}
        self.n_errors = 0
        for finding in findings:
            self.append(finding)

    def append(self, finding: Finding) -> None:
        """Count a finding; the counterpart of `list.append`."""
        kind = self.kinds.setdefault(finding.group, KindCount(0, finding, []))
        kind.n += 1
        if len(kind.places) < MAX_LISTED:
            kind.places.append(finding.place)
        if finding.level == "error":
            self.n_errors += 1

    def lines(self) -> list[str]:
        """A line for each kind, as `summarize_findings` writes it: first what was left out."""
        in_order = sorted(self.kinds.items(), key=lambda item: item[0][0] == "note")
        lines = [_kind_line(level, text, kind.n, kind.places) for (level, text), kind in in_order]
        if len(lines) <= MAX_KINDS_TOLD:
            return lines
        left = count(len(lines) - MAX_KINDS_TOLD, "more kind")
        return [*lines[:MAX_KINDS_TOLD], f"{left} of findings are not listed"]


def group_by_kind(findings: Iterable[Finding]) -> dict[tuple[Level, str], list[str]]:
    """{(level, text): places, in order}: findings that say the same, put together."""
    kinds: dict[tuple[Level, str], list[str]] = defaultdict(list)
    for finding in findings:
        kinds[finding.group].append(finding.place)
    return kinds


def lost_rows(findings: Iterable[Finding]) -> list[Finding]:
    """The findings because of which a row is left out; the others are notes."""
    return [finding for finding in findings if finding.level != "note"]


def summarize_findings(findings: Iterable[Finding]) -> list[str]:
    """A line for each kind of finding, with their number and the first places."""
    return FindingCounts(findings).lines()


def _kind_line(level: Level, text: str, n: int, places: Sequence[str]) -> str:
    """The line for one kind of finding, seen `n` times."""
    prefix = "" if level == "note" else "left out: "
    return f"{prefix}{text} ({n:,}: {_listed(places, n)})"


def _listed(places: Sequence[str], n: int) -> str:
    """The first places, and whether there are more."""
    return ", ".join(places[:MAX_LISTED]) + (", ..." if n > MAX_LISTED else "")


# --- errors ---------------------------------------------------------------------------------------
def raise_faulty_rows(path: object, findings: FindingCounts) -> None:
    """DataError about the faulty rows: of each kind of fault, the first row and more places."""
    faults = [kind for (level, _), kind in findings.kinds.items() if level == "error"]
    faults.sort(key=lambda kind: _in_order(kind.first.place))
    lines = "".join(f"\n  {_fault_line(kind)}" for kind in faults[:MAX_LISTED])
    n_left = sum(kind.n for kind in faults[MAX_LISTED:])
    more = f"\n  ... and {count(n_left, 'more row')} with other faults" if n_left else ""
    raise DataError(
        f"{path}: {count(findings.n_errors, 'faulty row')}; correct the file, or leave such rows "
        f"out with --skip-bad-rows{lines}{more}"
    )


def _in_order(place: str) -> list[tuple[int, str]]:
    """A key that sorts places as they stand in the file: "line 9" before "line 10"."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", place)]


def _fault_line(kind: KindCount) -> str:
    line = f"{kind.first.place}: {kind.first.text}"
    if kind.n == 1:
        return line
    return f"{line} (and {kind.n - 1:,} more: {_listed(kind.places[1:], kind.n - 1)})"


def no_usable_row(path: object, lines: Iterable[str]) -> DataError:
    """The DataError for a file without a usable row, with the reasons."""
    return DataError(f"{path}: no usable row" + "".join(f"\n  {line}" for line in lines))


def check_error_count(path: object, n_bad: int, n_good: int) -> None:
    """DataError if so many rows are faulty that a list of them would help nobody."""
    if n_bad > max(MAX_FAULTY_ROWS, n_good):
        raise DataError(f"{path}: {n_bad:,} of its first {n_bad + n_good:,} rows can't be used")
