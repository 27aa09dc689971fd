"""Published or stored weights -> a model: located by name or path, checked, and built."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePath
from typing import Any

import tiktoken
import torch

from ch07.data.byte_pair_vocabulary import Vocabulary
from ch07.data.prompt_styles import STYLES
from ch07.data.tokenizer import TokenizerError
from ch07.data.tokenizer_files import TOKENIZER_FILE, vocabulary_from_gguf
from ch07.models.architectures import BaseModel, ModelConfig, read_shape
from ch07.models.build_model import build_model, check_shapes
from ch07.models.gguf_file import is_gguf, open_gguf
from ch07.models.gguf_weights import llama_weights
from ch07.models.gpt2_config import gpt2_config
from ch07.models.hub_download import PUBLISHED, download
from ch07.models.llama_config import config_from_gguf, is_llama, llama_config
from ch07.models.model_tokenizer import (
    chat_style,
    check_vocabulary_size,
    make_tokenizer,
    read_run_vocabulary,
    read_stored_vocabulary,
)
from ch07.models.smollm2 import SMOLLM2, find_smollm2
from ch07.models.weight_reader import StoredWeights, WeightsError, open_weights, read_config_beside
from ch07.runs import run_folder
from ch07.utils.atomic_files import sha256_of
from gpt_model import MODEL_SIZES, GPTConfig, GPTModel
from instruction_dataset import PromptStyle


@dataclass(frozen=True)
class WeightSource:
    """Where weights come from: the model's shape is known, but no tensor was read yet."""

    path: Path
    config: ModelConfig
    weights: StoredWeights
    style: PromptStyle | None = None  # the one that it was trained with, if known
    has_prefix: bool = False  # a run that learned a prefix: its weights are its base model's
    vocabulary: Vocabulary | None = None  # None: GPT-2's
    conversations: dict[str, Any] | None = None  # what kind it was trained on; None: none

    def sha256(self) -> str:
        """One hash over the file or files."""
        digests = [sha256_of(file) for file in self.weights.files]
        if len(digests) == 1:
            return digests[0]
        return sha256("".join(digests).encode()).hexdigest()

    def tokenizer(self) -> tiktoken.Encoding:
        """The model's tokenizer; WeightsError if it has another number of tokens than the model."""
        tokenizer = make_tokenizer(self.path, self.vocabulary)
        check_vocabulary_size(str(self.path), self.config, tokenizer)
        return tokenizer

    def load(self, dtype: torch.dtype = torch.float32) -> BaseModel:
        """The model in evaluation mode; WeightsError for a run that learned a prefix."""
        if self.has_prefix:
            raise WeightsError(
                f"{self.path} learned a prefix, which a new run can't start from, and its weights "
                "are those of the model that it started from: use that model instead"
            )
        return build_model(self.path, self.weights, self.config, dtype)


def load_model(name_or_path: str | Path, dtype: torch.dtype = torch.float32) -> BaseModel:
    """A model in evaluation mode with the weights of a published model, a folder or a file.

    "gpt2-small", "-medium", "-large" and "-xl" come from the Hugging Face Hub or from its cache,
    "smollm2" from an installed package. A folder can be a run or one written by `save_pretrained`;
    a file can be safetensors, `.pth` or `.gguf`. WeightsError lists whatever doesn't fit. Needs
    memory for the weights in `dtype` and for one more tensor per thread that reads, at most four.
    Dropout is off (`drop_rate` 0), as in the book, whatever it was in training.
    """
    return find_weights(name_or_path).load(dtype)


def load_gpt2(name_or_path: str | Path, dtype: torch.dtype = torch.float32) -> GPTModel:
    """As `load_model`, for a GPT-2 alone; WeightsError for a model of another kind."""
    source = find_weights(name_or_path)
    if not isinstance(source.config, GPTConfig):
        raise WeightsError(f"{name_or_path} is not a GPT-2: use load_model, which also reads Llama")
    model = source.load(dtype)
    assert isinstance(model, GPTModel)
    return model


