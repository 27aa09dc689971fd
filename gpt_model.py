"""GPT-2 by hand: token ids in, one score for every possible next token out.

The one idea: a stack of blocks of the same form, each with its own weights. In each block every
token first gathers information from itself and the tokens before it (attention) and then transforms
what it has gathered (feed-forward). This file knows nothing of text, data or the training loop, and
can be read on its own, top to bottom.

Axes: B batch, T tokens given in this call, S tokens in all (T, and those of earlier calls, if a
cache holds them), C embedding, H heads, D = C / H head size, V vocabulary; L is the number of
blocks. A row is one text of the batch, a column is the same token position in all rows.

Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"; the names
are those of Raschka, "Build a Large Language Model (From Scratch)", chapters 3 to 5.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class GPTConfig:
    """The shape of a GPT-2 model; the defaults are those of GPT-2 small.

    >>> BASE_CONFIG = {"vocab_size": 50257, "context_length": 1024, "drop_rate": 0.0,
    ...                "qkv_bias": True, "emb_dim": 768, "n_layers": 12, "n_heads": 12}
    >>> GPTConfig(**BASE_CONFIG) == GPTConfig()
    True
    """

    vocab_size: int = 50257  # number of different tokens
    context_length: int = 1024  # most tokens that one row can hold
    emb_dim: int = 768  # numbers that describe one token
    n_heads: int = 12  # attention heads per block
    n_layers: int = 12  # blocks
    drop_rate: float = 0.0  # share of activations that dropout sets to zero in training
    qkv_bias: bool = True  # GPT-2's published weights include these biases
    tied_head: bool = True  # output head and token embedding share a matrix (Press & Wolf 2017)

    def __post_init__(self) -> None:
        if self.emb_dim % self.n_heads:
            raise ValueError(
                f"emb_dim {self.emb_dim} can't be divided among n_heads {self.n_heads}: "
                "choose an emb_dim that is a multiple of n_heads"
            )

    @property
    def head_size(self) -> int:
        """Numbers that describe one token in one head, D."""
        return self.emb_dim // self.n_heads

    @property
    def n_kv_heads(self) -> int:
        """Heads of keys and values: as many as of queries. Later models have fewer."""
        return self.n_heads


# The published sizes, and one that trains on a laptop in minutes: `GPTConfig(**MODEL_SIZES[name])`.
# Layers and widths are those of Radford et al. 2019, table 2. Its parameter counts (117M, 345M,
# 762M, 1542M) were wrong, as OpenAI said later. Heads: from the published weights.
MODEL_SIZES: dict[str, dict[str, Any]] = {
    "gpt2-tiny": {"emb_dim": 128, "n_layers": 4, "n_heads": 4},  # 7.4M parameters
    "gpt2-small": {"emb_dim": 768, "n_layers": 12, "n_heads": 12},  # 124M
    "gpt2-medium": {"emb_dim": 1024, "n_layers": 24, "n_heads": 16},  # 355M
    "gpt2-large": {"emb_dim": 1280, "n_layers": 36, "n_heads": 20},  # 774M
    "gpt2-xl": {"emb_dim": 1600, "n_layers": 48, "n_heads": 25},  # 1558M
}


class KVCache:
    """The keys and values of the tokens read so far, for the attention layer of every block.

    It makes generation fast: without it, the keys and values of all earlier tokens would be
    computed again for each new one. Training doesn't need it, so skip it at first reading. The
    caller makes one cache per batch of texts and passes it to each call of the model, which adds
    its new columns. There is room for `max_length` columns. Memory: 2 * L * B * max_length * C
    numbers.
    """

    def __init__(self, n_layers: int, max_length: int) -> None:
        self.max_length = max_length
        self.length = 0  # columns filled, the same number in every layer
        self.in_front = 0  # columns before the padding of rows: a beginning that all rows share
        # Per layer: its keys and its values, each (B, H, max_length, D); None until the first call.
        self._layers: list[tuple[Tensor, Tensor] | None] = [None] * n_layers

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store a layer's new keys and values, (B, H, T, D); return all so far, (B, H, S, D).

        To be called for layer 0, 1, 2 and so on, once per call of the model. Raises ValueError, and
        stores nothing, if they don't fit.
        """
        T = keys.shape[2]
        end = self.length + T
        if end > self.max_length:
            raise ValueError(f"{end} tokens, but this cache was made for {self.max_length}")
        stored = self._layers[layer]
        if stored is None:
            stored = (self._allocate(keys), self._allocate(values))
            self._layers[layer] = stored
        stored_keys, stored_values = stored
        stored_keys[:, :, self.length : end] = keys
        stored_values[:, :, self.length : end] = values
        if layer == len(self._layers) - 1:  # not before: all layers write to the same columns
            self.length = end
        return stored_keys[:, :, :end], stored_values[:, :, :end]

    def _allocate(self, part: Tensor) -> Tensor:
        """An empty tensor (B, H, max_length, D) for keys or values in parts of (B, H, T, D)."""
        B, H, _, D = part.shape
        # On a CPU attention is computed in float32 (`attention_in_float32`, below). Stored as
        # float32, the whole cache need not be converted again in each call.
        dtype = torch.float32 if part.device.type == "cpu" else part.dtype
        return torch.empty(B, H, self.max_length, D, dtype=dtype, device=part.device)

    def keep(self, rows: Tensor) -> None:
        """Keep only these rows of the batch (indices, or a boolean mask): others have ended."""
        for layer, stored in enumerate(self._layers):  # one layer at a time, to save memory
            if stored is not None:
                keys, values = stored
                self._layers[layer] = (keys[rows], values[rows])

    def positions_and_mask(
        self, token_ids: Tensor, left_padding: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Positions, (T,) or (B, T), and mask, (T, S) or (B, 1, T, S), of new tokens (B, T).

        Prompts of different lengths are padded on the left, so that all end in the same column and
        grow together: row b has `left_padding[b]` columns of padding, all at position 0. The mask
        is None if no token was read before and none is padding: attention is then causal.
        """
        S = self.length + token_ids.shape[1]
        columns = torch.arange(S, device=token_ids.device)  # (S,): the column number of each key
        new_columns = columns[self.length :]  # (T,): only the new tokens are queries
        if left_padding is None and self.length == 0:
            return new_columns, None
        # A query attends to its own column and those before it. `is_causal` would be wrong here: it
        # aligns the first query with the first key, not with its own column.
        causal = columns <= new_columns[:, None]  # (T, S)
        if left_padding is None:
            return new_columns, causal
        positions = (new_columns - left_padding[:, None]).clamp(min=0)  # (B, T)
        in_front = columns < self.in_front  # (S,)
        real = in_front | (columns - self.in_front >= left_padding[:, None])  # (B, S)
        # A padding token attends to itself, since a softmax over no key at all would be NaN.
        itself = columns == new_columns[:, None]  # (T, S)
        mask = causal & (real[:, None] | itself)  # (B, T, S)
        return positions, mask[:, None]  # the same mask for every head


def attention_in_float32(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    enable_gqa: bool = False,
) -> Tensor:
    """PyTorch's attention, in float32 even where autocast would compute in bfloat16.

    A CPU computes the gradient of attention about five times as fast in float32 as in bfloat16.
    """
    with torch.autocast(queries.device.type, enabled=False):
        return F.scaled_dot_product_attention(
            queries.float(),
            keys.float(),
            values.float(),
            attn_mask,
            dropout_p,
            is_causal,
            enable_gqa=enable_gqa,
        )


def causal_attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None = None,
    drop_rate: float = 0.0,
) -> Tensor:
    """softmax(Q K^T / sqrt(D)) V: Vaswani et al. 2017, section 3.2.1.

    Queries and result are (B, H, T, D), keys and values (B, H, S, D). Without a mask, query i
    attends to keys 0 to i. A mask is True where a query may attend to a key; its shape can be
    broadcast to (B, H, T, S). Keys and values may have fewer heads (used by ch07/models/llama.py).
    """
    on_cpu = queries.device.type == "cpu"
    attention = attention_in_float32 if on_cpu else F.scaled_dot_product_attention
    context = attention(
        queries,
        keys,
        values,
        attn_mask=mask,
        dropout_p=drop_rate,
        is_causal=mask is None,
        enable_gqa=keys.shape[1] != queries.shape[1],
    )
    return context.to(queries.dtype)  # from float32 back to what autocast chose


class MultiHeadAttention(nn.Module):
    """Causal self-attention: each token gathers values from itself and the tokens before it."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer  # number of the block, from 0: its place in the cache
        self.n_heads = config.n_heads
        self.drop_rate = config.drop_rate
        self.W_query = nn.Linear(config.emb_dim, config.emb_dim, bias=config.qkv_bias)
        self.W_key = nn.Linear(config.emb_dim, config.emb_dim, bias=config.qkv_bias)
        self.W_value = nn.Linear(config.emb_dim, config.emb_dim, bias=config.qkv_bias)
        self.out_proj = nn.Linear(config.emb_dim, config.emb_dim)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, cache: KVCache | None = None
    ) -> Tensor:
        B, T, C = x.shape
        shape = (B, T, self.n_heads, C // self.n_heads)  # (B, T, H, D)
        queries = self.W_query(x).view(shape).transpose(1, 2)  # (B, T, C) -> (B, H, T, D)
        keys = self.W_key(x).view(shape).transpose(1, 2)
        values = self.W_value(x).view(shape).transpose(1, 2)
        if cache is not None:
            keys, values = cache.extend(self.layer, keys, values)  # (B, H, S, D)
        drop_rate = self.drop_rate if self.training else 0.0
        context = causal_attention(queries, keys, values, mask, drop_rate)  # (B, H, T, D)
        return self.out_proj(context.transpose(1, 2).reshape(B, T, C))  # -> (B, T, C)


class FeedForward(nn.Module):
    """Two linear layers with a GELU between them, applied to each token separately."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(config.emb_dim, 4 * config.emb_dim),
            nn.GELU(approximate="tanh"),  # the form that GPT-2 was trained with
            nn.Linear(4 * config.emb_dim, config.emb_dim),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class TransformerBlock(nn.Module):
    """Attention, then feed-forward; each reads a normalised copy of x and adds its result to x."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.emb_dim)
        self.att = MultiHeadAttention(config, layer)
        self.norm2 = nn.LayerNorm(config.emb_dim)
        self.ff = FeedForward(config)
        self.drop_shortcut = nn.Dropout(config.drop_rate)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, cache: KVCache | None = None
    ) -> Tensor:
        x = x + self.drop_shortcut(self.att(self.norm1(x), mask, cache))
        return x + self.drop_shortcut(self.ff(self.norm2(x)))


