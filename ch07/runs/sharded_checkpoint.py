"""Tensors that are sharded over ranks, to disk and back; any number of ranks can read them.

This is PyTorch's `torch.distributed.checkpoint`, but with safetensors instead of its usual pickle.
Each rank writes one file with its shards and their positions in the whole tensors. A single process
can read such files too, and several ranks can read what a single process wrote.
"""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import (
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.checkpoint.metadata import TensorStorageMetadata


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


def read_sharded_tensors(
    folder: Path,
    params: Mapping[str, torch.Tensor],
    optimized: Sequence[Sequence[torch.Tensor]],
    *,
    on_all_ranks: bool,
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """(weights, optimizer state) by name, from all safetensors files of a checkpoint.

    `params` are the model's parameters by name. `optimized` are the parameters of each part of the
    optimizer, in its order: "1.20.exp_avg" belongs to number 20 of part 1. What belongs to a
    sharded parameter is read as shards; all ranks must then take part (`on_all_ranks`).
    """
    reader = HuggingFaceStorageReader(str(folder))
    tensors = {}
    for name, stored in reader.read_metadata().state_dict_metadata.items():
        if not isinstance(stored, TensorStorageMetadata):
            raise OSError(f"{folder} can't be read: {name} is not a tensor")
        param = _parameter_of(name, params, optimized)
        if param is not None and param.shape == stored.size:
            tensors[name] = torch.empty_like(param.detach())  # sharded as the parameter is
        else:
            tensors[name] = torch.empty(stored.size)
    with warnings.catch_warnings():  # a warning that one process reads alone, which is intended
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        with _as_os_error(f"{folder} can't be read"):
            state_dict_loader.load(tensors, storage_reader=reader, no_dist=not on_all_ranks)
    weights = {name: tensor for name, tensor in tensors.items() if not _is_optimizer_state(name)}
    moments = {name: tensor for name, tensor in tensors.items() if _is_optimizer_state(name)}
    return weights, moments


def _is_optimizer_state(name: str) -> bool:
    return name[0].isdigit()


def _parameter_of(
    name: str,
    params: Mapping[str, torch.Tensor],
    optimized: Sequence[Sequence[torch.Tensor]],
) -> torch.Tensor | None:
    """The parameter that a stored tensor is, or whose optimizer state it is; None: not known."""
    if not _is_optimizer_state(name):
        return params.get(name)
    part, number, _ = name.split(".", 2)
    return optimized[int(part)][int(number)]
