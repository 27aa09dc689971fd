"""Tensors that are sharded over ranks, to disk and back; any number of ranks can read them.

This is PyTorch's `torch.distributed.checkpoint`, but with safetensors instead of its usual pickle.
Each rank writes one file with its shards and their positions in the whole tensors. A single process
can read such files too, and several ranks can read what a single process wrote.
"""

import math
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import (
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)

from ch07.utils.errors import InputError


def write_sharded_tensors(folder: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write named tensors, each rank its own shards; every rank must call it."""
    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    with _as_os_error(f"{folder} can't be written"):
        state_dict_saver.save(dict(tensors), storage_writer=writer)


@contextmanager
def _as_os_error(problem: str) -> Iterator[None]:
    """Turn PyTorch's error, which isn't an Exception, into an OSError with each rank's reason."""
    try:
        yield
    except CheckpointException as error:
        reasons = [f"rank {rank}: {failure[0]}" for rank, failure in error.failures.items()]
        raise OSError(f"{problem}: {'; '.join(reasons)}") from error


def fsync_shards(folder: Path, n_files: int) -> list[str]:
    """Make the written files survive a power failure; return their names without suffix."""
    files = sorted(folder.glob("*.safetensors"))
    if len(files) < n_files:
        raise OSError(f"{folder} has {len(files)} of {n_files} files: do all ranks see this disk?")
    for file in files:
        with open(file, "rb+") as handle:
            os.fsync(handle.fileno())
    return [file.stem for file in files]


def stored_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """{name: shape of the whole tensor} in all safetensors files of a checkpoint."""
    with _as_input_error(folder):
        # a safetensors file holds nothing but tensors
        stored: Any = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
        return {name: tuple(tensor.size) for name, tensor in stored.items()}


def read_sharded_tensors(
    folder: Path, like: Mapping[str, torch.Tensor], *, on_all_ranks: bool
) -> dict[str, torch.Tensor]:
    """Tensors by name, from all safetensors files of a checkpoint.

    Each has the shape and type of that in `like`, and is sharded if that is; all ranks must then
    take part (`on_all_ranks`). A place that no file holds is NaN.
    """
    tensors = {name: torch.full_like(tensor, math.nan) for name, tensor in like.items()}
    reader = HuggingFaceStorageReader(str(folder))
    with warnings.catch_warnings():  # a warning that one process reads alone, which is intended
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        with _as_os_error(f"{folder} can't be read"), _as_input_error(folder):
            state_dict_loader.load(tensors, storage_reader=reader, no_dist=not on_all_ranks)
    return tensors


@contextmanager
def _as_input_error(folder: Path) -> Iterator[None]:
    """Turn what PyTorch raises for files that it never wrote, of many types, into an InputError."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise InputError(f"{folder} can't be read: {error}") from None
