"""An adapter's own files, with the names and shapes of Hugging Face's peft: written and read.

The one idea: an adapter is a small file beside a large model that stands still, so that either
side should read what the other wrote. peft sees GPT-2 as published: query, key and value are one
layer there, which gets the three corrections as one of their joint rank, each in rows and columns
of its own.
"""

import math
import re
from pathlib import Path

import torch
from safetensors import SafetensorError

from ch07.models.lora import LoRALinear, lora_layers, put_layers
from ch07.models.parameter_names import BLOCK
from ch07.models.prefix_tuning import PrefixEncoder, PrefixTuned
from ch07.runs.run_folder import ADAPTER_WEIGHTS
from ch07.utils.atomic_files import read_json, read_tensors, write_json, write_tensors
from ch07.utils.validation import MAX_CONFIG_BYTES, check_size

ADAPTER_CONFIG = "adapter_config.json"


PREFIX = "prompt_embeddings"  # peft's name of the table
# What may stand in a LoRA's config: what is read here, and what changes no number.
KNOWN = set(
    "peft_type task_type base_model_name_or_path inference_mode auto_mapping peft_version revision "
    "r lora_alpha lora_dropout bias fan_in_fan_out target_modules rank_pattern alpha_pattern "
    "init_lora_weights megatron_core qalora_group_size".split()
)
PLAIN = re.compile(r"(?:[\w.]|\\d\+?|\\\.)+")  # a stranger's pattern that can't search for ever
WRAPPED = "base_model.model.transformer."  # what peft puts before GPT-2's names


class AdapterError(ValueError):
    """The folder holds no adapter that fits; the message says why."""


def save_adapter(folder, model, base=None):
    """Write what was trained alone, as peft reads it; returns the hash of its tensors.

    `base` is the name or path of the model that it belongs to. A prefix is written as its table,
    whatever made it. ValueError for a model without an adapter.
    """
    layers = lora_layers(model)
    if isinstance(model, PrefixTuned):
        config, tensors = _prefix_config(model), {PREFIX: model.encoder().detach().contiguous()}
    elif layers:
        config, tensors = _lora_files(layers)
    else:
        raise ValueError("this model has no adapter: its own weights were trained")
    config |= {"task_type": "CAUSAL_LM", "base_model_name_or_path": base, "inference_mode": True}
    Path(folder).mkdir(parents=True, exist_ok=True)
    write_json(Path(folder) / ADAPTER_CONFIG, config)
    return write_tensors(Path(folder) / ADAPTER_WEIGHTS, tensors)


def _prefix_config(model):
    c = model.base.config
    return {
        "peft_type": "PREFIX_TUNING",
        "num_virtual_tokens": model.length,
        "token_dim": c.emb_dim,
        "num_attention_heads": c.n_heads,
        "num_layers": c.n_layers,
        "num_transformer_submodules": 1,
        "prefix_projection": False,
    }


def _lora_files(layers):
    """peft's config and tensors of {name: `LoRALinear`}."""
    if "out_head" in layers:
        raise ValueError("a correction of the output head has no place in peft's files of GPT-2")
    ranks = {layer.lora_A.shape[0] for layer in layers.values()}
    scales = {layer.scale for layer in layers.values()}
    if len(ranks) > 1 or len(scales) > 1:
        raise ValueError("all layers of one adapter must have one rank and one alpha")
    rank, scale = ranks.pop(), scales.pop()
    tensors, targets = {}, {}
    n_layers = 1 + max(int(name.split(".")[1]) for name in layers)
    for name, ours in _published_layers(n_layers):
        present = [layers[one] for one in ours if one in layers]
        if not present:
            continue
        a = torch.cat([layer.lora_A for layer in present])  # (n * R, in)
        none = a.new_zeros(present[0].out_features, 0)
        b = torch.block_diag(*(layers[one].lora_B if one in layers else none for one in ours))
        tensors[f"{WRAPPED}{name}.lora_A.weight"] = a.detach()
        tensors[f"{WRAPPED}{name}.lora_B.weight"] = b.detach()
        if targets.setdefault(name.split(".", 2)[2], len(a)) != len(a):
            raise ValueError("the same layers must be corrected in every block")
    config = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": rank * scale,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": True,  # GPT-2's published weights lie on their side
        "target_modules": list(targets),
        "rank_pattern": {name: n for name, n in targets.items() if n != rank},
        "alpha_pattern": {name: n * scale for name, n in targets.items() if n != rank},
    }
    return config, tensors


