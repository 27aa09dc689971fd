"""Exercise 18, grouped-query attention: H heads of queries, G heads of keys and values."""

import math

import torch
from torch import Tensor

from ch07.exercises.checks.attention import (
    Attention,
    Inputs,
    attend,
    check_gradient,
    name_symptom,
    wrong_attentions,
)
from ch07.exercises.checks.common import (
    WrongResult,
    close,
    comparison_table,
    raise_if_known,
    random_tensor,
)
from ch07.exercises.learner_code import KnownError, call_function
from ch07.exercises.mistake import Mistake, expect
from gpt_model import causal_attention

H = 6
G = 2
NOT_SHARED = KnownError(
    (RuntimeError,),
    (f"({H}) must match the size of tensor b ({G})", f"has size {G} for operand 1 which does not"),
    Mistake(
        "heads-not-shared",
        f"{H} heads of queries can't be multiplied with {G} heads of keys: repeat each head of "
        "keys and values H / G times, once for each head of queries that it serves, and go on as "
        "in exercise 9.",
    ),
)


def check_grouped_query(function: Attention) -> None:
    """Exercise 18."""
    inputs = _random_inputs(2, H, G, 5, 4)
    result = attend(function, *inputs, known=[NOT_SHARED])
    queries = inputs[0]
    values = inputs[2]
    expect(
        result.shape != values.shape,
        "too-few-heads",
        f"The result has {G} heads, as keys and values have, but should have {H}: one for each "
        "head of queries.",
    )
    expect(
        result.shape == queries.shape,
        "shape-wrong",
        f"The result has shape {tuple(result.shape)}, but should have that of the queries, "
        f"{tuple(queries.shape)}.",
    )
    if not close(result, causal_attention(*inputs)):
        _name_wrong_attention(function, result, inputs)
    _check_special_shapes(function)
    check_gradient(function, _random_inputs(1, 4, 2, 4, 3))


def _random_inputs(B: int, n_heads: int, n_kv_heads: int, T: int, D: int) -> Inputs:
    """Queries, keys and values."""
    queries = random_tensor(B, n_heads, T, D, seed=1)
    keys = random_tensor(B, n_kv_heads, T, D, seed=2)
    values = random_tensor(B, n_kv_heads, T, D, seed=3)
    return queries, keys, values


def _check_special_shapes(function: Attention) -> None:
    """One head of keys for all heads of queries, one for each, one token, many tokens."""
    cases = {
        "a single head of keys and values": _random_inputs(2, 4, 1, 5, 4),
        "as many heads of keys as of queries": _random_inputs(2, 3, 3, 5, 4),
        "three groups of two heads": _random_inputs(1, 6, 3, 5, 4),
        "a single token": _random_inputs(2, 4, 2, 1, 4),
        "40 tokens": _random_inputs(1, 4, 2, 40, 3),
    }
    for case, inputs in cases.items():
        expect(
            close(attend(function, *inputs, case=case), causal_attention(*inputs)),
            "attention-special",
            f"Right for one case, wrong for another: {case}.",
        )


def _name_wrong_attention(function: Attention, result: Tensor, inputs: Inputs) -> None:
    """First the mistakes of sharing, then, with the heads rightly shared, those of exercise 9."""
    queries, keys, values = inputs
    repeats = H // G
    shared_keys = keys.repeat_interleave(repeats, dim=1)  # (B, G, T, D) -> (B, H, T, D)
    shared_values = values.repeat_interleave(repeats, dim=1)
    known = [
        *_wrong_sharing(queries, keys, values),
        *_wrong_averages(queries, keys, values),
        *_wrong_scales(queries, shared_keys, shared_values),
        *wrong_attentions(queries, shared_keys, shared_values),
    ]
    raise_if_known(result, known, lambda: _weights_table(function))
    name_symptom(function, result, inputs, lambda: _weights_table(function))


def _wrong_sharing(queries: Tensor, keys: Tensor, values: Tensor) -> list[WrongResult]:
    """Mistakes in which head of keys serves which heads of queries."""
    repeats = H // G
    tiled_keys = keys.repeat(1, repeats, 1, 1)
    tiled_values = values.repeat(1, repeats, 1, 1)
    shared_keys = keys.repeat_interleave(repeats, dim=1)
    shared_values = values.repeat_interleave(repeats, dim=1)
    mixed_keys = keys.repeat_interleave(repeats, dim=2).view(queries.shape)
    mixed_values = values.repeat_interleave(repeats, dim=2).view(queries.shape)
    return [
        WrongResult(
            "heads-tiled",
            (
                causal_attention(queries, tiled_keys, tiled_values),
                causal_attention(queries, tiled_keys, shared_values),
                causal_attention(queries, shared_keys, tiled_values),
            ),
            "The heads of keys or values are repeated in turn (0 1 0 1 0 1), but neighbours should "
            "share one (0 0 0 1 1 1): use repeat_interleave, not repeat. A trained model's heads "
            "would read keys that were made for others.",
        ),
        WrongResult(
            "first-head-only",
            (causal_attention(queries, keys[:, :1], values[:, :1]),),
            "All heads of queries read the first head of keys and values; the others are never "
            "used.",
        ),
        WrongResult(
            "tokens-repeated",
            (causal_attention(queries, mixed_keys, mixed_values),),
            "The tokens are repeated, not the heads: the shape comes out right, but the numbers of "
            "different tokens are mixed up. The heads are axis 1.",
        ),
    ]


def _wrong_averages(queries: Tensor, keys: Tensor, values: Tensor) -> list[WrongResult]:
    """Mistakes that make fewer heads of many."""
    B, _, T, D = queries.shape
    grouped = queries.view(B, G, H // G, T, D)
    mean_queries = grouped.mean(dim=2).repeat_interleave(H // G, dim=1)
    mean_keys = keys.mean(dim=1, keepdim=True)
    mean_values = values.mean(dim=1, keepdim=True)
    mean_context = causal_attention(queries, keys, values).view(B, G, H // G, T, D).mean(dim=2)
    return [
        WrongResult(
            "heads-averaged",
            (
                causal_attention(mean_queries, keys, values),
                causal_attention(queries, mean_keys, mean_values),
                mean_context.repeat_interleave(H // G, dim=1),
            ),
            "Heads are averaged. Each head of queries keeps its own numbers and attends on its "
            "own: keys and values are shared, and nothing is averaged.",
        ),
    ]


def _wrong_scales(queries: Tensor, keys: Tensor, values: Tensor) -> list[WrongResult]:
    D = queries.shape[-1]
    return [
        WrongResult(
            "scale-by-wrong-size",
            tuple(
                causal_attention(queries * math.sqrt(D / size), keys, values)
                for size in (H * D / G, H * D, G * D)
            ),
            "The scores are divided by the root of a wrong size. It is D, the numbers in one head, "
            "that counts: neither all numbers of a token, nor these divided by the heads of keys.",
        ),
    ]


def _weights_table(function: Attention) -> str:
    """The attention weights of one head: with the identity as values, they are its result."""
    queries = random_tensor(1, 4, 4, 4, seed=1)
    keys = random_tensor(1, 2, 4, 4, seed=2)
    identity = torch.eye(4).expand(1, 2, 4, 4)
    head = 2  # it reads head 1 of the keys; tiled heads, or the first head only, would give head 0
    returned = call_function(function, queries, keys, identity)[0, head]
    expected = causal_attention(queries, keys, identity)[0, head]
    name = f"attention weights of head {head} (rows: queries)"
    return comparison_table(name, returned, expected)
