"""Exercise 11, one training step.

The one idea: the optimizer is watched. The gradients and learning rates at the moment of the step,
and the number of steps, tell which line is wrong.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ch07.exercises.checks.common import (
    call_without_mutation,
    losses_table,
    same_loss,
)
from ch07.exercises.checks.loss_probe import Batch, Probe, make_batch
from ch07.exercises.mistake import expect
from train_loop import TrainSettings, train_step

TrainStep = Callable[..., Any]
CLIP = 0.2  # well below the gradient norms here, so that clipping shows
NO_CLIP = 100.0  # well above them
LR = 0.5
WINDOW: list[Batch] = [make_batch(3, (5, 5)), make_batch(6, (0, 0)), make_batch(4, (1, 0))]
WINDOW_WITHOUT_TARGETS: list[Batch] = [make_batch(6, (0, 0)), make_batch(7, (0, 0))]


class TwoParameterProbe(Probe):
    """A probe with a second parameter, so that forgetting one of them shows."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.linspace(-1, 1, self.table.weight.shape[1]))

    def forward(
        self, token_ids: Tensor, wanted: Tensor | tuple[Tensor, ...] | None = None
    ) -> Tensor:
        """(B, T) -> logits (B, T, V), or those of the wanted positions only."""
        logits = super().forward(token_ids) + self.bias
        return logits if wanted is None else logits[wanted]


class RecordingSGD(torch.optim.SGD):
    """Gradient descent in two parameter groups that remembers what each step was given."""

    def __init__(self, model: TwoParameterProbe) -> None:
        groups = [{"params": [model.table.weight], "lr": 9.0}, {"params": [model.bias], "lr": 0.01}]
        super().__init__(groups, weight_decay=0.1)
        self.gradients: list[Tensor | None] = []  # at each step
        self.rates: list[list[float]] = []  # of the groups, at each step

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Remember, then step."""
        loss = None if closure is None else closure()
        self.gradients.append(current_gradient(self))
        self.rates.append([group["lr"] for group in self.param_groups])
        super().step()
        return loss


def current_gradient(optimizer: torch.optim.Optimizer) -> Tensor | None:
    """All gradients as one vector; None if there are none."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if all(p.grad is None for p in parameters):
        return None
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    return torch.cat([part.detach().flatten() for part in parts])


def check_train_step(function: TrainStep) -> None:
    """Exercise 11."""
    model, optimizer, loss = _run(function, WINDOW)
    gradient = _check_steps(optimizer)
    expect(
        optimizer.rates[0] == [LR, LR],
        "lr-not-applied",
        f"The optimizer stepped with learning rates {optimizer.rates[0]}, but lr was {LR:g}, for "
        "every parameter group: a schedule would have no effect.",
    )
    _check_gradient(function, gradient)
    _check_returned_loss(loss)
    expect(
        not _has_gradient(optimizer),
        "no-zero-grad",
        "The gradient is still there after the step: the next one is added to it, so every step "
        "repeats all steps before it. Call zero_grad().",
    )
    expect(
        model.training,
        "mode-changed",
        "Your function switches the model to evaluation mode: leave the mode to the caller.",
    )
    _check_window_without_targets(function)


def _run(
    function: TrainStep, window: list[Batch], clip: float = CLIP
) -> tuple[TwoParameterProbe, RecordingSGD, Any]:
    """One call on a fresh model: (model, optimizer, what was returned)."""
    model = TwoParameterProbe().train()
    optimizer = RecordingSGD(model)
    settings = TrainSettings(grad_clip=clip)
    loss = call_without_mutation(
        function,
        window,
        model,
        optimizer,
        "cpu",
        LR,
        settings,
        consequence="the caller's window.",
    )
    return model, optimizer, loss


def _check_steps(optimizer: RecordingSGD) -> Tensor:
    """Exactly one step, with a gradient, which is returned."""
    expect(
        bool(optimizer.gradients),
        "no-step",
        "The given optimizer's step() was never called.",
    )
    gradient = optimizer.gradients[0]
    expect(
        gradient is not None and bool(gradient.any()),
        "zero-grad-before-step",
        "The optimizer stepped without a gradient: it was set to zero between backward() and "
        "step(), or backward() was never called.",
    )
    expect(
        len(optimizer.gradients) == 1,
        "step-per-batch",
        f"The optimizer stepped {len(optimizer.gradients)} times for one window: accumulate the "
        "gradients of all its batches first, then step once.",
    )
    assert gradient is not None
    return gradient


