"""What a family of toy tasks is made of: a task drawn at random, and the phrasings that ask for it.

The one idea: every drawn task has a key that says what it is composed of, and no key is shared
between training and held-out entries.
"""

import random
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple

Slots = Mapping[str, str | int]  # what fills the {fields} of a phrasing
Phrasing = tuple[
    str, str
]  # instruction and input; if the input is empty, all is in the instruction
Fact = tuple[Slots, str]  # what is asked, and the answer


class DrawnTask(NamedTuple):
    """One task, without the words that ask for it."""

    slots: Slots
    answer: str
    key: Hashable  # what it is composed of


TaskFamily = tuple[Callable[[random.Random], DrawnTask], Sequence[Phrasing]]
FactFamily = tuple[Sequence[Fact], Sequence[Phrasing]]
