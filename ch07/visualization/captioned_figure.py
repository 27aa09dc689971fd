"""Pictures that say in words what they show: for notebooks, for files, for screen readers.

The one idea: whoever makes a picture writes its words beside it, so that the two travel together.
"""

import io


class DisplayedFigure:
    """What has a `figure()` and a `str` shows the picture in a notebook, the words elsewhere."""

    def png(self):
        """The picture as the bytes of a PNG file."""
        png = io.BytesIO()
        self.figure().savefig(png, format="png", dpi=110, metadata={"Software": None})
        return png.getvalue()

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"image/png": self.png(), "text/plain": str(self)}


class CaptionedFigure(DisplayedFigure):
    """A matplotlib Figure and the words that say the same.

    >>> print(Drawing(None, "two bars, 3 and 5"))
    two bars, 3 and 5
    """

    def __init__(self, figure, words):
        self._figure, self._words = figure, words

    def figure(self):
        """The Figure itself."""
        return self._figure

    def __str__(self):
        return self._words

    __repr__ = __str__
