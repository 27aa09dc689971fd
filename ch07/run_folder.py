"""A run on disk: what made it, what came of it, and a model that can answer again.

The one idea: config.json says everything that made the run, prompt style included, so that
whoever loads it prompts the model as it was trained.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError

from ch07.checkpoint import load_parameters
from ch07.files import read_json, read_tensors, write_bytes, write_json, write_tensors
from ch07.tokenizer import load_tokenizer
from gpt_model import GPTConfig, GPTModel
from instruction_dataset import PromptStyle

CONFIG, MODEL, METRICS, PLOT = "config.json", "model.safetensors", "metrics.jsonl", "loss.png"
RESPONSES, SCORES, CHECKPOINT = "responses.json", "scores.json", "checkpoint"


class RunFolderError(ValueError):
    """The folder isn't a run, or not one that can be used; the message says what to do."""


@dataclass(frozen=True)
class Run:
    """A finished run: the model in evaluation mode, and what is needed to talk to it."""

    folder: Path
    config: dict
    model: GPTModel
    style: PromptStyle

    @property
    def tokenizer(self):
        return load_tokenizer()


def load_run(folder, device="cpu"):
    """The run in a folder; RunFolderError if it isn't there or never finished."""
    folder = Path(folder)
    config = read_config(folder)
    if not (folder / MODEL).is_file():
        raise RunFolderError(
            f"{folder} has no {MODEL}: the run has not finished. "
            f"Go on with: python -m ch07 finetune --resume --out {folder}"
        )
    try:
        tensors = read_tensors(folder / MODEL)
        with torch.device("meta"):
            model = GPTModel(GPTConfig(**config["model"]))
        model.to_empty(device="cpu")
        if model.config.tied_head:  # to_empty gives each name memory of its own
            model.out_head.weight = model.tok_emb.weight
        load_parameters(model, tensors)
        style = PromptStyle(**config["prompt_style"])
    except (KeyError, TypeError, ValueError, OSError, SafetensorError) as error:
        raise RunFolderError(f"{folder} can't be loaded: {error}") from error
    return Run(folder, config, model.to(device).eval(), style)


def read_config(folder):
    """config.json of a run folder; RunFolderError if there is none or it can't be read."""
    try:
        config = read_json(Path(folder) / CONFIG)
        for key in ("options", "model", "prompt_style", "facts"):
            config[key]  # a KeyError names the part that is missing
        return config
    except FileNotFoundError:
        raise RunFolderError(f"{folder} is not a run folder: it has no {CONFIG}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunFolderError(f"{Path(folder) / CONFIG} can't be read: {error}") from None


def new_run_folder(wanted=None):
    """A fresh folder: the wanted one if it is empty or new, else the next free runs/N."""
    if wanted is not None:
        folder = Path(wanted)
        if (folder / CONFIG).exists():
            raise RunFolderError(
                f"{folder} holds another run: choose another --out, or go on with it: "
                f"python -m ch07 finetune --resume --out {folder}"
            )
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    number = 1
    while True:
        folder = Path("runs") / str(number)
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1


def save_metrics(folder, history):
    """metrics.jsonl: one line per evaluation."""
    lines = "".join(json.dumps(record, allow_nan=False) + "\n" for record in history)
    write_bytes(folder / METRICS, lines.encode())


def save_model(folder, model):
    """model.safetensors: each weight once, a tied head not twice."""
    write_tensors(folder / MODEL, dict(model.named_parameters()))


def save_config(folder, options, job):
    """config.json: options, model shape, prompt style with its text, data and versions."""
    write_json(
        folder / CONFIG,
        {
            "options": asdict(options),
            "model": asdict(job.model.config),
            "prompt_style": asdict(job.style),
            "facts": job.facts,
            "settings": asdict(job.settings),
        },
    )
