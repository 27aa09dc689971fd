"""`python -m ch07 curate FILE NEW --keep K`: choose a few rows, and say why others are left out.

Rows with a defect that a rule can see are dropped first
(`ch07.systems.data_curation.quality_flags`); of the rest, K rows are chosen: diverse ones, the
longest, or random ones. Held-out rows take no part: rows whose own "split" is "test" or
"validation" are written unchanged.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ch07.data.entries import read_data, write_new_entries
from ch07.data.findings import summarize_findings
from ch07.systems.data_curation.lima_filters import (
    LIMA_LENGTHS,
    LIMA_PATTERNS,
    filter_reasons,
    strip_links,
)
from ch07.systems.data_curation.quality_flags import FLAGS, quality_flags
from ch07.systems.data_curation.row_selection import (
    drop_near_duplicates,
    select_diverse,
    select_longest,
    select_random,
)
from ch07.utils.console import json_text, shell_path, terminal_line, terminal_safe
from ch07.utils.errors import InputError, OptionError
from ch07.utils.paths import check_new_file
from instruction_dataset import Entry

LIMA = {  # its filters, as the report describes them
    "short": "the answer is shorter than LIMA's 1,200 characters",
    "long": "the answer is longer than LIMA's 4,096 characters",
    "first person": "the answer is written in the first person",
    "other answers": "the answer refers to other answers",
}


def curate(
    path: str,
    target: str,
    *,
    keep: int,
    how: str = "diverse",
    per_group: int | None = None,
    lima: bool = False,
    distinct: str | None = None,
    seed: int = 123,
    skip_bad_rows: bool = False,
    as_json: bool = False,
) -> int:
    """Write the chosen rows to a new file, and print why the others were left out; returns 0."""
    if per_group is not None and how != "diverse":
        raise OptionError(f"--per-group is for --how diverse, not {how}")
    check_new_file(target, "NEW")
    file = read_data(path, skip_bad_rows)
    for line in summarize_findings(file.findings):
        print(terminal_safe(f"data: {line}"), file=sys.stderr)
    held_out = [entry for entry in file.entries if entry.get("split", "train") != "train"]
    rows = [entry for entry in file.entries if entry.get("split", "train") == "train"]
    candidates, left_out = _filter_rows(rows, lima, distinct)
    try:
        chosen = _select_rows(candidates, keep, how, per_group=per_group, seed=seed)
    except InputError as error:
        before = ", ".join(f"{reason} {n:,}" for reason, n in left_out.items() if n) or "none"
        raise InputError(f"{path}: {error}. Already left out: {before}") from None
    left_out["not chosen"] = len(candidates) - len(chosen)
    write_new_entries(target, chosen + held_out)
    result = {
        "file": str(target),
        "rows": len(rows),
        "chosen": len(chosen),
        "held_out": len(held_out),
        "left_out": {reason: n for reason, n in left_out.items() if n},
        "families": dict(Counter(row["family"] for row in chosen if "family" in row)),
    }
    print(json_text(result) if as_json else terminal_safe(_report(result, how)))
    return 0


def _filter_rows(
    rows: Sequence[Entry], lima: bool, distinct: str | None
) -> tuple[list[Entry], Counter[str]]:
    """(the rows that may be chosen, how many rows each rule has left out)."""
    candidates = []
    left_out: Counter[str] = Counter()
    for row in rows:
        if lima:
            row = {**row, "output": strip_links(row["output"]).strip()}
        reasons = quality_flags(row)
        if lima:
            reasons += filter_reasons(row, *LIMA_LENGTHS, LIMA_PATTERNS)
        left_out.update(reasons)
        if not reasons:
            candidates.append(row)
    if distinct:
        n_before = len(candidates)
        candidates = drop_near_duplicates(candidates, distinct)
        left_out["near duplicates"] = n_before - len(candidates)
    return candidates, left_out


def _select_rows(
    rows: Sequence[Entry], keep: int, how: str, *, per_group: int | None, seed: int
) -> list[Entry]:
    """The chosen rows: random ones, the longest, or diverse ones."""
    if how == "random":
        return select_random(rows, keep, seed)
    if how == "longest":
        return select_longest(rows, keep)
    group_key = "family" if any("family" in row for row in rows) else None
    return select_diverse(rows, keep, group_key, per_group, seed=seed)


def _report(result: dict[str, Any], how: str) -> str:
    sentences = {**FLAGS, **LIMA}
    lines = [f"{result['chosen']:,} of {result['rows']:,} rows chosen ({how})"]
    if result["held_out"]:
        lines[0] += f", {result['held_out']:,} held-out rows kept as they are"
    if result["left_out"]:
        lines.append("left out (a row may have several reasons):")
    for reason, n in result["left_out"].items():
        description = f": {sentences[reason]}" if reason in sentences else ""
        lines.append(terminal_line(f"  {n:>7,}  {reason}{description}", width=None))
    if result["families"]:
        sizes = result["families"].values()
        lines.append(f"families: {len(sizes)}, with {min(sizes):,} to {max(sizes):,} rows each")
    place = terminal_line(result["file"], width=None)
    lines.append(f"They are in {place}: train on them with")
    lines.append(f"  python -m ch07 finetune --data {shell_path(result['file'])}")
    return "\n".join(lines)
