"""Reading files of a folder that anybody may have made: only plain ones, and never too much.

The one idea: where a settings file is expected, there may be a pipe that nobody writes to, a device
that never ends, or a sparse file of a terabyte. So a file is opened without waiting, and looked at
once it is open, when nobody can exchange it any more.
"""

import os
import stat
from pathlib import Path
from typing import BinaryIO

from ch07.utils.errors import DataError
from ch07.utils.memory import free_memory
from ch07.utils.validation import max_json_bytes


def open_plain(path: str | Path) -> BinaryIO:
    """A regular file, open for reading; DataError for anything else, OSError if there is none."""
    if os.path.isdir(path):  # which Windows can't open
        raise DataError(f"{path} is a folder, but must be a file")
    descriptor = os.open(
        path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    )
    file = os.fdopen(descriptor, "rb")
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise DataError(f"{path} is not a regular file")
    return file


def read_plain(path: str | Path, max_bytes: int | None = None) -> bytes:
    """The content of a regular file; DataError if it has more than `max_bytes`.

    None: as many as JSON may have that must fit into memory when it is parsed.
    """
    limit = max_json_bytes() if max_bytes is None else max_bytes
    with open_plain(path) as file:
        return file.read(_checked_size(file, path, limit))  # and no more, should it grow


def check_fits_into_memory(path: str | Path) -> None:
    """DataError unless it is a regular file that is no larger than the free memory."""
    with open_plain(path) as file:
        _checked_size(file, path, free_memory())


def _checked_size(file: BinaryIO, path: str | Path, limit: int) -> int:
    size = os.fstat(file.fileno()).st_size
    if size > limit:
        raise DataError(f"{path} is too large to be read: more than {limit / 1e6:,.0f} MB")
    return size
