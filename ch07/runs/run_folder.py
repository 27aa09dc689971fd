"""The folder of a run: its file names, config.json, the metrics, and the run's checksum.

config.json holds everything that made the run, including the text of the prompt style, so that a
loaded model is prompted exactly as it was trained. No model is built here.
"""

import hashlib
import json
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from ch07.config import MAX_COUNT, FinetuneOptions
from ch07.utils.atomic_files import read_json, sha256_of, write_json, write_jsonl
from ch07.utils.console import shell_path
from ch07.utils.errors import InputError, RunFolderError
from ch07.utils.plain_files import read_plain
from ch07.utils.validation import (
    MAX_CONFIG_BYTES,
    a_type,
    check_field_types,
    has_lone_surrogate,
    quote,
    runtime_types,
)
from instruction_dataset import PromptStyle
from train_loop import TrainSettings

CONFIG = "config.json"
MODEL = "model.safetensors"
METRICS = "metrics.jsonl"
SAMPLES = "samples.jsonl"  # see `ch07.runs.samples`
PLOT = "loss.png"
RESPONSES = "responses.json"
SCORES = "scores.json"
CHECKPOINT = "checkpoint"  # a folder
WATCH = "watch.html"  # with --watch: the page that follows the run
EVENTS = "tensorboard"  # with --log tensorboard: a folder
ADAPTER = "adapter"  # a folder in peft's format, if an adapter was trained
ADAPTER_WEIGHTS = "adapter_model.safetensors"  # in that folder

# A larger value is a fault: such a model would take forever to build, or overflow.
MAX_MODEL_SIZES = {
    "n_layers": 1000,
    "n_heads": 10**6,
    "n_kv_heads": 10**6,
    "emb_dim": 10**6,
    "hidden_dim": 10**7,
    "vocab_size": 10**8,
    "context_length": 10**8,
}
MAX_MODEL_NUMBERS = {"drop_rate": 1.0, "norm_eps": 1.0, "rope_theta": 1e12}  # at least 0
MAX_METRIC = 1e15  # a larger loss or token count was never written by a run
METRIC_FIELDS = ("epoch", "tokens_seen", "lr", "train_loss", "val_loss", "seconds")
NEVER_NULL = ("step", "epoch", "lr", "seconds", "train_loss")  # in any record
GROWING = ("step", "epoch", "tokens_seen", "seconds")  # from record to record
FACT_TYPES: dict[str, tuple[type, ...]] = {
    "conversations": (dict, type(None)),
    "data_sha256": (str,),
    "start_sha256": (str, type(None)),  # None: random weights
    "rows": (dict,),
    "findings": (list,),
    "tokenizer": (str,),
    "versions": (dict,),
}

Config = dict[str, Any]  # what config.json holds


# --- config.json --------------------------------------------------------------------------------
def read_finished_config(folder: str | Path) -> Config:
    """config.json of a finished run; RunFolderError if it didn't finish or was altered since."""
    folder = Path(folder)
    config = read_config(folder)
    try:
        _check_model(config["model"])
    except (TypeError, ValueError, RecursionError) as error:
        raise RunFolderError(f"{folder} can't be loaded: {error}") from None
    if not (folder / MODEL).is_file() or "model_sha256" not in config:
        raise RunFolderError(
            f"{folder} has no complete {MODEL}: the run has not finished. "
            f"Resume it with: {resume_command(folder)}"
        )
    digest = sha256_of(folder / MODEL, must_fit=True)
    if config["options"].get("method", "full") != "full":
        adapter = folder / ADAPTER / ADAPTER_WEIGHTS
        if not adapter.is_file():
            raise RunFolderError(
                f"{folder} has no {ADAPTER}/{ADAPTER_WEIGHTS}: the copy is incomplete"
            )
        digest += sha256_of(adapter, must_fit=True)
    if model_checksum(config, digest) != config.get("model_sha256"):
        raise RunFolderError(
            f"{folder / MODEL}, or model and prompt_style in {CONFIG}, are not what the run wrote: "
            "they were altered, or the copy is incomplete"
        )
    return config


