"""What a checker can find: a mistake with its name, its sentence, and a table of what differs.

The one idea: a checker calls a learner's code only through `call`, so that whatever that code
does becomes an answer, never a traceback of the checker's own.
"""

import traceback
from dataclasses import dataclass

import torch

SHOWN = {50256: "END", -100: "·"}
WIDEST = 12  # columns of a table
MOST_ROWS = 6


class NotStarted(Exception):
    """The stub still raises NotImplementedError."""


class Mistake(Exception):
    """One mistake: `diagnosis` is its name, `sentence` what is wrong and what follows from it."""

    def __init__(self, diagnosis, sentence, table=""):
        super().__init__(sentence)
        self.diagnosis, self.sentence, self.table = diagnosis, sentence, table


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
            lines += ["", *(f"  {line}" for line in self.table.splitlines()), ""]
        if self.printed:
            lines.append(f"  Your code prints, which is fine for looking: {self.printed!r}")
        if self.hint:
            lines.append(f"  {self.hint}")
        return "\n".join(lines)

    __repr__ = __str__


def call(function, *arguments, case="", known=(), **options):
    """What a learner's function returns; whatever it raises is a `Mistake`, with its line.

    `case` says what is special about these arguments. `known` holds pairs ((words of an error
    message, ...), Mistake) for errors that a certain mistake is known by.
    """
    try:
        return function(*arguments, **options)
    except (Exception, SystemExit) as error:
        if isinstance(error, NotImplementedError) and not str(error):  # torch's have a message
            raise NotStarted from error
        for words, mistake in known:
            if any(word in str(error) for word in words):
                raise mistake from error
        where = f" {case}," if case else ""
        raise Mistake(
            "raised",
            f"On{where} your code raised {described(error)}."
            if where
            else f"Your code raised {described(error)}.",
        ) from error


def described(error):
    """An exception with the learner's own line: "IndexError: ... (line 12: x = y[3])"."""
    text = f"{type(error).__name__}: {str(error).strip() or 'no message'}".splitlines()[0]
    frames = traceback.extract_tb(error.__traceback__)[1:]  # the first is `call`
    called = [frame for frame in frames if not frame.filename.startswith("<frozen")]
    own = [frame for frame in called if frame.filename == called[0].filename]
    if not own:
        return text
    return f"{text[:300]} (line {own[-1].lineno}: {own[-1].line or '?'})"


def expect(condition, diagnosis, sentence, table=""):
    """Raise the `Mistake` unless the condition holds; `table` may be a function that makes it."""
    if not condition:
        raise Mistake(diagnosis, sentence, table() if callable(table) else table)


def same(a, b, tolerance=1e-4):
    """Whether two tensors have one shape and, within `tolerance`, the same numbers."""
    return a.shape == b.shape and torch.allclose(a.double(), b.double(), atol=tolerance, rtol=0)


def compared(name, returned, expected):
    """Two (B, T) tensors as text, cells that differ in [brackets].

    >>> print(compared("targets", torch.tensor([[1, -100]]), torch.tensor([[1, 50256]])))
    targets: returned ([x] differs), then expected
    row 0    1  [·]
    <BLANKLINE>
    row 0    1  END
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
