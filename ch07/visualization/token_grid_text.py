"""How a token is written: one visible word, below it its role and its target.

The one idea: each role has a letter besides its colour, so that colour alone never tells
anything. Works on rows of cells (`token_grid.Cell`); knows nothing of tensors or pictures.
"""

from ch07.data.token_text import display_width

ROLES = {  # role -> its letter, and a light tint of Okabe and Ito's palette (2008)
    "template": ("t", "#f7eaf1"),
    "instruction": ("i", "#8dccf0"),
    "input": ("n", "#faf7c4"),
    "answer": ("a", "#37b391"),
    "end": ("e", "#e9aa1e"),
    "padding": ("-", "#c2c2c2"),
}
NOT_COUNTED = "·"


WIDTH = 100  # columns of the terminal form


def grid_title(number, cells):
    """What a row holds, in numbers."""
    padding = sum(cell.role == "padding" for cell in cells)
    counted = sum(cell.counted for cell in cells)
    targets = "no targets" if cells[0].target is None else f"{counted} targets counted"
    return f"row {number}: {len(cells) - padding} tokens, {padding} padding, {targets}"


def glyphs(rows):
    """Id, text, role and target of each token below each other, wrapped to a terminal's width."""
    letters = ", ".join(f"{letter} {role}" for role, (letter, _) in ROLES.items())
    lines = [f"{letters}; [target counted], {NOT_COUNTED} not counted"]
    for number, cells in enumerate(rows):
        lines.append(grid_title(number, cells))
        for block in _wrapped([_column(cell) for cell in cells], _names(cells)):
            lines += block
    return "\n".join(lines)


def sentences(rows):
    """A line for each token, to be read aloud by a screen reader."""
    lines = []
    for number, cells in enumerate(rows):
        lines.append(grid_title(number, cells))
        lines += [f"token {i}: {_sentence(cell)}." for i, cell in enumerate(cells)]
    return "\n".join(lines)


def _sentence(cell):
    known = f"{cell.text}, id {cell.token_id}, {cell.role}; "
    if cell.target is None:
        return known + "no target"
    if not cell.counted:
        return known + "target not counted"
    loss = "" if cell.loss is None else f", loss {cell.loss:.2f}"
    return f"{known}should be followed by {cell.target_text}, {cell.target_role}, counted{loss}"


def _names(cells):
    names = ["id", "input", "role"]
    if cells[0].target is not None:
        names.append("target")
    if any(cell.loss is not None for cell in cells):
        names.append("loss")
    return names


def _column(cell):
    return {
        "id": str(cell.token_id),
        "input": cell.text,
        "role": ROLES[cell.role][0],
        "target": f"[{cell.target_text}]" if cell.counted else NOT_COUNTED,
        "loss": "" if cell.loss is None else f"{cell.loss:.2f}",
    }


def _wrapped(columns, names):
    """Columns of words -> blocks of lines no wider than WIDTH, each line with its name."""
    margin = 2 + max(map(len, names))
    block, used = [], margin
    for column in columns:
        width = 1 + max(display_width(column[name]) for name in names)
        if block and used + width > WIDTH:
            yield _block(block, names, margin)
            block, used = [], margin
        block.append((column, width))
        used += width
    if block:
        yield _block(block, names, margin)


def _block(block, names, margin):
    lines = []
    for name in names:
        words = "".join(
            " " * (width - display_width(column[name])) + column[name] for column, width in block
        )
        lines.append(f"  {name:<{margin - 2}}{words}".rstrip())
    return lines