def has_prefix(config: Config) -> bool:
    """Whether a run learned a prefix, so that its weights are still those of its base model."""
    return config["options"].get("method") == "prefix"


def read_config(folder: str | Path) -> Config:
    """config.json of a run folder; RunFolderError if there is none or it can't be read."""
    path = Path(folder) / CONFIG
    try:
        config = read_json(path, MAX_CONFIG_BYTES)
        if "model_type" in config and "options" not in config:
            raise RunFolderError(
                f"{folder} is a model folder for transformers, not a run: its README.md says how "
                f"to use it; to train it further: python -m ch07 finetune --model "
                f"{shell_path(folder)}"
            )
        check_config(config)
        return config
    except RunFolderError:
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise RunFolderError(f"{folder} is not a run folder: it has no {CONFIG}") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunFolderError(f"{path} can't be read: {error}") from None


def save_config(folder: Path, config: Config) -> None:
    """Write config.json; RunFolderError if another process has started a run there meanwhile."""
    if (folder / CONFIG).exists():
        raise RunFolderError(f"{folder} holds another run: choose another --out")
    write_json(folder / CONFIG, config)


def command_of_run(folder: str | Path) -> str:
    """The command that started a run: "finetune" (also if that can't be read), "prefer", ..."""
    try:
        config = read_json(Path(folder) / CONFIG, MAX_CONFIG_BYTES)
        if "preference" in config:
            return "prefer"
        return "pretrain" if config["options"].get("text") else "finetune"
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return "finetune"


def resume_command(folder: str | Path) -> str:
    """The command line that resumes the run in a folder, with the command that started it."""
    return f"python -m ch07 {command_of_run(folder)} --resume --out {shell_path(folder)}"


def _check_model(shape: Mapping[str, Any]) -> None:
    """ValueError for a value with which building a model would fail, or take forever."""
    for name, value in shape.items():
        if name in MAX_MODEL_NUMBERS:
            valid = type(value) in (int, float) and 0 <= value <= MAX_MODEL_NUMBERS[name]
        elif name == "architecture":
            valid = isinstance(value, str)
        elif name in MAX_MODEL_SIZES:
            valid = type(value) is int and 1 <= value <= MAX_MODEL_SIZES[name]
        else:
            valid = type(value) is bool
        if not valid:
            raise InputError(f"{name} of the model is {quote(str(value))}")


def check_config(config: Config) -> None:
    """ValueError, KeyError or TypeError unless all values have the types that a run writes."""
    for key in ("options", "model", "prompt_style", "settings", "facts"):
        if not isinstance(config[key], dict):  # a KeyError names the part that is missing
            raise TypeError(f"{key} is not an object")
    if has_lone_surrogate(json.dumps(config, ensure_ascii=False)):
        raise InputError("it contains half a character (a lone surrogate)")
    check_field_types(FinetuneOptions, config["options"])
    _check_settings(config["settings"])
    _check_facts(config["facts"])
    style = PromptStyle(**config["prompt_style"])
    if not isinstance(style.name, str):
        raise TypeError("the name of the prompt style is not text")


def _check_settings(settings: Mapping[str, Any]) -> None:
    """ValueError for a setting of training that no run can have."""
    annotations = typing.get_type_hints(TrainSettings)
    known = {name: value for name, value in settings.items() if name in annotations}
    for name, value in known.items():
        if type(value) not in runtime_types(annotations[name]):
            raise InputError(f"{name} in settings is {quote(str(value))}")
    TrainSettings(**known)  # checks the ranges


