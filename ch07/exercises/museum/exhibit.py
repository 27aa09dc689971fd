"""What an exhibit of the museum is: wrong code, the exercise it answers, where it has been seen."""

import ast
import inspect
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Exhibit:
    """One mistake: `code` is a wrong answer to `exercise`, and the checker must say `diagnosis`."""

    exercise: str  # the name of the function or class that was asked for
    diagnosis: str  # the checker's word for the mistake
    seen: str  # one sentence: where it has been met
    url: str
    code: Callable

    @property
    def story(self):
        """What is wrong with it, in a sentence."""
        return " ".join(self.code.__doc__.split())

    @property
    def source(self):
        """The code without its label and its story, as a puzzle: find the bug."""
        text = inspect.getsource(self.code)
        lines, tree = text.splitlines(), ast.parse(text).body[0]
        label, story, first = tree.decorator_list[0], *tree.body[:2]
        start = min([first.lineno, *(mark.lineno for mark in getattr(first, "decorator_list", []))])
        lines = lines[label.end_lineno : story.lineno - 1] + lines[start - 1 :]
        return "\n".join(lines).replace(self.code.__name__, self.exercise)


def exhibit(exercise, diagnosis, seen, url):
    """A decorator that puts a wrong function or class behind glass: its name is an `Exhibit`."""
    return lambda code: Exhibit(exercise, diagnosis, seen, url, code)
