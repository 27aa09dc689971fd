"""Text that is safe to print: it can't control the terminal, and only one process prints it."""

import json
import sys
from typing import Any

TERMINAL_WIDTH = 88  # columns of a line that is shortened


def terminal_safe(text: str) -> str:
    """`text` with every line made safe by `terminal_line`, none of them shortened."""
    return "\n".join(terminal_line(line, width=None) for line in text.split("\n"))


def json_text(value: Any) -> str:
    """Indented JSON: letters of every script stay readable, control characters are escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return "".join(c if c.isprintable() or c == "\n" else f"\\u{ord(c):04x}" for c in text)


def terminal_line(text: str, width: int | None = TERMINAL_WIDTH) -> str:
    """One line of at most `width` columns with control characters escaped; None: any length."""
    escaped = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
    if width is None or len(escaped) <= width:
        return escaped
    return escaped[: width - 4] + " ..."


def log_rank0(text: str) -> None:
    """Print progress or a note to standard error, from the first process only."""
    from ch07.utils import distributed  # here: it imports torch, which many commands don't need

    if distributed.get_rank() == 0:
        print(terminal_safe(text), file=sys.stderr, flush=True)


def count(n: int, noun: str) -> str:
    """A number with its noun.

    >>> count(1, "row"), count(2, "row")
    ('1 row', '2 rows')
    """
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
