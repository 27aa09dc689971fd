"""Batches -> loss -> updates -> a loss plot, first in the book's few lines, then for real runs.

The one idea: a loss is one sum over all counted targets, divided by their number; a target counts
unless it is `ignore_index`. That holds for a batch, for the batches that make up one step, and for
an evaluation; so no number depends on how the rows were grouped. This file knows nothing of text
and files. It trains any model that turns token ids (B, T) into logits (B, T, V), on any DataLoader
of (inputs, targets).

Axes: B batch, T tokens, N counted targets, V vocabulary.
Source: Raschka, "Build a Large Language Model (From Scratch)", chapter 5 and section 7.6.
"""

import contextlib
import inspect
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

IGNORE_INDEX = -100  # a target that PyTorch's cross_entropy skips; as in collate.py

Batch = tuple[Tensor, Tensor]  # inputs and targets, (B, T) each
Item = TypeVar("Item")  # a batch of any kind
Device = str | torch.device


# --- the book's loop ------------------------------------------------------------------------------


def calc_loss_batch_simple(
    input_batch: Tensor, target_batch: Tensor, model: nn.Module, device: Device
) -> Tensor:
    """The mean cross-entropy of a batch; NaN if none of its targets is counted."""
    input_batch = input_batch.to(device)
    target_batch = target_batch.to(device)
    logits = model(input_batch)  # (B, T) -> (B, T, V)
    return F.cross_entropy(logits.flatten(0, 1), target_batch.flatten())  # skips -100


def calc_loss_loader_simple(
    data_loader: Iterable[Batch], model: nn.Module, device: Device, num_batches: int | None = None
) -> float:
    """The mean of the losses of the first `num_batches` batches (None: all)."""
    losses = []
    for input_batch, target_batch in islice(data_loader, num_batches):
        losses.append(calc_loss_batch_simple(input_batch, target_batch, model, device).item())
    return sum(losses) / len(losses) if losses else math.nan


def evaluate_model_simple(
    model: nn.Module,
    train_loader: Iterable[Batch],
    val_loader: Iterable[Batch],
    device: Device,
    eval_iter: int,
) -> tuple[float, float]:
    """Training and validation loss, each estimated on `eval_iter` batches, without dropout."""
    model.eval()
    with torch.no_grad():
        train_loss = calc_loss_loader_simple(train_loader, model, device, eval_iter)
        val_loss = calc_loss_loader_simple(val_loader, model, device, eval_iter)
    model.train()
    return train_loss, val_loss


def train_model_simple(
    model: nn.Module,
    train_loader: Iterable[Batch],
    val_loader: Iterable[Batch],
    optimizer: torch.optim.Optimizer,
    device: Device,
    num_epochs: int,
    eval_freq: int,
    eval_iter: int,
    sample_answer: Callable[[nn.Module], str] | None = None,
) -> tuple[list[float], list[float], list[int]]:
    """The book's loop: returns train_losses, val_losses and track_tokens_seen.

    Where the book takes a prompt and a tokenizer, this takes `sample_answer(model)`, whose text is
    printed after each epoch. What is still wrong, and corrected in `train_model`:
    - In a mean of batch means, a target counts for more if its batch has few of them; a batch with
      none makes the mean NaN.
    - Padding is counted as tokens seen.
    - Evaluation shuffles `train_loader` and so draws random numbers: `eval_freq` changes the model.
    - The learning rate is constant: it neither warms up nor decays.
    - A run that was interrupted can't be resumed.
    """
    train_losses = []
    val_losses = []
    track_tokens_seen = []
    tokens_seen = 0
    global_step = -1
    for epoch in range(num_epochs):
        model.train()
        for input_batch, target_batch in train_loader:
            optimizer.zero_grad()
            loss = calc_loss_batch_simple(input_batch, target_batch, model, device)
            loss.backward()
            optimizer.step()
            tokens_seen += input_batch.numel()
            global_step += 1
            if global_step % eval_freq == 0:
                train_loss, val_loss = evaluate_model_simple(
                    model, train_loader, val_loader, device, eval_iter
                )
                train_losses.append(train_loss)
                val_losses.append(val_loss)
                track_tokens_seen.append(tokens_seen)
                losses = f"Train loss {train_loss:.3f}, Val loss {val_loss:.3f}"
                print(f"Ep {epoch + 1} (Step {global_step:06d}): {losses}")
        if sample_answer is not None:
            model.eval()
            print(sample_answer(model))
            model.train()
    return train_losses, val_losses, track_tokens_seen


