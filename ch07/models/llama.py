"""Llama by hand: what most open models of today change in GPT-2, in four places.

The one idea: blocks, residual stream and training are those of `gpt_model.py`; this file holds what
differs. `RMSNorm` replaces the layer norm, rotary positions the position embedding, SwiGLU the
feed-forward layers, and grouped-query attention lets several heads of queries share one head of
keys and values. No layer has a bias. Read it beside `gpt_model.py`, from which it imports
attention, cache and positions.

Axes: those of `gpt_model.py`, and G heads of keys and values, where H is a multiple of G.

Sources: Touvron et al. 2023, "LLaMA: Open and Efficient Foundation Language Models", section 2.2,
and, for grouped queries, Ainslie et al. 2023. Names of the four parts as in Hugging Face's
`LlamaForCausalLM`, all others as in the book.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ch07.utils.errors import InputError
from gpt_model import KVCache, causal_attention, check_length, positions_from_zero


@dataclass(frozen=True)
class LlamaConfig:
    """The shape of a Llama model; the defaults are those of SmolLM2-135M."""

    vocab_size: int = 49152  # number of different tokens
    context_length: int = 8192  # most tokens that one row can hold
    emb_dim: int = 576  # numbers that describe one token
    n_heads: int = 9  # heads of queries per block
    n_kv_heads: int = 3  # heads of keys and values per block
    n_layers: int = 30  # blocks
    hidden_dim: int = 1536  # width of the feed-forward layers
    rope_theta: float = 100_000.0  # the larger, the slower the slowest pair of numbers rotates
    norm_eps: float = 1e-5  # keeps the norm of a row of zeros from dividing by zero
    drop_rate: float = 0.0  # share of activations that dropout sets to zero in training
    tied_head: bool = True  # output head and token embedding share a matrix

    def __post_init__(self) -> None:
        if min(self.n_heads, self.n_kv_heads) < 1:
            raise InputError("a Llama needs at least one head of queries and one of keys")
        if self.emb_dim % self.n_heads or self.head_size % 2:
            raise InputError(
                f"emb_dim {self.emb_dim} can't be divided among n_heads {self.n_heads} in pairs: "
                "choose an emb_dim that is a multiple of twice n_heads"
            )
        if self.n_heads % self.n_kv_heads:
            raise InputError(
                f"n_heads {self.n_heads} is not a multiple of n_kv_heads {self.n_kv_heads}: every "
                "head of keys must serve the same number of heads of queries"
            )

    @property
    def head_size(self) -> int:
        """Numbers that describe one token in one head, D."""
        return self.emb_dim // self.n_heads


class RMSNorm(nn.Module):
    """Divide a token's C numbers by their root mean square, then scale each by a weight.

    A layer norm also subtracts the mean and adds a bias; leaving both out costs no quality (Zhang &
    Sennrich 2019, "Root Mean Square Layer Normalization").

    >>> RMSNorm(2)(torch.tensor([[3.0, 4.0]])) * 12.5**0.5  # the mean of 9 and 16 is 12.5
    tensor([[3.0000, 4.0000]], grad_fn=<MulBackward0>)
    """

    def __init__(self, emb_dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(emb_dim))

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()  # squares of 16-bit numbers would overflow, or lose their last digits
        mean_square = wide.square().mean(dim=-1, keepdim=True)  # (..., C) -> (..., 1)
        return (wide * torch.rsqrt(mean_square + self.eps)).to(x.dtype) * self.weight


def rotation_angles(positions: Tensor, head_size: int, theta: float) -> Tensor:
    """The angle of each pair of numbers: positions (...,) -> (..., D / 2), in radians.

    At position p, pair i is rotated by p * theta^(-2i / D): the first pair turns by one radian per
    token, and each further pair more slowly.

    >>> rotation_angles(torch.tensor([0, 1, 2]), head_size=4, theta=100.0)
    tensor([[0.0000, 0.0000],
            [1.0000, 0.1000],
            [2.0000, 0.2000]])
    """
    i = torch.arange(0, head_size, 2, device=positions.device)  # 0, 2, 4, ...
    per_token = 1.0 / theta ** (i.float() / head_size)  # (D / 2,)
    return positions[..., None].float() * per_token


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate queries or keys (B, heads, T, D): pair i is numbers i and i + D/2 of a head.

    `cos` and `sin` are those of the angles, (T, D / 2) or (B, 1, T, D / 2). A dot product of a
    rotated query and a rotated key depends on the distance of their tokens, not on their places
    (Su et al. 2021, "RoFormer", section 3.4). Here a pair is spread over the two halves of a head;
    the paper pairs neighbours, 2i and 2i + 1. Weights fit only the order that they were made for.
    """
    first, second = x.float().chunk(2, dim=-1)  # (B, heads, T, D / 2) each
    rotated = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
    return rotated.to(x.dtype)


