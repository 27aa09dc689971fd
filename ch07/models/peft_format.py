"""Adapter files in the format of Hugging Face's peft, written and read.

Each side can read what the other wrote. peft sees a model as it is published. In GPT-2, query, key
and value are one layer there: their three corrections become one correction of that layer, whose
rank is the sum of theirs and in which each keeps rows and columns of its own.
"""

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import regex
import torch
from safetensors import SafetensorError
from torch import nn

from ch07.models.adapters import LanguageModel, base_model
from ch07.models.architectures import BaseModel, ModelConfig
from ch07.models.lora import LoRALinear, lora_layers, replace_layers
from ch07.models.parameter_names import name_table
from ch07.models.prefix_tuning import PrefixEncoder, PrefixTuned, prefix_width
from ch07.runs.run_folder import ADAPTER_WEIGHTS
from ch07.utils.atomic_files import read_json, read_tensors, write_json, write_tensors
from ch07.utils.errors import InputError, UserError
from ch07.utils.validation import MAX_CONFIG_BYTES

ADAPTER_CONFIG = "adapter_config.json"
ALL_LINEAR = "all-linear"  # peft's name for all of a model's linear layers but its head
MAX_PATTERN_SECONDS = 1.0  # for one name, which takes a sensible pattern microseconds
PREFIX_TABLE = "prompt_embeddings"  # peft's name of the one tensor of a prefix
# Keys that a LoRA's config may use: those that are read here, and those that change no number.
SUPPORTED_LORA_KEYS = {
    "peft_type",
    "task_type",
    "base_model_name_or_path",
    "inference_mode",
    "auto_mapping",
    "peft_version",
    "revision",
    "r",
    "lora_alpha",
    "lora_dropout",
    "bias",
    "fan_in_fan_out",
    "target_modules",
    "rank_pattern",
    "alpha_pattern",
    "init_lora_weights",
    "megatron_core",
    "qalora_group_size",
}
# The layer patterns that are accepted. An untrusted regular expression may never finish.
SAFE_PATTERN = re.compile(r"(?:[\w.]|\\d\+?|\\\.)+")
PEFT_PREFIX = "base_model.model."  # what peft puts before the names of transformers

Tensors = Mapping[str, torch.Tensor]


class AdapterError(UserError, ValueError):
    """The folder holds no adapter that fits; the message says why."""


# --- write --------------------------------------------------------------------------------------
def save_adapter(folder: str | Path, model: LanguageModel, base: str | None = None) -> str:
    """Write only what was trained, as peft reads it; return the sha256 of the tensor file.

    `base` is the name or path of the model that the adapter belongs to. A prefix is written as its
    table, however it was computed. ValueError for a model without an adapter.
    """
    layers = lora_layers(model)
    if isinstance(model, PrefixTuned):
        config = _prefix_config(model)
        tensors = {PREFIX_TABLE: model.encoder().detach().contiguous()}
    elif layers:
        config, tensors = _lora_files(layers, base_model(model).config)
    else:
        raise InputError("this model has no adapter: its own weights were trained")
    config |= {"task_type": "CAUSAL_LM", "base_model_name_or_path": base, "inference_mode": True}
    Path(folder).mkdir(parents=True, exist_ok=True)
    write_json(Path(folder) / ADAPTER_CONFIG, config)
    return write_tensors(Path(folder) / ADAPTER_WEIGHTS, tensors)


def _prefix_config(model: PrefixTuned) -> dict[str, Any]:
    config = model.base.config
    return {
        "peft_type": "PREFIX_TUNING",
        "num_virtual_tokens": model.length,
        # peft's way to say how wide keys and values are, also where they have fewer heads
        "token_dim": config.n_kv_heads * config.head_size,
        "num_attention_heads": config.n_kv_heads,
        "num_layers": config.n_layers,
        "num_transformer_submodules": 1,
        "prefix_projection": False,
    }


