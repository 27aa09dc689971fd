"""Exercise 16, the root mean square norm. Its input and output x have the shape (..., C)."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
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
from ch07.models.llama import RMSNorm

NormClass = Callable[..., Any]
EMB_DIM = 6
EPS = 0.5  # so large that its place in the formula shows


def check_rms_norm(function: NormClass) -> None:
    """Exercise 16."""
    right = RMSNorm(EMB_DIM, EPS)
    shift_weights(right)
    norm = make_module(function, (EMB_DIM, EPS), right)
    x = random_tensor(2, 5, EMB_DIM, seed=9) + 1.0  # a mean that is subtracted must show
    result = _normalise(norm, x)
    expect(
        result.shape == x.shape,
        "shape-wrong",
        f"The result has shape {tuple(result.shape)}, but should have that of x, {tuple(x.shape)}.",
    )
    if not close(result, right(x)):
        _name_wrong_norm(norm, result, x, right)
    for case, other in (("a single token", x[:1, :1]), ("x of shape (T, C)", x[0])):
        expect(
            close(_normalise(norm, other, case), right(other)),
            "norm-special",
            f"Right for one case, wrong for another: {case}.",
        )
    expect(
        close(call_function(function, EMB_DIM).weight, torch.ones(EMB_DIM)),
        "weight-not-1",
        "The weights of a new norm are not 1: it should at first only divide.",
    )
    _check_small_numbers(function)
    _check_float16(function)
    check_gradients(norm, right, x)


def _normalise(norm: nn.Module, x: Tensor, case: str = "") -> Tensor:
    """The result, a tensor; x must stay as it is."""
    result = call_without_mutation(norm, x, consequence="its input in place.", case=case)
    expect_tensor(result)
    return result


def _name_wrong_norm(norm: nn.Module, result: Tensor, x: Tensor, right: RMSNorm) -> None:
    weight = right.weight.detach()
    raise_if_known(result, [*_wrong_means(x, weight), *_wrong_roots(x, weight)])
    if close(result, _root(x).reciprocal() * x * weight):
        on_zeros = _normalise(norm, torch.zeros(1, EMB_DIM), "a row of zeros")
        expect(
            not bool(on_zeros.isnan().any()),
            "no-eps",
            "eps is missing: a row of zeros is divided by zero, and the NaN spreads to all that is "
            "computed from it.",
        )
        raise Mistake(
            "eps-ignored",
            "The eps given is not used, but another one: a model's weights fit the eps that it was "
            "trained with.",
        )
    raise Mistake(
        "norm-wrong",
        "The result is wrong. It should be x / sqrt(mean of x * x + eps) * weight, with the mean "
        "over the last axis.",
    )


def _root(x: Tensor, eps: float = 0.0, dim: int | tuple[int, ...] = -1) -> Tensor:
    """The root mean square over these axes."""
    return (x.square().mean(dim=dim, keepdim=True) + eps).sqrt()


def _wrong_means(x: Tensor, weight: Tensor) -> list[WrongResult]:
    """Mistakes in what the mean is taken of, and over which numbers."""
    centred = x - x.mean(dim=-1, keepdim=True)
    sum_of_squares = x.square().sum(dim=-1, keepdim=True)
    other_axes = (0, 1, (0, 1), (1, 2), (0, 1, 2))
    return [
        WrongResult(
            "mean-subtracted",
            (
                F.layer_norm(x, (EMB_DIM,), weight, None, EPS),
                centred / _root(x, EPS) * weight,
            ),
            "The mean is subtracted, as in a layer norm. An RMS norm only divides: the weights of "
            "Llama were trained without that step.",
        ),
        WrongResult(
            "variance-not-mean-square",
            tuple(
                x / (x.var(dim=-1, keepdim=True, correction=correction) + EPS).sqrt() * weight
                for correction in (0, 1)
            ),
            "x is divided by its standard deviation. A variance is taken around the mean, but the "
            "squares here are those of x itself: x.square().mean(...), not x.var(...).",
        ),
        WrongResult(
            "wrong-axis",
            tuple(x / _root(x, EPS, dim) * weight for dim in other_axes),
            "The mean runs over the wrong axis: each token is divided by a number of its own, "
            "the root mean square over its C numbers (the last axis). Otherwise a token depends on "
            "others, later ones included.",
        ),
        WrongResult(
            "norm-not-mean",
            (
                x / (sum_of_squares + EPS).sqrt() * weight,
                x / (sum_of_squares.sqrt() + EPS) * weight,
                F.normalize(x, dim=-1) * weight,
            ),
            "x is divided by its length, the root of a sum. With the mean, numbers stay near 1 "
            "however many there are; the sum makes them smaller by the factor sqrt(C).",
        ),
    ]


def _wrong_roots(x: Tensor, weight: Tensor) -> list[WrongResult]:
    """Mistakes in the root, in eps, and in the weight."""
    mean_square = x.square().mean(dim=-1, keepdim=True)
    return [
        WrongResult(
            "eps-outside-root",
            (x / (_root(x) + EPS) * weight,),
            "eps is added after the root, not under it: small numbers then come out larger than in "
            "the model whose weights you load.",
        ),
        WrongResult(
            "divided-by-rsqrt",
            (x / torch.rsqrt(mean_square + EPS) * weight, x * _root(x, EPS) * weight),
            "x is multiplied by its root mean square. `torch.rsqrt` is 1 / sqrt already, so "
            "multiply by it; by `torch.sqrt`, divide.",
        ),
        WrongResult(
            "no-root",
            (x / (mean_square + EPS) * weight,),
            "x is divided by the mean square, without the root: large numbers come out small.",
        ),
        WrongResult(
            "weight-forgotten",
            (x / _root(x, EPS),),
            "The weight is not used: it never learns, and a trained model's weights are ignored.",
        ),
        WrongResult(
            "weight-plus-1",
            (x / _root(x, EPS) * (1.0 + weight),),
            "1 is added to the weight, as in Gemma. In Llama, the weight itself is the factor.",
        ),
    ]


def _check_small_numbers(function: NormClass) -> None:
    """With the default eps, which small numbers make visible: a row of zeros, and a small one."""
    norm = call_function(function, EMB_DIM)
    x = 1e-3 * random_tensor(2, EMB_DIM, seed=4)
    x[1] = 0.0
    result = _normalise(norm, x, "very small numbers")
    expect(not bool(result.isnan().any()), "no-eps", "A row of zeros becomes NaN: is eps missing?")
    expect(
        close(result, RMSNorm(EMB_DIM)(x), 1e-2),
        "eps-ignored",
        "With the default eps of 1e-5, very small numbers come out wrong.",
    )


def _check_float16(function: NormClass) -> None:
    """In a model of 16-bit numbers, the squares need 32 bits."""
    norm = call_function(function, EMB_DIM).half()
    x = (300 * random_tensor(2, 5, EMB_DIM, seed=3)).half()
    result = _normalise(norm, x, "float16 numbers")
    expected = RMSNorm(EMB_DIM).half()(x)
    expect(
        close(result, expected, 1e-2),
        "squares-in-16-bits",
        "In a float16 model, the square of 256 is too large for float16: it becomes infinite, and "
        "the whole row 0 or NaN. Convert x with .float() before you square it.",
    )
    expect(
        result.dtype == x.dtype,
        "dtype-changed",
        f"In a float16 model, the result is {result.dtype}: convert it back to the type of x, "
        "since the layer that follows has float16 weights.",
    )
