"""Exercise 8, the loss of a loader: what is checked and said."""

from numbers import Real

import torch

from ch07.exercises.checks.collate_common import kind
from ch07.exercises.checks.loss import Probe, close, make_batch, numbers
from ch07.exercises.report import call_function, expect
from train_loop import calc_loss_loader, sum_loss


class _Loader:
    """Batches that can be counted and gone through, but not asked for by number."""

    def __init__(self, batches):
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        return iter([(inputs.clone(), targets.clone()) for inputs, targets in self.batches])


def check_loss_loader(function):
    """Exercise 8."""
    batches = [make_batch(3, (5, 5)), make_batch(4, (1, 0)), make_batch(5, (2, 3))]
    batches.insert(1, make_batch(6, (0, 0)))  # nothing is counted in it
    for options in ({}, {"num_batches": 2}, {"num_batches": 3}, {"num_batches": 9}):
        _check_measured(function, _Loader(batches), options)
    model = Probe().eval()
    call_function(function, _Loader(batches), model, "cpu")
    expect(
        not model.training,
        "train-mode-forced",
        "A model that was in evaluation mode comes back in training mode: remember how it was.",
    )


def _check_measured(function, loader, options):
    """One measurement: how it is done first, then what came out."""
    model = Probe(drop_rate=0.3).train()
    case = "".join(f"{name}={value}" for name, value in options.items())
    loss = call_function(function, loader, model, "cpu", case=case, **options)
    training, recording = model.training, torch.is_grad_enabled()
    torch.set_grad_enabled(True)
    expect(
        not any(model.modes),
        "eval-with-dropout",
        "The model is in training mode while it is measured: dropout changes the loss, and each "
        "measurement gives another number. Call model.eval() first.",
    )
    expect(
        isinstance(loss, Real | torch.Tensor) and torch.as_tensor(loss).numel() == 1,
        "no-number",
        f"Expected a float, got {kind(loss)}.",
    )
    gradients = any(model.gradients) or getattr(loss, "requires_grad", False)
    _compare_measured(torch.as_tensor(loss, dtype=torch.float32), loader, case, options)
    expect(
        training,
        "train-mode-lost",
        "The model stays in evaluation mode afterwards: from the first evaluation on, training "
        "goes on without dropout. Put it back as it was.",
    )
    expect(
        not gradients,
        "gradients-kept",
        "Gradients are recorded while measuring, which costs memory for nothing: use "
        "torch.no_grad().",
    )
    expect(recording, "gradients-off", "Gradients stay switched off afterwards: no step works.")


def _compare_measured(loss, loader, case, options):
    model = Probe().eval()
    expected = calc_loss_loader(loader, model, "cpu", **options)
    sums = [
        sum_loss(*batch, model, "cpu") for batch in loader.batches[: options.get("num_batches")]
    ]
    means = [float(total) / n for total, n in sums if n]
    expect(
        not close(loss, sum(means) / len(means)) or close(loss, expected),
        "mean-of-means",
        "This is the mean of the batches' means: a target counts more in a batch with few of "
        "them, so the loss depends on how rows were grouped. Sum first, divide once.",
        numbers(loss, expected),
    )
    expect(
        not loss.isnan(),
        "nan",
        "The loss is NaN: a batch without a counted target is divided by its number, 0.",
        numbers(loss, expected),
    )
    what = f"With {case} of {len(loader)} batches the loss" if case else "The loss"
    diagnosis = "num-batches-wrong" if case else "loss-wrong"
    expect(close(loss, expected), diagnosis, f"{what} is not right.", numbers(loss, expected))
