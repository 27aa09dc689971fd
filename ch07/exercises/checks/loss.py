"""Exercise 7, the loss of a batch: what is checked and said."""

import torch
import torch.nn.functional as F
from torch import nn

from ch07.exercises.checks.collate_common import kind
from ch07.exercises.report import Mistake, call_function, describe_error, expect, try_call
from train_loop import calc_loss_batch

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


def _masks():
    """Batches whose targets are masked in several ways: behind, in front, inside, a whole row."""
    inputs, targets = make_batch(1, (5, 2))
    yield inputs, targets.clone()
    in_front, inside, a_row, with_zero = (targets.clone() for _ in range(4))
    in_front[0, :3] = -100
    inside[0, 2] = -100
    a_row[1] = -100
    with_zero[0, 1] = 0  # a token like any other
    first_row = targets.clone()
    first_row[0] = -100
    for masked in (in_front, inside, a_row, first_row, with_zero):
        yield inputs, masked


def check_loss_batch(function):
    """Exercise 7."""
    for inputs, targets in _masks():
        model = Probe()
        _check_one_loss(function, inputs, targets, model)
    model = Probe()
    with torch.no_grad():
        model.table.weight.mul_(200)  # exp(200) is more than a float32 can hold
    _check_one_loss(function, *make_batch(1, (5, 2)), model)
    model = Probe().eval()
    call_function(function, *make_batch(1, (5, 2)), model, "cpu")
    expect(not model.training, "mode-changed", "Your function changes the model's mode.")
    inputs, targets = make_batch(2, (0, 0))
    _expect_refusal(function, inputs, targets, model)


def _check_one_loss(function, inputs, targets, model):
    mine = inputs.clone(), targets.clone()
    loss = call_function(function, *mine, model, "cpu")
    expect(
        torch.equal(mine[0], inputs) and torch.equal(mine[1], targets),
        "batch-mutated",
        "Your function changed the caller's batch: the next epoch would see other targets.",
    )
    expect(
        model.table.weight.grad is None and model.training,
        "side-effect",
        "Only the loss is wanted: backward(), zero_grad() and the mode are the training step's.",
    )
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
    if close(loss, expected):
        return
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
        if close(loss, value):
            raise Mistake(diagnosis, sentence, numbers(loss, expected))
    expect(not loss.isnan(), "nan", "The loss is NaN.", numbers(loss, expected))
    raise Mistake("loss-wrong", "The loss is not right.", numbers(loss, expected))


def _expect_refusal(function, inputs, targets, model):
    loss, error = try_call(function, inputs, targets, model, "cpu")
    if isinstance(error, ValueError):
        return
    if error is not None:
        raise Mistake(
            "all-labels-masked-nan",
            f"A batch without a counted target raised {describe_error(error)}: raise a ValueError.",
        )
    shown = f"{float(loss):.3g}" if getattr(loss, "numel", lambda: 0)() == 1 else kind(loss)
    raise Mistake(
        "all-labels-masked-nan",
        f"Right where there are targets. But a batch without a counted target gave {shown}: a "
        "NaN, or a 0 that hides it, spoils all weights. Raise a ValueError.",
    )


def close(a, b):
    """Whether two losses are the same number."""
    a, b = (torch.as_tensor(number).detach() for number in (a, b))
    return bool(abs(a - b) < 1e-4)


def numbers(loss, expected):
    """Two losses, one below the other."""
    return f"returned {float(loss):.4f}\nexpected {float(expected):.4f}"