def _published_layers(n_layers):
    """(published name, our names) of every linear layer in the blocks."""
    for i in range(n_layers):
        for row in (row.numbered(i) for row in BLOCK if row.transposed):
            ours = [name.removesuffix(".weight") for name in row.ours]
            yield row.published.removesuffix(".weight"), ours


# --- and read -----------------------------------------------------------------------------------
def load_adapter(model, folder):
    """Put an adapter, of ours or of peft, on a `GPTModel`: returns the model with it.

    AdapterError, and the model is as it was, for what is missing, doesn't fit or isn't known.
    """
    folder = Path(folder)
    try:
        check_size(folder / ADAPTER_CONFIG, MAX_CONFIG_BYTES)
        config, tensors = read_json(folder / ADAPTER_CONFIG), read_tensors(folder / ADAPTER_WEIGHTS)
        if lora_layers(model) or isinstance(model, PrefixTuned):
            raise ValueError("the model has an adapter already")
        if not all(t.is_floating_point() and t.isfinite().all() for t in tensors.values()):
            raise ValueError("it holds NaN, infinity, or no fractions at all")
        kind = config["peft_type"]
        if kind == "PREFIX_TUNING":
            return _with_prefix(model, tensors)
        if kind == "LORA":
            return _with_lora(model, config, tensors)
        raise ValueError(f"adapters of the kind {kind!r} are not known here")
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


def _with_prefix(model, tensors):
    table, c = tensors[PREFIX], model.config
    if table.ndim != 2 or table.shape[1] != 2 * c.n_layers * c.emb_dim:
        raise ValueError(
            f"its prefix has shape {tuple(table.shape)}, but this model's has rows of "
            f"{2 * c.n_layers * c.emb_dim}"
        )
    encoder = PrefixEncoder(c, len(table))
    encoder.embedding.data.copy_(table)
    return PrefixTuned(model, encoder)


def _with_lora(model, config, tensors):
    published = dict(_published_layers(model.config.n_layers))
    names = _checked_lora(config, tensors, published)
    new = {}
    for name in names:
        a, b = (tensors[f"{WRAPPED}{name}.lora_{letter}.weight"] for letter in "AB")
        rank, alpha = (_setting(config, name, key) for key in ("r", "lora_alpha"))
        if a.ndim != 2 or b.ndim != 2 or len(a) != rank or not math.isfinite(alpha / rank):
            raise ValueError(f"{name} has rank {rank!r}, alpha {alpha!r} and {tuple(a.shape)}")
        for our_name, part in zip(published[name], b.chunk(len(published[name])), strict=True):
            layer = LoRALinear(model.get_submodule(our_name), rank, alpha)
            if layer.lora_A.shape != a.shape or layer.lora_B.shape != part.shape:
                raise ValueError(f"{name} doesn't fit this model: {tuple(a.shape)}")
            layer.lora_A.data.copy_(a)
            layer.lora_B.data.copy_(part)
            new[our_name] = layer
    return put_layers(model, new)


def _checked_lora(config, tensors, published):
    """The published layers of an adapter; ValueError for what would compute something else here."""
    odd = [name for name, value in config.items() if value and name not in KNOWN]
    if odd or config.get("bias", "none") != "none":
        raise ValueError(f"it uses what is not known here: {', '.join(odd) or 'bias'}")
    if config.get("init_lora_weights", True) not in (True, False, "gaussian", None):
        raise ValueError("its base was changed when it was made (init_lora_weights)")
    ends = tuple(f".{target}" for target in config["target_modules"])
    names = [name for name in published if f".{name}".endswith(ends)]
    expected = {f"{WRAPPED}{name}.lora_{letter}.weight" for name in names for letter in "AB"}
    if not names or set(tensors) != expected:
        raise ValueError(f"it has {len(tensors)} tensors that are not those of its target_modules")
    return names


def _setting(config, name, key):
    """A layer's own rank or alpha, where peft's patterns give it one."""
    pattern = config.get({"r": "rank_pattern", "lora_alpha": "alpha_pattern"}[key]) or {}
    for end, value in pattern.items():
        if not PLAIN.fullmatch(end):
            raise ValueError(f"the pattern {end!r} is no plain name")
        if re.fullmatch(rf"(?:.*\.)?{end}", f"transformer.{name}"):
            return value
    return config[key]
