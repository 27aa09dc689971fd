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

import math
from collections.abc import Iterable, Iterator, Sequence
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
STACKED_NUMBERS = 2**20  # in matrices that are computed together; large ones gain nothing by it


def orthogonalize(matrices: Tensor, dtype: str) -> Tensor:
    """Matrices (K, m, n) with all singular values near 1, computed in "float32" or "bfloat16"."""
    X = matrices.to(getattr(torch, dtype), copy=True)
    is_tall = X.shape[1] > X.shape[2]
    if is_tall:  # the products below are smaller if X is wide
        X = X.mT
    norms = X.norm(dim=(1, 2), keepdim=True)  # (K, 1, 1)
    X = X / norms.clamp(min=SMALLEST_NORM)  # then no singular value exceeds 1
    for _ in range(ITERATIONS):
        gram = X @ X.mT
        # CUBIC * gram + QUINTIC * gram @ gram
        polynomial = torch.baddbmm(gram, gram, gram, beta=CUBIC, alpha=QUINTIC)
        X = torch.baddbmm(X, polynomial, X, beta=LINEAR)  # LINEAR * X + polynomial @ X
    return X.mT if is_tall else X


def stacks_of_equal_shape(matrices: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """The matrices in lists whose members have one shape, and together few numbers.

    The products of small matrices take less time than starting them, so they are computed together.
    """
    by_shape: dict[tuple[int, ...], list[Tensor]] = {}
    for matrix in matrices:
        by_shape.setdefault(tuple(matrix.shape), []).append(matrix)
    for shape, alike in by_shape.items():
        size = max(1, STACKED_NUMBERS // math.prod(shape))
        for start in range(0, len(alike), size):
            yield alike[start : start + size]


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

    state_kinds = ("momentum_buffer",)  # what it stores for each matrix, as checkpoints name it

    def __init__(
        self, matrices: Iterable[nn.Parameter], lr: float, weight_decay: float, dtype: str
    ) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay})
        self.dtype = dtype

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # there is no closure here
        """One update of every matrix that has a gradient."""
        for group in self.param_groups:
            with_gradient = [matrix for matrix in group["params"] if matrix.grad is not None]
            for matrices in stacks_of_equal_shape(with_gradient):
                directions = torch.stack([self._direction(matrix) for matrix in matrices])
                updates = orthogonalize(directions, self.dtype)
                for matrix, update in zip(matrices, updates, strict=True):
                    self._apply(update, matrix, group)

    def _direction(self, matrix: Tensor) -> Tensor:
        """The gradient, and its average over earlier steps, with Nesterov's momentum."""
        gradient = matrix.grad
        assert gradient is not None
        state = self.state[matrix]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        momentum = state["momentum_buffer"]
        momentum.lerp_(gradient, 1 - MOMENTUM)
        return gradient.lerp(momentum, MOMENTUM)

    def _apply(self, update: Tensor, matrix: Tensor, group: dict[str, Any]) -> None:
        scale = 0.2 * max(matrix.shape) ** 0.5
        matrix.mul_(1 - group["lr"] * group["weight_decay"])
        matrix.add_(update, alpha=-group["lr"] * scale)
