"""Exercise 14, a beginning that all rows share.

The one idea: each known mistake is an ordinary call of the model with other positions, another mask
or other weights of the targets, so its loss can be computed and compared.

Axes: B rows, T tokens, P tokens of the beginning, R = T - P tokens of a rest, V vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ch07.exercises.checks.block import CONFIG
from ch07.exercises.checks.common import (
    call_without_mutation,
    describe,
    losses_table,
    random_tensor,
)
from ch07.exercises.checks.loss_probe import Batch
from ch07.exercises.learner_code import KnownError, describe_error
from ch07.exercises.mistake import Mistake, expect
from ch07.training.shared_beginning import count_shared_columns
from collate import custom_collate_fn, custom_collate_response_fn
from gpt_model import GPTModel, KVCache
from train_loop import sum_loss

LossFunction = Callable[..., Any]
BEGINNING = [3, 14, 15, 9, 2, 6, 5]
RESTS = [[8, 20, 30, 1], [8, 25], [11, 7, 29, 21, 17], [8, 10, 4]]
ROWS = [[*BEGINNING, *rest] for rest in RESTS]
ONE_ROW = KnownError(
    (RuntimeError,),
    ("must match the existing size", "Sizes of tensors must match"),
    Mistake(
        "cache-has-one-row",
        "The cache holds the one row of the beginning, but the model reads a rest for each row of "
        "the batch. Between the two calls, make a copy for each: cache.keep(rows) with index 0 "
        "once for each row.",
    ),
)


@dataclass(frozen=True)
class WrongLoss:
    """What a known mistake makes of a batch's loss; some have more than one form."""

    diagnosis: str
    values: tuple[Tensor, ...]
    sentence: str


def check_shared_beginning(function: LossFunction) -> None:
    """Exercise 14."""
    model = _make_model()
    pairs = [(len(BEGINNING), row) for row in ROWS]
    _check_batch(function, custom_collate_response_fn(pairs, pad_token_id=0), model)
    _check_batch(function, custom_collate_fn(ROWS, pad_token_id=0), model)
    cases = {
        "rows that begin differently (P is 0)": RESTS,
        "equal rows (P is T)": [BEGINNING] * 3,
        "a single row": [ROWS[0]],
    }
    for case, rows in cases.items():
        _check_batch(function, custom_collate_fn(rows, pad_token_id=0), model, case)


def _make_model() -> GPTModel:
    """A model with large weights, in which positions and masks change the loss clearly."""
    model = GPTModel(CONFIG, torch.Generator().manual_seed(1))
    with torch.no_grad():
        for i, weight in enumerate(model.parameters()):
            weight.add_(0.2 * random_tensor(*weight.shape, seed=i))
    return model


def _check_batch(function: LossFunction, batch: Batch, model: GPTModel, case: str = "") -> None:
    read: list[int] = []  # tokens that the first block read, for each call
    block = model.trf_blocks[0]
    hook = block.register_forward_pre_hook(lambda _, x: read.append(x[0].shape[:2].numel()))
    try:
        result = call_without_mutation(
            function,
            *batch,
            model,
            "cpu",
            untouched=2,
            consequence="the caller's batch: the next epoch would see other rows.",
            case=case,
            known=[ONE_ROW],
        )
    finally:
        hook.remove()
    loss, n = _pair(result)
    expect(
        model.training and all(weight.grad is None for weight in model.parameters()),
        "side-effect",
        "Only the loss is wanted: backward(), zero_grad() and the model's mode belong to the "
        "training step.",
    )
    expected, expected_n = sum_loss(*batch, model, "cpu")
    if not _same(loss, expected):
        _name_wrong_loss(loss, expected, batch, model, case)
    if n != expected_n:
        _name_wrong_number(n, expected_n, batch)
    if not case:
        _check_tokens_read(sum(read), batch)
    _check_gradient(loss, expected, batch, model)


def _pair(result: Any) -> tuple[Tensor, int]:
    """The loss and the number that a learner's function returned."""
    expect(
        isinstance(result, tuple | list) and len(result) == 2,
        "not-a-pair",
        f"Expected (loss, number of targets), but got {describe(result)}.",
    )
    loss, n = result
    expect(
        not isinstance(loss, float),
        "detached-loss",
        "The loss is a plain number: .item() cuts it off from the model, so nothing can be learned "
        "from it. Return the tensor.",
    )
    expect(isinstance(loss, Tensor), "no-tensor", f"The loss is {describe(loss)}, not a tensor.")
    expect(
        loss.ndim == 0,
        "not-one-number",
        f"The loss has shape {tuple(loss.shape)}, but should be a single number: the sum.",
    )
    is_int = isinstance(n, int) and not isinstance(n, bool)
    expect(is_int, "no-number", f"The number of targets is {describe(n)}, not an int.")
    return loss, n


