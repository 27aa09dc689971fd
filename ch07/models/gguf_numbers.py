"""The formats of numbers in a GGUF file, decoded by hand: from 4 or 8 bits back to 32.

The one idea: weights that are neighbours have a similar size, so a row is divided into blocks of 32
and each block has a scale of its own, stored as a float16 in front of it.

    Q8_0   scale, then 32 whole numbers of 8 bits          weight = scale * number
    Q4_1   scale and minimum, then 32 numbers of 4 bits    weight = scale * number + minimum

Four bits are a number from 0 to 15, and two of them share a byte: the lower halves of a block's 16
bytes are its first 16 weights, the upper halves its last 16. So Q8_0 needs 34 bytes for 32 weights,
8.5 bits each, and Q4_1 20 bytes, 5 bits each. What was rounded away doesn't come back: a weight of
Q4_1 is one of 16 values of its block.

    scale 0.25, minimum -1.0, byte 0x3A      lower half 10 -> 1.5, upper half 3 -> -0.25

Source: ggml's `ggml-common.h` (block_q8_0, block_q4_1) and `ggml-quants.c`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

BLOCK_SIZE = 32  # numbers of a block
SCALE_BYTES = 2  # a float16
LOWER_HALF = 0x0F


def decode_q8_0(blocks: np.ndarray) -> np.ndarray:
    """Blocks of bytes (n, 34) -> numbers (n, 32), float32."""
    scales = blocks[:, :SCALE_BYTES].copy().view(np.float16).astype(np.float32)  # (n, 1)
    numbers = blocks[:, SCALE_BYTES:].view(np.int8)  # (n, 32)
    return scales * numbers.astype(np.float32)


def decode_q4_1(blocks: np.ndarray) -> np.ndarray:
    """Blocks of bytes (n, 20) -> numbers (n, 32), float32.

    >>> scale_and_minimum = np.array([0.25, -1.0], np.float16).view(np.uint8)
    >>> block = np.concatenate([scale_and_minimum, np.full(16, 0x3A, np.uint8)])
    >>> decode_q4_1(block[None])[0, [0, 15, 16, 31]].tolist()
    [1.5, 1.5, -0.25, -0.25]
    """
    scales = blocks[:, :SCALE_BYTES].copy().view(np.float16).astype(np.float32)  # (n, 1)
    minima = blocks[:, SCALE_BYTES : 2 * SCALE_BYTES].copy().view(np.float16).astype(np.float32)
    pairs = blocks[:, 2 * SCALE_BYTES :]  # (n, 16)
    numbers = np.concatenate([pairs & LOWER_HALF, pairs >> 4], axis=1)  # (n, 32)
    return scales * numbers.astype(np.float32) + minima


def float_decoder(dtype: type[np.floating]) -> Callable[[np.ndarray], np.ndarray]:
    """A function for numbers that are stored as they are: bytes (n, size) -> numbers (n, 1)."""
    return lambda blocks: blocks.view(dtype).astype(np.float32)


@dataclass(frozen=True)
class NumberFormat:
    """A format: how many numbers a block holds, in how many bytes, and what decodes it."""

    name: str
    block_size: int
    block_bytes: int
    decode: Callable[[np.ndarray], np.ndarray]


FORMATS_READ = {  # by GGUF's number of a format (ggml_type)
    0: NumberFormat("F32", 1, 4, float_decoder(np.float32)),
    1: NumberFormat("F16", 1, 2, float_decoder(np.float16)),
    3: NumberFormat("Q4_1", BLOCK_SIZE, 20, decode_q4_1),
    8: NumberFormat("Q8_0", BLOCK_SIZE, 34, decode_q8_0),
}


def decode_numbers(data: memoryview, number_format: int) -> torch.Tensor:
    """The numbers of a tensor (n,), float32, from its bytes in a format of `FORMATS_READ`."""
    stored = FORMATS_READ[number_format]
    blocks = np.frombuffer(data, np.uint8).reshape(-1, stored.block_bytes)
    return torch.from_numpy(np.ascontiguousarray(stored.decode(blocks))).view(-1)
