"""Exercise 11, one training step: what is checked and said.

The one idea: the optimizer is watched; what its gradients, its learning rates and its calls were
at the moment of the step tells which line is wrong.
"""

import torch
from torch import nn

from ch07.exercises.checks.loss import Probe, make_batch
from ch07.exercises.report import call_function, expect
from train_loop import TrainSettings, train_step

CLIP = 0.2  # well below the gradients here, so that cutting shows
NO_CLIP = 100.0  # well above
LR = 0.5
WINDOW = [make_batch(3, (5, 5)), make_batch(6, (0, 0)), make_batch(4, (1, 0))]


class StepProbe(Probe):
    """A probe with two parameters, so that forgetting one of them shows."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.linspace(-1, 1, self.table.weight.shape[1]))

    def forward(self, token_ids, wanted=None):
        logits = super().forward(token_ids) + self.bias
        return logits if wanted is None else logits[wanted]


class Watched(torch.optim.SGD):
    """Plain gradient descent in two groups that remembers what each step saw."""

    def __init__(self, model):
        groups = [{"params": [model.table.weight], "lr": 9.0}, {"params": [model.bias], "lr": 0.01}]
        super().__init__(groups, weight_decay=0.1)
        self.seen = []  # (gradient or None, learning rates) of each step

    def step(self, closure=None):
        """Note the gradient, then step."""
        loss = None if closure is None else closure()
        self.seen.append((gradient_of(self), [group["lr"] for group in self.param_groups]))
        super().step()
        return loss


def gradient_of(optimizer):
    """All gradients as one vector; None if there is none."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if all(p.grad is None for p in parameters):
        return None
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    return torch.cat([part.detach().flatten() for part in parts])


def check_train_step(function):
    """Exercise 11."""
    model, optimizer, loss = _run(function, WINDOW)
    _check_calls(optimizer)
    gradient, rates = optimizer.seen[0]
    expect(
        rates == [LR, LR],
        "lr-not-applied",
        f"The optimizer stepped with learning rates of {rates}, but {LR:g} was asked for, in "
        "each of its groups: a schedule would have no effect.",
    )
    right = _check_direction(gradient)
    expect(
        gradient.norm() < 1.01 * CLIP,
        "clip-after-step",
        f"The gradient had a length of {gradient.norm():.2f} when the optimizer stepped: it must "
        f"be cut to grad_clip ({CLIP:g}, L2 norm of all together) before the step.",
    )
    _check_length(gradient, right * CLIP / right.norm(), "to be cut")
    shorter = _run(function, WINDOW, CLIP / 4)[1].seen[0][0]
    _check_length(shorter, right * CLIP / 4 / right.norm(), "to be cut")
    _check_length(_run(function, WINDOW, NO_CLIP)[1].seen[0][0], right, "short enough as it is")
    _check_loss(loss)
    left = gradient_of(optimizer)
    expect(
        left is None or not left.any(),
        "no-zero-grad",
        "The gradient is still there after the step: the next step adds its own to it, so every "
        "step goes on in the direction of all steps before. Call zero_grad().",
    )
    expect(model.training, "mode-changed", "The model's mode was changed: that is the loop's.")
    _check_empty(function)


def _run(function, window, clip=CLIP):
    model = StepProbe().train()
    optimizer, mine = Watched(model), [(a.clone(), b.clone()) for a, b in window]
    settings = TrainSettings(grad_clip=clip)
    loss = call_function(function, mine, model, optimizer, "cpu", LR, settings)
    unchanged = len(mine) == len(window) and all(
        torch.equal(a, b)
        for batch, other in zip(mine, window, strict=True)
        for a, b in zip(batch, other, strict=True)
    )
    expect(unchanged, "batch-mutated", "Your function changed the caller's window.")
    return model, optimizer, loss


