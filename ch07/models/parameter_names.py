"""Names of weights: this project's, those of the published files, and the book's.

The numbers are the same everywhere; only names and layout differ, and a table for each kind of
model says how. GPT-2's published files have two peculiarities: the weight of a linear layer is
transposed (`Conv1D`), and query, key and value are one tensor, side by side. A tied output head
isn't stored. The idea of a declarative table is from litgpt's `scripts/convert_hf_checkpoint.py`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from ch07.models.architectures import ModelConfig
from ch07.models.llama import LlamaConfig
from gpt_model import GPTConfig


@dataclass(frozen=True)
class Rename:
    """A published tensor, and those of ours that it consists of; {} is the number of the block."""

    published: str
    ours: tuple[str, ...]  # in the order in which they stand side by side
    transposed: bool = False
    linear: bool = False  # whether it is the matrix of a linear layer, which an adapter may change

    def in_block(self, i: int) -> "Rename":
        """The same row of the table for block i."""
        ours = tuple(name.format(i) for name in self.ours)
        return replace(self, published=self.published.format(i), ours=ours)

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


@dataclass(frozen=True)
class NameTable:
    """All names of a kind of model; those of one block are for every block."""

    before: list[Rename]  # the embeddings
    block: list[Rename]
    after: list[Rename]  # the last norm
    wrapper: str  # what transformers puts before these names, except before the output head's


HEAD = Rename("lm_head.weight", ("out_head.weight",))  # only if it isn't tied


def _conv1d(published: str, *ours: str) -> list[Rename]:
    """Weight and bias of one of GPT-2's linear layers, whose published weight is transposed."""
    weights = tuple(f"{name}.weight" for name in ours)
    biases = tuple(f"{name}.bias" for name in ours)
    return [
        Rename(f"{published}.weight", weights, transposed=True, linear=True),
        Rename(f"{published}.bias", biases),
    ]


def _layer_norm(published: str, ours: str) -> list[Rename]:
    """Weight and bias of a layer norm."""
    return [Rename(f"{published}.{kind}", (f"{ours}.{kind}",)) for kind in ("weight", "bias")]


GPT2_NAMES = NameTable(
    before=[
        Rename("wte.weight", ("tok_emb.weight",)),
        Rename("wpe.weight", ("pos_emb.weight",)),
    ],
    block=[
        *_layer_norm("h.{}.ln_1", "trf_blocks.{}.norm1"),
        *_conv1d(
            "h.{}.attn.c_attn",
            "trf_blocks.{}.att.W_query",
            "trf_blocks.{}.att.W_key",
            "trf_blocks.{}.att.W_value",
        ),
        *_conv1d("h.{}.attn.c_proj", "trf_blocks.{}.att.out_proj"),
        *_layer_norm("h.{}.ln_2", "trf_blocks.{}.norm2"),
        *_conv1d("h.{}.mlp.c_fc", "trf_blocks.{}.ff.layers.0"),
        *_conv1d("h.{}.mlp.c_proj", "trf_blocks.{}.ff.layers.2"),
    ],
    after=_layer_norm("ln_f", "final_norm"),
    wrapper="transformer.",
)


def _linear(published: str, ours: str) -> Rename:
    """The weight of one of Llama's linear layers, which have no bias."""
    return Rename(f"{published}.weight", (f"{ours}.weight",), linear=True)


LLAMA_NAMES = NameTable(
    before=[Rename("model.embed_tokens.weight", ("tok_emb.weight",))],
    block=[
        Rename("model.layers.{}.input_layernorm.weight", ("trf_blocks.{}.norm1.weight",)),
        _linear("model.layers.{}.self_attn.q_proj", "trf_blocks.{}.att.W_query"),
        _linear("model.layers.{}.self_attn.k_proj", "trf_blocks.{}.att.W_key"),
        _linear("model.layers.{}.self_attn.v_proj", "trf_blocks.{}.att.W_value"),
        _linear("model.layers.{}.self_attn.o_proj", "trf_blocks.{}.att.out_proj"),
        Rename("model.layers.{}.post_attention_layernorm.weight", ("trf_blocks.{}.norm2.weight",)),
        _linear("model.layers.{}.mlp.gate_proj", "trf_blocks.{}.ff.gate"),
        _linear("model.layers.{}.mlp.up_proj", "trf_blocks.{}.ff.up"),
        _linear("model.layers.{}.mlp.down_proj", "trf_blocks.{}.ff.down"),
    ],
    after=[Rename("model.norm.weight", ("final_norm.weight",))],
    wrapper="",
)


def name_table(config: ModelConfig) -> NameTable:
    """The names of a model's kind."""
    return LLAMA_NAMES if isinstance(config, LlamaConfig) else GPT2_NAMES


def renames(config: ModelConfig) -> list[Rename]:
    """The whole table for a model's shape, in the order of the model."""
    table = name_table(config)
    blocks = [row.in_block(i) for i in range(config.n_layers) for row in table.block]
    head = [] if config.tied_head else [HEAD]
    return [*table.before, *blocks, *table.after, *head]


def to_published(state: Mapping[str, torch.Tensor], config: ModelConfig) -> dict[str, torch.Tensor]:
    """Our state dict -> one with the names and the layout of the published files.

    For GPT-2, these are OpenAI's names, without the "transformer." that transformers puts in front.
    A GPT-2 without `qkv_bias` gets biases of 0, which change nothing.
    """
    if isinstance(config, GPTConfig) and not config.qkv_bias:
        zeros = state["tok_emb.weight"].new_zeros(config.emb_dim)
        biases = {
            f"trf_blocks.{i}.att.W_{name}.bias": zeros
            for i in range(config.n_layers)
            for name in ("query", "key", "value")
        }
        state = {**state, **biases}
    return {row.published: row.join([state[name] for name in row.ours]) for row in renames(config)}


def from_published(
    state: Mapping[str, torch.Tensor], config: ModelConfig
) -> dict[str, torch.Tensor]:
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
