"""Batches -> loss -> updates -> a loss plot: a plain training loop, to be followed line by line.

The one idea: the loss is one sum over counted targets divided by their number, in a batch, an
accumulation window or an evaluation; no number depends on how rows were grouped. Takes any model
whose `model(token_ids, wanted=index)` gives the logits of the wanted positions, and any DataLoader
of (inputs, targets) on the CPU; knows nothing of text and files.
Axes: B batch, T tokens, N counted targets, V vocabulary. From Raschka's chapters 5 and 7.
"""

import contextlib
import math
import time
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch
from matplotlib import figure, ticker
from tqdm import tqdm

IGNORE_INDEX = -100  # what PyTorch's cross_entropy skips by default


def summed_cross_entropy(logits, targets):
    """The sum over N targets of -log softmax(logits)[target]: logits (N, V), targets (N,)."""
    return -logits.float().log_softmax(dim=-1).gather(1, targets[:, None]).sum()


@dataclass(frozen=True)
class TrainSettings:
    """How to train; nothing here says on what."""

    num_epochs: int = 2
    max_steps: int | None = None  # stop after so many steps, whatever num_epochs says
    peak_lr: float = 1e-3
    warmup_steps: int = 0  # steps until the peak is reached
    grad_clip: float = 1.0  # longest gradient allowed (L2 norm); math.inf: any
    accumulation_steps: int = 1  # batches that make up one step
    eval_freq: int = 100  # steps between two evaluations
    eval_iter: int | None = 5  # batches of the training loss estimate; None: all
    dtype: str = "float32"  # or "bfloat16": matrix products under autocast
    ignore_index: int = IGNORE_INDEX
    seed: int = 123  # dropout's random stream
    cross_entropy: callable = (
        summed_cross_entropy  # ch07/training/cross_entropy.py: with less memory
    )
    ranks: int = 1  # processes that train together, each on its share of every batch
    sum_ranks: callable = lambda number: (
        number
    )  # a number's sum over them: ch07/utils/distributed.py

    def __post_init__(self):
        counts = dict(num_epochs=1, accumulation_steps=1, eval_freq=1, warmup_steps=0, seed=0)
        counts |= {name: 1 for name in ("max_steps", "eval_iter") if vars(self)[name] is not None}
        for name, least in counts.items():
            if type(value := vars(self)[name]) is not int or value < least:
                raise ValueError(f"{name}={value!r}, but must be an int, {least} or more")
        if not (self.grad_clip > 0 and 0 < self.peak_lr < math.inf):
            raise ValueError(f"not above 0: peak_lr={self.peak_lr}, grad_clip={self.grad_clip}")
        if self.dtype not in ("float32", "bfloat16"):
            raise ValueError(f"dtype is {self.dtype!r}: choose 'float32' or 'bfloat16'")


@dataclass
class TrainState:
    """Where a run stands: all that is needed to go on, besides weights and optimizer."""

    epoch: int = 0  # epochs finished; the loader's order must follow from it (`set_epoch`)
    batch: int = 0  # batches taken from the present epoch
    step: int = 0  # updates made or skipped
    tokens_seen: int = 0  # real tokens, padding not counted
    skipped: int = 0  # updates skipped since no target was counted
    seconds: float = 0.0  # training time, evaluation included
    history: list = field(default_factory=list)  # one record (a dict) per evaluation


