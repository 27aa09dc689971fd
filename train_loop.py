"""Batches -> loss -> updates -> a loss plot: a plain training loop, to be followed line by line.

The one idea: the loss is the sum over counted targets divided by their number, whether they come
in one batch, in an accumulation window or in a whole evaluation; no number depends on how the
rows were grouped. This file knows nothing of text or files. Any model will do whose call
`model(token_ids, wanted=mask)` gives the logits of the wanted positions, and any loader whose
batches are (inputs, targets) on the CPU.

Axes: B batch, T tokens, N counted targets, V vocabulary. Source: Raschka, "Build a Large Language
Model (From Scratch)", chapter 5 and section 7.6; nanoGPT's train.py for schedule and weight decay.
"""

import contextlib
import math
import time
from dataclasses import asdict, dataclass, field
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter
from tqdm import tqdm

IGNORE_INDEX = -100  # what PyTorch's cross_entropy skips by default


@dataclass(frozen=True)
class TrainSettings:
    """How to train; nothing here says on what."""

    num_epochs: int = 2
    max_steps: int | None = None  # stop after so many steps, whatever num_epochs says
    peak_lr: float = 1e-3
    min_lr_ratio: float = 0.0  # where the cosine ends, as a share of the peak
    warmup_steps: int = 0  # steps until the peak is reached
    grad_clip: float | None = 1.0  # longest gradient allowed (L2 norm)
    accumulation_steps: int = 1  # batches that make up one step
    eval_freq: int = 100  # steps between two evaluations
    eval_iter: int | None = 5  # batches of the training loss estimate; None: all
    dtype: str = "float32"  # or "bfloat16": matrix products under autocast
    ignore_index: int = IGNORE_INDEX
    seed: int = 123  # dropout's random stream

    def __post_init__(self):
        for name in ("num_epochs", "accumulation_steps", "eval_freq"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least 1")
        if self.dtype not in ("float32", "bfloat16"):
            raise ValueError(f"dtype is {self.dtype!r}: choose 'float32' or 'bfloat16'")


@dataclass
class TrainState:
    """Where a run stands: all that is needed to go on, besides weights and optimizer."""

    epoch: int = 0  # epochs finished
    batch: int = 0  # batches taken from the present epoch
    step: int = 0  # updates made or skipped
    tokens_seen: int = 0  # real tokens, padding not counted
    skipped: int = 0  # updates skipped since no target was counted
    seconds: float = 0.0  # training time, evaluation included
    history: list = field(default_factory=list)  # one record (a dict) per evaluation

    as_dict = asdict


def sum_loss(input_batch, target_batch, model, device, ignore_index=IGNORE_INDEX, dtype="float32"):
    """Cross-entropy summed over the counted targets of a (B, T) batch, and their number N."""
    inputs = input_batch.to(device, non_blocking=True)
    targets = target_batch.to(device, non_blocking=True)
    counted = targets != ignore_index  # (B, T)
    kind = torch.device(device).type
    with torch.autocast(kind, torch.bfloat16, enabled=dtype == "bfloat16"):
        logits = model(inputs, wanted=counted)  # (B, T) -> (N, V)
    loss = F.cross_entropy(logits.float(), targets[counted], reduction="sum")
    return loss, logits.shape[0]


def calc_loss_batch(input_batch, target_batch, model, device, **options):
    """Mean cross-entropy over the counted targets; ValueError where there are none."""
    loss, n_targets = sum_loss(input_batch, target_batch, model, device, **options)
    if n_targets == 0:
        raise ValueError("no target of this batch is counted, so it has no loss")
    return loss / n_targets


def calc_loss_loader(data_loader, model, device, num_batches=None, **options):
    """Mean cross-entropy over all counted targets of a loader (or of its first `num_batches`).

    One sum divided by one number: the mean of batch means would depend on the batch size. The
    model's mode and every random stream stay as they were. ValueError if nothing is counted.
    """
    total, n_targets = 0.0, 0
    with _undisturbed(model, data_loader), torch.no_grad():
        for input_batch, target_batch in islice(data_loader, num_batches):
            loss, n = sum_loss(input_batch, target_batch, model, device, **options)
            total, n_targets = total + loss.item(), n_targets + n
    if n_targets == 0:
        raise ValueError("no target of this loader is counted, so it has no loss")
    return total / n_targets


def evaluate_model(model, train_loader, val_loader, device, eval_iter=None, **options):
    """Training loss (an estimate on `eval_iter` batches), validation loss (of every row, or None).

    Changes nothing: neither weights nor mode nor random streams, even if it fails.
    """
    train_loss = calc_loss_loader(train_loader, model, device, eval_iter, **options)
    if val_loader is None or len(val_loader) == 0:
        return train_loss, None
    return train_loss, calc_loss_loader(val_loader, model, device, **options)


@contextlib.contextmanager
def _undisturbed(model, data_loader):
    """Evaluation mode inside; afterwards modes and random streams are as they were before.

    Merely starting a DataLoader draws a seed, from its own generator or from the global one.
    """
    modes = [(module, module.training) for module in model.modules()]
    generator = getattr(data_loader, "generator", None)
    drawn = None if generator is None else generator.get_state()
    model.eval()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        for module, training in modes:
            module.training = training
        if generator is not None:
            generator.set_state(drawn)


def learning_rate(step, n_steps, settings):
    """Linear warmup to the peak, then half a cosine down (Loshchilov & Hutter 2017, section 3).

    >>> settings = TrainSettings(peak_lr=1.0, warmup_steps=2)
    >>> [round(learning_rate(step, 6, settings), 2) for step in range(6)]
    [0.5, 1.0, 1.0, 0.85, 0.5, 0.15]
    """
    if step < settings.warmup_steps:
        return settings.peak_lr * (step + 1) / settings.warmup_steps
    done = (step - settings.warmup_steps) / max(1, n_steps - settings.warmup_steps)
    low = settings.peak_lr * settings.min_lr_ratio
    return low + (settings.peak_lr - low) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def make_optimizer(model, lr=1e-3, weight_decay=0.1, betas=(0.9, 0.95)):
    """AdamW (Loshchilov & Hutter 2019), fused; only matrices decay, not biases and norms."""
    params = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in params if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in params if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=betas, fused=True)