# --- the loss: one sum, divided by one number -----------------------------------------------------


def takes_wanted(model: nn.Module) -> bool:
    """Whether a model can leave out the logits that nobody needs: `model(ids, wanted=...)`.

    DistributedDataParallel and torch.compile wrap a model and pass it all arguments. Then the model
    inside, which they call `module` and `_orig_mod`, decides.
    """
    parameters = inspect.signature(model.forward).parameters
    if "wanted" in parameters:
        return True
    inner = getattr(model, "_orig_mod", getattr(model, "module", None))
    # VAR_KEYWORD is a parameter such as **kwargs.
    passes_on = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    return passes_on and isinstance(inner, nn.Module) and takes_wanted(inner)


def wanted_logits(model: nn.Module, token_ids: Tensor, wanted: tuple[Tensor, Tensor]) -> Tensor:
    """The logits (N, V) of N positions among token ids (B, T).

    `wanted` is (row numbers, column numbers), (N,) each. A model that doesn't know `wanted`, such
    as the book's, computes the logits of all positions.
    """
    if takes_wanted(model):
        return model(token_ids, wanted=wanted)
    return model(token_ids)[wanted]


def to_device(tensor: Tensor, device: Device) -> Tensor:
    """The tensor on a device.

    From pinned memory, which the system never moves, a GPU copies while the CPU goes on.
    """
    if torch.device(device).type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def counted_positions(
    target_batch: Tensor, ignore_index: int, device: Device
) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Where the counted targets are, as (row numbers, column numbers), and what they are.

    All are (N,), on the device.
    """
    # Done before the copy to the device: the CPU must know N, and would have to wait for a GPU.
    counted = target_batch != ignore_index  # (B, T)
    positions = to_device(counted.nonzero(), device)  # (N, 2)
    rows, columns = positions.unbind(1)
    return (rows, columns), to_device(target_batch[counted], device)


def summed_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """The sum over N targets of -log softmax(logits)[target]: logits (N, V), targets (N,)."""
    log_probs = logits.float().log_softmax(dim=-1)
    return -log_probs.gather(1, targets[:, None]).sum()


def sum_loss(
    input_batch: Tensor,
    target_batch: Tensor,
    model: nn.Module,
    device: Device,
    *,
    ignore_index: int = IGNORE_INDEX,
    dtype: str = "float32",
    cross_entropy: Callable[[Tensor, Tensor], Tensor] = summed_cross_entropy,
) -> tuple[Tensor, int]:
    """Cross-entropy summed over the counted targets of a (B, T) batch, and their number N.

    With the dtype "bfloat16", PyTorch's autocast computes matrix products in bfloat16.
    `cross_entropy` takes logits (N, V) and targets (N,), and returns the sum. N may be 0.
    """
    wanted, targets = counted_positions(target_batch, ignore_index, device)
    token_ids = to_device(input_batch, device)
    in_bfloat16 = dtype == "bfloat16"
    with torch.autocast(token_ids.device.type, torch.bfloat16, enabled=in_bfloat16):
        logits = wanted_logits(model, token_ids, wanted)  # (B, T) -> (N, V)
    return cross_entropy(logits, targets), len(targets)


# What computes the loss of a batch: `sum_loss`, or a function that is called in the same way.
BatchLoss = Callable[..., tuple[Tensor, int]]


def calc_loss_batch(
    input_batch: Tensor,
    target_batch: Tensor,
    model: nn.Module,
    device: Device,
    **loss_options: Any,
) -> Tensor:
    """Mean cross-entropy over the counted targets; raises ValueError if there are none.

    `loss_options` are the keyword arguments of `sum_loss`.
    """
    loss, n_targets = sum_loss(input_batch, target_batch, model, device, **loss_options)
    if n_targets == 0:
        raise ValueError("no target of this batch is counted, so it has no loss")
    return loss / n_targets


# Several processes can train one model together, each on its own share of the rows. For the loss
# they exchange only sums: each calls `reduce` with its own number and gets the sum of all. (Not
# `functools.reduce`; the name is that of "all-reduce" in torch.distributed.) With one process, as
# is the default, `reduce` returns its argument, and you may skip it.

Number = TypeVar("Number", int, float, Tensor)


class Reduce(Protocol):
    """Returns the sum of a number over all processes; so reduce(1) is how many there are."""

    def __call__(self, number: Number, /) -> Number: ...


def reduce_single_process(number: Number) -> Number:
    """The sum over a single process: the number itself."""
    return number


def samplers_of(data_loader: Iterable[Batch]) -> list[Any]:
    """What may decide the order of a loader's rows: its samplers, and its batch sampler's own."""
    batch_sampler = getattr(data_loader, "batch_sampler", None)
    inner = getattr(batch_sampler, "sampler", None)
    found = [getattr(data_loader, "sampler", None), batch_sampler, inner]
    return [sampler for sampler in found if sampler is not None]


def set_epoch(data_loader: Iterable[Batch], epoch: int) -> None:
    """Tell every sampler that has a method `set_epoch` which epoch comes next."""
    for sampler in samplers_of(data_loader):
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(epoch)


def gpus_of(model: nn.Module) -> list[torch.device]:
    """The GPUs that a model lies on, where dropout draws its random numbers."""
    return list({p.device for p in model.parameters() if p.device.type == "cuda"})


@contextlib.contextmanager
def preserve_state(model: nn.Module, data_loader: Iterable[Batch]) -> Iterator[None]:
    """Evaluation mode within the `with`; afterwards modes and random generators are restored.

    The generators are PyTorch's global ones and those of the loader and its samplers. Merely
    starting a DataLoader draws a number, from its own generator or from the global one.
    """
    modes = {module: module.training for module in model.modules()}
    owners = [data_loader, *samplers_of(data_loader)]
    found = [getattr(owner, "generator", None) for owner in owners]
    generators = [generator for generator in found if generator is not None]
    random_states = [generator.get_state() for generator in generators]
    model.eval()
    try:
        with torch.random.fork_rng(devices=gpus_of(model)):
            yield
    finally:
        for generator, random_state in zip(generators, random_states, strict=True):
            generator.set_state(random_state)
        for module, training in modes.items():
            module.training = training


def calc_loss_loader(
    data_loader: Iterable[Batch],
    model: nn.Module,
    device: Device,
    num_batches: int | None = None,
    reduce: Reduce = reduce_single_process,
    batch_loss: BatchLoss = sum_loss,
    **loss_options: Any,
) -> float:
    """Mean cross-entropy over all counted targets of the first `num_batches` batches (None: all).

    If these have no counted target, further batches are read, up to the first that has one.
    Leaves the model and the random numbers as they were (`preserve_state`), even after an error.
    Raises ValueError if no target is counted, FloatingPointError if the loss is not finite.
    `loss_options` are the keyword arguments of `batch_loss`.
    """
    total = 0.0
    n_targets = 0
    with preserve_state(model, data_loader), torch.no_grad():
        for n_read, (input_batch, target_batch) in enumerate(data_loader, start=1):
            loss, n = batch_loss(input_batch, target_batch, model, device, **loss_options)
            total += loss.item()
            n_targets += n
            if num_batches is not None and n_read >= num_batches and reduce(n_targets) > 0:
                break
    total = reduce(total)
    n_targets = reduce(n_targets)
    if n_targets == 0:
        raise ValueError("no target of this loader is counted, so it has no loss")
    if not math.isfinite(total):
        raise FloatingPointError("the loss of an evaluation is not finite")
    return total / n_targets


def evaluate_model(
    model: nn.Module,
    train_loader: DataLoader[Batch],
    val_loader: DataLoader[Batch] | None,
    device: Device,
    eval_iter: int | None = None,
    **loss_options: Any,
) -> tuple[float, float | None]:
    """Training loss, estimated on `eval_iter` batches, and validation loss of all rows.

    The latter is None if there are no validation rows. `loss_options` are further arguments of
    `calc_loss_loader`.
    """
    train_loss = calc_loss_loader(train_loader, model, device, eval_iter, **loss_options)
    if val_loader is None or len(val_loader) == 0:
        return train_loss, None
    return train_loss, calc_loss_loader(val_loader, model, device, **loss_options)


# --- settings, learning rate, optimizer -----------------------------------------------------------


def check_count(name: str, value: int, at_least: int) -> None:
    """Raise ValueError unless the value is an int that is large enough; True is not one."""
    if type(value) is not int or value < at_least:
        raise ValueError(f"{name}={value!r}, but must be an int, {at_least} or more")


@dataclass(frozen=True)
class TrainSettings:
    """How to train, whatever the model and the data are."""

    num_epochs: int = 2
    max_steps: int | None = None  # stop after this many steps, even within the first epoch
    peak_lr: float = 1e-3
    warmup_steps: int = 0  # steps until the learning rate is at its peak
    grad_clip: float = 1.0  # a gradient with a larger L2 norm is scaled to this; math.inf: never
    accumulation_steps: int = 1  # batches per step
    eval_freq: int = 100  # steps between two evaluations
    eval_iter: int | None = 5  # batches on which the training loss is estimated; None: all
    dtype: str = "float32"  # or "bfloat16", for matrix products under autocast
    ignore_index: int = IGNORE_INDEX
    seed: int = 123  # of dropout's random numbers
    cross_entropy: Callable[[Tensor, Tensor], Tensor] = summed_cross_entropy
    batch_loss: BatchLoss = sum_loss
    reduce: Reduce = reduce_single_process  # the sum over all processes that train together

    def __post_init__(self) -> None:
        check_count("num_epochs", self.num_epochs, at_least=1)
        check_count("accumulation_steps", self.accumulation_steps, at_least=1)
        check_count("eval_freq", self.eval_freq, at_least=1)
        check_count("warmup_steps", self.warmup_steps, at_least=0)
        check_count("seed", self.seed, at_least=0)
        if self.max_steps is not None:
            check_count("max_steps", self.max_steps, at_least=1)
        if self.eval_iter is not None:
            check_count("eval_iter", self.eval_iter, at_least=1)
        if not (self.grad_clip > 0 and 0 < self.peak_lr < math.inf):
            raise ValueError(
                "peak_lr and grad_clip must be above 0, and peak_lr finite, but "
                f"peak_lr={self.peak_lr} and grad_clip={self.grad_clip}"
            )
        if self.dtype not in ("float32", "bfloat16"):
            raise ValueError(f"dtype is {self.dtype!r}: choose 'float32' or 'bfloat16'")

    @property
    def loss_options(self) -> dict[str, Any]:
        """The keyword arguments of `batch_loss`."""
        return {
            "ignore_index": self.ignore_index,
            "dtype": self.dtype,
            "cross_entropy": self.cross_entropy,
        }


def learning_rate(step: int, n_steps: int, settings: TrainSettings) -> float:
    """Linear warmup to the peak, then half a cosine wave down (Loshchilov & Hutter 2017, sec. 3).

    For steps 0 to n_steps - 1; the wave would reach 0 at step n_steps, which is not made.

    >>> settings = TrainSettings(peak_lr=1.0, warmup_steps=2)
    >>> [round(learning_rate(step, 6, settings), 2) for step in range(6)]
    [0.5, 1.0, 1.0, 0.85, 0.5, 0.15]
    """
    if step < settings.warmup_steps:
        return settings.peak_lr * (step + 1) / settings.warmup_steps
    # From 0 to 1; `max` avoids a division by 0 if there are no steps after the warmup.
    done = (step - settings.warmup_steps) / max(1, n_steps - settings.warmup_steps)
    return settings.peak_lr * 0.5 * (1 + math.cos(math.pi * done))


def make_optimizer(
    parameters: Iterable[nn.Parameter],
    lr: float = 1e-3,
    weight_decay: float = 0.1,
    betas: tuple[float, float] = (0.9, 0.95),
) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019); weight decay applies only to matrices and embeddings.

    Biases and the scales of LayerNorm don't decay, and frozen parameters are left out. "Fused"
    updates many parameters in one operation, which is faster.
    """
    trained = [p for p in parameters if p.requires_grad]
    matrices = [p for p in trained if p.ndim >= 2]
    vectors = [p for p in trained if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, weight_decay=weight_decay, betas=betas, fused=True)


