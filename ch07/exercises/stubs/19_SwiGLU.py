"""Exercise 19: feed-forward layers with a gate (not in chapter 7)."""

import torch
import torch.nn.functional as F
from torch import nn


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)), for each token separately.

    `config` has `emb_dim`, C, and `hidden_dim`. The parts, by name, are nn.Linear without bias:
    `gate` and `up` from C to hidden_dim, `down` from hidden_dim to C. silu(z) is z * sigmoid(z).
    (Shazeer 2020, "GLU Variants Improve Transformer".)
    Example, with C = hidden_dim = 1, weights 1, 3 and 1 of gate, up and down, and silu(2) = 1.762:
      [2]  ->  [10.570]   (1.762 * 6)
    """

    def __init__(self, config):
        super().__init__()
        raise NotImplementedError

    def forward(self, x):
        """(..., C) -> (..., C)."""
        raise NotImplementedError