def sum_loss(input_batch, target_batch, model, device, ignore_index=IGNORE_INDEX, dtype="float32",
             cross_entropy=summed_cross_entropy):  # fmt: skip
    """Cross-entropy summed over the counted targets of a (B, T) batch, and their number N."""
    counted = target_batch != ignore_index  # (B, T); found here, since a GPU would be waited for
    batch = input_batch, target_batch[counted], counted.nonzero()
    pin = torch.device(device).type == "cuda" and input_batch.is_cpu  # copied while it works on
    ids, targets, at = ((t.pin_memory() if pin else t).to(device, non_blocking=pin) for t in batch)
    with torch.autocast(ids.device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
        logits = model(ids, wanted=at.unbind(1))  # (B, T) -> (N, V)
    return cross_entropy(logits, targets), len(logits)


def calc_loss_batch(input_batch, target_batch, model, device, **options):
    """Mean cross-entropy over the counted targets; ValueError where there are none."""
    loss, n_targets = sum_loss(input_batch, target_batch, model, device, **options)
    if n_targets == 0:
        raise ValueError("no target of this batch is counted, so it has no loss")
    return loss / n_targets


def calc_loss_loader(data_loader, model, device, num_batches=None, sum_ranks=float, **options):
    """Mean over all counted targets of a loader, or of its first `num_batches` batches."""
    total, n_targets = 0.0, 0
    with _undisturbed(model, data_loader), torch.no_grad():
        for input_batch, target_batch in islice(data_loader, num_batches):
            loss, n = sum_loss(input_batch, target_batch, model, device, **options)
            total, n_targets = total + loss.item(), n_targets + n
    total, n_targets = sum_ranks(total), sum_ranks(n_targets)
    if n_targets == 0:
        raise ValueError("no target of this loader is counted, so it has no loss")
    if not math.isfinite(total):
        raise FloatingPointError("the loss of an evaluation is not finite")
    return total / n_targets


def evaluate_model(model, train_loader, val_loader, device, eval_iter=None, **options):
    """Training loss (estimated on `eval_iter` batches) and validation loss (all rows, or None)."""
    loss = calc_loss_loader(train_loader, model, device, eval_iter, **options)
    return loss, calc_loss_loader(val_loader, model, device, **options) if val_loader else None


@contextlib.contextmanager
def _undisturbed(model, data_loader):
    """Evaluation mode inside; afterwards modes and random streams (loaders draw) are as before."""
    modes = {module: module.training for module in model.modules()}
    generator = getattr(data_loader, "generator", None) or torch.Generator()
    drawn = generator.get_state()
    model.eval()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        generator.set_state(drawn)
        for module, training in modes.items():
            module.training = training


def learning_rate(step, n_steps, settings):
    """Linear warmup to the peak, then half a cosine to 0 (Loshchilov & Hutter 2017, section 3)."""
    if step < settings.warmup_steps:
        return settings.peak_lr * (step + 1) / settings.warmup_steps
    done = (step - settings.warmup_steps) / max(1, n_steps - settings.warmup_steps)
    return settings.peak_lr * 0.5 * (1 + math.cos(math.pi * done))


def make_optimizer(parameters, lr=1e-3, weight_decay=0.1, betas=(0.9, 0.95)):
    """AdamW (Loshchilov & Hutter 2019), fused; only matrices decay, not biases and norms."""
    params = [p for p in parameters if p.requires_grad]
    matrices, vectors = ([p for p in params if (p.ndim >= 2) == wide] for wide in (True, False))
    groups = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, weight_decay=weight_decay, betas=betas, fused=True)


def count_tokens(targets, ignore_index=IGNORE_INDEX):
    """Real input tokens of a batch, by position: each row is real up to its last counted target."""
    return int(((targets != ignore_index) * torch.arange(1, targets.shape[1] + 1)).amax(1).sum())


def train_step(window, model, optimizer, device, lr, settings):
    """One update from a window of batches, by one sum over one number: the mean loss, or None."""
    n_targets = settings.sum_ranks(sum(int((t != settings.ignore_index).sum()) for _, t in window))
    if n_targets == 0:
        return None  # weight decay would move the weights even without a gradient
    total = 0.0
    for batch in window:
        how = (settings.ignore_index, settings.dtype, settings.cross_entropy)
        loss, _ = sum_loss(*batch, model, device, *how)
        (loss * settings.ranks / n_targets).backward()  # ranks: their gradients' mean is taken
        total = total + loss.detach()
    total = settings.sum_ranks(total)
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), settings.grad_clip)
    if not math.isfinite(float(norm) + float(total)):
        optimizer.zero_grad(set_to_none=True)  # the weights stay those of the last good step
        raise FloatingPointError("loss or gradient is not finite; try a lower learning rate")
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return total / n_targets