def positions_from_zero(token_ids: Tensor) -> Tensor:
    """Positions (T,) of rows (B, T) that begin with their first token: 0 to T - 1.

    Such rows need no mask: attention without one is causal, and padding on the right comes after
    all real tokens, which therefore never attend to it.
    """
    return torch.arange(token_ids.shape[1], device=token_ids.device)


def check_length(
    context_length: int,
    token_ids: Tensor,
    cache: KVCache | None = None,
    left_padding: Tensor | None = None,
) -> None:
    """Raise ValueError if a row has more than `context_length` tokens, padding not counted."""
    n_columns = token_ids.shape[1] + (0 if cache is None else cache.length)
    # The longest row is the one with the least padding.
    n_tokens = n_columns - (0 if left_padding is None else int(left_padding.min()))
    if n_tokens > context_length:
        raise ValueError(
            f"{n_tokens} tokens, but this model's context_length is {context_length}: shorten the "
            "text (collate: allowed_max_length)"
        )


class GPTModel(nn.Module):
    """GPT-2, from token ids (B, T) to next-token logits (B, T, V).

    `config` is a GPTConfig or the book's dict; the initial weights are drawn from `generator`.
    """

    def __init__(
        self,
        config: GPTConfig | dict[str, Any],
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.config = config if isinstance(config, GPTConfig) else GPTConfig(**config)
        c = self.config
        self.tok_emb = nn.Embedding(c.vocab_size, c.emb_dim)
        self.pos_emb = nn.Embedding(c.context_length, c.emb_dim)
        self.drop_emb = nn.Dropout(c.drop_rate)
        self.trf_blocks = nn.ModuleList(TransformerBlock(c, layer) for layer in range(c.n_layers))
        self.final_norm = nn.LayerNorm(c.emb_dim)
        self.out_head = nn.Linear(c.emb_dim, c.vocab_size, bias=False)
        if c.tied_head:
            self.out_head.weight = self.tok_emb.weight
        self.init_weights(generator)

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Draw GPT-2's initial weights: standard deviation 0.02; biases are 0, norms 1.

        The two layers per block whose results are added to x get 0.02 / sqrt(2L) instead: a sum of
        2L independent results spreads sqrt(2L) times as far (Radford et al. 2019, section 2.3).
        """
        residual_std = 0.02 / (2 * self.config.n_layers) ** 0.5
        for name, weight in self.named_parameters():
            if name.endswith("bias"):
                weight.zero_()
            elif "norm" in name:
                weight.fill_(1.0)
            # ff.layers: 0 is the first linear layer, 1 the GELU, 2 the second linear layer
            elif name.endswith(("out_proj.weight", "ff.layers.2.weight")):
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

        `wanted` is an index into (B, T): a boolean mask, or a pair (rows, columns), for example
        `(slice(None), -1)` for the last column. The output head is the widest layer, so leaving out
        positions that nobody needs saves much time. `cache` holds the keys and values of earlier
        calls; this call adds its own. Row b begins with `left_padding[b]` columns of padding.
        Raises ValueError for more tokens than `context_length`.
        """
        check_length(self.config.context_length, token_ids, cache, left_padding)
        if cache is None and left_padding is None:
            positions = positions_from_zero(token_ids)
            mask = None
        else:
            read_before = KVCache(n_layers=0, max_length=0) if cache is None else cache
            positions, mask = read_before.positions_and_mask(token_ids, left_padding)
        x = self.drop_emb(self.tok_emb(token_ids) + self.pos_emb(positions))  # (B, T) -> (B, T, C)
        for block in self.trf_blocks:
            x = block(x, mask, cache)
        x = self.final_norm(x)
        if wanted is not None:
            x = x[wanted]  # (B, T, C) -> (N, C)
        return self.out_head(x)
