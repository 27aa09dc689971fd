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
from functools import cache, partial
from typing import TypeVar

import torch

from ch07.utils.device import has_bfloat16_units

MEASURING_SECONDS = 0.25  # for each of the two choices
MIN_ROUNDS = 3
TRIES = 2  # so that one pause decides nothing
HOPELESS = 3.0  # a candidate that takes so many times as long in each try leaves the race
WORTHWHILE = 1.03  # a candidate that is listed later must be so many times as fast
AVAILABLE_THREADS = torch.get_num_threads()  # cores, or what OMP_NUM_THREADS says

Candidate = TypeVar("Candidate")
Clock = Callable[[], float]
Work = Callable[[str], None]  # computed once, in the number format that is given


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

    A first, untimed round loads libraries and compiles kernels. A candidate that is far slower in
    both of the next two rounds is not tried again.
    """
    for job in work.values():
        job()
    end = clock() + seconds
    times: dict[Candidate, list[float]] = {candidate: [] for candidate in work}
    in_the_race = list(work)
    rounds = 0
    while rounds < TRIES or (len(in_the_race) > 1 and (rounds < MIN_ROUNDS or clock() < end)):
        for candidate in in_the_race:
            times[candidate].append(_timed(work[candidate], clock))
        rounds += 1
        if rounds == TRIES:
            best = {candidate: min(tries) for candidate, tries in times.items()}
            limit = HOPELESS * min(best.values())
            in_the_race = [candidate for candidate in work if best[candidate] <= limit]
    return {c: statistics.median(tries) for c, tries in times.items()}


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
    make_work: Callable[[], Work],
    dtype: str = "auto",
    threads: int | None = None,
    clock: Clock = time.perf_counter,
) -> ComputeChoice:
    """The fastest number format and number of threads for a piece of work.

    `make_work()` is only called if something is left open; what it returns does the work once when
    called with a number format. A given `dtype` or number of threads is kept. Afterwards PyTorch
    has as many threads as before.
    """
    make_work = cache(make_work)  # the same for both choices
    reasons = []
    before = torch.get_num_threads()
    try:
        if threads is None:
            threads = AVAILABLE_THREADS
            if device.type == "cpu" and threads > 1:
                times = time_in_turns(_work_by_threads(make_work(), dtype), clock=clock)
                threads = fastest(times)
                reasons.append(_comparison(times, threads, "threads"))
        torch.set_num_threads(threads)
        if dtype == "auto":
            dtype = "float32"
            if has_bfloat16_units(device):
                times = time_in_turns(_work_by_dtype(make_work()), clock=clock)
                dtype = fastest(times)
                reasons.append(_comparison(times, dtype))
    finally:
        torch.set_num_threads(before)
    return ComputeChoice(dtype, threads, "; ".join(reasons))


def thread_counts(available: int) -> list[int]:
    """The numbers of threads worth trying: all, all but one, half, one.

    All but one leaves a core to a busy neighbour. Half is right where two of the cores that the
    system counts share one core's units.

    >>> thread_counts(2), thread_counts(8)
    ([2, 1], [8, 7, 4, 1])
    """
    counts = [available, available - 1, available // 2, 1]
    return [n for n in dict.fromkeys(counts) if n >= 1]


def _work_by_threads(work: Work, dtype: str) -> dict[int, Callable[[], None]]:
    number_format = "float32" if dtype == "auto" else dtype

    def work_with(n: int) -> None:
        torch.set_num_threads(n)
        work(number_format)

    return {n: partial(work_with, n) for n in thread_counts(AVAILABLE_THREADS)}


def _work_by_dtype(work: Work) -> dict[str, Callable[[], None]]:
    # float32 first: it is exact, so bfloat16 has to be faster to be taken
    return {dtype: partial(work, dtype) for dtype in ("float32", "bfloat16")}


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
