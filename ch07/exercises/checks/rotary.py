"""Exercise 17, rotary positions. x has the shape (B, heads, T, D), the positions (B, T)."""

from collections.abc import Callable
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
from ch07.exercises.learner_code import call_function
from ch07.exercises.mistake import Mistake, expect
from ch07.models import llama

Rotation = Callable[..., Any]
THETA = 100.0
# The first row goes on after three tokens in a cache; the second is padded with one on the left.
POSITIONS = torch.tensor([[3, 4, 5, 6, 7], [0, 0, 1, 2, 3]])


def rotate(x: Tensor, positions: Tensor, theta: float) -> Tensor:
    """The solution: what llama.py does in two steps, since angles are the same in every block."""
    angles = llama.rotation_angles(positions[:, None], x.shape[-1], theta)  # (B, 1, T, D / 2)
    return llama.rotate(x, angles.cos(), angles.sin())


def check_rotate(function: Rotation) -> None:
    """Exercise 17."""
    x = random_tensor(2, 3, 5, 8, seed=1)
    result = _rotate(function, x, POSITIONS, THETA)
    expect(
        result.shape == x.shape,
        "shape-wrong",
        f"The result has shape {tuple(result.shape)}, but should have that of x, {tuple(x.shape)}.",
    )
    expected = rotate(x, POSITIONS, THETA)
    if not close(result, expected):
        _name_wrong_rotation(x, result, expected)
    _check_float16(function)
    _check_special_shapes(function)
    _check_gradient(function, x)


def _rotate(
    function: Rotation, x: Tensor, positions: Tensor, theta: float, case: str = ""
) -> Tensor:
    """The result, a tensor; x and the positions must stay as they are."""
    consequence = "its arguments in place."
    result = call_without_mutation(
        function, x, positions, theta, untouched=2, consequence=consequence, case=case
    )
    expect_tensor(result)
    return result


def _name_wrong_rotation(x: Tensor, result: Tensor, expected: Tensor) -> None:
    """Compare with what known mistakes give; then look at what a rotation leaves as it is."""
    table = _rotation_table(result, expected)
    known = [*_wrong_pairs(x), *_wrong_turns(x), *_wrong_angles(x), *_wrong_positions(x)]
    raise_if_known(result, known, table)
    at_zero = POSITIONS == 0
    expect(
        close(result.transpose(1, 2)[at_zero], x.transpose(1, 2)[at_zero]),
        "position-0-changed",
        "At position 0 all angles are 0, so nothing may change there.",
        table,
    )
    expect(
        close(_pair_lengths(result), _pair_lengths(x), 1e-3),
        "no-rotation",
        "A rotation leaves the length of each pair as it is, yours doesn't: one of the four "
        "products of a pair is missing, or has the wrong sign or number.",
        table,
    )
    raise Mistake("rotation-wrong", "The result is wrong.", table)


