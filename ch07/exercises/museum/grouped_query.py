"""Exhibits on grouped-query attention: who shares a head of keys with whom."""

import torch
import torch.nn.functional as F

from ch07.exercises.museum.exhibit import exhibit


@exhibit(
    "grouped_query_attention",
    "heads-not-shared",
    "SpargeAttn multiplied 32 heads of queries with 8 of keys, and raised an error, when a reader "
    "tried Llama 3.1 (SpargeAttn#61).",
    "https://github.com/thu-ml/SpargeAttn/issues/61",
)
def expects_as_many_heads(queries, keys, values):
    """Attention as in GPT-2, which has as many heads of keys as of queries."""
    T, D = queries.shape[-2:]
    scores = queries @ keys.transpose(-2, -1) / D**0.5
    future = torch.ones(T, T, dtype=torch.bool, device=queries.device).triu(diagonal=1)
    weights = torch.softmax(scores.masked_fill(future, -torch.inf), dim=-1)
    return weights @ values


@exhibit(
    "grouped_query_attention",
    "heads-tiled",
    "jax-js tiled the heads of keys where it should have repeated each; its tests were too few to "
    "notice (jax-js#180).",
    "https://github.com/ekzhang/jax-js/pull/180",
)
def repeats_heads_in_turn(queries, keys, values):
    """Heads of keys follow in turn, so most heads of queries read keys made for others."""
    repeats = queries.shape[1] // keys.shape[1]
    keys = keys.repeat(1, repeats, 1, 1)
    values = values.repeat(1, repeats, 1, 1)
    return F.scaled_dot_product_attention(queries, keys, values, is_causal=True)


@exhibit(
    "grouped_query_attention",
    "first-head-only",
    "ONNXim divided the head by the wrong number, and with as many heads of keys as of queries "
    "all read the first (ONNXim#34).",
    "https://github.com/PSAL-POSTECH/ONNXim/pull/34",
)
def reads_the_first_head(queries, keys, values):
    """Only the first head of keys and values is read, so the others might as well not be there."""
    keys = keys[:, :1].expand_as(queries)
    values = values[:, :1].expand_as(queries)
    return F.scaled_dot_product_attention(queries, keys, values, is_causal=True)


@exhibit(
    "grouped_query_attention",
    "tokens-repeated",
    "A review of prime-rl found repeat_interleave on the axis of the tokens, not of the heads "
    "(prime-rl#2681).",
    "https://github.com/PrimeIntellect-ai/prime-rl/pull/2681",
)
def repeats_the_tokens(queries, keys, values):
    """Tokens are repeated and then cut into heads, so a head holds pieces of the sequence."""
    B, H, T, D = queries.shape
    repeats = H // keys.shape[1]
    keys = keys.repeat_interleave(repeats, dim=2).reshape(B, H, T, D)
    values = values.repeat_interleave(repeats, dim=2).reshape(B, H, T, D)
    return F.scaled_dot_product_attention(queries, keys, values, is_causal=True)


@exhibit(
    "grouped_query_attention",
    "heads-averaged",
    "A model of flows around airfoils averaged its heads before it computed shared keys; an "
    "experiment to keep them apart followed (senpai#1325).",
    "https://github.com/wandb/senpai/pull/1325",
)
def averages_the_queries(queries, keys, values):
    """The queries of a group are averaged, so all of its heads attend to the same tokens."""
    B, H, T, D = queries.shape
    G = keys.shape[1]
    means = queries.reshape(B, G, H // G, T, D).mean(dim=2)
    context = F.scaled_dot_product_attention(means, keys, values, is_causal=True)
    return context.repeat_interleave(H // G, dim=1)


@exhibit(
    "grouped_query_attention",
    "scale-by-wrong-size",
    "AMD's HIP back end divided a width by the wrong number of heads to find the head size, and "
    "scaled every score wrongly (hip-ep#621).",
    "https://github.com/ROCm/hip-ep/pull/621",
)
def scales_by_heads_of_keys(queries, keys, values):
    """The width is divided by the heads of keys, so scores are too small and weights too even."""
    H = queries.shape[1]
    D = queries.shape[3]
    G = keys.shape[1]
    keys = keys.repeat_interleave(H // G, dim=1)
    values = values.repeat_interleave(H // G, dim=1)
    scale = (H * D // G) ** -0.5
    return F.scaled_dot_product_attention(queries, keys, values, is_causal=True, scale=scale)


@exhibit(
    "grouped_query_attention",
    "no-causal-mask",
    "GPTQ-for-LLaMa's faster attention had no causal mask while it read a prompt "
    "(GPTQ-for-LLaMa#187).",
    "https://github.com/qwopqwop200/GPTQ-for-LLaMa/pull/187",
)
def forgets_the_mask(queries, keys, values):
    """A prompt's tokens see those after them, so each is read in a way that was never trained."""
    repeats = queries.shape[1] // keys.shape[1]
    keys = keys.repeat_interleave(repeats, dim=1)
    values = values.repeat_interleave(repeats, dim=1)
    return F.scaled_dot_product_attention(queries, keys, values)
