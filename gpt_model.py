"""GPT-2 by hand: token ids in, one score for every possible next token out.

The one idea: a stack of equal blocks, each of which lets every token look back at the
tokens before it (attention) and then think about what it saw (feed-forward).
This file knows nothing of text, data or training; it is read alone, top to bottom.

Axes: B batch, T tokens (new in this call), S tokens seen so far (cached and new),
C embedding, H heads, D head size, V vocabulary.

Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"; the names
are those of Raschka, "Build a Large Language Model (From Scratch)", chapters 3 to 5.
"""

from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True)
class GPTConfig:
    """What shapes a GPT-2; the defaults are GPT-2 small.

    >>> BASE_CONFIG = {"vocab_size": 50257, "context_length": 1024, "drop_rate": 0.0,
    ...                "qkv_bias": True, "emb_dim": 768, "n_layers": 12, "n_heads": 12}
    >>> GPTConfig(**BASE_CONFIG) == GPTConfig()
    True
    """

    vocab_size: int = 50257  # tokens that exist
    context_length: int = 1024  # tokens that one row may hold
    emb_dim: int = 768  # numbers that describe one token
    n_heads: int = 12  # attention heads in a block
    n_layers: int = 12  # blocks
    drop_rate: float = 0.0  # share of activations zeroed in training
    qkv_bias: bool = True  # GPT-2's published weights have these biases
    tied_head: bool = True  # the output head is the token embedding (Press & Wolf 2017)

    def __post_init__(self):
        if self.emb_dim % self.n_heads:
            raise ValueError(
                f"emb_dim {self.emb_dim} can't be divided among n_heads {self.n_heads}: "
                "choose an emb_dim that is a multiple of n_heads"
            )


# Published sizes (Radford et al. 2019, table 2), and one that learns on a laptop in minutes.
MODEL_SIZES = {
    "gpt2-tiny": {"emb_dim": 128, "n_layers": 4, "n_heads": 4},  # 7.4M parameters
    "gpt2-small": {"emb_dim": 768, "n_layers": 12, "n_heads": 12},  # 124M
    "gpt2-medium": {"emb_dim": 1024, "n_layers": 24, "n_heads": 16},  # 355M
    "gpt2-large": {"emb_dim": 1280, "n_layers": 36, "n_heads": 20},  # 774M
    "gpt2-xl": {"emb_dim": 1600, "n_layers": 48, "n_heads": 25},  # 1558M
}


class KVCache:
    """The keys and values of the tokens read so far, for every layer; one call owns one cache.

    `max_length` is the number of columns that it can hold. Memory: 2 * L * B * S * C numbers.
    """

    def __init__(self, n_layers, max_length, prefix=0):
        self.max_length = max_length
        self.prefix = prefix  # columns in front that are no tokens; every row sees them
        self.length = 0  # columns filled, the same in every layer
        self._layers = [None] * n_layers  # each (keys, values), (B, H, max_length, D)

    def extend(self, layer, keys, values):
        """Store the new (B, H, T, D) keys and values; return all so far, (B, H, S, D)."""
        B, H, T, D = keys.shape
        end = self.length + T
        if end > self.max_length:
            raise ValueError(f"{end} tokens, but this cache was made for {self.max_length}")
        if self._layers[layer] is None:
            kept = torch.float32 if keys.device.type == "cpu" else keys.dtype  # as attention reads
            empty = keys.new_empty(B, H, self.max_length, D, dtype=kept)
            self._layers[layer] = (empty, torch.empty_like(empty))
        for store, new in zip(self._layers[layer], (keys, values), strict=True):
            store[:, :, self.length : end] = new
        if layer == len(self._layers) - 1:
            self.length = end
        return tuple(store[:, :, :end] for store in self._layers[layer])

    def keep(self, rows):
        """Forget every row of the batch but these (an index or a boolean mask over B)."""
        for layer, (keys, values) in enumerate(self._layers):  # one at a time, to save memory
            self._layers[layer] = (keys[rows], values[rows])


class MultiHeadAttention(nn.Module):
    """Causal self-attention: each token gathers values from itself and the tokens before it."""

    def __init__(self, config, layer):
        super().__init__()
        self.layer = layer
        self.n_heads = config.n_heads
        self.drop_rate = config.drop_rate
        self.W_query = nn.Linear(config.emb_dim, config.emb_dim, bias=config.qkv_bias)
        self.W_key = nn.Linear(config.emb_dim, config.emb_dim, bias=config.qkv_bias)
        self.W_value = nn.Linear(config.emb_dim, config.emb_dim, bias=config.qkv_bias)
        self.out_proj = nn.Linear(config.emb_dim, config.emb_dim)

    def forward(self, x, mask=None, cache=None):
        B, T, C = x.shape
        heads = (B, T, self.n_heads, C // self.n_heads)
        queries = self.W_query(x).view(heads).transpose(1, 2)  # (B, T, C) -> (B, H, T, D)
        keys = self.W_key(x).view(heads).transpose(1, 2)
        values = self.W_value(x).view(heads).transpose(1, 2)
        if cache is not None:
            keys, values = cache.extend(self.layer, keys, values)  # (B, H, S, D)
        drop_rate = self.drop_rate if self.training else 0.0
        context = causal_attention(queries, keys, values, mask, drop_rate)  # (B, H, T, D)
        return self.out_proj(context.transpose(1, 2).reshape(B, T, C))  # -> (B, T, C)


def causal_attention(queries, keys, values, mask=None, drop_rate=0.0):
    """softmax(Q K^T / sqrt(D)) V, (B, H, T, D) each: Vaswani et al. 2017, section 3.2.1.

    Without a mask, each query sees the keys up to its own; a mask is True where it may look.
    """
    on_cpu, dtype = queries.device.type == "cpu", queries.dtype
    # A CPU takes this gradient five times as fast in float32 as under bfloat16 autocast.
    with torch.autocast("cpu", enabled=False) if on_cpu else nullcontext():
        if on_cpu:
            queries, keys, values = queries.float(), keys.float(), values.float()
        causal = {"attn_mask": mask, "is_causal": mask is None}
        return F.scaled_dot_product_attention(
            queries, keys, values, dropout_p=drop_rate, **causal
        ).to(dtype)


class FeedForward(nn.Module):
    """Two linear layers with GELU between them, applied to each token by itself."""

    def __init__(self, config):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(config.emb_dim, 4 * config.emb_dim),
            nn.GELU(approximate="tanh"),  # the form that GPT-2 was trained with
            nn.Linear(4 * config.emb_dim, config.emb_dim),
        )

    def forward(self, x):
        return self.layers(x)


