"""The exercises in their order, read from exercises.json: the one place where they are listed."""

import importlib
import importlib.util
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ch07.utils.errors import InputError

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Exercise:
    """One exercise: a function or class to write, named as in the book."""

    number: int
    name: str
    title: str
    minutes: int
    section: str  # of the book
    stub: str  # the name of its file in stubs/
    solution: str  # "module:name" in this project
    hints: tuple[str, ...]  # three, each saying more than the one before

    @property
    def stub_file(self) -> Path:
        """Where the stub is."""
        return HERE / "stubs" / self.stub


@lru_cache(maxsize=1)
def exercises() -> list[Exercise]:
    """All exercises, in order."""
    rows = json.loads((HERE / "exercises.json").read_text(encoding="utf-8"))
    return [
        Exercise(number, **{**row, "hints": tuple(row["hints"])})
        for number, row in enumerate(rows, start=1)
    ]


def find(name: str | int) -> Exercise:
    """The exercise with this name or number; ValueError lists the names if there is none."""
    for exercise in exercises():
        if str(name) in (exercise.name, str(exercise.number)):
            return exercise
    names = ", ".join(exercise.name for exercise in exercises())
    raise InputError(f"no exercise {str(name)!r}; choose one of {names}")


def hint(name: str | int, level: int = 1) -> str:
    """One of the three hints of an exercise; each says more than the one before."""
    hints = find(name).hints
    if not 1 <= level <= len(hints):
        raise InputError(f"level is {level}, but there are hints 1 to {len(hints)}")
    more = f" (more: level {level + 1})" if level < len(hints) else " (the last one)"
    return f"Hint {level} of {len(hints)}{more}: {hints[level - 1]}"


def solution(exercise: Exercise) -> Any:
    """The reference solution: the project's own function or class, so that the two can't differ."""
    module, name = exercise.solution.split(":")
    return getattr(importlib.import_module(module), name)


def solution_file(exercise: Exercise) -> Path:
    """The file of the reference solution, found without importing it."""
    module = exercise.solution.split(":")[0]
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no module {module}", name=module)
    return Path(spec.origin).resolve()
