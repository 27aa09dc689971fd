"""Exercise 16: the norm of Llama, simpler than a layer norm (not in chapter 7)."""

import torch
from torch import nn


class RMSNorm(nn.Module):
    """Divide the C numbers of a token by their root mean square, then scale each by its weight.

    x / sqrt(mean of x * x + eps) * weight, with the mean over the last axis. `weight` is a
    parameter of C numbers, all 1 at first. No mean is subtracted, and there is no bias. In a
    float16 model x, weight and result are float16, but the squares are computed in float32: the
    square of 256 is already too large for float16.
    Example, with weight 1 and eps 0, where the mean of 9 and 16 is 12.5:
      [3, 4]  ->  [0.849, 1.131]
    """

    def __init__(self, emb_dim, eps=1e-5):
        super().__init__()
        raise NotImplementedError

    def forward(self, x):
        """(..., C) -> (..., C)."""
        raise NotImplementedError
