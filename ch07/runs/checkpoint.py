"""A training run on disk, and back: weights, optimizer and place, whole or not at all.

The one idea: a checkpoint is a folder that is written under another name and then renamed. The
last two are kept; each file's hash stands in state.json, which is sealed with its own, and one
that doesn't match is passed over for the one before. Schedule and random streams need no place of
their own: learning rate, order and dropout follow from seed, epoch and step, so the place in the
epoch is all that is kept. The run's config stands in it too, as a second copy.
"""

import os
import re
import shutil
from dataclasses import asdict, fields
from typing import get_origin

import torch
from safetensors import SafetensorError

from ch07.utils.atomic_files import (
    fsync_folder,
    read_json_with_checksum,
    read_tensors,
    sha256_of,
    write_json_with_checksum,
    write_tensors,
)
from ch07.utils.distributed import (
    all_ranks_or_raise,
    get_rank,
    get_world_size,
    is_sharded,
    run_on_rank0,
)
from ch07.utils.validation import check_size
from train_loop import TrainState

KEPT = 2
SHARD = re.compile(r"shard-\d+-model-\d+-of-\d+")  # what torch.distributed.checkpoint writes


class CheckpointError(RuntimeError):
    """No checkpoint here can be used; the message says why."""


def save_checkpoint(folder, model, optimizer, state, config=None):
    """Write `folder`/step-N (what is trained, optimizer, state, config); the last two are kept.

    CheckpointError, and nothing is written, if a number is not finite. OSError, as from a full
    disk, leaves the checkpoints that were there. Every rank calls it; a model whose weights are
    spread over the ranks is written by all of them, any other by the first.
    """
    tensors = {
        "model": {name: p.detach() for name, p in _trained(model).items()},
        "optimizer": _optimizer_tensors(optimizer),
    }
    _check_finite(tensors)
    final = folder / f"step-{state.step:08d}"
    new = folder / f".new-{final.name}"
    run_on_rank0(lambda: _make_room(folder, new))
    try:
        if is_sharded(model):
            from ch07.runs.sharded_checkpoint import (  # half a second, for few
                fsync_shards,
                write_sharded_tensors,
            )

            write_sharded_tensors(new, tensors["model"] | tensors["optimizer"])
            hashes = run_on_rank0(lambda: _hashes(new, fsync_shards(new, get_world_size())))
        else:
            hashes = run_on_rank0(lambda: _write_whole(new, tensors))
        content = {"sha256": hashes, "state": asdict(state), "config": config}
        run_on_rank0(lambda: _finish(final, new, content))
    except OSError:
        if get_rank() == 0:
            shutil.rmtree(new, ignore_errors=True)  # a full disk needs the room
        raise


def _write_whole(new, tensors):
    return {n: write_tensors(new / f"{n}.safetensors", part) for n, part in tensors.items()}


def _hashes(new, names):
    return {name: sha256_of(new / f"{name}.safetensors") for name in names}


def _make_room(folder, new):
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".new-*"):  # by a crash
        _remove(left)
    new.mkdir()


def _finish(final, new, content):
    """state.json in `new`, which then becomes `final`; older ones are thinned out."""
    folder = final.parent
    write_json_with_checksum(new / "state.json", content)
    fsync_folder(new)
    for place in _newest_first(folder):
        if place.name >= final.name:  # this step again, or a damaged one that was passed over
            shutil.rmtree(place)
    if final.is_symlink():
        final.unlink()
    os.replace(new, final)
    fsync_folder(folder)
    _thin_out(folder, final)


def _thin_out(folder, final):
    """Keep the last two that are whole; of the older ones, a damaged one is no checkpoint."""
    older = [place for place in _newest_first(folder) if place.name < final.name]
    whole = [place for place in older if _verified(place)[0] is None][: KEPT - 1]
    for place in older:
        if place not in whole:
            shutil.rmtree(place)


def load_checkpoint(folder, model, optimizer):
    """Put the newest whole checkpoint into model and optimizer.

    Returns its `TrainState` and a list of what was wrong with newer ones; None if there is no
    checkpoint at all. CheckpointError if none is whole.
    """
    place, content, problems = run_on_rank0(lambda: newest_whole(folder))  # the same on all ranks
    if place is None:
        if problems:
            raise CheckpointError(f"{folder}: no checkpoint is whole ({'; '.join(problems)})")
        return None, []
    if "model" in content["sha256"] and not is_sharded(model):
        files = [place / f"{name}.safetensors" for name in ("model", "optimizer")]
        weights, moments = all_ranks_or_raise(lambda: list(map(_tensors, files)))
    else:
        from ch07.runs.sharded_checkpoint import read_sharded_tensors

        counted = [[p for g in one.param_groups for p in g["params"]] for one in _parts(optimizer)]
        params = dict(model.named_parameters())
        weights, moments = read_sharded_tensors(place, params, counted, is_sharded(model))
    load_parameters(model, weights)
    _load_optimizer(optimizer, moments)
    return TrainState(**content["state"]), problems


def newest_whole(folder):
    """(its folder, its state.json, what is wrong with newer ones); None, None if there is none."""
    problems = []
    for place in _newest_first(folder):
        problem, content = _verified(place)
        if problem is None:
            return place, content, problems
        problems.append(f"{place.name}: {problem}")
    return None, None, problems


def _remove(place):
    """A folder with all that is in it; of a link the link alone, never what it leads to."""
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink()


def load_parameters(model, tensors):
    """Copy tensors into what is trained; ValueError lists what is missing, extra or misshapen."""
    params = _trained(model)
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
    """(None, what state.json holds) if all files are as they were written, else (problem, None)."""
    try:
        check_size(place / "state.json")
        content = {"config": None} | read_json_with_checksum(place / "state.json")
        names = set(content["sha256"])
        if names != {"model", "optimizer"} and not all(map(SHARD.fullmatch, names or [""])):
            raise ValueError(f"its files are {sorted(names)}")
        for name in names:
            file = place / f"{name}.safetensors"
            if not file.is_file() or sha256_of(file) != content["sha256"][name]:
                return f"{name}.safetensors is damaged", None
        _check_state(TrainState(**content["state"]), content["config"])
        return None, content
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return f"{type(error).__name__}: {error}", None


def _tensors(path):
    try:
        return read_tensors(path)
    except SafetensorError as error:  # sealed, but by somebody else than this program
        raise CheckpointError(f"{path} is no safetensors file ({error})") from None


def _check_state(state, config):
    """TypeError unless each part is of the kind that was written."""
    for part in fields(state):
        kind = get_origin(part.type) or part.type  # list[...] -> list
        kinds = (int, float) if kind is float else (kind,)
        if type(getattr(state, part.name)) not in kinds:
            raise TypeError(f"{part.name} is {getattr(state, part.name)!r:.60}")
    if not all(isinstance(record, dict) for record in state.history):
        raise TypeError("history holds more than records")
    if not isinstance(config, dict | None):
        raise TypeError("config is no object")


def _check_finite(tensors):
    for part, by_name in tensors.items():
        for name, tensor in by_name.items():
            if not torch.isfinite(tensor).all():
                raise CheckpointError(
                    f"{part} {name} holds a number that is not finite, so no checkpoint is "
                    "written; try a lower learning rate"
                )


def _trained(model):
    """Parameters by name; an adapter's alone, where the model stands still."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


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
    mine = (p for p in places if re.fullmatch(r"step-\d{8}", p.name) and p.is_dir())
    return sorted((p for p in mine if not p.is_symlink()), reverse=True)