def _check_facts(facts: Mapping[str, Any]) -> None:
    """ValueError for a fact that no run can have written."""
    for name, kinds in FACT_TYPES.items():
        if name in facts and type(facts[name]) not in kinds:
            raise InputError(f"{name} in facts is {quote(str(facts[name]))}")
    rows = facts.get("rows", {})
    if not all(_is_count(n, at_least=0) for n in rows.values()):
        raise InputError(f"rows in facts is {quote(str(rows))}")
    threads = facts.get("versions", {}).get("threads")
    if threads is not None and not _is_count(threads):
        raise InputError(f"threads in versions is {quote(str(threads))}")
    chats = facts.get("conversations")
    if chats is None:
        return
    if not {"turns", "system"} <= set(chats):
        raise InputError("conversations in facts has no turns or no system")
    turns = chats["turns"]
    if not (turns is None or _is_count(turns)) or type(chats["system"]) is not bool:
        raise InputError(f"conversations in facts is {quote(str(chats))}")


def _is_count(value: Any, at_least: int = 1) -> bool:
    return type(value) is int and at_least <= value <= MAX_COUNT


def model_checksum(config: Config, digest: str) -> str:
    """One hash over the weights (`digest`), the model's shape and the prompt's text."""
    meaning = json.dumps([digest, config["model"], config["prompt_style"]], sort_keys=True)
    return hashlib.sha256(meaning.encode()).hexdigest()


# --- metrics.jsonl ------------------------------------------------------------------------------
def save_metrics(folder: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Write metrics.jsonl: one line per evaluation."""
    write_jsonl(folder / METRICS, history)


class LossColumns(TypedDict):
    """The arguments of `plot_losses`, one number per evaluation; None where there was none."""

    epochs_seen: list[float]
    tokens_seen: list[int]
    train_losses: list[float | None]
    val_losses: list[float | None]


def loss_columns(history: Sequence[Mapping[str, Any]]) -> LossColumns:
    """The records of the evaluations as the columns that `plot_losses` draws."""
    return {
        "epochs_seen": [record["epoch"] for record in history],
        "tokens_seen": [record["tokens_seen"] for record in history],
        "train_losses": [record["train_loss"] for record in history],
        "val_losses": [record["val_loss"] for record in history],
    }


def read_metrics(folder: str | Path) -> list[dict[str, Any]]:
    """The records of metrics.jsonl in order of steps; RunFolderError if it can't be read."""
    path = Path(folder) / METRICS
    try:
        lines = read_plain(path).decode("utf-8").splitlines()
        records = [json.loads(line) for line in lines]
        check_records(records)
        return records
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RunFolderError(f"{path} can't be read: {error}") from None


def check_records(records: Sequence[Any]) -> None:
    """InputError names the first record that no run can have written, or that is out of order."""
    before: dict[str, Any] = {}
    for number, record in enumerate(records, start=1):
        if not isinstance(record, dict):
            raise InputError(f"record {number} is {a_type(record)}, not an object")
        missing = [name for name in ("step", *METRIC_FIELDS) if name not in record]
        if missing:
            raise InputError(f"record {number} has no {missing[0]}")
        for name, value in record.items():
            if not _is_metric(name, value):
                raise InputError(f"{quote(name)[1:-1]} of record {number} is {quote(str(value))}")
        if before and not all(_follows(name, before[name], record[name]) for name in GROWING):
            raise InputError(f"record {number} doesn't follow the one before it")
        before = record


def _is_metric(name: str, value: Any) -> bool:
    """Whether a run can have written this; None, as where no row is for validation."""
    if value is None:
        return name not in NEVER_NULL
    if name in ("step", "tokens_seen"):
        return type(value) is int and 0 <= value < MAX_METRIC
    if name in ("epoch", "seconds", "lr"):
        return type(value) in (int, float) and 0 <= value < MAX_METRIC
    return type(value) in (int, float) and -MAX_METRIC < value < MAX_METRIC


def _follows(name: str, before: float | None, value: float | None) -> bool:
    """Whether a counter grew, or stayed the same if it isn't the step."""
    if before is None or value is None:  # pairs are trained on without counting tokens
        return before is value
    return value > before if name == "step" else value >= before
