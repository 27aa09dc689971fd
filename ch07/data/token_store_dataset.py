"""A token store -> rows for training, without reading them.

The one idea: which row goes into which split follows from its prompt's hash, its length and its
number, and these are in arrays. So a store is split as the file that it was made from would be.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tiktoken import Encoding
from torch.utils.data import Dataset

from ch07.data.entries import DataFile
from ch07.data.entry_checks import Entry
from ch07.data.field_names import SPLITS
from ch07.data.loaded_rows import LazySequence, SplitDataset
from ch07.data.splits import describe_split_field, split_groups, split_ignoring_prompts
from ch07.data.token_store import TokenStore
from ch07.utils.errors import OptionError


class StoredDataset(Dataset):
    """All rows of a store, as an `InstructionDataset` of its entries would be."""

    def __init__(self, store: TokenStore, loss_on: str = "all") -> None:
        self.store = store
        self.loss_on = loss_on
        self.lengths = np.diff(store.ends[:].astype(np.int64), prepend=0)  # both in tokens
        self.prompt_lengths = store.prompts[:]

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, index: int) -> Any:
        row = int(index)
        start, end = self.store.bounds(row)
        ids = self.store.ids[start:end].tolist()
        if self.loss_on == "all":
            return ids
        if not self.store.has_chats:
            return int(self.prompt_lengths[row]), ids
        return self._counted(row), ids

    def _counted(self, row: int) -> list[bool]:
        """The flags of a row, as a `ChatDataset` of its entry has them."""
        counted = self.store.counted_of(row)
        if self.loss_on == "last-response":
            n_prompt = int(self.prompt_lengths[row])
            counted[:n_prompt] = [False] * n_prompt
        return counted

    @property
    def masked_lengths(self) -> np.ndarray:
        """The number of tokens in each row that are no targets of the loss on responses."""
        if not self.store.has_chats:
            return np.asarray(self.prompt_lengths)
        if self.loss_on == "last-response":
            return np.array([self._counted(row).count(False) for row in range(len(self))])
        ends = self.store.ends[:].astype(np.int64) + np.arange(1, len(self) + 1)  # in flags
        counted = np.concatenate([[0], np.cumsum(self.store.counted[:], dtype=np.int64)])
        n_counted = np.diff(counted[ends], prepend=0)
        return np.asarray(self.lengths) + 1 - n_counted

    @property
    def data(self) -> LazySequence[Entry]:
        """The rows as text, each read when it is asked for."""
        return LazySequence(range(len(self)), self.store.entry)


def open_store(path: Path | str, prompt_style: str | None, tokenizer: Encoding) -> TokenStore:
    """The `TokenStore` in a folder; OptionError for another style or tokenizer than the store's."""
    store = TokenStore(path)
    if tokenizer.name != store.about["tokenizer"]:
        raise OptionError(
            f"{path} holds ids of the tokenizer {store.about['tokenizer']}, but this model has "
            "another one: give the file that the store was made from"
        )
    if prompt_style not in (None, store.style.name):
        raise OptionError(
            f"{path} was written with --prompt-style {store.style.name}, not {prompt_style}: "
            "leave it out, or write another store"
        )
    return store


def data_file_of_store(store: TokenStore) -> DataFile:
    """The store as a `DataFile`, whose entries are read when they are asked for."""
    numbers = range(len(store))
    return DataFile(
        path=store.folder,
        entries=LazySequence(numbers, store.entry),
        places=LazySequence(numbers, store.place),
        findings=[],
        sha256=store.about["source_sha256"],
    )


def split_store(
    store: TokenStore, rule: str, train_rows: int | None, seed: int
) -> Mapping[str, Sequence[int]]:
    """Row numbers of each split, as for the file that the store was made from.

    `rule` is "groups", "book" or "hf"; OptionError for `train_rows`, which needs families.
    """
    if train_rows is not None:
        raise OptionError(
            f"{store.folder} is a token store, which doesn't know families: leave --train-rows "
            "out, or give the file that it was made from"
        )
    if rule != "groups":
        return split_ignoring_prompts(rule, len(store), seed)
    given = store.splits[:]
    if given.any():
        own = np.maximum(given, 1) - 1  # a row without a split is for training
        return {name: np.flatnonzero(own == i).tolist() for i, name in enumerate(SPLITS)}
    return split_groups(store.keys[:].tolist(), seed=seed)


def describe_stored_splits(
    store: TokenStore, datasets: Mapping[str, SplitDataset], split_field_ignored: bool
) -> Iterator[str]:
    """Sentences: whether the `split` field decides; how many held-out prompts are in training, too.

    Prompts are compared by their hashes, of 8 bytes.
    """
    n_with_split = int(np.count_nonzero(store.splits[:]))
    if n_with_split:
        yield describe_split_field(n_with_split, len(store), split_field_ignored)
    all_keys = store.keys[:]
    training_keys = all_keys[np.asarray(datasets["train"].indices, dtype=np.int64)]
    for name in SPLITS[1:]:
        keys = all_keys[np.asarray(datasets[name].indices, dtype=np.int64)]
        n = int(np.isin(keys, training_keys).sum())
        if n:
            yield f"{n} of {len(keys)} {name} prompts are also in training"
    yield "a token store is not searched for near-duplicate prompts, or for conflicting answers"
