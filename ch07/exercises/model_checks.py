"""Exercises 9 and 10, attention and a transformer block: what is checked and said."""

import math

import torch

from ch07.exercises.batch_checks import kind
from ch07.exercises.findings import Mistake, call, compared, expect, same
from gpt_model import GPTConfig, TransformerBlock, causal_attention

CONFIG = GPTConfig(vocab_size=31, context_length=16, emb_dim=24, n_heads=3, n_layers=2)


def _random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def check_attention(function):
    """Exercise 9."""
    queries, keys, values = (_random(2, 3, 5, 4, seed=seed) for seed in (1, 2, 3))
    before = [tensor.clone() for tensor in (queries, keys, values)]
    result = call(function, queries, keys, values)
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
    short = [tensor[:, :, :1] for tensor in (queries, keys, values)]
    expect(
        same(call(function, *short, case="a single token"), short[2]),
        "one-token",
        "A single token attends to itself alone, so it gets its own value.",
    )
    long = [_random(1, 2, 9, 3, seed=seed) for seed in (4, 5, 6)]
    expect(
        same(call(function, *long), causal_attention(*long)),
        "attention-wrong",
        "Right for one shape, wrong for another: is a size written into the code?",
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
        same(call(function, queries, keys, later)[:, :, :-1], result[:, :, :-1]),
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
    queries, keys = _random(1, 1, 4, 4, seed=1), _random(1, 1, 4, 4, seed=2)
    identity = torch.eye(4)[None, None]
    mine = call(function, queries, keys, identity)[0, 0]
    return compared(
        "attention weights (rows: queries)", mine, causal_attention(queries, keys, identity)[0, 0]
    )


def check_block(function):
    """Exercise 10."""
    right = TransformerBlock(CONFIG, 1)
    block = call(function, CONFIG, 1)
    expect(
        isinstance(block, torch.nn.Module), "no-module", f"Expected a module, got {kind(block)}."
    )
    names, wanted = set(block.state_dict()), set(right.state_dict())
    expect(
        names == wanted,
        "names-wrong",
        f"The parts need the names of the docstring. Missing: {_some(wanted - names)}; not "
        f"expected: {_some(names - wanted)}.",
    )
    with torch.no_grad():
        for i, weight in enumerate(right.parameters()):
            weight.add_(0.2 * _random(*weight.shape, seed=i))
    try:
        block.load_state_dict(right.state_dict())
    except RuntimeError as error:
        raise Mistake("shape-wrong", f"A part has another shape: {error}"[:300]) from error
    x = _random(2, 5, CONFIG.emb_dim, seed=9)
    before = x.clone()
    result = call(block.eval(), x)
    expect(isinstance(result, torch.Tensor), "no-tensor", f"Expected a tensor, got {kind(result)}.")
    expect(torch.equal(before, x), "batch-mutated", "The input was changed in place (`x += ...`).")
    if not same(result, right.eval()(x)):
        _name_block(result, x, right)
    _check_dropout(function, x)


def _some(names):
    return ", ".join(sorted({name.split(".")[0] for name in names})) or "nothing"


def _wrong_blocks(x, block):
    """What known mistakes give: (diagnosis, [results], sentence)."""
    norm1, att, norm2, ff = block.norm1, block.att, block.norm2, block.ff
    mid = x + att(norm1(x))
    post = norm1(x + att(x))
    n1 = norm1(x)
    n_mid = n1 + att(n1)
    n2 = norm2(n_mid)
    n3 = norm2(mid)
    ff_first = x + ff(norm2(x))
    return [
        ("post-norm", [norm2(post + ff(post))], "The parts are normalised after they are added, "
         "as in the first Transformer of 2017. GPT-2 normalises before each part, so that the "
         "stream itself stays untouched: deep models train without warmup tricks."),
        ("no-residual", [ff(norm2(att(norm1(x)))), mid - x + ff(norm2(mid - x)), ff(norm2(mid))],
         "A part's result replaces the stream, it is not added to it: without the shortcut "
         "neither tokens nor gradients get through many blocks."),
        ("residual-of-normed", [n2 + ff(n2), n_mid + ff(norm2(n_mid)), n3 + ff(n3)], "The "
         "shortcut starts behind the norm: the normalised copy is added, and the stream itself "
         "is lost. Keep x, and add to it."),
        ("shared-norm", [mid + ff(norm1(mid)), x + att(norm2(x)) + ff(norm2(x + att(norm2(x))))],
         "Both parts are given the same norm: each has its own, with its own scale and shift."),
        ("norms-swapped", [x + att(norm2(x)) + ff(norm1(x + att(norm2(x))))], "norm1 and norm2 "
         "are swapped."),
        ("parallel", [mid + ff(norm2(x))], "The feed-forward part reads the block's input: it "
         "should read what attention has added to."),
        ("parts-swapped", [ff_first + att(norm1(ff_first))], "Feed-forward comes before "
         "attention: it is the other way around."),
        ("norm-missing", [x + att(x) + ff(norm2(x + att(x))), mid + ff(mid)], "A part reads the "
         "stream as it is: it needs a normalised copy."),
    ]  # fmt: skip


def _name_block(result, x, block):
    for diagnosis, results, sentence in _wrong_blocks(x, block):
        if any(same(result, other, 1e-3) for other in results):
            raise Mistake(diagnosis, sentence)
    raise Mistake("block-wrong", "The result is not right: x + att(norm1(x)), and then the same "
                  "with norm2 and ff.")  # fmt: skip


def _check_dropout(function, x):
    config = GPTConfig(**{**vars(CONFIG), "drop_rate": 1.0})  # everything is dropped
    block = call(function, config, 1)
    expect(
        torch.equal(call(block.train(), x), x),
        "no-dropout",
        "With a drop rate of 1 in training, nothing should be added to the stream: dropout "
        "stands behind attention and behind feed-forward, before they are added.",
    )
