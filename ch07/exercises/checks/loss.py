"""Exercise 7, the loss of a batch."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ch07.exercises.checks.common import (
    call_without_mutation,
    describe,
    expect_tensor,
    losses_table,
    same_loss,
)
from ch07.exercises.checks.loss_probe import VOCAB_SIZE, Batch, Probe, make_batch
from ch07.exercises.learner_code import call_function, describe_error, try_call
from ch07.exercises.mistake import Mistake, expect
from train_loop import calc_loss_batch


@dataclass(frozen=True)
class WrongLoss:
    """What a known mistake makes of a batch's loss."""

    diagnosis: str
    value: Tensor
    sentence: str


def check_loss_batch(function: Callable[..., Any]) -> None:
    """Exercise 7."""
    for inputs, targets in _batches():
        _check_one_loss(function, inputs, targets, Probe())
    sure_model = Probe()
    with torch.no_grad():
        sure_model.table.weight.mul_(200)  # exp(200) is more than a float32 can hold
    _check_one_loss(function, *make_batch(1, (5, 2)), sure_model)
    model = Probe().eval()
    call_function(function, *make_batch(1, (5, 2)), model, "cpu")
    expect(
        not model.training,
        "mode-changed",
        "Your function switches the model to training mode: leave the mode to the caller.",
    )
    _expect_refusal(function, *make_batch(2, (0, 0)), model)


def _batches() -> Iterator[Batch]:
    """Batches whose targets are masked in several ways."""
    inputs, targets = make_batch(1, (5, 2))
    yield inputs, targets.clone()
    in_front = targets.clone()
    in_front[0, :3] = -100
    yield inputs, in_front
    inside = targets.clone()
    inside[0, 2] = -100
    yield inputs, inside
    second_row = targets.clone()
    second_row[1] = -100
    yield inputs, second_row
    first_row = targets.clone()
    first_row[0] = -100
    yield inputs, first_row
    with_token_0 = targets.clone()
    with_token_0[0, 1] = 0  # a token like any other
    yield inputs, with_token_0


def _check_one_loss(
    function: Callable[..., Any], inputs: Tensor, targets: Tensor, model: Probe
) -> None:
    loss = call_without_mutation(
        function,
        inputs,
        targets,
        model,
        "cpu",
        untouched=2,
        consequence="the caller's batch: the next epoch would see other targets.",
    )
    expect(
        model.table.weight.grad is None and model.training,
        "side-effect",
        "Only the loss is wanted: backward(), zero_grad() and the model's mode belong to the "
        "training step.",
    )
    _check_scalar(loss)
    expected = calc_loss_batch(inputs, targets, model, "cpu")
    if not same_loss(loss, expected):
        _name_wrong_loss(loss, expected, model(inputs), targets)
    _check_gradient(loss, expected, model)


def _check_scalar(loss: Any) -> None:
    expect(
        not isinstance(loss, float),
        "detached-loss",
        "The loss is a plain number: .item() cuts it off from the model, so nothing can be learned "
        "from it. Return the tensor.",
    )
    expect_tensor(loss)
    expect(
        loss.ndim == 0,
        "not-one-number",
        f"The loss has shape {tuple(loss.shape)}, but should be a single number: the mean.",
    )


def _check_gradient(loss: Tensor, expected: Tensor, model: Probe) -> None:
    expect(
        loss.requires_grad,
        "detached-loss",
        "The loss has no gradient: .item(), .detach() or no_grad() cut it off from the model, so "
        "nothing can be learned from it.",
    )
    gradient = torch.autograd.grad(loss, model.table.weight, allow_unused=True)[0]
    right = torch.autograd.grad(expected, model.table.weight)[0]
    expect(
        gradient is not None,
        "detached-loss",
        "The loss is cut off from the model: it is a new tensor with the same number, and its "
        "gradient leads nowhere. Return the loss as it was computed.",
    )
    expect(
        torch.allclose(gradient, right, atol=1e-4),
        "gradient-wrong",
        "The loss is right, but its gradient is not: a part of it was detached.",
    )


