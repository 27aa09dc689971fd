"""Exercises 7 and 8, the loss of a batch and of a loader: what is checked and said."""

import torch
import torch.nn.functional as F
from torch import nn

from ch07.exercises.batch_checks import kind
from ch07.exercises.findings import Mistake, call, expect
from train_loop import calc_loss_batch, calc_loss_loader

V = 11  # tokens of the small world in which losses are checked


class Probe(nn.Module):
    """A model small enough to look through: one table of logits, and dropout."""

    def __init__(self, drop_rate=0.0):
        super().__init__()
        self.table = nn.Embedding(V, V)
        self.drop = nn.Dropout(drop_rate)
        self.modes, self.gradients = [], []  # of each call
        stream = torch.Generator().manual_seed(7)
        with torch.no_grad():
            self.table.weight.copy_(2 * torch.randn(V, V, generator=stream))

    def forward(self, token_ids, wanted=None):
        self.modes.append(self.training)
        self.gradients.append(torch.is_grad_enabled())
        logits = self.drop(self.table(token_ids))
        return logits if wanted is None else logits[wanted]


def make_batch(seed, counted, B=2, T=5):
    """A batch (B, T) whose first `counted` targets of each row are counted."""
    stream = torch.Generator().manual_seed(seed)
    inputs, targets = torch.randint(1, V, (2, B, T), generator=stream)
    for row, n in enumerate(counted):
        targets[row, n:] = -100
    return inputs, targets


def check_loss_batch(function):
    """Exercise 7."""
    model = Probe()
    inputs, targets = make_batch(1, (5, 2))
    loss = call(function, inputs, targets, model, "cpu")
    _check_tensor(loss)
    expected = calc_loss_batch(inputs, targets, model, "cpu")
    _compare(loss, expected, model(inputs), targets)
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
        "The loss is cut off from the model: a new tensor was made of its number, and its "
        "gradient leads nowhere. Return the loss as it was computed.",
    )
    expect(
        torch.allclose(gradient, right, atol=1e-4),
        "gradient-wrong",
        "The loss is right, but its gradient isn't: a part of it was cut off.",
    )
    inputs, targets = make_batch(2, (0, 0))
    _expect_refusal(function, inputs, targets, model)


def _check_tensor(loss):
    expect(
        not isinstance(loss, float),
        "detached-loss",
        "The loss is a plain number: .item() cuts it off from the model, so nothing can be "
        "learned from it. Return the tensor.",
    )
    expect(isinstance(loss, torch.Tensor), "no-tensor", f"Expected a tensor, got {kind(loss)}.")
    expect(
        loss.numel() == 1 and loss.ndim == 0,
        "not-one-number",
        f"The loss has shape {tuple(loss.shape)}, but should be one number: the mean.",
    )


def _compare(loss, expected, logits, targets):
    """Compare with the losses that known mistakes give."""
    counted = targets != -100
    n, flat = int(counted.sum()), (logits.reshape(-1, V), targets.reshape(-1))
    turned = logits.transpose(1, 2).reshape(-1, V)
    rows = [F.cross_entropy(a, b) for a, b in zip(logits, targets, strict=True)]
    wrong = [
        ("divide-by-all", expected * n / targets.numel(), "The sum is divided by the number of "
         "all tokens, padding included: a batch with more padding gets a smaller loss, and a "
         "smaller gradient. Divide by the number of counted targets."),
        ("softmax-twice", F.cross_entropy(flat[0].softmax(-1), flat[1]), "There is a softmax "
         "before the cross-entropy, which makes one itself: the loss can hardly fall, and "
         "gradients are tiny. Give it the logits."),
        ("sum-not-mean", expected * n, "This is the sum over the counted targets, not their "
         "mean: a longer batch makes a longer step."),
        ("wrong-flatten", F.cross_entropy(turned, flat[1]), "The logits were transposed and then "
         "flattened, so that they stand beside other tokens' targets. Flatten (B, T, V) to "
         "(B * T, V) as it is."),
        ("double-shift", F.cross_entropy(logits[:, :-1].reshape(-1, V), targets[:, 1:].reshape(-1)),
         "The targets are shifted once more inside the loss: collate has done it already, so "
         "the model would learn to skip a token."),
        ("mean-of-rows", sum(rows) / len(rows), "This is the mean of the rows' means: a target "
         "in a short row counts more than one in a long row."),
        ("ignored-counted", F.cross_entropy(flat[0], flat[1].clamp(min=0)), "Targets of -100 are "
         "counted, as if they were token 0."),
        ("wrong-sign", -expected, "The sign is wrong: training would make the right token less "
         "likely."),
        ("wrong-base", expected / torch.log(torch.tensor(2.0)), "This is in bits, not in nats: "
         "use the natural logarithm."),
    ]  # fmt: skip
    for diagnosis, value, sentence in wrong:
        if _close(loss, value):
            raise Mistake(diagnosis, sentence, _numbers(loss, expected))
    expect(not loss.isnan(), "nan", "The loss is NaN.", _numbers(loss, expected))
    expect(_close(loss, expected), "loss-wrong", "The loss is not right.",
           _numbers(loss, expected))  # fmt: skip


