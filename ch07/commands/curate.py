"""`python -m ch07 curate FILE NEW --keep K`: choose a few rows, and say why others are left out.

Rows with a defect that a rule can see are dropped first
(`ch07.systems.data_curation.quality_flags`); of the rest, K rows are chosen: diverse ones, the
longest, or random ones. Held-out rows take no part: rows whose own "split" is "test" or
"validation" are written unchanged.
"""

import sys
from collections import Counter

from ch07.data.entries import read_data, summarize_findings, write_entries
from ch07.systems.data_curation.quality_flags import FLAGS, quality_flags
from ch07.systems.data_curation.row_selection import (
    LIMA_LENGTHS,
    LIMA_PATTERNS,
    filter_reasons,
    select_diverse,
    select_longest,
    select_random,
    strip_links,
    without_near_duplicates,
)
from ch07.utils.console import json_text, terminal_safe
from ch07.utils.errors import InputError, OptionError
from ch07.utils.paths import check_new_file

LIMA = {  # its filters, as the report describes them
    "short": "the answer is shorter than LIMA's 1,200 characters",
    "long": "the answer is longer than LIMA's 4,096 characters",
    "first person": "the answer is written in the first person",
    "other answers": "the answer refers to other answers",
}


def curate(
    path, target, keep, how="diverse", per_group=None, lima=False, distinct=None, seed=123,
    skip_bad_rows=False, as_json=False,
):  # fmt: skip
    """Write the chosen rows to a new file, and print why the others were left out; returns 0."""
    if per_group is not None and how != "diverse":
        raise OptionError(f"--per-group is for --how diverse, not {how}")
    check_new_file(target, "NEW")
    file = read_data(path, skip_bad_rows)
    for line in summarize_findings(file.findings):
        print(terminal_safe(f"data: {line}"), file=sys.stderr)
    held_out = [entry for entry in file.entries if entry.get("split", "train") != "train"]
    rows = [entry for entry in file.entries if entry.get("split", "train") == "train"]
    left_out, good = Counter(), []
    for row in rows:
        row = {**row, "output": strip_links(row["output"]).strip()} if lima else row
        reasons = quality_flags(row)
        reasons += filter_reasons(row, *LIMA_LENGTHS, LIMA_PATTERNS) if lima else []
        left_out.update(reasons)
        good += [] if reasons else [row]
    different = without_near_duplicates(good, distinct) if distinct else good
    left_out["near duplicates"] = len(good) - len(different)
    try:
        chosen = _chosen(different, keep, how, per_group, seed)
    except ValueError as error:
        before = ", ".join(f"{reason} {n:,}" for reason, n in left_out.items() if n) or "none"
        raise InputError(f"{path}: {error}. Already left out: {before}") from None
    left_out["not chosen"] = len(different) - len(chosen)
    write_entries(target, chosen + held_out)
    result = {
        "file": str(target), "rows": len(rows), "chosen": len(chosen), "held_out": len(held_out),
        "left_out": {reason: n for reason, n in left_out.items() if n},
        "families": dict(Counter(row["family"] for row in chosen if "family" in row)),
    }  # fmt: skip
    print(json_text(result) if as_json else terminal_safe(_page(result, how)))
    return 0


def _chosen(rows, keep, how, per_group, seed):
    if how == "random":
        return select_random(rows, keep, seed)
    if how == "longest":
        return select_longest(rows, keep)
    group_key = "family" if any("family" in row for row in rows) else None
    return select_diverse(rows, keep, group_key, per_group, seed=seed)


def _page(result, how):
    sentences = {**FLAGS, **LIMA}
    lines = [f"{result['chosen']:,} of {result['rows']:,} rows chosen ({how})"]
    if result["held_out"]:
        lines[0] += f", {result['held_out']:,} held-out rows kept as they are"
    lines += ["left out (a row may have several reasons):"] * bool(result["left_out"])
    for reason, n in result["left_out"].items():
        about = f": {sentences[reason]}" if reason in sentences else ""
        lines.append(f"  {n:>7,}  {reason}{about}")
    if result["families"]:
        sizes = result["families"].values()
        lines.append(f"families: {len(sizes)}, with {min(sizes):,} to {max(sizes):,} rows each")
    lines += [f"They are in {result['file']}: train on them with"]
    return "\n".join([*lines, f"  python -m ch07 finetune --data {result['file']}"])
