"""Which rows form a batch, and in what order: loaders for the training loop.

The one idea: rows of similar length make rectangles with little padding. The order is a function of
seed and epoch alone, so workers, interruptions and evaluations can't change it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import BatchSampler, DataLoader, Sampler

from ch07.data.chat_dataset import collate_responses
from ch07.data.loaded_rows import TokenizedRows
from ch07.data.row_checks import check_allowed_max_length
from ch07.utils.errors import InputError
from collate import END_OF_TEXT, custom_collate_fn

COLLATE_BY_LOSS = {
    "all": custom_collate_fn,
    "response": collate_responses,
    "last-response": collate_responses,  # the dataset decides which answers count
}
BATCHES_PER_CHUNK = 50  # sorted together: enough to save padding, few enough to stay random

Batch = tuple[torch.Tensor, torch.Tensor]  # inputs and targets (B, T), int64


class LengthGroupedBatches(Sampler[list[int]]):
    """Batches of row numbers: shuffle, sort within chunks by length, shuffle the batches.

    Every row comes once per epoch; at most one batch is shorter. A chunk is `chunk_batches` batches
    (None: `BATCHES_PER_CHUNK`). Source of the idea: `LengthGroupedSampler` of Hugging Face
    transformers.

    >>> list(LengthGroupedBatches([3, 9, 4, 8], batch_size=2, seed=0))
    [[0, 2], [3, 1]]
    """

    def __init__(
        self,
        lengths: Sequence[int] | np.ndarray,
        batch_size: int,
        seed: int,
        chunk_batches: int | None = None,
    ) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}, but must be at least 1")
        self.chunk_batches = chunk_batches
        self.lengths = np.asarray(lengths, dtype=np.int64)
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next (the training loop calls this)."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed((self.seed << 32) + self.epoch)
        rows = torch.randperm(len(self.lengths), generator=generator).numpy()
        size = self.batch_size
        chunk_size = (self.chunk_batches or BATCHES_PER_CHUNK) * size
        for start in range(0, len(rows), chunk_size):
            chunk = rows[start : start + chunk_size]
            chunk[:] = chunk[self.lengths[chunk].argsort(kind="stable")]  # sorts `rows` in place
        for i in torch.randperm(len(self), generator=generator).tolist():
            yield rows[i * size : (i + 1) * size].tolist()


class ShareOfBatches(Sampler[list[int]]):
    """The rows of each batch that belong to one rank; a short batch may have none for it.

    >>> list(ShareOfBatches([[0, 2, 5], [3, 1, 4], [6]], rank=1, world_size=2))
    [[2], [1], []]
    """

    def __init__(
        self, batches: Sampler[list[int]] | list[list[int]], rank: int, world_size: int
    ) -> None:
        self.batches = batches
        self.rank = rank
        self.world_size = world_size

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next, if the order depends on it."""
        if isinstance(self.batches, LengthGroupedBatches):
            self.batches.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.batches)  # type: ignore[arg-type]  # each sampler here has a length

    def __iter__(self) -> Iterator[list[int]]:
        return (rows[self.rank :: self.world_size] for rows in self.batches)


def padding_share(batches: Iterable[Sequence[int]], lengths: Sequence[int]) -> float:
    """The share of all positions that is padding, if each batch (row numbers) is a rectangle.

    >>> padding_share([[0, 1], [2]], lengths=[4, 2, 2])  # 2 of 10 positions
    0.2
    """
    batches = list(batches)
    positions = sum(len(rows) * max(lengths[i] for i in rows) for rows in batches)
    real = sum(lengths[i] for rows in batches for i in rows)
    return (positions - real) / positions


def make_loader(
    dataset: TokenizedRows,
    batch_size: int,
    loss_on: str = "all",
    allowed_max_length: int | None = None,
    *,
    pad_token_id: int = END_OF_TEXT,
    seed: int | None = None,
    chunk_batches: int | None = None,
    num_workers: int = 0,
    share: tuple[int, int] = (0, 1),
) -> DataLoader[Batch]:
    """A DataLoader of (inputs, targets): in order without a seed, length-grouped with one.

    `loss_on` is "all", "response" or "last-response"; for the latter two the dataset's items must
    contain prompt lengths, or flags (`collate_responses`). `pad_token_id` is the end token of the
    model's tokenizer. `chunk_batches` is that of `LengthGroupedBatches`. With `share` (rank, world
    size) every batch has that rank's rows only.
    """
    if loss_on not in COLLATE_BY_LOSS:
        known = ", ".join(map(repr, COLLATE_BY_LOSS))
        raise InputError(f"loss_on is {loss_on!r}: choose one of {known}")
    check_allowed_max_length(allowed_max_length)
    collate = partial(
        COLLATE_BY_LOSS[loss_on],
        pad_token_id=pad_token_id,
        allowed_max_length=allowed_max_length,
    )
    batches: Sampler[list[int]]
    if seed is None:
        batches = BatchSampler(range(len(dataset)), batch_size, drop_last=False)
    else:
        batches = LengthGroupedBatches(dataset.lengths, batch_size, seed, chunk_batches)
    if share != (0, 1):
        rank, world_size = share
        batches = ShareOfBatches(batches, rank, world_size)
        collate = partial(_collate_share, collate)
    return DataLoader(
        dataset,  # type: ignore[arg-type]  # it needs only len and []
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=num_workers,
    )


def rows_of_batches(loader: DataLoader[Batch], epoch: int) -> list[list[int]]:
    """The row numbers of each batch of an epoch, those of all ranks together."""
    sampler = loader.batch_sampler
    if isinstance(sampler, ShareOfBatches):
        sampler = sampler.batches
    if isinstance(sampler, LengthGroupedBatches):
        sampler.set_epoch(epoch)
    return [list(rows) for rows in sampler or ()]


def _collate_share(collate: Callable[[list[Any]], Batch], rows: list[Any]) -> Batch:
    """A rank without rows must still take part, with one position that isn't counted."""
    return collate(rows) if rows else (torch.tensor([[0]]), torch.tensor([[-100]]))
