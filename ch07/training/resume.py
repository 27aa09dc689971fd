"""Resume or repeat a run: read its options from its folder, and check that all else is the same.

The one idea: config.json is enough to repeat a run. Each checkpoint contains a copy of it, so a
damaged one loses nothing, and an altered one is noticed.
"""

import glob
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sized
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ch07.config import (
    MAY_CHANGE_ON_RESUME,
    OPTIONS_OF_OLDER_VERSIONS,
    FinetuneOptions,
    listed,
)
from ch07.data.data_files import TOY_PREFIX
from ch07.data.hub_dataset import HUB_PREFIX
from ch07.data.opened_file import STANDARD_INPUT
from ch07.models.smollm2 import SMOLLM2
from ch07.runs import run_folder
from ch07.runs.checkpoint import load_checkpoint, newest_intact_checkpoint
from ch07.runs.config_differences import nested_differences, setting_differences
from ch07.training.run_plan import RunPlan
from ch07.utils import distributed
from ch07.utils.atomic_files import write_bytes, write_json
from ch07.utils.compute_choice import AVAILABLE_THREADS
from ch07.utils.console import terminal_line
from ch07.utils.errors import InputError, OptionError, RunFolderError
from ch07.utils.validation import MAX_LISTED, MAX_QUOTED_CHARACTERS
from gpt_model import MODEL_SIZES
from train_loop import TrainSettings, TrainState, total_steps

LAUNCH_FILE = ".launch"  # which torchrun command started a run
# Facts that must stay the same, and the flags that say where their source is now.
SOURCE_FLAGS = {
    "data_sha256": ("data",),
    "start_sha256": ("model",),
    "tokenizer": ("rows", "end_of_turn"),  # which may add tokens
}

Config = dict[str, Any]  # the content of config.json
Change = tuple[str, Any, Any]  # name, value then, value now
Report = Callable[[str], None]


# --- is there a run to resume? --------------------------------------------------------------------
def should_resume(given: dict[str, Any], resume: bool) -> bool:
    """Whether to resume a run: on request, or because torchrun has restarted the command.

    OptionError if `out` is missing. A run that another command started isn't resumed.
    """
    distributed.all_ranks_or_raise(lambda: _check_out(given.get("out"), resume))
    if resume or not distributed.was_restarted():
        return resume
    return distributed.run_on_rank0(lambda: _has_same_launch_id(Path(given["out"])))


def _check_out(out: str | None, resume: bool) -> None:
    if out is None and resume:
        raise OptionError("--resume needs --out RUN, the folder of the run to resume")
    if out is None and distributed.restarts_allowed():
        raise OptionError("torchrun --max-restarts needs --out RUN, to find the run again")


def mark_launch(folder: Path) -> None:
    """Let the command recognize the folder as its own after a restart."""
    if distributed.restarts_allowed():
        write_bytes(folder / LAUNCH_FILE, distributed.launch_id().encode())


def _has_same_launch_id(folder: Path) -> bool:
    marked = (folder / LAUNCH_FILE).is_file() and (folder / run_folder.CONFIG).is_file()
    return marked and (folder / LAUNCH_FILE).read_bytes() == distributed.launch_id().encode()


def check_same_on_all_ranks(config: Config) -> None:
    """InputError unless all ranks have the same settings, data and initial weights."""
    first, *others = distributed.all_gather_list([config])
    for rank, other in enumerate(others, start=1):
        names = [name for name, _, _ in setting_differences(first, other)]
        names = [name for name in names if not name.startswith("facts.versions.")]
        if names:
            distributed.raise_on_one_rank(
                InputError(f"rank {rank} differs from rank 0 in {', '.join(names)}")
            )


# --- its config and options -----------------------------------------------------------------------
def read_resumable_config(folder: Path, report: Report) -> Config:
    """config.json of a run to resume; if it is damaged or missing, the last checkpoint's copy."""
    content: dict[str, Any] | None = newest_intact_checkpoint(folder / run_folder.CHECKPOINT)[1]
    copy = None
    if content is not None and content["config"]:
        copy = _without_model_checksum(content["config"])
    try:
        config = run_folder.read_config(folder)
    except RunFolderError as error:
        if content is None or copy is None:
            raise
        step = content["state"]["step"]
        report(f"{error}; using its copy in the checkpoint of step {step}")
        write_json(folder / run_folder.CONFIG, copy)
        return run_folder.read_config(folder)
    if copy is not None and copy != _without_model_checksum(config):
        raise RunFolderError(
            f"{folder / run_folder.CONFIG} was altered since the run started: "
            + _list_changes(nested_differences(copy, _without_model_checksum(config)))
            + ". Undo that, or delete the file: a copy is in the checkpoint"
        )
    return config


