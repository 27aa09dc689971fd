"""Pages made from the code itself: every command with its flags, and the museum of mistakes.

    ```{ch07-commands}
    ```

writes one section for each command; `{ch07-museum}` one for each exhibit, by exercise.
"""

import argparse
import itertools

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from ch07.commands.parser import COMMANDS, make_parser
from ch07.exercises.catalogue import find
from ch07.exercises.museum.collection import EXHIBITS
from ch07.exercises.museum.exhibit import Exhibit


def command_parsers() -> dict[str, argparse.ArgumentParser]:
    """The parser of each command, by its name."""
    action = next(a for a in make_parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(action.choices)


def command_section(name: str, help: str, parser: argparse.ArgumentParser) -> str:
    """One command in Markdown: what it does, and its arguments."""
    lines = [f"## `{name}`", "", f"{help[0].upper()}{help[1:]}.", ""]
    formatter = parser._get_formatter()
    for action in parser._actions:
        if action.help is argparse.SUPPRESS or isinstance(action, argparse._HelpAction):
            continue
        text = formatter._expand_help(action) if action.help else "(no description)"
        lines += [_written(action, formatter), f": {' '.join(text.split())}", ""]
    return "\n".join([*lines, "", ""])


def _written(action: argparse.Action, formatter: argparse.HelpFormatter) -> str:
    """How an argument is written: its flags, and its value's name."""
    value = formatter._format_args(action, _metavar(action, formatter)) if action.nargs != 0 else ""
    words = [f"{flag} {value}".strip() for flag in action.option_strings] or [value]
    return ", ".join(f"`{word}`" for word in words)


def _metavar(action: argparse.Action, formatter: argparse.HelpFormatter) -> str:
    if action.option_strings:
        return formatter._get_default_metavar_for_optional(action)
    return formatter._get_default_metavar_for_positional(action)


def exhibit_section(exhibit: Exhibit) -> str:
    """One mistake in Markdown: what is wrong, its code, where it was seen."""
    title = exhibit.diagnosis.replace("-", " ")
    return "\n".join(
        [
            f"### {title[0].upper()}{title[1:]}",
            "",
            exhibit.story,
            "",
            f"Seen: {exhibit.seen} [Source]({exhibit.url})",
            "",
            "```python",
            exhibit.source,
            "```",
            "",
        ]
    )


class CommandsDirective(SphinxDirective):
    """All commands, in the order of `--help`."""

    def run(self) -> list[nodes.Node]:
        """The commands' sections."""
        parsers = command_parsers()
        text = "".join(command_section(c.name, c.help, parsers[c.name]) for c in COMMANDS)
        return self.parse_text_to_nodes(text, allow_section_headings=True)


class MuseumDirective(SphinxDirective):
    """All exhibits, by exercise."""

    def run(self) -> list[nodes.Node]:
        """The exercises' sections."""
        parts = []
        for name, exhibits in itertools.groupby(EXHIBITS, key=lambda exhibit: exhibit.exercise):
            parts.append(f"## {find(name).number}. `{name}`\n\n")
            parts += [exhibit_section(exhibit) for exhibit in exhibits]
        return self.parse_text_to_nodes("\n".join(parts), allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_directive("ch07-commands", CommandsDirective)
    app.add_directive("ch07-museum", MuseumDirective)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
