"""Published or stored GPT-2 weights -> a model: found by name, checked, and built."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePath

import torch

from ch07.models.build_model import build_model, check_shapes
from ch07.models.hub_download import PUBLISHED, download
from ch07.models.parameter_names import HEAD
from ch07.models.weight_reader import StoredWeights, WeightsError, open_weights, read_config_beside
from ch07.runs import run_folder as rf
from ch07.utils.atomic_files import sha256_of
from gpt_model import MODEL_SIZES, GPTConfig

# What GPT2Config may say, and this GPT-2 does; anything else would be another model.
ONLY = {
    "model_type": ("gpt2",),
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "layer_norm_epsilon": (1e-5,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
}
MOST_LAYERS = 1000  # more is a fault in a file, and would take forever to list


@dataclass(frozen=True)
class WeightSource:
    """Where weights come from: the shape of the model is known, nothing large was read yet."""

    path: Path
    config: GPTConfig
    weights: StoredWeights
    style: str | None = None  # the prompt style it was trained with, where that is known
    prefixed: bool = False  # a run whose weights are its base's: what it learned is its prefix

    def sha256(self):
        """One hash over the file or files."""
        digests = [sha256_of(file) for file in self.weights.files]
        return digests[0] if len(digests) == 1 else sha256("".join(digests).encode()).hexdigest()

    def load(self, dtype=torch.float32):
        """The `GPTModel`, in evaluation mode; WeightsError if it would not be the run's model."""
        if self.prefixed:
            raise WeightsError(
                f"{self.path} learned a prefix, which a new run can't start from; its weights are "
                "those of the model that it was given: start from that one"
            )
        return build_model(self.path, self.weights, self.config, dtype)


def load_gpt2(name_or_path, dtype=torch.float32):
    """A `GPTModel` with the weights of a published size, a folder or a file; evaluation mode.

    "gpt2-small", "-medium", "-large" and "-xl" come from the Hugging Face Hub, or from its cache.
    A folder may be one of `save_pretrained`, or a run; a file safetensors or `.pth`. WeightsError
    lists whatever doesn't fit. Memory: the weights in `dtype`, and one tensor more. Dropout is off
    (`drop_rate` 0), as in the book, whatever the weights were trained with.
    """
    return find_weights(name_or_path).load(dtype)


def find_weights(name_or_path):
    """The `WeightSource` of a name or path; a published name that isn't cached is downloaded."""
    if name_or_path in PUBLISHED:
        path = download(name_or_path)
        return _checked(
            WeightSource(path, GPTConfig(**MODEL_SIZES[name_or_path]), open_weights(path))
        )
    path = Path(name_or_path)
    if not path.exists():
        raise WeightsError(
            f"there is no model {str(name_or_path)!r}: {_meant(str(name_or_path))}, or a folder or "
            "file that exists (gpt2-tiny has no weights before you train it)"
        )
    beside = read_config_beside(path)
    if beside is not None and "options" in beside and (path.is_dir() or path.name == rf.MODEL):
        folder = path if path.is_dir() else path.parent
        run = rf.read_finished_config(folder)
        config, style = GPTConfig(**run["model"]), run["prompt_style"].get("name")
        weights = open_weights(folder / rf.MODEL)
        return _checked(WeightSource(folder, config, weights, style, rf.has_prefix(run)))
    weights = open_weights(path)
    style = None if beside is None else beside.get("prompt_style")
    style = style if isinstance(style, str) else None  # somebody else's key of that name
    prefixed = path.is_dir() and (path / rf.ADAPTER).exists()  # an exported run, with its prefix
    return _checked(WeightSource(path, _config(path, weights, beside), weights, style, prefixed))


def _meant(name):
    """A published size under the name that it has on the Hub, else all there are."""
    for ours, published in PUBLISHED.items():
        if name in (published.repository, PurePath(published.repository).name):
            return f"you may mean {ours}"
    return f"choose one of {', '.join(PUBLISHED)}"


def _checked(source):
    check_shapes(source.path, source.weights, source.config)
    return source


# --- which model is it? -------------------------------------------------------------------------
def _config(path, weights, beside):
    """The `GPTConfig` of stored weights: from config.json where there is one, else from shapes."""
    shapes = weights.shapes
    ours = "tok_emb.weight" in shapes
    token, position = ("tok_emb", "pos_emb") if ours else ("wte", "wpe")
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
        raise WeightsError(f"{path} holds embeddings without numbers")
    blocks = {name.split(".")[1] for name in shapes if name.startswith(("h.", "trf_blocks."))}
    n_layers = len(blocks)
    bias = "trf_blocks.0.att.W_query.bias" in shapes if ours else True
    if beside is not None and ("n_head" in beside or not ours):
        stored = {"vocab_size": vocab_size, "n_embd": emb_dim, "n_positions": context_length}
        n_heads = _heads(path, beside, stored)
        n_layers = beside.get("n_layer", 12)
    else:
        n_heads = _heads_of_a_known_size(path, emb_dim, n_layers)
    return GPTConfig(
        vocab_size=vocab_size,
        context_length=context_length,
        emb_dim=emb_dim,
        n_heads=n_heads,
        n_layers=n_layers,
        qkv_bias=bias,
        tied_head=_is_tied(weights, token, beside),
    )


def _heads(path, beside, stored):
    """n_head of a GPT2Config, after a look at what would make another model than the `stored`."""
    emb_dim = stored["n_embd"]
    wrong = [
        f"{key} is {beside[key]!r}, but must be {' or '.join(map(repr, allowed))}"
        for key, allowed in ONLY.items()
        if key in beside and beside[key] not in allowed
    ]
    wrong += [
        f"{key} is {beside[key]!r}, but the weights have {value}"
        for key, value in stored.items()
        if key in beside and beside[key] != value
    ]
    if not isinstance(beside.get("tie_word_embeddings", True), bool):
        wrong.append(f"tie_word_embeddings is {beside['tie_word_embeddings']!r}")
    if beside.get("n_inner") not in (None, 4 * emb_dim):
        wrong.append(f"n_inner is {beside['n_inner']!r}, but must be {4 * emb_dim}")
    n_heads, n_layers = beside.get("n_head", 12), beside.get("n_layer", 12)
    if type(n_heads) is not int or n_heads < 1 or emb_dim % n_heads:
        wrong.append(f"n_head is {n_heads!r}, but must divide the width of {emb_dim}")
    if type(n_layers) is not int or not 1 <= n_layers <= MOST_LAYERS:
        wrong.append(f"n_layer is {n_layers!r}, but must be a number from 1 to {MOST_LAYERS}")
    if wrong:
        raise WeightsError(f"{path}: its config.json is not this GPT-2's: {'; '.join(wrong)}")
    return n_heads


def _heads_of_a_known_size(path, emb_dim, n_layers):
    for size in MODEL_SIZES.values():
        if (size["emb_dim"], size["n_layers"]) == (emb_dim, n_layers):
            return size["n_heads"]
    raise WeightsError(
        f"{path}: {n_layers} blocks of width {emb_dim} are no size that is known here, and how "
        "many heads they have can't be read from weights: put a config.json with n_head and "
        "n_layer beside them"
    )


def _is_tied(weights, token, beside):
    """As transformers has it: tied, unless config.json says no, or another head is stored."""
    if (beside or {}).get("tie_word_embeddings") is False:
        return False
    head = "out_head.weight" if token == "tok_emb" else HEAD[0].published
    if head not in weights.shapes:
        return True
    embedding = f"{token}.weight"
    same_shape = weights.shapes[head] == weights.shapes[embedding]
    return same_shape and torch.equal(weights.read(head), weights.read(embedding))
