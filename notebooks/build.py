"""Runs the notebooks, stores their outputs, and builds their translations.

    python notebooks/build.py [NAME ...]        run notebooks, store their outputs, translate
    python notebooks/build.py --fast --out DIR  the same with a few training steps, into DIR
    python notebooks/build.py --translate       only build notebooks/zh-CN/ from the side-cars
    python notebooks/build.py --repository URL  add Colab badges and the repository's address

The one idea: people write the cells, this file alone writes the outputs. A translation is a
side-car file of texts by cell id; code and outputs are the same bytes in every language.
"""

import argparse
import hashlib
import json
import os
import re
import time
from pathlib import Path
from typing import TypedDict

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

HERE = Path(__file__).resolve().parent
CELL_TIMEOUT = 600  # seconds
BADGE = "badge"  # the id of the cell that `add_badge` inserts
# What is shown above a cell whose translation is missing or stale.
LANGUAGES = {"zh-CN": "> **（本段尚无最新译文，以下为英文原文。）**\n\n"}


class Translation(TypedDict):
    """The translation of one cell."""

    source: str  # the fingerprint of the English text that was translated
    text: str


def notebooks() -> list[Path]:
    """The chapter's notebooks, in order."""
    return sorted(HERE.glob("[0-9]*.ipynb"))


def executed(path: Path, fast: bool = False) -> NotebookNode:
    """The notebook with the outputs of a run from top to bottom.

    `fast` sets CH07_FAST, so that notebooks train for a few steps only. A cell that fails raises
    nbclient's CellExecutionError.
    """
    notebook = nbformat.read(path, as_version=4)
    environment = {**os.environ, "CH07_FAST": "1" if fast else "", "MPLBACKEND": "agg"}
    client = NotebookClient(notebook, timeout=CELL_TIMEOUT, coalesce_streams=True)
    client.execute(cwd=str(path.parent), env=environment)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # clock times
    notebook.metadata.pop("widgets", None)  # its state breaks GitHub's preview
    notebook.metadata["language_info"] = {"name": "python"}  # whatever the version
    return notebook


def output_texts(cell: NotebookNode) -> list[str]:
    """The outputs of a code cell as text, in order."""
    texts = []
    for output in cell.get("outputs", []):
        if output.output_type == "stream":
            texts.append(output.text)
        else:
            texts.append(output.get("data", {}).get("text/plain", ""))
    return texts


# --- translations -------------------------------------------------------------------------------


def fingerprint(text: str) -> str:
    """A short hash of an English text, by which a side-car knows whether its source changed."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def side_car(path: Path, language: str) -> dict[str, Translation]:
    """{cell id: translation} of a notebook; empty if there is no side-car file."""
    file = HERE / "i18n" / language / f"{path.stem}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def translation_states(
    notebook: NotebookNode, translations: dict[str, Translation]
) -> dict[str, str]:
    """{cell id: state}: "fresh", "stale" or "missing"; "orphaned" if there is no such cell."""
    states = {key: "orphaned" for key in translations}
    for cell in notebook.cells:
        if cell.cell_type != "markdown" or cell.id == BADGE:
            continue
        if cell.id not in translations:
            states[cell.id] = "missing"
        elif translations[cell.id]["source"] == fingerprint(cell.source):
            states[cell.id] = "fresh"
        else:
            states[cell.id] = "stale"
    return states


def translated(path: Path, language: str) -> NotebookNode:
    """The notebook in another language; cells without a fresh translation stay English, marked."""
    notebook = nbformat.read(path, as_version=4)
    translations = side_car(path, language)
    states = translation_states(notebook, translations)
    for cell in notebook.cells:
        if cell.id == BADGE:  # opens the translation itself
            cell.source = cell.source.replace("/notebooks/", f"/notebooks/{language}/")
        elif cell.cell_type == "markdown" and states[cell.id] == "fresh":
            cell.source = translations[cell.id]["text"]
        elif cell.cell_type == "markdown":
            cell.source = LANGUAGES[language] + cell.source
    return notebook


def translate() -> None:
    """Write all notebooks of notebooks/LANGUAGE/."""
    for language in LANGUAGES:
        folder = HERE / language
        folder.mkdir(exist_ok=True)
        for path in notebooks():
            nbformat.write(translated(path, language), folder / path.name)


# --- Colab --------------------------------------------------------------------------------------


def add_badge(notebook: NotebookNode, name: str, repository: str) -> NotebookNode:
    """Put a Colab badge below the title and the repository's address into the first code cell."""
    place = repository.removeprefix("https://github.com/")
    address = f"https://colab.research.google.com/github/{place}/blob/main/notebooks/{name}"
    picture = "https://colab.research.google.com/assets/colab-badge.svg"
    badge = nbformat.v4.new_markdown_cell(f"[![Open in Colab]({picture})]({address})", id=BADGE)
    title, *rest = (cell for cell in notebook.cells if cell.id != BADGE)
    notebook.cells = [title, badge, *rest]
    setup = next(cell for cell in rest if cell.id == "setup")
    setup.source = re.sub(r'REPOSITORY = ".*?"', f'REPOSITORY = "{repository}"', setup.source)
    return notebook


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run the notebooks, store outputs, translate.")
    parser.add_argument("names", nargs="*", help="how file names begin (default: all)")
    parser.add_argument("--fast", action="store_true", help="train for a few steps only")
    parser.add_argument("--out", metavar="DIR", type=Path, help="write the notebooks there instead")
    parser.add_argument("--translate", action="store_true", help="run no notebook")
    parser.add_argument("--repository", metavar="URL", help="https://github.com/OWNER/NAME")
    arguments = parser.parse_args()
    if arguments.fast and not arguments.out:
        parser.error("--fast needs --out: stored outputs come from full training")
    return arguments


def main() -> None:
    """Run and translate the notebooks, as the arguments say."""
    arguments = _arguments()
    for path in notebooks():
        if arguments.repository:
            notebook = nbformat.read(path, as_version=4)
            nbformat.write(add_badge(notebook, path.name, arguments.repository), path)
        elif not arguments.translate and path.name.startswith(tuple(arguments.names) or ""):
            started = time.monotonic()
            notebook = executed(path, arguments.fast)
            nbformat.write(notebook, (arguments.out or HERE) / path.name)
            print(f"{path.name}: {time.monotonic() - started:.0f} s", flush=True)
    if not arguments.out:
        translate()


if __name__ == "__main__":
    main()
