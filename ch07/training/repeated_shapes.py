"""Sizes rounded up so that they repeat: a kernel that was compiled once is then used again.

The one idea: in bfloat16, a CPU's matrix product runs a kernel that oneDNN compiles for exactly
these sizes. Compiling takes 2 to 20 ms, several times as long as the product itself if the model is
narrow. Batches have nearly as many different sizes as there are batches. Rounded up to a few sizes,
they need a few kernels, which oneDNN keeps. In float32 nothing is compiled, and nothing is rounded.

A wide model's product takes longer than compiling, and kernels that lie between its large blocks of
memory fragment it: GPT-2 small would train 7 % faster and take 20 % more memory. So this is done
for narrow models only.

Axes: N counted targets.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

from ch07.utils.malloc_tuning import limit_kernel_cache

COLUMNS = 2  # the columns of a batch become a multiple of this many
TARGETS = 32  # likewise the counted targets: the rows of logits
NARROW = 512  # the largest width that is rounded: it pays for 128, not for 768
KERNELS_OF_NARROW_MODELS = 320  # enough for all sizes of the default run
KERNELS_OF_WIDE_MODELS = 8  # one layer's forward or backward pass uses fewer at a time


def limit_kernels(width: int) -> None:
    """Let oneDNN keep as many kernels as a model of this width uses; call before any product."""
    limit_kernel_cache(KERNELS_OF_NARROW_MODELS if width <= NARROW else KERNELS_OF_WIDE_MODELS)


def should_round(device: torch.device, dtype: str, width: int) -> bool:
    """Whether rounding sizes saves time: where products are compiled, and small."""
    return device.type == "cpu" and dtype == "bfloat16" and width <= NARROW


def pad_targets(
    wanted: tuple[Tensor, Tensor], targets: Tensor, times: Tensor
) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor]:
    """Positions, targets and how often each counts, (N,) each, with N rounded up.

    What is added are logits of the first position, which count 0 times: they change neither the
    loss nor a gradient.

    >>> places = (torch.tensor([0, 1]), torch.tensor([5, 5]))
    >>> _, _, times = pad_targets(places, torch.tensor([7, 8]), torch.tensor([1, 1]))
    >>> len(times), int(times.sum())
    (32, 2)
    """
    extra = (0, -len(targets) % TARGETS)
    rows, columns = wanted
    return (pad(rows, extra), pad(columns, extra)), pad(targets, extra), pad(times, extra)
