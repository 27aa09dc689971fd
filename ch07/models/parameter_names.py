"""GPT-2's weights under three names: this project's, the published files', the book's.

The one idea: the numbers are the same everywhere, only names and layout differ, and one table
says how. The published checkpoints have three habits: a linear weight is stored transposed
(`Conv1D`), query, key and value stand side by side in one tensor, and a tied head isn't stored.
Learned from litgpt's `scripts/convert_hf_checkpoint.py`, whose table is declarative too.
"""

import re
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Rename:
    """A published tensor, and ours that it is made of; {} is the number of the block."""

    published: str
    ours: tuple  # in the order in which they stand side by side
    transposed: bool = False

    def numbered(self, i):
        """The same for block i."""
        return Rename(
            self.published.format(i), tuple(o.format(i) for o in self.ours), self.transposed
        )

    def split(self, tensor, dtype=None):
        """Published tensor -> our tensors, each in memory of its own."""
        parts = (tensor.T if self.transposed else tensor).chunk(len(self.ours))
        layout = torch.contiguous_format
        return [part.to(dtype or part.dtype, copy=True, memory_format=layout) for part in parts]

    def join(self, parts):
        """Our tensors -> the published one."""
        whole = torch.cat(list(parts)) if len(parts) > 1 else parts[0]
        return whole.T.contiguous() if self.transposed else whole


def _linear(published, *ours):
    """Weight and bias of a linear layer; published, the weight lies on its side."""
    return [
        Rename(f"{published}.weight", tuple(f"{o}.weight" for o in ours), transposed=True),
        Rename(f"{published}.bias", tuple(f"{o}.bias" for o in ours)),
    ]


def _norm(published, ours):
    kinds = ("weight", "bias")
    return [Rename(f"{published}.{kind}", (f"{ours}.{kind}",)) for kind in kinds]


EMBEDDINGS = [
    Rename("wte.weight", ("tok_emb.weight",)),
    Rename("wpe.weight", ("pos_emb.weight",)),
]
BLOCK = [
    *_norm("h.{}.ln_1", "trf_blocks.{}.norm1"),
    *_linear(
        "h.{}.attn.c_attn", *(f"trf_blocks.{{}}.att.W_{name}" for name in ("query", "key", "value"))
    ),
    *_linear("h.{}.attn.c_proj", "trf_blocks.{}.att.out_proj"),
    *_norm("h.{}.ln_2", "trf_blocks.{}.norm2"),
    *_linear("h.{}.mlp.c_fc", "trf_blocks.{}.ff.layers.0"),
    *_linear("h.{}.mlp.c_proj", "trf_blocks.{}.ff.layers.2"),
]
LAST = _norm("ln_f", "final_norm")
HEAD = [Rename("lm_head.weight", ("out_head.weight",))]  # only where it isn't tied


def renames(config):
    """The table for a `GPTConfig`, in the order of the model."""
    blocks = [row.numbered(i) for i in range(config.n_layers) for row in BLOCK]
    return [*EMBEDDINGS, *blocks, *LAST, *([] if config.tied_head else HEAD)]


def to_published(state, config):
    """Our state dict -> a dict with the names and layout of `GPT2LMHeadModel`'s file.

    Names are those of OpenAI's files, without transformers' "transformer." in front. A model
    without `qkv_bias` gets biases of 0, which change nothing.
    """
    if not config.qkv_bias:
        rows = [f"trf_blocks.{i}.att.W_" for i in range(config.n_layers)]
        names = [f"{row}{name}" for row in rows for name in ("query", "key", "value")]
        zero = state["tok_emb.weight"].new_zeros(config.emb_dim)
        state = {**state, **{f"{name}.bias": zero for name in names}}
    return {row.published: row.join([state[name] for name in row.ours]) for row in renames(config)}


def from_published(state, config):
    """A state dict with published names -> ours, the tied head included."""
    result = {}
    for row in renames(config):
        result |= zip(row.ours, row.split(state[row.published]), strict=True)
    if config.tied_head:
        result["out_head.weight"] = result["tok_emb.weight"]
    return result


# What stands before names when a model was wrapped: by transformers, torch.compile, data parallel.
WRAPPERS = ("transformer.", "_orig_mod.", "module.")
# Causal masks that old files carry along; they are no weights.
MASKS = re.compile(r"h\.\d+\.attn\.(masked_)?bias|trf_blocks\.\d+\.att\.mask")


def plain_name(name):
    """A stored name without wrappers, and the book's norms under PyTorch's names.

    >>> plain_name("transformer.h.0.ln_1.weight"), plain_name("trf_blocks.0.norm1.scale")
    ('h.0.ln_1.weight', 'trf_blocks.0.norm1.weight')
    """
    while name.startswith(WRAPPERS):
        name = name.split(".", 1)[1]
    return re.sub(r"norm(\d?)\.(scale|shift)$", _norm_name, name)


def _norm_name(match):
    return f"norm{match[1]}.{'weight' if match[2] == 'scale' else 'bias'}"
