"""Weights in fewer bits, for answering only: less to read for each token, so more tokens a second.

The one idea: to write one token, a model reads each of its weights once and does only two
operations with it, so the time goes into reading. A weight of 32 bits is far more exact than an
answer needs. Here each linear layer of a finished model gets its weights in 16 bits (float16), or
in 8 (int8); the embeddings, norms and biases stay as they are.

int8 works row by row. A row of the weight matrix, which computes one output channel, is divided by
a scale of its own, so that its largest weight becomes 127 or -127, and rounded to whole numbers:

    weights  0.50 -0.25  0.02      scale 0.50 / 127      stored  127  -64  5

The activations of each token are rounded in the same way when they arrive, but to the range from
-63 to 63: processors without special units (AVX2) add pairs of products in 16 bits, where larger
numbers would overflow. The product is then one of whole numbers, which is exact, so the only errors
are those of the two roundings. A token's result doesn't depend on the other tokens of its batch.

Both formats use the packed kernels of PyTorch (FBGEMM), which need an x86 processor. Elsewhere the
same numbers are computed with ordinary operations: the same answers, but no faster.

Axes: O output channels, I inputs. Learned from Dettmers et al. 2022, "LLM.int8(): 8-bit Matrix
Multiplication for Transformers at Scale", section 2.1 (vector-wise quantization), and from Khudia
et al. 2021, "FBGEMM: Enabling High-Performance Low-Precision Deep Learning Inference".
"""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ch07.models.adapters import LanguageModel, base_model
from ch07.utils.errors import InputError, OptionError

MAX_WEIGHT = 127  # the largest number that an int8 weight is rounded to
MAX_ACTIVATION = 63  # the same for an activation, see above
ZERO = 64  # FBGEMM stores activations as numbers from 0; this one stands for 0.0
SMALLEST = 1e-30  # in place of the largest number of a row of zeros, which can't be a divisor
FBGEMM = "fbgemm"


def has_packed_kernels() -> bool:
    """Whether PyTorch has its packed kernels for this processor."""
    return FBGEMM in torch.backends.quantized.supported_engines


def largest_magnitude(x: Tensor) -> Tensor:
    """The largest absolute value of each row: (..., I) -> (..., 1).

    >>> largest_magnitude(torch.tensor([[1.0, -3.0], [2.0, 0.0]])).tolist()
    [[3.0], [2.0]]
    """
    # For many rows several times as fast as `torch.linalg.vector_norm(x, torch.inf, dim=-1)`.
    return torch.maximum(x.amax(dim=-1, keepdim=True), -x.amin(dim=-1, keepdim=True))


def quantize_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """int8 values (O, I) and scales (O,) with weight = values * scales up to rounding.

    >>> values, scales = quantize_rows(torch.tensor([[0.5, -0.25, 0.02], [0.0, 0.0, 0.0]]))
    >>> values
    tensor([[127, -64,   5],
            [  0,   0,   0]], dtype=torch.int8)
    """
    largest = largest_magnitude(weight)[:, 0].clamp(min=SMALLEST)  # (O,)
    scales = largest / MAX_WEIGHT
    return (weight / scales[:, None]).round().to(torch.int8), scales


class Int8Linear(nn.Module):
    """A linear layer with int8 weights; activations (..., I) -> (..., O), both float32."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        values, scales = quantize_rows(layer.weight.detach())
        self.bias = layer.bias
        self.n_bytes = values.nbytes + scales.nbytes
        self.packed: Any = None
        if has_packed_kernels():
            self.packed = _pack_int8(values, scales)
        else:
            self.values = values
            self.scales = scales

    def forward(self, x: Tensor) -> Tensor:
        # Divided by its largest number, each token lies between -1 and 1: one scale fits all.
        largest = largest_magnitude(x).clamp(min=SMALLEST)
        y = self._product(x / largest).mul_(largest)
        return y if self.bias is None else y.add_(self.bias)

    def _product(self, x: Tensor) -> Tensor:
        """Activations between -1 and 1, rounded, times the weights."""
        if self.packed is not None:
            return _packed_int8_product(x, self.packed)
        rounded = (x * MAX_ACTIVATION).round()
        return F.linear(rounded, self.values.to(x.dtype)) * (self.scales / MAX_ACTIVATION)


class Float16Linear(nn.Module):
    """A linear layer with float16 weights, which computes in float32: (..., I) -> (..., O)."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        weight = layer.weight.detach()
        self.bias = layer.bias
        self.n_bytes = 2 * weight.numel()
        self.packed: Any = None
        if has_packed_kernels():
            with _fbgemm():
                self.packed = torch.ops.quantized.linear_prepack_fp16(weight.contiguous(), None)
        else:
            self.weight = weight.to(torch.float16)

    def forward(self, x: Tensor) -> Tensor:
        if self.packed is not None:
            y = torch.ops.quantized.linear_dynamic_fp16(x, self.packed)
        else:
            y = F.linear(x, self.weight.to(x.dtype))
        return y if self.bias is None else y + self.bias


