r"""Stop strings in a text that is passed on while it is written: no part of one gets through.

The one idea: the end of what has come may be the beginning of a stop string ("\n" of "\n2."). So
the longest such end waits, until what follows shows whether it is one.
"""

from collections.abc import Callable, Sequence


class StopFilter:
    r"""Passes a text on, piece by piece, up to the first stop string, which is left out.

    >>> pieces = []
    >>> stop_filter = StopFilter(["\n2."], pieces.append)
    >>> for piece in ["1. Lime", "\n", "(green)", "\n", "2", ". Plum"]:
    ...     stop_filter.add(piece)
    >>> pieces, stop_filter.found
    (['1. Lime', '\n(green)'], '\n2.')
    """

    def __init__(self, stop: Sequence[str], on_text: Callable[[str], object]) -> None:
        self.found: str | None = None  # the stop string that ended the text
        self._stop = stop
        self._on_text = on_text
        self._held = ""  # not passed on yet: it may be the beginning of a stop string

    def add(self, text: str) -> None:
        """Take the next piece; what comes after a stop string is ignored."""
        if self.found is not None:
            return
        text = self._held + text
        places = {text.find(stop): stop for stop in reversed(self._stop)}
        places.pop(-1, None)
        if places:
            first = min(places)
            self.found = places[first]
            self._held = ""
            self._emit(text[:first])
            return
        n_held = max((_n_begun(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - n_held :]
        self._emit(text[: len(text) - n_held])

    def end(self) -> None:
        """No more text comes: pass on what waited."""
        held = self._held
        self._held = ""
        self._emit(held)

    def _emit(self, text: str) -> None:
        if text:
            self._on_text(text)


def _n_begun(text: str, stop: str) -> int:
    """How many characters at the end of the text are the beginning of the stop string."""
    for n in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:n]):
            return n
    return 0
