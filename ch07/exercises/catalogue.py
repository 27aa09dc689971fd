"""The exercises in their order, read from exercises.json: the one place where they are listed."""

import importlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Exercise:
    """One exercise: a function or class to be written, named as in the book."""

    number: int
    name: str
    title: str
    minutes: int
    section: str  # of the book
    stub: str  # file in stubs/
    solution: str  # module:name in this project
    hints: tuple  # three, each saying more than the last

    @property
    def stub_file(self):
        """Where the stub stands."""
        return HERE / "stubs" / self.stub


@lru_cache(maxsize=1)
def exercises():
    """All exercises, in order."""
    rows = json.loads((HERE / "exercises.json").read_text(encoding="utf-8"))
    return [
        Exercise(number, **{**row, "hints": tuple(row["hints"])})
        for number, row in enumerate(rows, start=1)
    ]


def find(name):
    """The exercise of that name or number; ValueError lists the names there are."""
    for exercise in exercises():
        if str(name) in (exercise.name, str(exercise.number)):
            return exercise
    names = ", ".join(exercise.name for exercise in exercises())
    raise ValueError(f"no exercise {str(name)!r}; choose one of {names}")


def solution(exercise):
    """The project's own code for an exercise, so that solutions can't drift."""
    module, name = exercise.solution.split(":")
    return getattr(importlib.import_module(module), name)
