"""A finished run -> a model that can answer again, and back: the weights of a run folder."""

from dataclasses import dataclass
from pathlib import Path

import torch

from ch07.data.tokenizer import load_tokenizer
from ch07.models.adapters import merged_or_base_model
from ch07.models.build_model import build_model
from ch07.models.peft_format import load_adapter, save_adapter
from ch07.models.weight_reader import open_weights
from ch07.runs.run_folder import (
    ADAPTER,
    CONFIG,
    MODEL,
    has_prefix,
    model_checksum,
    read_config,
    read_finished_config,
)
from ch07.utils.atomic_files import write_json, write_tensors
from ch07.utils.errors import RunFolderError
from gpt_model import GPTConfig
from instruction_dataset import PromptStyle


@dataclass(frozen=True)
class Run:
    """A finished run: the model in evaluation mode, and what is needed to talk to it."""

    folder: Path
    config: dict
    model: torch.nn.Module  # a `GPTModel`, behind its prefix if it has one
    style: PromptStyle

    @property
    def tokenizer(self):
        return load_tokenizer()


def load_run(folder, device="cpu"):
    """The run in a folder; RunFolderError if it isn't there or never finished."""
    folder = Path(folder)
    config = read_finished_config(folder)
    try:
        weights = open_weights(folder / MODEL)
        model = build_model(folder, weights, GPTConfig(**config["model"]))
        if has_prefix(config):
            model = load_adapter(model, folder / ADAPTER).eval()
        style = PromptStyle(**config["prompt_style"])
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise RunFolderError(f"{folder} can't be loaded: {error}") from error
    return Run(folder, config, model.to(device), style)


def save_model(folder, model):
    """model.safetensors, each weight once; its hash goes into config.json, which ends the run.

    What LoRA added is in these weights; an adapter is written beside them too, for peft.
    """
    config, weights = read_config(folder), merged_or_base_model(model)
    digest = write_tensors(folder / MODEL, dict(weights.named_parameters()))
    if weights is not model:
        digest += save_adapter(folder / ADAPTER, model, config["options"]["model"])
    write_json(folder / CONFIG, {**config, "model_sha256": model_checksum(config, digest)})
