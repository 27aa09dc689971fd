"""How a run is getting on, worked out from the records of its evaluations alone.

A record's `seconds` count training only, over all parts of a run that was interrupted; so no clock
is read here, and a resumed run says the same as one that was never stopped.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ch07.models.resource_estimate import format_duration

History = Sequence[Mapping[str, Any]]  # of a run: a record per evaluation


def seconds_left(history: History, n_steps: int) -> float | None:
    """How long the steps that are left will take, at the mean speed so far; None before a step."""
    if not history or history[-1]["step"] == 0:
        return None
    last = history[-1]
    return last["seconds"] / last["step"] * (n_steps - last["step"])


def tokens_per_second(history: History) -> list[float | None]:
    """For each record, the tokens trained on per second since the record before it.

    None for the first one, where no time has passed, and for pairs, whose tokens aren't counted.

    >>> tokens_per_second([{"tokens_seen": 0, "seconds": 0.0}, {"tokens_seen": 90, "seconds": 3.0}])
    [None, 30.0]
    """
    speeds: list[float | None] = [None] * len(history)
    for i in range(1, len(history)):
        before = history[i - 1]
        now = history[i]
        seconds = now["seconds"] - before["seconds"]
        if now["tokens_seen"] is not None and seconds > 0:
            speeds[i] = (now["tokens_seen"] - before["tokens_seen"]) / seconds
    return speeds


def progress_line(history: History, n_steps: int, *, with_time: bool) -> str:
    """The last evaluation in a line; `with_time` adds the time left, where no bar shows it.

    >>> record = {"step": 5, "seconds": 10.0, "train_loss": 1.5, "val_loss": None}
    >>> progress_line([record], 20, with_time=True)
    'step 5 of 20: training loss 1.500, about 30 seconds left'
    """
    record = history[-1]
    line = f"step {record['step']} of {n_steps}: training loss {record['train_loss']:.3f}"
    if record["val_loss"] is not None:
        line += f", validation loss {record['val_loss']:.3f}"
    left = seconds_left(history, n_steps)
    if with_time and left:
        line += f", {format_duration(left)} left"
    return line
