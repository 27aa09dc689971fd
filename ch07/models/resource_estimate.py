"""What a run will cost, before it starts: memory and time, from the shape of model and batches.

The one idea: memory is counted in bytes per parameter, per token and per counted target; time in
operations, over what this machine was seen to do in a twentieth of a second. Estimates, not
promises: the README has what was measured beside them.
"""

import time
from dataclasses import dataclass
from functools import lru_cache

import torch

from gpt_model import GPTModel

OPTIMIZER_STATE = {"adamw": 8, "muon": 4}  # bytes per parameter: two moments, or one
# Fitted to the peak memory of training steps of four sizes (`python -m benchmarks.sizes`):
PER_TOKEN = {"float32": 100, "bfloat16": 70}  # bytes per token, layer and number of its width
PER_LOGIT = 16  # bytes: the logit in both formats, its softmax, and their gradients
GAPS = 2  # batches of ever other shapes leave gaps between them: as much again, as measured
# Likewise for time: the share of its peak in matrix products that a whole training step reaches,
# and what the softmax of one logit costs beside them, in operations.
SHARE_OF_PEAK = {"float32": 0.8, "bfloat16": 0.5}
PER_LOGIT_SOFTMAX = 650
PROCESS = 300e6  # bytes: Python, PyTorch, the rows
# What the keys and values of answers that grow together may take; a large model answers fewer.
CACHE_BYTES = 2e9
ANSWERS_AT_ONCE = 64  # enough to keep the processor busy


class TooLarge(ValueError):
    """A run needs more memory than there is; the message says how to make it smaller."""


@dataclass(frozen=True)
class Batches:
    """What the batches of an epoch hold: positions (padding included) and counted targets."""

    tokens: list  # of each batch
    targets: list
    longest: int = 0  # tokens of the longest row

    @classmethod
    def of(cls, batches, lengths, prompt_lengths, limit=None):
        """From row numbers; `prompt_lengths` are all 0 where every target is counted."""
        tokens, targets = [], []
        for rows in filter(len, batches):
            cut = [min(lengths[i] + 1, limit or lengths[i] + 1) for i in rows]
            tokens.append(len(rows) * max(cut))
            targets.append(
                sum(n - min(prompt_lengths[i], n) for n, i in zip(cut, rows, strict=True))
            )
        if not tokens:  # one of several processes, which gets no row of any batch
            tokens, targets = [1], [0]
        return cls(tokens, targets, max(lengths) if limit is None else min(max(lengths), limit))

    def of_one_row(self, batch_size):
        """What would be left of the largest batch with one row."""
        tokens, targets = max(self.tokens) // batch_size, max(self.targets) // batch_size
        return Batches([tokens], [targets], self.longest)


@lru_cache
def count_parameters(config):
    """(all parameters, those of the blocks); nothing is allocated."""
    with torch.device("meta"):
        model = GPTModel(config)
    blocks = sum(p.numel() for p in model.trf_blocks.parameters())
    return sum(p.numel() for p in model.parameters()), blocks


def run_bytes(
    config, batches, dtype, optimizer="adamw", new_tokens=256, shards=1, trained=None
):  # fmt: skip
    """Peak memory of a run: of its training, or of its answers while the optimizer is kept.

    With `shards`, of one of so many processes, each of which holds a part of every weight; with
    `trained`, of a run that trains so many parameters beside weights that stand still.
    """
    n_tokens = batches.longest + new_tokens
    n_rows = answers_at_once(config, n_tokens)
    state = _state_bytes(config, optimizer, trained) / shards
    answering = answering_bytes(config, n_rows, n_tokens) + state
    gaps = (GAPS - 1) * _batch_bytes(config, batches, dtype)
    training = training_bytes(config, batches, dtype, optimizer, shards, trained)
    return max(training + gaps, answering)


def _batch_bytes(config, batches, dtype):
    width = config.emb_dim * config.n_layers * PER_TOKEN[dtype]
    return max(
        width * tokens + PER_LOGIT * config.vocab_size * targets
        for tokens, targets in zip(batches.tokens, batches.targets, strict=True)
    )


def training_bytes(config, batches, dtype, optimizer="adamw", shards=1, trained=None):
    """Peak memory of training: weights, gradients, optimizer, and the largest batch."""
    n, _ = count_parameters(config)
    copy = 2 * n if dtype == "bfloat16" else 0  # which autocast keeps for the gradient
    gradients = 4 * (n if trained is None else trained)
    fixed = (4 * n + gradients + _state_bytes(config, optimizer, trained)) / shards + copy
    return PROCESS + fixed + _batch_bytes(config, batches, dtype)


def _state_bytes(config, optimizer, trained):
    n, blocks = count_parameters(config)
    if trained is not None:
        return trained * OPTIMIZER_STATE["adamw"]
    return (n - blocks) * OPTIMIZER_STATE["adamw"] + blocks * OPTIMIZER_STATE[optimizer]


def answering_bytes(config, n_rows=1, n_tokens=1024):
    """Peak memory of answering: weights, and the KV cache of `n_rows` of `n_tokens`."""
    n, _ = count_parameters(config)
    return PROCESS + 4 * n + n_rows * cache_bytes(config, n_tokens)


def answers_at_once(config, n_tokens):
    """How many answers grow together, each of so many tokens, its prompt included."""
    return max(1, min(ANSWERS_AT_ONCE, int(CACHE_BYTES // cache_bytes(config, n_tokens))))


def cache_bytes(config, n_tokens):
    """The KV cache of one row."""
    n_tokens = max(1, min(n_tokens, config.context_length))
    return 2 * 4 * config.n_layers * config.emb_dim * n_tokens


def step_seconds(config, batches, dtype, device, frozen=False):
    """Seconds of an average training step on this machine."""
    _, blocks = count_parameters(config)
    tokens = sum(batches.tokens) / len(batches.tokens)
    logits = config.vocab_size * sum(batches.targets) / len(batches.targets)
    # six per parameter and token (Kaplan et al. 2020, section 2.1), two of which make the gradient
    # of the parameter itself
    products = (4 if frozen else 6) * (blocks * tokens + config.emb_dim * logits)
    operations = products + PER_LOGIT_SOFTMAX * logits
    return operations / (SHARE_OF_PEAK[dtype] * matrix_speed(dtype, str(device)))


@lru_cache
def matrix_speed(dtype, device, seconds=0.05):
    """Operations per second of a matrix product here: the best of `seconds` of tries."""
    size = 4096 if device.startswith("cuda") else 768  # large enough to keep the device busy
    a = torch.ones(size, size, device=device, dtype=getattr(torch, dtype))
    (a @ a)[0, 0].item()  # the first product also loads libraries
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        (a @ a)[0, 0].item()  # a GPU has finished when its number is read
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def as_bytes(n):
    """A size for people: about how much.

    >>> as_bytes(830e6), as_bytes(27.4e9)
    ('0.8 GB', '27 GB')
    """
    return f"{n / 1e9:.1f} GB" if n < 10e9 else f"{n / 1e9:.0f} GB"


def as_time(seconds):
    """A duration for people: about how long.

    >>> as_time(0.2), as_time(42), as_time(700), as_time(20_000)
    ('about a second', 'about 42 seconds', 'about 12 minutes', 'about 5.6 hours')
    """
    if seconds < 1.5:
        return "about a second"
    if seconds < 90:
        return f"about {seconds:.0f} seconds"
    return (
        f"about {seconds / 60:.0f} minutes"
        if seconds < 5400
        else f"about {seconds / 3600:.1f} hours"
    )
