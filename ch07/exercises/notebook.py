"""Exercises in a notebook: `check(your_function)`, `hint("name")`.

The one idea: the same diagnosis as in the terminal, on the object itself, with a time limit. The
code runs in the notebook's own process, since it may use whatever the notebook holds.
"""

import _thread
import contextlib
import signal
import threading
from dataclasses import replace

from ch07.exercises.catalogue import find
from ch07.exercises.checker import diagnose
from ch07.exercises.report import Report


def check(function, name=None, seconds=10.0):
    """The `Report` on a function or class, for the exercise of its name (or of `name`)."""
    name = find(name or getattr(function, "__name__", "")).name
    over = threading.Event()
    try:
        with _limit(seconds, over):
            report = diagnose(name, function)
    except KeyboardInterrupt:
        if not over.is_set():  # the reader's own
            raise
        sentence = f"Your code did not come to an end within {seconds:g} seconds."
        return Report(name, "mistake", "endless", sentence)
    return replace(report, hint=f'A hint: hint("{name}")') if report.hint else report


def hint(name, level=1):
    """One of the three hints of an exercise; each says more than the one before."""
    hints = find(name).hints
    if not 1 <= level <= len(hints):
        raise ValueError(f"level is {level}, but there are hints 1 to {len(hints)}")
    more = f" (more: level {level + 1})" if level < len(hints) else " (the last one)"
    return f"Hint {level} of {len(hints)}{more}: {hints[level - 1]}"


@contextlib.contextmanager
def _limit(seconds, over):
    """Interrupt this thread after so many seconds, if it is the main one, as Ctrl-C would.

    Once more each second after that: code that catches everything may swallow the first ones.
    """
    done, busy = threading.Event(), threading.Lock()

    def interrupt():
        wait = seconds
        while not done.wait(wait):
            with busy:  # so that nothing is interrupted once it is done
                if not done.is_set():
                    over.set()
                    _thread.interrupt_main()
            wait = 1.0

    if threading.current_thread() is not threading.main_thread():
        yield  # nothing can interrupt it
        return
    # a process in the background may ignore Ctrl-C, and with it this interruption
    ignoring = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    if ignoring:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=interrupt, daemon=True).start()
    try:
        yield
    finally:
        with busy:
            done.set()
        if ignoring:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