class GroupedQueryAttention(nn.Module):
    """Causal self-attention in which H / G heads of queries share a head of keys and values.

    The cache holds only keys and values, so it is H / G times smaller.
    """

    def __init__(self, config: LlamaConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer  # number of the block, from 0: its place in the cache
        self.head_size = config.head_size
        self.drop_rate = config.drop_rate
        kv_dim = config.n_kv_heads * config.head_size
        self.W_query = nn.Linear(config.emb_dim, config.emb_dim, bias=False)
        self.W_key = nn.Linear(config.emb_dim, kv_dim, bias=False)
        self.W_value = nn.Linear(config.emb_dim, kv_dim, bias=False)
        self.out_proj = nn.Linear(config.emb_dim, config.emb_dim, bias=False)

    def forward(
        self,
        x: Tensor,
        cos: Tensor,
        sin: Tensor,
        mask: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        B, T, C = x.shape
        shape = (B, T, -1, self.head_size)
        queries = rotate(self.W_query(x).view(shape).transpose(1, 2), cos, sin)  # (B, H, T, D)
        keys = rotate(self.W_key(x).view(shape).transpose(1, 2), cos, sin)  # (B, G, T, D)
        values = self.W_value(x).view(shape).transpose(1, 2)  # (B, G, T, D): not rotated
        if cache is not None:
            keys, values = cache.extend(self.layer, keys, values)  # (B, G, S, D)
        drop_rate = self.drop_rate if self.training else 0.0
        context = causal_attention(queries, keys, values, mask, drop_rate)  # (B, H, T, D)
        return self.out_proj(context.transpose(1, 2).reshape(B, T, C))  # -> (B, T, C)


class SwiGLU(nn.Module):
    """Feed-forward with a gate: down(silu(gate(x)) * up(x)), applied to each token separately.

    Where GPT-2 has two matrices there are three (Shazeer 2020, "GLU Variants Improve Transformer").
    """

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.emb_dim, config.hidden_dim, bias=False)
        self.up = nn.Linear(config.emb_dim, config.hidden_dim, bias=False)
        self.down = nn.Linear(config.hidden_dim, config.emb_dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))  # (..., C) -> (..., hidden) -> (..., C)


class LlamaBlock(nn.Module):
    """Attention, then feed-forward; each reads a normalised copy of x and adds its result to x."""

    def __init__(self, config: LlamaConfig, layer: int) -> None:
        super().__init__()
        self.norm1 = RMSNorm(config.emb_dim, config.norm_eps)
        self.att = GroupedQueryAttention(config, layer)
        self.norm2 = RMSNorm(config.emb_dim, config.norm_eps)
        self.ff = SwiGLU(config)
        self.drop_shortcut = nn.Dropout(config.drop_rate)

    def forward(
        self,
        x: Tensor,
        cos: Tensor,
        sin: Tensor,
        mask: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        x = x + self.drop_shortcut(self.att(self.norm1(x), cos, sin, mask, cache))
        return x + self.drop_shortcut(self.ff(self.norm2(x)))


class LlamaModel(nn.Module):
    """Llama, from token ids (B, T) to next-token logits (B, T, V); called as `GPTModel` is.

    `config` is a LlamaConfig or a dict of its values; the initial weights are drawn from
    `generator`.
    """

    def __init__(
        self,
        config: LlamaConfig | dict[str, Any],
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.config = config if isinstance(config, LlamaConfig) else LlamaConfig(**config)
        c = self.config
        self.tok_emb = nn.Embedding(c.vocab_size, c.emb_dim)
        self.drop_emb = nn.Dropout(c.drop_rate)
        self.trf_blocks = nn.ModuleList(LlamaBlock(c, layer) for layer in range(c.n_layers))
        self.final_norm = RMSNorm(c.emb_dim, c.norm_eps)
        self.out_head = nn.Linear(c.emb_dim, c.vocab_size, bias=False)
        if c.tied_head:
            self.out_head.weight = self.tok_emb.weight
        self.init_weights(generator)

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Draw initial weights with standard deviation 0.02; norms are 1.

        As in GPT-2, the two layers per block whose results are added to x get 0.02 / sqrt(2L).
        """
        residual_std = 0.02 / (2 * self.config.n_layers) ** 0.5
        for name, weight in self.named_parameters():
            if "norm" in name:
                weight.fill_(1.0)
            elif name.endswith(("out_proj.weight", "ff.down.weight")):
                weight.normal_(0.0, residual_std, generator=generator)
            else:
                weight.normal_(0.0, 0.02, generator=generator)

    def new_cache(self, max_length: int) -> KVCache:
        """An empty KV cache with room for `max_length` columns."""
        return KVCache(self.config.n_layers, max_length)

    def forward(
        self,
        token_ids: Tensor,
        wanted: Tensor | tuple[Tensor | slice | int, ...] | None = None,
        cache: KVCache | None = None,
        left_padding: Tensor | None = None,
    ) -> Tensor:
        """Next-token logits (B, T, V), or (N, V) for the N `wanted` positions only.

        As `GPTModel.forward`, which explains the arguments.
        """
        check_length(self.config.context_length, token_ids, cache, left_padding)
        if cache is None and left_padding is None:
            positions = positions_from_zero(token_ids)
            mask = None
        else:
            read_before = KVCache(n_layers=0, max_length=0) if cache is None else cache
            positions, mask = read_before.positions_and_mask(token_ids, left_padding)
        if positions.ndim == 2:
            positions = positions[:, None]  # (B, T) -> (B, 1, T): the same for every head
        angles = rotation_angles(positions, self.config.head_size, self.config.rope_theta)
        cos = angles.cos()  # the same in every block
        sin = angles.sin()
        x = self.drop_emb(self.tok_emb(token_ids))  # (B, T) -> (B, T, C)
        for block in self.trf_blocks:
            x = block(x, cos, sin, mask, cache)
        x = self.final_norm(x)
        if wanted is not None:
            x = x[wanted]  # (B, T, C) -> (N, C)
        return self.out_head(x)
