"""A token store -> the rows of each split, checked as those of a file are, without reading them.

The one idea: which row goes where follows from its prompt's hash, its length and its place, and
these are arrays of numbers. So a store is split as the file that it was made from would be.
"""

from functools import cached_property

import numpy as np
from torch.utils.data import Dataset

from ch07.data.entries import SPLITS, DataFile
from ch07.data.json_reader import Finding
from ch07.data.row_checks import check_token_rows, raise_if_unusable
from ch07.data.splits import describe_own_split, split_ignoring_duplicates, split_rows
from ch07.data.token_store import TokenStore
from ch07.utils.errors import OptionError


class StoredEntries:
    """Some rows of a store as text: a sequence whose items are read when they are asked for."""

    def __init__(self, store, rows):
        self.store, self.rows = store, rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return StoredEntries(self.store, self.rows[index])
        return self.store.entry(int(self.rows[index]))


class StoredRows(Dataset):
    """Some rows of a store, as an `InstructionDataset` of them would be."""

    def __init__(self, store, rows, with_prompt_length=False):
        self.store, self.rows = store, np.asarray(rows, dtype=np.int64)
        self.with_prompt_length = with_prompt_length
        self.data = StoredEntries(store, self.rows)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        row = int(self.rows[index])
        start, end = self.store.bounds(row)
        ids = self.store.ids[start:end].tolist()
        return (int(self.store.prompts[row]), ids) if self.with_prompt_length else ids

    @cached_property
    def lengths(self):
        """Tokens in each row, the end-of-text not counted."""
        ends = self.store.ends.astype(np.int64)
        return np.diff(ends, prepend=0)[self.rows]

    @cached_property
    def prompt_lengths(self):
        """Tokens of each row's prompt."""
        return self.store.prompts[self.rows].astype(np.int64)


def open_store(path, prompt_style):
    """The `TokenStore` in a folder; OptionError if its rows were written in another style."""
    store = TokenStore(path)
    if prompt_style not in (None, store.style.name):
        raise OptionError(
            f"{path} was written with --prompt-style {store.style.name}, not {prompt_style}: "
            "leave it out, or write another store"
        )
    return store


def data_file_of_store(store):
    """The store as a `DataFile`: its rows are read when they are asked for."""
    rows = np.arange(len(store))
    sha256 = store.about["source_sha256"]
    return DataFile(store.folder, StoredEntries(store, rows), [], [], sha256)


def split_store(store, options):
    """Row numbers of each split, as `split_entries` (or `split_ignoring_duplicates`) chooses."""
    rows = range(len(store))
    if options.train_rows is not None:
        raise OptionError(
            f"{store.folder} is a token store, whose families aren't known: leave --train-rows "
            "out, or give the file that it was made from"
        )
    if options.split != "groups":
        return split_ignoring_duplicates(options.split, rows, options.seed)
    if store.splits.any():
        own = np.maximum(store.splits, 1) - 1  # a row that says nothing trains
        return {name: np.flatnonzero(own == i) for i, name in enumerate(SPLITS)}
    return split_rows(store.keys.tolist(), seed=options.seed)


def describe_stored_splits(store, datasets, blind):
    """Sentences: whether the rows' own splits are used, how many held-out prompts are trained on.

    A prompt is known by its hash, of 8 bytes.
    """
    if own := int(np.count_nonzero(store.splits)):
        yield describe_own_split(own, len(store), blind)
    trained = store.keys[datasets["train"].rows]
    for name in SPLITS[1:]:
        asked = store.keys[datasets[name].rows]
        if n := int(np.isin(asked, trained).sum()):
            yield f"{n} of {len(asked)} {name} prompts are also in training"
    yield "a token store is not searched for prompts nearly the same, or with several answers"


def checked_stored_datasets(store, splits, options, context_length, limit):
    """({split: `StoredRows`}, findings): what `checked_datasets` does for entries in memory."""
    response, datasets, seen = options.loss_on == "response", {}, []
    for name, rows in splits.items():
        dataset = StoredRows(store, rows, response)
        bad = set()
        # rows whose prompt and answer would merge were reported when the store was written
        for i, level, what in check_token_rows(dataset, options.loss_on, context_length, limit):
            row = int(dataset.rows[i])
            where = f"line {store.lines[row]} of {dataset.lengths[i]} tokens"
            seen.append((row, Finding(where, level, what)))
            if level == "error":
                bad.add(i)
        kept = [i not in bad for i in range(len(dataset))] if bad else slice(None)
        datasets[name] = StoredRows(store, dataset.rows[kept], response)
    findings = [finding for _, finding in sorted(seen, key=lambda pair: pair[0])]
    errors = [finding for finding in findings if finding.level == "error"]
    if errors and not options.skip_bad_rows:
        raise_if_unusable(store.folder, errors)
    return datasets, findings