def _expect_refusal(function, inputs, targets, model):
    try:
        loss = function(inputs, targets, model, "cpu")
    except ValueError:
        return
    except Exception as error:
        raise Mistake(
            "all-labels-masked-nan",
            f"A batch without a counted target raised {type(error).__name__}: raise a "
            "ValueError that says so.",
        ) from error
    raise Mistake(
        "all-labels-masked-nan",
        f"Right where there are targets. But a batch without a counted target gave "
        f"{float(loss):.3g}: a NaN, or a 0 that hides it, spoils all weights. Raise a ValueError.",
    )


def check_loss_loader(function):
    """Exercise 8."""
    model = Probe(drop_rate=0.3)
    loader = [make_batch(3, (5, 5)), make_batch(4, (1, 0)), make_batch(5, (2, 3))]
    model.train()
    loss = call(function, loader, model, "cpu")
    modes, gradients, training = model.modes.copy(), model.gradients.copy(), model.training
    model.train()
    expected = calc_loss_loader(loader, model, "cpu")
    expect(
        not any(modes),
        "eval-with-dropout",
        "The model is in training mode while it is measured: dropout changes the loss, and each "
        "measurement gives another number. Call model.eval() first.",
    )
    expect(
        isinstance(loss, float | torch.Tensor) and torch.as_tensor(loss).numel() == 1,
        "no-number",
        f"Expected a float, got {kind(loss)}.",
    )
    loss = torch.as_tensor(loss, dtype=torch.float32)
    means = [float(calc_loss_batch(*batch, model.eval(), "cpu")) for batch in loader]
    expect(
        not _close(loss, sum(means) / len(means)),
        "mean-of-means",
        "This is the mean of the batches' means: a target counts more in a batch with few of "
        "them, so the loss depends on how rows were grouped. Sum first, divide once.",
        _numbers(loss, expected),
    )
    expect(_close(loss, expected), "loss-wrong", "The loss is not right.", _numbers(loss, expected))
    expect(
        training,
        "train-mode-lost",
        "The model stays in evaluation mode afterwards: from the first evaluation on, training "
        "goes on without dropout. Put it back as it was.",
    )
    expect(
        not any(gradients) and not loss.requires_grad,
        "gradients-kept",
        "Gradients are recorded while measuring, which costs memory for nothing: use "
        "torch.no_grad().",
    )
    _check_mode_and_number(function, model, loader)


def _check_mode_and_number(function, model, loader):
    model.eval()
    call(function, loader, model, "cpu")
    expect(
        not model.training,
        "train-mode-forced",
        "A model that was in evaluation mode comes back in training mode: remember how it was.",
    )
    for number in (1, 2, 9):
        loss = call(
            function, loader, model, "cpu", num_batches=number, case=f"num_batches={number}"
        )
        expected = calc_loss_loader(loader, model, "cpu", num_batches=number)
        expect(
            _close(loss, expected),
            "num-batches-wrong",
            f"With num_batches={number} of {len(loader)} batches the loss is wrong.",
            _numbers(loss, expected),
        )


def _close(a, b):
    a, b = (torch.as_tensor(number).detach() for number in (a, b))
    return bool(abs(a - b) < 1e-4)


def _numbers(loss, expected):
    return f"returned {float(loss):.4f}\nexpected {float(expected):.4f}"