def total_steps(train_loader, settings):
    """Steps that a whole run takes; ValueError for a loader without batches."""
    if not len(train_loader):
        raise ValueError("no training batch: the training split is empty")
    steps = settings.num_epochs * math.ceil(len(train_loader) / settings.accumulation_steps)
    return steps if settings.max_steps is None else min(steps, settings.max_steps)


def train_model(model, train_loader, val_loader, optimizer, device="cpu", settings=TrainSettings(),
        state=None, on_eval=lambda _: None, on_step=lambda _: None, progress=True):  # fmt: skip
    """Train on from `state` and return it; `on_eval(record)` and `on_step(state)` (true: stop)."""
    state, n_steps = state or TrainState(), total_steps(train_loader, settings)
    started = time.monotonic() - state.seconds
    how = "eval_iter", "ignore_index", "dtype", "cross_entropy", "sum_ranks"
    options = {name: vars(settings)[name] for name in how}

    def evaluate(lr):
        record = {"step": state.step, "epoch": state.epoch + state.batch / len(train_loader)}
        record |= {"tokens_seen": state.tokens_seen, "lr": lr, "seconds": round(state.seconds, 2)}
        losses = evaluate_model(model, train_loader, val_loader, device, **options)
        record["train_loss"], record["val_loss"] = losses
        state.history.append(record)
        on_eval(record)

    model.train()
    with tqdm(total=n_steps, initial=state.step, disable=not progress, desc="training") as bar:
        if not state.history:
            evaluate(lr=0.0)
        while state.step < n_steps:
            for window in _windows(train_loader, state, settings.accumulation_steps):
                lr = learning_rate(state.step, n_steps, settings)
                with torch.random.fork_rng():  # dropout's stream follows from seed and step alone
                    torch.manual_seed((settings.seed << 32) + state.step)
                    loss = train_step(window, model, optimizer, device, lr, settings)
                state.step, state.batch = state.step + 1, state.batch + len(window)
                state.skipped += loss is None
                tokens = sum(count_tokens(t, settings.ignore_index) for _, t in window)
                state.tokens_seen += settings.sum_ranks(tokens)
                state.seconds = time.monotonic() - started
                bar.update()
                if state.step % 10 == 0 and loss is not None:  # reading a loss waits for a GPU
                    bar.set_postfix(loss=f"{loss.item():.3f}")
                if state.step % settings.eval_freq == 0 or state.step == n_steps:
                    evaluate(lr)
                if on_step(state) or state.step == n_steps:
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


def plot_losses(epochs_seen, tokens_seen, train_losses, val_losses, path=None, axes=None):
    """Losses (None left out) over epochs and, above, tokens; a Figure, saved as `path` if given."""
    axes = axes or figure.Figure(figsize=(6.4, 4.0), layout="constrained").add_subplot()
    axes.set_prop_cycle(color=["#0072B2", "#D55E00"])  # lines and marks differ too
    for name, losses, line in (("training", train_losses, "o-"), ("validation", val_losses, "s--")):
        points = [(x, y) for x, y in zip(epochs_seen, losses, strict=True) if y is not None]
        if points:
            axes.plot(*zip(*points, strict=True), line, markersize=3, label=name)
    axes.set(xlabel="Epochs", ylabel="Loss (nats per counted token)", ylim=(0, None))
    axes.legend(frameon=False)
    above = axes.twiny()
    above.set(xlim=axes.get_xlim(), xlabel="Tokens seen (padding not counted)")
    ticks = [t for t in axes.get_xticks() if min(epochs_seen) <= t <= max(epochs_seen)]
    tokens = np.interp(ticks, epochs_seen, tokens_seen)
    above.set_xticks(ticks, [ticker.EngFormatter(sep="")(float(f"{n:.3g}")) for n in tokens])
    if path is not None:
        axes.figure.savefig(path, dpi=150, metadata={"Software": None})
    return axes.figure
