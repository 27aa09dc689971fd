"""A model that can answer: that of a run folder, loaded and saved, or a published one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tiktoken
import torch

from ch07.data.byte_pair_vocabulary import ModelTokenizer
from ch07.data.tokenizer_files import write_vocabulary
from ch07.models.adapters import LanguageModel, merged_or_base_model
from ch07.models.architectures import read_shape
from ch07.models.build_model import build_model
from ch07.models.gguf_file import is_gguf
from ch07.models.hub_download import PUBLISHED
from ch07.models.model_tokenizer import (
    check_vocabulary_size,
    make_tokenizer,
    read_run_vocabulary,
)
from ch07.models.peft_format import load_adapter, save_adapter
from ch07.models.pretrained import find_weights
from ch07.models.smollm2 import SMOLLM2
from ch07.models.weight_reader import WeightsError, open_weights, read_config_beside
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
from instruction_dataset import BOOK_STYLE, PromptStyle


@dataclass(frozen=True)
class TrainedModel:
    """A model in evaluation mode, and what is needed to prompt it."""

    name: str  # as the reader gave it: a name, or the path of a folder or file
    model: LanguageModel  # behind its prefix if it has one
    tokenizer: tiktoken.Encoding
    style: PromptStyle
    # What kind of conversations it was trained on (`describe_conversations`); None: none.
    conversations: dict[str, Any] | None


@dataclass(frozen=True)
class Run(TrainedModel):
    """A finished run."""

    folder: Path
    config: Config  # the content of config.json


def load_trained_model(name: str, device: str | torch.device = "cpu") -> TrainedModel:
    """The model of a run folder, of a published name or of other stored weights.

    RunFolderError or WeightsError says what is wrong.
    """
    if is_run(name):
        return load_run(name, device)
    source = find_weights(name)
    tokenizer = source.tokenizer()
    return TrainedModel(
        name,
        source.load().to(device),
        tokenizer,
        source.style or BOOK_STYLE,
        source.conversations,
    )


def is_run(name: str) -> bool:
    """Whether a name or path is that of a run, not of published or other stored weights."""
    if name in PUBLISHED or name == SMOLLM2 or is_gguf(name):
        return False
    try:
        stored = read_config_beside(name)
    except WeightsError:
        return True  # which says what is wrong with it
    return stored is None or "model_type" not in stored or "options" in stored


def conversations_of(name: str) -> dict[str, Any] | None:
    """The `conversations` of a model that isn't loaded: what kind it was trained on, if any."""
    if is_run(name):
        facts: dict[str, Any] = read_finished_config(Path(name))["facts"]
        return facts.get("conversations")
    return find_weights(name).conversations


def load_run(folder: str | Path, device: str | torch.device = "cpu") -> Run:
    """The run in a folder; RunFolderError if there is none, or if it never finished."""
    folder = Path(folder)
    config = read_finished_config(folder)
    model: LanguageModel
    try:
        shape = read_shape(config["model"])
        vocabulary = read_run_vocabulary(folder, config["facts"])
        tokenizer = make_tokenizer(folder, vocabulary)
        check_vocabulary_size(str(folder), shape, tokenizer)
        weights = open_weights(folder / MODEL)
        model = build_model(folder, weights, shape)
        if has_prefix(config):
            model = load_adapter(model, folder / ADAPTER).eval()
        style = PromptStyle(**config["prompt_style"])
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise RunFolderError(f"{folder} can't be loaded: {error}") from error
    return Run(
        name=str(folder),
        model=model.to(device),
        tokenizer=tokenizer,
        style=style,
        conversations=config["facts"].get("conversations"),
        folder=folder,
        config=config,
    )


def save_model(
    folder: Path, model: LanguageModel, tokenizer: tiktoken.Encoding | None = None
) -> None:
    """Write model.safetensors, then its checksum into config.json, which marks the run finished.

    LoRA is merged into these weights. An adapter is also written in a folder of its own, for peft.
    A tokenizer other than GPT-2's is written, too.
    """
    if isinstance(tokenizer, ModelTokenizer):
        write_vocabulary(folder, tokenizer.vocabulary, model.config.context_length)
    config = read_config(folder)
    weights = merged_or_base_model(model)
    digest = write_tensors(folder / MODEL, dict(weights.named_parameters()))
    if weights is not model:
        digest += save_adapter(folder / ADAPTER, model, config["options"]["model"])
    write_json(folder / CONFIG, {**config, "model_sha256": model_checksum(config, digest)})