def _without_model_checksum(config: Config) -> Config:
    """The config without what a finished run adds, since it may be resumed from a checkpoint."""
    return {key: value for key, value in config.items() if key != "model_sha256"}


def resumed_options(config: Config, given: dict[str, Any]) -> FinetuneOptions:
    """The options of a resumed run; OptionError names each that is given differently now."""
    return _options(merge_resumed_values(_stored_options(config), given), given["out"])


def check_sources_exist(
    out: str, model: str, data: str | list[str] | None, how: Mapping[str, str]
) -> None:
    """OptionError if what a run started from is no longer where its config says.

    A path may be relative to the folder in which the run was started. `how` says for "model" and
    "data" how to name another place.
    """
    missing = []
    if model not in (*MODEL_SIZES, SMOLLM2) and not Path(model).exists():
        missing.append(f"the model {model}: if it moved, say where with {how['model']}")
    for path in listed(data):
        is_named = path == STANDARD_INPUT or path.startswith((HUB_PREFIX, TOY_PREFIX))
        if not (is_named or glob.has_magic(path) or Path(path).exists()):
            missing.append(f"the data {path}: if it moved, say where with {how['data']}")
    if missing:
        raise RunFolderError(
            f"{out} can't be resumed here, because this is missing (paths are relative to "
            f"{Path.cwd()}):" + "".join(f"\n  {line}" for line in missing)
        )


