"""Checks of a path before anything is written to it."""

import os
from pathlib import Path

from ch07.utils.errors import OptionError, RunFolderError


def check_new_file(path: str | Path, option: str) -> None:
    """OptionError unless a new file can be created at `path`; `option` is named in the message."""
    if not str(path):
        raise OptionError(f"{option} is empty: give the name of a new file")
    path = Path(path)
    if os.path.lexists(path):  # a link that leads nowhere exists, too
        raise OptionError(f"{path} exists: choose another name for {option}")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise OptionError(f"{path.parent} is not a folder: choose another for {option}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OptionError(f"{path.parent} can't be written to: choose another folder for {option}")


def check_writable(folder: str | Path, access: int = os.W_OK | os.X_OK) -> None:
    """RunFolderError if `folder` can't be written to, or can't be created where it should be."""
    if not os.access(nearest_existing_folder(folder), access):
        raise RunFolderError(
            f"{folder} can't be written to: permission is missing, or the disk is read-only"
        )


def nearest_existing_folder(path: str | Path) -> Path:
    """`path` itself if it exists, else the closest of its parents that does."""
    path = Path(path).absolute()
    while not path.exists():
        path = path.parent
    return path
