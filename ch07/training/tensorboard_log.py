"""A run's losses and answers as event files, which TensorBoard draws.

    pip install tensorboard==2.21.0
    tensorboard --logdir runs

The one idea: metrics.jsonl and samples.jsonl are the record, and an event file is a copy of it. A
run that is resumed writes its whole past into a new file and deletes the old one. So no step is
there twice or missing, whatever was lost and whenever the log was asked for.
"""

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from ch07.runs import run_folder
from ch07.runs.samples import Sample
from ch07.training.progress import History, tokens_per_second
from ch07.utils.dependencies import import_optional

SPLITS = {"train": "training", "val": "validation"}


def import_tensorboard() -> ModuleType:
    """PyTorch's writer of event files; MissingPackage says how to install what it needs."""
    purpose = "writing event files (--log tensorboard)"
    return import_optional("torch.utils.tensorboard", purpose, "tensorboard==2.21.0")


class TensorBoardLog:
    """Writes one run's event files; each evaluation is on the disk when `add` returns."""

    def __init__(self, folder: Path, history: History, samples: Sequence[Sample]) -> None:
        writer = import_tensorboard().SummaryWriter
        old_files = list((folder / run_folder.EVENTS).glob("events.out.tfevents.*"))
        # A TensorBoard that has read the old file forgets it: all that it said of step 0 and later.
        self._writer = writer(str(folder / run_folder.EVENTS), purge_step=0)
        seconds = history[-1]["seconds"] if history else 0.0
        self._started = time.time() - seconds  # TensorBoard's "relative time" is training time
        by_step = {sample["step"]: sample for sample in samples}
        for n in range(1, len(history) + 1):
            self._write(history[max(0, n - 2) : n], by_step.get(history[n - 1]["step"]))
        self._writer.flush()
        for file in old_files:
            file.unlink()

    def add(self, history: History, sample: Sample | None) -> None:
        """Write the last record of a history, and the answer of that evaluation."""
        self._write(history, sample)
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()

    def _write(self, history: History, sample: Sample | None) -> None:
        """Write the last record; of those before it, only the last one is needed."""
        record = history[-1]
        when = {"global_step": record["step"], "walltime": self._started + record["seconds"]}
        values = {**scalars(record), "tokens_per_second": tokens_per_second(history[-2:])[-1]}
        for tag, value in values.items():
            if value is not None:
                self._writer.add_scalar(tag, value, **when)
        if sample is not None:
            self._writer.add_text("answer", as_markdown(sample), **when)


def scalars(record: Mapping[str, Any]) -> dict[str, float | None]:
    """The numbers of a record that are drawn, under the names of TensorBoard's charts.

    >>> scalars({"step": 5, "lr": 0.1, "train_loss": 2.0, "val_loss": None})
    {'learning_rate': 0.1, 'loss/training': 2.0, 'loss/validation': None}
    """
    numbers = {"learning_rate": record["lr"]}
    for name, value in record.items():
        split, _, what = name.partition("_")
        if split in SPLITS:
            numbers[f"{what}/{SPLITS[split]}"] = value
    return numbers


def as_markdown(sample: Sample) -> str:
    """Question and answer as indented lines, which TensorBoard shows as they are."""
    lines = [f"question: {sample['question']}", f"answer:   {sample['answer']}"]
    return "".join(f"    {line}\n" for text in lines for line in re.split(r"\r\n|\r|\n", text))
