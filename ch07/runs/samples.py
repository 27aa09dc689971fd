"""samples.jsonl of a run: what the model answered to one held-out question at each evaluation.

The one idea: like metrics.jsonl, the file is written whole at each evaluation, and before the
checkpoint that counts this evaluation. So for each evaluation of a checkpoint it has one line, and
a resumed run, which keeps those lines and no other, neither repeats nor loses one.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

from ch07.runs import run_folder
from ch07.utils.atomic_files import write_jsonl
from ch07.utils.errors import InputError, RunFolderError
from ch07.utils.plain_files import read_plain
from ch07.utils.validation import has_lone_surrogate


class Sample(TypedDict):
    """One line of the file."""

    step: int
    question: str
    right: str  # what the data has for an answer, or how the held-out text continues
    answer: str  # the model's
    stopped: str  # why the answer ends: "end", "length" or "context"


def save_samples(folder: Path, samples: Sequence[Sample]) -> None:
    """Write samples.jsonl: one line per evaluation."""
    write_jsonl(folder / run_folder.SAMPLES, samples)


def read_samples(folder: str | Path) -> list[Sample]:
    """The samples of a run in order of steps, none without a file; RunFolderError if it's bad."""
    path = Path(folder) / run_folder.SAMPLES
    if not path.exists():
        return []
    try:
        *lines, rest = read_plain(path).decode("utf-8").split("\n")
        if rest:
            raise InputError(f"line {len(lines) + 1} is not complete")
        samples = [json.loads(line) for line in lines]
        _check_samples(samples)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise RunFolderError(f"{path} can't be read: {error}") from None
    return samples


def _check_samples(samples: Sequence[Any]) -> None:
    """InputError for the first line that no run can have written, or that is out of order."""
    step_before = -1
    for number, sample in enumerate(samples, start=1):
        if not isinstance(sample, dict) or set(sample) != set(Sample.__annotations__):
            raise InputError(f"line {number} is not a sample")
        texts = [value for name, value in sample.items() if name != "step"]
        if type(sample["step"]) is not int or not all(isinstance(text, str) for text in texts):
            raise InputError(f"line {number} has a value of the wrong type")
        if any(has_lone_surrogate(text) for text in texts):
            raise InputError(f"line {number} contains half a character (a lone surrogate)")
        if sample["step"] <= step_before:
            raise InputError(f"line {number} doesn't follow the one before it")
        step_before = sample["step"]
