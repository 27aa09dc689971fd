"""A run that goes on, or is done again: its options from its folder, and a check that all is equal.

The one idea: config.json is enough to do a run again. A second copy of it stands in each
checkpoint, so that a damaged one loses nothing, and an altered one is found.
"""

from pathlib import Path

from ch07.config import FREE_ON_RESUME, FinetuneOptions
from ch07.runs import run_folder as rf
from ch07.runs.checkpoint import load_checkpoint, newest_intact_checkpoint
from ch07.training.job import describe_run
from ch07.utils import distributed
from ch07.utils.atomic_files import write_bytes, write_json
from ch07.utils.errors import OptionError, RunFolderError
from train_loop import TrainState

LAUNCH_FILE = ".launch"  # says which command of torchrun began a run
SOURCE_FLAGS = {"data_sha256": ("data",), "start_sha256": ("model",), "tokenizer": ()}  # of facts


def should_resume(given, resume):
    """Whether there is a run to go on with: asked for, or torchrun has restarted the command.

    OptionError without the folder to look in. Another run in the folder is not gone on with.
    """
    distributed.all_ranks_or_raise(lambda: _check_out(given.get("out"), resume))
    if resume or not distributed.was_restarted():
        return resume
    return distributed.run_on_rank0(lambda: _is_ours(Path(given["out"])))


def _check_out(out, resume):
    if out is None and resume:
        raise OptionError("--resume needs --out RUN, the folder of the run to go on with")
    if out is None and distributed.restarts_allowed():
        raise OptionError("torchrun --max-restarts needs --out RUN, to find the run again")


def mark_launch(folder):
    """Let a restarted command know the folder as its own."""
    if distributed.restarts_allowed():
        write_bytes(folder / LAUNCH_FILE, distributed.launch_id().encode())


def _is_ours(folder):
    marked = (folder / LAUNCH_FILE).is_file() and (folder / rf.CONFIG).is_file()
    return marked and (folder / LAUNCH_FILE).read_bytes() == distributed.launch_id().encode()


def check_same_on_all_ranks(config):
    """ValueError unless all ranks have the same settings, data and first weights."""
    first, *others = distributed.all_gather_list([config])
    for rank, other in enumerate(others, start=1):
        names = [name for name, _, _ in rf.setting_differences(first, other)]
        names = [name for name in names if not name.startswith("facts.versions.")]
        if names:
            distributed.raise_on_one_rank(
                ValueError(f"rank {rank} differs from rank 0 in {', '.join(names)}")
            )


def read_resumable_config(folder, note):
    """config.json of a run to go on with; if it is damaged or missing, the last checkpoint's."""
    folder = Path(folder)
    _, content, _ = newest_intact_checkpoint(folder / rf.CHECKPOINT)
    kept = content and content["config"] and _unsealed(content["config"])
    try:
        config = rf.read_config(folder)
    except RunFolderError as error:
        if not kept:
            raise
        step = content["state"]["step"]
        note(f"{error}; its copy in the checkpoint of step {step} takes its place")
        write_json(folder / rf.CONFIG, kept)
        return rf.read_config(folder)
    began = _unsealed(config)
    if kept and began != kept:
        raise RunFolderError(
            f"{folder / rf.CONFIG} was altered since the run began: "
            + _listed(rf.nested_differences(kept, began))
            + ". Put that right, or delete the file: a copy is in the checkpoint"
        )
    return config


def _unsealed(config):
    """As it was when the run began; a run that has finished may have gone on from a checkpoint."""
    return {key: value for key, value in config.items() if key != "model_sha256"}


def resumed_options(config, given):
    """The options of a run that goes on; OptionError names each that was given otherwise."""
    return _options(merge_resumed_values(_stored_options(config), given), given["out"])


def merge_resumed_values(stored, given):
    """The stored values, and given ones that change no number; OptionError names any other."""
    changed = [
        (name, stored.get(name), value)
        for name, value in given.items()
        if name not in FREE_ON_RESUME and value not in ("auto", stored.get(name))
    ]
    if changed:
        raise OptionError(
            f"{given['out']} can't go on with other settings: {_listed(changed)}. "
            "Leave them out, or start a new run with --like"
        )
    return {**stored, **{name: value for name, value in given.items() if value != "auto"}}


