"""Tables in docs/ that say where a name is found, and how a name in them is looked up."""

import importlib
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOTTED = r"`((?:ch07|collate|gpt_model|instruction_dataset|train_loop|torch)[\w.]*)`"


def table_rows(text, n_cells):
    """The cells of each table row with so many, without headers and the lines below them."""
    lines = text.splitlines()
    rows = []
    for line, next_line in zip(lines, [*lines[1:], ""], strict=True):
        is_header = re.fullmatch(r"\|(?: -+ \|)+", next_line)
        is_rule = re.fullmatch(r"\|(?: -+ \|)+", line)
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and not is_header and not is_rule and len(cells) == n_cells:
            rows.append(cells)
    return rows


def dotted_names(text):
    """The names in a text that look like a module's, such as `ch07.models.lora.add_lora`."""
    return re.findall(DOTTED, text)


def assert_is_defined(path):
    """A file exists, or a dotted name is what its module has."""
    if path.endswith(".py"):
        assert (ROOT / path).exists(), path
        return
    module, _, name = path.rpartition(".")
    assert hasattr(importlib.import_module(module), name), path