# --- the loop -------------------------------------------------------------------------------------

Record = dict[str, float | None]  # what one evaluation found, see `record_evaluation`


@dataclass
class TrainState:
    """How far a run has come: with weights and optimizer, all that is needed to resume it."""

    epoch: int = 0  # number of the current epoch, from 0; the last one when the run is complete
    batch: int = 0  # batches of the current epoch that have been trained on
    step: int = 0  # updates made or skipped
    tokens_seen: int = 0  # real tokens, not counting padding
    skipped: int = 0  # updates skipped because no target was counted
    seconds: float = 0.0  # training time, including evaluations
    history: list[Record] = field(default_factory=list)  # one record per evaluation


def count_tokens(targets: Tensor, ignore_index: int = IGNORE_INDEX) -> int:
    """The number of input tokens of a batch, not counting padding.

    A row ends at its last counted target, so a row without any is counted as 0.

    >>> count_tokens(torch.tensor([[5, 6, 50256], [7, 50256, -100]]))
    5
    """
    places = torch.arange(1, targets.shape[1] + 1, device=targets.device)  # (T,)
    counted = targets != ignore_index  # (B, T)
    row_ends = (counted * places).amax(dim=1)  # (B,): the place of the last counted target
    return int(row_ends.sum())


def count_targets(window: list[Batch], settings: TrainSettings) -> int:
    """The number of counted targets in a window, over all processes.

    A window is the list of batches that make up one step: `accumulation_steps` of them.
    """
    n_targets = sum(int((targets != settings.ignore_index).sum()) for _, targets in window)
    return settings.reduce(n_targets)


