"""Exercises in a notebook: `check(your_function)`, `hint("name")`.

The one idea: the same diagnosis as in the terminal, on the object itself, with a time limit. The
code runs in the notebook's own process, since it may use whatever the notebook has defined.
"""

import _thread
import contextlib
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ch07.exercises.catalogue import find, hint
from ch07.exercises.checker import diagnose
from ch07.exercises.report import Report
from ch07.exercises.sandbox_limits import EXERCISE_SECONDS

__all__ = ["check", "hint"]


def check(function: Any, name: str | None = None, seconds: float = EXERCISE_SECONDS) -> Report:
    """The `Report` on a function or class, for the exercise with its name (or with `name`)."""
    name = find(name or getattr(function, "__name__", "")).name
    timed_out = threading.Event()
    try:
        with _time_limit(seconds, timed_out):
            report = diagnose(name, function)
    except KeyboardInterrupt:
        if not timed_out.is_set():  # the reader pressed Ctrl-C
            raise
        sentence = f"Your code did not finish within {seconds:g} seconds."
        return Report(name, "mistake", "endless", sentence)
    return replace(report, hint=f'A hint: hint("{name}")') if report.hint else report


@contextlib.contextmanager
def _time_limit(seconds: float, timed_out: threading.Event) -> Iterator[None]:
    """Interrupt this thread after so many seconds, as Ctrl-C would, if it is the main thread.

    The interruption is repeated every second: code that catches everything may swallow it.
    """
    finished = threading.Event()
    interrupting = threading.Lock()

    def interrupt() -> None:
        wait = seconds
        while not finished.wait(wait):
            with interrupting:  # so that nothing is interrupted once the code has finished
                if not finished.is_set():
                    timed_out.set()
                    _thread.interrupt_main()
            wait = 1.0

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can be interrupted
        return
    # a process in the background may ignore Ctrl-C, and with it this interruption
    ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    if ignored:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=interrupt, daemon=True).start()
    try:
        yield
    finally:
        with interrupting:
            finished.set()
        if ignored:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