def _pair_lengths(x: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.hypot(first, second)


def _rotation_table(result: Tensor, expected: Tensor) -> str:
    """One head of the first row that differs."""
    row = 1 if close(result[0, 0], expected[0, 0]) else 0
    return comparison_table(f"head 0 of row {row} (rows: tokens)", result[row, 0], expected[row, 0])


def _turn(x: Tensor, angles: Tensor) -> Tensor:
    """The right rotation, by these angles."""
    return llama.rotate(x, angles.cos(), angles.sin())


def _right_angles(head_size: int) -> Tensor:
    return llama.rotation_angles(POSITIONS[:, None], head_size, THETA)  # (B, 1, T, D / 2)


def _wrong_pairs(x: Tensor) -> list[WrongResult]:
    """Mistakes in which numbers form a pair."""
    angles = _right_angles(x.shape[-1])
    cos = angles.cos()
    sin = angles.sin()
    even = x[..., 0::2]
    odd = x[..., 1::2]
    turned = (even * cos - odd * sin, odd * cos + even * sin)
    first, second = x.chunk(2, dim=-1)
    quarter_of_halves = torch.cat([-second, first], dim=-1)
    quarter_of_neighbours = torch.stack([-odd, even], dim=-1).flatten(-2)
    for_halves = torch.cat([angles, angles], dim=-1)
    for_neighbours = angles.repeat_interleave(2, dim=-1)
    return [
        WrongResult(
            "neighbours-paired",
            (torch.stack(turned, dim=-1).flatten(-2), torch.cat(turned, dim=-1)),
            "Neighbours are paired, numbers 2i and 2i + 1, as in the paper. A model trained in "
            "that way works as well, but weights fit only one order: here, pair i is numbers i and "
            "i + D/2.",
        ),
        WrongResult(
            "angles-and-pairs-mixed",
            (
                x * for_neighbours.cos() + quarter_of_halves * for_neighbours.sin(),
                x * for_halves.cos() + quarter_of_neighbours * for_halves.sin(),
            ),
            "Two conventions are mixed: the numbers are paired in one way, and the angles are laid "
            "out for the other, so the two numbers of a pair are turned by different angles. For "
            "halves, the angles are torch.cat([angles, angles], dim=-1).",
        ),
    ]


def _wrong_turns(x: Tensor) -> list[WrongResult]:
    """Mistakes in how a pair is turned."""
    D = x.shape[-1]
    angles = _right_angles(D)
    first, second = x.chunk(2, dim=-1)
    turned_first, turned_second = _turn(x, angles).chunk(2, dim=-1)
    smaller_head = _turn(first, _right_angles(D // 2))
    return [
        WrongResult(
            "turned-backwards",
            (_turn(x, -angles),),
            "The pairs turn the other way: (a, b) should become (a cos - b sin, b cos + a sin). A "
            "model trained in your way works as well, but published weights were trained in this.",
        ),
        WrongResult(
            "half-not-rotated",
            (
                torch.cat([turned_first, second], dim=-1),
                torch.cat([first, turned_second], dim=-1),
                torch.cat([smaller_head, second], dim=-1),
            ),
            "Half of a head's numbers are left as they are. Both numbers of every pair change, in "
            "all D/2 pairs.",
        ),
    ]


def _wrong_angles(x: Tensor) -> list[WrongResult]:
    """Mistakes in how fast each pair turns."""
    D = x.shape[-1]
    positions = POSITIONS[:, None, :, None]
    pair = torch.arange(D // 2)
    return [
        WrongResult(
            "exponent-without-2",
            (_turn(x, positions * THETA ** (-pair / D)),),
            "The exponent is i / D, not 2i / D: the slowest pair turns far too fast, and distant "
            "tokens are told apart less well than in the model whose weights you load.",
        ),
        WrongResult(
            "angles-grow",
            (_turn(x, positions * THETA ** (2 * pair / D)),),
            "Each further pair turns faster, not more slowly: the exponent has the wrong sign. The "
            "first pair turns by 1 radian per token, all others by less.",
        ),
        WrongResult(
            "theta-ignored",
            (_turn(x, llama.rotation_angles(POSITIONS[:, None], D, 10_000.0)),),
            "The theta given is not used, but 10,000: newer models have larger ones, and with "
            "another theta long texts turn into nonsense.",
        ),
        WrongResult(
            "one-speed",
            (_turn(x, positions * torch.ones(D // 2)),),
            "All pairs turn by 1 radian per token, so positions repeat after 6.28 tokens: pair i "
            "should turn by theta^(-2i / D).",
        ),
    ]


def _wrong_positions(x: Tensor) -> list[WrongResult]:
    """Mistakes in which position a token has."""
    n_heads, T, D = x.shape[1:]
    columns = torch.arange(T)

    def at(positions: Tensor) -> Tensor:
        return _turn(x, llama.rotation_angles(positions, D, THETA))

    return [
        WrongResult(
            "positions-ignored",
            (
                at(columns),
                at(POSITIONS[:1, None]),
                at(POSITIONS[:, None, :1] + columns),
            ),
            "The angles don't go by each row's own `positions`. With a cache, the first new token "
            "is not at position 0; with padding on the left, rows differ.",
        ),
        WrongResult(
            "heads-counted",
            (at(torch.arange(n_heads)[:, None]),),
            "The heads are counted, not the tokens: axis 1 of x is the heads, axis 2 the tokens. "
            "All tokens of a head are then turned alike, and their order is lost.",
        ),
        WrongResult(
            "positions-from-1",
            (at(POSITIONS[:, None] + 1),),
            "Each token is turned by one position too many: at position 0, nothing changes.",
        ),
    ]


def _check_float16(function: Rotation) -> None:
    """Where x has 16 bits, the angles need 32: float16 has no odd numbers above 2048."""
    x = random_tensor(1, 2, 3, 8, seed=3).half()
    positions = torch.tensor([[2047, 2049, 4099]])
    result = _rotate(function, x, positions, THETA, "float16 numbers")
    expect(
        close(result, rotate(x, positions, THETA), 2e-2),
        "angles-in-16-bits",
        "With float16 numbers, far positions come out wrong: 2049 becomes 2048 in 16 bits, an "
        "error of a whole radian. Compute the angles in float32.",
    )
    expect(
        result.dtype == x.dtype,
        "dtype-changed",
        f"With float16 numbers, the result is {result.dtype}: convert it back to the type of x.",
    )


def _check_special_shapes(function: Rotation) -> None:
    """One token, one pair, many pairs, another memory layout."""
    cases = {
        "a single token": (random_tensor(1, 2, 1, 4, seed=4), torch.tensor([[5]])),
        "a single pair": (random_tensor(2, 1, 3, 2, seed=4), POSITIONS[:, 1:4]),
        "32 pairs": (random_tensor(1, 4, 9, 64, seed=4), torch.arange(9)[None]),
        "a tensor that is not contiguous": (
            random_tensor(2, 5, 3, 4, seed=4).transpose(1, 2),
            POSITIONS,
        ),
    }
    for case, (x, positions) in cases.items():
        expect(
            close(_rotate(function, x, positions, 1e5, case), rotate(x, positions, 1e5)),
            "rotation-special",
            f"Right for one case, wrong for another: {case}.",
        )


def _check_gradient(function: Rotation, x: Tensor) -> None:
    x = x.clone().requires_grad_()
    weights = random_tensor(*x.shape, seed=2)
    (right,) = torch.autograd.grad((rotate(x, POSITIONS, THETA) * weights).sum(), x)
    result = call_function(function, x, POSITIONS, THETA)
    gradient = None
    if result.requires_grad:
        (gradient,) = torch.autograd.grad((result * weights).sum(), x, allow_unused=True)
    expect(
        gradient is not None and close(gradient, right),
        "gradient-wrong",
        "The result is right, but its gradient is not: something is detached, so the layers below "
        "would never learn.",
    )