def train_step(
    window: list[Batch],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    device: Device,
    lr: float,
    settings: TrainSettings,
) -> Tensor | None:
    """One update from a window of batches: the gradient of one sum, divided by one number.

    Returns the mean loss. If no target is counted, returns None and changes nothing; an update
    without a gradient would still decay the weights. Raises FloatingPointError, with the weights
    unchanged, if loss or gradient is not finite. Gradients must be empty before the call, as they
    are after it. `lr` replaces the optimizer's learning rate.
    """
    n_targets = count_targets(window, settings)
    if n_targets == 0:
        return None
    # DistributedDataParallel averages the gradients of all processes; we need their sum, which is
    # that average times the number of processes.
    n_processes = settings.reduce(1)
    total = torch.zeros((), device=device)
    for input_batch, target_batch in window:
        batch = (input_batch, target_batch)
        loss, _ = settings.batch_loss(*batch, model, device, **settings.loss_options)
        (loss * n_processes / n_targets).backward()  # adds to the gradients of earlier batches
        total = total + loss.detach()
    total = settings.reduce(total)
    norm = nn.utils.clip_grad_norm_(model.parameters(), settings.grad_clip)
    if not (math.isfinite(norm) and math.isfinite(total)):
        optimizer.zero_grad(set_to_none=True)
        raise FloatingPointError("loss or gradient is not finite; try a lower learning rate")
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return total / n_targets


