"""What a checker can find: a mistake with its name, its sentence, and a table of what differs.

The one idea: a checker calls a learner's code only through `call`, so that whatever that code
does becomes an answer, never a traceback of the checker's own.
"""

import sysconfig
import traceback
from dataclasses import dataclass
from pathlib import Path

import torch

from collate import END_OF_TEXT
from train_loop import IGNORE_INDEX

SHOWN = {END_OF_TEXT: "END", IGNORE_INDEX: "·"}
WIDEST = 12  # columns of a table
MOST_ROWS = 6
LONGEST = 600, 4000  # letters of a sentence, of a table
ROOT = Path(__file__).resolve().parents[2]
NOT_OURS = (ROOT / "ch07" / "exercises" / "stubs", ROOT / "ch07" / "exercises" / "museum")
LIBRARIES = [Path(sysconfig.get_paths()[name]) for name in ("stdlib", "purelib", "platlib")]
LIBRARIES += [Path(torch.__file__).parents[1], ROOT / "ch07", *ROOT.glob("*.py")]


class NotStarted(Exception):
    """The stub still raises NotImplementedError."""


class Mistake(Exception):
    """One mistake: `diagnosis` is its name, `sentence` what is wrong and what follows from it."""

    def __init__(self, diagnosis, sentence, table=""):
        super().__init__(sentence)
        self.diagnosis = diagnosis
        self.sentence, self.table = (
            text if len(text) <= n else f"{text[:n]} ..."
            for text, n in zip((sentence, table), LONGEST, strict=True)
        )


@dataclass(frozen=True)
class Report:
    """The answer to one exercise: "passed", "mistake" or "not started"."""

    exercise: str
    status: str
    diagnosis: str = ""
    sentence: str = ""
    table: str = ""
    printed: str = ""  # what the learner's code wrote while it was checked
    hint: str = ""  # how to go on

    @property
    def ok(self):
        """True if nothing was found."""
        return self.status == "passed"

    def __str__(self):
        signs = {"passed": "✓", "mistake": "✗", "not started": "·"}
        lines = [f"{signs[self.status]} {self.exercise}: {self.sentence or self.status}"]
        if self.table:
            lines += ["", *(f"  {line}".rstrip() for line in self.table.splitlines()), ""]
        if self.printed:
            lines.append(f"  Your code prints, which is fine for looking: {self.printed!r}")
        if self.hint:
            lines.append(f"  {self.hint}")
        return "\n".join(lines)

    __repr__ = __str__


def call_function(function, *arguments, case="", known=(), **options):
    """What a learner's function returns; whatever it raises is a `Mistake`, with its line.

    `case` says what is special about these arguments. `known` holds triples (error type, words of
    its message, Mistake) for errors that a certain mistake is known by. Ctrl-C passes through.
    """
    try:
        return function(*arguments, **options)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        text = _message(error)
        first = not case and not options  # later cases may be left open in what is half done
        if isinstance(error, NotImplementedError) and not text and first:
            raise NotStarted from error
        for kind_of_error, words, mistake in known:
            if isinstance(error, kind_of_error) and any(word in text for word in words):
                raise mistake from error
        special = case or ", ".join(f"{name}={value}" for name, value in options.items())
        where = f"On {special}, your" if special else "Your"
        raise Mistake("raised", f"{where} code raised {describe_error(error)}.") from error


def try_call(function, *arguments, **options):
    """(result, None) or (None, error): for what should be refused. Ctrl-C passes through."""
    try:
        return function(*arguments, **options), None
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return None, error


def describe_error(error):
    """An exception with the learner's own line: "IndexError: ... (line 12: x = y[3])"."""
    text = f"{type(error).__name__}: {_message(error) or 'no message'}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if _is_learners(f.filename)]
    if not frames:
        return text
    return f"{text} (line {frames[-1].lineno}: {frames[-1].line or '?'})"


def _message(error):
    """The first line of an exception's message, which may itself be broken code."""
    try:
        return (str(error).strip().splitlines() or [""])[0][:300]
    except BaseException:
        return "its message can't be read"


def _is_learners(filename):
    """Whether a line of code is the learner's, not a library's and not this project's."""
    if filename.startswith("<frozen"):
        return False
    path = Path(filename)
    if any(path.is_relative_to(folder) for folder in NOT_OURS):
        return True
    return not any(path.is_relative_to(library) for library in LIBRARIES)


def expect(condition, diagnosis, sentence, table=""):
    """Raise the `Mistake` unless the condition holds; `table` may be a function that makes it."""
    if not condition:
        raise Mistake(diagnosis, sentence, table() if callable(table) else table)


def same(a, b, tolerance=1e-4):
    """Whether two tensors have one shape and, within `tolerance`, the same numbers."""
    return a.shape == b.shape and torch.allclose(a.double(), b.double(), atol=tolerance, rtol=0)


def comparison_table(name, returned, expected):
    """Two (B, T) tensors as text, cells that differ in [brackets].

    >>> print(compared("targets", torch.tensor([[1, -100]]), torch.tensor([[1, 50256]])))
    targets: returned ([x] differs), then expected
    row 0      1     [·]
    <BLANKLINE>
    row 0      1    END
    """
    lines = [f"{name}: returned ([x] differs), then expected"]
    lines += [*_rows(returned, expected), "", *_rows(expected, expected)]
    return "\n".join(lines)


def _rows(tensor, other):
    lines = []
    for i, row in enumerate(tensor.tolist()[:MOST_ROWS]):
        words = []
        for j, value in enumerate(row[:WIDEST]):
            word = f"{value:.3f}" if isinstance(value, float) else str(SHOWN.get(value, value))
            inside = i < other.shape[0] and j < other.shape[1]
            differs = not inside or not abs(other[i, j].item() - value) < 1e-4
            words.append(f"[{word}]" if differs else f"{word} ")
        rest = " ..." if len(row) > WIDEST else ""
        lines.append((f"row {i} " + "".join(f"{word:>7}" for word in words) + rest).rstrip())
    return lines
