"""The shape of a GPT-2 from its stored weights and its config.json, if there is one."""

from pathlib import Path
from typing import Any

from ch07.models.parameter_names import HEAD
from ch07.models.weight_reader import StoredWeights, WeightsError, is_tied
from ch07.utils.validation import quote
from gpt_model import MODEL_SIZES, GPTConfig

GPT2 = "gpt2"
# The values in a GPT2Config that this GPT-2 implements; any other value is another model.
SUPPORTED_VALUES = {
    "model_type": (GPT2,),
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "layer_norm_epsilon": (1e-5,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
}
DEFAULT_HEADS = 12  # of a GPT2Config that doesn't say
DEFAULT_LAYERS = 12
MAX_LAYERS = 1000  # more is a fault in a file, and would take forever to list


def gpt2_config(
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
        kind = (stored_config or {}).get("model_type", GPT2)
        if kind != GPT2:
            raise WeightsError(
                f"{path} holds a model of the kind {quote(str(kind))}; GPT-2 and Llama can be read"
            ) from None
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
    declared = stored_config is None or stored_config.get("tie_word_embeddings") is not False
    head = "out_head.weight" if token == "tok_emb" else HEAD.published
    return is_tied(weights, f"{token}.weight", head, declared)
