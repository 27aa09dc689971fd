"""Docstrings are written for people; what reStructuredText would misread in them is mended here."""

import re
from typing import Any

from sphinx.application import Sphinx

CODE_AND_LETTERS = re.compile(r"(`[^`]+`)(?=\w)")


def mend_docstring(
    _app: Sphinx, _kind: str, _name: str, _object: Any, _options: Any, lines: list[str]
) -> None:
    """Change a docstring's lines in place.

    A bar isn't a substitution, a plural may follow code ("`Cell`s"), and a list may follow its
    sentence without an empty line. Examples (>>>) stay as they are.
    """
    mended: list[str] = []
    in_example = False
    in_list = False
    for line in lines:
        starts_example = line.lstrip().startswith(">>>")
        in_example = starts_example or (in_example and line.strip() != "")
        if in_example:
            mended.append(line)
            continue
        is_item = line.startswith("- ")
        if is_item and not in_list:
            mended.append("")
        in_list = is_item or (in_list and line.startswith("  "))
        mended.append(CODE_AND_LETTERS.sub(r"\1\\ ", line).replace("|", r"\|"))
    lines[:] = mended


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("autodoc-process-docstring", mend_docstring)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
