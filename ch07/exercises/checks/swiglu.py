"""Exercise 19, feed-forward with a gate. Its input and output x have the shape (..., C)."""

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
from ch07.models.llama import LlamaConfig, SwiGLU

CONFIG = LlamaConfig(vocab_size=31, emb_dim=24, n_heads=4, n_kv_heads=2, hidden_dim=40)


def check_swiglu(function: Callable[..., Any]) -> None:
    """Exercise 19."""
    right = SwiGLU(CONFIG)
    shift_weights(right)
    _check_biases(function)
    layers = make_module(function, (CONFIG,), right)
    x = random_tensor(2, 5, CONFIG.emb_dim, seed=9)
    result = _transform(layers, x)
    expect(
        result.shape[-1] != CONFIG.hidden_dim,
        "down-missing",
        f"The result has {CONFIG.hidden_dim} numbers per token, the width between the layers: "
        f"`down` is not used, which leads back to {CONFIG.emb_dim}.",
    )
    expect(
        result.shape == x.shape,
        "shape-wrong",
        f"The result has shape {tuple(result.shape)}, but should have that of x, {tuple(x.shape)}.",
    )
    if not close(result, right(x)):
        with torch.no_grad():
            gate = right.gate(x)
            up = right.up(x)
            _name_wrong_result(result, right, gate, up)
    for case, other in (("a single token", x[:1, :1]), ("x of shape (T, C)", x[0])):
        expect(
            close(_transform(layers, other, case), right(other)),
            "swiglu-special",
            f"Right for one case, wrong for another: {case}.",
        )
    check_gradients(layers, right, x)


def _check_biases(function: Callable[..., Any]) -> None:
    layers = call_function(function, CONFIG)
    names = layers.state_dict() if isinstance(layers, nn.Module) else ()
    expect(
        not any(name.endswith(".bias") for name in names),
        "biases",
        "The layers have biases: pass bias=False. Published weights have none, so yours would keep "
        "the random numbers that they started with.",
    )


def _transform(layers: nn.Module, x: Tensor, case: str = "") -> Tensor:
    """The result, a tensor; x must stay as it is."""
    result = call_without_mutation(layers, x, consequence="its input in place.", case=case)
    expect_tensor(result)
    return result


def _name_wrong_result(result: Tensor, right: SwiGLU, gate: Tensor, up: Tensor) -> None:
    known = [
        *_wrong_places(right, gate, up),
        *_wrong_activations(right, gate, up),
        *_wrong_products(right, gate, up),
    ]
    raise_if_known(result, known)
    raise Mistake("swiglu-wrong", "The result is wrong. It should be down(silu(gate(x)) * up(x)).")


def _wrong_places(right: SwiGLU, gate: Tensor, up: Tensor) -> list[WrongResult]:
    """Mistakes in what the activation function is applied to."""
    return [
        WrongResult(
            "activation-on-up",
            (right.down(gate * F.silu(up)),),
            "silu is applied to `up`, not to `gate`. As long as both start at random nothing is "
            "lost, but the weights of a trained model are then read in the wrong roles.",
        ),
        WrongResult(
            "activation-after-product",
            (right.down(F.silu(gate * up)),),
            "silu is applied to the product. Apply it to the gate, then multiply: `up` itself "
            "passes unchanged.",
        ),
        WrongResult(
            "activation-on-both",
            (right.down(F.silu(gate) * F.silu(up)),),
            "silu is applied to both, `gate` and `up`: only the gate has it.",
        ),
    ]


def _wrong_activations(right: SwiGLU, gate: Tensor, up: Tensor) -> list[WrongResult]:
    """Other activation functions, or none."""
    tanh_gelu = F.gelu(gate, approximate="tanh")
    return [
        WrongResult(
            "gelu-not-silu",
            (right.down(F.gelu(gate) * up), right.down(tanh_gelu * up)),
            "The gate goes through GELU, as in GPT-2 and Gemma, but Llama has silu. The two are so "
            "alike that a loaded model still talks, only worse.",
        ),
        WrongResult(
            "sigmoid-not-silu",
            (right.down(gate.sigmoid() * up),),
            "The gate goes through a sigmoid. silu(z) is z * sigmoid(z): a gate that can be larger "
            "than 1, and below 0.",
        ),
        WrongResult(
            "relu-not-silu",
            (right.down(gate.relu() * up),),
            "The gate goes through ReLU, but Llama has silu.",
        ),
        WrongResult(
            "no-activation",
            (right.down(gate * up),),
            "The gate has no activation function: silu is missing.",
        ),
    ]


def _wrong_products(right: SwiGLU, gate: Tensor, up: Tensor) -> list[WrongResult]:
    """Mistakes in how gate and up are joined."""
    return [
        WrongResult(
            "sum-not-product",
            (right.down(F.silu(gate) + up),),
            "Gate and `up` are added. A gate multiplies: where it is near 0, nothing of `up` "
            "passes.",
        ),
        WrongResult(
            "no-gate",
            (right.down(F.silu(gate)), right.down(F.silu(up))),
            "Only one of `gate` and `up` is used: that is a plain feed-forward layer, without a "
            "gate, and a third of the weights does nothing.",
        ),
    ]