def merge_resumed_values(stored: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The stored values, and given ones that change no number; OptionError names any other."""
    changed = [
        (name, stored.get(name), value)
        for name, value in given.items()
        if name not in MAY_CHANGE_ON_RESUME and value not in ("auto", stored.get(name))
    ]
    if changed:
        raise OptionError(
            f"{given['out']} can't be resumed with other settings: {_list_changes(changed)}. "
            "Leave them out, or start a new run"
        )
    return {**stored, **{name: value for name, value in given.items() if value != "auto"}}


def options_from_run(run: Path | str, given: dict[str, Any]) -> FinetuneOptions:
    """The options of another run for a new one; options in `given` replace them."""
    stored = _stored_options(run_folder.read_config(run))
    if given.get("method", stored.get("method")) != stored.get("method"):
        # the options of the stored method don't apply to another one
        stored = {
            name: value
            for name, value in stored.items()
            if not name.startswith(("lora_", "prefix_"))
        }
    return _options({**stored, "out": None, **given}, run)


def _stored_options(config: Config) -> dict[str, Any]:
    """The stored options, with number format and threads as they were when the run started.

    Another machine may have fewer cores; there, the number of threads is chosen again.
    """
    if "preference" in config:
        raise RunFolderError(
            "this run was trained on pairs: start or resume such a run with python -m ch07 prefer"
        )
    threads = config["facts"].get("versions", {}).get("threads")
    if threads is None or threads > AVAILABLE_THREADS:
        threads = None
    return {
        **OPTIONS_OF_OLDER_VERSIONS,
        **config["options"],
        "dtype": config["settings"].get("dtype", "auto"),
        "threads": threads,
    }


def _options(values: dict[str, Any], folder: Path | str) -> FinetuneOptions:
    try:
        return FinetuneOptions(**values)
    except TypeError as error:
        raise RunFolderError(f"{folder}/{run_folder.CONFIG} was altered: {error}") from None


# --- is everything as it was? ---------------------------------------------------------------------
def check_sources(run: Path | str, config: Config, given: Collection[str] = ()) -> None:
    """ValueError if data, initial weights or tokenizer in `config` aren't those of the run.

    A source that is named in `given` may differ.
    """
    stored = run_folder.read_config(run)
    changed = [
        (name, stored["facts"].get(name), config["facts"][name])
        for name, flags in SOURCE_FLAGS.items()
        if stored["facts"].get(name) != config["facts"][name]
        and not any(flag in given for flag in flags)
    ]
    if changed:
        raise InputError(
            f"{run} can't be repeated: {_list_changes(changed)}. If it was changed, start a new "
            "run; if it moved, say where with --data or --model"
        )


def check_data(run: Path | str, plan: RunPlan) -> None:
    """ValueError if a plan has other data than the run."""
    stored = run_folder.read_config(run)["facts"].get("data_sha256")
    file = plan.rows.file
    if stored != file.sha256:
        raise InputError(
            f"{file.path} is not the data of {run}: its data_sha256 was {stored!r}, now "
            f"{file.sha256!r}. If it moved, say where with --data"
        )


def check_unchanged(folder: Path | str, stored: Config, config: Config, report: Report) -> None:
    """ValueError names what is different between a run to resume and the same run set up now."""
    parts = [("facts", name) for name in SOURCE_FLAGS]
    for part in ("settings", "model", "prompt_style"):
        parts += [(part, name) for name in config[part]]
    changed = [
        f"its {name} was {_shown(stored[part].get(name))}, now it is {_shown(config[part][name])}"
        for part, name in parts
        if stored[part].get(name) != config[part][name]
    ]
    if changed:
        raise InputError(f"{folder} can't be resumed: {'; '.join(changed)}")
    report_version_changes(stored, config, report)


def report_differences(run: Path | str, config: Config, report: Report) -> None:
    """Report in which settings, and on what machine, a new run differs from the one it repeats."""
    stored = run_folder.read_config(run)
    changes = [
        change
        for change in setting_differences(stored, config)
        if not change[0].startswith("facts.versions.")
    ]
    report(f"like {run}" + (f", except {_list_changes(changes)}" if changes else ""))
    report_version_changes(stored, config, report)


def report_version_changes(stored: Config, config: Config, report: Report) -> None:
    """Report what else the last bits of a run's numbers may depend on, where that has changed."""
    changes = nested_differences(
        stored["facts"].get("versions", {}), config["facts"].get("versions", {})
    )
    if changes:
        report(f"the last bits of its numbers may differ: {_list_changes(changes)}")


def _list_changes(changes: Iterable[Change]) -> str:
    lines = [
        f"{terminal_line(name)} was {_shown(then)}, now {_shown(now)}"
        for name, then, now in changes
    ]
    rest = [f"and {len(lines) - MAX_LISTED} more"] if len(lines) > MAX_LISTED else []
    return "; ".join(lines[:MAX_LISTED] + rest)


def _shown(value: Any) -> str:
    """A value from a config as a message shows it: shortened if it is long."""
    return terminal_line(repr(value), MAX_QUOTED_CHARACTERS)


# --- its checkpoint -------------------------------------------------------------------------------
def restore_checkpoint(
    folder: Path,
    config: Config,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    train_loader: Sized,
    settings: TrainSettings,
    report: Report,
) -> TrainState:
    """Load weights and optimizer from the last checkpoint; the `TrainState` to resume from.

    RunFolderError for a position that these batches and settings don't lead to.
    """
    state, problems = load_checkpoint(folder / run_folder.CHECKPOINT, model, optimizer)
    if state is not None:
        _check_position(folder, state, train_loader, settings)
        _check_tokens_counted(folder, state, config)
    for problem in problems:
        report(f"checkpoint skipped: {problem}")
    if state is None and "model_sha256" in config:
        raise RunFolderError(f"{folder} has finished, and has no checkpoint to resume from")
    if state is None:
        report("no checkpoint yet: starting from the beginning")
        return TrainState()
    report(f"resuming from step {state.step}")
    if "model_sha256" in config:
        report(f"{folder} has finished: its answers are generated again")
    return state


def _check_position(
    folder: Path, state: TrainState, train_loader: Sized, settings: TrainSettings
) -> None:
    """RunFolderError unless step, epoch and batch say the same, and are within the run."""
    n_batches = len(train_loader)
    steps_per_epoch = math.ceil(n_batches / settings.accumulation_steps)
    steps_of_epoch = math.ceil(state.batch / settings.accumulation_steps)
    n_steps = total_steps(train_loader, settings)
    is_possible = (
        state.step == state.epoch * steps_per_epoch + steps_of_epoch
        and state.batch <= n_batches
        and state.step <= n_steps
    )
    if not is_possible:
        raise RunFolderError(
            f"{folder}: the checkpoint says step {state.step}, epoch {state.epoch} and batch "
            f"{state.batch}, but the run has {n_steps} steps, {steps_per_epoch} per epoch: "
            "start a new run"
        )


def _check_tokens_counted(folder: Path, state: TrainState, config: Config) -> None:
    """RunFolderError for a record without the tokens seen; only runs on pairs don't count them."""
    counted = [record["tokens_seen"] is not None for record in state.history]
    if "preference" not in config and not all(counted):
        raise RunFolderError(f"{folder}: tokens_seen is missing in a record of the checkpoint")