def count_tokens(targets, ignore_index=IGNORE_INDEX):
    """Real input tokens of a batch, by position: each row is real up to its last counted target."""
    columns = torch.arange(1, targets.shape[1] + 1)
    return int(((targets != ignore_index) * columns).amax(dim=1).sum())


def train_step(window, model, optimizer, device, lr, settings):
    """One update from a window of batches: the gradient of one sum divided by one number.

    Returns the mean loss, or None (and changes nothing) if no target is counted: weight decay
    would move the weights even without a gradient.
    """
    n_targets = sum(int((targets != settings.ignore_index).sum()) for _, targets in window)
    if n_targets == 0:
        return None
    total = 0.0
    for inputs, targets in window:
        loss, _ = sum_loss(inputs, targets, model, device, settings.ignore_index, settings.dtype)
        (loss / n_targets).backward()
        total = total + loss.detach()
    if settings.grad_clip is not None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.grad_clip)
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return total / n_targets


def total_steps(train_loader, settings):
    """Steps that a whole run takes; ValueError for a loader without batches."""
    if len(train_loader) == 0:
        raise ValueError("no training batch: the training split is empty")
    steps = settings.num_epochs * math.ceil(len(train_loader) / settings.accumulation_steps)
    return steps if settings.max_steps is None else min(steps, settings.max_steps)


