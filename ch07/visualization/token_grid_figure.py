"""A token grid as a figure: each input token is a box, with its target's box below it.

The one idea: counted targets have a frame, and a line connects each to the same token among the
inputs, one column to the right: the shift. A darker box can show a higher loss of its target.
"""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, fontManager
from matplotlib.ft2font import FT2Font
from matplotlib.patches import Rectangle

from ch07.visualization.token_cell import NOT_COUNTED, ROLES, Cell

Rows = Sequence[Sequence["Cell"]]

FONT = "DejaVu Sans Mono"  # comes with matplotlib
FALLBACK_FONTS = ("Noto Sans Mono CJK SC", "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei")
MAX_BOX_CHARACTERS = 11  # longer words are cut
TOKENS_PER_LINE = 13
BOX_WIDTH_INCHES = 0.72
SHIFT_GAP = 0.45  # between inputs and targets, where the shift is drawn, in box heights
ROW_TITLE_HEIGHT = 0.35  # in box heights


def draw_token_rows(axes: Axes, rows: Rows, per_line: int) -> None:
    """Draw rows of cells in lines of at most `per_line` boxes."""
    highest_loss = _highest_loss(rows)
    y = 0.0
    for number, cells in enumerate(rows):
        axes.text(0.04, y + ROW_TITLE_HEIGHT - 0.06, f"row {number}", fontsize=6)
        y += ROW_TITLE_HEIGHT
        for start in range(0, len(cells), per_line):
            line = cells[start : start + per_line]
            _draw_line(axes, y, line, highest_loss)
            y += _line_height(line)
    axes.set(xlim=(-0.05, per_line + 0.05), ylim=(y - 0.15, 0))
    axes.set_axis_off()


def token_figure(panels: Mapping[str, Rows], per_line: int, side_by_side: bool = False) -> Figure:
    """A Figure of {title: rows of cells}, panels one below the other or side by side."""
    heights = [_height(rows, per_line) for rows in panels.values()]
    width = BOX_WIDTH_INCHES * per_line
    if side_by_side:
        size = (width * len(panels), 0.5 * max(heights) + 0.8)
        figure = Figure(figsize=size, layout="constrained")
        all_axes = figure.subplots(1, len(panels), squeeze=False)
    else:
        size = (width, 0.5 * sum(heights) + 0.4 * len(panels) + 0.3)
        figure = Figure(figsize=size, layout="constrained")
        ratios = {"height_ratios": heights}
        all_axes = figure.subplots(len(panels), 1, squeeze=False, gridspec_kw=ratios)
    for axes, (title, rows) in zip(all_axes.flat, panels.items(), strict=True):
        draw_token_rows(axes, rows, per_line)
        axes.set_title(title, fontsize=9, loc="left")
        if side_by_side:  # panels of unequal height keep boxes of equal height
            axes.set_ylim(max(heights) - 0.15, 0)
    _legend(figure, [row for rows in panels.values() for row in rows])
    return figure


def fit_side_by_side(longest: int) -> bool:
    """Whether panels stand side by side, if their longest row has so many tokens."""
    return longest <= TOKENS_PER_LINE // 2


def _height(rows: Rows, per_line: int) -> float:
    n_lines = sum(math.ceil(len(cells) / per_line) for cells in rows)
    return ROW_TITLE_HEIGHT * len(rows) + n_lines * _line_height(rows[0])


def _line_height(cells: Sequence[Cell]) -> float:
    return 1.15 if cells[0].target is None else 2.2 + SHIFT_GAP


def _highest_loss(rows: Rows) -> float | None:
    losses = [cell.loss for cells in rows for cell in cells if cell.loss is not None]
    return max(losses, default=None)


def _draw_line(axes: Axes, y: float, cells: Sequence[Cell], highest_loss: float | None) -> None:
    target_y = y + 1 + SHIFT_GAP
    for x, cell in enumerate(cells):
        _draw_box(axes, x, y, cell.text, cell.role)
        if cell.target is None:
            continue
        if not cell.counted:
            _draw_box(axes, x, target_y, NOT_COUNTED, None)
            continue
        darkness = None
        if cell.loss is not None:
            darkness = cell.loss / highest_loss if highest_loss else 0.0
        _draw_box(
            axes, x, target_y, cell.target_text, cell.target_role, framed=True, darkness=darkness
        )
        if x + 1 < len(cells) and cells[x + 1].token_id == cell.target:
            axes.plot([x + 0.5, x + 1.5], [target_y, y + 1], color="#555555", linewidth=0.7)


def _draw_box(
    axes: Axes,
    x: float,
    y: float,
    text: str,
    role: str | None,
    *,
    framed: bool = False,
    darkness: float | None = None,
) -> None:
    """One box of width 1 in its role's colour, with its letter, or in grey of a darkness 0 to 1."""
    letter, colour = ("", "white") if role is None else ROLES[role]
    text_colour = "black"
    if darkness is not None:
        colour = str(1 - 0.9 * darkness)
        text_colour = "white" if darkness > 0.5 else "black"
    edge_colour = "black" if framed else "#aaaaaa"
    box = Rectangle((x + 0.04, y + 0.04), 0.92, 0.92, facecolor=colour, edgecolor=edge_colour)
    box.set_linewidth(1.4 if framed else 0.3)
    axes.add_patch(box)
    axes.text(x + 0.1, y + 0.27, letter, fontsize=5, color=text_colour)
    if len(text) > MAX_BOX_CHARACTERS:
        text = text[: MAX_BOX_CHARACTERS - 1] + "…"
    options: dict[str, Any] = {
        "fontsize": 7 if len(text) <= 7 else 5.3,
        "weight": "bold" if framed else "normal",
        "ha": "center",
        "va": "center",
        "family": _fonts(),
        "color": text_colour,
    }
    axes.text(x + 0.5, y + 0.58, drawable_text(text), **options)


def _legend(figure: Figure, rows: Rows) -> None:
    """The roles that occur, with colour and letter, and the loss that black stands for."""
    cells = [cell for row in rows for cell in row]
    roles = {cell.role for cell in cells} | {cell.target_role for cell in cells if cell.counted}
    boxes = []
    for role, (letter, colour) in ROLES.items():
        if role in roles:
            label = f"{letter} {role}"
            boxes.append(
                Rectangle((0, 0), 1, 1, facecolor=colour, edgecolor="#aaaaaa", label=label)
            )
    highest_loss = _highest_loss(rows)
    if highest_loss is not None:
        label = f"darker target: higher loss, black is {highest_loss:.1f} nats"
        boxes.append(Rectangle((0, 0), 1, 1, facecolor="0.1", label=label))
    figure.legend(
        handles=boxes, fontsize=7, frameon=False, loc="outside lower center", ncols=len(boxes)
    )


def drawable_text(text: str) -> str:
    """The text with every character that no installed font can draw as its code point."""
    drawable = []
    for character in text:
        if any(face.get_char_index(ord(character)) for face in _faces()):
            drawable.append(character)
        else:
            drawable.append(f"U+{ord(character):04X}")
    return "".join(drawable)


@lru_cache(maxsize=1)
def _fonts() -> list[str]:
    installed = {font.name for font in fontManager.ttflist}
    return [FONT, *(name for name in FALLBACK_FONTS if name in installed)]


@lru_cache(maxsize=1)
def _faces() -> list[FT2Font]:
    return [FT2Font(findfont(name)) for name in _fonts()]
