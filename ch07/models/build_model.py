"""Stored tensors -> a `GPTModel`: all of them checked first, then filled in one by one.

The one idea: the model is built without memory, and each weight is given to it as it comes from
the file, so that no second copy of the weights is ever there; and a model is whole or not at all.
"""

import math

import torch

from ch07.models.parameter_names import HEAD, Rename, renames
from ch07.models.weight_reader import WeightsError
from gpt_model import GPTModel

FORMATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def published_or_own_names(weights, config):
    """The renames from stored names to ours: none if they are ours already, or the book's."""
    if "tok_emb.weight" in weights.shapes:
        return [Rename(name, (name,)) for name in _parameters(config)]
    return renames(config)


def check_shapes(path, weights, config):
    """WeightsError with every missing, unexpected and wrongly shaped tensor, one a line."""
    if config.n_layers > len(weights.shapes):  # before a list of what so many blocks would hold
        n = len(weights.shapes)
        raise WeightsError(f"{path} doesn't fit: {config.n_layers} blocks, but {n} tensors")
    ours, found = _parameters(config), weights.shapes
    expected = {
        row.published: tuple(row.join([ours[name] for name in row.ours]).shape)
        for row in published_or_own_names(weights, config)
    }
    equal = {"out_head.weight", HEAD[0].published} if config.tied_head else set()
    wrong = [
        f"missing: {name}, expected {shape}"
        for name, shape in expected.items()
        if name not in found
    ]
    wrong += [
        f"unexpected: {name}, found {shape}"
        for name, shape in found.items()
        if name not in expected and name not in equal
    ]
    wrong += [
        f"wrong shape: {name}, expected {shape}, found {found[name]}"
        for name, shape in expected.items()
        if found.get(name, shape) != shape
    ]
    if wrong:
        raise WeightsError(f"{path} doesn't fit: {len(wrong)} tensors\n  " + "\n  ".join(wrong))


def build_model(path, weights, config, dtype=torch.float32):
    """The `GPTModel`, in evaluation mode; WeightsError for what doesn't fit, NaN or infinity."""
    check_shapes(path, weights, config)
    state = {}
    # the largest first, since each stands beside its copy for a moment
    size = {name: math.prod(shape) for name, shape in weights.shapes.items()}
    for row in sorted(
        published_or_own_names(weights, config), key=lambda row: -size[row.published]
    ):
        stored = weights.read(row.published)
        if stored.dtype not in FORMATS:
            raise WeightsError(
                f"{path}: {row.published} holds {stored.dtype}, but weights are float32 or 16 bits "
                "wide: a quantised model must be turned back first"
            )
        parts = row.split(stored, dtype)
        del stored  # before the next one is read
        if not all(torch.isfinite(bound) for part in parts for bound in part.aminmax()):
            raise WeightsError(f"{path}: {row.published} holds NaN or infinity, as {dtype}")
        state |= zip(row.ours, parts, strict=True)
    if config.tied_head:
        state["out_head.weight"] = state["tok_emb.weight"]
    with torch.device("meta"):
        model = GPTModel(config)
    model.load_state_dict(state, assign=True)
    if config.tied_head:
        model.out_head.weight = model.tok_emb.weight
    return model.eval()


def _parameters(config):
    """Our parameters by name, without memory; a tied head is none of its own."""
    with torch.device("meta"):
        return dict(GPTModel(config).named_parameters())