def train_model(
    model,
    train_loader,
    val_loader,
    optimizer,
    device="cpu",
    settings=TrainSettings(),
    state=None,
    on_eval=None,
    on_step=None,
    progress=True,
):
    """Train, and return the state with its history of evaluations.

    `on_eval(record)` is called after each evaluation, `on_step(state)` after each step; a true
    answer of `on_step` ends the run. Give a `state` to go on from it: the loader's order must
    depend on the epoch alone (`batch_sampler.set_epoch`, called where it exists).
    """
    state = TrainState() if state is None else state
    n_steps = total_steps(train_loader, settings)
    started = time.monotonic() - state.seconds
    loaders = train_loader, val_loader
    model.train()
    with tqdm(total=n_steps, initial=state.step, disable=not progress, desc="training") as bar:
        if not state.history:
            _record_evaluation(model, loaders, device, settings, state, 0.0, on_eval)
        while state.step < n_steps:
            for window in _windows(train_loader, state, settings.accumulation_steps):
                lr = learning_rate(state.step, n_steps, settings)
                with _step_seed(settings.seed, state.step):
                    loss = train_step(window, model, optimizer, device, lr, settings)
                state.step += 1
                state.batch += len(window)
                state.skipped += loss is None
                state.tokens_seen += sum(count_tokens(t, settings.ignore_index) for _, t in window)
                state.seconds = time.monotonic() - started
                bar.update()
                if state.step % 10 == 0 and loss is not None:  # reading a loss waits for a GPU
                    bar.set_postfix(loss=f"{loss.item():.3f}")
                if state.step % settings.eval_freq == 0 or state.step == n_steps:
                    _record_evaluation(model, loaders, device, settings, state, lr, on_eval)
                    state.seconds = time.monotonic() - started
                if (on_step is not None and on_step(state)) or state.step == n_steps:
                    return state
            state.epoch, state.batch = state.epoch + 1, 0
    return state


def _windows(train_loader, state, size):
    """The epoch's batches in lists of `size`, from where the state stands; the last is shorter."""
    if hasattr(train_loader.batch_sampler, "set_epoch"):
        train_loader.batch_sampler.set_epoch(state.epoch)
    batches = islice(iter(train_loader), state.batch, None)
    while window := list(islice(batches, size)):
        yield window


@contextlib.contextmanager
def _step_seed(seed, step):
    """Dropout draws from the global stream, the only one it knows; so each step seeds its own.

    What others draw can't change the weights, and a resumed run needs no stored random state.
    """
    with torch.random.fork_rng():
        torch.manual_seed((seed << 32) + step)
        yield


def _record_evaluation(model, loaders, device, settings, state, lr, on_eval):
    options = {"ignore_index": settings.ignore_index, "dtype": settings.dtype}
    losses = evaluate_model(model, *loaders, device, settings.eval_iter, **options)
    record = {
        "step": state.step,
        "epoch": state.epoch + state.batch / len(loaders[0]),
        "tokens_seen": state.tokens_seen,
        "train_loss": losses[0],
        "val_loss": losses[1],
        "lr": lr,
        "seconds": round(state.seconds, 2),
    }
    state.history.append(record)
    if on_eval is not None:
        on_eval(record)


def plot_losses(epochs_seen, tokens_seen, train_losses, val_losses, path=None):
    """Losses over epochs (below) and tokens seen (above), one point per recorded evaluation.

    Solid with circles is training, dashed with squares is validation: no colour is needed to tell
    them apart. A loss of None is left out. Returns the Figure, and saves it as `path` if given.
    """
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.add_subplot()
    curves = [("training", train_losses, "#0072B2", "o-"), ("validation", val_losses, "#D55E00", "s--")]
    for name, losses, colour, line in curves:
        points = [(x, y) for x, y in zip(epochs_seen, losses, strict=True) if y is not None]
        if points:
            axes.plot(*zip(*points, strict=True), line, color=colour, markersize=3, label=name)
    axes.set(xlabel="Epochs", ylabel="Loss (nats per counted token)", ylim=(0, None))
    axes.legend(frameon=False)
    above = axes.twiny()
    above.set(xlim=axes.get_xlim(), xlabel="Tokens seen (padding not counted)")
    ticks = [t for t in axes.get_xticks() if min(epochs_seen) <= t <= max(epochs_seen)]
    tokens = np.interp(ticks, epochs_seen, tokens_seen)
    above.set_xticks(ticks, [EngFormatter(places=None, sep="")(round(n)) for n in tokens])
    if path is not None:
        figure.savefig(path, dpi=150, metadata={"Software": None})
    return figure