def total_steps(train_loader: Sized, settings: TrainSettings) -> int:
    """The number of steps of a whole run; raises ValueError for a loader without batches."""
    if len(train_loader) == 0:
        raise ValueError("no training batch: the training split is empty")
    steps = settings.num_epochs * math.ceil(len(train_loader) / settings.accumulation_steps)
    return steps if settings.max_steps is None else min(steps, settings.max_steps)


def remaining_batches(train_loader: DataLoader[Batch], state: TrainState) -> Iterator[Batch]:
    """The batches of the current epoch that have not been trained on yet.

    To resume within an epoch, the order must depend on the epoch's number alone: every sampler that
    has a method `set_epoch` is told that number. With a plain `shuffle=True`, the rest of the epoch
    comes in another order.
    """
    set_epoch(train_loader, state.epoch)
    return islice(iter(train_loader), state.batch, None)


def group_into_windows(batches: Iterator[Item], size: int) -> Iterator[list[Item]]:
    """The batches in lists of `size`; the last list may be shorter."""
    while window := list(islice(batches, size)):  # takes the next ones; an empty list is the end
        yield window


@contextlib.contextmanager
def seeded_step(seed: int, step: int, device: Device = "cpu") -> Iterator[None]:
    """Dropout's random numbers follow from the seed and the step alone.

    So nothing that happens between two steps can change them, and a resumed run needs no stored
    random state. Afterwards the global streams from which dropout draws are as they were: that of
    the CPU, and that of the `device` if it is a GPU.
    """
    device = torch.device(device)
    number = (seed << 32) + step  # a different one for each pair (seed, step)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        # Not `torch.manual_seed`, which reaches all GPUs.
        torch.default_generator.manual_seed(number)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(number)
        elif device.type != "cpu":
            torch.get_device_module(device).manual_seed(number)
        yield


