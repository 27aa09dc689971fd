"""Direct preference optimization: a model learns which of two answers people like better.

The one idea: a model is its own reward. How much more likely it makes an answer than it did before
training (in logarithms, times beta) is the reward of that answer, and the loss is logistic
regression on the difference of two rewards; so no reward model is trained, and nothing is sampled.
The reference is the model before the first step: its log-probabilities never change, so they are
computed once and kept, and there is no second model. Knows nothing of text and files.

Axes: B pairs, T tokens, N counted targets, V vocabulary. Source: Rafailov et al. 2023, "Direct
Preference Optimization", sections 4 and 5.1 and its authors' `preference_loss`, where the
log-probabilities of an answer's tokens are summed. Raschka's notebook (04_preference-tuning-with-
dpo) takes their mean, and leaves the end-of-text out: `reduction="mean"` is the former alone.
"""

import math
import time

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from tqdm import tqdm

from ch07.utils.evaluation_mode import evaluation_mode
from train_loop import IGNORE_INDEX, TrainSettings, TrainState, learning_rate, total_steps

REDUCTIONS = ("sum", "mean")


def sequence_logprobs(model, inputs, targets, reduction="sum"):
    """The log-probability of each row's counted targets, summed or averaged: (B,) float32.

    `inputs` and `targets` (B, T) are those of a collate; what isn't counted is -100 in the targets,
    so padding and prompt take no part. ValueError for a row without any counted target.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction is {reduction!r}: choose one of {', '.join(REDUCTIONS)}")
    counted = targets != IGNORE_INDEX  # (B, T)
    n = counted.sum(1)
    if not n.all():
        row = int(n.argmin())
        raise ValueError(f"row {row} of the batch has no counted target, so it has no probability")
    rows, places = counted.nonzero(as_tuple=True)
    logits = model(inputs, wanted=(rows, places))  # (B, T) -> (N, V)
    each = -F.cross_entropy(logits.float(), targets[counted], reduction="none")  # (N,)
    total = each.new_zeros(len(inputs)).index_add(0, rows, each)  # (N,) -> (B,)
    return total if reduction == "sum" else total / n


def dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta=0.1, label_smoothing=0.0):
    """The loss of each pair, from log-probabilities (B,) of model and reference: (B,).

    -log sigmoid(beta * h) with h = (chosen - rejected) - (ref_chosen - ref_rejected): equation 7 of
    the paper. With `label_smoothing` a pair is taken to be labelled the wrong way round with that
    probability (Mitchell 2023, "A note on DPO with noisy preferences", as in the authors' code).

    >>> zero = torch.zeros(3)
    >>> [f"{x:.5f}" for x in dpo_loss(torch.tensor([0.0, 1.0, -1.0]), zero, zero, zero)]
    ['0.69315', '0.64440', '0.74440']
    """
    check_beta(beta, label_smoothing)
    scaled = beta * ((chosen - rejected) - (ref_chosen - ref_rejected))
    right, wrong = -F.logsigmoid(scaled), -F.logsigmoid(-scaled)
    return (1 - label_smoothing) * right + label_smoothing * wrong


def check_beta(beta, label_smoothing=0.0):
    """ValueError for what makes no loss; a larger beta holds the model closer to the reference."""
    if not 0 < beta < math.inf:
        raise ValueError(f"beta is {beta}, but must be a number above 0")
    if not 0 <= label_smoothing < 0.5:
        raise ValueError(
            f"label_smoothing is {label_smoothing}, but must be 0 or more and below 0.5: at 0.5 "
            "nobody knows which answer is the better one"
        )


def rewards(logprobs, reference, beta=0.1):
    """What the model itself pays for an answer: beta times how much likelier it made it (B,)."""
    return beta * (logprobs - reference)


# --- a model and its pairs ----------------------------------------------------------------------
def reference_logprobs(model, loader, device="cpu", reduction="sum"):
    """(n, 2): of chosen and rejected, for every pair of the loader, in the order of its dataset.

    The model is left as it was found. A loader gives (chosen, rejected, numbers of the pairs),
    where chosen and rejected are each (inputs, targets): `preferences.pair_loader`.
    """
    kept = torch.empty(len(loader.dataset), 2, device=device)
    with evaluation_mode(model), torch.no_grad():
        for chosen, rejected, numbers in loader:
            kept[numbers] = torch.stack(_of_pair(model, chosen, rejected, device, reduction), 1)
    return kept


def evaluate_pairs(model, loader, reference, beta=0.1, label_smoothing=0.0, **how):
    """{"loss", "margin", "accuracy"}: means over all pairs of a loader; None without a pair.

    The margin is how much more the chosen answer is rewarded; accuracy is the share of pairs in
    which it is rewarded more. `how`: device and reduction.
    """
    if not len(loader.dataset):
        return {"loss": None, "margin": None, "accuracy": None}
    now = reference_logprobs(model, loader, **how)
    losses = dpo_loss(*now.T, *reference.T, beta, label_smoothing)
    reward = rewards(now, reference, beta)
    margin = reward[:, 0] - reward[:, 1]
    found = {"loss": losses, "margin": margin, "accuracy": (margin > 0).float()}
    found = {name: values.double().mean().item() for name, values in found.items()}
    if not math.isfinite(found["loss"]):
        raise FloatingPointError("the loss of an evaluation is not finite")
    return found


def train_on_pairs(
    model,
    loader,
    held_out,
    optimizer,
    settings=TrainSettings(),
    beta=0.1,
    label_smoothing=0.0,
    device="cpu",
    reduction="sum",
    begin=TrainState,
    on_eval=lambda history: None,
    on_step=lambda state: None,
    progress=True,
):
    """Train the model against itself as it is now; the `TrainState`, whose history is records.

    Two loaders of pairs, as in `reference_logprobs`. A record says step, epoch, lr, seconds, and
    loss, margin and accuracy of the first training pairs (`settings.eval_iter` batches of them) and
    of all that are held out; `on_eval(history)` hears of each. `begin()` is called once the
    reference is known: it may put model and optimizer to where a run stopped. `on_step(state)` may
    say to stop. Dropout stays off, since model and reference are compared as the same net.
    """
    how, loss_of = {"device": device, "reduction": reduction}, (beta, label_smoothing)
    check_beta(*loss_of)
    reference = reference_logprobs(model, loader, **how)
    judge = _judge(model, _first(loader, settings.eval_iter), held_out, loss_of, how)
    state, end = begin(), total_steps(loader, settings)
    started = time.monotonic() - state.seconds

    def evaluate(lr):
        state.seconds = round(time.monotonic() - started, 2)
        record = {"step": state.step, "epoch": state.step / len(loader), "tokens_seen": None}
        state.history.append({**record, "lr": lr, "seconds": state.seconds, **judge()})
        on_eval(state.history)

    with evaluation_mode(model), tqdm(total=end, initial=state.step, disable=not progress) as bar:
        if not state.history:
            evaluate(lr=0.0)
        for batch in _batches(loader, state.step, end):
            lr = learning_rate(state.step, end, settings)
            _step(model, batch, reference, optimizer, lr, settings, loss_of, how)
            state.step += 1
            state.epoch, state.batch = divmod(state.step, len(loader))
            bar.update()
            if state.step % settings.eval_freq == 0 or state.step == end:
                evaluate(lr)
            if on_step(state):
                break
    return state


def _judge(model, train, held_out, loss_of, how):
    """What `evaluate_pairs` finds whenever it is called, against the model as it is here."""
    loaders = {"train": train, "val": held_out}
    known = {name: reference_logprobs(model, loader, **how) for name, loader in loaders.items()}

    def judge():
        found = {}
        for name, loader in loaders.items():
            values = evaluate_pairs(model, loader, known[name], *loss_of, **how)
            found |= {f"{name}_{what}": value for what, value in values.items()}
        return found

    return judge


def _first(loader, n_batches):
    """A loader of the first pairs of another one's dataset, in their own order."""
    size, pairs = loader.batch_sampler.batch_size, loader.dataset
    n = len(pairs) if n_batches is None else min(len(pairs), n_batches * size)
    return DataLoader([pairs[i] for i in range(n)], size, collate_fn=loader.collate_fn)


def _batches(loader, first, n_steps):
    """Batches number `first` to `n_steps`, epoch after epoch, each in an order of its own."""
    for epoch in range(first // len(loader), -(-n_steps // len(loader))):
        if hasattr(loader.batch_sampler, "set_epoch"):
            loader.batch_sampler.set_epoch(epoch)
        for number, batch in enumerate(loader, start=epoch * len(loader)):
            if first <= number < n_steps:
                yield batch


def _step(model, batch, reference, optimizer, lr, settings, loss_of, how):
    """One update by the mean loss of a batch of pairs."""
    *pair, numbers = batch
    now = _of_pair(model, *pair, **how)
    loss = dpo_loss(*now, *reference[numbers].T, *loss_of).mean()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), settings.grad_clip)
    if not math.isfinite(float(norm) + loss.item()):
        raise FloatingPointError("loss or gradient is not finite; try a lower learning rate")
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _of_pair(model, chosen, rejected, device, reduction):
    """Log-probabilities (B,) of the chosen answers, and of the rejected ones."""
    both = ([tensor.to(device) for tensor in side] for side in (chosen, rejected))
    return [sequence_logprobs(model, *side, reduction) for side in both]
