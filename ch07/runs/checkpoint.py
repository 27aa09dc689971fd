"""Checkpoints of a training run: weights, optimizer and position, complete or not there at all.

A checkpoint is a folder that is written under a temporary name and then renamed. The last two are
kept. state.json holds a checksum of every file and one of itself; a checkpoint that doesn't match
is skipped in favour of the one before. Learning rate, data order and dropout follow from seed,
epoch and step, so neither the schedule nor any random generator has to be stored, only the position
in the epoch. A copy of the run's config is stored as well.
"""

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from ch07.runs.checkpoint_checks import (
    ADAMW_STATE,
    STEP_COUNT,
    Tensors,
    check_config_copy,
    check_numbers,
    check_optimizer_state,
    check_shapes,
    read_state,
)
from ch07.utils.atomic_files import (
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
from ch07.utils.errors import InputError, UserError
from ch07.utils.publication import fsync_folder
from ch07.utils.validation import quote
from train_loop import TrainState

CHECKPOINTS_KEPT = 2
FOLDER_NAME = re.compile(r"step-\d{8}")
STATE_FILE = "state.json"
PARTS = ("model", "optimizer")  # the safetensors files of an unsharded checkpoint
# Names that torch.distributed.checkpoint gives to the files of a sharded one:
SHARD_NAME = re.compile(r"shard-\d+-model-\d+-of-\d+")


class CheckpointError(UserError, RuntimeError):
    """No checkpoint here can be used; the message says why."""


class FoundCheckpoint(NamedTuple):
    """The newest intact checkpoint; folder and content are None if there is none."""

    folder: Path | None
    content: dict[str, Any] | None  # of its state.json
    problems: list[str]  # what is wrong with each newer one


# --- write --------------------------------------------------------------------------------------
def save_checkpoint(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: TrainState,
    *,
    config: dict[str, Any] | None = None,
) -> None:
    """Write `folder`/step-N: what is trained, optimizer, state and config; keep the last two.

    Every rank calls it: a sharded model is written by all ranks, any other by rank 0. If a number
    isn't finite, CheckpointError is raised and nothing is written. An OSError, as from a full disk,
    leaves the older checkpoints as they were.
    """
    tensors = {
        "model": {name: p.detach() for name, p in _trained_parameters(model).items()},
        "optimizer": _optimizer_tensors(optimizer),
    }
    _check_finite(tensors)
    final = folder / f"step-{state.step:08d}"
    temporary = folder / f".new-{final.name}"
    run_on_rank0(lambda: _make_empty_folder(temporary))
    try:
        checksums = _write_tensors(temporary, tensors, sharded=is_sharded(model))
        content = {"sha256": checksums, "state": asdict(state), "config": config}
        run_on_rank0(lambda: _publish(final, temporary, content))
    except OSError:
        if get_rank() == 0:
            shutil.rmtree(temporary, ignore_errors=True)  # a full disk needs the space
        raise


def _write_tensors(folder: Path, tensors: Mapping[str, Tensors], *, sharded: bool) -> Any:
    """Write all tensors; return each file's sha256 by the file's name without its suffix."""
    if not sharded:
        return run_on_rank0(lambda: _write_unsharded(folder, tensors))
    # Imported here since it takes half a second, and few runs need it.
    from ch07.runs.sharded_checkpoint import fsync_shards, write_sharded_tensors

    write_sharded_tensors(folder, {**tensors["model"], **tensors["optimizer"]})
    return run_on_rank0(lambda: _checksums(folder, fsync_shards(folder, get_world_size())))


def _write_unsharded(folder: Path, tensors: Mapping[str, Tensors]) -> dict[str, str]:
    return {part: write_tensors(_tensor_file(folder, part), tensors[part]) for part in PARTS}


def _checksums(folder: Path, names: list[str]) -> dict[str, str]:
    return {name: sha256_of(_tensor_file(folder, name)) for name in names}


def _tensor_file(folder: Path, name: str) -> Path:
    return folder / f"{name}.safetensors"


def _make_empty_folder(temporary: Path) -> None:
    """Create it, after removing what a crash may have left under such a name."""
    temporary.parent.mkdir(parents=True, exist_ok=True)
    for leftover in temporary.parent.glob(".new-*"):
        _remove(leftover)
    temporary.mkdir()


def _publish(final: Path, temporary: Path, content: dict[str, Any]) -> None:
    """Write state.json, rename the folder to its final name, and delete older checkpoints."""
    folder = final.parent
    write_json_with_checksum(temporary / STATE_FILE, content)
    fsync_folder(temporary)
    for other in _newest_first(folder):
        if other.name >= final.name:  # this step once more, or a damaged one that was skipped
            shutil.rmtree(other)
    if final.is_symlink():
        final.unlink()
    os.replace(temporary, final)
    fsync_folder(folder)
    _delete_older(folder, final)


def _delete_older(folder: Path, final: Path) -> None:
    """Keep the last two intact checkpoints; a damaged one doesn't count."""
    older = [other for other in _newest_first(folder) if other.name < final.name]
    intact = [other for other in older if _verify(other)[0] is None]
    for other in older:
        if other not in intact[: CHECKPOINTS_KEPT - 1]:
            shutil.rmtree(other)


def _remove(path: Path) -> None:
    """Delete a file, a folder with everything in it, or a link but not what it points to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


# --- read ---------------------------------------------------------------------------------------
def load_checkpoint(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[TrainState | None, list[str]]:
    """Load the newest intact checkpoint into model and optimizer.

    Returns its state and a list of what is wrong with newer ones; the state is None if there is no
    checkpoint at all. CheckpointError if there are some, but none is intact.
    """
    # rank 0 decides, so that all ranks load the same one
    checkpoint, content, problems = run_on_rank0(lambda: newest_intact_checkpoint(folder))
    if checkpoint is None or content is None:
        if problems:
            raise CheckpointError(f"{folder}: no checkpoint is intact ({'; '.join(problems)})")
        return None, []
    state = read_state(content["state"])
    expected = _expected_tensors(model, optimizer)
    if "model" in content["sha256"] and not is_sharded(model):
        tensors = all_ranks_or_raise(lambda: _read_unsharded(checkpoint, expected, state))
    else:
        tensors = _read_sharded(checkpoint, expected, state, on_all_ranks=is_sharded(model))
    for name, p in _trained_parameters(model).items():
        p.data.copy_(tensors["model"][name])
    _load_optimizer(optimizer, tensors["optimizer"])
    return state, problems


def newest_intact_checkpoint(folder: Path) -> FoundCheckpoint:
    """Find the newest checkpoint whose files are all as they were written."""
    problems = []
    for checkpoint in _newest_first(folder):
        problem, content = _verify(checkpoint)
        if problem is None:
            return FoundCheckpoint(checkpoint, content, problems)
        problems.append(f"{checkpoint.name}: {problem}")
    return FoundCheckpoint(None, None, problems)


def _newest_first(folder: Path) -> list[Path]:
    paths = folder.iterdir() if folder.is_dir() else []
    ours = [p for p in paths if FOLDER_NAME.fullmatch(p.name) and p.is_dir()]
    return sorted((p for p in ours if not p.is_symlink()), reverse=True)


def _verify(checkpoint: Path) -> tuple[str | None, dict[str, Any] | None]:
    """(None, content of state.json) if all files are as they were written, else (problem, None)."""
    try:
        content: dict[str, Any] = {
            "config": None,
            **read_json_with_checksum(checkpoint / STATE_FILE),
        }
        _check_files(checkpoint, content["sha256"])
        state = read_state(content["state"])
        if f"step-{state.step:08d}" != checkpoint.name:
            raise InputError(f"{STATE_FILE} is that of step {state.step}")
        check_config_copy(content["config"])
        return None, content
    except (OSError, UserError) as error:
        return str(error), None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return f"{STATE_FILE} can't be used ({type(error).__name__}: {error})", None


def _check_files(checkpoint: Path, checksums: Mapping[str, str]) -> None:
    """InputError unless the tensors' files are those of a checkpoint, as they were written."""
    names = set(checksums)
    if names != set(PARTS) and not _are_shards(names):
        raise InputError(f"its files are {quote(', '.join(sorted(names)))}")
    present = {file.stem for file in checkpoint.glob("*.safetensors")}
    if not present <= names:  # a shard that nobody wrote would be read with the others
        raise InputError(f"it holds another file, {quote(min(present - names))}")
    for name in names:
        file = _tensor_file(checkpoint, name)
        if not file.is_file() or sha256_of(file, must_fit=True) != checksums[name]:
            raise InputError(f"{file.name} is damaged")
        try:
            with safe_open(file, "pt"):
                pass
        except SafetensorError as error:  # its checksum is right, but another program wrote it
            raise InputError(f"{file.name} is not a safetensors file ({error})") from None


def _are_shards(names: set[str]) -> bool:
    return bool(names) and all(SHARD_NAME.fullmatch(name) for name in names)


def _read_unsharded(
    checkpoint: Path, expected: Mapping[str, Tensors], state: TrainState
) -> dict[str, Tensors]:
    """The tensors of each of `PARTS` by name; InputError unless they are those of this run."""
    shapes: dict[str, dict[str, list[int]]] = {}
    for part in PARTS:
        with safe_open(_tensor_file(checkpoint, part), "pt") as file:
            stored = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        shapes[part] = _without_compiler_prefix(stored)
    _check_shapes(checkpoint, shapes, expected, state)
    tensors: dict[str, Tensors] = {
        part: _without_compiler_prefix(read_tensors(_tensor_file(checkpoint, part)))
        for part in PARTS
    }
    _check_numbers(checkpoint, tensors, expected, state)
    return tensors


def _read_sharded(
    checkpoint: Path, expected: Mapping[str, Tensors], state: TrainState, *, on_all_ranks: bool
) -> dict[str, Tensors]:
    """The same from any number of files, what belongs to a sharded parameter as shards."""
    from ch07.runs.sharded_checkpoint import read_sharded_tensors, stored_shapes

    shapes: dict[str, dict[str, tuple[int, ...]]] = {part: {} for part in PARTS}
    for name, shape in stored_shapes(checkpoint).items():
        shapes[_part_of(name)][name] = shape
    _check_shapes(checkpoint, shapes, expected, state)
    found = {**expected["model"], **expected["optimizer"]}
    found = {name: like for name, like in found.items() if name in shapes[_part_of(name)]}
    tensors: dict[str, dict[str, torch.Tensor]] = {part: {} for part in PARTS}
    for name, tensor in read_sharded_tensors(checkpoint, found, on_all_ranks=on_all_ranks).items():
        tensors[_part_of(name)][name] = tensor
    _check_numbers(checkpoint, tensors, expected, state)
    return dict(tensors)


def _part_of(name: str) -> str:
    """Which of `PARTS` a tensor belongs to: names of optimizer state begin with a number."""
    return "optimizer" if name[:1].isdigit() else "model"


def _without_compiler_prefix(by_name: Mapping[str, Any]) -> dict[str, Any]:
    """The same by the names that the model has without torch.compile."""
    return {name.removeprefix("_orig_mod."): value for name, value in by_name.items()}


def _check_shapes(
    checkpoint: Path, shapes: Mapping[str, Any], expected: Mapping[str, Tensors], state: TrainState
) -> None:
    for part in PARTS:
        # before the first update, an optimizer has no state
        complete = part == "model" or _n_updates(state) > 0
        check_shapes(_misfit(checkpoint, part), shapes[part], expected[part], complete=complete)


def _check_numbers(
    checkpoint: Path,
    tensors: Mapping[str, Tensors],
    expected: Mapping[str, Tensors],
    state: TrainState,
) -> None:
    for part in PARTS:
        check_numbers(_misfit(checkpoint, part), tensors[part], expected[part])
    what = _misfit(checkpoint, "optimizer")
    check_optimizer_state(what, tensors["optimizer"], _n_updates(state))


def _misfit(checkpoint: Path, part: str) -> str:
    return f"{checkpoint} can't be resumed: its {part} doesn't fit this run"


def _n_updates(state: TrainState) -> int:
    return state.step - state.skipped


def _check_finite(tensors: Mapping[str, Tensors]) -> None:
    for part, by_name in tensors.items():
        for name, tensor in by_name.items():
            if not torch.isfinite(tensor).all():
                raise CheckpointError(
                    f"{part} {name} holds a number that is not finite, so no checkpoint is "
                    "written; try a lower learning rate"
                )


# --- model and optimizer as named tensors -------------------------------------------------------
def _trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters by name; if the model is frozen behind an adapter, the adapter's only."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def _optimizer_parts(optimizer: torch.optim.Optimizer) -> list[torch.optim.Optimizer]:
    """The optimizers that an optimizer combines, as with Muon; else a list of only itself."""
    return getattr(optimizer, "parts", [optimizer])


def _optimized_parameters(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _expected_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensors]:
    """For each of `PARTS` what a checkpoint holds, by name: tensors of the right shape and type."""
    moments: dict[str, torch.Tensor] = {}
    for part, one in enumerate(_optimizer_parts(optimizer)):
        is_adamw = isinstance(one, torch.optim.AdamW)
        kinds = ADAMW_STATE if is_adamw else getattr(one, "state_kinds", ())
        for i, p in enumerate(_optimized_parameters(one)):
            for kind in kinds:
                is_count = kind == STEP_COUNT
                moments[f"{part}.{i}.{kind}"] = torch.zeros(()) if is_count else p.detach()
    weights = {name: p.detach() for name, p in _trained_parameters(model).items()}
    return {"model": weights, "optimizer": moments}


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Its state as tensors, named "PART.PARAMETER.KIND", as in "0.12.exp_avg"."""
    return {
        f"{part}.{i}.{kind}": value
        for part, one in enumerate(_optimizer_parts(optimizer))
        for i, row in one.state_dict()["state"].items()
        for kind, value in row.items()
    }


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: Tensors) -> None:
    for part, one in enumerate(_optimizer_parts(optimizer)):
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in tensors.items():
            number, i, kind = name.split(".", 2)
            if int(number) == part:
                state.setdefault(int(i), {})[kind] = value
        groups = one.state_dict()["param_groups"]
        one.load_state_dict({"state": state, "param_groups": groups})
