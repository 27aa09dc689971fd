"""Exercise 9, causal attention. Queries, keys and values have the shape (B, H, T, D)."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ch07.exercises.checks.common import (
    WrongResult,
    call_without_mutation,
    close,
    comparison_table,
    expect_tensor,
    raise_if_known,
    random_tensor,
)
from ch07.exercises.learner_code import KnownError, call_function
from ch07.exercises.mistake import Mistake, expect
from gpt_model import causal_attention

Attention = Callable[..., Any]
Inputs = tuple[Tensor, Tensor, Tensor]  # queries, keys, values
CHANGED = "its arguments in place: the caller's tensors now hold other numbers."


def check_attention(function: Attention) -> None:
    """Exercise 9."""
    queries, keys, values = _random_inputs(2, 3, 5, 4)
    result = attend(function, queries, keys, values)
    expect(
        result.shape == values.shape,
        "shape-wrong",
        f"The result has shape {tuple(result.shape)}, but should have {tuple(values.shape)}: "
        "(B, H, T, D), one context vector for each token and head.",
    )
    if not close(result, causal_attention(queries, keys, values)):
        raise_if_known(
            result, wrong_attentions(queries, keys, values), lambda: _weights_table(function)
        )
        name_symptom(function, result, (queries, keys, values), lambda: _weights_table(function))
    _check_special_shapes(function)
    check_gradient(function, _random_inputs(1, 2, 4, 3))


def _random_inputs(B: int, H: int, T: int, D: int, seed: int = 1) -> Inputs:
    """Queries, keys and values."""
    queries = random_tensor(B, H, T, D, seed=seed)
    keys = random_tensor(B, H, T, D, seed=seed + 1)
    values = random_tensor(B, H, T, D, seed=seed + 2)
    return queries, keys, values


def _map(change: Callable[[Tensor], Tensor], inputs: Inputs) -> Inputs:
    """All three tensors changed in the same way."""
    queries, keys, values = inputs
    return change(queries), change(keys), change(values)


def attend(
    function: Attention, *inputs: Tensor, case: str = "", known: Sequence[KnownError] = ()
) -> Tensor:
    """The result, a tensor; the inputs must stay as they are."""
    result = call_without_mutation(
        function, *inputs, untouched=3, consequence=CHANGED, case=case, known=known
    )
    expect_tensor(result)
    return result


def _check_special_shapes(function: Attention) -> None:
    """One token, many tokens, one head, large numbers, another memory layout."""
    short = _random_inputs(2, 3, 1, 4)
    expect(
        close(attend(function, *short, case="a single token"), short[2]),
        "one-token",
        "A single token attends to itself alone, so its result is its own value.",
    )
    cases: dict[str, Inputs] = {
        "40 tokens": _random_inputs(1, 2, 40, 3, seed=4),
        "one row and one head": _random_inputs(1, 1, 6, 8, seed=4),
        "five rows": _random_inputs(5, 2, 3, 4, seed=4),
        "large scores": _map(lambda tensor: 30 * tensor, _random_inputs(1, 2, 6, 4, seed=4)),
        "tensors that are not contiguous": _map(
            lambda tensor: tensor.transpose(1, 2), _random_inputs(2, 5, 3, 4, seed=4)
        ),
    }
    for case, inputs in cases.items():
        expect(
            close(attend(function, *inputs, case=case), causal_attention(*inputs)),
            "attention-special",
            f"Right for one case, wrong for another: {case}.",
        )


def check_gradient(function: Attention, inputs: Inputs) -> None:
    """The gradient reaches queries, keys and values."""
    inputs = _map(Tensor.requires_grad_, inputs)
    weights = random_tensor(*inputs[0].shape, seed=4)
    right = torch.autograd.grad((causal_attention(*inputs) * weights).sum(), inputs)
    result = call_function(function, *inputs)
    gradients: tuple[Tensor | None, ...] = (None, None, None)
    if result.requires_grad:
        gradients = torch.autograd.grad((result * weights).sum(), inputs, allow_unused=True)
    for gradient, expected in zip(gradients, right, strict=True):
        expect(
            gradient is not None and close(gradient, expected),
            "gradient-wrong",
            "The result is right, but its gradient is not: something is detached, so a part of the "
            "model would never learn.",
        )


def wrong_attentions(queries: Tensor, keys: Tensor, values: Tensor) -> list[WrongResult]:
    """What known mistakes give, where keys and values have as many heads as queries."""
    T, D = queries.shape[-2:]
    scores = queries @ keys.transpose(-2, -1)  # (B, H, T, T)
    scaled = scores / math.sqrt(D)
    causal = torch.ones(T, T, dtype=torch.bool).tril()
    return [
        *_wrong_scales(scores, D, causal, values),
        *_wrong_masks(scores, scaled, causal, values),
        *_wrong_softmax(scaled, causal, values),
        *_wrong_keys(queries, keys, causal, values),
    ]


def _weighted_values(
    scores: Tensor, mask: Tensor, values: Tensor, dim: int = -1, hidden: float = -math.inf
) -> Tensor:
    return scores.masked_fill(~mask, hidden).softmax(dim) @ values


def _wrong_scales(scores: Tensor, D: int, causal: Tensor, values: Tensor) -> list[WrongResult]:
    return [
        WrongResult(
            "no-scale",
            (_weighted_values(scores, causal, values),),
            "The scores are not divided by sqrt(D): with wide heads the softmax then puts almost "
            "all weight on one token, and its gradient almost vanishes.",
        ),
        WrongResult(
            "scale-by-d",
            (_weighted_values(scores / D, causal, values),),
            "The scores are divided by D, not by sqrt(D): the weights are too even, and a token "
            "can hardly single out another one.",
        ),
    ]


def _wrong_masks(
    scores: Tensor, scaled: Tensor, causal: Tensor, values: Tensor
) -> list[WrongResult]:
    everywhere = torch.ones_like(causal)
    without_self = causal.tril(-1)
    return [
        WrongResult(
            "no-causal-mask",
            (
                _weighted_values(scaled, everywhere, values),
                _weighted_values(scores, everywhere, values),
            ),
            "Every token sees all others, later ones included: in training it can look its target "
            "up, but at inference there is nothing there to look at.",
        ),
        WrongResult(
            "mask-own-position",
            (
                _weighted_values(scaled, without_self, values),
                _weighted_values(scaled, without_self, values, hidden=-1e9),
            ),
            "A token can't see itself: the mask starts on the diagonal, one place too early. The "
            "first token then has nothing to attend to.",
        ),
        WrongResult(
            "mask-one-late",
            (_weighted_values(scaled, everywhere.tril(1), values),),
            "A token sees the one after it, which is exactly the one that it should predict. The "
            "mask starts one place too late.",
        ),
        WrongResult(
            "mask-zero-instead-of-inf",
            (
                _weighted_values(scaled, causal, values, hidden=0.0),
                scaled.tril().softmax(-1) @ values,
            ),
            "Hidden scores are set to 0, but exp(0) is 1: the future is still seen. Set them to "
            "minus infinity.",
        ),
        WrongResult(
            "mask-reversed",
            (_weighted_values(scaled, causal.T, values),),
            "The triangle is upside down: each token sees itself and what follows, not what came "
            "before.",
        ),
    ]


def _wrong_softmax(scaled: Tensor, causal: Tensor, values: Tensor) -> list[WrongResult]:
    return [
        WrongResult(
            "softmax-wrong-axis",
            tuple(_weighted_values(scaled, causal, values, dim=dim) for dim in (-2, 1, 0)),
            "The softmax runs over the wrong axis: the weights of one query over its keys (the "
            "last axis) must sum to 1.",
        ),
        WrongResult(
            "mask-after-softmax",
            (scaled.softmax(-1).masked_fill(~causal, 0) @ values,),
            "The mask comes after the softmax, so the remaining weights don't sum to 1: early "
            "tokens get almost nothing. Mask the scores, then take the softmax.",
        ),
    ]


def _wrong_keys(queries: Tensor, keys: Tensor, causal: Tensor, values: Tensor) -> list[WrongResult]:
    B, H, T, D = keys.shape
    mixed = queries @ keys.reshape(B, H, D, T)
    return [
        WrongResult(
            "view-instead-of-transpose",
            (
                _weighted_values(mixed / math.sqrt(D), causal, values),
                _weighted_values(mixed, causal, values),
            ),
            "The keys were reshaped where they should be transposed: the shape is right, but the "
            "numbers of different tokens are mixed up.",
        ),
    ]


def name_symptom(
    function: Attention, result: Tensor, inputs: Inputs, table: Callable[[], str]
) -> None:
    """Name a mistake that is not a known one by what is seen of it."""
    queries, keys, values = inputs
    first_is_nan = bool(result[:, :, 0].isnan().any())
    others_are_nan = bool(result[:, :, 1:].isnan().any())
    expect(
        not first_is_nan or others_are_nan,
        "mask-own-position",
        "The first token's result is NaN: its whole row is masked, itself included.",
    )
    expect(not bool(result.isnan().any()), "nan", "The result contains NaN.")
    changed_last = values.clone()
    changed_last[:, :, -1] += 1.0
    other = call_function(function, queries, keys, changed_last)
    expect(
        close(other[:, :, :-1], result[:, :, :-1]),
        "sees-the-future",
        "When only the last token's value changes, earlier results change as well: the future "
        "leaks into the past.",
        table,
    )
    raise Mistake("attention-wrong", "The result is wrong.", table())


def _weights_table(function: Attention) -> str:
    """The attention weights: with the identity as values, they are the function's result."""
    queries = random_tensor(1, 1, 4, 4, seed=1)
    keys = random_tensor(1, 1, 4, 4, seed=2)
    identity = torch.eye(4)[None, None]
    returned = call_function(function, queries, keys, identity)[0, 0]
    expected = causal_attention(queries, keys, identity)[0, 0]
    return comparison_table("attention weights (rows: queries)", returned, expected)