class TransformerBlock(nn.Module):
    """Attention, then feed-forward; each reads a normalised copy and adds to the stream."""

    def __init__(self, config, layer):
        super().__init__()
        self.norm1 = nn.LayerNorm(config.emb_dim)
        self.att = MultiHeadAttention(config, layer)
        self.norm2 = nn.LayerNorm(config.emb_dim)
        self.ff = FeedForward(config)
        self.drop_shortcut = nn.Dropout(config.drop_rate)

    def forward(self, x, mask=None, cache=None):
        x = x + self.drop_shortcut(self.att(self.norm1(x), mask, cache))
        return x + self.drop_shortcut(self.ff(self.norm2(x)))


class GPTModel(nn.Module):
    """GPT-2, from token ids (B, T) to next-token logits (B, T, V).

    `config` is a GPTConfig or the book's dict; `generator` draws the initial weights.
    """

    def __init__(self, config, generator=None):
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
    def init_weights(self, generator=None):
        """Draw GPT-2's initial weights: N(0, 0.02), biases 0, norms 1.

        The two layers of a block that write to the residual stream get 0.02 / sqrt(2L), since
        2L of them add up (Radford et al. 2019, section 2.3).
        """
        residual_std = 0.02 / (2 * self.config.n_layers) ** 0.5
        for name, weight in self.named_parameters():
            if name.endswith("bias"):
                weight.zero_()
            elif "norm" in name:
                weight.fill_(1.0)
            elif name.endswith(("out_proj.weight", "ff.layers.2.weight")):
                weight.normal_(0.0, residual_std, generator=generator)
            else:
                weight.normal_(0.0, 0.02, generator=generator)

    def new_cache(self, max_length):
        """An empty KV cache for `max_length` columns, to be passed to each call in turn."""
        return KVCache(self.config.n_layers, max_length)

    def forward(self, token_ids, wanted=None, cache=None, left_padding=None):
        """Next-token logits (B, T, V), or (N, V) for the N `wanted` positions only.

        `wanted` indexes (B, T), by mask or by row and place: the head is the widest layer, and rows
        that nobody counts need not be computed. `cache` holds what was read before. A row's first
        `left_padding[b]` columns are padding: no positions. ValueError for more than the context.
        """
        positions, mask = self._positions_and_mask(token_ids, left_padding, cache)
        x = self.drop_emb(self.tok_emb(token_ids) + self.pos_emb(positions))  # (B, T) -> (B, T, C)
        for block in self.trf_blocks:
            x = block(x, mask, cache)
        x = self.final_norm(x)
        if wanted is not None:
            x = x[wanted]  # (B, T, C) -> (N, C)
        return self.out_head(x)

    def _positions_and_mask(self, token_ids, left_padding, cache):
        """Position numbers (T,) or (B, T), and who may look at whom: (T, S), (B, 1, T, S) or None.

        None stands for the plain causal triangle. With a cache the triangle is aligned to the
        lower right: query i is column past + i (`is_causal` would align it to the upper left).
        """
        past, prefix = (0 if cache is None else cache.length), getattr(cache, "prefix", 0)
        T, device = token_ids.shape[1], token_ids.device
        queries = torch.arange(past, past + T, device=device)
        shortest = 0 if left_padding is None else int(left_padding.min())
        if past + T - shortest > self.config.context_length:
            raise ValueError(
                f"{past + T - shortest} tokens, but this model's context_length is "
                f"{self.config.context_length}: shorten the text or set allowed_max_length"
            )
        if left_padding is None and (past == 0 or T == 1):
            return queries, None if past == 0 else queries.new_ones(1, past + 1, dtype=torch.bool)
        keys = torch.arange(past + T, device=device)
        causal = keys <= queries[:, None]  # (T, S)
        if left_padding is None:
            return queries, causal
        start = left_padding[:, None]  # (B, 1)
        positions = (queries - start).clamp(min=0)  # (B, T)
        real = (keys < prefix) | (keys >= prefix + start)  # (B, S)
        # a padding token may look at itself: a softmax over nothing would be NaN
        mask = causal & (real[:, None] | (keys == queries[:, None]))  # (B, T, S)
        return positions, mask[:, None]
