"""Muon: the update of a matrix is its gradient's direction with every singular value made about 1.

The one idea: a gradient is usually dominated by a few directions. Orthogonalizing it gives all
directions the same length, so that the rare ones are learned as well. The Newton-Schulz iteration
does that with matrix products alone, no singular value decomposition.

PyTorch has a `torch.optim.Muon`, which always iterates in bfloat16. Where a processor has no fast
bfloat16, that is a hundred times as slow as float32, and most of a training step of a small model
was spent on it. This one iterates in the number format of the run. In bfloat16 both compute the
same, bit for bit.

Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; the size of
the update is that of Liu et al. 2025, "Muon is Scalable for LLM Training", section 2.2.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
ITERATIONS = 5
# Coefficients of the polynomial that pushes each singular value towards 1. They were chosen for
# speed: after five iterations the values lie between about 0.7 and 1.2, not at 1.
LINEAR = 3.4445
CUBIC = -4.775
QUINTIC = 2.0315
SMALLEST_NORM = 1e-7  # a gradient of zeros can't be divided by its norm


def orthogonalize(matrix: Tensor, dtype: str) -> Tensor:
    """The matrix with all its singular values near 1, computed in "float32" or "bfloat16"."""
    X = matrix.to(getattr(torch, dtype), copy=True)
    is_tall = X.shape[0] > X.shape[1]
    if is_tall:  # the products below are smaller if X is wide
        X = X.T
    X.div_(X.norm().clamp(min=SMALLEST_NORM))  # then no singular value exceeds 1
    for _ in range(ITERATIONS):
        gram = X @ X.T
        # CUBIC * gram + QUINTIC * gram @ gram
        polynomial = torch.addmm(gram, gram, gram, beta=CUBIC, alpha=QUINTIC)
        X = torch.addmm(X, polynomial, X, beta=LINEAR)  # LINEAR * X + polynomial @ X
    return X.T if is_tall else X


def count_operations(shape: Sequence[int]) -> int:
    """The floating-point operations of orthogonalizing a matrix of this shape."""
    short = min(shape)
    long = max(shape)
    # the gram matrix, its square, and the polynomial times X
    return ITERATIONS * (2 * short * short * long + 2 * short**3 + 2 * short * short * long)


class Muon(torch.optim.Optimizer):
    """Muon for matrices, with Nesterov momentum and decoupled weight decay.

    `dtype` is the number format of the iteration. An update is scaled to the usual size of AdamW's,
    so one learning rate suits both.
    """

    def __init__(
        self, matrices: Iterable[nn.Parameter], lr: float, weight_decay: float, dtype: str
    ) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay})
        self.dtype = dtype

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # there is no closure here
        """One update of every matrix that has a gradient."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is not None:
                    self._update(matrix, matrix.grad, group)

    def _update(self, matrix: nn.Parameter, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[matrix]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        momentum = state["momentum_buffer"]
        momentum.lerp_(gradient, 1 - MOMENTUM)
        direction = orthogonalize(gradient.lerp(momentum, MOMENTUM), self.dtype)
        scale = 0.2 * max(matrix.shape) ** 0.5
        matrix.mul_(1 - group["lr"] * group["weight_decay"])
        matrix.add_(direction, alpha=-group["lr"] * scale)
