"""The entries of each split on their way to a dataset: each is looked at, and named if it fails.

The one idea: a row that can't be learned from is refused, or left out and counted, before the
first step. All such rows come in one report, each once, with its place in the reader's file.
"""

from dataclasses import dataclass

from ch07.data.entries import DataError, count, group_by_kind
from ch07.data.json_reader import Finding
from ch07.data.token_boundaries import boundary_merge_rows
from ch07.data.tokenizer import load_tokenizer
from ch07.utils.validation import MAX_LISTED
from instruction_dataset import InstructionDataset

SEAM = "prompt and answer would merge into other tokens if tokenized at once; their ids are joined"


def checked_datasets(file, splits, style, options, context_length, limit):
    """({split: `InstructionDataset`}, findings, lengths) of the rows of a `DataFile`.

    Rows that can't be used are a DataError that names them, or left out with
    `options.skip_bad_rows`. Lengths are (tokens, those of the prompt) of all rows, used or not.
    """
    places = {id(e): (i, p) for i, (e, p) in enumerate(zip(file.entries, file.places, strict=True))}
    datasets, seen, unusable, lengths = {}, [], {}, []
    for name, entries in splits.items():
        dataset = _dataset(entries, style, options)
        n_tokens = dataset.lengths
        merged = boundary_merge_rows(dataset.data, load_tokenizer(), style)
        for i, level, what in check_token_rows(
            dataset, options.loss_on, context_length, limit, merged
        ):
            number, place = places[id(dataset.data[i])]
            seen.append((number, Finding(f"{place} of {n_tokens[i]} tokens", level, what)))
            if level == "error":
                unusable[id(dataset.data[i])] = True
        datasets[name] = dataset
        lengths += zip(dataset.lengths, dataset.prompt_lengths, strict=True)
    findings = [finding for _, finding in sorted(seen, key=lambda pair: pair[0])]
    if unusable and not options.skip_bad_rows:
        raise_if_unusable(file.path, [finding for finding in findings if finding.level == "error"])
    for name, dataset in datasets.items():
        kept = [entry for entry in dataset.data if id(entry) not in unusable]
        if len(kept) < len(dataset):
            datasets[name] = _dataset(kept, style, options)
    return datasets, findings, lengths


def _dataset(entries, style, options):
    return InstructionDataset(entries, load_tokenizer(), style, options.loss_on == "response")


def check_token_rows(dataset, loss_on, context_length, limit, merged=()):
    """(row, level, what) for each thing seen; a row that can't be used has one reason alone.

    `merged` are the rows whose prompt and answer would merge (`boundary_merge_rows`).
    """
    report = check_lengths(dataset, context_length, limit)
    reasons = [
        (report.unreadable, f"the prompt alone is more than the model's context, {context_length}"),
        (report.too_long, f"more tokens than the model's context of {context_length}"),
    ]
    if loss_on == "response":
        lost = f"the whole answer is cut off at {report.limit} tokens"
        reasons.append((report.answerless, lost))
    unusable = {}
    for rows, reason in reasons:
        for i in rows:
            unusable.setdefault(i, reason)
    for i, reason in unusable.items():
        yield i, "error", reason
    for i in report.cut:
        if i not in unusable:
            yield i, "note", f"cut at {report.limit} tokens, end-of-text lost"
    for i in merged:
        if i not in unusable:
            yield i, "note", SEAM


def raise_if_unusable(path, errors):
    """DataError about rows of a `DataFile` or store that can't be learned from."""
    lines = "".join(
        f"\n  {what}: {', '.join(places[:MAX_LISTED])}" + ", ..." * (len(places) > MAX_LISTED)
        for (_, what), places in group_by_kind(errors).items()
    )
    raise DataError(
        f"{path}: {count(len(errors), 'row')} can't be learned from; shorten them, choose another "
        f"--allowed-max-length, or leave them out with --skip-bad-rows{lines}"
    )


@dataclass(frozen=True)
class LengthReport:
    """What a limit does to the rows of a dataset: lists of row numbers."""

    limit: int  # tokens that a row may have: allowed_max_length, or the model's context
    too_long: list  # more than the context, with no allowed_max_length that says to cut them
    cut: list  # lose their end-of-text, and perhaps more
    answerless: list  # lose their whole answer: nothing is left to learn from it
    unreadable: list  # the prompt alone is more than the context: it can't be answered


def check_lengths(dataset, context_length, allowed_max_length=None):
    """Look at every row before training starts, where a surprise is cheap: a `LengthReport`.

    ValueError if `allowed_max_length` is below 1; one beyond the context is the context.
    """
    check_length_limit(allowed_max_length)
    limit = min(allowed_max_length or context_length, context_length)
    beyond = [i for i, n in enumerate(dataset.lengths) if n > limit]
    return LengthReport(
        limit=limit,
        too_long=beyond if allowed_max_length is None else [],
        cut=[] if allowed_max_length is None else beyond,
        answerless=[i for i in beyond if dataset.prompt_lengths[i] > limit],
        unreadable=[i for i in beyond if dataset.prompt_lengths[i] > context_length],
    )


def check_length_limit(allowed_max_length):
    """ValueError for a limit of less than one token; None is no limit."""
    if allowed_max_length is not None and allowed_max_length < 1:
        raise ValueError(f"allowed_max_length is {allowed_max_length}, but a row needs 1 token")
