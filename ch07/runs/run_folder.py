"""A run on disk: its file names, config.json, metrics, and the checksum that ends a run.

config.json holds everything that made the run, the prompt style's text included, so that whoever
loads the run prompts the model as it was trained. No model is built here.
"""

import hashlib
import json
from pathlib import Path

from ch07.config import FREE_ON_RESUME, FinetuneOptions
from ch07.utils.atomic_files import (
    read_json,
    sha256_of,
    write_json,
    write_jsonl,
)
from ch07.utils.errors import RunFolderError
from ch07.utils.validation import MAX_CONFIG_BYTES, check_field_types, check_size, quoted
from gpt_model import GPTConfig
from instruction_dataset import PromptStyle

CONFIG = "config.json"
MODEL = "model.safetensors"
METRICS = "metrics.jsonl"
PLOT = "loss.png"
RESPONSES = "responses.json"
SCORES = "scores.json"
CHECKPOINT = "checkpoint"
ADAPTER = "adapter"  # a folder that peft reads: what was trained, if not the weights themselves


# More is a fault, and would take forever to build, or be more than a number can count.
MAX_MODEL_SIZES = {"n_layers": 1000, "n_heads": 10**6, "emb_dim": 10**6}
MAX_MODEL_SIZES |= {"vocab_size": 10**8, "context_length": 10**8}
NUMBERS = ("epoch", "tokens_seen", "lr", "train_loss", "val_loss", "seconds")  # of a record


def read_finished_config(folder):
    """config.json of a finished run whose weights are those that it wrote; else RunFolderError."""
    folder = Path(folder)
    config = read_config(folder)
    try:
        _check_model(config["model"])
    except (TypeError, ValueError, RecursionError) as error:
        raise RunFolderError(f"{folder} can't be loaded: {error}") from None
    if not (folder / MODEL).is_file() or "model_sha256" not in config:
        raise RunFolderError(
            f"{folder} has no {MODEL} that is complete: the run has not finished. "
            f"Go on with: python -m ch07 finetune --resume --out {folder}"
        )
    adapted = config["options"].get("method", "full") != "full"
    if adapted and not (folder / ADAPTER / ADAPTER_WEIGHTS).is_file():
        raise RunFolderError(f"{folder} has no {ADAPTER}/{ADAPTER_WEIGHTS}: it was copied in part")
    digest = sha256_of(folder / MODEL)
    digest += sha256_of(folder / ADAPTER / ADAPTER_WEIGHTS) if adapted else ""
    if model_checksum(config, digest) != config.get("model_sha256"):
        raise RunFolderError(
            f"{folder / MODEL}, or model and prompt_style in {CONFIG}, are not what the run wrote: "
            "altered, or copied in part"
        )
    return config


def has_prefix(config):
    """Whether a run's weights are those of its base, and what it learned is a prefix."""
    return config["options"].get("method") == "prefix"


def read_config(folder):
    """config.json of a run folder; RunFolderError if there is none or it can't be read."""
    try:
        check_size(Path(folder) / CONFIG, MAX_CONFIG_BYTES)
        config = read_json(Path(folder) / CONFIG)
        if "model_type" in config and "options" not in config:
            raise RunFolderError(
                f"{folder} is a folder for transformers, not a run: ask it as its README.md says, "
                f"or train it on with: python -m ch07 finetune --model {folder}"
            )
        for key in ("options", "model", "prompt_style", "settings", "facts"):
            if not isinstance(config[key], dict):  # a KeyError names the part that is missing
                raise TypeError(f"{key} is not an object")
        _check_kinds(config)
        return config
    except RunFolderError:
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise RunFolderError(f"{folder} is not a run folder: it has no {CONFIG}") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunFolderError(f"{Path(folder) / CONFIG} can't be read: {error}") from None


def resume_command(folder):
    """The command that goes on with the run in a folder: the one that began it."""
    try:
        began = "prefer" if "preference" in read_json(Path(folder) / CONFIG) else "finetune"
    except (OSError, ValueError, TypeError, RecursionError):
        began = "finetune"
    return f"python -m ch07 {began} --resume --out {folder}"


def _check_model(shape):
    """ValueError or TypeError unless a stranger's values make a model that can be built."""
    for name, value in shape.items():
        if name == "drop_rate":
            good = type(value) in (int, float) and 0 <= value <= 1
        elif name in MAX_MODEL_SIZES:
            good = type(value) is int and 1 <= value <= MAX_MODEL_SIZES[name]
        else:
            good = type(value) is bool
        if not good:
            raise ValueError(f"{name} of the model is {quoted(str(value))}")
    GPTConfig(**shape)


def _check_kinds(config):
    """ValueError or TypeError unless a stranger's values are of the kinds that are written."""
    check_field_types(FinetuneOptions, config["options"])
    if not isinstance(config["facts"].get("versions", {}), dict):
        raise TypeError("versions is not an object")
    style = PromptStyle(**config["prompt_style"])
    if not isinstance(style.name, str):
        raise TypeError("the name of the prompt style is not text")


def save_metrics(folder, history):
    """metrics.jsonl: one line per evaluation."""
    write_jsonl(folder / METRICS, history)


def read_metrics(folder):
    """The records of metrics.jsonl, one per evaluation; RunFolderError if it can't be read."""
    path = Path(folder) / METRICS
    try:
        check_size(path)
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for record in records:
            odd = [name for name in NUMBERS if not _is_number(record.get(name))]
            if odd or type(record["step"]) is not int:
                raise ValueError(f"{(odd or ['step'])[0]} is not a number")
        return sorted(records, key=lambda record: record["step"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RunFolderError(f"{path} can't be read: {error}") from None


def _is_number(value):
    """None, as where there are no validation rows, or a number that a run may reach."""
    return value is None or (type(value) in (int, float) and -1e15 < value < 1e15)


def model_checksum(config, digest):
    """One hash over the weights and what they mean: the model's shape and the prompt's text."""
    meaning = json.dumps([digest, config["model"], config["prompt_style"]], sort_keys=True)
    return hashlib.sha256(meaning.encode()).hexdigest()


def nested_differences(one, other, within=""):
    """(name, value, other value) wherever two nested objects differ; None where one has nothing.

    >>> differences({"lr": 0.1, "model": {"n_layers": 4}}, {"lr": 0.1, "model": {"n_layers": 2}})
    [('model.n_layers', 4, 2)]
    """
    found = []
    for key in [*one, *(key for key in other if key not in one)]:
        a, b = one.get(key), other.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += nested_differences(a, b, f"{within}{key}.")
        elif a != b:
            found.append((f"{within}{key}", a, b))
    return found


def setting_differences(one, other):
    """Those `nested_differences` of two configs that may change a number: paths can't.

    Data and first weights are known by their hashes; settings follow from options, but for dtype.
    """
    free = {f"options.{name}" for name in (*FREE_ON_RESUME, "dtype")} | {"facts.findings"}
    return [
        row
        for row in nested_differences(one, other)
        if row[0] not in free | {"model_sha256"}
        and (not row[0].startswith("settings.") or row[0] == "settings.dtype")
    ]


def save_config(folder, config):
    """config.json: everything that made the run, as `describe_run` says it."""
    if (folder / CONFIG).exists():  # another process was faster
        raise RunFolderError(f"{folder} holds another run: choose another --out")
    write_json(folder / CONFIG, config)


ADAPTER_WEIGHTS = "adapter_model.safetensors"
