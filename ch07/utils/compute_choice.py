"""Number format and number of threads: measured on this machine, not read from a list of features.

The one idea: a processor that has bfloat16 units may still multiply faster in float32, and a second
thread helps only if a core is free for it. So each candidate computes the same small piece of work
in turns with the others, and the fastest is taken. Both choices are recorded with a run, since
rounding depends on them; a resumed run computes as it began.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TypeVar

import torch
import torch.nn.functional as F

from ch07.utils.device import has_bfloat16_units

MEASURING_SECONDS = 0.25  # for each of the two choices
MIN_ROUNDS = 3
HOPELESS = 3.0  # a candidate that takes so many times as long in the first round leaves the race
WORTHWHILE = 1.03  # a candidate that is listed later must be so many times as fast
OPERATIONS = 8e8  # of one piece of work: 5 to 30 ms on a core of a laptop
MIN_TOKENS = 128  # of a piece of work: with fewer, reading the weights takes most of the time
MAX_WIDTH = 768  # of a piece of work; wider models differ little from it
AVAILABLE_THREADS = torch.get_num_threads()  # cores, or what OMP_NUM_THREADS says

Candidate = TypeVar("Candidate")
Clock = Callable[[], float]


@dataclass(frozen=True)
class ComputeChoice:
    """How matrix products are computed, and why."""

    dtype: str  # "float32" or "bfloat16"
    threads: int
    reason: str = ""  # what was measured, in words; empty if nothing was


def time_in_turns(
    work: Mapping[Candidate, Callable[[], None]],
    seconds: float = MEASURING_SECONDS,
    clock: Clock = time.perf_counter,
) -> dict[Candidate, float]:
    """The median seconds of each candidate's work, done in turns until `seconds` have passed.

    The first round only warms up. A candidate that is far slower in it is not tried again.
    """
    times: dict[Candidate, list[float]] = {candidate: [] for candidate in work}
    first = {candidate: _timed(job, clock) for candidate, job in work.items()}
    fastest = min(first.values())
    in_the_race = [c for c in work if first[c] <= HOPELESS * fastest]
    end = clock() + seconds
    rounds = 0
    while len(in_the_race) > 1 and (rounds < MIN_ROUNDS or clock() < end):
        for candidate in in_the_race:
            times[candidate].append(_timed(work[candidate], clock))
        rounds += 1
    return {c: statistics.median(times[c] or [first[c]]) for c in work}


def _timed(job: Callable[[], None], clock: Clock) -> float:
    started = clock()
    job()
    return clock() - started


def fastest(times: Mapping[Candidate, float]) -> Candidate:
    """The first candidate that no other beats by more than a few per cent.

    Candidates are listed by preference, so a tie is decided in the same way each time.

    >>> fastest({"float32": 1.01, "bfloat16": 1.0})
    'float32'
    >>> fastest({"float32": 1.5, "bfloat16": 1.0})
    'bfloat16'
    """
    best = min(times.values())
    return next(c for c, seconds in times.items() if seconds <= WORTHWHILE * best)


# --- the two choices ------------------------------------------------------------------------------


def choose_compute(
    device: torch.device,
    width: int,
    tokens: int,
    dtype: str = "auto",
    threads: int | None = None,
    clock: Clock = time.perf_counter,
) -> ComputeChoice:
    """The fastest number format and number of threads for a model of this width.

    `tokens` is the usual number of tokens of a batch. A given `dtype` or number of threads is
    kept. Afterwards PyTorch has as many threads as before.
    """
    reasons = []
    before = torch.get_num_threads()
    try:
        if threads is None:
            threads = AVAILABLE_THREADS
            if device.type == "cpu" and threads > 1:
                times = time_in_turns(_work_by_threads(width, tokens, dtype), clock=clock)
                threads = fastest(times)
                reasons.append(_comparison(times, threads, "threads"))
        torch.set_num_threads(threads)
        if dtype == "auto":
            dtype = "float32"
            if has_bfloat16_units(device):
                times = time_in_turns(_work_by_dtype(device, width, tokens), clock=clock)
                dtype = fastest(times)
                reasons.append(_comparison(times, dtype))
    finally:
        torch.set_num_threads(before)
    return ComputeChoice(dtype, threads, "; ".join(reasons))


@lru_cache
def cached_choice(
    device: torch.device, width: int, tokens: int, dtype: str, threads: int | None
) -> ComputeChoice:
    """`choose_compute`, measured once in a process for the same question."""
    return choose_compute(device, width, tokens, dtype, threads)


def use_fastest_threads(device: torch.device, width: int, rows: int) -> None:
    """Let PyTorch answer prompts with the number of threads that is fastest at present.

    `rows` is how many prompts are answered at once. For work whose last bits nobody compares.
    """
    torch.set_num_threads(choose_compute(device, width, rows, dtype="float32").threads)


def thread_counts(available: int) -> list[int]:
    """The numbers of threads worth trying: all, all but one, half, one.

    All but one leaves a core to a busy neighbour. Half is right where two of the cores that the
    system counts share one core's units.

    >>> thread_counts(2), thread_counts(8)
    ([2, 1], [8, 7, 4, 1])
    """
    counts = [available, available - 1, available // 2, 1]
    return [n for n in dict.fromkeys(counts) if n >= 1]


def _work_by_threads(width: int, tokens: int, dtype: str) -> dict[int, Callable[[], None]]:
    layer = FeedForwardWork(torch.device("cpu"), width, tokens)
    number_format = "float32" if dtype == "auto" else dtype

    def work(n: int) -> None:
        torch.set_num_threads(n)
        layer.step(number_format)

    return {n: partial(work, n) for n in thread_counts(AVAILABLE_THREADS)}


def _work_by_dtype(device: torch.device, width: int, tokens: int) -> dict[str, Callable[[], None]]:
    layer = FeedForwardWork(device, width, tokens)
    # float32 first: it is exact, so bfloat16 has to be faster to be taken
    return {dtype: partial(layer.step, dtype) for dtype in ("float32", "bfloat16")}


class FeedForwardWork:
    """The work that is timed: one feed-forward layer, forward and backward.

    Most of a training step is such layers: matrix products, with a GELU in between that shows what
    it costs to start threads, and under autocast the conversion of weights. Six operations per
    weight and token; of so many tokens at most that it takes some milliseconds.
    """

    def __init__(self, device: torch.device, width: int, tokens: int | None = None) -> None:
        width = min(width, MAX_WIDTH)
        n_weights = 8 * width * width
        affordable = int(OPERATIONS / (6 * n_weights))
        n = max(MIN_TOKENS, affordable)
        if tokens is not None:
            n = min(n, max(1, tokens))
        generator = torch.Generator().manual_seed(0)

        def drawn(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=generator).to(device)

        self.operations = 6 * n_weights * n  # of a step
        self.device = device
        self.x = drawn(n, width).requires_grad_()
        self.up = drawn(4 * width, width).requires_grad_()
        self.down = drawn(width, 4 * width).requires_grad_()

    def step(self, dtype: str) -> None:
        """Compute the layer and all its gradients; returns when a GPU has finished."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
            y = F.linear(F.gelu(F.linear(self.x, self.up), approximate="tanh"), self.down)
        gradients = torch.autograd.grad(y.sum(), [self.x, self.up, self.down])
        gradients[0][0, 0].item()  # reading a number waits for a GPU


def _comparison(times: Mapping[Candidate, float], chosen: Candidate, unit: str = "") -> str:
    """What was measured, as "1 thread: 0.4 times as fast".

    >>> _comparison({2: 1.0, 1: 2.5}, 2, "threads")
    '1 thread: 0.4 times as fast'
    """
    parts = []
    for candidate, seconds in times.items():
        if candidate != chosen:
            name = str(candidate)
            if unit:
                name += f" {unit if candidate != 1 else unit.removesuffix('s')}"
            parts.append(f"{name}: {times[chosen] / seconds:.2g} times as fast")
    return ", ".join(parts)