def _lora_files(
    layers: Mapping[str, LoRALinear], model_config: ModelConfig
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """peft's config and tensors of {name: `LoRALinear`}; ValueError for what peft can't express."""
    if "out_head" in layers:
        raise InputError("a LoRA of the output head can't be stored in peft's format here")
    prefix = _peft_prefix(model_config)
    tensors: dict[str, torch.Tensor] = {}
    settings: dict[str, tuple[int, float]] = {}  # of each published layer, its rank and its scale
    for name, ours in _published_layers(model_config):
        present = [layers[one] for one in ours if one in layers]
        if not present:
            continue
        scale = present[0].scale
        a = torch.cat([layer.lora_A for layer in present])  # (sum of R, in)
        empty = a.new_zeros(present[0].out_features, 0)  # where a layer has no correction
        # peft has one scale for the layer: a part with another one has it in its B
        parts = [
            layers[one].lora_B * (layers[one].scale / scale) if one in layers else empty
            for one in ours
        ]
        tensors[f"{prefix}{name}.lora_A.weight"] = a.detach()
        tensors[f"{prefix}{name}.lora_B.weight"] = torch.block_diag(*parts).detach()
        settings[name] = (len(a), scale)
    return _lora_config(layers, settings, model_config), tensors


def _lora_config(
    layers: Mapping[str, LoRALinear],
    settings: Mapping[str, tuple[int, float]],
    model_config: ModelConfig,
) -> dict[str, Any]:
    """peft's config: layers are named by their kind, or if blocks differ, each by its full name."""
    by_kind: dict[str, list[tuple[int, float]]] = {}  # such as "attn.c_attn"
    for name, setting in settings.items():
        by_kind.setdefault(re.split(r"\.\d+\.", name)[-1], []).append(setting)
    blocks_are_alike = all(
        len(values) == model_config.n_layers and len(set(values)) == 1
        for values in by_kind.values()
    )
    named = {kind: values[0] for kind, values in by_kind.items()} if blocks_are_alike else settings
    first = next(iter(layers.values()))
    rank = first.lora_A.shape[0]
    scale = first.scale
    others = {name: setting for name, setting in named.items() if setting != (rank, scale)}
    return {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": rank * scale,
        "lora_dropout": 0.0,
        "bias": "none",
        # whether the published weights are transposed, as GPT-2's are
        "fan_in_fan_out": any(row.transposed for row in name_table(model_config).block),
        "target_modules": list(named),
        "rank_pattern": {name: n for name, (n, _) in others.items()},
        "alpha_pattern": {name: n * own_scale for name, (n, own_scale) in others.items()},
    }


def _peft_prefix(config: ModelConfig) -> str:
    """What peft puts before the published names of a model's kind."""
    return PEFT_PREFIX + name_table(config).wrapper


def _published_layers(config: ModelConfig) -> Iterator[tuple[str, list[str]]]:
    """(published name, our names) of every linear layer in the blocks."""
    for i in range(config.n_layers):
        for row in name_table(config).block:
            if row.linear:
                numbered = row.in_block(i)
                ours = [name.removesuffix(".weight") for name in numbered.ours]
                yield numbered.published.removesuffix(".weight"), ours


# --- read ---------------------------------------------------------------------------------------
def load_adapter(model: LanguageModel, folder: str | Path) -> LanguageModel:
    """Put an adapter, written by us or by peft, on a model; return the model with it.

    AdapterError, with the model unchanged, for what is missing, doesn't fit or isn't supported.
    """
    folder = Path(folder)
    try:
        config = read_json(folder / ADAPTER_CONFIG, MAX_CONFIG_BYTES)
        tensors = read_tensors(folder / ADAPTER_WEIGHTS)
        if isinstance(model, PrefixTuned) or lora_layers(model):
            raise InputError("the model has an adapter already")
        if not all(t.is_floating_point() and t.isfinite().all() for t in tensors.values()):
            raise InputError("its tensors must be finite floating-point numbers")
        kind = config["peft_type"]
        if kind == "PREFIX_TUNING":
            return _with_prefix(model, tensors)
        if kind == "LORA":
            return _with_lora(model, config, tensors)
        raise InputError(f"adapters of the type {kind!r} are not supported")
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        ArithmeticError,
        SafetensorError,
    ) as error:
        raise AdapterError(f"{folder} holds no adapter that can be used: {error}") from None


def _with_prefix(model: BaseModel, tensors: Tensors) -> PrefixTuned:
    table = tensors[PREFIX_TABLE]
    width = prefix_width(model.config)
    if table.ndim != 2 or table.shape[1] != width:
        raise InputError(
            f"its prefix has shape {tuple(table.shape)}, but this model needs rows of {width}"
        )
    encoder = PrefixEncoder(model.config, len(table))
    encoder.embedding.data.copy_(table)
    return PrefixTuned(model, encoder)


