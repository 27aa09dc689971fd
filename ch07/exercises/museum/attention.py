"""Exhibits on attention whose scores, masks or weights are almost right."""

import torch

from ch07.exercises.museum.exhibit import exhibit


@exhibit(
    "causal_attention",
    "softmax-wrong-axis",
    "The Rust port of Raschka's book computed the attention softmax over the wrong dimension "
    "and fixed it in chapter 3 (llms-from-scratch-rs#30).",
    "https://github.com/nerdai/llms-from-scratch-rs/pull/30",
)
def normalises_over_queries(queries, keys, values):
    """Weights add up to 1 over queries instead of keys: a token's own weights have any sum."""
    T, D = queries.shape[-2:]
    scores = queries @ keys.transpose(-2, -1) / D**0.5
    future = torch.ones(T, T, dtype=torch.bool, device=queries.device).triu(diagonal=1)
    weights = torch.softmax(scores.masked_fill(future, -torch.inf), dim=-2)
    return weights @ values


@exhibit(
    "causal_attention",
    "no-scale",
    "MLC-LLM's fallback attention used scale 1.0, without 1/sqrt(d): softmax became too sharp "
    "and embeddings drifted (mlc-llm#3426).",
    "https://github.com/mlc-ai/mlc-llm/pull/3426",
)
def scales_nothing(queries, keys, values):
    """The scores are not scaled, so large heads look at one token only and learn badly."""
    T = queries.shape[-2]
    scores = queries @ keys.transpose(-2, -1)
    future = torch.ones(T, T, dtype=torch.bool, device=queries.device).triu(diagonal=1)
    weights = torch.softmax(scores.masked_fill(future, -torch.inf), dim=-1)
    return weights @ values


@exhibit(
    "causal_attention",
    "scale-by-d",
    "Another wrong divisor: the train-llm-from-scratch course took the root of the embedding "
    "size instead of the head size (train-llm-from-scratch#3).",
    "https://github.com/FareedKhan-dev/train-llm-from-scratch/pull/3",
)
def divides_by_head_size(queries, keys, values):
    """The scores are divided by D and not by its root, so every token attends almost evenly."""
    T, D = queries.shape[-2:]
    scores = queries @ keys.transpose(-2, -1) / D
    future = torch.ones(T, T, dtype=torch.bool, device=queries.device).triu(diagonal=1)
    weights = torch.softmax(scores.masked_fill(future, -torch.inf), dim=-1)
    return weights @ values


@exhibit(
    "causal_attention",
    "mask-own-position",
    "Peter Bloem's transformer blog post masked the diagonal as well, leaving a first row of "
    "all -inf, hence NaN (pbloem/former#10).",
    "https://github.com/pbloem/former/issues/10",
)
def hides_a_token_from_itself(queries, keys, values):
    """No token sees itself, and the first sees nothing: its softmax is NaN, and so is the loss."""
    T, D = queries.shape[-2:]
    scores = queries @ keys.transpose(-2, -1) / D**0.5
    future = torch.ones(T, T, dtype=torch.bool, device=queries.device).triu()
    weights = torch.softmax(scores.masked_fill(future, -torch.inf), dim=-1)
    return weights @ values


@exhibit(
    "causal_attention",
    "mask-one-late",
    "A reader of TransformerLens's demo asked whether its mask starts at the wrong diagonal, since "
    "the model just copied; there it was right (TransformerLens#284).",
    "https://github.com/TransformerLensOrg/TransformerLens/issues/284",
)
def shows_the_next_token(queries, keys, values):
    """Each token sees the next one, its target: the loss falls to 0, and the answers are noise."""
    T, D = queries.shape[-2:]
    scores = queries @ keys.transpose(-2, -1) / D**0.5
    past = torch.ones(T, T, dtype=torch.bool, device=queries.device).tril(diagonal=1)
    weights = torch.softmax(scores.masked_fill(~past, -torch.inf), dim=-1)
    return weights @ values


@exhibit(
    "causal_attention",
    "mask-after-softmax",
    "timm's EVA model applied the attention mask only after the softmax, until a reader's fix "
    "in July 2024 (pytorch-image-models#2236).",
    "https://github.com/huggingface/pytorch-image-models/pull/2236",
)
def masks_after_softmax(queries, keys, values):
    """Future tokens are masked after they took their share: the weights no longer sum to 1."""
    T, D = queries.shape[-2:]
    scores = queries @ keys.transpose(-2, -1) / D**0.5
    future = torch.ones(T, T, dtype=torch.bool, device=queries.device).triu(diagonal=1)
    weights = torch.softmax(scores, dim=-1)
    return weights.masked_fill(future, 0.0) @ values


@exhibit(
    "causal_attention",
    "mask-zero-instead-of-inf",
    "A pathology paper's attention pooling multiplied scores by a 0/1 mask; softmax still gave "
    "masked items weight (good-features#1).",
    "https://github.com/georg-wolflein/good-features/pull/1",
)
def masks_with_zero(queries, keys, values):
    """The future's scores are 0 instead of -inf, so its tokens still get weight."""
    T, D = queries.shape[-2:]
    scores = queries @ keys.transpose(-2, -1) / D**0.5
    past = torch.ones(T, T, device=queries.device).tril()
    weights = torch.softmax(scores * past, dim=-1)
    return weights @ values


@exhibit(
    "causal_attention",
    "no-causal-mask",
    "xFormers silently skipped the causal mask whenever no attention mask was passed "
    "(xformers#103).",
    "https://github.com/facebookresearch/xformers/issues/103",
)
def masks_no_future(queries, keys, values):
    """Every token sees the whole row, its own target too, so there is nothing to predict."""
    D = queries.shape[-1]
    scores = queries @ keys.transpose(-2, -1) / D**0.5
    weights = torch.softmax(scores, dim=-1)
    return weights @ values


@exhibit(
    "causal_attention",
    "view-instead-of-transpose",
    "The author of transformer-from-scratch fixed a reshape without permute that mixed "
    "positions in a token's vector (jsbaan/transformer-from-scratch#6).",
    "https://github.com/jsbaan/transformer-from-scratch/pull/6",
)
def reshapes_the_keys(queries, keys, values):
    """The keys have the right shape but mixed contents, so scores compare unrelated numbers."""
    B, H, T, D = keys.shape
    scores = queries @ keys.reshape(B, H, D, T) / D**0.5
    future = torch.ones(T, T, dtype=torch.bool, device=queries.device).triu(diagonal=1)
    weights = torch.softmax(scores.masked_fill(future, -torch.inf), dim=-1)
    return weights @ values