def record_step(
    state: TrainState, window: list[Batch], loss: Tensor | None, settings: TrainSettings
) -> None:
    """Record in the state that a step was made from a window of batches."""
    tokens = sum(count_tokens(targets, settings.ignore_index) for _, targets in window)
    state.tokens_seen += settings.reduce(tokens)
    state.step += 1
    state.batch += len(window)
    if loss is None:
        state.skipped += 1


def record_evaluation(
    model: nn.Module,
    train_loader: DataLoader[Batch],
    val_loader: DataLoader[Batch] | None,
    device: Device,
    *,
    settings: TrainSettings,
    state: TrainState,
    lr: float,
) -> Record:
    """Evaluate the model, add a record of it to the state's history, and return the record."""
    train_loss, val_loss = evaluate_model(
        model,
        train_loader,
        val_loader,
        device,
        settings.eval_iter,
        reduce=settings.reduce,
        batch_loss=settings.batch_loss,
        **settings.loss_options,
    )
    record = {
        "step": state.step,
        "epoch": state.epoch + state.batch / len(train_loader),
        "tokens_seen": state.tokens_seen,
        "lr": lr,
        "seconds": round(state.seconds, 2),
        "train_loss": train_loss,
        "val_loss": val_loss,
    }
    state.history.append(record)
    return record


def can_redraw() -> bool:
    """Whether standard error is a terminal or a notebook, where a bar replaces itself.

    In a file, every update of the bar would be a line of its own. A notebook is known by the kind
    of its stream: a script may have imported ipykernel and still write to a file.
    """
    if sys.stderr is None:
        return False
    is_notebook = type(sys.stderr).__module__.startswith("ipykernel.")
    return is_notebook or sys.stderr.isatty()


def progress_bar(n_steps: int, state: TrainState, progress: bool) -> "tqdm[Any]":
    """A bar that counts the steps of a run; hidden without `progress`, or in a file."""
    hidden = not (progress and can_redraw())
    return tqdm(total=n_steps, initial=state.step, disable=hidden, desc="training")


def train_model(
    model: nn.Module,
    train_loader: DataLoader[Batch],
    val_loader: DataLoader[Batch] | None,
    optimizer: torch.optim.Optimizer,
    device: Device = "cpu",
    settings: TrainSettings = TrainSettings(),
    state: TrainState | None = None,
    on_eval: Callable[[Record], None] = lambda record: None,
    on_step: Callable[[TrainState], bool | None] = lambda state: False,
    progress: bool = True,
) -> TrainState:
    """Train, and return the state with its history; with a `state`, continue that run.

    The learning rate comes from `settings.peak_lr` and its schedule; the optimizer's own is
    replaced. `on_eval(record)` is called after each evaluation, the first of which comes before
    training, and `on_step(state)` after each step; the run ends if `on_step` returns True.
    """
    state = TrainState() if state is None else state
    n_steps = total_steps(train_loader, settings)
    started = time.monotonic() - state.seconds
    evaluate = partial(record_evaluation, model, train_loader, val_loader, device)

    model.train()
    with progress_bar(n_steps, state, progress) as bar:
        if not state.history:
            on_eval(evaluate(settings=settings, state=state, lr=0.0))
        while state.step < n_steps:
            for window in group_into_windows(
                remaining_batches(train_loader, state), settings.accumulation_steps
            ):
                lr = learning_rate(state.step, n_steps, settings)
                with seeded_step(settings.seed, state.step, device):
                    loss = train_step(window, model, optimizer, device, lr, settings)
                record_step(state, window, loss, settings)
                state.seconds = time.monotonic() - started
                bar.update()
                if state.step % 10 == 0 and loss is not None:  # seldom: `item` waits for a GPU
                    bar.set_postfix(loss=f"{loss.item():.3f}")
                if state.step % settings.eval_freq == 0 or state.step == n_steps:
                    on_eval(evaluate(settings=settings, state=state, lr=lr))
                if on_step(state) or state.step == n_steps:
                    return state
            state.epoch += 1
            state.batch = 0
    return state


# --- the loss plot --------------------------------------------------------------------------------

Losses = Sequence[float | None]  # None where there was no evaluation of this kind