def find_weights(name_or_path: str | Path) -> WeightSource:
    """The checked `WeightSource` of a name or path; published weights are downloaded if needed."""
    name = str(name_or_path)
    if name in PUBLISHED:
        source = _published_source(name)
    elif name == SMOLLM2:
        source = _gguf_source(find_smollm2())
    else:
        source = _stored_source(Path(name_or_path))
    check_shapes(source.path, source.weights, source.config)
    return source


def _published_source(name: str) -> WeightSource:
    path = Path(download(name))
    size: dict[str, Any] = dict(MODEL_SIZES[name])
    return WeightSource(path, GPTConfig(**size), open_weights(path))


def _gguf_source(path: Path) -> WeightSource:
    file = open_gguf(path)
    config = config_from_gguf(file)
    try:
        vocabulary = vocabulary_from_gguf(file.metadata)
    except TokenizerError as error:
        raise WeightsError(f"{path}: {error}") from None
    vocabulary, style, conversations = chat_style(vocabulary)
    return WeightSource(
        path,
        config,
        llama_weights(file, config),
        style,
        vocabulary=vocabulary,
        conversations=conversations,
    )


def _stored_source(path: Path) -> WeightSource:
    if not path.exists():
        raise WeightsError(
            f"there is no model {str(path)!r}: {_suggest_name(str(path))}, or a folder or file "
            "that exists (gpt2-tiny has no weights before you train it)"
        )
    if is_gguf(path):
        return _gguf_source(path)
    stored_config = read_config_beside(path)
    is_run = stored_config is not None and "options" in stored_config
    if is_run and (path.is_dir() or path.name == run_folder.MODEL):
        return _run_source(path if path.is_dir() else path.parent)
    weights = open_weights(path)
    if stored_config is not None and is_llama(stored_config):
        return _llama_source(path, weights, stored_config)
    style = None if stored_config is None else stored_config.get("prompt_style")
    exported_prefix = path.is_dir() and (path / run_folder.ADAPTER).exists()
    config = gpt2_config(path, weights, stored_config)
    folder = path if path.is_dir() else path.parent
    vocabulary = None if stored_config is None else read_stored_vocabulary(folder)
    return WeightSource(
        path, config, weights, _known_style(style), exported_prefix, vocabulary=vocabulary
    )


def _known_style(stored: Any) -> PromptStyle | None:
    """The style in the config.json of an export: its fields, or in older ones its name.

    None for anything else, since another program may use the key for something else.
    """
    if isinstance(stored, str):
        return STYLES.get(stored)
    try:
        style = PromptStyle(**stored)
    except (TypeError, ValueError, AttributeError):
        return None
    return style if isinstance(style.name, str) else None


def _llama_source(path: Path, weights: StoredWeights, stored: dict[str, Any]) -> WeightSource:
    folder = path if path.is_dir() else path.parent
    vocabulary = read_stored_vocabulary(folder)
    style: PromptStyle | None = None
    conversations = None
    if vocabulary is not None:
        vocabulary, style, conversations = chat_style(vocabulary)
    elif not (folder / TOKENIZER_FILE).is_file():
        raise WeightsError(f"{folder}: {TOKENIZER_FILE} is missing")
    return WeightSource(
        path,
        llama_config(path, weights, stored),
        weights,
        _known_style(stored.get("prompt_style")) or style,
        has_prefix=(folder / run_folder.ADAPTER).exists(),
        vocabulary=vocabulary,
        conversations=conversations,
    )


def _run_source(folder: Path) -> WeightSource:
    run = run_folder.read_finished_config(folder)
    try:
        config = read_shape(run["model"])
        style = PromptStyle(**run["prompt_style"])
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{folder} can't be loaded: {error}") from None
    return WeightSource(
        folder,
        config,
        open_weights(folder / run_folder.MODEL),
        style,
        run_folder.has_prefix(run),
        vocabulary=read_run_vocabulary(folder, run["facts"]),
        conversations=run["facts"].get("conversations"),
    )


def _suggest_name(name: str) -> str:
    """The published size that goes by this name on the Hub, else all names."""
    for size, published in PUBLISHED.items():
        if name in (published.repository, PurePath(published.repository).name):
            return f"use {size}"
    return f"choose one of {', '.join([*PUBLISHED, SMOLLM2])}"
