"""Builds the book in both languages, and a first page that leads to them.

    python docs/book/build.py [FOLDER]

Any warning ends the build: a broken link, a picture without a description, a page that no list
names. Open build/book/index.html; the folder works from a disk as from a server.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

from ch07.data.entries import load_entries  # noqa: E402
from ch07.data.toy_instructions.build import DATA_FILE  # noqa: E402
from ch07.pages.collate_explorer_data import collate_explorer_page  # noqa: E402

LANGUAGES = ("en", "zh-CN")  # the folders of the book, and what HTML calls the languages
SPHINX_WAS_HERE = ".buildinfo"


def build(folder: Path) -> None:
    """Build both languages into a folder; CalledProcessError if one of them has a fault.

    What an earlier build has left there goes first, so that no page outlives its source.
    """
    for language in LANGUAGES:
        if (folder / language / SPHINX_WAS_HERE).is_file():
            shutil.rmtree(folder / language)
        with tempfile.TemporaryDirectory() as scratch:
            command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html"]
            command += ["-c", str(HERE), "-d", str(Path(scratch) / "doctrees")]
            command += [str(ROOT), str(folder / language)]
            subprocess.run(command, check=True, env={**os.environ, "BOOK_LANGUAGE": language})
        explorer = collate_explorer_page(load_entries(DATA_FILE), language=language)
        (folder / language / "collate_explorer.html").write_text(explorer, encoding="utf-8")
    shutil.rmtree(folder / "jupyter_execute", ignore_errors=True)  # MyST-NB's copies of pictures
    shutil.copy(HERE / "choose_language.html", folder / "index.html")


def main() -> None:
    """Build into the folder that was named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "build" / "book")
    folder = parser.parse_args().folder
    build(folder)
    print(f"{folder / 'index.html'}: open it in a browser")


if __name__ == "__main__":
    main()
