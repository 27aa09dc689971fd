"""A training run on disk, and back: weights, optimizer and place, whole or not at all.

The one idea: a checkpoint is a folder that is written under another name and then renamed. The
last two are kept; each file's hash stands in state.json, and one that doesn't match is passed
over for the one before. Random streams need no place in it: order and dropout follow from seed,
epoch and step.
"""

import os
import re
import shutil
from dataclasses import asdict

from ch07.files import read_json, read_tensors, sha256_of, write_json, write_tensors
from train_loop import TrainState

KEPT = 2


class CheckpointError(RuntimeError):
    """No checkpoint here can be used; the message says why."""


def save_checkpoint(folder, model, optimizer, state):
    """Write `folder`/step-N (model, optimizer, state) and delete all but the last two."""
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step-{state.step:08d}"
    new = folder / f".new-{final.name}"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    hashes = {
        "model": write_tensors(new / "model.safetensors", dict(model.named_parameters())),
        "optimizer": write_tensors(new / "optimizer.safetensors", _optimizer_tensors(optimizer)),
    }
    write_json(new / "state.json", {"sha256": hashes, "state": asdict(state)})
    _flush_folder(new)
    for place in _newest_first(folder):
        if place.name >= final.name:  # this step again, or one that was damaged and passed over
            shutil.rmtree(place)
    os.replace(new, final)
    _flush_folder(folder)
    for old in [*_newest_first(folder)[KEPT:], *folder.glob(".new-*")]:  # or left by a crash
        shutil.rmtree(old)


def load_checkpoint(folder, model, optimizer):
    """Put the newest whole checkpoint into model and optimizer.

    Returns its `TrainState` and a list of what was wrong with newer ones; None if there is no
    checkpoint at all. CheckpointError if none is whole.
    """
    problems = []
    for place in _newest_first(folder):
        problem, state = _verified(place)
        if problem is None:
            load_parameters(model, read_tensors(place / "model.safetensors"))
            _load_optimizer(optimizer, read_tensors(place / "optimizer.safetensors"))
            return state, problems
        problems.append(f"{place.name}: {problem}")
    if problems:
        raise CheckpointError(f"{folder}: no checkpoint is whole ({'; '.join(problems)})")
    return None, []


def load_parameters(model, tensors):
    """Copy tensors into a model; ValueError lists every missing, extra or wrongly shaped one."""
    params = dict(model.named_parameters())
    # torch.compile puts its own word before each name
    tensors = {name.removeprefix("_orig_mod."): value for name, value in tensors.items()}
    wrong = [f"{name} is missing" for name in params if name not in tensors]
    wrong += [f"{name} is not known" for name in tensors if name not in params]
    wrong += [
        f"{name} has shape {tuple(tensors[name].shape)}, expected {tuple(p.shape)}"
        for name, p in params.items()
        if name in tensors and tensors[name].shape != p.shape
    ]
    if wrong:
        raise ValueError("the weights don't fit this model: " + "; ".join(wrong))
    for name, p in params.items():
        p.data.copy_(tensors[name])


def _verified(place):
    """(None, the state) if all files are as they were written, else (problem, None)."""
    try:
        content = read_json(place / "state.json")
        for name in ("model", "optimizer"):
            if sha256_of(place / f"{name}.safetensors") != content["sha256"][name]:
                return f"{name}.safetensors is damaged", None
        return None, TrainState(**content["state"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{type(error).__name__}: {error}", None


def _parts(optimizer):
    """The optimizers that an optimizer is made of; most are made of themselves."""
    return getattr(optimizer, "parts", [optimizer])


def _optimizer_tensors(optimizer):
    return {
        f"{part}.{i}.{name}": value
        for part, one in enumerate(_parts(optimizer))
        for i, row in one.state_dict()["state"].items()
        for name, value in row.items()
    }


def _load_optimizer(optimizer, tensors):
    for part, one in enumerate(_parts(optimizer)):
        state = {}
        for name, value in tensors.items():
            number, i, kind = name.split(".", 2)
            if int(number) == part:
                state.setdefault(int(i), {})[kind] = value
        groups = one.state_dict()["param_groups"]
        one.load_state_dict({"state": state, "param_groups": groups})


def _newest_first(folder):
    places = folder.iterdir() if folder.is_dir() else []
    return sorted((p for p in places if re.fullmatch(r"step-\d{8}", p.name)), reverse=True)


def _flush_folder(folder):
    """Make a rename survive a power cut; Windows can't open folders, and needs no such thing."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
