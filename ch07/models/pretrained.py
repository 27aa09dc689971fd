"""Published or stored GPT-2 weights -> a model: located by name or path, checked, and built."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePath
from typing import Any

import torch

from ch07.models.build_model import build_model, check_shapes
from ch07.models.hub_download import PUBLISHED, download
from ch07.models.parameter_names import HEAD
from ch07.models.weight_reader import StoredWeights, WeightsError, open_weights, read_config_beside
from ch07.runs import run_folder
from ch07.utils.atomic_files import sha256_of
from gpt_model import MODEL_SIZES, GPTConfig, GPTModel

# The values in a GPT2Config that this GPT-2 implements; any other value is another model.
SUPPORTED_VALUES = {
    "model_type": ("gpt2",),
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "layer_norm_epsilon": (1e-5,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
}
DEFAULT_HEADS = 12  # of a GPT2Config that doesn't say
DEFAULT_LAYERS = 12
MAX_LAYERS = 1000  # more is a fault in a file, and would take forever to list


@dataclass(frozen=True)
class WeightSource:
    """Where weights come from: the model's shape is known, but no tensor was read yet."""

    path: Path
    config: GPTConfig
    weights: StoredWeights
    style: str | None = None  # the prompt style that it was trained with, if known
    has_prefix: bool = False  # a run that learned a prefix: its weights are its base model's

    def sha256(self) -> str:
        """One hash over the file or files."""
        digests = [sha256_of(file) for file in self.weights.files]
        if len(digests) == 1:
            return digests[0]
        return sha256("".join(digests).encode()).hexdigest()

    def load(self, dtype: torch.dtype = torch.float32) -> GPTModel:
        """The `GPTModel` in evaluation mode; WeightsError for a run that learned a prefix."""
        if self.has_prefix:
            raise WeightsError(
                f"{self.path} learned a prefix, which a new run can't start from, and its weights "
                "are those of the model that it started from: use that model instead"
            )
        return build_model(self.path, self.weights, self.config, dtype)


def load_gpt2(name_or_path: str | Path, dtype: torch.dtype = torch.float32) -> GPTModel:
    """A `GPTModel` in evaluation mode with the weights of a published size, a folder or a file.

    "gpt2-small", "-medium", "-large" and "-xl" come from the Hugging Face Hub or from its cache. A
    folder can be a run or one written by `save_pretrained`; a file can be safetensors or `.pth`.
    WeightsError lists whatever doesn't fit. Needs memory for the weights in `dtype` and for one
    more tensor per thread that reads, at most four. Dropout is off (`drop_rate` 0), as in the book,
    whatever it was in training.
    """
    return find_weights(name_or_path).load(dtype)


def find_weights(name_or_path: str | Path) -> WeightSource:
    """The checked `WeightSource` of a name or path; published weights are downloaded if needed."""
    if str(name_or_path) in PUBLISHED:
        source = _published_source(str(name_or_path))
    else:
        source = _stored_source(Path(name_or_path))
    check_shapes(source.path, source.weights, source.config)
    return source


def _published_source(name: str) -> WeightSource:
    path = Path(download(name))
    size: dict[str, Any] = dict(MODEL_SIZES[name])
    return WeightSource(path, GPTConfig(**size), open_weights(path))


def _stored_source(path: Path) -> WeightSource:
    if not path.exists():
        raise WeightsError(
            f"there is no model {str(path)!r}: {_suggest_name(str(path))}, or a folder or file "
            "that exists (gpt2-tiny has no weights before you train it)"
        )
    stored_config = read_config_beside(path)
    is_run = stored_config is not None and "options" in stored_config
    if is_run and (path.is_dir() or path.name == run_folder.MODEL):
        return _run_source(path if path.is_dir() else path.parent)
    weights = open_weights(path)
    style = None if stored_config is None else stored_config.get("prompt_style")
    if not isinstance(style, str):  # another program may use this key for something else
        style = None
    exported_prefix = path.is_dir() and (path / run_folder.ADAPTER).exists()
    config = _model_config(path, weights, stored_config)
    return WeightSource(path, config, weights, style, exported_prefix)


def _run_source(folder: Path) -> WeightSource:
    run = run_folder.read_finished_config(folder)
    return WeightSource(
        folder,
        GPTConfig(**run["model"]),
        open_weights(folder / run_folder.MODEL),
        run["prompt_style"].get("name"),
        run_folder.has_prefix(run),
    )


def _suggest_name(name: str) -> str:
    """The published size that goes by this name on the Hub, else all published sizes."""
    for size, published in PUBLISHED.items():
        if name in (published.repository, PurePath(published.repository).name):
            return f"use {size}"
    return f"choose one of {', '.join(PUBLISHED)}"


