"""What a checkpoint may hold, checked once, when it is read.

The one idea: a right checksum shows that a file is as somebody wrote it, not that a training run
wrote it. So each counter must be one that a run reaches, the records must follow one another, and
the tensors must be those of this model and this optimizer.
"""

import typing
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

import torch

from ch07.runs.run_folder import MAX_METRIC, check_config, check_records
from ch07.utils.errors import InputError, RunFolderError
from ch07.utils.validation import MAX_LISTED, quote, runtime_types
from train_loop import TrainState

STEP_COUNT = "step"  # AdamW's number of updates, the one kind of state without a parameter's shape
SQUARES = "exp_avg_sq"  # AdamW's average of squared gradients
ADAMW_STATE = (STEP_COUNT, "exp_avg", SQUARES)  # what AdamW stores for each parameter

Tensors = Mapping[str, torch.Tensor]


# --- state.json -----------------------------------------------------------------------------------
def read_state(values: Any) -> TrainState:
    """The `TrainState` in a state.json; InputError names the field that no run can have written."""
    names = {field.name for field in fields(TrainState)}
    if not isinstance(values, dict) or set(values) != names:
        raise InputError(f"the state must have the fields {', '.join(sorted(names))}")
    annotations = typing.get_type_hints(TrainState)
    for name, value in values.items():
        if type(value) not in runtime_types(annotations[name]):
            raise InputError(f"{name} is {quote(str(value))}")
        if name != "history" and not 0 <= value <= MAX_METRIC:  # NaN is not, either
            raise InputError(f"{name} is {quote(str(value))}")
    state = TrainState(**values)
    for name in ("skipped", "epoch"):
        if values[name] > state.step:
            raise InputError(f"{name} is {values[name]}, but only {state.step} steps were made")
    check_records(state.history)
    if state.history:
        last = state.history[-1]
        for name, value in (("step", state.step), ("tokens_seen", state.tokens_seen)):
            if (last[name] or 0) > value:
                raise InputError(f"{name} is {value}, but the last record has {last[name]}")
    return state


def check_config_copy(config: Any) -> None:
    """InputError unless it is what `config.json` can hold, or None, as in older checkpoints."""
    if config is None:
        return
    try:
        check_config(config)
    except (RunFolderError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"its copy of config.json can't be used: {error}") from None


# --- tensors --------------------------------------------------------------------------------------
def check_shapes(
    what: str, found: Mapping[str, Iterable[int]], expected: Tensors, *, complete: bool = True
) -> None:
    """InputError lists each tensor that is missing, not known, or of another shape than expected.

    Call it before the tensors are read. Unless they must be `complete`, there may be none at all.
    """
    wrong = []
    if complete or found:
        wrong += [f"{name} is missing" for name in expected if name not in found]
    wrong += [f"{quote(name)} is not known" for name in found if name not in expected]
    for name, tensor in expected.items():
        if name in found and tuple(found[name]) != tuple(tensor.shape):
            wrong.append(f"{name} has shape {tuple(found[name])}, expected {tuple(tensor.shape)}")
    if wrong:
        rest = [] if len(wrong) <= MAX_LISTED else [f"and {len(wrong) - MAX_LISTED} more"]
        raise InputError(f"{what}: {'; '.join(wrong[:MAX_LISTED] + rest)}")


def check_numbers(what: str, tensors: Tensors, expected: Tensors) -> None:
    """InputError for a tensor of another type than expected, or with NaN or infinity."""
    for name, tensor in tensors.items():
        if tensor.dtype != expected[name].dtype:
            raise InputError(f"{what}: {name} is {tensor.dtype}, expected {expected[name].dtype}")
        if not torch.isfinite(tensor).all():
            raise InputError(f"{what}: {name} holds a number that is not finite")


def check_optimizer_state(what: str, tensors: Tensors, n_updates: int) -> None:
    """InputError for averages of squares below 0, or counts of another number of updates."""
    for name, tensor in tensors.items():
        kind = name.split(".", 2)[2]
        if kind == SQUARES and not (tensor >= 0).all():
            raise InputError(f"{what}: {name} is an average of squares, but below 0")
        if kind == STEP_COUNT and tensor.item() != n_updates:
            raise InputError(f"{what}: {name} is {tensor.item():g}, after {n_updates} updates")
