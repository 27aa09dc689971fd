"""A batch token by token: id, text, role, target, and whether the target is counted.

The grid is made from the tensors that enter the loss: the batch comes from the loader that training
uses, and each token's loss from the trained model. It can be shown as a figure, as text for a
terminal, as sentences for a screen reader, and as records for a program.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import tiktoken
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from ch07.data.chat_dataset import make_dataset, token_roles
from ch07.data.dataloader import make_loader
from ch07.data.token_text import token_text
from ch07.data.tokenizer import end_token_id
from ch07.utils.errors import InputError
from ch07.utils.evaluation_mode import evaluation_mode
from ch07.visualization import token_grid_text
from ch07.visualization.captioned_figure import DisplayedFigure
from ch07.visualization.token_cell import ROLES, Cell
from ch07.visualization.token_grid_figure import (
    TOKENS_PER_LINE,
    draw_token_rows,
    fit_side_by_side,
    token_figure,
)
from collate import END_OF_TEXT
from instruction_dataset import BOOK_STYLE, PromptStyle
from train_loop import IGNORE_INDEX


class TokenGrid(DisplayedFigure):
    """Rows of `Cell`s from inputs and targets (B, T), both int64; targets None for draft 1.

    `roles` has a list for each row, the roles of its own tokens (`chat_dataset.token_roles`); one
    "end" and then "padding" follow by position. `cut_rows` are the indices of rows with more than T
    tokens. `losses` (B, T), in nats, darken the targets. Without a tokenizer a token's text is its
    id.
    """

    def __init__(
        self,
        inputs: Tensor,
        targets: Tensor | None,
        roles: Sequence[Sequence[str]],
        tokenizer: tiktoken.Encoding | None = None,
        losses: Tensor | None = None,
        *,
        ignore_index: int = IGNORE_INDEX,
        end_id: int = END_OF_TEXT,
    ) -> None:
        B, T = inputs.shape
        no_values = [[None] * T] * B
        target_lists = no_values if targets is None else targets.tolist()
        loss_lists = no_values if losses is None else losses.tolist()
        self.cut_rows = [row for row, row_roles in enumerate(roles) if len(row_roles) > T]
        self.rows: list[list[Cell]] = []
        for ids, row_targets, row_losses, own_roles in zip(
            inputs.tolist(), target_lists, loss_lists, roles, strict=True
        ):
            row_roles = [*own_roles, "end", *["padding"] * T]
            cells = []
            for i, (token_id, target) in enumerate(zip(ids, row_targets, strict=True)):
                counted = False
                target_text = ""
                if target is not None and target != ignore_index:
                    counted = True
                    target_text = token_text(target, tokenizer, end_id)
                cell = Cell(
                    token_id=token_id,
                    text=token_text(token_id, tokenizer, end_id),
                    # the end-of-text token after a row is padding as an input, "end" as a target
                    role="padding" if i == len(own_roles) else row_roles[i],
                    target=target,
                    target_text=target_text,
                    target_role=row_roles[i + 1],
                    counted=counted,
                    loss=row_losses[i] if counted else None,
                )
                cells.append(cell)
            self.rows.append(cells)

    def counted_by_role(self) -> dict[str, int]:
        """The number of counted targets of each role that has any."""
        return {role: len(cells) for role, cells in self._counted_cells().items()}

    def loss_by_role(self) -> dict[str, float]:
        """Mean loss in nats over the counted targets of each role; needs a grid with losses."""
        means = {}
        for role, cells in self._counted_cells().items():
            losses = [cell.loss for cell in cells if cell.loss is not None]
            means[role] = sum(losses) / len(cells)
        return means

    def _counted_cells(self) -> dict[str, list[Cell]]:
        counted = [cell for row in self.rows for cell in row if cell.counted]
        by_role = {role: [cell for cell in counted if cell.target_role == role] for role in ROLES}
        return {role: cells for role, cells in by_role.items() if cells}

    def __str__(self) -> str:
        """Text for a terminal: id, text, role and target of each token in a column."""
        return token_grid_text.text_grid(self.rows)

    def sentences(self) -> str:
        """Text for a screen reader: one line per token."""
        return token_grid_text.sentences(self.rows)

    def records(self) -> list[dict[str, Any]]:
        """Data for a program: one dict per token, with its row and column."""
        return [
            {"row": y, "column": x, **asdict(cell)}
            for y, cells in enumerate(self.rows)
            for x, cell in enumerate(cells)
        ]

    def draw(self, axes: Axes, columns: slice = slice(None)) -> None:
        """Draw the selected columns on `axes`, each row in one line."""
        rows = [cells[columns] for cells in self.rows]
        draw_token_rows(axes, rows, per_line=max(map(len, rows)))

    def figure(self, columns: slice = slice(None), per_line: int = TOKENS_PER_LINE) -> Figure:
        """The selected columns as a matplotlib Figure, in lines of `per_line` tokens."""
        rows = [cells[columns] for cells in self.rows]
        return token_figure({"": rows}, min(per_line, max(map(len, rows))))


class GridSeries(DisplayedFigure):
    """Named grids in one figure, such as three drafts of the same batch."""

    def __init__(self, **grids: TokenGrid) -> None:
        self.grids = grids

    def __str__(self) -> str:
        return "\n\n".join(f"{name}\n{grid}" for name, grid in self._titled().items())

    def figure(self, per_line: int = TOKENS_PER_LINE) -> Figure:
        """The grids side by side if their rows are short, else one below the other."""
        longest = max(len(row) for grid in self.grids.values() for row in grid.rows)
        panels = {name: grid.rows for name, grid in self._titled().items()}
        return token_figure(panels, min(per_line, longest), side_by_side=fit_side_by_side(longest))

    def _titled(self) -> dict[str, TokenGrid]:
        return {name.replace("_", " "): grid for name, grid in self.grids.items()}


def batch_grid(
    entries: Sequence[dict[str, Any]],
    tokenizer: tiktoken.Encoding,
    style: PromptStyle = BOOK_STYLE,
    *,
    loss_on: str = "response",
    allowed_max_length: int | None = None,
    model: nn.Module | None = None,
) -> TokenGrid:
    """The `TokenGrid` of all entries as one batch; with a model, also each target's loss."""
    dataset = make_dataset(entries, tokenizer, style, loss_on)
    end_id = end_token_id(tokenizer)
    ((inputs, targets),) = make_loader(
        dataset, len(dataset), loss_on, allowed_max_length, pad_token_id=end_id
    )
    if model is not None:
        _check_context(inputs, model)
    roles = [token_roles(entry, tokenizer, style) for entry in dataset.data]
    losses = None if model is None else token_losses(model, inputs, targets)
    return TokenGrid(inputs, targets, roles, tokenizer, losses, end_id=end_id)


def _check_context(inputs: Tensor, model: nn.Module) -> None:
    """InputError if the batch is wider than the model's context."""
    context: int = model.config.context_length  # type: ignore[union-attr]
    if inputs.shape[1] > context:
        raise InputError(
            f"the longest row has {inputs.shape[1]} tokens, but this model reads at most "
            f"{context}: cut the rows with --allowed-max-length"
        )


@torch.no_grad()
def token_losses(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
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