def _with_lora(model: BaseModel, config: Mapping[str, Any], tensors: Tensors) -> BaseModel:
    published = dict(_published_layers(model.config))
    prefix = _peft_prefix(model.config)
    layers: dict[str, LoRALinear] = {}
    for name in _adapted_layers(config, tensors, list(published), prefix):
        layers |= _lora_of_published(model, name, published[name], config=config, tensors=tensors)
    return replace_layers(model, layers)


def _lora_of_published(
    model: BaseModel,
    published: str,
    ours: list[str],
    *,
    config: Mapping[str, Any],
    tensors: Tensors,
) -> dict[str, LoRALinear]:
    """The `LoRALinear` of each of our layers that one published layer consists of, by name."""
    prefix = _peft_prefix(model.config)
    a = tensors[f"{prefix}{published}.lora_A.weight"]  # (R, in)
    b = tensors[f"{prefix}{published}.lora_B.weight"]  # (n * out, R)
    layer_name = prefix.removeprefix(PEFT_PREFIX) + published
    rank = _layer_setting(config, layer_name, "r", "rank_pattern")
    alpha = _layer_setting(config, layer_name, "lora_alpha", "alpha_pattern")
    if a.ndim != 2 or b.ndim != 2 or len(a) != rank or not math.isfinite(alpha / rank):
        raise InputError(f"{published} has rank {rank!r}, alpha {alpha!r} and {tuple(a.shape)}")
    layers = {}
    for name, part in zip(ours, b.chunk(len(ours)), strict=True):
        linear: Any = model.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        layer = LoRALinear(linear, rank, alpha)
        if layer.lora_A.shape != a.shape or layer.lora_B.shape != part.shape:
            raise InputError(f"{published} doesn't fit this model: {tuple(a.shape)}")
        layer.lora_A.data.copy_(a)
        layer.lora_B.data.copy_(part)
        layers[name] = layer
    return layers


def _adapted_layers(
    config: Mapping[str, Any], tensors: Tensors, published: list[str], prefix: str
) -> list[str]:
    """The published layers that have a LoRA; ValueError if peft would compute something else."""
    unsupported = [key for key, value in config.items() if value and key not in SUPPORTED_LORA_KEYS]
    if config.get("bias", "none") != "none":
        unsupported.append("bias")
    if unsupported:
        raise InputError(f"it uses settings that are not supported: {', '.join(unsupported)}")
    if config.get("init_lora_weights", True) not in (True, False, "gaussian", None):
        raise InputError("its base model was changed when it was created (init_lora_weights)")
    base = prefix.removeprefix(PEFT_PREFIX)
    targets = config["target_modules"]
    names = [name for name in published if _is_target(f"{base}{name}", targets)]
    expected = {f"{prefix}{name}.lora_{letter}.weight" for name in names for letter in "AB"}
    if not names or set(tensors) != expected:
        raise InputError(f"its {len(tensors)} tensors are not those of its target_modules")
    return names


def _is_target(layer: str, targets: Any) -> bool:
    """Whether peft would adapt a layer: a text is a pattern of its whole name, a list has endings.

    InputError for a pattern that is none, or that takes too long.
    """
    if targets == ALL_LINEAR:
        return True
    if not isinstance(targets, str):
        return any(layer == target or layer.endswith(f".{target}") for target in targets)
    try:
        return regex.fullmatch(targets, layer, timeout=MAX_PATTERN_SECONDS) is not None
    except (regex.error, TimeoutError) as error:
        raise InputError(f"the pattern of its target_modules can't be used: {error}") from None


def _layer_setting(config: Mapping[str, Any], layer: str, key: str, pattern_key: str) -> Any:
    """A layer's own value where one of peft's patterns matches it, else the adapter's value."""
    patterns = config.get(pattern_key) or {}
    for pattern, value in patterns.items():
        if not SAFE_PATTERN.fullmatch(pattern):
            raise InputError(f"the pattern {pattern!r} is not a plain name")
        if re.fullmatch(rf"(?:.*\.)?{pattern}", layer):
            return value
    return config[key]
