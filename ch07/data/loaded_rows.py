"""The rows of a run: a source of tokenized rows, divided into splits by row number.

The one idea: a row is known by its number in the source, from reading to the error message. The
source tokenizes each row once, a split is a list of numbers, and the place of a row in the reader's
file is looked up by its number.
"""

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, overload

import numpy as np
from torch.utils.data import Subset

from ch07.data.entries import DataFile
from ch07.data.entry_checks import Entry
from ch07.data.findings import Finding

T = TypeVar("T")


class TokenizedRows(Protocol):
    """A dataset of rows of token ids: in memory, in a token store, or cut from plain text."""

    @property
    def data(self) -> Sequence[Any]:
        """What each row was made from: an entry, or for plain text its number."""
        ...

    @property
    def lengths(self) -> Sequence[int] | np.ndarray:
        """Tokens in each row, not counting end-of-text."""
        ...

    @property
    def prompt_lengths(self) -> Sequence[int] | np.ndarray:
        """Tokens of each row's prompt."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class LazySequence(Sequence[T]):
    """A sequence whose items are computed when they are asked for: `item(number)` for each number.

    >>> squares = LazySequence(range(10), lambda number: number**2)
    >>> squares[3], list(squares[7:])
    (9, [49, 64, 81])
    """

    def __init__(self, numbers: Sequence[int], item: Callable[[int], T]) -> None:
        self.numbers = numbers
        self.item = item

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> "LazySequence[T]": ...

    def __getitem__(self, index: int | slice) -> "T | LazySequence[T]":
        if isinstance(index, slice):
            return LazySequence(self.numbers[index], self.item)
        return self.item(int(self.numbers[index]))


class SplitDataset(Subset):
    """The rows of one split: `dataset[i]` is row number `indices[i]` of the source."""

    dataset: TokenizedRows
    indices: "array[int]"  # 8 bytes a row

    def __init__(self, dataset: TokenizedRows, indices: Iterable[int]) -> None:
        numbers = array("q", indices)
        super().__init__(dataset, numbers)  # type: ignore[arg-type]  # it needs only len and []
        # in tokens, for each row: all without end-of-text, and those of the prompt
        self.lengths = np.asarray(dataset.lengths, dtype=np.int64)[np.asarray(numbers)]
        self.prompt_lengths = np.asarray(dataset.prompt_lengths, dtype=np.int64)[
            np.asarray(numbers)
        ]
        # tokens that the loss on responses doesn't count; of a conversation, all its questions
        masked = getattr(dataset, "masked_lengths", dataset.prompt_lengths)
        self.masked_lengths = np.asarray(masked, dtype=np.int64)[np.asarray(numbers)]

    @property
    def has_targets(self) -> bool:
        """Whether the loss on responses counts any token, of end-of-text too."""
        return bool((self.masked_lengths <= self.lengths).any())

    @property
    def data(self) -> LazySequence[Any]:
        """What each row was made from: its entry, or for plain text its number."""
        return LazySequence(self.indices, self.dataset.data.__getitem__)


@dataclass(frozen=True)
class LoadedRows:
    """The rows that a run will use, wherever they came from."""

    file: DataFile
    datasets: dict[str, SplitDataset]  # "train", "test" and "validation"
    findings: list[Finding]  # in the file, and in its rows as tokens
    # (tokens, those of the prompt) of each row, used or refused; empty unless rows are in memory
    lengths: list[tuple[int, int]]
    # (held-out row, training row, similarity); None where they were not searched for
    near_duplicates: list[tuple[int, int, float]] | None
    conversations: dict[str, Any] | None = None  # `describe_conversations` of all rows

    def place_of(self, split: str, i: int) -> str:
        """Where row i of a split stands in the reader's file: "row 3", "line 3"."""
        return self.file.places[self.datasets[split].indices[i]]

    def entries(self, split: str) -> Sequence[Entry]:
        """The entries of a split."""
        return self.datasets[split].data
