"""What the checks of several modules share: giving a learner's module weights, and gradients."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ch07.exercises.checks.common import describe, random_tensor
from ch07.exercises.learner_code import call_function
from ch07.exercises.mistake import Mistake, expect


def shift_weights(module: nn.Module) -> None:
    """Add a random number to each weight, so that no two of them are equal."""
    with torch.no_grad():
        for i, weight in enumerate(module.parameters()):
            weight.add_(0.2 * random_tensor(*weight.shape, seed=i))


def make_module(
    function: Callable[..., Any], arguments: tuple[Any, ...], right: nn.Module
) -> nn.Module:
    """The learner's module, made with these arguments, with the weights of the right one."""
    module = call_function(function, *arguments)
    expect(
        isinstance(module, nn.Module),
        "no-module",
        f"Expected a module, but got {describe(module)}.",
    )
    names = set(module.state_dict())
    expected = set(right.state_dict())
    expect(
        names == expected,
        "names-wrong",
        f"The parts need the names that the docstring gives. Missing: {_parts(expected - names)}; "
        f"not expected: {_parts(names - expected)}.",
    )
    try:
        module.load_state_dict(right.state_dict())
    except RuntimeError as error:
        text = str(error).splitlines()[-1].strip()
        raise Mistake("shape-wrong", f"A part has the wrong shape: {text}") from error
    return module


def _parts(names: set[str]) -> str:
    return ", ".join(sorted({name.split(".")[0] for name in names})) or "nothing"


def check_gradients(module: nn.Module, right: nn.Module, x: Tensor) -> None:
    """The gradients of the weights, and of the module's input x."""
    right.zero_grad()
    module.zero_grad()
    x_right = x.clone().requires_grad_()
    (right(x_right) ** 2).sum().backward()
    x_module = x.clone().requires_grad_()
    result = (call_function(module, x_module) ** 2).sum()
    expect(result.requires_grad, "gradient-wrong", "The module's result has no gradient.")
    result.backward()
    expect(
        _close_gradients(x_module.grad, x_right.grad),
        "gradient-wrong",
        "The result is right, but no gradient, or a wrong one, reaches the layers below.",
    )
    own = dict(module.named_parameters())
    for name, weight in right.named_parameters():
        expect(
            name in own,
            "gradient-wrong",
            f"{name} is not an nn.Parameter, so the optimizer would never change it.",
        )
        expect(
            _close_gradients(own[name].grad, weight.grad),
            "gradient-wrong",
            f"The result is right, but the gradient of {name} is not: something is detached.",
        )


def _close_gradients(returned: Tensor | None, expected: Tensor | None) -> bool:
    """Close in proportion to the largest number: large terms of a sum may cancel each other."""
    if returned is None or expected is None:
        return False
    atol = 1e-8 + 1e-5 * float(expected.abs().max())
    return torch.allclose(returned, expected, rtol=1e-3, atol=atol)
