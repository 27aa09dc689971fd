"""What exercises 7, 8 and 11 are checked with: a tiny model that records how it is used."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

VOCAB_SIZE = 11
Batch = tuple[Tensor, Tensor]  # inputs and targets, both (B, T)


class Probe(nn.Module):
    """A model small enough to see through: one table of logits, and dropout."""

    def __init__(self, drop_rate: float = 0.0) -> None:
        super().__init__()
        self.table = nn.Embedding(VOCAB_SIZE, VOCAB_SIZE)
        self.drop = nn.Dropout(drop_rate)
        self.modes: list[bool] = []  # training mode at each call
        self.gradients: list[bool] = []  # whether gradients were recorded
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            self.table.weight.copy_(2 * torch.randn(VOCAB_SIZE, VOCAB_SIZE, generator=generator))

    def forward(
        self, token_ids: Tensor, wanted: Tensor | tuple[Tensor, ...] | None = None
    ) -> Tensor:
        """(B, T) -> logits (B, T, V), or those of the wanted positions only."""
        self.modes.append(self.training)
        self.gradients.append(torch.is_grad_enabled())
        logits = self.drop(self.table(token_ids))
        return logits if wanted is None else logits[wanted]


def make_batch(seed: int, counted: Sequence[int], B: int = 2, T: int = 5) -> Batch:
    """A batch (B, T) of which only the first `counted[i]` targets of row i are not masked."""
    generator = torch.Generator().manual_seed(seed)
    inputs, targets = torch.randint(1, VOCAB_SIZE, (2, B, T), generator=generator)
    for row, n in enumerate(counted):
        targets[row, n:] = -100
    return inputs, targets
