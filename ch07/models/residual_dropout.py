"""Dropout that rises with depth: none in the first block, most in the last.

What a late block adds to a token can be left out at little cost; an early block's result is read
by all later blocks. Source: LIMA (Zhou et al. 2023, arXiv 2305.11206, section 3), which rises
to 0.3, and to 0.2 for smaller models.
"""

from torch import nn

from ch07.models.architectures import BaseModel
from ch07.utils.errors import InputError


def residual_dropout_rates(n_layers: int, highest: float) -> list[float]:
    """The rate of each block, evenly spaced from 0 to `highest`; ValueError outside 0 to 1.

    >>> residual_dropout_rates(4, 0.3)
    [0.0, 0.1, 0.2, 0.3]
    """
    if not 0 <= highest < 1:
        raise InputError(f"the highest rate is {highest}, but must be at least 0 and below 1")
    steps = max(n_layers - 1, 1)
    return [round(highest * layer / steps, 12) for layer in range(n_layers)]


def set_residual_dropout(model: BaseModel, highest: float) -> None:
    """Set the dropout of what each block adds to its input; 0 leaves the model as it is."""
    if highest == 0:
        return
    rates = residual_dropout_rates(len(model.trf_blocks), highest)
    for block, rate in zip(model.trf_blocks, rates, strict=True):
        dropout = block.drop_shortcut
        assert isinstance(dropout, nn.Dropout)
        dropout.p = rate
