"""A token grid as text: each token with its role and target, for terminals and screen readers.

The one idea: each role has a letter besides its colour, so that no information depends on colour
alone. Works on rows of cells (`token_cell.Cell`); knows nothing of tensors or figures.
"""

from collections.abc import Iterator, Sequence

from ch07.data.token_text import display_width
from ch07.visualization.token_cell import NOT_COUNTED, ROLES, Cell

GRID_WIDTH = 100  # terminal columns


def grid_title(number: int, cells: Sequence[Cell]) -> str:
    """A row's title: its numbers of tokens, padding and counted targets."""
    padding = sum(cell.role == "padding" for cell in cells)
    counted = sum(cell.counted for cell in cells)
    targets = "no targets" if cells[0].target is None else f"{counted} targets counted"
    return f"row {number}: {len(cells) - padding} tokens, {padding} padding, {targets}"


def text_grid(rows: Sequence[Sequence[Cell]]) -> str:
    """Id, text, role and target of each token in a column, wrapped to `GRID_WIDTH`."""
    has_system = any(cell.role == "system" for cells in rows for cell in cells)
    names = [role for role in ROLES if role != "system" or has_system]
    letters = ", ".join(f"{ROLES[role][0]} {role}" for role in names)
    lines = [f"{letters}; [target counted], {NOT_COUNTED} not counted"]
    for number, cells in enumerate(rows):
        lines.append(grid_title(number, cells))
        for block in _wrapped([_column(cell) for cell in cells], _names(cells)):
            lines += block
    return "\n".join(lines)


def sentences(rows: Sequence[Sequence[Cell]]) -> str:
    """One line per token, for a screen reader."""
    lines = []
    for number, cells in enumerate(rows):
        lines.append(grid_title(number, cells))
        lines += [f"token {i}: {_sentence(cell)}." for i, cell in enumerate(cells)]
    return "\n".join(lines)


def _sentence(cell: Cell) -> str:
    token = f"{cell.text}, id {cell.token_id}, {cell.role}; "
    if cell.target is None:
        return token + "no target"
    if not cell.counted:
        return token + "target not counted"
    loss = "" if cell.loss is None else f", loss {cell.loss:.2f}"
    return f"{token}should be followed by {cell.target_text}, {cell.target_role}, counted{loss}"


def _names(cells: Sequence[Cell]) -> list[str]:
    names = ["id", "input", "role"]
    if cells[0].target is not None:
        names.append("target")
    if any(cell.loss is not None for cell in cells):
        names.append("loss")
    return names


def _column(cell: Cell) -> dict[str, str]:
    return {
        "id": str(cell.token_id),
        "input": cell.text,
        "role": ROLES[cell.role][0],
        "target": f"[{cell.target_text}]" if cell.counted else NOT_COUNTED,
        "loss": "" if cell.loss is None else f"{cell.loss:.2f}",
    }


def _wrapped(columns: Sequence[dict[str, str]], names: Sequence[str]) -> Iterator[list[str]]:
    """Columns of words -> blocks of lines no wider than GRID_WIDTH, each line with its name."""
    margin = 2 + max(map(len, names))
    block: list[tuple[dict[str, str], int]] = []
    used = margin
    for column in columns:
        width = 1 + max(display_width(column[name]) for name in names)
        if block and used + width > GRID_WIDTH:
            yield _block(block, names, margin)
            block = []
            used = margin
        block.append((column, width))
        used += width
    if block:
        yield _block(block, names, margin)


def _block(
    block: Sequence[tuple[dict[str, str], int]], names: Sequence[str], margin: int
) -> list[str]:
    lines = []
    for name in names:
        words = "".join(
            " " * (width - display_width(column[name])) + column[name] for column, width in block
        )
        lines.append(f"  {name:<{margin - 2}}{words}".rstrip())
    return lines