def curve_points(epochs_seen: Sequence[float], losses: Losses) -> list[tuple[float, float]]:
    """The points (epoch, loss) of a curve, without those that have no loss."""
    pairs = zip(epochs_seen, losses, strict=True)
    return [(epoch, loss) for epoch, loss in pairs if loss is not None]


def is_flat_after_a_third(epochs_seen: Sequence[float], *curves: Losses) -> bool:
    """Whether a linear axis would show the last two thirds of the losses as a flat line.

    That is so if, in the last two thirds of the epochs, the losses cover less than 15 % of the
    range that they cover in all epochs. False for fewer than three evaluations there, and for
    losses of 0 or less, which a logarithmic axis can't show.

    >>> epochs = [0, 1, 2, 3, 4, 5, 6]
    >>> is_flat_after_a_third(epochs, [10.8, 3.0, 1.4, 1.2, 1.1, 1.0, 0.9])
    True
    >>> is_flat_after_a_third(epochs, [10.8, 9.0, 7.5, 6.0, 4.5, 3.0, 1.5])
    False
    """
    start = epochs_seen[0] + (epochs_seen[-1] - epochs_seen[0]) / 3
    points = [point for losses in curves for point in curve_points(epochs_seen, losses)]
    all_losses = [loss for _, loss in points]
    late_losses = [loss for epoch, loss in points if epoch >= start]
    late_epochs = {epoch for epoch, _ in points if epoch >= start}
    if len(late_epochs) < 3 or min(all_losses) <= 0:
        return False
    return max(late_losses) - min(late_losses) < 0.15 * (max(all_losses) - min(all_losses))


def add_token_axis(axes: Axes, epochs_seen: Sequence[float], tokens_seen: Sequence[int]) -> None:
    """Add an upper axis: at each tick of the epochs, the tokens seen by then, such as "723k"."""
    above = axes.twiny()
    above.set_xlabel("Tokens seen (padding not counted)")
    ticks = [t for t in axes.get_xticks() if min(epochs_seen) <= t <= max(epochs_seen)]
    tokens = np.interp(ticks, epochs_seen, tokens_seen)
    three_digits = [float(f"{n:.3g}") for n in tokens]
    above.set_xticks(ticks, [EngFormatter(sep="")(n) for n in three_digits])
    above.set_xlim(axes.get_xlim())  # last, because ticks can widen an axis


def plot_losses(
    epochs_seen: Sequence[float],
    tokens_seen: Sequence[int],
    train_losses: Losses,
    val_losses: Losses,
    path: str | Path | None = None,
    axes: Axes | None = None,
) -> Figure:
    """Losses over epochs and, on the upper axis, over tokens; saved as `path`, a PNG, if given.

    For a run of `train_model`: epochs_seen=[record["epoch"] for record in state.history], and so
    on for "tokens_seen", "train_loss" and "val_loss". The loss axis starts at 0, unless a linear
    axis would show a flat line (`is_flat_after_a_third`): then it is logarithmic. Losses of None
    are left out.
    """
    if axes is None:
        axes = Figure(figsize=(6.4, 4.0), layout="constrained").add_subplot()
    # The curves differ in line and marker as well, so no colour is needed to tell them apart.
    curves = [
        ("training", train_losses, "#0072B2", "o-"),
        ("validation", val_losses, "#D55E00", "s--"),
    ]
    for name, losses, colour, style in curves:
        points = curve_points(epochs_seen, losses)
        if points:
            x = [epoch for epoch, _ in points]
            y = [loss for _, loss in points]
            axes.plot(x, y, style, color=colour, markersize=3, label=name)
    axes.set(xlabel="Epochs", ylabel="Loss (nats per counted token)")
    if is_flat_after_a_third(epochs_seen, train_losses, val_losses):
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        subs = (1, 1.5, 2, 3, 5, 7) if high < 100 * low else (1, 3)  # else the labels overlap
        axes.yaxis.set_major_locator(LogLocator(subs=subs))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter("{x:g}")
    else:
        axes.set_ylim(0, None)
    axes.legend(frameon=False)
    add_token_axis(axes, epochs_seen, tokens_seen)
    figure = axes.figure.figure  # the whole figure, even if the axes lie in a subfigure
    if path is not None:
        # Without the name and version of matplotlib, the same curves give the same file.
        figure.savefig(path, dpi=150, metadata={"Software": None})
    return figure
