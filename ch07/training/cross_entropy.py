"""Cross-entropy that needs no second copy of the logits: less memory, the same loss.

The one idea: the gradient of cross-entropy is known in closed form. For each row of logits it is
softmax(logits), minus 1 at the target. So only the logits have to be kept for it, and it overwrites
them, a few rows at a time. PyTorch's own function makes four more arrays of that size, and the
logits are the largest array of a training step: 50,257 numbers a target.

Axes: N counted targets, V vocabulary. Learned from Liger-Kernel's `cross_entropy` (Hsu et al.
2024, "Liger Kernel: Efficient Triton Kernels for LLM Training"), which overwrites its input too.
"""

from collections.abc import Iterator
from typing import Any

import torch

ROWS_AT_ONCE = 32  # 6 MB of logits, which may fit into a processor's cache


def summed_cross_entropy_in_place(
    logits: torch.Tensor, targets: torch.Tensor, times: torch.Tensor | None = None
) -> torch.Tensor:
    """The sum over N rows of -log softmax(logits)[target], in float32.

    Logits (N, V) in any number format; targets (N,), all of which count, or count `times` (N,).
    Backward overwrites the logits with their gradient, so they can't be used afterwards. Without
    gradients they stay.
    """
    return _SummedCrossEntropy.apply(logits, targets, times)


class _SummedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: torch.Tensor, targets: torch.Tensor, times: torch.Tensor | None
    ) -> torch.Tensor:
        # log(sum(exp(logits))) of each row: what softmax divides by
        total = torch.empty(len(logits), dtype=torch.float32, device=logits.device)
        for rows in _row_slices(logits):
            total[rows] = logits[rows].float().logsumexp(dim=-1)
        ctx.save_for_backward(logits, targets, total, times)
        losses = total - logits.gather(1, targets[:, None])[:, 0].float()
        return losses.sum() if times is None else (losses * times).sum()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        logits, targets, total, times = ctx.saved_tensors
        for rows in _row_slices(logits):
            row_of = torch.arange(len(targets[rows]), device=logits.device)
            softmax = logits[rows].float().sub_(total[rows, None]).exp_()
            softmax[row_of, targets[rows]] -= 1
            if times is not None:
                softmax.mul_(times[rows, None])
            logits[rows] = softmax.mul_(gradient)
        return logits, None, None


def _row_slices(logits: torch.Tensor) -> Iterator[slice]:
    return (slice(i, i + ROWS_AT_ONCE) for i in range(0, len(logits), ROWS_AT_ONCE))
