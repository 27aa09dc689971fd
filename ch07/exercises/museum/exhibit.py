"""What an exhibit of the museum is: wrong code, the exercise it answers, where it has been seen."""

import ast
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Exhibit:
    """One mistake: `code` is a wrong answer to `exercise`, and the checker must say `diagnosis`."""

    exercise: str  # the name of the function or class that was asked for
    diagnosis: str  # the checker's name for the mistake
    seen: str  # one sentence: where it, or a close relative, has been seen
    url: str
    code: Callable[..., Any]

    @property
    def story(self) -> str:
        """What is wrong with it, in one sentence."""
        return " ".join((self.code.__doc__ or "").split())

    @property
    def source(self) -> str:
        """The code without its label and its story, as a puzzle: find the bug."""
        text = inspect.getsource(self.code)
        definition = ast.parse(text).body[0]
        assert isinstance(definition, ast.FunctionDef | ast.ClassDef)
        label = definition.decorator_list[0]
        story = definition.body[0]
        after_story = story.end_lineno or story.lineno
        lines = text.splitlines()
        header = lines[label.end_lineno : story.lineno - 1]
        body = lines[after_story:]
        while body and not body[0].strip():
            del body[0]
        return "\n".join(header + body).replace(self.code.__name__, self.exercise)


def exhibit(
    exercise: str, diagnosis: str, seen: str, url: str
) -> Callable[[Callable[..., Any]], Exhibit]:
    """A decorator that makes an `Exhibit` of a wrong function or class, under the same name."""

    def label(code: Callable[..., Any]) -> Exhibit:
        return Exhibit(exercise, diagnosis, seen, url, code)

    return label
