"""Reading and writing files: bytes, JSON, JSONL and tensors, each complete or absent.

How a file gets its name is decided in `ch07.utils.publication`, what may be read in
`ch07.utils.plain_files`.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ch07.utils.errors import InputError
from ch07.utils.plain_files import check_fits_into_memory, open_plain, read_plain
from ch07.utils.publication import atomic_write

CHECKSUM_KEY = "sealed"  # the key under which a JSON object stores its own checksum
HASH_BLOCK_BYTES = 2**20  # read at a time when a file is hashed


def write_bytes(path: str | Path, data: bytes, *, new: bool = False) -> None:
    """Write `data` to `path` in one visible step; `new` as in `atomic_write`.

    After an OSError the old file is still there.
    """
    with atomic_write(path, new=new) as temporary:
        temporary.write_bytes(data)


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented UTF-8 JSON.

    ValueError for NaN, which JSON doesn't have, and for half a character (a lone surrogate), which
    UTF-8 doesn't have.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    try:
        data = (text + "\n").encode()
    except UnicodeEncodeError:
        raise InputError(f"{path} would contain half a character (a lone surrogate)") from None
    write_bytes(path, data)


def write_jsonl(
    path: str | Path, rows: Iterable[Any], strict: bool = True, *, new: bool = False
) -> int:
    """Write each row as one line of UTF-8 JSON; return the number of rows. `new`: `atomic_write`.

    Letters of every script are written as they are, U+2028 included: only "\\n" ends a line.
    A ValueError names the row that holds NaN, which JSON doesn't have, or half a character (a lone
    surrogate), which UTF-8 doesn't have. Without `strict`, both are written in the form that
    Python's `json` module reads back, and values that JSON doesn't have, such as dates, as text.
    """
    n = 0
    on_surrogate = "strict" if strict else "backslashreplace"
    with atomic_write(path, new=new) as temporary, open(temporary, "wb") as file:
        for n, row in enumerate(rows, start=1):
            try:
                as_text = None if strict else str  # dates of a table, for instance
                line = json.dumps(row, ensure_ascii=False, allow_nan=not strict, default=as_text)
                file.write(line.encode(errors=on_surrogate) + b"\n")
            except UnicodeEncodeError:
                where = f"{path}: row {n}"
                raise InputError(f"{where} contains half a character (a lone surrogate)") from None
            except (ValueError, TypeError) as error:
                raise InputError(f"{path}: row {n} can't be written: {error}") from None
    return n


def read_json(path: str | Path, max_bytes: int | None = None) -> Any:
    """The JSON value in a UTF-8 file; a ValueError names the file if it isn't valid JSON.

    DataError for anything but a regular file of at most `max_bytes`, as in `read_plain`.
    """
    data = read_plain(path, max_bytes)
    try:
        return json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON: {error}") from None


def write_json_with_checksum(path: str | Path, value: Mapping[str, Any]) -> None:
    """Write an object as `write_json` does, with a checksum of its content as one more key."""
    write_json(path, {**value, CHECKSUM_KEY: _checksum(value)})


def read_json_with_checksum(path: str | Path, *, checksum_required: bool = False) -> dict[str, Any]:
    """Read what `write_json_with_checksum` wrote; ValueError if it was altered since.

    Files written before checksums were introduced have none and are accepted, unless
    `checksum_required`.
    """
    value = read_json(path)
    if isinstance(value, dict):
        stored = value.pop(CHECKSUM_KEY, None)
        unchecked = stored is None and not checksum_required
        if unchecked or stored == _checksum(value):
            return value
    raise InputError(f"{path} was altered or damaged after it was written")


def _checksum(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def write_tensors(
    path: str | Path, tensors: Mapping[str, torch.Tensor], metadata: dict[str, str] | None = None
) -> str:
    """Write named tensors as a safetensors file; return the file's sha256."""
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_write(path) as temporary:
        temporary.touch()
        permissions = temporary.stat().st_mode  # safetensors would make its file private
        try:
            save_file(on_cpu, temporary, metadata)
            os.chmod(temporary, permissions)
        except SafetensorError as error:  # a full disk arrives as this type
            raise OSError(f"{path} can't be written: {error}") from error
        return sha256_of(temporary)


def read_tensors(path: str | Path) -> dict[str, torch.Tensor]:
    """The named CPU tensors of a safetensors file (never a pickle)."""
    check_fits_into_memory(path)
    return load_file(path)


def sha256_of(path: str | Path, *, must_fit: bool = False) -> str:
    """The sha256 of a regular file, in hexadecimal; DataError for a pipe or a device.

    `must_fit`: the file is to be loaded whole, so one that doesn't fit into memory isn't read.
    """
    if must_fit:
        check_fits_into_memory(path)
    digest = hashlib.sha256()
    with open_plain(path) as file:
        while block := file.read(HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
