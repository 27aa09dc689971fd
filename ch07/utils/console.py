"""Text that is safe to print: it can't control the terminal, and only one process prints it."""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

TERMINAL_WIDTH = 88  # columns of a line that is shortened


def terminal_safe(text: str) -> str:
    """`text` with every line made safe by `terminal_line`, none of them shortened."""
    return "\n".join(terminal_line(line, width=None) for line in text.split("\n"))


def json_text(value: Any) -> str:
    """Indented JSON: letters of every script stay readable, control characters are escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def terminal_line(text: str, width: int | None = TERMINAL_WIDTH) -> str:
    """One line of at most `width` columns with control characters escaped; None: any length."""
    escaped = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
    if width is None or len(escaped) <= width:
        return escaped
    return escaped[: width - 4] + " ..."


def shell_path(path: str | Path) -> str:
    r"""A path, or a name in its place, for a command that a reader pastes into a shell.

    It is quoted; control characters are escaped as bash and zsh read them; and a path that
    begins with a dash can't be taken for a flag.

    >>> print(shell_path("my runs/1"), shell_path("-x"), shell_path("a\nb"))
    'my runs/1' ./-x $'a\x0ab'
    """
    text = str(path)
    if text.startswith("-") and text != "-":  # a lone dash stands for standard input
        text = f"./{text}"
    if text.isprintable():
        return shlex.quote(text)
    return f"$'{''.join(map(_escaped_for_shell, text))}'"


def _escaped_for_shell(letter: str) -> str:
    if letter.isprintable() and letter not in "'\\":
        return letter
    # Python stores a byte of a name that is not UTF-8 as one of these half characters.
    is_byte = "\udc80" <= letter <= "\udcff"
    data = letter.encode("utf-8", "surrogateescape" if is_byte else "surrogatepass")
    return "".join(f"\\x{byte:02x}" for byte in data)


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
