"""Direct preference optimization: train a model to prefer one of two answers.

The one idea: a model is its own reward model. The reward of an answer is beta times how much its
log-probability has grown since training began, and the loss is logistic regression on the
difference of two rewards; so no reward model is trained, and nothing is sampled. The reference is
the model before the first step: its log-probabilities never change, so they are computed once and
stored, and no second model is kept. Knows nothing of text and files.

Axes: B pairs, T tokens, N counted targets, V vocabulary. Source: Rafailov et al. 2023, "Direct
Preference Optimization", sections 4 and 5.1, and its authors' `preference_loss`, where the
log-probabilities of an answer's tokens are summed. Raschka's notebook (04_preference-tuning-with-
dpo) averages them, over the response header and the answer without its end-of-text token:
`reduction="mean"` here, and a `PairDataset` with counted="header-and-answer". His functions:

    compute_dpo_loss             dpo_loss
    compute_logprobs             sequence_logprobs
    compute_dpo_loss_batch       a step of `train_on_pairs`, whose reference is stored
    compute_dpo_loss_loader      evaluate_pairs
    evaluate_dpo_loss_loader     evaluate_pairs, on training and on held-out pairs
    train_model_dpo_simple       train_on_pairs
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ch07.models.architectures import BaseModel
from ch07.training.shared_beginning import (
    choose_length,
    count_shared_columns,
    logits_of_rests,
)
from ch07.utils.errors import DivergedError, InputError
from ch07.utils.evaluation_mode import evaluation_mode
from train_loop import (
    IGNORE_INDEX,
    TrainSettings,
    TrainState,
    group_into_windows,
    learning_rate,
    progress_bar,
    set_epoch,
    total_steps,
)

REDUCTIONS = ("sum", "mean")

InputsAndTargets = tuple[Tensor, Tensor]  # inputs and targets, both (B, T)
# Chosen answers, rejected answers, indices of the pairs (B,).
PairBatch = tuple[InputsAndTargets, InputsAndTargets, Tensor]


@dataclass(frozen=True)
class DPOSettings:
    """The settings of the loss; ValueError for values that define none."""

    beta: float = 0.1  # a larger beta keeps the model closer to the reference
    label_smoothing: float = 0.0  # the assumed probability that a pair is labelled the wrong way
    reduction: str = "sum"  # of the log-probabilities of an answer's tokens

    def __post_init__(self) -> None:
        check_loss_settings(self.beta, self.label_smoothing)
        _check_reduction(self.reduction)


def sequence_logprobs(
    model: nn.Module, inputs: Tensor, targets: Tensor, reduction: str = "sum"
) -> Tensor:
    """The log-probability of each row's counted targets, summed or averaged: (B,) float32.

    The mean is what the book's `compute_logprobs` returns for the same targets.
    `inputs` and `targets` (B, T) come from a collate function; targets of -100 (prompt and padding)
    are not counted. ValueError for a row without a counted target.
    """
    _check_reduction(reduction)
    counted = targets != IGNORE_INDEX  # (B, T)
    n_counted = counted.sum(1)  # (B,)
    if not n_counted.all():
        row = int(n_counted.argmin())
        raise InputError(f"row {row} of the batch has no counted target, so it has no probability")
    rows, columns = counted.nonzero(as_tuple=True)
    P = _shared_length(model, inputs, targets, int(columns.min()))
    if P == 0:
        logits = model(inputs, wanted=(rows, columns))  # (B, T) -> (N, V)
    else:
        logits = logits_of_rests(model, inputs, P, rows, columns)
    logprobs = -F.cross_entropy(logits.float(), targets[counted], reduction="none")  # (N,)
    total = logprobs.new_zeros(len(inputs)).index_add(0, rows, logprobs)  # (N,) -> (B,)
    return total if reduction == "sum" else total / n_counted


def _shared_length(model: nn.Module, inputs: Tensor, targets: Tensor, first_counted: int) -> int:
    """How many columns before the first counted one to read once for all rows (`choose_length`).

    0 for a model that drops activations, which would be others in each copy of a column.
    """
    if not isinstance(model, BaseModel) or (model.training and model.config.drop_rate > 0):
        return 0
    n_shared = count_shared_columns(inputs, targets)
    return choose_length(min(n_shared, first_counted), *inputs.shape)


def dpo_loss(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    reference_chosen_logps: Tensor,
    reference_rejected_logps: Tensor,
    *,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
) -> Tensor:
    """The loss of each pair (B,), from log-probabilities (B,) under the policy and the reference.

    -log sigmoid(beta * h), where h is the policy's log-ratio (chosen - rejected) less the
    reference's: equation 7 of the paper. `label_smoothing` is the assumed probability that a pair
    is labelled the wrong way round (Mitchell 2023, "A note on DPO with noisy preferences", as in
    the authors' code). The book's `compute_dpo_loss` returns the mean of these losses.

    >>> zero = torch.zeros(3)
    >>> [f"{x:.5f}" for x in dpo_loss(torch.tensor([0.0, 1.0, -1.0]), zero, zero, zero)]
    ['0.69315', '0.64440', '0.74440']
    """
    check_loss_settings(beta, label_smoothing)
    policy_logratios = policy_chosen_logps - policy_rejected_logps
    reference_logratios = reference_chosen_logps - reference_rejected_logps
    logits = beta * (policy_logratios - reference_logratios)
    loss_if_right = -F.logsigmoid(logits)
    loss_if_wrong = -F.logsigmoid(-logits)
    return (1 - label_smoothing) * loss_if_right + label_smoothing * loss_if_wrong


def check_loss_settings(beta: float, label_smoothing: float = 0.0) -> None:
    """ValueError for values that define no loss."""
    if not 0 < beta < math.inf:
        raise InputError(f"beta is {beta}, but must be a finite number above 0")
    if not 0 <= label_smoothing < 0.5:
        raise InputError(
            f"label_smoothing is {label_smoothing}, but must be at least 0 and below 0.5: at 0.5 "
            "the labels say nothing about which answer is preferred"
        )


def _check_reduction(reduction: str) -> None:
    if reduction not in REDUCTIONS:
        raise InputError(f"reduction is {reduction!r}: choose one of {', '.join(REDUCTIONS)}")


def rewards(policy_logps: Tensor, reference_logps: Tensor, beta: float = 0.1) -> Tensor:
    """The implicit reward of each answer (B,): beta times the growth of its log-probability.

    As in the paper and its authors' code; the book's `compute_dpo_loss` leaves beta out, so its
    rewards and margins are these, divided by beta.
    """
    return beta * (policy_logps - reference_logps)


# --- a model and its pairs ----------------------------------------------------------------------
def pair_logprobs(
    model: nn.Module,
    loader: DataLoader[Any],
    device: torch.device | str = "cpu",
    reduction: str = "sum",
) -> Tensor:
    """Log-probabilities of the chosen and the rejected answer of every pair: (n, 2).

    In the order of the loader's dataset. The loader yields (chosen, rejected, indices of the
    pairs), where chosen and rejected are each (inputs, targets): `preference_data.pair_loader`.
    The model's training mode is restored.
    """
    logps = torch.empty(_n_pairs(loader), 2, device=device)
    with evaluation_mode(model), torch.no_grad():
        for batch in loader:
            indices = batch[2]
            logps[indices] = torch.stack(_batch_logprobs(model, batch, device, reduction), 1)
    return logps


def evaluate_pairs(
    model: nn.Module,
    loader: DataLoader[Any],
    reference: Tensor,
    settings: DPOSettings = DPOSettings(),
    device: torch.device | str = "cpu",
) -> dict[str, float | None]:
    """{"loss", "margin", "accuracy"}: means over all pairs of a loader; None if there are none.

    `reference` (n, 2) comes from `pair_logprobs` before training. The margin is the reward of the
    chosen answer less that of the rejected one; accuracy is the share of pairs with a positive
    margin. FloatingPointError if the loss is not finite. All pairs weigh the same; the book's
    `compute_dpo_loss_loader` averages the means of batches, of which the last may be shorter.
    """
    if not _n_pairs(loader):
        return {"loss": None, "margin": None, "accuracy": None}
    policy = pair_logprobs(model, loader, device, settings.reduction)
    losses = dpo_loss(
        *policy.T, *reference.T, beta=settings.beta, label_smoothing=settings.label_smoothing
    )
    reward = rewards(policy, reference, settings.beta)
    margins = reward[:, 0] - reward[:, 1]
    values = {"loss": losses, "margin": margins, "accuracy": (margins > 0).float()}
    means: dict[str, float | None] = {
        name: value.double().mean().item() for name, value in values.items()
    }
    if means["loss"] is None or not math.isfinite(means["loss"]):
        raise DivergedError("the loss of an evaluation is not finite")
    return means


def train_on_pairs(
    model: nn.Module,
    loader: DataLoader[Any],
    held_out: DataLoader[Any],
    optimizer: torch.optim.Optimizer,
    settings: TrainSettings = TrainSettings(),
    *,
    dpo: DPOSettings = DPOSettings(),
    device: torch.device | str = "cpu",
    restore_state: Callable[[], TrainState] = TrainState,
    on_eval: Callable[[list[dict[str, Any]]], None] = lambda history: None,
    on_step: Callable[[TrainState], bool | None] = lambda state: None,
    progress: bool = True,
) -> TrainState:
    """Train the model with DPO; the reference is the model as passed in. Returns the final state.

    Both loaders yield pairs, as in `pair_logprobs`. A record of the state's history has step,
    epoch, lr, seconds, and loss, margin and accuracy of the first training pairs
    (`settings.eval_iter` batches) and of all held-out pairs; `on_eval(history)` is called after
    each. `restore_state()` is called once the reference is known: it may load an interrupted run's
    model and optimizer. Training stops when `on_step(state)` returns true. Dropout stays off:
    both are the same network. InputError for a setting that would do nothing.
    """
    _check_settings(settings)
    reference = pair_logprobs(model, loader, device, dpo.reduction)
    evaluate = _pair_evaluator(model, loader, held_out, settings, dpo, device)
    state = restore_state()
    end = total_steps(loader, settings)
    steps_per_epoch = _steps_per_epoch(loader, settings)
    started = time.monotonic() - state.seconds

    def record(lr: float) -> None:
        position = {"step": state.step, "epoch": state.step / steps_per_epoch, "tokens_seen": None}
        state.history.append({**position, "lr": lr, "seconds": state.seconds, **evaluate()})
        on_eval(state.history)

    with evaluation_mode(model), progress_bar(end, state, progress) as bar:
        if not state.history:
            record(lr=0.0)
        for window in _windows(loader, settings, state.step, end):
            lr = learning_rate(state.step, end, settings)
            _update(model, window, reference, optimizer, lr=lr, settings=settings, dpo=dpo)
            state.seconds = round(time.monotonic() - started, 2)
            _count_step(state, steps_per_epoch, settings)
            bar.update()
            if state.step % settings.eval_freq == 0 or state.step == end:
                record(lr)
            if on_step(state):
                break
    return state


def _pair_evaluator(
    model: nn.Module,
    train: DataLoader[Any],
    held_out: DataLoader[Any],
    settings: TrainSettings,
    dpo: DPOSettings,
    device: torch.device | str,
) -> Callable[[], dict[str, float | None]]:
    """A function that evaluates first training pairs and held-out pairs against this model."""
    loaders = {"train": _first_pairs(train, settings.eval_iter), "val": held_out}
    references = {
        name: pair_logprobs(model, loader, device, dpo.reduction)
        for name, loader in loaders.items()
    }

    def evaluate() -> dict[str, float | None]:
        means = {}
        for name, loader in loaders.items():
            values = evaluate_pairs(model, loader, references[name], dpo, device)
            means |= {f"{name}_{what}": value for what, value in values.items()}
        return means

    return evaluate


def _n_pairs(loader: DataLoader[Any]) -> int:
    return len(loader.dataset)  # pyright: ignore[reportArgumentType]  (`Dataset` declares no length)


def _first_pairs(loader: DataLoader[Any], n_batches: int | None) -> DataLoader[Any]:
    """A loader of the first `n_batches` batches of another loader's dataset, in dataset order."""
    batch_sampler: Any = loader.batch_sampler  # a `BatchSampler` or `LengthGroupedBatches`
    batch_size: int = batch_sampler.batch_size
    n = _n_pairs(loader)
    if n_batches is not None:
        n = min(n, n_batches * batch_size)
    pairs: Any = [loader.dataset[i] for i in range(n)]  # a list will do as a `Dataset`
    return DataLoader(pairs, batch_size, collate_fn=loader.collate_fn)