def _same(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a.detach().float(), b.detach(), rtol=1e-5, atol=1e-4)


# --- the loss -------------------------------------------------------------------------------------


def _name_wrong_loss(
    loss: Tensor, expected: Tensor, batch: Batch, model: GPTModel, case: str
) -> None:
    """Compare a wrong loss with those of known mistakes."""
    table = losses_table(loss, expected)
    if 0 < count_shared_columns(*batch) < batch[0].shape[1]:
        with torch.no_grad():
            known = [*_wrong_reading(batch, model), *_wrong_counting(expected, batch, model)]
        for wrong in known:
            if any(_same(loss, value) for value in wrong.values):
                raise Mistake(wrong.diagnosis, wrong.sentence, table)
    expect(not bool(loss.isnan()), "nan", "The loss is NaN.", table)
    where = f"With {case}, the" if case else "The"
    raise Mistake("loss-wrong", f"{where} loss is wrong.", table)


def _wrong_reading(batch: Batch, model: GPTModel) -> list[WrongLoss]:
    """What the loss is if the rests have other positions, or attend to other tokens."""
    B, T = batch[0].shape
    P = count_shared_columns(*batch)
    columns = torch.arange(T)
    restarted = torch.where(columns < P, columns, columns - P)
    causal = columns <= columns[:, None]  # (T, T)
    alone = causal & ((columns >= P) == (columns >= P)[:, None])  # the rest attends to itself only
    packed = torch.cat([torch.arange(P), (P + torch.arange(T - P)).repeat(B)])
    return [
        WrongLoss(
            "positions-restart",
            (_loss(batch, model, restarted, causal),),
            "The positions of the rests start again at 0: the model takes the first token of each "
            f"rest for the first of a text. It has position {P}, since positions go on after the "
            "beginning.",
        ),
        WrongLoss(
            "beginning-unseen",
            tuple(_loss(batch, model, positions, alone) for positions in (columns, restarted)),
            "The rests don't attend to the beginning, as if each were a text of its own: the model "
            "answers an instruction that it can't see. Pass the cache of the beginning to the call "
            "that reads the rests.",
        ),
        WrongLoss(
            "rests-see-each-other",
            tuple(
                _loss_of_one_row(batch, model, P, positions)
                for positions in (packed, torch.arange(len(packed)))
            ),
            "The rests attend to each other: a row reads the answers of the rows before it. Give "
            "each rest a row of its own, after its own copy of the beginning.",
        ),
    ]


