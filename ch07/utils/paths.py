"""Checks of paths before anything is written to them."""

import os
from pathlib import Path

from ch07.utils.errors import OptionError, RunFolderError


def check_new_file(path, what):
    """OptionError if a file is there already, or can't be; `what` is how a reader names it."""
    if Path(path).exists():
        raise OptionError(f"{path} exists: choose another name for {what}")
    if not Path(path).absolute().parent.is_dir():
        raise OptionError(f"{Path(path).parent} is no folder: choose another for {what}")


def check_writable(folder, right=os.W_OK | os.X_OK):
    """RunFolderError if nothing can be written in a folder, or where it shall be made."""
    place = Path(folder).absolute()
    while not place.exists():
        place = place.parent
    if not os.access(place, right):
        raise RunFolderError(f"{folder} can't be written to: no right to, or a read-only disk")
