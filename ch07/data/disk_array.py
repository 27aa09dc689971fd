"""An array of numbers in a file, of which only the parts that are asked for are read.

The one idea: a mapped file that is cut while it is in use kills the process (SIGBUS), with no
chance to say why. A file that is read says how many bytes it gave.
"""

import os
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from ch07.utils.errors import DataError
from ch07.utils.plain_files import open_plain

BLOCK = 1 << 20  # numbers that `maximum` reads at a time


class DiskArray:
    """One-dimensional and read-only; an index or a slice gives what NumPy's would.

    DataError if the file has become shorter since it was opened.
    """

    def __init__(self, path: str | Path, dtype: Any) -> None:
        self.path = Path(path)
        self.dtype = np.dtype(dtype)
        self._file = open_plain(path)
        self._lock = Lock()
        self._n = os.fstat(self._file.fileno()).st_size // self.dtype.itemsize

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, index: Any) -> Any:
        if not isinstance(index, slice):
            position = range(self._n)[int(index)]
            return self._read(position, 1)[0]
        start, stop, step = index.indices(self._n)
        if step != 1:
            return self[:][index]
        return self._read(start, max(0, stop - start))

    def maximum(self) -> int:
        """The largest number, 0 if there is none, without holding all of them."""
        parts = (self[start : start + BLOCK] for start in range(0, self._n, BLOCK))
        return max((int(part.max()) for part in parts), default=0)

    def _read(self, start: int, n: int) -> np.ndarray:
        n_bytes = n * self.dtype.itemsize
        data = self._read_bytes(start * self.dtype.itemsize, n_bytes)
        if len(data) < n_bytes:
            raise DataError(f"{self.path} became shorter while it was in use: write it again")
        return np.frombuffer(data, dtype=self.dtype)

    def _read_bytes(self, start: int, n_bytes: int) -> bytes:
        """From one place of the file, whatever other threads and processes read."""
        if not hasattr(os, "pread"):  # Windows
            with self._lock:
                self._file.seek(start)
                return self._file.read(n_bytes)
        pieces = []
        while n_bytes:
            piece = os.pread(self._file.fileno(), n_bytes, start)  # at most 2 GB at a time
            if not piece:
                break
            pieces.append(piece)
            start += len(piece)
            n_bytes -= len(piece)
        return b"".join(pieces)

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()

    def __reduce__(self) -> Any:
        return DiskArray, (self.path, self.dtype)