LARGEST = {"float16": torch.finfo(torch.float16).max, "int8": math.inf}  # weight of each format
QUANTIZED_LAYERS = {"float16": Float16Linear, "int8": Int8Linear}


def quantize_layers(model: LanguageModel, number_format: str) -> LanguageModel:
    """Replace the linear layers of a model by quantized ones, in place; returns the model.

    `number_format` is "float32", which changes nothing, "float16" or "int8". The model can answer
    afterwards, but not be trained. OptionError for a model that isn't on the CPU, InputError for
    weights that the format can't hold.
    """
    if number_format == "float32":
        return model
    base = base_model(model)
    embedding = base.tok_emb.weight
    if embedding.device.type != "cpu":
        raise OptionError(
            f"--weights {number_format} needs --device cpu: this model is on {embedding.device}"
        )
    if embedding.dtype != torch.float32:
        raise InputError(f"the weights are {embedding.dtype}, but must be torch.float32 at first")
    for name, layer in linear_layers(base):
        check_range(name, layer.weight, LARGEST[number_format], "too large for float16: use int8")
    for name, layer in linear_layers(base):
        parent, _, child = name.rpartition(".")
        setattr(base.get_submodule(parent), child, QUANTIZED_LAYERS[number_format](layer))
    return model


def linear_layers(model: nn.Module) -> list[tuple[str, nn.Linear]]:
    """(name, layer) of every linear layer, the output head included."""
    modules = model.named_modules()
    return [(name, layer) for name, layer in modules if isinstance(layer, nn.Linear)]


def rounding_error(weight: Tensor, number_format: str) -> float:
    """By how much rounding moves a weight matrix (O, I), relative to the matrix (in norm)."""
    if number_format == "int8":
        values, scales = quantize_rows(weight)
        stored = values * scales[:, None]
    else:
        stored = weight.to(getattr(torch, number_format)).to(weight.dtype)
    return float((stored - weight).norm() / weight.norm().clamp(min=SMALLEST))


def bytes_per_token(model: nn.Module) -> int:
    """Bytes of the weights of all linear layers, which are read to write one token.

    A tied output head that was quantized is a second copy of the embedding, which stays in float32.
    """
    n_bytes = 0
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            n_bytes += layer.weight.nbytes
        elif isinstance(layer, Int8Linear | Float16Linear):
            n_bytes += layer.n_bytes
    return n_bytes


def check_range(name: str, weight: Tensor, limit: float, remedy: str) -> None:
    """InputError for NaN, infinity, and what is beyond a number format's limit."""
    largest = float(weight.detach().abs().amax())  # NaN if there is one
    if not largest < torch.inf:
        raise InputError(f"{name} holds NaN or infinity: this model can't answer")
    if largest > limit:
        raise InputError(f"{name} has a weight of {largest:.3g}, {remedy}")


@contextmanager
def _fbgemm() -> Iterator[None]:
    """Let PyTorch pack weights for FBGEMM, whatever its own choice would be."""
    backend: Any = torch.backends.quantized
    before = backend.engine
    backend.engine = FBGEMM
    try:
        yield
    finally:
        backend.engine = before


def _pack_int8(values: Tensor, scales: Tensor) -> Any:
    """int8 values (O, I) and their scales (O,), rearranged for FBGEMM."""
    no_offset = torch.zeros(len(scales), dtype=torch.long)
    with warnings.catch_warnings():  # about a later PyTorch, which may keep such tensors elsewhere
        warnings.simplefilter("ignore", UserWarning)
        make_tensor: Any = vars(torch)["_make_per_channel_quantized_tensor"]  # from whole numbers
        stored = make_tensor(values, scales, no_offset, 0)
    with _fbgemm():
        return torch.ops.quantized.linear_prepack(stored, None)


def _packed_int8_product(x: Tensor, packed: Any) -> Tensor:
    """Activations between -1 and 1, rounded, times packed weights; the result is float32."""
    multiply = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32
    return multiply(x, 1 / MAX_ACTIVATION, ZERO, packed)
