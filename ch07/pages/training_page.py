"""The page that follows a run while it trains: losses, answers, settings, in one file.

It is a file that loads itself again, not a server: a file needs no port and no second process, is
still there when the run has ended, and can be copied from a machine that nobody can reach.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ch07.evaluation.metrics import exact_match
from ch07.pages.one_file import one_file_page
from ch07.runs import run_folder
from ch07.runs.samples import Sample
from ch07.training.progress import History, seconds_left, tokens_per_second
from ch07.utils.atomic_files import write_bytes
from train_loop import is_flat_after_a_third

MAX_SAMPLES = 200  # the newest ones; all are in samples.jsonl
# What a run may be doing, in the words of the page.
TRAINING = "training"
FINISHED = "finished"
STOPPED = "stopped"
FAILED = "failed"


def training_page(
    name: str,
    history: History,
    samples: Sequence[Sample],
    *,
    n_steps: int,
    settings: Mapping[str, Any],
    state: str = TRAINING,
    note: str = "",
) -> str:
    """The page as HTML. `note` says what else there is to know of a run that has ended."""
    speeds = tokens_per_second(history)
    records = [{**record, "speed": speed} for record, speed in zip(history, speeds, strict=True)]
    run = {
        "name": name,
        "state": state,
        "note": note,
        "steps": n_steps,
        "logarithmic": _needs_log_axis(history),
        "secondsLeft": seconds_left(history, n_steps),
        "written": time.time(),
        "records": records,
        "samples": [_shown(sample) for sample in samples[-MAX_SAMPLES:]],
        "olderSamples": max(0, len(samples) - MAX_SAMPLES),
        "settings": dict(settings),
    }
    return one_file_page("training", {"run": run})


def _shown(sample: Sample) -> dict[str, Any]:
    """A sample, and whether its answer is right by the rule of the run's scores."""
    return {**sample, "isRight": exact_match(sample["answer"], sample["right"]) == 1}


def _needs_log_axis(history: History) -> bool:
    """Whether the loss starts on a logarithmic axis; the same rule as for loss.png."""
    columns = [[record[name] for record in history] for name in ("epoch", "train_loss", "val_loss")]
    return bool(history) and is_flat_after_a_third(*columns)


def write_training_page(folder: Path, page: str) -> Path:
    """Write a page as watch.html in a run's folder, in one visible step; returns its path."""
    write_bytes(folder / run_folder.WATCH, page.encode())
    return folder / run_folder.WATCH
