"""Ctrl-C and its like as a question: a run ends where it can go on, not in the midst of a step."""

import signal
from contextlib import contextmanager

STOPPING = ("SIGINT", "SIGTERM", "SIGHUP")  # Ctrl-C, a system that shuts down, a lost terminal


@contextmanager
def polite_stop(note):
    """Gives a function that says whether to stop; a second Ctrl-C raises KeyboardInterrupt.

    A second SIGTERM does not: under torchrun each process may get it twice, once from torchrun.
    """
    asked = False

    def ask(number, frame):
        nonlocal asked
        again, asked = asked, True  # before anything that could fail
        if not again:
            note("\nstopping after this step (once more: at once) ...")
        elif number == signal.SIGINT:
            raise KeyboardInterrupt

    numbers = [getattr(signal, name) for name in STOPPING if hasattr(signal, name)]
    # what is ignored stays ignored: `nohup` would have it so
    numbers = [n for n in numbers if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
