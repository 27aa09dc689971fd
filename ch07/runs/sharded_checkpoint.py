"""Tensors of which each rank holds a part, to disk and back: any number of ranks reads them again.

The one idea: PyTorch's own `torch.distributed.checkpoint`, writing safetensors and not its usual
pickle. Each rank writes a file of what it holds, and where in the whole tensor that belongs. One
process alone reads such files too, and several ranks a checkpoint that one process wrote.
"""

import os
import warnings
from contextlib import contextmanager

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import (
    CheckpointException,
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)


def write_sharded_tensors(folder, tensors):
    """Each rank writes what it holds of the tensors, by name; every rank must take part."""
    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    with _in_words(f"{folder} can't be written"):
        dcp.save(tensors, storage_writer=writer)


@contextmanager
def _in_words(what):
    """OSError with what each rank that failed has to say."""
    try:
        yield
    except CheckpointException as error:  # which is no Exception
        why = "; ".join(f"rank {rank}: {failed[0]}" for rank, failed in error.failures.items())
        raise OSError(f"{what}: {why}") from error


def fsync_shards(folder, n):
    """The names of the `n` files that were written, once they are safe from a power cut."""
    files = sorted(folder.glob("*.safetensors"))
    if len(files) < n:
        raise OSError(f"{folder} has {len(files)} of {n} files: do all ranks see this disk?")
    for file in files:
        with open(file, "rb+") as handle:
            os.fsync(handle.fileno())
    return [file.stem for file in files]


def read_sharded_tensors(folder, params, optimized, together):
    """(weights, an optimizer's tensors) by name, from all safetensors files of a checkpoint.

    `params` are the model's parameters by name, `optimized` those of each part of the optimizer, in
    its order: "1.20.exp_avg" belongs to number 20 of part 1. What a parameter has in parts, is read
    in parts: `together`, since every rank must then take part.
    """
    reader = HuggingFaceStorageReader(str(folder))
    tensors = {}
    for name, stored in reader.read_metadata().state_dict_metadata.items():
        part, _, rest = name.partition(".")
        is_moment = part.isdigit()
        param = optimized[int(part)][int(rest.split(".")[0])] if is_moment else params.get(name)
        alike = param is not None and param.shape == stored.size
        tensors[name] = torch.empty_like(param.detach()) if alike else torch.empty(stored.size)
    with warnings.catch_warnings():  # that it reads alone, which is the intent
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        with _in_words(f"{folder} can't be read"):
            dcp.load(tensors, storage_reader=reader, no_dist=not together)
    weights = {name: tensor for name, tensor in tensors.items() if not name[0].isdigit()}
    return weights, {name: tensors[name] for name in tensors if name not in weights}