def options_from_run(run, given):
    """The options of another run for a new one; what is given besides takes their place."""
    stored = _stored_options(rf.read_config(run))
    if given.get("method", stored.get("method")) != stored.get("method"):  # its own options go
        stored = {
            name: v for name, v in stored.items() if not name.startswith(("lora_", "prefix_"))
        }
    return _options({**stored, "out": None, **given}, run)


def check_sources(run, options, job, given=()):
    """ValueError if data, first weights or tokenizer aren't those of the run (unless `given`)."""
    stored, now = rf.read_config(run), describe_run(options, job)
    changed = [
        (name, stored["facts"].get(name), now["facts"][name])
        for name, flags in SOURCE_FLAGS.items()
        if stored["facts"].get(name) != now["facts"][name] and not any(f in given for f in flags)
    ]
    if changed:
        raise ValueError(
            f"{run} can't be done again: {_listed(changed)}. If it was changed, start a new "
            "run; if it moved, say where with --data or --model"
        )


def check_data(run, plan):
    """ValueError if a plan has other data than the run."""
    stored = rf.read_config(run)["facts"].get("data_sha256")
    if stored != plan.file.sha256:
        raise ValueError(
            f"{plan.file.path} is not the data of {run}: its data_sha256 was {stored!r}, now "
            f"{plan.file.sha256!r}. If it moved, say where with --data"
        )


def report_differences(run, options, job, note):
    """Say in which settings, and on what machine, a new run differs from the one it is like."""
    stored, now = rf.read_config(run), describe_run(options, job)
    different = rf.setting_differences(stored, now)
    different = [row for row in different if not row[0].startswith("facts.versions.")]
    note(f"like {run}" + (f", but for {_listed(different)}" if different else ", in all settings"))
    report_version_changes(stored, now, note)


def check_unchanged(folder, config, now, note):
    """ValueError names what is different in a run that shall go on, and is now as described."""
    parts = [("facts", name) for name in SOURCE_FLAGS]
    parts += [(part, name) for part in ("settings", "model", "prompt_style") for name in now[part]]
    changed = [
        f"its {name} was {config[part].get(name)!r}, now it is {now[part][name]!r}"
        for part, name in parts
        if config[part].get(name) != now[part][name]
    ]
    if changed:
        raise ValueError(f"{folder} can't go on where it stopped: {'; '.join(changed)}")
    report_version_changes(config, now, note)


def restore_checkpoint(folder, config, model, optimizer, note):
    """Weights, optimizer and place of the last checkpoint; the `TrainState`."""
    state, problems = load_checkpoint(folder / rf.CHECKPOINT, model, optimizer)
    for problem in problems:
        note(f"checkpoint passed over: {problem}")
    if state is None and "model_sha256" in config:
        raise RunFolderError(f"{folder} has finished, and has no checkpoint to go on from")
    if state is None:
        note("no checkpoint yet: starting from the beginning")
        return TrainState()
    note(f"going on from step {state.step}")
    if "model_sha256" in config:
        note(f"{folder} has finished: its answers are made once more")
    return state


def report_version_changes(stored, now, note):
    """Say what else the last bits of a run's numbers may depend on, where that has changed."""
    versions = (config["facts"].get("versions", {}) for config in (stored, now))
    different = rf.nested_differences(*versions)
    if different:
        note(f"the last bits of its numbers may differ: {_listed(different)}")


def _stored_options(config):
    """As they were: "auto" is what it was on the machine where the run began."""
    if "preference" in config:
        raise RunFolderError(
            "this run was trained on pairs: begin anew, or go on, with python -m ch07 prefer"
        )
    return {**config["options"], "dtype": config["settings"].get("dtype")}


def _options(values, folder):
    try:
        return FinetuneOptions(**values)
    except TypeError as error:
        raise RunFolderError(f"{folder}/{rf.CONFIG} was altered: {error}") from None


def _listed(changes):
    return "; ".join(f"{name} was {a!r}, now {b!r}" for name, a, b in changes)
