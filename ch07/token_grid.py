"""One batch, token by token: id, text, role, target, counted or not.

The one idea: it is drawn from the tensors that really enter the loss, so what you see is what is
learned. A picture for the eye, the same facts as text for a terminal or a screen reader.
"""

from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from collate import END_OF_TEXT

# Okabe and Ito's palette, lightened; the sign in a cell's corner says the same without colour.
ROLES = {
    "prompt": ("#cfe8f7", "p"),
    "answer": ("#b5e3d3", "a"),
    "end": ("#f5d08a", "e"),
    "padding": ("#e4e4e4", "-"),
}


@dataclass(frozen=True)
class Cell:
    """One position of the batch."""

    token_id: int
    text: str
    role: str  # of the input token: "prompt", "answer" or "padding"
    target: int
    target_text: str
    target_role: str  # "prompt", "answer", "end" or "padding"
    counted: bool


class TokenGrid:
    """Rows of `Cell`s from inputs and targets (B, T), and where each row's prompt ends.

    `prompt_lengths` and `lengths` are numbers of tokens of each row: roles go by position.
    """

    def __init__(self, inputs, targets, prompt_lengths, lengths, tokenizer, ignore_index=-100):
        self.rows = []
        for row in zip(inputs.tolist(), targets.tolist(), prompt_lengths, lengths, strict=True):
            ids, wanted, prompt_length, length = row

            def role(i, prompt_length=prompt_length, length=length):
                if i >= length:
                    return "end" if i == length else "padding"
                return "prompt" if i < prompt_length else "answer"

            cells = []
            for i, (token_id, target) in enumerate(zip(ids, wanted, strict=True)):
                counted = target != ignore_index
                shown = _text(tokenizer, target) if counted else ""
                own = "padding" if i >= length else role(i)
                text = _text(tokenizer, token_id)
                cells.append(Cell(token_id, text, own, target, shown, role(i + 1), counted))
            self.rows.append(cells)

    def __str__(self):
        """Counts for each row, then a line for each token that is counted."""
        lines = []
        for number, cells in enumerate(self.rows):
            counted = [cell for cell in cells if cell.counted]
            padding = sum(cell.role == "padding" for cell in cells)
            lines.append(
                f"row {number}: {len(cells) - padding} tokens, {padding} padding, "
                f"{len(counted)} targets counted"
            )
            lines += [f"  {cell.text!r} -> {cell.target_text!r}" for cell in counted]
        return "\n".join(lines)

    def draw(self, axes, columns=slice(None)):
        """Draw input over target for the chosen columns; counted targets stand in a frame."""
        for y, cells in enumerate(self.rows):
            for x, cell in enumerate(cells[columns]):
                colour, sign = ROLES[cell.role]
                axes.add_patch(_box(x, 2.5 * y, colour, frame=False))
                axes.text(x + 0.5, 2.5 * y + 0.5, cell.text, **_CENTRED)
                axes.text(x + 0.08, 2.5 * y + 0.25, sign, fontsize=5)
                colour = ROLES[cell.target_role][0] if cell.counted else "white"
                axes.add_patch(_box(x, 2.5 * y + 1, colour, frame=cell.counted))
                label = cell.target_text if cell.counted else "·"
                weight = "bold" if cell.counted else "normal"
                axes.text(x + 0.5, 2.5 * y + 1.5, label, weight=weight, **_CENTRED)
        width = max(len(cells[columns]) for cells in self.rows)
        axes.set(xlim=(0, width), ylim=(2.5 * len(self.rows) - 0.4, -0.1))
        axes.set_axis_off()

    def figure(self, columns=slice(None)):
        """The grid as a matplotlib Figure of its own."""
        width = max(len(cells[columns]) for cells in self.rows)
        figure = Figure(figsize=(0.75 * width, 0.9 * len(self.rows)), layout="constrained")
        self.draw(figure.add_subplot(), columns)
        return figure


_CENTRED = {"ha": "center", "va": "center", "fontsize": 7, "family": "monospace"}


def _box(x, y, colour, frame):
    edge = {"edgecolor": "black", "linewidth": 1.2} if frame else {"edgecolor": "white"}
    inset = 0.03
    return Rectangle((x + inset, y + inset), 1 - 2 * inset, 1 - 2 * inset, facecolor=colour, **edge)


def _text(tokenizer, token_id):
    """A token as it can be drawn: end-of-text as END, a newline as an arrow, a space as a mark."""
    if token_id == END_OF_TEXT:
        return "END"
    return tokenizer.decode([token_id]).replace("\n", "\u21b5").replace(" ", "\u2423")
