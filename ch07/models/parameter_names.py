"""Three names for GPT-2's weights: this project's, those of the published files, and the book's.

The numbers are the same everywhere; only names and layout differ, and one table says how. The
published checkpoints have three peculiarities: the weight of a linear layer is transposed
(`Conv1D`), query, key and value are one tensor, side by side, and a tied output head isn't stored.
The idea of a declarative table is from litgpt's `scripts/convert_hf_checkpoint.py`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from gpt_model import GPTConfig


@dataclass(frozen=True)
class Rename:
    """A published tensor, and those of ours that it consists of; {} is the number of the block."""

    published: str
    ours: tuple[str, ...]  # in the order in which they stand side by side
    transposed: bool = False

    def in_block(self, i: int) -> "Rename":
        """The same row of the table for block i."""
        ours = tuple(name.format(i) for name in self.ours)
        return Rename(self.published.format(i), ours, self.transposed)

    def split(self, tensor: torch.Tensor, dtype: torch.dtype | None = None) -> list[torch.Tensor]:
        """Published tensor -> our tensors, each in memory of its own."""
        parts = (tensor.T if self.transposed else tensor).chunk(len(self.ours))
        layout = torch.contiguous_format
        return [part.to(dtype or part.dtype, copy=True, memory_format=layout) for part in parts]

    def join(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        """Our tensors -> the published one."""
        whole = torch.cat(list(parts)) if len(parts) > 1 else parts[0]
        return whole.T.contiguous() if self.transposed else whole

    def joined_shape(self, shapes: Sequence[Sequence[int]]) -> tuple[int, ...]:
        """The shape of the published tensor, from the shapes of ours."""
        whole = (sum(shape[0] for shape in shapes), *shapes[0][1:])
        return whole[::-1] if self.transposed else whole


def _linear(published: str, *ours: str) -> list[Rename]:
    """Weight and bias of a linear layer, whose published weight is transposed."""
    return [
        Rename(f"{published}.weight", tuple(f"{name}.weight" for name in ours), transposed=True),
        Rename(f"{published}.bias", tuple(f"{name}.bias" for name in ours)),
    ]


def _norm(published: str, ours: str) -> list[Rename]:
    """Weight and bias of a layer norm."""
    return [Rename(f"{published}.{kind}", (f"{ours}.{kind}",)) for kind in ("weight", "bias")]


EMBEDDINGS = [
    Rename("wte.weight", ("tok_emb.weight",)),
    Rename("wpe.weight", ("pos_emb.weight",)),
]
BLOCK = [
    *_norm("h.{}.ln_1", "trf_blocks.{}.norm1"),
    *_linear(
        "h.{}.attn.c_attn",
        "trf_blocks.{}.att.W_query",
        "trf_blocks.{}.att.W_key",
        "trf_blocks.{}.att.W_value",
    ),
    *_linear("h.{}.attn.c_proj", "trf_blocks.{}.att.out_proj"),
    *_norm("h.{}.ln_2", "trf_blocks.{}.norm2"),
    *_linear("h.{}.mlp.c_fc", "trf_blocks.{}.ff.layers.0"),
    *_linear("h.{}.mlp.c_proj", "trf_blocks.{}.ff.layers.2"),
]
FINAL_NORM = _norm("ln_f", "final_norm")
HEAD = [Rename("lm_head.weight", ("out_head.weight",))]  # only if it isn't tied


def renames(config: GPTConfig) -> list[Rename]:
    """The whole table for a model's shape, in the order of the model."""
    blocks = [row.in_block(i) for i in range(config.n_layers) for row in BLOCK]
    head = [] if config.tied_head else HEAD
    return [*EMBEDDINGS, *blocks, *FINAL_NORM, *head]


def to_published(state: Mapping[str, torch.Tensor], config: GPTConfig) -> dict[str, torch.Tensor]:
    """Our state dict -> one with the names and the layout of the published files.

    These are OpenAI's names, without the "transformer." that transformers puts in front. A model
    without `qkv_bias` gets biases of 0, which change nothing.
    """
    if not config.qkv_bias:
        zeros = state["tok_emb.weight"].new_zeros(config.emb_dim)
        biases = {
            f"trf_blocks.{i}.att.W_{name}.bias": zeros
            for i in range(config.n_layers)
            for name in ("query", "key", "value")
        }
        state = {**state, **biases}
    return {row.published: row.join([state[name] for name in row.ours]) for row in renames(config)}


def from_published(state: Mapping[str, torch.Tensor], config: GPTConfig) -> dict[str, torch.Tensor]:
    """A state dict with published names and layout -> ours, including the tied head."""
    result: dict[str, torch.Tensor] = {}
    for row in renames(config):
        result.update(zip(row.ours, row.split(state[row.published]), strict=True))
    if config.tied_head:
        result["out_head.weight"] = result["tok_emb.weight"]
    return result


# Prefixes of names when a model was wrapped: by transformers, torch.compile, data parallelism.
WRAPPER_PREFIXES = ("transformer.", "_orig_mod.", "module.")
# Causal masks that old files contain; they are not weights.
MASKS = re.compile(r"h\.\d+\.attn\.(masked_)?bias|trf_blocks\.\d+\.att\.mask")


def plain_name(name: str) -> str:
    """A stored name without wrapper prefixes, and the book's norms under PyTorch's names.

    >>> plain_name("transformer.h.0.ln_1.weight"), plain_name("trf_blocks.0.norm1.scale")
    ('h.0.ln_1.weight', 'trf_blocks.0.norm1.weight')
    """
    while name.startswith(WRAPPER_PREFIXES):
        name = name.split(".", 1)[1]
    return re.sub(r"norm(\d?)\.(scale|shift)$", _norm_parameter, name)


def _norm_parameter(match: re.Match[str]) -> str:
    return f"norm{match[1]}.{'weight' if match[2] == 'scale' else 'bias'}"
