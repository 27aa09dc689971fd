"""Runs the notebooks, keeps what they print, and builds their translations.

    python notebooks/build.py [NAME ...]        run them, save their outputs, then translate
    python notebooks/build.py --fast --out DIR  the same with a few steps of training, elsewhere
    python notebooks/build.py --translate       build notebooks/zh-CN/ from the side-cars alone
    python notebooks/build.py --repository URL  put Colab badges and the address into them

The one idea: cells are written by people, outputs by this file alone. A translation is a
side-car of texts by cell id; code and outputs are the same bytes in every language.
"""

import argparse
import hashlib
import json
import os
import re
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).resolve().parent
SECONDS = 600  # for one cell
BADGE = "badge"  # the id of the cell that `stamped` puts in
LANGUAGES = {"zh-CN": "> **（本段尚无最新译文，以下为英文原文。）**\n\n"}  # said above a stale cell


def notebooks():
    """The chapter's notebooks, in order."""
    return sorted(HERE.glob("[0-9]*.ipynb"))


def executed(path, fast=False):
    """A fresh copy of the notebook with the outputs of a run from top to bottom.

    `fast` sets CH07_FAST, with which notebooks train for a few steps only. A cell that fails
    raises nbclient's CellExecutionError.
    """
    notebook = nbformat.read(path, as_version=4)
    environment = {**os.environ, "CH07_FAST": "1" if fast else "", "MPLBACKEND": "agg"}
    client = NotebookClient(notebook, timeout=SECONDS, coalesce_streams=True)
    client.execute(cwd=str(path.parent), env=environment)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # clock times
    notebook.metadata.pop("widgets", None)  # its state breaks GitHub's preview
    notebook.metadata["language_info"] = {"name": "python"}  # whatever the version
    return notebook


def texts_of(cell):
    """What a code cell shows, as text: streams and plain forms, in order."""
    texts = []
    for output in cell.get("outputs", []):
        if output.output_type == "stream":
            texts.append(output.text)
        else:
            texts.append(output.get("data", {}).get("text/plain", ""))
    return texts


# --- translations -------------------------------------------------------------------------------


def fingerprint(text):
    """What a side-car remembers of the English text that it translates."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def side_car(path, language):
    """{cell id: {"source": fingerprint, "text": translation}} of a notebook, empty if none."""
    file = HERE / "i18n" / language / f"{path.stem}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def standing(notebook, texts):
    """{cell id: "fresh", "stale" or "missing"} for the cells of text, "broken" for lost keys."""
    states = {key: "broken" for key in texts}
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and cell.id != BADGE:
            known = texts.get(cell.id)
            fresh = known is not None and known["source"] == fingerprint(cell.source)
            states[cell.id] = "missing" if known is None else "fresh" if fresh else "stale"
    return states


def translated(path, language):
    """The notebook in another language: what has no fresh translation stays English, marked."""
    notebook, texts = nbformat.read(path, as_version=4), side_car(path, language)
    states = standing(notebook, texts)
    for cell in notebook.cells:
        if cell.id == BADGE:  # it opens this translation
            cell.source = cell.source.replace("/notebooks/", f"/notebooks/{language}/")
        elif cell.cell_type == "markdown":
            fresh = states[cell.id] == "fresh"
            mark = LANGUAGES[language]
            cell.source = texts[cell.id]["text"] if fresh else mark + cell.source
    return notebook


def translate():
    """Write notebooks/LANGUAGE/ anew."""
    for language in LANGUAGES:
        folder = HERE / language
        folder.mkdir(exist_ok=True)
        for path in notebooks():
            nbformat.write(translated(path, language), folder / path.name)


# --- Colab --------------------------------------------------------------------------------------


def stamped(notebook, name, repository):
    """The notebook with a Colab badge below its title, and the address in its first code cell."""
    place = repository.removeprefix("https://github.com/")
    address = f"https://colab.research.google.com/github/{place}/blob/main/notebooks/{name}"
    picture = "https://colab.research.google.com/assets/colab-badge.svg"
    badge = nbformat.v4.new_markdown_cell(f"[![Open in Colab]({picture})]({address})", id=BADGE)
    title, *rest = (cell for cell in notebook.cells if cell.id != BADGE)
    notebook.cells = [title, badge, *rest]
    setup = next(cell for cell in rest if cell.id == "setup")
    setup.source = re.sub(r'REPOSITORY = ".*?"', f'REPOSITORY = "{repository}"', setup.source)
    return notebook


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="beginnings of file names (default: all)")
    parser.add_argument("--fast", action="store_true", help="train for a few steps only")
    parser.add_argument("--out", metavar="DIR", type=Path, help="leave the stored ones alone")
    parser.add_argument("--translate", action="store_true", help="run nothing")
    parser.add_argument("--repository", metavar="URL", help="https://github.com/OWNER/NAME")
    arguments = parser.parse_args()
    if arguments.fast and not arguments.out:
        parser.error("--fast needs --out: what is stored comes from a whole training")
    return arguments


def main():
    """Do what the arguments say."""
    arguments = _arguments()
    for path in notebooks():
        if arguments.repository:
            notebook = nbformat.read(path, as_version=4)
            nbformat.write(stamped(notebook, path.name, arguments.repository), path)
        elif not arguments.translate and path.name.startswith(tuple(arguments.names) or ""):
            started = time.monotonic()
            notebook = executed(path, arguments.fast)
            nbformat.write(notebook, (arguments.out or HERE) / path.name)
            print(f"{path.name}: {time.monotonic() - started:.0f} s", flush=True)
    if not arguments.out:
        translate()


if __name__ == "__main__":
    main()
