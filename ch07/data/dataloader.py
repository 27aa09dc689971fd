"""Which rows come together in a batch, and in what order: loaders for the training loop.

The one idea: rows of like length make rectangles with little padding. The order is a function of
seed and epoch alone, so that workers, interruptions and evaluations can't change it.
"""

from functools import partial

import numpy as np
import torch
from torch.utils.data import BatchSampler, DataLoader, Sampler, SequentialSampler

from ch07.data.row_checks import check_length_limit
from collate import custom_collate_fn, custom_collate_response_fn

LOSS_ON = {"all": custom_collate_fn, "response": custom_collate_response_fn}
CHUNK = 50  # batches that are sorted together: enough to save padding, few enough to stay random


class LengthGroupedBatches(Sampler):
    """Batches of row numbers: shuffle, sort within chunks by length, shuffle the batches.

    Every row comes once an epoch; at most one batch is shorter. Source of the idea:
    `LengthGroupedSampler` of Hugging Face transformers.

    >>> list(LengthGroupedBatches([3, 9, 4, 8], batch_size=2, seed=0))
    [[0, 2], [3, 1]]
    """

    def __init__(self, lengths, batch_size, seed):
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, but must be at least 1")
        self.lengths = np.asarray(lengths, dtype=np.int64)
        self.batch_size, self.seed, self.epoch = batch_size, seed, 0

    def set_epoch(self, epoch):
        """Choose the epoch whose order comes next (the training loop calls this)."""
        self.epoch = epoch

    def __len__(self):
        return -(-len(self.lengths) // self.batch_size)

    def __iter__(self):
        generator = torch.Generator().manual_seed((self.seed << 32) + self.epoch)
        rows = torch.randperm(len(self.lengths), generator=generator).numpy()
        chunk, size = CHUNK * self.batch_size, self.batch_size
        for start in range(0, len(rows), chunk):  # in place: a chunk has whole batches
            part = rows[start : start + chunk]
            part[:] = part[self.lengths[part].argsort(kind="stable")]
        for i in torch.randperm(len(self), generator=generator).tolist():
            yield rows[i * size : (i + 1) * size].tolist()


class ShareOfBatches(Sampler):
    """Of each batch the rows of one rank among several; a short batch may have none for it.

    >>> list(ShareOfBatches([[0, 2, 5], [3, 1, 4], [6]], rank=1, size=2))
    [[2], [1], []]
    """

    def __init__(self, batches, rank, size):
        self.batches, self.rank, self.size = batches, rank, size

    def set_epoch(self, epoch):
        """Choose the epoch whose order comes next, where there is more than one order."""
        if hasattr(self.batches, "set_epoch"):
            self.batches.set_epoch(epoch)

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        return (rows[self.rank :: self.size] for rows in self.batches)


def padding_share(batches, lengths):
    """Which share of all positions is padding, if each batch (row numbers) is a rectangle.

    >>> padding_share([[0, 1], [2]], lengths=[4, 2, 2])  # 2 of 10 positions
    0.2
    """
    batches = list(batches)
    positions = sum(len(rows) * max(lengths[i] for i in rows) for rows in batches)
    real = sum(lengths[i] for rows in batches for i in rows)
    return (positions - real) / positions


def make_loader(
    dataset,
    batch_size,
    loss_on="all",
    allowed_max_length=None,
    seed=None,
    num_workers=0,
    share=(0, 1),
):
    """A DataLoader of (inputs, targets); in order without a seed, length-grouped with one.

    `loss_on` is "all" or "response". The dataset must give prompt lengths for the latter. With
    `share` (rank, size) every batch holds that rank's rows only.
    """
    if loss_on not in LOSS_ON:
        raise ValueError(f"loss_on is {loss_on!r}: choose 'all' or 'response'")
    check_length_limit(allowed_max_length)
    collate = partial(LOSS_ON[loss_on], allowed_max_length=allowed_max_length)
    if seed is None:
        batches = BatchSampler(SequentialSampler(dataset), batch_size, drop_last=False)
    else:
        batches = LengthGroupedBatches(dataset.lengths, batch_size, seed)
    if share != (0, 1):
        batches, collate = ShareOfBatches(batches, *share), partial(_or_nothing, collate)
    return DataLoader(dataset, batch_sampler=batches, collate_fn=collate, num_workers=num_workers)


def _or_nothing(collate, rows):
    """A rank without rows must join in all the same: with one position that nobody counts."""
    return collate(rows) if rows else (torch.tensor([[0]]), torch.tensor([[-100]]))
