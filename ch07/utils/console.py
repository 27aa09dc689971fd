"""Text for terminals: nothing in it may steer the terminal, and only one process prints."""

import json
import sys

TERMINAL_WIDTH = 88  # columns of a before-and-after line


def terminal_safe(text):
    """Text of several lines, each of them `terminal_line`, none of them shortened."""
    return "\n".join(terminal_line(line, width=None) for line in text.split("\n"))


def json_text(value):
    """Indented JSON with letters of all scripts as they are, and nothing that steers a terminal."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return "".join(c if c.isprintable() or c == "\n" else f"\\u{ord(c):04x}" for c in text)


def terminal_line(text, width=TERMINAL_WIDTH):
    """One line that a terminal can be trusted with: control characters are shown, not sent."""
    shown = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
    return shown if width is None or len(shown) <= width else shown[: width - 4] + " ..."


def log_rank0(text):
    """Progress and notes go to standard error, of the first process alone."""
    from ch07.utils import distributed  # here, since it imports torch, which many commands don't

    if distributed.get_rank() == 0:
        print(terminal_safe(text), file=sys.stderr, flush=True)
