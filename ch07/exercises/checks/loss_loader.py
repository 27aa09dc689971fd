"""Exercise 8, the loss of a loader."""

from collections.abc import Callable, Iterator
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from ch07.exercises.checks.common import describe, losses_table, same_loss
from ch07.exercises.checks.loss_probe import Batch, Probe, make_batch
from ch07.exercises.learner_code import call_function
from ch07.exercises.mistake import expect
from train_loop import calc_loss_loader, sum_loss

WITHOUT_TARGETS = make_batch(6, (0, 0))
BATCHES = [make_batch(3, (5, 5)), make_batch(4, (1, 0)), make_batch(5, (2, 3))]
WITH_EMPTY = [BATCHES[0], WITHOUT_TARGETS, *BATCHES[1:]]


class _Loader:
    """Batches with a length and an order, but without an index, as in a DataLoader."""

    def __init__(self, batches: list[Batch]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        return iter([(inputs.clone(), targets.clone()) for inputs, targets in self.batches])


def check_loss_loader(function: Callable[..., Any]) -> None:
    """Exercise 8."""
    _check_weights_of_batches(function, _Loader(BATCHES))
    for num_batches in (None, 2, 3, 9):
        _check_measurement(function, _Loader(WITH_EMPTY), num_batches)
    model = Probe().eval()
    call_function(function, _Loader(WITH_EMPTY), model, "cpu")
    expect(
        not model.training,
        "train-mode-forced",
        "A model that was in evaluation mode comes back in training mode: restore the mode that it "
        "was in.",
    )


def _check_weights_of_batches(function: Callable[..., Any], loader: _Loader) -> None:
    """Checked first, on batches where neither dropout nor an empty batch interferes."""
    loss = call_function(function, loader, Probe(), "cpu")
    torch.set_grad_enabled(True)
    if _is_number(loss):
        _name_mean_of_means(torch.as_tensor(loss), loader, None)


def _check_measurement(
    function: Callable[..., Any], loader: _Loader, num_batches: int | None
) -> None:
    """The loss, and how the model was used meanwhile."""
    model = Probe(drop_rate=0.3).train()
    options: dict[str, Any] = {} if num_batches is None else {"num_batches": num_batches}
    loss = call_function(function, loader, model, "cpu", **options)
    gradients_enabled = torch.is_grad_enabled()
    torch.set_grad_enabled(True)
    expect(
        not any(model.modes),
        "eval-with-dropout",
        "The model is in training mode while it is measured: dropout changes the loss, and each "
        "measurement gives another number. Call model.eval() first.",
    )
    expect(_is_number(loss), "no-number", f"Expected a float, but got {describe(loss)}.")
    gradients_kept = any(model.gradients) or getattr(loss, "requires_grad", False)
    _check_loss(torch.as_tensor(loss, dtype=torch.float32), loader, num_batches)
    expect(
        model.training,
        "train-mode-lost",
        "The model stays in evaluation mode afterwards: from the first evaluation on, it would "
        "train without dropout. Restore the mode that it was in.",
    )
    expect(
        not gradients_kept,
        "gradients-kept",
        "Gradients are recorded during the measurement, which only costs memory: use "
        "torch.no_grad().",
    )
    expect(
        gradients_enabled,
        "gradients-off",
        "Gradients stay disabled afterwards: no training step would work.",
    )


def _is_number(loss: Any) -> bool:
    return isinstance(loss, Real | Tensor) and torch.as_tensor(loss).numel() == 1


def _check_loss(loss: Tensor, loader: _Loader, num_batches: int | None) -> None:
    _name_mean_of_means(loss, loader, num_batches)
    expected = calc_loss_loader(loader, Probe().eval(), "cpu", num_batches)
    table = losses_table(loss, expected)
    expect(
        not bool(loss.isnan()),
        "nan",
        "The loss is NaN: a batch without a counted target was divided by its count, 0.",
        table,
    )
    right = same_loss(loss, expected)
    if num_batches is None:
        expect(right, "loss-wrong", "The loss is wrong.", table)
    expect(
        right,
        "num-batches-wrong",
        f"With num_batches={num_batches} of {len(loader)} batches the loss is wrong.",
        table,
    )


def _name_mean_of_means(loss: Tensor, loader: _Loader, num_batches: int | None) -> None:
    model = Probe().eval()
    expected = calc_loss_loader(loader, model, "cpu", num_batches)
    sums = [sum_loss(*batch, model, "cpu") for batch in loader.batches[:num_batches]]
    means = [float(total) / n for total, n in sums if n]
    mean_of_means = sum(means) / len(means)
    expect(
        not same_loss(loss, mean_of_means) or same_loss(loss, expected),
        "mean-of-means",
        "This is the mean of the batches' means, as in the book: a target in a batch with few "
        "targets counts more, so the loss depends on how the rows were grouped. Sum first, and "
        "divide once.",
        losses_table(loss, expected),
    )
