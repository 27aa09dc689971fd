"""The memory and the time that a run will need, estimated from the shapes of model and batches.

Memory is counted in bytes per parameter, per token and per counted target. Time is that of one
block and its share of the output head, measured here with batches of the run's own size, or as much
of it as takes a moment; it then counts for the whole model.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import torch

from ch07.config import ANSWER_TOKENS
from ch07.models.architectures import ModelConfig
from ch07.models.empty_model import empty_model
from ch07.models.model_slice import ModelSlice
from ch07.utils.errors import UserError

OPTIMIZER_BYTES = {"adamw": 8, "muon": 4}  # per parameter: two float32 moments, or one
# Fitted to the peak memory of training steps of four model sizes (`python -m benchmarks.sizes`):
ACTIVATION_BYTES = {"float32": 100, "bfloat16": 70}  # per token, layer and unit of width
LOGIT_BYTES = 16  # the logit in both formats, its softmax, and their gradients
# Batches of different shapes fragment the memory: as measured, a batch needs twice its own size.
FRAGMENTATION_FACTOR = 2
# What else a step costs: bytes that are read and written, at the speed of adding two arrays.
SOFTMAX_BYTES = 60  # per logit, forward and backward
UPDATE_BYTES = 40  # per parameter: norm and clipping of the gradient, then AdamW
# The share of a slice's speed that a whole run reaches: its batches differ in size, less of the
# model is in the processor's cache, and in bfloat16 kernels are compiled. Fitted to training steps
# of gpt2-tiny and gpt2-small on an Intel Xeon with AMX.
SHARE_OF_SLICE_SPEED = {"float32": 0.9, "bfloat16": 0.75}
PROCESS_BYTES = 300e6  # Python, PyTorch, and the rows of the data
MAX_CACHE_BYTES = 2e9  # of the KV cache of answers that are generated together
MAX_ANSWERS_AT_ONCE = 64  # enough to keep the hardware busy
OPERATIONS_OF_SHORT_RUNS = 2e11  # some seconds: not worth measuring how many
USUAL_SPEED = 5e10  # operations per second
MEASURING_SECONDS = 0.25
MIN_MEASUREMENTS = 3


class TooLarge(UserError, ValueError):
    """A run needs more memory than there is; the message says how to make it smaller."""


@dataclass(frozen=True)
class Batches:
    """What the batches of an epoch hold: tokens (padding included) and counted targets."""

    tokens: list[int]  # of each batch
    targets: list[int]  # of each batch
    longest: int = 0  # tokens of the longest row

    @classmethod
    def from_lengths(
        cls,
        batches: Iterable[Sequence[int]],
        lengths: Sequence[int],
        prompt_lengths: Sequence[int],
        limit: int | None = None,
        n_shared: int = 0,
    ) -> "Batches":
        """From the row numbers of each batch and the lengths of all rows, cut to `limit` tokens.

        `prompt_lengths` are all 0 if every target counts, not only those of the response. Of
        `n_shared` tokens, with which all rows begin, a batch holds only one copy.
        """
        tokens = []
        targets = []
        for rows in batches:
            if len(rows) == 0:
                continue
            cut = [min(lengths[i] + 1, limit or lengths[i] + 1) for i in rows]
            counted = [n - min(prompt_lengths[i], n) for n, i in zip(cut, rows, strict=True)]
            shared = min(n_shared, max(cut) - 1)
            tokens.append(shared + len(rows) * (max(cut) - shared))
            targets.append(sum(counted))
        if not tokens:  # there are no rows, or another process gets all of them
            tokens = [1]
            targets = [0]
        longest = max(lengths, default=0)
        return cls(tokens, targets, longest if limit is None else min(longest, limit))

    def of_one_row(self, batch_size: int) -> "Batches":
        """The average row of the largest batch, as a batch of its own."""
        tokens = max(self.tokens) // batch_size
        targets = max(self.targets) // batch_size
        return Batches([tokens], [targets], self.longest)


@lru_cache
def count_parameters(config: ModelConfig) -> tuple[int, int]:
    """(all parameters, those of the blocks); nothing is allocated."""
    model = empty_model(config)
    in_blocks = sum(p.numel() for p in model.trf_blocks.parameters())
    return sum(p.numel() for p in model.parameters()), in_blocks


# --- memory -------------------------------------------------------------------------------------
def run_bytes(
    config: ModelConfig,
    batches: Batches,
    dtype: str,
    *,
    optimizer: str = "adamw",
    new_tokens: int = ANSWER_TOKENS,
    shards: int = 1,
    trained: int | None = None,
) -> float:
    """Peak memory of a run: while it trains, or while it answers with the optimizer in memory.

    With `shards`, that of one of so many processes, each of which holds a part of every weight.
    `trained` is the number of trained parameters if the model itself is frozen.
    """
    n_tokens = batches.longest + new_tokens
    n_rows = answers_at_once(config, n_tokens)
    optimizer_bytes = _optimizer_bytes(config, optimizer, trained) / shards
    answering = answering_bytes(config, n_rows, n_tokens) + optimizer_bytes
    fragmentation = (FRAGMENTATION_FACTOR - 1) * _largest_batch_bytes(config, batches, dtype)
    training = training_bytes(
        config, batches, dtype, optimizer=optimizer, shards=shards, trained=trained
    )
    return max(training + fragmentation, answering)


def training_bytes(
    config: ModelConfig,
    batches: Batches,
    dtype: str,
    *,
    optimizer: str = "adamw",
    shards: int = 1,
    trained: int | None = None,
) -> float:
    """Peak memory of training: weights, gradients, optimizer, and the largest batch."""
    n_parameters, _ = count_parameters(config)
    weights = 4 * n_parameters
    gradients = 4 * (n_parameters if trained is None else trained)
    copy = 2 * n_parameters if dtype == "bfloat16" else 0  # autocast keeps one for the gradient
    sharded = (weights + gradients + _optimizer_bytes(config, optimizer, trained)) / shards
    return PROCESS_BYTES + sharded + copy + _largest_batch_bytes(config, batches, dtype)


def answering_bytes(config: ModelConfig, n_rows: int = 1, n_tokens: int = 1024) -> float:
    """Peak memory of answering: weights, and the KV cache of `n_rows` of `n_tokens`."""
    n_parameters, _ = count_parameters(config)
    return PROCESS_BYTES + 4 * n_parameters + n_rows * cache_bytes(config, n_tokens)


def answers_at_once(config: ModelConfig, n_tokens: int) -> int:
    """How many rows of so many tokens, prompt included, are generated together."""
    fitting = int(MAX_CACHE_BYTES // cache_bytes(config, n_tokens))
    return max(1, min(MAX_ANSWERS_AT_ONCE, fitting))


def cache_bytes(config: ModelConfig, n_tokens: int) -> int:
    """The KV cache of one row: keys and values in float32."""
    n_tokens = max(1, min(n_tokens, config.context_length))
    return 2 * 4 * config.n_layers * config.n_kv_heads * config.head_size * n_tokens


def _largest_batch_bytes(config: ModelConfig, batches: Batches, dtype: str) -> int:
    bytes_per_token = config.emb_dim * config.n_layers * ACTIVATION_BYTES[dtype]
    bytes_per_target = LOGIT_BYTES * config.vocab_size
    return max(
        bytes_per_token * tokens + bytes_per_target * targets
        for tokens, targets in zip(batches.tokens, batches.targets, strict=True)
    )


def _optimizer_bytes(config: ModelConfig, optimizer: str, trained: int | None) -> int:
    """Muon is for the matrices of the blocks; AdamW trains everything else, and adapters."""
    if trained is not None:
        return trained * OPTIMIZER_BYTES["adamw"]
    n_parameters, in_blocks = count_parameters(config)
    others = n_parameters - in_blocks
    return others * OPTIMIZER_BYTES["adamw"] + in_blocks * OPTIMIZER_BYTES[optimizer]


# --- time ---------------------------------------------------------------------------------------
def step_seconds(
    config: ModelConfig,
    batches: Batches,
    dtype: str,
    device: torch.device,
    *,
    trained: int | None = None,
    muon_operations: int = 0,
    n_steps: int | None = None,
) -> float:
    """Seconds of an average training step on this machine, with as many threads as are set now.

    `trained` is the number of trained parameters if the model itself is frozen, `muon_operations`
    what Muon's update adds to a step. If `n_steps` of them take some seconds only, this is not
    measured but guessed.
    """
    n_parameters, in_blocks = count_parameters(config)
    tokens = sum(batches.tokens) / len(batches.tokens)
    targets = sum(batches.targets) / len(batches.targets)
    # Six operations per parameter and token (Kaplan et al. 2020, section 2.1), of which two compute
    # the gradient of the parameter itself.
    per_parameter = 6 if trained is None else 4
    products = per_parameter * (in_blocks * tokens + config.emb_dim * config.vocab_size * targets)
    if n_steps is not None and n_steps * products < OPERATIONS_OF_SHORT_RUNS:
        return products / USUAL_SPEED
    part = slice_speed(config, round(tokens), round(targets), dtype, device)
    speed = SHARE_OF_SLICE_SPEED[dtype] * part
    n_bytes = SOFTMAX_BYTES * config.vocab_size * targets + UPDATE_BYTES * (trained or n_parameters)
    return (products + muon_operations) / speed + n_bytes / adding_speed(device)


@lru_cache
def slice_speed(
    config: ModelConfig, tokens: int, targets: int, dtype: str, device: torch.device
) -> float:
    """Operations per second that a part of the model reaches here, forward and backward."""
    part = ModelSlice(config, tokens, targets, device)
    return part.operations / _seconds(partial(part.step, dtype))


@lru_cache
def adding_speed(device: torch.device) -> float:
    """Bytes read and written per second when an array is added to another one."""
    n = 2**23
    target = torch.zeros(n, device=device)
    source = torch.ones(n, device=device)

    def add() -> None:
        target.add_(source)
        target[0].item()  # waits for a GPU

    return 3 * target.nbytes / _seconds(add)


def _seconds(job: Callable[[], None]) -> float:
    """How long a job takes: the median of some tries, so that a pause of one says nothing."""
    job()  # the first time also loads libraries
    seconds = []
    end = time.perf_counter() + MEASURING_SECONDS
    while time.perf_counter() < end or len(seconds) < MIN_MEASUREMENTS:
        started = time.perf_counter()
        job()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


# --- for people ---------------------------------------------------------------------------------
def format_bytes(n: float) -> str:
    """A rounded size for people.

    >>> format_bytes(830e6), format_bytes(27.4e9)
    ('0.8 GB', '27 GB')
    """
    return f"{n / 1e9:.1f} GB" if n < 10e9 else f"{n / 1e9:.0f} GB"


def format_duration(seconds: float) -> str:
    """A rounded duration for people.

    >>> format_duration(0.2), format_duration(42), format_duration(700), format_duration(20_000)
    ('about a second', 'about 42 seconds', 'about 12 minutes', 'about 5.6 hours')
    """
    if seconds < 1.5:
        return "about a second"
    if seconds < 90:
        return f"about {seconds:.0f} seconds"
    if seconds < 5400:
        return f"about {seconds / 60:.0f} minutes"
    return f"about {seconds / 3600:.1f} hours"
