"""Exercise 10, a transformer block. Its input and output x have the shape (B, T, C)."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ch07.exercises.checks.common import (
    WrongResult,
    call_without_mutation,
    close,
    expect_tensor,
    raise_if_known,
    random_tensor,
)
from ch07.exercises.checks.modules import check_gradients, make_module, shift_weights
from ch07.exercises.learner_code import call_function
from ch07.exercises.mistake import Mistake, expect
from gpt_model import GPTConfig, TransformerBlock

CONFIG = GPTConfig(vocab_size=31, context_length=48, emb_dim=24, n_heads=3, n_layers=3)
LAYER = 1


def check_block(function: Callable[..., Any]) -> None:
    """Exercise 10."""
    right = TransformerBlock(CONFIG, LAYER)
    shift_weights(right)
    right.eval()
    block = make_module(function, (CONFIG, LAYER), right).eval()
    x = random_tensor(2, 5, CONFIG.emb_dim, seed=9)
    result = call_without_mutation(block, x, consequence="its input in place (`x += ...`).")
    expect_tensor(result)
    if not close(result, right(x)):
        _name_wrong_block(result, x, right)
    one_row = call_function(block, x[:1])
    expect(close(one_row, right(x[:1])), "block-wrong", "A single row gives a wrong result.")
    expect(
        getattr(block.att, "layer", LAYER) == LAYER,
        "layer-ignored",
        "`layer` is not passed on to MultiHeadAttention: with a KV cache, all blocks would write "
        "to the columns of one layer.",
    )
    check_gradients(block, right, x)
    _check_dropout(function, right, x)


def _name_wrong_block(result: Tensor, x: Tensor, block: TransformerBlock) -> None:
    raise_if_known(result, [*_wrong_norms(x, block), *_wrong_order(x, block)], tolerance=1e-3)
    raise Mistake(
        "block-wrong",
        "The result is wrong. It should be x + att(norm1(x)), and then the same with norm2 and ff.",
    )


def _wrong_norms(x: Tensor, block: TransformerBlock) -> list[WrongResult]:
    """Mistakes in what is normalised, and by which norm."""
    norm1, att, norm2, ff = block.norm1, block.att, block.norm2, block.ff
    after_att = x + att(norm1(x))
    after_att_norm2 = x + att(norm2(x))
    after_att_unnormed = x + att(x)
    post_norm = norm1(x + att(x))
    return [
        WrongResult(
            "post-norm",
            (norm2(post_norm + ff(post_norm)),),
            "The sums are normalised, as in the original Transformer of 2017. GPT-2 normalises the "
            "input of each part instead, so that the stream itself stays untouched: deep models "
            "then train without special care.",
        ),
        WrongResult(
            "shared-norm",
            (after_att + ff(norm1(after_att)), after_att_norm2 + ff(norm2(after_att_norm2))),
            "Both parts use the same norm: each has its own, with its own scale and shift.",
        ),
        WrongResult(
            "norms-swapped",
            (after_att_norm2 + ff(norm1(after_att_norm2)),),
            "norm1 and norm2 are swapped.",
        ),
        WrongResult(
            "norm-missing",
            (after_att_unnormed + ff(norm2(after_att_unnormed)), after_att + ff(after_att)),
            "A part reads the stream as it is: it needs a normalised copy.",
        ),
    ]


def _wrong_order(x: Tensor, block: TransformerBlock) -> list[WrongResult]:
    """Mistakes in the shortcuts and in the order of the parts."""
    norm1, att, norm2, ff = block.norm1, block.att, block.norm2, block.ff
    att_alone = att(norm1(x))
    after_att = x + att_alone
    normed = norm1(x)
    after_att_normed = normed + att(normed)
    normed_twice = norm2(after_att_normed)
    normed_second = norm2(after_att)
    ff_first = x + ff(norm2(x))
    return [
        WrongResult(
            "no-residual",
            (ff(norm2(att_alone)), att_alone + ff(norm2(att_alone)), ff(norm2(after_att))),
            "A part's result replaces the stream instead of being added to it: without the "
            "shortcut neither tokens nor gradients get through many blocks.",
        ),
        WrongResult(
            "residual-of-normed",
            (
                normed_twice + ff(normed_twice),
                after_att_normed + ff(norm2(after_att_normed)),
                normed_second + ff(normed_second),
            ),
            "The shortcut starts after the norm: the normalised copy is added, and the stream "
            "itself is lost. Keep x, and add to it.",
        ),
        WrongResult(
            "parallel",
            (after_att + ff(norm2(x)),),
            "The feed-forward part reads the block's input: it should read the stream after "
            "attention.",
        ),
        WrongResult(
            "parts-swapped",
            (ff_first + att(norm1(ff_first)),),
            "Feed-forward comes before attention: it should be the other way round.",
        ),
    ]


def _check_dropout(function: Callable[..., Any], right: TransformerBlock, x: Tensor) -> None:
    """In training, each part is dropped at the config's rate; in evaluation, nothing is."""

    def block(rate: float) -> nn.Module:
        made = call_function(function, replace(CONFIG, drop_rate=rate), LAYER)
        made.load_state_dict(right.state_dict())
        return made

    expected = right(x)
    expect(
        close(call_function(block(0.0).train(), x), expected),
        "dropout-always",
        "With a drop rate of 0, training and evaluation should give the same result.",
    )
    expect(
        close(call_function(block(0.5).eval(), x), expected),
        "dropout-in-evaluation",
        "Something is dropped in evaluation: the model would give another answer each time.",
    )
    expect(
        torch.equal(call_function(block(1.0).train(), x), x),
        "no-dropout",
        "With a drop rate of 1 in training, nothing should be added to the stream: dropout follows "
        "attention and feed-forward, before their results are added.",
    )
    many = random_tensor(64, 12, CONFIG.emb_dim, seed=3)
    untouched = float((call_function(block(0.5).train(), many) == many).float().mean())
    expect(
        abs(untouched - 0.25) < 0.03,
        "dropout-rate",
        "With a drop rate of 0.5, a quarter of the stream should stay as it was (both parts "
        f"dropped), but {untouched:.0%} did: dropout is missing in one place, or applied twice.",
    )