def _windows(
    loader: DataLoader[Any], settings: TrainSettings, start: int, end: int
) -> Iterator[list[PairBatch]]:
    """The batches of the steps from number `start` to `end`: `accumulation_steps` to a step.

    Epoch by epoch, each in its own order; the last step of an epoch may have fewer.
    """
    steps_per_epoch = _steps_per_epoch(loader, settings)
    for epoch in range(start // steps_per_epoch, math.ceil(end / steps_per_epoch)):
        set_epoch(loader, epoch)
        windows = group_into_windows(iter(loader), settings.accumulation_steps)
        for number, window in enumerate(windows, start=epoch * steps_per_epoch):
            if start <= number < end:
                yield window


def _steps_per_epoch(loader: DataLoader[Any], settings: TrainSettings) -> int:
    return math.ceil(len(loader) / settings.accumulation_steps)


def _count_step(state: TrainState, steps_per_epoch: int, settings: TrainSettings) -> None:
    state.step += 1
    state.epoch, steps_of_epoch = divmod(state.step, steps_per_epoch)
    state.batch = steps_of_epoch * settings.accumulation_steps


def _check_settings(settings: TrainSettings) -> None:
    """InputError for a setting that another loop obeys, but that would do nothing here."""
    defaults = TrainSettings()
    for name in ("dtype", "ignore_index", "cross_entropy", "batch_loss", "reduce"):
        if getattr(settings, name) != getattr(defaults, name):
            raise InputError(
                f"{name} is {getattr(settings, name)!r}, but training on pairs doesn't use it: "
                "leave it out"
            )


def _update(
    model: nn.Module,
    window: list[PairBatch],
    reference: Tensor,
    optimizer: torch.optim.Optimizer,
    *,
    lr: float,
    settings: TrainSettings,
    dpo: DPOSettings,
) -> None:
    """One optimizer step on the mean loss of all pairs in a list of batches."""
    n_pairs = sum(len(indices) for _, _, indices in window)
    total = 0.0
    for batch in window:
        indices = batch[2]
        policy = _batch_logprobs(model, batch, reference.device, dpo.reduction)
        losses = dpo_loss(
            *policy, *reference[indices].T, beta=dpo.beta, label_smoothing=dpo.label_smoothing
        )
        loss = losses.sum() / n_pairs
        loss.backward()  # adds to the gradients of earlier batches
        total += loss.item()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), settings.grad_clip)
    if not math.isfinite(float(norm) + total):
        raise DivergedError("loss or gradient is not finite; try a lower learning rate")
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _batch_logprobs(
    model: nn.Module, batch: PairBatch, device: torch.device | str, reduction: str
) -> list[Tensor]:
    """Log-probabilities (B,) of the chosen answers, and of the rejected ones."""
    chosen, rejected, _ = batch
    logps = []
    for inputs, targets in (chosen, rejected):
        logps.append(sequence_logprobs(model, inputs.to(device), targets.to(device), reduction))
    return logps