def _wrong_means(expected: Tensor, logits: Tensor, targets: Tensor) -> list[WrongLoss]:
    """What mistakes after the cross-entropy give; logits (B, T, V), targets (B, T)."""
    n_counted = int((targets != -100).sum())
    row_means = [F.cross_entropy(row, target) for row, target in zip(logits, targets, strict=True)]
    return [
        WrongLoss(
            "divide-by-all",
            expected * n_counted / targets.numel(),
            "The sum is divided by the number of all tokens, padding included: a batch with more "
            "padding gets a smaller loss and a smaller gradient. Divide by the number of counted "
            "targets.",
        ),
        WrongLoss(
            "sum-not-mean",
            expected * n_counted,
            "This is the sum over the counted targets, not their mean: a batch with more tokens "
            "makes a larger step.",
        ),
        WrongLoss(
            "mean-of-rows",
            torch.stack(row_means).mean(),
            "This is the mean of the rows' means: a target in a short row counts more than one in "
            "a long row.",
        ),
        WrongLoss(
            "wrong-sign",
            -expected,
            "The sign is wrong: training would make the right token less likely.",
        ),
        WrongLoss(
            "wrong-base",
            expected / torch.log(torch.tensor(2.0)),
            "The loss is in bits, not in nats: use the natural logarithm.",
        ),
    ]


def _wrong_cross_entropies(logits: Tensor, targets: Tensor) -> list[WrongLoss]:
    """What mistakes in the cross-entropy's arguments give; logits (B, T, V), targets (B, T)."""
    flat_logits = logits.reshape(-1, VOCAB_SIZE)
    flat_targets = targets.reshape(-1)
    transposed = logits.transpose(1, 2).reshape(-1, VOCAB_SIZE)
    shifted_logits = logits[:, :-1].reshape(-1, VOCAB_SIZE)
    shifted_targets = targets[:, 1:].reshape(-1)
    return [
        WrongLoss(
            "softmax-twice",
            F.cross_entropy(flat_logits.softmax(-1), flat_targets),
            "A softmax comes before the cross-entropy, which applies one itself: the loss can "
            "hardly fall, and gradients are tiny. Pass it the logits.",
        ),
        WrongLoss(
            "wrong-flatten",
            F.cross_entropy(transposed, flat_targets),
            "The logits were transposed before they were flattened, so they no longer line up with "
            "their targets. Flatten (B, T, V) to (B * T, V) as it is.",
        ),
        WrongLoss(
            "double-shift",
            F.cross_entropy(shifted_logits, shifted_targets),
            "The targets are shifted again inside the loss: collate has already done it, so the "
            "model would learn to skip a token.",
        ),
        WrongLoss(
            "ignored-counted",
            F.cross_entropy(flat_logits, flat_targets.clamp(min=0)),
            "Targets of -100 are counted as if they were token 0.",
        ),
    ]


def _name_wrong_loss(loss: Tensor, expected: Tensor, logits: Tensor, targets: Tensor) -> None:
    """Compare a wrong loss with those of known mistakes."""
    table = losses_table(loss, expected)
    wrong_losses = _wrong_means(expected, logits, targets)
    wrong_losses += _wrong_cross_entropies(logits, targets)
    for wrong in wrong_losses:
        if same_loss(loss, wrong.value):
            raise Mistake(wrong.diagnosis, wrong.sentence, table)
    expect(not bool(loss.isnan()), "nan", "The loss is NaN.", table)
    raise Mistake("loss-wrong", "The loss is wrong.", table)


def _expect_refusal(
    function: Callable[..., Any], inputs: Tensor, targets: Tensor, model: Probe
) -> None:
    """A batch without a counted target has no mean."""
    loss, error = try_call(function, inputs, targets, model, "cpu")
    if isinstance(error, ValueError):
        return
    if error is not None:
        raise Mistake(
            "all-labels-masked-nan",
            f"A batch without a counted target raised {describe_error(error)}: raise a ValueError.",
        )
    is_number = isinstance(loss, Tensor) and loss.numel() == 1
    shown = f"{float(loss):.3g}" if is_number else describe(loss)
    raise Mistake(
        "all-labels-masked-nan",
        "Batches with targets are right, but a batch without a counted target gave "
        f"{shown}. A NaN would destroy all weights, and a 0 would hide the problem: raise a "
        "ValueError.",
    )
