"""Exercise 9, causal attention: what is checked and said."""

import math

import torch

from ch07.exercises.checks.collate_common import kind
from ch07.exercises.report import Mistake, call_function, comparison_table, expect, same
from gpt_model import causal_attention


def random_tensor(*shape, seed=0):
    """The same numbers each time."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def check_attention(function):
    """Exercise 9."""
    queries, keys, values = (random_tensor(2, 3, 5, 4, seed=seed) for seed in (1, 2, 3))
    before = [tensor.clone() for tensor in (queries, keys, values)]
    result = call_function(function, queries, keys, values)
    expect(isinstance(result, torch.Tensor), "no-tensor", f"Expected a tensor, got {kind(result)}.")
    expect(
        all(torch.equal(a, b) for a, b in zip(before, (queries, keys, values), strict=True)),
        "batch-mutated",
        "Your function changed its arguments in place: the caller's tensors are other ones now.",
    )
    expect(
        result.shape == values.shape,
        "shape-wrong",
        f"The result has shape {tuple(result.shape)}, expected {tuple(values.shape)}: "
        "(B, H, T, D), one context vector for each token and head.",
    )
    expected = causal_attention(queries, keys, values)
    if not same(result, expected):
        _name_attention(function, result, queries, keys, values)
    _check_attention_shapes(function)
    _check_attention_gradient(function)


def _check_attention_shapes(function):
    """One token, many tokens, one head, large numbers, memory in another order."""
    short = [random_tensor(2, 3, 1, 4, seed=seed) for seed in (1, 2, 3)]
    expect(
        same(call_function(function, *short, case="a single token"), short[2]),
        "one-token",
        "A single token attends to itself alone, so it gets its own value.",
    )
    cases = {
        "40 tokens": [random_tensor(1, 2, 40, 3, seed=seed) for seed in (4, 5, 6)],
        "one row and one head": [random_tensor(1, 1, 6, 8, seed=seed) for seed in (4, 5, 6)],
        "five rows": [random_tensor(5, 2, 3, 4, seed=seed) for seed in (4, 5, 6)],
        "large scores": [30 * random_tensor(1, 2, 6, 4, seed=seed) for seed in (4, 5, 6)],
        "tensors that are not contiguous": [
            random_tensor(2, 5, 3, 4, seed=seed).transpose(1, 2) for seed in (4, 5, 6)
        ],
    }
    for case, given in cases.items():
        before = [tensor.clone() for tensor in given]
        result = call_function(function, *given, case=case)
        expect(
            all(torch.equal(a, b) for a, b in zip(before, given, strict=True)),
            "batch-mutated",
            "Your function changed its arguments in place.",
        )
        expect(
            same(result, causal_attention(*given)),
            "attention-special",
            f"Right for one shape, wrong for another: {case}.",
        )


def _check_attention_gradient(function):
    given = [random_tensor(1, 2, 4, 3, seed=seed).requires_grad_() for seed in (1, 2, 3)]
    weigh = random_tensor(1, 2, 4, 3, seed=4)
    result = call_function(function, *given)
    right = torch.autograd.grad((causal_attention(*given) * weigh).sum(), given)
    gradients = [None] * 3
    if result.requires_grad:
        gradients = torch.autograd.grad((result * weigh).sum(), given, allow_unused=True)
    expect(
        all(g is not None and same(g, r) for g, r in zip(gradients, right, strict=True)),
        "gradient-wrong",
        "The result is right, but its gradient isn't: something is detached, so a part of the "
        "model would never learn.",
    )


def _wrong_attentions(queries, keys, values):
    """What known mistakes give: (diagnosis, [results], sentence)."""
    T, D = queries.shape[-2:]
    raw = queries @ keys.transpose(-2, -1)  # (B, H, T, T)
    allowed = torch.ones(T, T, dtype=torch.bool).tril()

    def attend(scores, mask=allowed, dim=-1, hidden=-math.inf):
        return scores.masked_fill(~mask, hidden).softmax(dim) @ values

    scaled = raw / math.sqrt(D)
    mixed = queries @ keys.reshape(*keys.shape[:2], D, T) / math.sqrt(D)
    everywhere = torch.ones_like(allowed)
    return [
        ("no-causal-mask", [attend(scaled, everywhere), attend(raw, everywhere)], "Every token "
         "sees all others, those after it too: in training it would read its target off, and at "
         "inference there is nothing there to read."),
        ("no-scale", [attend(raw)], "The scores are not divided by sqrt(D): with wide heads the "
         "softmax is then almost all on one token, and its gradient almost nothing."),
        ("scale-by-d", [attend(raw / D)], "The scores are divided by D, not by sqrt(D): the "
         "weights are too even, and a token can hardly single another one out."),
        ("softmax-wrong-axis", [attend(scaled, dim=-2), attend(scaled, dim=1),
         attend(scaled, dim=0)], "The softmax runs over the wrong axis: the weights of one query "
         "over its keys (the last axis) must sum to 1."),
        ("mask-own-position", [attend(scaled, allowed.tril(-1)), attend(scaled, allowed.tril(-1),
         hidden=-1e9)], "A token can't see itself: the mask begins on the diagonal, one place "
         "too early. The first token then has nothing to look at."),
        ("mask-one-late", [attend(scaled, everywhere.tril(1))], "A token sees the one after it: "
         "that is just the token it should predict. The mask begins one place too late."),
        ("mask-after-softmax", [scaled.softmax(-1).masked_fill(~allowed, 0) @ values], "The mask "
         "comes after the softmax, so the weights that are left don't sum to 1: early tokens "
         "get almost nothing. Mask the scores, then take the softmax."),
        ("mask-zero-instead-of-inf", [attend(scaled, hidden=0.0), scaled.tril().softmax(-1) @
         values], "Hidden scores are set to 0, but exp(0) is 1: the future is still seen. Set "
         "them to minus infinity."),
        ("mask-reversed", [attend(scaled, allowed.T)], "The triangle is upside down: each token "
         "sees itself and what follows, not what came before."),
        ("view-instead-of-transpose", [attend(mixed), attend(mixed * math.sqrt(D))], "The keys "
         "were reshaped where they should be transposed: the shape is right, but the numbers of "
         "different tokens are mixed up."),
    ]  # fmt: skip


def _name_attention(function, result, queries, keys, values):
    """Compare with what known mistakes give; then look at the weights themselves."""
    for diagnosis, results, sentence in _wrong_attentions(queries, keys, values):
        if any(_same_where_defined(result, other) for other in results):
            raise Mistake(diagnosis, sentence, _weights_table(function))
    expect(
        not result[:, :, 0].isnan().any() or result[:, :, 1:].isnan().any(),
        "mask-own-position",
        "The first token's result is NaN: its whole row is masked, itself included.",
    )
    expect(not result.isnan().any(), "nan", "There are NaNs in the result.")
    later = values.clone()
    later[:, :, -1] += 1.0
    expect(
        same(call_function(function, queries, keys, later)[:, :, :-1], result[:, :, :-1]),
        "sees-the-future",
        "When only the last token's value changes, earlier results change, too: the future leaks.",
        lambda: _weights_table(function),
    )
    raise Mistake("attention-wrong", "The result is not right.", _weights_table(function))


def _same_where_defined(result, other):
    """Equal, where a row without any visible key may be NaN in both or anything in one."""
    defined = ~other.isnan() & ~result.isnan()
    return bool(defined.any()) and same(
        torch.where(defined, result, 0.0), torch.where(defined, other, 0.0)
    ) and torch.equal(result.isnan(), other.isnan())  # fmt: skip


def _weights_table(function):
    """The weights that a function gives: with the identity as values they are its result."""
    queries, keys = random_tensor(1, 1, 4, 4, seed=1), random_tensor(1, 1, 4, 4, seed=2)
    identity = torch.eye(4)[None, None]
    mine = call_function(function, queries, keys, identity)[0, 0]
    return comparison_table(
        "attention weights (rows: queries)", mine, causal_attention(queries, keys, identity)[0, 0]
    )
