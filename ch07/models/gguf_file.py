"""A GGUF file -> its metadata and, one at a time, its tensors: the file format of llama.cpp.

The one idea: everything is in one file. After a magic number come the metadata (shape, tokenizer,
chat template) as typed pairs of key and value, then the list of tensors (name, shape, format, where
it begins), then the numbers themselves. The header is read once; the numbers stay in the file,
which is mapped into memory, until a tensor is asked for.

Source: ggml's docs/gguf.md. Formats of numbers are explained in `ch07.models.gguf_numbers`.
"""

import math
import mmap
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ch07.models.gguf_numbers import FORMATS_READ, decode_numbers
from ch07.models.weight_reader import StoredWeights, WeightsError
from ch07.utils.errors import DataError
from ch07.utils.plain_files import open_plain
from ch07.utils.validation import quote

SUFFIX = ".gguf"
MAGIC = b"GGUF"
VERSIONS = (2, 3)  # version 1 had shorter numbers; it was replaced in 2023
DEFAULT_ALIGNMENT = 32  # where the numbers of a tensor begin, in bytes
MAX_LIST_VALUES = 2_000_000  # values in a list; a vocabulary of 256,000 tokens has so many merges
MAX_PAIRS = 10_000
MAX_TENSORS = 100_000
MAX_AXES = 4
STRING = 8  # GGUF's numbers of types that are not numbers themselves
ARRAY = 9
NUMBER_TYPES = {  # GGUF's number of a type -> its format in `struct`
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor is, and in which format."""

    shape: tuple[int, ...]  # as in PyTorch: the last axis is that of neighbours in memory
    number_format: int  # GGUF's number of it, a key of `FORMATS_READ`
    start: int  # in bytes, from the beginning of the file
    n_bytes: int


@dataclass(frozen=True)
class GGUFFile:
    """The header of a file, and access to its tensors."""

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, StoredTensor]

    def weights(self) -> StoredWeights:
        """The tensors as float32, each read from the mapped file when it is asked for."""
        shapes = {name: tensor.shape for name, tensor in self.tensors.items()}
        return StoredWeights(self.path, [self.path], shapes, self._read)

    def _read(self, names: Sequence[str]) -> Iterator[torch.Tensor]:
        with open_plain(self.path) as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        view = memoryview(mapped)
        for name in names:
            tensor = self.tensors[name]
            data = view[tensor.start : tensor.start + tensor.n_bytes]
            yield decode_numbers(data, tensor.number_format).view(tensor.shape)


def is_gguf(path: str | Path) -> bool:
    """Whether it is a file whose name says that it is GGUF."""
    return Path(path).suffix.lower() == SUFFIX and not Path(path).is_dir()


def open_gguf(path: str | Path) -> GGUFFile:
    """The `GGUFFile` of a path; WeightsError for a file that is damaged, cut off or another one."""
    path = Path(path)
    try:
        with open_plain(path) as file:
            n_bytes = os.fstat(file.fileno()).st_size
            if n_bytes == 0:
                raise _HeaderError("it is empty")
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return _read_header(path, _Header(data), n_bytes)
    except FileNotFoundError:
        raise WeightsError(f"{path}: there is no such file") from None
    except OSError as error:
        raise WeightsError(f"{path} can't be read: {error.strerror or error}") from None
    except DataError as error:  # a pipe or a device, which may never end
        raise WeightsError(str(error)) from None
    except _HeaderError as error:
        raise WeightsError(f"{path} is not a GGUF file that can be read: {error}") from None


class _HeaderError(WeightsError):
    """What is wrong with a header."""


class _Header:
    """The bytes of a header, read from front to back; `_HeaderError` where they end too early."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.position = 0

    def take(self, n_bytes: int) -> bytes:
        """The next bytes."""
        end = self.position + n_bytes
        if end > len(self.data):
            raise _HeaderError("its header is cut off: the copy is incomplete; get it again")
        part = self.data[self.position : end]
        self.position = end
        return part

    def numbers(self, letter: str, n: int = 1) -> tuple[Any, ...]:
        """The next numbers of a type of `struct`, little-endian."""
        layout = f"<{n}{letter}"
        return struct.unpack(layout, self.take(struct.calcsize(layout)))

    def count(self, most: int, what: str) -> int:
        """The next number, which says how many things follow."""
        (n,) = self.numbers("Q")
        if n > most:
            raise _HeaderError(f"it claims {n:,} {what}: it was altered, or the copy is damaged")
        return n

    def text(self) -> str:
        """The next text: its length, then its bytes."""
        data = self.take(self.count(len(self.data), "bytes of text"))
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            raise _HeaderError("a text in its header is not UTF-8") from None

    def value(self, kind: int) -> Any:
        """The next value of a type: a number, a text, or a list of one of these."""
        if kind == STRING:
            return self.text()
        if kind == ARRAY:
            return self._list()
        if kind not in NUMBER_TYPES:
            raise _HeaderError(f"its header has a value of the unknown type {kind}")
        return self.numbers(NUMBER_TYPES[kind])[0]

    def _list(self) -> list[Any]:
        (kind,) = self.numbers("I")
        n = self.count(MAX_LIST_VALUES, "values in a list")
        if kind in NUMBER_TYPES:
            return list(self.numbers(NUMBER_TYPES[kind], n))
        if kind == ARRAY:
            raise _HeaderError("its header has a list of lists")
        return [self.value(kind) for _ in range(n)]


def _read_header(path: Path, header: _Header, n_bytes: int) -> GGUFFile:
    if header.take(len(MAGIC)) != MAGIC:
        raise _HeaderError("it doesn't begin with GGUF")
    (version,) = header.numbers("I")
    if version not in VERSIONS:
        raise _HeaderError(f"its version is {version}, but must be 2 or 3")
    n_tensors = header.count(MAX_TENSORS, "tensors")
    n_pairs = header.count(MAX_PAIRS, "pairs of metadata")
    metadata: dict[str, Any] = {}
    for _ in range(n_pairs):
        key = header.text()
        if key in metadata:
            raise _HeaderError(f"it holds {quote(key)} twice")
        (kind,) = header.numbers("I")
        metadata[key] = header.value(kind)
    listed = [_read_tensor_info(header) for _ in range(n_tensors)]
    data_start = _aligned(header.position, metadata.get("general.alignment", DEFAULT_ALIGNMENT))
    tensors: dict[str, StoredTensor] = {}
    for name, shape, number_format, offset in listed:
        if name in tensors:
            raise _HeaderError(f"it holds {quote(name)} twice")
        tensors[name] = _locate(name, shape, number_format, data_start + offset, n_bytes)
    return GGUFFile(path, metadata, tensors)


def _read_tensor_info(header: _Header) -> tuple[str, tuple[int, ...], int, int]:
    """(name, shape, number of the format, offset from the beginning of all numbers)."""
    name = header.text()
    (n_axes,) = header.numbers("I")
    if not 1 <= n_axes <= MAX_AXES:
        raise _HeaderError(f"{quote(name)} has {n_axes} axes")
    shape = header.numbers("Q", n_axes)[::-1]  # GGUF lists the axis of neighbours first
    (number_format,) = header.numbers("I")
    (offset,) = header.numbers("Q")
    return name, shape, number_format, offset


def _aligned(position: int, alignment: Any) -> int:
    """The first multiple of the alignment from a position on."""
    if type(alignment) is not int or not 1 <= alignment <= 2**20:
        raise _HeaderError(f"its alignment is {quote(str(alignment))}")
    return -(-position // alignment) * alignment


def _locate(
    name: str, shape: tuple[int, ...], number_format: int, start: int, n_bytes: int
) -> StoredTensor:
    """The `StoredTensor`; `_HeaderError` if it isn't within the file, or in an unknown format."""
    if number_format not in FORMATS_READ:
        known = ", ".join(stored.name for stored in FORMATS_READ.values())
        raise _HeaderError(
            f"{quote(name)} is stored in a format that is not read here (number {number_format}); "
            f"known are {known}"
        )
    stored = FORMATS_READ[number_format]
    if shape[-1] % stored.block_size:
        raise _HeaderError(f"{quote(name)} has rows of {shape[-1]} numbers, not of whole blocks")
    size = math.prod(shape) // stored.block_size * stored.block_bytes
    if start + size > n_bytes:
        raise _HeaderError(
            f"{quote(name)} would end beyond the end of the file: the copy is incomplete; get it "
            "again"
        )
    return StoredTensor(shape, number_format, start, size)
