"""Stored tensors -> a model: all shapes checked first, then read by a few threads.

The model is created without memory (on the meta device) and takes over each tensor as it is read,
so there is never a second copy of the weights. A model is returned complete or not at all.
"""

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path

import torch
from torch import nn

from ch07.models.architectures import BaseModel, ModelConfig
from ch07.models.empty_model import empty_model
from ch07.models.parameter_names import HEAD, Rename, renames
from ch07.models.weight_reader import StoredWeights, WeightsError

WEIGHT_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
LARGE = 2**18  # numbers; a tensor of at least so many is read by itself
# More would hardly help, since memory is the limit, and each holds a stored tensor in memory.
MAX_THREADS = 4


def rename_table(weights: StoredWeights, config: ModelConfig) -> list[Rename]:
    """The renames from stored names to ours; they change nothing if the stored names are ours."""
    if "tok_emb.weight" in weights.shapes:
        return [Rename(name, (name,)) for name in _parameters(config)]
    return renames(config)


def check_shapes(path: str | Path, weights: StoredWeights, config: ModelConfig) -> None:
    """WeightsError with every missing, unexpected and misshapen tensor, one per line."""
    found = weights.shapes
    if config.n_layers > len(found):  # before all tensors of so many blocks are listed
        raise WeightsError(
            f"{path} doesn't fit: {config.n_layers} blocks, but only {len(found)} tensors"
        )
    ours = _parameters(config)
    expected = {
        row.published: row.joined_shape([ours[name].shape for name in row.ours])
        for row in rename_table(weights, config)
    }
    optional = {"out_head.weight", HEAD.published} if config.tied_head else set()
    problems = []
    for name, shape in expected.items():
        if name not in found:
            problems.append(f"missing: {name}, expected {shape}")
    for name, shape in found.items():
        if name not in expected and name not in optional:
            problems.append(f"unexpected: {name}, found {shape}")
    for name, shape in expected.items():
        if name in found and found[name] != shape:
            problems.append(f"wrong shape: {name}, expected {shape}, found {found[name]}")
    if problems:
        lines = "\n  ".join(problems)
        raise WeightsError(f"{path} doesn't fit: {len(problems)} tensors\n  {lines}")


def build_model(
    path: str | Path,
    weights: StoredWeights,
    config: ModelConfig,
    dtype: torch.dtype = torch.float32,
) -> BaseModel:
    """The model in evaluation mode; WeightsError for what doesn't fit, NaN or infinity."""
    check_shapes(path, weights, config)
    n_threads = min(torch.get_num_threads(), MAX_THREADS)
    state: dict[str, torch.Tensor] = {}
    with ThreadPoolExecutor(n_threads) as pool:
        read = partial(_read_group, path, weights, dtype)
        for tensors in pool.map(read, _reading_groups(weights, config)):
            state.update(tensors)
    if config.tied_head:
        state["out_head.weight"] = state["tok_emb.weight"]
    model = empty_model(config)
    model.load_state_dict(state, assign=True)
    if config.tied_head:
        model.out_head.weight = model.tok_emb.weight
    return model.eval()


def _reading_groups(weights: StoredWeights, config: ModelConfig) -> list[list[Rename]]:
    """What is read together: each large tensor alone, and all small ones.

    The largest come first, while little else is in memory: each is there twice for a moment.
    """
    sizes = {name: math.prod(shape) for name, shape in weights.shapes.items()}
    rows = sorted(rename_table(weights, config), key=lambda row: -sizes[row.published])
    large = [[row] for row in rows if sizes[row.published] >= LARGE]
    small = [row for row in rows if sizes[row.published] < LARGE]
    return [*large, small] if small else large


def _read_group(
    path: str | Path, weights: StoredWeights, dtype: torch.dtype, rows: list[Rename]
) -> dict[str, torch.Tensor]:
    """Our tensors from some stored ones, in `dtype`; WeightsError if they aren't finite floats."""
    tensors: dict[str, torch.Tensor] = {}
    stored_tensors = weights.read([row.published for row in rows])
    for row, stored in zip(rows, stored_tensors, strict=True):
        if stored.dtype not in WEIGHT_DTYPES:
            raise WeightsError(
                f"{path}: {row.published} holds {stored.dtype}, but weights must be floating-point "
                "numbers of 16, 32 or 64 bits: convert a quantised model back first"
            )
        for name, part in zip(row.ours, row.split(stored, dtype), strict=True):
            if not all(torch.isfinite(bound) for bound in part.aminmax()):
                raise WeightsError(f"{path}: {row.published} holds NaN or infinity, as {dtype}")
            tensors[name] = part
    return tensors


@lru_cache(maxsize=1)  # shapes are checked when a source is found, and again when it is read
def _parameters(config: ModelConfig) -> Mapping[str, nn.Parameter]:
    """Our parameters by name, without memory; a tied output head is not listed."""
    return dict(empty_model(config).named_parameters())
