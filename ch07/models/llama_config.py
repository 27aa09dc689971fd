"""The shape of a Llama from a config.json of transformers, or from the header of a GGUF file.

A setting that this Llama lacks is refused by name: other activations, biases, positions that are
stretched for longer texts.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ch07.models.gguf_file import GGUFFile
from ch07.models.llama import LlamaConfig
from ch07.models.parameter_names import HEAD
from ch07.models.weight_reader import StoredWeights, WeightsError, is_tied
from ch07.runs.run_folder import MAX_MODEL_NUMBERS, MAX_MODEL_SIZES
from ch07.utils.validation import quote

MODEL_TYPE = "llama"
EMBEDDING = "model.embed_tokens.weight"
GGUF_HEAD = "output.weight"  # a tied head is not stored
# The values of a config.json that this Llama implements; any other value is another model.
SUPPORTED_VALUES: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "attention_bias": (False,),
    "mlp_bias": (False,),
    "rope_scaling": (None, {}, {"rope_type": "default"}, {"type": "default"}),
    "sliding_window": (None,),
}
DEFAULTS = {  # of a LlamaConfig of transformers that doesn't say
    "rms_norm_eps": 1e-6,
    "max_position_embeddings": 2048,
    "rope_theta": 10000.0,
}
# The same for a GGUF file, without the "llama." in front.
SUPPORTED_GGUF_VALUES: dict[str, tuple[Any, ...]] = {
    "rope.scaling.type": ("none",),
    "rope.scaling.factor": (1.0,),
    "rope.scale_linear": (1.0,),
    "attention.sliding_window": (0,),
    "logit_scale": (1.0,),
    "expert_count": (0,),
}


def is_llama(stored: Mapping[str, Any]) -> bool:
    """Whether a config.json describes a Llama; any other kind is left to `gpt2_config`."""
    return stored.get("model_type") == MODEL_TYPE


def llama_config(path: Path, weights: StoredWeights, stored: Mapping[str, Any]) -> LlamaConfig:
    """The `LlamaConfig` of weights and their config.json; WeightsError if it is another model."""
    problems = _unsupported(stored, SUPPORTED_VALUES)
    rope = stored.get("rope_parameters") or {}  # where transformers 5 has it
    kind = (rope.get("rope_type") or rope.get("type")) if isinstance(rope, Mapping) else rope
    if kind not in (None, "default"):
        problems.append(f"rope_parameters is {quote(str(rope))}, but must be of the type default")
        rope = {}
    values = {**DEFAULTS, **{key: value for key, value in stored.items() if value is not None}}
    values |= {key: value for key, value in rope.items() if key == "rope_theta"}
    n_heads = values.get("num_attention_heads")
    shape = {
        "vocab_size": values.get("vocab_size"),
        "context_length": values.get("max_position_embeddings"),
        "emb_dim": values.get("hidden_size"),
        "n_heads": n_heads,
        "n_kv_heads": values.get("num_key_value_heads", n_heads),
        "n_layers": values.get("num_hidden_layers"),
        "hidden_dim": values.get("intermediate_size"),
        "rope_theta": values.get("rope_theta"),
        "norm_eps": values.get("rms_norm_eps"),
        "tied_head": values.get("tie_word_embeddings", False),
    }
    if shape["tied_head"] is True:
        shape["tied_head"] = is_tied(weights, EMBEDDING, HEAD.published)
    return _make(path, "its config.json", shape, [values.get("head_dim")], problems)


def config_from_gguf(file: GGUFFile) -> LlamaConfig:
    """The `LlamaConfig` in the header of a GGUF file; WeightsError if it is another model."""
    path = file.path
    metadata = file.metadata
    kind = metadata.get("general.architecture")
    if kind != MODEL_TYPE:
        raise WeightsError(
            f"{path} holds a model of the kind {quote(str(kind))}; the only kind of GGUF file that "
            "is read is 'llama'"
        )
    prefix = f"{MODEL_TYPE}."
    values = {
        key.removeprefix(prefix): value for key, value in metadata.items() if key.startswith(prefix)
    }
    problems = _unsupported(values, SUPPORTED_GGUF_VALUES)
    n_heads = values.get("attention.head_count")
    tokens = metadata.get("tokenizer.ggml.tokens")
    shape = {
        "vocab_size": values.get("vocab_size", len(tokens) if isinstance(tokens, list) else None),
        "context_length": values.get("context_length"),
        "emb_dim": values.get("embedding_length"),
        "n_heads": n_heads,
        "n_kv_heads": values.get("attention.head_count_kv", n_heads),
        "n_layers": values.get("block_count"),
        "hidden_dim": values.get("feed_forward_length"),
        "rope_theta": _short(values.get("rope.freq_base", DEFAULTS["rope_theta"])),
        "norm_eps": _short(values.get("attention.layer_norm_rms_epsilon")),
        "tied_head": GGUF_HEAD not in file.tensors,
    }
    sizes = ("attention.key_length", "attention.value_length", "rope.dimension_count")
    return _make(path, "its header", shape, [values.get(name) for name in sizes], problems)


def _short(value: Any) -> Any:
    """A float32 rounded to six digits: 1e-05, not 9.999999747378752e-06."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _unsupported(values: Mapping[str, Any], supported: Mapping[str, tuple[Any, ...]]) -> list[str]:
    return [
        f"{key} is {quote(str(values[key]))}, but must be {' or '.join(map(str, allowed))}"
        for key, allowed in supported.items()
        if key in values and values[key] not in allowed
    ]


def _make(
    path: Path, where: str, shape: dict[str, Any], head_sizes: Sequence[Any], problems: list[str]
) -> LlamaConfig:
    """The shape; WeightsError with all problems if there are any."""
    problems += _invalid_values(shape)
    if not problems:
        try:
            config = LlamaConfig(**shape)
            problems += [
                f"a head has {quote(str(size))} numbers, but must have {config.head_size}, the "
                "width divided by the heads"
                for size in head_sizes
                if size not in (None, config.head_size)
            ]
            if not problems:
                return config
        except ValueError as error:
            problems.append(str(error))
    raise WeightsError(
        f"{path}: {where} describes another model than this Llama: {'; '.join(problems)}"
    )


def _invalid_values(shape: Mapping[str, Any]) -> list[str]:
    """What is wrong with the values of a shape; the limits are those of a run's own."""
    problems = []
    for name, value in shape.items():
        if name == "tied_head":
            valid = isinstance(value, bool)
        elif name in MAX_MODEL_NUMBERS:
            valid = type(value) in (int, float) and 0 < value <= MAX_MODEL_NUMBERS[name]
        else:
            valid = type(value) is int and 1 <= value <= MAX_MODEL_SIZES[name]
        if not valid:
            problems.append(f"{name} is {quote(str(value))}")
    return problems
