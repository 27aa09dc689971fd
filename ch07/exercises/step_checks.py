"""Exercise 11, one training step: what is checked and said.

The one idea: the optimizer is watched; what its gradients, its learning rate and its calls were
at the moment of the step tells which line is wrong.
"""

import math

import torch

from ch07.exercises.findings import call, expect
from ch07.exercises.loss_checks import Probe, make_batch
from train_loop import TrainSettings, train_step

CLIP = 0.2  # well below the gradients here, so that cutting shows
LR = 0.5


class Watched(torch.optim.SGD):
    """Plain gradient descent that remembers what each step saw."""

    def __init__(self, parameters, **options):
        super().__init__(parameters, **options)
        self.seen = []  # (gradient or None, learning rate) of each step

    def step(self, closure=None):
        """Note the gradient, then step."""
        (weight,) = self.param_groups[0]["params"]
        gradient = None if weight.grad is None else weight.grad.clone()
        self.seen.append((gradient, self.param_groups[0]["lr"]))
        return super().step(closure)


def check_train_step(function):
    """Exercise 11."""
    window = [make_batch(3, (5, 5)), make_batch(4, (1, 0))]
    model, optimizer, loss = _run(function, window)
    _check_calls(optimizer, model)
    gradient, lr = optimizer.seen[0]
    expect(
        lr == LR,
        "lr-not-applied",
        f"The optimizer stepped with a learning rate of {lr:g}, but {LR:g} was asked for: a "
        "schedule would have no effect.",
    )
    right = _check_gradient(gradient, window)
    unclipped = _run(function, window, clip=math.inf)[1].seen[0][0]
    _check_length(unclipped, right, sum(int((targets != -100).sum()) for _, targets in window))
    _check_loss(loss, window)
    expect(
        model.table.weight.grad is None or not model.table.weight.grad.any(),
        "no-zero-grad",
        "The gradient is still there after the step: the next step adds its own to it, so every "
        "step goes on in the direction of all steps before. Call zero_grad().",
    )
    _check_empty(function)


def _run(function, window, clip=CLIP):
    model = Probe()
    optimizer = Watched([model.table.weight], lr=9.0, weight_decay=0.1)
    loss = call(function, window, model, optimizer, "cpu", LR, TrainSettings(grad_clip=clip))
    return model, optimizer, loss


def _check_calls(optimizer, model):
    expect(bool(optimizer.seen), "no-step", "optimizer.step() was never called.")
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


def _gradient(window, weigh):
    """The gradient of the window if each batch's summed loss is multiplied by weigh(n)."""
    model = Probe()
    total = 0.0
    for inputs, targets in window:
        counted = targets != -100
        logits = model(inputs)[counted]
        summed = torch.nn.functional.cross_entropy(logits, targets[counted], reduction="sum")
        total = total + summed * weigh(int(counted.sum()))
    return torch.autograd.grad(total, model.table.weight)[0]


def _check_gradient(gradient, window):
    """Its direction tells how batches were weighed, its length whether it was cut."""
    n = sum(int((targets != -100).sum()) for _, targets in window)
    right = _gradient(window, lambda own: 1 / n)
    means = _gradient(window, lambda own: 1 / own)
    expect(
        not _parallel(gradient, means),
        "accumulation-mean-of-means",
        "The batches' means were added up: a target counts more in a batch with few of them, so "
        "4 batches of 2 rows do not do what 1 batch of 8 does. Divide each batch's sum by the "
        "number of targets of the whole window.",
    )
    expect(_parallel(gradient, right), "gradient-wrong", "The gradient at the step is not right.")
    expect(
        gradient.norm() < 1.01 * CLIP,
        "clip-after-step",
        f"The gradient had a length of {gradient.norm():.2f} when the optimizer stepped: it must "
        f"be cut to grad_clip ({CLIP:g}) before the step.",
    )
    return right


def _check_length(gradient, right, n):
    """Where nothing is to be cut, the gradient is that of the mean."""
    expect(
        not torch.allclose(gradient, right * n, rtol=1e-4),
        "sum-not-mean",
        "The gradient is that of the sum over the window's targets: divide it by their number, "
        "or a longer batch makes a longer step.",
    )
    expect(
        torch.allclose(gradient, right, rtol=1e-4, atol=1e-6),
        "gradient-length",
        f"The gradient's direction is right, its length isn't: {gradient.norm():.3f}, expected "
        f"{right.norm():.3f} where nothing is to be cut.",
    )


def _check_loss(loss, window):
    model = Probe()
    sgd = torch.optim.SGD(model.parameters(), lr=1.0)
    expected = train_step(window, model, sgd, "cpu", LR, TrainSettings(grad_clip=CLIP))
    expect(loss is not None, "no-loss", "Nothing was returned: return the window's mean loss.")
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
        not optimizer.seen and torch.equal(model.table.weight, Probe().table.weight),
        "empty-window-steps",
        "A window without a counted target made a step all the same: weight decay, momentum or "
        "a NaN would move the weights, although nothing was learned. Return None instead.",
    )
    expect(loss is None, "empty-window-loss", "A window without a counted target returns None.")


def _parallel(a, b):
    return float(torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0)) > 0.99999
