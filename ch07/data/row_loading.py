"""A file, a token store or plain text -> the `LoadedRows` of a run, checked and split.

The one idea: whatever the rows come from, they pass the same checks and end as the same dataclass.
Everything worth knowing about the data is logged on the way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import tiktoken

from ch07.config import ROW_LENGTHS, FinetuneOptions
from ch07.data import dataset_statistics
from ch07.data.chat_dataset import fit_conversations, make_dataset
from ch07.data.chat_forms import describe_conversations
from ch07.data.entries import DataFile, read_data
from ch07.data.entry_checks import Entry
from ch07.data.findings import Finding, summarize_findings
from ch07.data.loaded_rows import LoadedRows, SplitDataset, TokenizedRows
from ch07.data.pretraining_dataset import load_pretraining_data
from ch07.data.reference_formats.label_row_dataset import RowForm, make_label_dataset, row_form
from ch07.data.row_checks import BOUNDARY_MERGE, Found, check_splits
from ch07.data.splits import (
    describe_split_field,
    overlap,
    sample_rows,
    split_ignoring_prompts,
    split_rows,
)
from ch07.data.token_boundaries import boundary_merge_rows
from ch07.data.token_store import TokenStore
from ch07.data.token_store_dataset import (
    StoredDataset,
    data_file_of_store,
    describe_stored_splits,
    split_store,
)
from ch07.data.toy_instructions.build import DATA_FILE
from ch07.utils.console import count
from ch07.utils.errors import DataError, OptionError
from ch07.utils.run_log import RunLog
from instruction_dataset import PromptStyle, Tokenizer


def load_rows(
    options: FinetuneOptions,
    *,
    store: TokenStore | None,
    tokenizer: tiktoken.Encoding,
    style: PromptStyle,
    context_length: int,
    allowed_max_length: int | None,
    log: RunLog,
) -> LoadedRows:
    """The rows that the options ask for, from `store` if it is given.

    `context_length` is what the model reads of a row; `allowed_max_length`, no larger, is where
    rows are cut. DataError names rows that can't be used, or says that none is left to train on.
    """
    if options.text:
        assert allowed_max_length is not None, "plain text is cut into rows of that length"
        assert not isinstance(options.data, list), "a corpus is one file"
        rows = load_pretraining_data(options.data, allowed_max_length, log)
    elif store is not None and options.rows != "own":
        raise OptionError(
            f"{options.data} holds rows of this project's own: with --rows {options.rows}, use the "
            "file that they were made from"
        )
    elif store is not None:
        rows = _load_store(store, options, context_length, allowed_max_length, log)
    else:
        rows = _load_file(options, tokenizer, style, context_length, allowed_max_length, log)
    if len(rows.datasets["train"]) == 0:
        lines = "".join(f"\n  {line}" for line in summarize_findings(rows.findings))
        raise DataError(f"{rows.file.path}: no row is left to train on{lines}")
    if len(rows.datasets["test"]) == 0:
        log.note("data: no test rows, so nothing will be scored")
    if len(rows.datasets["validation"]) == 0:
        log.note("data: no validation rows, so there will be no validation loss")
    return rows


# --- a token store --------------------------------------------------------------------------------
def _load_store(
    store: TokenStore,
    options: FinetuneOptions,
    context_length: int,
    allowed_max_length: int | None,
    log: RunLog,
) -> LoadedRows:
    """The rows of a token store, which stay on disk."""
    for line in store.about["findings"]:
        log.finding(line)
    file = data_file_of_store(store)
    datasets, findings = check_splits(
        file,
        StoredDataset(store, options.loss_on),
        split_store(store, options.split, options.train_rows, options.seed),
        loss_on=options.loss_on,
        context_length=context_length,
        allowed_max_length=allowed_max_length,
        skip_bad_rows=options.skip_bad_rows,
    )
    for line in summarize_findings(findings):
        log.finding(line)
    for line in describe_stored_splits(store, datasets, options.split != "groups"):
        log.finding(line)
    return LoadedRows(
        file,
        datasets,
        findings,
        lengths=[],
        near_duplicates=None,
        conversations=store.conversations,
    )


# --- a file ---------------------------------------------------------------------------------------
def _load_file(
    options: FinetuneOptions,
    tokenizer: tiktoken.Encoding,
    style: PromptStyle,
    context_length: int,
    allowed_max_length: int | None,
    log: RunLog,
) -> LoadedRows:
    """The rows of a file or a dataset, all of them in memory."""
    file = read_data(options.data or DATA_FILE, options.skip_bad_rows)
    for line in summarize_findings(file.findings):
        log.finding(line)
    splits = _split_entries(file.entries, options, log)
    dataset: TokenizedRows
    if options.rows == "own":
        limit = min(allowed_max_length or context_length, context_length)
        file = _fit_conversations(file, tokenizer, style, limit, log)
        dataset = make_dataset(file.entries, tokenizer, style, options.loss_on)
        merges = boundary_merge_rows(file.entries, tokenizer, style)
        found: Found = dict.fromkeys(merges, ("note", BOUNDARY_MERGE))
    else:
        form = _row_form(options, context_length, log)
        dataset, found = make_label_dataset(file.entries, tokenizer, form, context_length)
    datasets, findings = check_splits(
        file,
        dataset,
        splits,
        # a row without a counted label is one of the other project's rows, too
        loss_on=options.loss_on if options.rows == "own" else "all",
        context_length=context_length,
        allowed_max_length=allowed_max_length,
        skip_bad_rows=options.skip_bad_rows,
        found=found,
    )
    for line in summarize_findings(findings):
        log.finding(line)
    if options.rows != "own":
        datasets = _splits_with_targets(file, datasets, log)
    lengths = list(zip(dataset.lengths, dataset.prompt_lengths, strict=True))
    rows = LoadedRows(
        file=file,
        datasets=datasets,
        findings=file.findings + findings,
        lengths=[lengths[row] for numbers in splits.values() for row in numbers],
        near_duplicates=dataset_statistics.near_duplicates_across_splits(file.entries, datasets),
        conversations=describe_conversations(dataset.data),
    )
    _log_resemblance(rows, log)
    return rows


def _splits_with_targets(
    file: DataFile, datasets: dict[str, SplitDataset], log: RunLog
) -> dict[str, SplitDataset]:
    """The splits; DataError if the loss counts no token of the training rows.

    Validation rows that all have none are left out, since they would have no loss.
    """
    empty = [name for name, split in datasets.items() if len(split) and not split.has_targets]
    if "train" in empty:
        raise DataError(
            f"{file.path}: nothing of the answers is left to learn in any training row: cut rows "
            "at more tokens, with another --allowed-max-length"
        )
    if "validation" not in empty:
        return datasets
    n_rows = count(len(datasets["validation"]), "validation row")
    log.finding(f"{n_rows} left out: nothing of the answers is left, so they have no loss")
    return {**datasets, "validation": SplitDataset(datasets["validation"].dataset, [])}


def _row_form(options: FinetuneOptions, context_length: int, log: RunLog) -> RowForm:
    """The form of another project's rows; a note says if they are shorter than that project's."""
    form = row_form(options, context_length)
    usual = ROW_LENGTHS.get(form.name, 0)
    if options.allowed_max_length is None and form.max_length < usual:
        log.note(
            f"rows: {form.name} cuts rows at {usual} tokens, this run at the model's context of "
            f"{form.max_length}"
        )
    return form


def _fit_conversations(
    file: DataFile, tokenizer: Tokenizer, style: PromptStyle, limit: int, log: RunLog
) -> DataFile:
    """The file with the oldest turns left out of conversations that exceed so many tokens."""
    findings: list[Finding] = []
    entries = fit_conversations(file.entries, file.places, tokenizer, style, limit, findings)
    if not findings:
        return file
    for line in summarize_findings(findings):
        log.finding(line)
    return replace(file, entries=entries, findings=file.findings + findings)


def _split_entries(
    entries: Sequence[Entry], options: FinetuneOptions, log: RunLog
) -> Mapping[str, Sequence[int]]:
    """Row numbers of each split, as the options ask for them."""
    ignore_prompts = options.split != "groups"
    n_with_split = sum("split" in entry for entry in entries)
    if n_with_split:
        log.note(f"data: {describe_split_field(n_with_split, len(entries), ignore_prompts)}")
    splits: dict[str, Sequence[int]]
    if ignore_prompts:
        splits = split_ignoring_prompts(options.split, len(entries), options.seed)
    else:
        splits = {**split_rows(entries, seed=options.seed)}
    if options.train_rows is not None:
        train = splits["train"]
        families = [entries[row].get("family") for row in train]
        sample = sample_rows(families, options.train_rows, options.seed)
        splits["train"] = [train[i] for i in sample]
        log.note(f"data: training on {len(sample):,} of {len(train):,} training rows")
    for name, n in overlap({k: [entries[i] for i in v] for k, v in splits.items()}).items():
        if n:
            log.finding(f"{n} of {len(splits[name])} {name} prompts are also in training")
    return splits


def _log_resemblance(rows: LoadedRows, log: RunLog) -> None:
    """Log how many held-out prompts resemble training prompts, and which answers conflict."""
    n_held_out = len(rows.datasets["test"]) + len(rows.datasets["validation"])
    if rows.near_duplicates is None:
        log.finding(
            f"more than {dataset_statistics.MAX_ROWS_COMPARED:,} rows, which are not searched for "
            "near-duplicate prompts"
        )
    elif rows.near_duplicates:
        n = len({held_out for held_out, _, _ in rows.near_duplicates})
        log.finding(f"{n} of {n_held_out} held-out prompts closely resemble a training prompt")
    n = len(dataset_statistics.conflicting_answers(rows.entries("train")))
    if n:
        log.finding(f"{count(n, 'training prompt')} asked more than once, with different answers")
