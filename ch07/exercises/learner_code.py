"""Calling a learner's code: whatever it does becomes a `Mistake`, never a traceback of ours.

The one idea: checks call a learner's function only through `call_function` or `try_call`.
"""

import importlib.util
import io
import sysconfig
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ch07.exercises.mistake import Mistake, NotStarted

ROOT = Path(__file__).resolve().parents[2]
WRITTEN_BY_LEARNERS = (
    ROOT / "ch07" / "exercises" / "stubs",
    ROOT / "ch07" / "exercises" / "museum",
)
MAX_MESSAGE = 300  # characters of an exception's message
MAX_LINE = 200  # characters of a line of code that a report quotes
MAX_PRINTED = 200  # characters of a learner's own output that a report repeats


@dataclass(frozen=True)
class KnownError:
    """An exception that a certain mistake is known by: its types, and words of its message."""

    types: tuple[type[BaseException], ...]
    words: tuple[str, ...]
    mistake: Mistake

    def matches(self, error: BaseException) -> bool:
        """Whether this is that exception."""
        message = _first_line(error)
        return isinstance(error, self.types) and any(word in message for word in self.words)


def call_function(
    function: Callable[..., Any],
    *arguments: Any,
    case: str = "",
    known: Sequence[KnownError] = (),
    **options: Any,
) -> Any:
    """What a learner's function returns; any exception becomes a `Mistake` with its line.

    `case` says what is special about these arguments, `known` names the mistakes behind certain
    exceptions. KeyboardInterrupt passes through.
    """
    try:
        return function(*arguments, **options)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # a stub raises at its first, plain call; learners may leave out a special case on purpose
        untouched = isinstance(error, NotImplementedError) and not _first_line(error)
        if untouched and not case and not options:
            raise NotStarted from error
        for known_error in known:
            if known_error.matches(error):
                raise known_error.mistake from error
        special = case or ", ".join(f"{name}={value}" for name, value in options.items())
        where = f"With {special}, your" if special else "Your"
        raise Mistake("raised", f"{where} code raised {describe_error(error)}.") from error


def try_call(
    function: Callable[..., Any], *arguments: Any, **options: Any
) -> tuple[Any, BaseException | None]:
    """(result, None) or (None, error), where an error can be correct. KeyboardInterrupt passes."""
    try:
        return function(*arguments, **options), None
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return None, error


def describe_error(error: BaseException) -> str:
    """An exception with the learner's own line: "IndexError: ... (line 12: x = y[3])"."""
    text = f"{type(error).__name__}: {_first_line(error) or 'no message'}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if _is_learner_code(frame.filename)
    ]
    if not frames:
        return text
    return f"{text} (line {frames[-1].lineno}: {quoted_line(frames[-1].line or '?')})"


def quoted_line(line: str) -> str:
    """A line of a learner's code as a sentence quotes it: its beginning, if it is very long."""
    line = line.strip()
    return line if len(line) <= MAX_LINE else f"{line[:MAX_LINE]} ..."


class PrintedText(io.StringIO):
    """The beginning of what a learner's code prints, even after that code has closed it."""

    def write(self, text: str) -> int:
        """Keep what there is room for."""
        super().write(text[: max(0, MAX_PRINTED - self.tell())])
        return len(text)

    def close(self) -> None:
        """Stay open."""


def _first_line(error: BaseException) -> str:
    """The first line of an exception's message; a learner's own exception class may be broken."""
    try:
        lines = str(error).strip().splitlines()
    except BaseException:
        return "its message can't be read"
    return lines[0][:MAX_MESSAGE] if lines else ""


def _library_folders() -> list[Path]:
    """Where Python, its packages and this project have their code."""
    folders = [Path(sysconfig.get_paths()[name]) for name in ("stdlib", "purelib", "platlib")]
    torch = importlib.util.find_spec("torch")
    if torch is not None and torch.origin is not None:
        folders.append(Path(torch.origin).parents[1])
    return [*folders, ROOT / "ch07", *ROOT.glob("*.py")]


LIBRARIES = _library_folders()


def _is_learner_code(filename: str) -> bool:
    """Whether a line of code is the learner's, not a library's and not this project's."""
    if filename.startswith("<frozen"):
        return False
    path = Path(filename)
    if any(path.is_relative_to(folder) for folder in WRITTEN_BY_LEARNERS):
        return True
    return not any(path.is_relative_to(library) for library in LIBRARIES)