class _GivenMask(KVCache):
    """Not a cache: it only gives the model these positions (T,) and this mask (T, T)."""

    def __init__(self, positions: Tensor, mask: Tensor) -> None:
        super().__init__(n_layers=0, max_length=0)
        self.given = (positions, mask)

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """The new keys and values, and no others."""
        return keys, values

    def positions_and_mask(
        self, token_ids: Tensor, left_padding: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Those that were given."""
        return self.given


def _loss(batch: Batch, model: nn.Module, positions: Tensor, mask: Tensor) -> Tensor:
    """The summed loss, if the model reads each row whole with these positions and this mask."""
    logits = model(batch[0], cache=_GivenMask(positions, mask))  # (B, T, V)
    return F.cross_entropy(logits.flatten(0, 1), batch[1].flatten(), reduction="sum")


def _loss_of_one_row(batch: Batch, model: nn.Module, P: int, positions: Tensor) -> Tensor:
    """The summed loss, if the beginning and all rests are one row (1, P + B * R)."""
    inputs, targets = batch
    row = torch.cat([inputs[0, :P], inputs[:, P:].flatten()])[None]  # (1, P + B * R)
    mask = torch.ones(row.shape[1], row.shape[1], dtype=torch.bool).tril()
    logits = model(row, cache=_GivenMask(positions, mask))[0]  # (P + B * R, V)
    beginning = F.cross_entropy(logits[:P], targets[0, :P], reduction="sum")
    rests = F.cross_entropy(logits[P:], targets[:, P:].flatten(), reduction="sum")
    return len(inputs) * beginning + rests


def _wrong_counting(expected: Tensor, batch: Batch, model: nn.Module) -> list[WrongLoss]:
    """What the loss is if targets count too often or too seldom, or are those of another row."""
    inputs, targets = batch
    B = len(inputs)
    P = count_shared_columns(inputs, targets)
    P_inputs = count_shared_columns(inputs, torch.zeros_like(targets))
    logits = model(inputs)  # (B, T, V)
    beginning = F.cross_entropy(logits[0, :P], targets[0, :P], reduction="sum")
    taken_from_row_0 = targets.clone()
    taken_from_row_0[:, P:P_inputs] = targets[0, P:P_inputs]
    from_row_0 = F.cross_entropy(logits.flatten(0, 1), taken_from_row_0.flatten(), reduction="sum")
    return [
        WrongLoss("beginning-counted-once", (expected - (B - 1) * beginning,), _counted_once(B)),
        WrongLoss(
            "beginning-left-out",
            (expected - B * beginning,),
            "The targets of the beginning are left out. The model reads it once, but its counted "
            f"targets belong to the loss, {B} times, once for each row.",
        ),
        WrongLoss(
            "targets-of-one-row",
            (from_row_0,),
            "The first row's target is used for all rows: they have the same token there, but not "
            "the same token after it. Columns belong to the beginning as long as inputs and "
            "targets are the same.",
        ),
        WrongLoss(
            "mean-not-sum",
            (expected / (targets != -100).sum(),),
            "This is the mean over the counted targets, but the sum is wanted: sums of several "
            "batches can be added, and are divided once.",
        ),
    ]


def _counted_once(B: int) -> str:
    return (
        f"A target of the beginning counts once, but the batch has it {B} times, once in each row. "
        "Reading it once must not change what the model learns: multiply by the number of rows."
    )


def _name_wrong_number(n: int, expected_n: int, batch: Batch) -> None:
    """Name what is wrong with the number of targets."""
    inputs, targets = batch
    B = len(inputs)
    P = count_shared_columns(inputs, targets)
    n_beginning = int((targets[0, :P] != -100).sum())
    table = numbers_table(n, expected_n)
    counted_once = n_beginning > 0 and n == expected_n - (B - 1) * n_beginning
    expect(not counted_once, "beginning-counted-once", _counted_once(B), table)
    raise Mistake(
        "number-wrong",
        "The loss is right, but the number of counted targets is not: the mean would be wrong.",
        table,
    )


def numbers_table(returned: int, expected: int) -> str:
    """Two numbers of targets, one below the other."""
    return f"returned {returned} targets\nexpected {expected} targets"


# --- how it is computed ---------------------------------------------------------------------------


def _check_tokens_read(n_read: int, batch: Batch) -> None:
    """The beginning is read once; some columns of padding don't matter."""
    B, T = batch[0].shape
    P = count_shared_columns(*batch)
    R = T - P
    expect(
        n_read <= P + (B + 1) * R,
        "not-shared",
        f"Loss and number are right, but the model read {n_read} tokens, and {P + B * R} are "
        f"enough: {P} of the beginning, and {B} rests of {R}. Each row reads the beginning again.",
    )


def _check_gradient(loss: Tensor, expected: Tensor, batch: Batch, model: GPTModel) -> None:
    expect(
        loss.requires_grad,
        "detached-loss",
        "The loss has no gradient: .item(), .detach() or no_grad() cut it off from the model, so "
        "nothing can be learned from it.",
    )
    names = [name for name, _ in model.named_parameters()]
    right = dict(zip(names, _gradients(expected, model), strict=True))
    own = dict(zip(names, _gradients(loss, model), strict=True))
    P = count_shared_columns(*batch)
    # Only tokens of the beginning have these positions.
    towards_beginning = own["pos_emb.weight"][:P]
    expect(
        bool(towards_beginning.any()) or not bool(right["pos_emb.weight"][:P].any()),
        "beginning-detached",
        "The loss is right, but no gradient flows back into the beginning: no_grad() or .detach() "
        "cut off its keys and values. The rests attend to them, so the model must learn to make "
        "better ones.",
    )
    for name, gradient in right.items():
        expect(
            torch.allclose(own[name], gradient, rtol=1e-3, atol=1e-3),
            "gradient-wrong",
            f"The loss is right, but the gradient of {name} is not: a part of it was detached.",
        )


def _gradients(loss: Tensor, model: nn.Module) -> list[Tensor]:
    """The gradient of each parameter; zeros where the loss doesn't depend on it."""
    weights = list(model.parameters())
    try:
        gradients = torch.autograd.grad(loss, weights, allow_unused=True)
    except RuntimeError as error:
        expect(
            "inplace operation" not in str(error),
            "overwritten-for-backward",
            "Loss and number are right, but backward() fails: the second call of the model writes "
            "into keys and values that the first one still needs for its gradient. Copy them in "
            "between (`cache.keep` does), or append with torch.cat.",
        )
        raise Mistake("raised", f"backward() raised {describe_error(error)}.") from error
    pairs = zip(gradients, weights, strict=True)
    return [torch.zeros_like(w) if gradient is None else gradient for gradient, w in pairs]
