"""Tensors of which each rank holds a part, to disk and back: any number of ranks reads them again.

The one idea: PyTorch's own `torch.distributed.checkpoint`, writing safetensors and not its usual
pickle. Each rank writes a file of what it holds, and where in the whole tensor that belongs. One
process alone reads such files too, and several ranks a checkpoint that one process wrote.
"""

import os
import warnings

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import (
    CheckpointException,
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.tensor import DTensor


def write_shards(folder, tensors):
    """Each rank writes what it holds of the tensors, by name; every rank must take part."""
    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    try:
        dcp.save(tensors, storage_writer=writer)
    except CheckpointException as error:  # no Exception by its class; of each rank that failed one
        why = "; ".join(f"rank {rank}: {failed[0]}" for rank, failed in error.failures.items())
        raise OSError(f"{folder} can't be written: {why}") from error


def flush_shards(folder):
    """The names of the files that were written, once they are safe from a power cut."""
    files = sorted(folder.glob("*.safetensors"))
    for file in files:
        with open(file, "rb+") as handle:
            os.fsync(handle.fileno())
    return [file.stem for file in files]


def read_shards(folder, like):
    """Tensors by name from all safetensors files of a folder, each as `like(name, shape)` is.

    That is whole, or the part that a rank holds of a sharded one; then every rank must take part.
    """
    reader = HuggingFaceStorageReader(str(folder))
    stored = reader.read_metadata().state_dict_metadata
    tensors = {name: like(name, part.size) for name, part in stored.items()}
    together = any(isinstance(tensor, DTensor) for tensor in tensors.values())
    with warnings.catch_warnings():  # that it reads alone, which is the intent
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        dcp.load(tensors, storage_reader=reader, no_dist=not together)
    return tensors


def empty_like(param, shape):
    """A tensor of a shape; spread over the ranks as the parameter is, if the shape is its own."""
    same = param is not None and param.shape == shape
    return torch.empty_like(param.detach()) if same else torch.empty(shape)