def _check_calls(optimizer):
    expect(
        bool(optimizer.seen), "no-step", "step() of the optimizer that was given was never called."
    )
    gradient = optimizer.seen[0][0]
    expect(
        gradient is not None and gradient.any(),
        "zero-grad-before-step",
        "The gradient was empty when the optimizer stepped: it was set to zero between "
        "backward() and step(), or backward() was never called.",
    )
    expect(
        len(optimizer.seen) == 1,
        "step-per-batch",
        f"The optimizer stepped {len(optimizer.seen)} times for one window: collect the "
        "gradients of all its batches first, then step once.",
    )


def _gradient(weigh):
    """The window's gradient if each batch's summed loss is multiplied by weigh(its targets)."""
    model, total = StepProbe(), 0.0
    for inputs, targets in WINDOW:
        counted = targets != -100
        logits = model(inputs, wanted=counted)
        summed = nn.functional.cross_entropy(logits, targets[counted], reduction="sum")
        total = total + summed * weigh(int(counted.sum()))
    parts = torch.autograd.grad(total, [model.table.weight, model.bias])
    return torch.cat([part.flatten() for part in parts])


def _check_direction(gradient):
    """It tells how the batches were weighed; returns the right gradient, not cut."""
    n = sum(int((targets != -100).sum()) for _, targets in WINDOW)
    right, means = _gradient(lambda own: 1 / n), _gradient(lambda own: 1 / max(own, 1))
    expect(not gradient.isnan().any(), "nan", "There are NaNs in the gradient: is a batch without "
           "a counted target divided by its number, 0?")  # fmt: skip
    expect(
        not _parallel(gradient, means),
        "accumulation-mean-of-means",
        "The batches' means were added up: a target counts more in a batch with few of them, so "
        "4 batches of 2 rows do not do what 1 batch of 8 does. Divide each batch's sum by the "
        "number of targets of the whole window.",
    )
    expect(
        _parallel(gradient, right),
        "gradient-wrong",
        "The gradient at the step is not that of the window's loss: was a batch or a parameter "
        "left out, or cut by itself?",
    )
    return right


def _check_length(gradient, expected, case):
    expect(
        torch.allclose(gradient, expected, rtol=1e-3, atol=1e-6),
        "gradient-length",
        f"The gradient's direction is right, its length isn't, where it is {case}: "
        f"{gradient.norm():.3f}, expected {expected.norm():.3f}. Divide the sum by the number of "
        "targets, and cut only what is too long.",
    )


def _check_loss(loss):
    model = StepProbe()
    expected = train_step(WINDOW, model, Watched(model), "cpu", LR, TrainSettings(grad_clip=CLIP))
    expect(loss is not None, "no-loss", "Nothing was returned: return the window's mean loss.")
    one = isinstance(loss, int | float) or getattr(loss, "numel", lambda: 0)() == 1
    expect(one, "no-number", f"The loss that was returned is a {type(loss).__name__}, no number.")
    loss = torch.as_tensor(loss).detach()
    expect(
        abs(float(loss) - float(expected)) < 1e-4,
        "loss-wrong",
        "The loss that was returned is not the window's mean.",
        f"returned {float(loss):.4f}\nexpected {float(expected):.4f}",
    )


def _check_empty(function):
    window = [make_batch(6, (0, 0)), make_batch(7, (0, 0))]
    model, optimizer, loss = _run(function, window)
    expect(
        not optimizer.seen and torch.equal(model.table.weight, StepProbe().table.weight),
        "empty-window-steps",
        "A window without a counted target made a step all the same: weight decay, momentum or "
        "a NaN would move the weights, although nothing was learned. Return None instead.",
    )
    expect(loss is None, "empty-window-loss", "A window without a counted target returns None.")
    left = gradient_of(optimizer)
    expect(
        model.training and (left is None or not left.any()),
        "empty-window-changes",
        "A window without a counted target should leave mode and gradients as they were.",
    )


def _parallel(a, b):
    return float(nn.functional.cosine_similarity(a, b, dim=0)) > 0.99999
