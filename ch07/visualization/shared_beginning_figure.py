"""A figure of what is saved when the tokens that all rows begin with are computed only once.

Axes: B rows, T tokens of the longest row, P tokens of the beginning.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ch07.visualization.captioned_figure import CaptionedFigure
from ch07.visualization.notebook_figures import BLACK, GREY, ORANGE, SKY_BLUE
from ch07.visualization.token_grid_figure import FONT, MAX_BOX_CHARACTERS, drawable_text

# What a cell or a part of a bar stands for -> colour, hatching, colour and width of its outline.
STYLES = {
    "beginning, computed": (ORANGE, "", BLACK, 1.2),
    "beginning, not computed again": ("white", "////", ORANGE, 0.6),
    "rest of a row": (SKY_BLUE, "", "white", 0.6),
    "padding": ("white", "....", GREY, 0.6),
}
BEGINNING, COPY, REST, PADDING = STYLES


@dataclass(frozen=True)
class TokenCounts:
    """How many tokens of each kind the model computes for a batch."""

    beginning: int
    rests: int
    padding: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.beginning + self.rests + self.padding

    def __str__(self) -> str:
        return (
            f"{self.total} ({self.beginning} beginning, {self.rests} rests, {self.padding} padding)"
        )


def draw_shared_beginning(
    lengths: Sequence[int], beginning: Sequence[str], n_computed: int
) -> CaptionedFigure:
    """A batch token by token, and the tokens computed with each row whole and with sharing.

    `lengths` are those of the B rows, without padding; `beginning` is the text of the P tokens that
    all rows begin with; `n_computed` is the number of tokens that are computed if those are shared.
    """
    P = len(beginning)
    T = max(lengths)
    n_rests = sum(lengths) - P * len(lengths)
    whole = TokenCounts(P * len(lengths), n_rests, T * len(lengths) - sum(lengths))
    once = TokenCounts(P, n_rests, n_computed - P - n_rests)
    figure = Figure(figsize=(0.17 * T + 1.4, 0.17 * len(lengths) + 3.0), layout="constrained")
    ratios = {"height_ratios": [len(lengths), 3.2]}
    grid, bars = figure.subplots(2, 1, gridspec_kw=ratios)
    _draw_rows(grid, lengths, beginning)
    _draw_bars(bars, {"each row whole": whole, "beginning once": once})
    handles = [_box(0, 0, 1, 1, kind, label=kind) for kind in STYLES]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    lines = [
        f"{len(lengths)} rows of {min(lengths)} to {T} tokens; the first {P} are the same in all",
        "tokens computed:",
        f"  each row whole: {whole}",
        f"  beginning once: {once}, or {100 * once.total / whole.total:.0f} %",
    ]
    return CaptionedFigure(figure, "\n".join(lines))


def _draw_rows(axes: Axes, lengths: Sequence[int], beginning: Sequence[str]) -> None:
    """One line of cells per row; the tokens of the beginning are written above their columns."""
    P = len(beginning)
    T = max(lengths)
    for row, length in enumerate(lengths):
        for column in range(T):
            kind = REST if column < length else PADDING
            if column < P:
                kind = BEGINNING if row == 0 else COPY
            axes.add_patch(_box(column, row, 0.86, 0.86, kind))
    places = [column + 0.43 for column in range(P)]
    words = [drawable_text(_shortened(word)) for word in beginning]
    axes.set_xticks(places, words, rotation=90, fontsize=7, family=FONT)
    axes.xaxis.tick_top()
    rows = range(len(lengths))
    axes.set_yticks([row + 0.43 for row in rows], [str(row) for row in rows], fontsize=7)
    axes.set(xlim=(-0.2, T), ylim=(len(lengths), -0.2), ylabel="row", aspect="equal")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _shortened(word: str) -> str:
    return word if len(word) <= MAX_BOX_CHARACTERS else f"{word[: MAX_BOX_CHARACTERS - 1]}…"


def _draw_bars(axes: Axes, counts: dict[str, TokenCounts]) -> None:
    """One bar of tokens computed for each way, divided by kind, with its total at the end."""
    largest = max(count.total for count in counts.values())
    for place, count in enumerate(counts.values()):
        x = 0
        parts = ((BEGINNING, count.beginning), (REST, count.rests), (PADDING, count.padding))
        for kind, n in parts:
            axes.add_patch(_box(x, place - 0.3, n, 0.6, kind))
            x += n
        share = f" {count.total} ({100 * count.total / largest:.0f} %)"
        axes.text(x, place, share, va="center", fontsize=9)
    axes.set_yticks(range(len(counts)), list(counts), fontsize=9)
    axes.set(xlim=(0, 1.15 * largest), ylim=(len(counts) - 0.5, -0.5), xlabel="tokens computed")
    axes.spines[["top", "right"]].set_visible(False)


def _box(
    x: float, y: float, width: float, height: float, kind: str, label: str | None = None
) -> Rectangle:
    colour, hatch, edge, linewidth = STYLES[kind]
    box = Rectangle((x, y), width, height, facecolor=colour, hatch=hatch, edgecolor=edge)
    box.set_linewidth(linewidth)
    box.set_label(label or "")
    return box