# --- the shape of stored weights ----------------------------------------------------------------
def _model_config(
    path: Path, weights: StoredWeights, stored_config: dict[str, Any] | None
) -> GPTConfig:
    """The `GPTConfig` of stored weights: from config.json if there is one, else from shapes."""
    shapes = weights.shapes
    has_our_names = "tok_emb.weight" in shapes
    token, position = ("tok_emb", "pos_emb") if has_our_names else ("wte", "wpe")
    try:
        vocab_size, emb_dim = shapes[f"{token}.weight"]
        context_length, _ = shapes[f"{position}.weight"]
    except (KeyError, ValueError):
        found = ", ".join(list(shapes)[:3]) or "nothing"
        raise WeightsError(
            f"{path} doesn't hold GPT-2's weights: no wte.weight and wpe.weight (or tok_emb.weight "
            f"and pos_emb.weight), but {found} ..."
        ) from None
    if min(vocab_size, emb_dim, context_length) < 1:
        raise WeightsError(f"{path} holds empty embeddings")
    if stored_config is not None and ("n_head" in stored_config or not has_our_names):
        stored = {"vocab_size": vocab_size, "n_embd": emb_dim, "n_positions": context_length}
        n_heads, n_layers = _checked_heads_and_layers(path, stored_config, stored)
    else:
        names = [name for name in shapes if name.startswith(("h.", "trf_blocks."))]
        n_layers = len({name.split(".")[1] for name in names})
        n_heads = _heads_of_known_size(path, emb_dim, n_layers)
    return GPTConfig(
        vocab_size=vocab_size,
        context_length=context_length,
        emb_dim=emb_dim,
        n_heads=n_heads,
        n_layers=n_layers,
        qkv_bias=not has_our_names or "trf_blocks.0.att.W_query.bias" in shapes,
        tied_head=_is_tied(weights, token, stored_config),
    )


def _checked_heads_and_layers(
    path: Path, config: dict[str, Any], stored: dict[str, int]
) -> tuple[int, int]:
    """(n_head, n_layer) of a GPT2Config; WeightsError if it isn't a GPT-2 of the `stored` shape."""
    problems = []
    for key, supported in SUPPORTED_VALUES.items():
        if key in config and config[key] not in supported:
            expected = " or ".join(map(repr, supported))
            problems.append(f"{key} is {config[key]!r}, but must be {expected}")
    for key, value in stored.items():
        if key in config and config[key] != value:
            problems.append(f"{key} is {config[key]!r}, but the weights have {value}")
    if not isinstance(config.get("tie_word_embeddings", True), bool):
        problems.append(f"tie_word_embeddings is {config['tie_word_embeddings']!r}")
    emb_dim = stored["n_embd"]
    if config.get("n_inner") not in (None, 4 * emb_dim):
        problems.append(f"n_inner is {config['n_inner']!r}, but must be {4 * emb_dim}")
    n_heads = config.get("n_head", DEFAULT_HEADS)
    if type(n_heads) is not int or n_heads < 1 or emb_dim % n_heads:
        problems.append(f"n_head is {n_heads!r}, but must divide the width of {emb_dim}")
    n_layers = config.get("n_layer", DEFAULT_LAYERS)
    if type(n_layers) is not int or not 1 <= n_layers <= MAX_LAYERS:
        problems.append(f"n_layer is {n_layers!r}, but must be a number from 1 to {MAX_LAYERS}")
    if problems:
        raise WeightsError(
            f"{path}: its config.json describes another model than this GPT-2: "
            + "; ".join(problems)
        )
    return n_heads, n_layers


def _heads_of_known_size(path: Path, emb_dim: int, n_layers: int) -> int:
    """The number of heads of the known size with this width and depth, else WeightsError."""
    for size in MODEL_SIZES.values():
        if size["emb_dim"] == emb_dim and size["n_layers"] == n_layers:
            return size["n_heads"]
    raise WeightsError(
        f"{path}: {n_layers} blocks of width {emb_dim} are not a known size, and the number of "
        "heads can't be read from weights: put a config.json with n_head and n_layer beside them"
    )


def _is_tied(weights: StoredWeights, token: str, stored_config: dict[str, Any] | None) -> bool:
    """As in transformers: tied unless config.json says no, or another output head is stored."""
    if stored_config is not None and stored_config.get("tie_word_embeddings") is False:
        return False
    head = "out_head.weight" if token == "tok_emb" else HEAD[0].published
    if head not in weights.shapes:
        return True
    embedding = f"{token}.weight"
    same_shape = weights.shapes[head] == weights.shapes[embedding]
    return same_shape and torch.equal(*weights.read([head, embedding]))
