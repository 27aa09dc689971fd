"""Exercise 10, a transformer block: what is checked and said."""

import torch

from ch07.exercises.checks.attention import random_tensor
from ch07.exercises.checks.collate_common import kind
from ch07.exercises.report import Mistake, call_function, expect, same
from gpt_model import GPTConfig, TransformerBlock

CONFIG = GPTConfig(vocab_size=31, context_length=48, emb_dim=24, n_heads=3, n_layers=3)


def check_block(function):
    """Exercise 10."""
    right = TransformerBlock(CONFIG, 1)
    block = call_function(function, CONFIG, 1)
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
            weight.add_(0.2 * random_tensor(*weight.shape, seed=i))
    try:
        block.load_state_dict(right.state_dict())
    except RuntimeError as error:
        text = str(error).splitlines()[-1].strip()
        raise Mistake("shape-wrong", f"A part has another shape: {text}") from error
    x = random_tensor(2, 5, CONFIG.emb_dim, seed=9)
    before = x.clone()
    result = call_function(block.eval(), x)
    expect(isinstance(result, torch.Tensor), "no-tensor", f"Expected a tensor, got {kind(result)}.")
    expect(torch.equal(before, x), "batch-mutated", "The input was changed in place (`x += ...`).")
    if not same(result, right.eval()(x)):
        _name_block(result, x, right)
    expect(
        same(call_function(block, x[:1]), right(x[:1])), "block-wrong", "One row alone is wrong."
    )
    expect(
        getattr(block.att, "layer", 1) == 1,
        "layer-ignored",
        "`layer` is not handed on to MultiHeadAttention: with a KV cache, all blocks would write "
        "to one layer's columns.",
    )
    _check_block_gradient(block, right, x)
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
    """In training, each part is dropped at the config's rate; in evaluation nothing is."""
    right = TransformerBlock(CONFIG, 1).eval()

    def block(rate):
        made = call_function(function, GPTConfig(**{**vars(CONFIG), "drop_rate": rate}), 1)
        made.load_state_dict(right.state_dict())
        return made

    expected = right(x)
    expect(
        same(call_function(block(0.0).train(), x), expected),
        "dropout-always",
        "With a drop rate of 0, training and evaluation should give the same.",
    )
    expect(
        same(call_function(block(0.5).eval(), x), expected),
        "dropout-in-evaluation",
        "Something is dropped in evaluation: each answer of the model would be another one.",
    )
    expect(
        torch.equal(call_function(block(1.0).train(), x), x),
        "no-dropout",
        "With a drop rate of 1 in training, nothing should be added to the stream: dropout "
        "stands behind attention and behind feed-forward, before they are added.",
    )
    many = random_tensor(64, 12, CONFIG.emb_dim, seed=3)
    untouched = (call_function(block(0.5).train(), many) == many).float().mean()
    expect(
        abs(untouched - 0.25) < 0.03,
        "dropout-rate",
        f"With a drop rate of 0.5, a quarter of the stream should stay as it was (both parts "
        f"dropped), but {untouched:.0%} did: dropout is missing in one place, or is there twice.",
    )


def _check_block_gradient(block, right, x):
    right.zero_grad()
    block.zero_grad()
    below, mine = (x.clone().requires_grad_() for _ in range(2))  # the block below learns, too
    (right(below) ** 2).sum().backward()
    result = (call_function(block, mine) ** 2).sum()
    expect(result.requires_grad, "gradient-wrong", "The block's result has no gradient.")
    result.backward()
    expect(
        mine.grad is not None and torch.allclose(mine.grad, below.grad, rtol=1e-3, atol=1e-5),
        "gradient-wrong",
        "The result is right, but no gradient, or a wrong one, reaches the blocks below.",
    )
    own = dict(block.named_parameters())
    for name, weight in right.named_parameters():
        expect(
            own[name].grad is not None and torch.allclose(own[name].grad, weight.grad, rtol=1e-3),
            "gradient-wrong",
            f"The result is right, but the gradient of {name} isn't: something is detached.",
        )
