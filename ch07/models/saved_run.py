"""The model of a run folder, loaded and saved."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tiktoken
import torch

from ch07.data.tokenizer import load_tokenizer
from ch07.models.adapters import LanguageModel, merged_or_base_model
from ch07.models.build_model import build_model
from ch07.models.peft_format import load_adapter, save_adapter
from ch07.models.weight_reader import open_weights
from ch07.runs.run_folder import (
    ADAPTER,
    CONFIG,
    MODEL,
    Config,
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
    """A finished run: its model in evaluation mode, and what is needed to prompt it."""

    folder: Path
    config: Config  # the content of config.json
    model: LanguageModel  # a `GPTModel`, behind its prefix if it has one
    style: PromptStyle

    @property
    def conversations(self) -> dict[str, Any] | None:
        """What kind of conversations it was trained on (`describe_conversations`); None: none."""
        return self.config["facts"].get("conversations")

    @property
    def tokenizer(self) -> tiktoken.Encoding:
        """GPT-2's tokenizer, the same for every run."""
        return load_tokenizer()


def load_run(folder: str | Path, device: str | torch.device = "cpu") -> Run:
    """The run in a folder; RunFolderError if there is none, or if it never finished."""
    folder = Path(folder)
    config = read_finished_config(folder)
    model: LanguageModel
    try:
        weights = open_weights(folder / MODEL)
        model = build_model(folder, weights, GPTConfig(**config["model"]))
        if has_prefix(config):
            model = load_adapter(model, folder / ADAPTER).eval()
        style = PromptStyle(**config["prompt_style"])
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise RunFolderError(f"{folder} can't be loaded: {error}") from error
    return Run(folder, config, model.to(device), style)


def save_model(folder: Path, model: LanguageModel) -> None:
    """Write model.safetensors, then its checksum into config.json, which marks the run finished.

    LoRA is merged into these weights. An adapter is also written in a folder of its own, for peft.
    """
    config = read_config(folder)
    weights = merged_or_base_model(model)
    digest = write_tensors(folder / MODEL, dict(weights.named_parameters()))
    if weights is not model:
        digest += save_adapter(folder / ADAPTER, model, config["options"]["model"])
    write_json(folder / CONFIG, {**config, "model_sha256": model_checksum(config, digest)})
