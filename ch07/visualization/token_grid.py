"""One batch, token by token: id, text, role, target, counted or not.

The grid is made from the tensors that enter the loss: the batch comes from the loader that training
uses, and each token's loss from the trained model. It is shown as a picture, as glyphs for a
terminal, as sentences for a screen reader, and as records for a program.
"""

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F

from ch07.data.dataloader import make_loader
from ch07.data.prompt_styles import token_roles
from ch07.data.token_text import token_text
from ch07.utils.evaluation_mode import evaluation_mode
from ch07.visualization import token_grid_text
from ch07.visualization.captioned_figure import DisplayedFigure
from ch07.visualization.token_grid_figure import draw_token_rows, token_figure
from ch07.visualization.token_grid_text import ROLES
from collate import END_OF_TEXT
from instruction_dataset import BOOK_STYLE, InstructionDataset
from train_loop import IGNORE_INDEX

PER_LINE = 13  # tokens in a line of the picture


@dataclass(frozen=True)
class Cell:
    """One position of a batch."""

    token_id: int
    text: str
    role: str  # of the input token: a key of ROLES
    target: int | None  # None: draft 1 has no targets
    target_text: str
    target_role: str
    counted: bool
    loss: float | None = None  # nats, where it was computed and the target is counted


class TokenGrid(DisplayedFigure):
    """Rows of `Cell`s from inputs and targets (B, T), both int64; no targets: draft 1.

    `roles` has a list for each row: what its own tokens are (`prompt_styles.token_roles`); after
    them come one "end" and "padding", by position. Rows with more tokens than T are `cut_rows`.
    `losses` (B, T), in nats, darkens the targets.
    Without a tokenizer a token's text is its number.
    """

    def __init__(
        self,
        inputs,
        targets,
        roles,
        tokenizer=None,
        losses=None,
        ignore_index=-100,
        end_id=END_OF_TEXT,
    ):
        B, T = inputs.shape
        unknown = [[None] * T] * B
        wanted = unknown if targets is None else targets.tolist()
        nats = unknown if losses is None else losses.tolist()
        self.cut_rows = [row for row, known in enumerate(roles) if len(known) > T]
        self.rows = []
        for ids, row_targets, row_losses, known in zip(
            inputs.tolist(), wanted, nats, roles, strict=True
        ):
            known = [*known, "end", *["padding"] * T]
            cells = []
            for i, (token_id, target) in enumerate(zip(ids, row_targets, strict=True)):
                counted = target is not None and target != ignore_index
                cell = Cell(
                    token_id=token_id,
                    text=token_text(token_id, tokenizer, end_id),
                    # the place after a row's tokens is padding as an input, its end as a target
                    role="padding" if known[i] == "end" else known[i],
                    target=target,
                    target_text=token_text(target, tokenizer, end_id) if counted else "",
                    target_role=known[i + 1],
                    counted=counted,
                    loss=row_losses[i] if counted else None,
                )
                cells.append(cell)
            self.rows.append(cells)

    def counted_by_role(self):
        """How many counted targets each role has; roles without any are left out."""
        return {role: len(cells) for role, cells in self._counted().items()}

    def loss_by_role(self):
        """Mean loss in nats over the counted targets of each role."""
        return {
            role: sum(cell.loss for cell in cells) / len(cells)
            for role, cells in self._counted().items()
        }

    def _counted(self):
        cells = [cell for row in self.rows for cell in row if cell.counted]
        found = {role: [cell for cell in cells if cell.target_role == role] for role in ROLES}
        return {role: cells for role, cells in found.items() if cells}

    def __str__(self):
        """Glyphs: id, text, role and target of each token below each other."""
        return token_grid_text.glyphs(self.rows)

    def sentences(self):
        """The same for a screen reader: a line for each token."""
        return token_grid_text.sentences(self.rows)

    def records(self):
        """The same for a program: a dict for each token, with its row and column."""
        return [
            {"row": y, "column": x, **asdict(cell)}
            for y, cells in enumerate(self.rows)
            for x, cell in enumerate(cells)
        ]

    def draw(self, axes, columns=slice(None)):
        """Draw the chosen columns on `axes`, each row in one line."""
        rows = [cells[columns] for cells in self.rows]
        draw_token_rows(axes, rows, per_line=max(map(len, rows)))

    def figure(self, columns=slice(None), per_line=PER_LINE):
        """The chosen columns as a matplotlib Figure of their own, in lines of `per_line`."""
        rows = [cells[columns] for cells in self.rows]
        return token_figure({"": rows}, min(per_line, max(map(len, rows))))


class GridSeries(DisplayedFigure):
    """Named grids in one picture: draft 1, draft 2 and the final version of the same batch."""

    def __init__(self, **grids):
        self.grids = grids

    def __str__(self):
        return "\n\n".join(f"{name}\n{grid}" for name, grid in self._titled().items())

    def figure(self, per_line=PER_LINE):
        """Side by side where rows are short, else one below the other."""
        longest = max(len(row) for grid in self.grids.values() for row in grid.rows)
        panels = {name: grid.rows for name, grid in self._titled().items()}
        return token_figure(panels, min(per_line, longest), side_by_side=longest <= PER_LINE // 2)

    def _titled(self):
        return {name.replace("_", " "): grid for name, grid in self.grids.items()}


def batch_grid(
    entries, tokenizer, style=BOOK_STYLE, loss_on="response", allowed_max_length=None, model=None
):
    """All entries as one batch, as a `TokenGrid`; with a model, each target's loss as well."""
    dataset = InstructionDataset(entries, tokenizer, style, with_prompt_length=loss_on != "all")
    ((inputs, targets),) = make_loader(dataset, len(dataset), loss_on, allowed_max_length)
    roles = [token_roles(entry, tokenizer, style) for entry in dataset.data]
    losses = None if model is None else token_losses(model, inputs, targets)
    return TokenGrid(inputs, targets, roles, tokenizer, losses)


@torch.no_grad()
def token_losses(model, inputs, targets):
    """Cross-entropy of each position, in nats: inputs and targets (B, T) -> losses (B, T).

    0 where the target is -100, on the model's device; each module's mode is left as it was.
    """
    device = next(model.parameters()).device
    inputs = inputs.to(device)
    targets = targets.to(device)
    counted = targets != IGNORE_INDEX
    with evaluation_mode(model):
        logits = model(inputs, wanted=counted)  # (N, V): the head is the widest layer
    losses = torch.zeros(targets.shape, device=device)
    losses[counted] = F.cross_entropy(logits.float(), targets[counted], reduction="none")
    return losses
