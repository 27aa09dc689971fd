"""The page docs/reference/settings.md, made from `ch07/config.py`.

    python -m ch07.commands.settings_page

writes it again after a setting has changed; a test compares it with the settings.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ch07.config import (
    RECIPE_TITLES,
    RECIPES,
    RUN_RECIPES,
    FinetuneOptions,
    PreferOptions,
    default_text,
    flag_of,
    range_sentence,
)
from ch07.utils.atomic_files import write_bytes

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "settings.md"

INTRODUCTION = """\
# Settings

`python -m ch07 COMMAND --help` prints the same. The settings are defined in `ch07/config.py`, from
which this page is made (`python -m ch07.commands.settings_page`); a run stores its own in its
`config.json`.

"""
FINETUNE = """\
## `finetune`

The last column lists the other commands that take the same setting.

"""
RECIPE = """
## Defaults that depend on where training starts

A model that starts from random weights needs many passes and a high learning rate. One that has
been trained keeps what it knows only if its weights change slowly. An adapter is itself untrained,
so its learning rate is high again.

"""
PREFER = """
## `prefer`

"""


def settings_page() -> str:
    """The whole page, in Markdown."""
    return (
        INTRODUCTION
        + FINETUNE
        + settings_table(FinetuneOptions, "finetune", show_commands=True)
        + RECIPE
        + recipe_table()
        + PREFER
        + settings_table(PreferOptions, "prefer")
    )


def settings_table(config_class: type, command: str, show_commands: bool = False) -> str:
    """A command's settings as a Markdown table: flag, default, allowed values, meaning.

    `show_commands` adds a column with the other commands that have the flag.
    """
    header = ["flag", "default", "values", "meaning"]
    if show_commands:
        header.append("also in")
    rows = [header, ["---"] * len(header)]
    for field in dataclasses.fields(config_class):
        commands = field.metadata.get("commands", ())
        if command not in commands:
            continue
        row = [
            f"`{flag_of(field.name)}`",
            _default_cell(field),
            allowed_values(field.type, field.metadata),
            field.metadata["help"],
        ]
        if show_commands:
            row.append(", ".join(f"`{name}`" for name in commands if name != command))
        rows.append(row)
    return _markdown(rows)


def recipe_table() -> str:
    """The defaults of each recipe as a Markdown table."""
    names = list(RECIPES["random"])
    rows = [["start", *(f"`{flag_of(name)}`" for name in names)], ["---"] * (len(names) + 1)]
    for recipe in RUN_RECIPES:
        values = [f"{RECIPES[recipe][name]:g}" for name in names]
        rows.append([RECIPE_TITLES[recipe], *values])
    return _markdown(rows)


def allowed_values(annotation: Any, metadata: Mapping[str, Any]) -> str:
    """What a setting may be: its choices, its range, or "" if it takes any text."""
    if annotation is bool:
        return "a switch"
    if metadata["choices"]:
        return ", ".join(f"`{choice}`" for choice in metadata["choices"])
    return range_sentence(metadata).replace("10**9", "10⁹").replace("2**31", "2³¹")


def _default_cell(field: dataclasses.Field[Any]) -> str:
    text = default_text(field, recipes=())
    if text == "none" and field.name in RECIPES["random"]:
        return "see below"
    return f"`{text}`" if isinstance(field.default, str) else text


def _markdown(rows: list[list[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


if __name__ == "__main__":
    write_bytes(PAGE, settings_page().encode())
