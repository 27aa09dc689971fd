"""Checks of tokenized rows: which rows a model can't learn from, and what a length limit costs.

The one idea: a row that can't be learned from is refused, or left out and counted, before the
first step. All such rows come in one report, each once, with its place in the reader's file.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ch07.data.entries import DataFile
from ch07.data.findings import Finding, Level, group_by_kind
from ch07.data.loaded_rows import SplitDataset, TokenizedRows
from ch07.utils.console import count
from ch07.utils.errors import DataError, InputError
from ch07.utils.validation import MAX_LISTED

NOTHING_COUNTED = "no answer counts: each has the weight 0, or was cut off"
BOUNDARY_MERGE = (
    "tokenizing prompt and answer together would merge tokens; they are tokenized apart"
)

Found = Mapping[int, tuple[Level, str]]  # by row number


@dataclass(frozen=True)
class LengthReport:
    """What a limit does to the rows of a dataset: lists of row numbers."""

    max_length: int  # tokens a row may have: allowed_max_length, or else the model's context
    too_long: list[int]  # more than the context, with no allowed_max_length to cut them at
    cut: list[int]  # lose their end-of-text, and perhaps more
    answerless: list[int]  # lose their whole answer, so nothing is left to learn from
    unreadable: list[int]  # the prompt alone exceeds the context, so it can't be answered


def check_lengths(
    dataset: TokenizedRows, context_length: int, allowed_max_length: int | None = None
) -> LengthReport:
    """The `LengthReport` of a dataset, before training starts.

    ValueError if `allowed_max_length` is below 1; one beyond the context counts as the context.
    """
    check_allowed_max_length(allowed_max_length)
    max_length = min(allowed_max_length or context_length, context_length)
    beyond = [i for i, n in enumerate(dataset.lengths) if n > max_length]
    prompt_lengths = dataset.prompt_lengths
    return LengthReport(
        max_length=max_length,
        too_long=beyond if allowed_max_length is None else [],
        cut=[] if allowed_max_length is None else beyond,
        answerless=[i for i in beyond if prompt_lengths[i] > max_length],
        unreadable=[i for i in beyond if prompt_lengths[i] > context_length],
    )


def check_allowed_max_length(allowed_max_length: int | None) -> None:
    """ValueError for a limit of less than one token; None is no limit."""
    if allowed_max_length is not None and allowed_max_length < 1:
        raise InputError(f"allowed_max_length is {allowed_max_length}, but must be 1 or more")


def check_splits(
    file: DataFile,
    dataset: TokenizedRows,
    splits: Mapping[str, Sequence[int]],
    *,
    loss_on: str,
    context_length: int,
    allowed_max_length: int | None,
    skip_bad_rows: bool,
    found: Found = {},  # noqa: B006  (never changed)
) -> tuple[dict[str, SplitDataset], list[Finding]]:
    """({split: its usable rows}, what was found, in the file's order).

    `dataset` holds all rows of the file, `splits` their numbers, and `found` what is known of some
    of them already. Rows that can't be learned from are a DataError that names them, or with
    `skip_bad_rows` are left out.
    """
    datasets = {}
    numbered_findings: list[tuple[int, Finding]] = []
    for name, rows in splits.items():
        split = SplitDataset(dataset, rows)
        unusable = set()
        known = {i: found[row] for i, row in enumerate(rows) if row in found}
        for i, level, text in _token_findings(
            split, loss_on, context_length, allowed_max_length, known
        ):
            place = f"{file.places[rows[i]]} of {split.lengths[i]} tokens"
            numbered_findings.append((rows[i], Finding(place, level, text)))
            if level != "note":
                unusable.add(i)
        if unusable:
            split = SplitDataset(dataset, [row for i, row in enumerate(rows) if i not in unusable])
        datasets[name] = split
    numbered_findings.sort(key=lambda pair: pair[0])  # stable: a row's findings keep their order
    findings = [finding for _, finding in numbered_findings]
    errors = [finding for finding in findings if finding.level == "error"]
    if errors and not skip_bad_rows:
        raise _unusable_rows_error(file, errors)
    return datasets, findings


def _token_findings(
    dataset: SplitDataset,
    loss_on: str,
    context_length: int,
    allowed_max_length: int | None,
    known: Found,
) -> Iterator[tuple[int, Level, str]]:
    """(row, level, text) for each finding; a row that can't be used has one reason alone."""
    report = check_lengths(dataset, context_length, allowed_max_length)
    reasons = [
        (report.unreadable, f"the prompt alone exceeds the model's context of {context_length}"),
        (report.too_long, f"more tokens than the model's context of {context_length}"),
    ]
    if loss_on != "all":
        lost = f"the whole answer is cut off at {report.max_length} tokens"
        reasons.append((report.answerless, lost))
    unusable = {i: finding for i, finding in known.items() if finding[0] != "note"}
    for rows, reason in reasons:
        for i in rows:
            unusable.setdefault(i, ("error", reason))
    if loss_on != "all":
        for i in np.flatnonzero(dataset.masked_lengths > dataset.lengths).tolist():
            unusable.setdefault(i, ("dropped", NOTHING_COUNTED))
    for i, (level, text) in unusable.items():
        yield i, level, text
    for i in report.cut:
        if i not in unusable:
            yield i, "note", f"cut at {report.max_length} tokens, end-of-text lost"
    for i, (_, text) in known.items():
        if i not in unusable:
            yield i, "note", text


def _unusable_rows_error(file: DataFile, errors: Sequence[Finding]) -> DataError:
    text = (
        f"{file.path}: {count(len(errors), 'row')} can't be learned from; correct or shorten them, "
        "choose another limit, or leave them out with --skip-bad-rows"
    )
    for (_, reason), places in group_by_kind(errors).items():
        more = ", ..." if len(places) > MAX_LISTED else ""
        text += f"\n  {reason}: {', '.join(places[:MAX_LISTED])}{more}"
    return DataError(text)
