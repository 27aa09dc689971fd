"""Rows of cells as a picture: each input token as a box, below it the box of its target.

The one idea: counted targets are framed, and a line leads from each up to the same token among
the inputs, one column to the right: the shift. Darkness can show each target's loss.
"""

from functools import lru_cache

from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, fontManager
from matplotlib.ft2font import FT2Font
from matplotlib.patches import Rectangle

from ch07.visualization.token_grid_text import NOT_COUNTED, ROLES

FONT = "DejaVu Sans Mono"  # comes with matplotlib; others fill in what it lacks, if installed
MORE_FONTS = ("Noto Sans Mono CJK SC", "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei")
LONGEST = 11  # letters that a box has room for
INCHES = 0.72  # width of a box
GAP = 0.45  # between inputs and targets, where the shift is drawn, in boxes
LABEL = 0.35  # above a row, for its number


def draw_token_rows(axes, rows, per_line):
    """Draw rows of cells in lines of at most `per_line` boxes."""
    darkest, y = _highest_loss(rows), 0.0
    for number, cells in enumerate(rows):
        axes.text(0.04, y + LABEL - 0.06, f"row {number}", fontsize=6)
        y += LABEL
        for start in range(0, len(cells), per_line):
            part = cells[start : start + per_line]
            _draw_line(axes, y, part, darkest)
            y += _line_height(part)
    axes.set(xlim=(-0.05, per_line + 0.05), ylim=(y - 0.15, 0))
    axes.set_axis_off()


def token_figure(panels, per_line, side_by_side=False):
    """A Figure of {title: rows of cells}, panels one below the other or side by side."""
    heights = [_height(rows, per_line) for rows in panels.values()]
    if side_by_side:
        size, grid = (INCHES * per_line * len(panels), 0.5 * max(heights) + 0.8), (1, len(panels))
        ratios = {}
    else:
        size = INCHES * per_line, 0.5 * sum(heights) + 0.4 * len(panels) + 0.3
        grid, ratios = (len(panels), 1), {"height_ratios": heights}
    figure = Figure(figsize=size, layout="constrained")
    for axes, (title, rows) in zip(
        figure.subplots(*grid, squeeze=False, **ratios).flat, panels.items(), strict=True
    ):
        draw_token_rows(axes, rows, per_line)
        axes.set_title(title, fontsize=9, loc="left")
        if side_by_side:  # panels of unequal height keep boxes of equal height
            axes.set_ylim(max(heights) - 0.15, 0)
    _legend(figure, [row for rows in panels.values() for row in rows])
    return figure


def _height(rows, per_line):
    lines = sum(-(-len(cells) // per_line) for cells in rows)
    return LABEL * len(rows) + lines * _line_height(rows[0])


def _line_height(cells):
    return 1.15 if cells[0].target is None else 2.2 + GAP


def _highest_loss(rows):
    return max((c.loss for cells in rows for c in cells if c.loss is not None), default=None)


def _draw_line(axes, y, cells, darkest):
    below = y + 1 + GAP
    for x, cell in enumerate(cells):
        _draw_box(axes, x, y, cell.text, cell.role)
        if cell.target is None:
            continue
        dark = None if cell.loss is None else cell.loss / darkest if darkest else 0.0
        word, role = (cell.target_text, cell.target_role) if cell.counted else (NOT_COUNTED, None)
        _draw_box(axes, x, below, word, role, cell.counted, dark)
        if cell.counted and x + 1 < len(cells) and cells[x + 1].token_id == cell.target:
            axes.plot([x + 0.5, x + 1.5], [below, y + 1], color="#555555", linewidth=0.7)


def _draw_box(axes, x, y, text, role, framed=False, darkness=None):
    """One box of width 1: the role's colour and letter, or a grey from 0 to 1."""
    letter, colour = ("", "white") if role is None else ROLES[role]
    ink = "black"
    if darkness is not None:
        colour, ink = str(1 - 0.9 * darkness), "white" if darkness > 0.5 else "black"
    edge, line = ("black", 1.4) if framed else ("#aaaaaa", 0.3)
    box = Rectangle((x + 0.04, y + 0.04), 0.92, 0.92, facecolor=colour, edgecolor=edge)
    box.set_linewidth(line)
    axes.add_patch(box)
    axes.text(x + 0.1, y + 0.27, letter, fontsize=5, color=ink)
    text = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    centred = {"ha": "center", "va": "center", "family": _fonts(), "color": ink}
    size, weight = (7 if len(text) <= 7 else 5.3), "bold" if framed else "normal"
    axes.text(x + 0.5, y + 0.58, drawable_text(text), fontsize=size, weight=weight, **centred)


def _legend(figure, rows):
    """The roles that occur, with colour and letter, and what black stands for."""
    cells, darkest = [cell for row in rows for cell in row], _highest_loss(rows)
    seen = {cell.role for cell in cells} | {cell.target_role for cell in cells if cell.counted}
    boxes = [
        Rectangle((0, 0), 1, 1, facecolor=colour, edgecolor="#aaaaaa", label=f"{letter} {role}")
        for role, (letter, colour) in ROLES.items()
        if role in seen
    ]
    if darkest is not None:
        text = f"darker target: higher loss, black is {darkest:.1f} nats"
        boxes.append(Rectangle((0, 0), 1, 1, facecolor="0.1", label=text))
    places = {"loc": "outside lower center", "ncols": len(boxes)}
    figure.legend(handles=boxes, fontsize=7, frameon=False, **places)


def drawable_text(text):
    """The text with each letter that no installed font can draw written as its code point."""
    known = [any(face.get_char_index(ord(letter)) for face in _faces()) for letter in text]
    return "".join(
        letter if ok else f"U+{ord(letter):04X}" for letter, ok in zip(text, known, strict=True)
    )


@lru_cache(maxsize=1)
def _fonts():
    installed = {font.name for font in fontManager.ttflist}
    return [FONT, *(name for name in MORE_FONTS if name in installed)]


@lru_cache(maxsize=1)
def _faces():
    return [FT2Font(findfont(name)) for name in _fonts()]
