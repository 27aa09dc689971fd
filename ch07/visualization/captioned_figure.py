"""Figures with a text alternative: for notebooks, for files, for screen readers.

The one idea: the code that draws a figure also writes its description, so the two stay together.
"""

import io
from collections.abc import Collection

from matplotlib.figure import Figure


class DisplayedFigure:
    """Base class: a notebook shows the figure of `figure()`, other places the text of `str`."""

    def figure(self) -> Figure:
        """The matplotlib Figure."""
        raise NotImplementedError

    def png(self) -> bytes:
        """The figure as the bytes of a PNG file."""
        png = io.BytesIO()
        self.figure().savefig(png, format="png", dpi=110, metadata={"Software": None})
        return png.getvalue()

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, bytes | str]:
        return {"image/png": self.png(), "text/plain": str(self)}


class CaptionedFigure(DisplayedFigure):
    """A matplotlib Figure and a caption that describes it.

    >>> print(CaptionedFigure(Figure(), "two bars, 3 and 5"))
    two bars, 3 and 5
    """

    def __init__(self, figure: Figure, caption: str) -> None:
        self._figure = figure
        self._caption = caption

    def figure(self) -> Figure:
        """The matplotlib Figure."""
        return self._figure

    def __str__(self) -> str:
        return self._caption

    __repr__ = __str__
