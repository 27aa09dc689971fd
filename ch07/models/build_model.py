"""Stored tensors -> a `GPTModel`: all of them checked first, then read one by one.

The model is created without memory (on the meta device) and takes over each tensor as it is read,
so there is never a second copy of the weights. A model is returned complete or not at all.
"""

import math
from pathlib import Path

import torch
from torch import nn

from ch07.models.parameter_names import HEAD, Rename, renames
from ch07.models.weight_reader import StoredWeights, WeightsError
from gpt_model import GPTConfig, GPTModel

WEIGHT_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def rename_table(weights: StoredWeights, config: GPTConfig) -> list[Rename]:
    """The renames from stored names to ours; they change nothing if the stored names are ours."""
    if "tok_emb.weight" in weights.shapes:
        return [Rename(name, (name,)) for name in _parameters(config)]
    return renames(config)


def check_shapes(path: str | Path, weights: StoredWeights, config: GPTConfig) -> None:
    """WeightsError with every missing, unexpected and misshapen tensor, one per line."""
    found = weights.shapes
    if config.n_layers > len(found):  # before all tensors of so many blocks are listed
        raise WeightsError(
            f"{path} doesn't fit: {config.n_layers} blocks, but only {len(found)} tensors"
        )
    ours = _parameters(config)
    expected = {
        row.published: tuple(row.join([ours[name] for name in row.ours]).shape)
        for row in rename_table(weights, config)
    }
    optional = {"out_head.weight", HEAD[0].published} if config.tied_head else set()
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
    config: GPTConfig,
    dtype: torch.dtype = torch.float32,
) -> GPTModel:
    """The `GPTModel` in evaluation mode; WeightsError for what doesn't fit, NaN or infinity."""
    check_shapes(path, weights, config)
    # The largest first, while little else is in memory: each is there twice for a moment.
    sizes = {name: math.prod(shape) for name, shape in weights.shapes.items()}
    rows = rename_table(weights, config)
    rows.sort(key=lambda row: -sizes[row.published])
    state: dict[str, torch.Tensor] = {}
    for row in rows:
        parts = _read_parts(path, weights, row, dtype)
        state.update(zip(row.ours, parts, strict=True))
    if config.tied_head:
        state["out_head.weight"] = state["tok_emb.weight"]
    with torch.device("meta"):
        model = GPTModel(config)
    model.load_state_dict(state, assign=True)
    if config.tied_head:
        model.out_head.weight = model.tok_emb.weight
    return model.eval()


def _read_parts(
    path: str | Path, weights: StoredWeights, row: Rename, dtype: torch.dtype
) -> list[torch.Tensor]:
    """Our tensors from one stored tensor, in `dtype`; WeightsError if they aren't finite floats."""
    stored = weights.read(row.published)
    if stored.dtype not in WEIGHT_DTYPES:
        raise WeightsError(
            f"{path}: {row.published} holds {stored.dtype}, but weights must be floating-point "
            "numbers of 16, 32 or 64 bits: convert a quantised model back first"
        )
    parts = row.split(stored, dtype)
    for part in parts:
        if not all(torch.isfinite(bound) for bound in part.aminmax()):
            raise WeightsError(f"{path}: {row.published} holds NaN or infinity, as {dtype}")
    return parts


def _parameters(config: GPTConfig) -> dict[str, nn.Parameter]:
    """Our parameters by name, without memory; a tied output head is not listed."""
    with torch.device("meta"):
        return dict(GPTModel(config).named_parameters())