def _check_gradient(function: TrainStep, gradient: Tensor) -> None:
    """Its direction tells how the batches were weighed, its norm whether it was clipped."""
    right = _check_direction(gradient)
    expect(
        float(gradient.norm()) < 1.01 * CLIP,
        "clip-after-step",
        f"The gradient's norm was {gradient.norm():.2f} when the optimizer stepped: clip it to "
        f"grad_clip ({CLIP:g}, the L2 norm of all gradients together) before the step.",
    )
    direction = right / right.norm()
    _check_norm(gradient, CLIP * direction, "must be clipped")
    for clip, expected, case in (
        (CLIP / 4, CLIP / 4 * direction, "must be clipped"),
        (NO_CLIP, right, "is small enough as it is"),
    ):
        other = _run(function, WINDOW, clip)[1].gradients[0]
        assert other is not None
        _check_norm(other, expected, case)


def _check_direction(gradient: Tensor) -> Tensor:
    """Returns the right gradient, not clipped."""
    n_targets = sum(int((targets != -100).sum()) for _, targets in WINDOW)
    right = _window_gradient(lambda own_targets: 1 / n_targets)
    mean_of_means = _window_gradient(lambda own_targets: 1 / max(own_targets, 1))
    expect(
        not bool(gradient.isnan().any()),
        "nan",
        "The gradient contains NaN: was a batch without a counted target divided by its count, 0?",
    )
    expect(
        not _parallel(gradient, mean_of_means),
        "accumulation-mean-of-means",
        "The batches' means were added up: a target in a batch with few targets counts more, so 4 "
        "batches of 2 rows don't do what 1 batch of 8 does. Divide each batch's sum by the number "
        "of targets in the whole window.",
    )
    expect(
        _parallel(gradient, right),
        "gradient-wrong",
        "The gradient at the step is not that of the window's loss: was a batch or a parameter "
        "left out, or clipped separately?",
    )
    return right


def _window_gradient(weight_of_batch: Callable[[int], float]) -> Tensor:
    """The gradient if each batch's summed loss is multiplied by weight_of_batch(its targets)."""
    model = TwoParameterProbe()
    total = torch.zeros(())
    for inputs, targets in WINDOW:
        counted = targets != -100
        logits = model(inputs, wanted=counted)
        loss = nn.functional.cross_entropy(logits, targets[counted], reduction="sum")
        total = total + loss * weight_of_batch(int(counted.sum()))
    parts = torch.autograd.grad(total, [model.table.weight, model.bias])
    return torch.cat([part.flatten() for part in parts])


def _check_norm(gradient: Tensor, expected: Tensor, case: str) -> None:
    expect(
        torch.allclose(gradient, expected, rtol=1e-3, atol=1e-6),
        "gradient-length",
        f"The gradient's direction is right, but its norm is wrong where it {case}: "
        f"{gradient.norm():.3f} instead of {expected.norm():.3f}. Divide the sum by the number of "
        "targets, and clip only what is too long.",
    )


def _check_returned_loss(loss: Any) -> None:
    model = TwoParameterProbe()
    settings = TrainSettings(grad_clip=CLIP)
    expected = train_step(WINDOW, model, RecordingSGD(model), "cpu", LR, settings)
    expect(loss is not None, "no-loss", "Nothing was returned: return the window's mean loss.")
    is_number = isinstance(loss, int | float) or (isinstance(loss, Tensor) and loss.numel() == 1)
    expect(
        is_number,
        "no-number",
        f"The returned loss is a {type(loss).__name__}, but should be a number.",
    )
    expect(
        same_loss(loss, expected),
        "loss-wrong",
        "The returned loss is not the mean over the window.",
        lambda: losses_table(loss, expected),
    )


def _check_window_without_targets(function: TrainStep) -> None:
    model, optimizer, loss = _run(function, WINDOW_WITHOUT_TARGETS)
    unchanged = torch.equal(model.table.weight, TwoParameterProbe().table.weight)
    expect(
        unchanged and not optimizer.gradients,
        "empty-window-steps",
        "A window without a counted target made a step: weight decay, momentum or a NaN would move "
        "the weights, although there was nothing to learn. Return None instead.",
    )
    expect(
        loss is None,
        "empty-window-loss",
        "For a window without a counted target the function should return None.",
    )
    expect(
        model.training and not _has_gradient(optimizer),
        "empty-window-changes",
        "A window without a counted target should leave the mode and the gradients as they were.",
    )


def _has_gradient(optimizer: RecordingSGD) -> bool:
    gradient = current_gradient(optimizer)
    return gradient is not None and bool(gradient.any())


def _parallel(a: Tensor, b: Tensor) -> bool:
    return float(nn.functional.cosine_similarity(a, b, dim=0)) > 0.99999
