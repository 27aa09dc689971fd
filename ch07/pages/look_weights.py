"""A model's weights as text for a page: float16, and a byte for what rounding to it takes away.

The one idea: a float16 keeps 11 of the 24 significant bits of a float32, so each weight is off by
up to half a step, the distance to the next float16. Rounded so, the logits of a model differ from
Python's in the second decimal. A further byte holds the error in 256ths of a step, which leaves a
512th of a step: as good as 19 significant bits. `look/float16.js` puts the two together.
"""

import base64
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ch07.models.architectures import BaseModel, describe_shape
from ch07.models.llama import LlamaConfig
from ch07.utils.errors import InputError

FLOAT16_MAX = torch.finfo(torch.float16).max  # 65,504
EXPONENT_OF_LAST_BIT = -25  # of a float16 with exponent 0: its step is 2 ** (0 - 25 + 1)
PARTS_OF_STEP = 256  # that a remainder counts in
BASE64_GROWTH = 4 / 3  # letters per byte
BITS = (16, 24)  # per weight: a float16, or a float16 and a remainder


class RoundedWeights(NamedTuple):
    """Float32 weights as float16 and int8: weight = half + remainder * step(half) / 256."""

    halves: Tensor  # float16
    remainders: Tensor  # int8


def round_weights(weights: Tensor) -> RoundedWeights:
    """The nearest float16 of each weight, and what is left, in 256ths of a float16 step."""
    halves = weights.half()
    exponents = (halves.view(torch.int16).int() >> 10) & 31
    steps = torch.pow(2.0, exponents.clamp(min=1).double() + EXPONENT_OF_LAST_BIT)
    parts = (weights.double() - halves.double()) / steps * PARTS_OF_STEP
    return RoundedWeights(halves, parts.round().clamp(-128, 127).to(torch.int8))


def size_in_page(model: BaseModel, bits: int) -> int:
    """How many bytes the weights take in a page, about."""
    n_parameters = sum(weight.numel() for weight in model.parameters())
    return round(n_parameters * bits / 8 * BASE64_GROWTH)


def weights_block(model: BaseModel, bits: int) -> dict[str, Any]:
    """The block "model" of the page: shape, names and shapes of the tensors, and their numbers.

    A tied head is not repeated. InputError for weights that float16 can't hold.
    """
    named = [(name, weight.detach().cpu()) for name, weight in model.named_parameters()]
    for name, weight in named:
        _check_range(name, weight)
    rounded = round_weights(torch.cat([weight.float().flatten() for _, weight in named]))
    return {
        "kind": "llama" if isinstance(model.config, LlamaConfig) else "gpt2",
        "config": describe_shape(model.config),
        "layout": [{"name": name, "shape": list(weight.shape)} for name, weight in named],
        "float16": _base64(rounded.halves),
        "remainders": _base64(rounded.remainders) if bits == max(BITS) else None,
    }


def _check_range(name: str, weight: Tensor) -> None:
    largest = float(weight.abs().max())
    if not largest <= FLOAT16_MAX:  # not a number counts as too large
        raise InputError(
            f"{name} has a weight of {largest:.6g}, but the page stores weights as float16, which "
            f"end at {FLOAT16_MAX:,.0f}: add --answers-only, which leaves the weights out"
        )


def base64_of_float16(numbers: Sequence[Tensor]) -> str:
    """Numbers of several tensors, one after another, as float16 in base64."""
    return _base64(torch.cat([part.flatten() for part in numbers]).half())


def _base64(numbers: Tensor) -> str:
    # The bytes of the machine: the low one first, as on all machines that PyTorch runs on.
    return base64.b64encode(numbers.contiguous().numpy().tobytes()).decode("ascii")
