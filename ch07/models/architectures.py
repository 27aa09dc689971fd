"""The two kinds of models, GPT-2 and Llama: which class belongs to which shape.

The one idea: a model's shape says what kind it is, and only this module looks. Everything that
trains, answers, adapts or stores a model uses what both kinds have in common: the way they are
called, and the names `tok_emb`, `trf_blocks`, `final_norm` and `out_head`.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import torch

from ch07.models.llama import LlamaConfig, LlamaModel
from ch07.utils.errors import InputError
from gpt_model import GPTConfig, GPTModel

ModelConfig = GPTConfig | LlamaConfig
BaseModel = GPTModel | LlamaModel

KIND = "architecture"  # the key in config.json; runs of GPT-2 have none
LLAMA = "llama"


def make_model(config: ModelConfig, generator: torch.Generator | None = None) -> BaseModel:
    """A model of that shape; its initial weights are drawn from `generator`."""
    if isinstance(config, LlamaConfig):
        return LlamaModel(config, generator)
    return GPTModel(config, generator)


def narrow_shape(config: ModelConfig, width: int, head_size: int) -> ModelConfig:
    """The shape with `width` numbers for each token, in heads of `head_size`.

    What else depends on the width shrinks with it; a model of that width keeps its heads.
    """
    if width == config.emb_dim:
        return config
    n_heads = width // head_size
    if isinstance(config, LlamaConfig):
        hidden_dim = config.hidden_dim * width // config.emb_dim
        n_kv_heads = math.gcd(n_heads, config.n_kv_heads)
        config = replace(config, hidden_dim=hidden_dim, n_kv_heads=n_kv_heads)
    return replace(config, emb_dim=width, n_heads=n_heads)


def describe_shape(config: ModelConfig) -> dict[str, Any]:
    """A shape as a dict for config.json, from which `read_shape` makes it again."""
    values = asdict(config)
    return {KIND: LLAMA, **values} if isinstance(config, LlamaConfig) else values


def read_shape(values: Mapping[str, Any]) -> ModelConfig:
    """The shape in a dict; ValueError or TypeError for values that no model can have.

    >>> read_shape(describe_shape(LlamaConfig())) == LlamaConfig()
    True
    """
    if KIND not in values:
        return GPTConfig(**values)
    if values[KIND] != LLAMA:
        raise InputError(f"the model's architecture is {values[KIND]!r}, which is unknown")
    return LlamaConfig(**{name: value for name, value in values.items() if name != KIND})
