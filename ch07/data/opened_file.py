"""A name -> the bytes of a file, unpacked: a file, a pipe or standard input, compressed or not.

The one idea: whoever reads rows gets one buffered stream of plain bytes, wherever they come from. A
limit on what is unpacked keeps a small file that decompresses to gigabytes out of the memory.
"""

import bz2
import gzip
import io
import lzma
import os
import stat
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ch07.data.file_formats import (
    COLUMNAR,
    PACKED,
    PROBE_BYTES,
    TEXT,
    UnreadFormat,
    explain_unread,
    recognise_format,
)
from ch07.utils.console import shell_path
from ch07.utils.dependencies import import_optional
from ch07.utils.errors import DataError
from ch07.utils.validation import max_json_bytes

STANDARD_INPUT = "-"
READ_BYTES = 1 << 14  # bytes requested from a file at a time
MAX_LAYERS = 3  # of compression, one inside the other
XZ_MEMORY = 1 << 28  # bytes; `xz -9` needs 65 MB to unpack, a hostile file could ask for 4 GB
WRITER_SECONDS = 1.0  # how long a pipe may be without a process that writes to it
POLL_SECONDS = 0.01
WORKBOOK = "Excel workbook"
IGNORED_MEMBERS = ("__MACOSX/", ".DS_Store", "Thumbs.db", "desktop.ini")  # that archivers add

Read = Callable[[int], bytes]  # at most so many bytes; none at the end


class PeekableFile(Protocol):
    """A buffered binary file, as `open(path, "rb")` or `urlopen` gives it."""

    def peek(self, size: int = 0, /) -> bytes: ...

    def read(self, size: int = -1, /) -> bytes: ...

    def readline(self, size: int = -1, /) -> bytes: ...


class Digest(Protocol):
    """A hash of `hashlib`."""

    def update(self, data: bytes, /) -> None: ...


class DamagedFileError(DataError):
    """A compressed file that ends too early, or whose content was altered."""


@dataclass(frozen=True)
class OpenedFile:
    """An unpacked file that is ready to be read."""

    name: str
    file: Any  # a `PeekableFile`; columnar files and workbooks can seek, too
    format: str  # a name in `COLUMNAR`, `WORKBOOK`, or `TEXT`
    max_bytes: int | None  # None: rows are used one by one, so there may be any number
    is_file: bool = True  # False: unpacked from one, or from a pipe, so no command can name it


def display_name(source: object) -> str:
    """What messages call a source: its path, or "standard input"."""
    if source == STANDARD_INPUT:
        return "standard input"
    if isinstance(source, str | Path):
        return str(source)
    return str(getattr(source, "name", "the file"))


@contextmanager
def open_unpacked(
    source: Path | str | PeekableFile,
    max_bytes: int | None = None,
    digest: Digest | None = None,
    kind: str = "a data file",
) -> Iterator[OpenedFile]:
    """The `OpenedFile` of a path, of "-" or of a buffered binary file, which is left open.

    `digest` is updated with the bytes as they are stored. DataError if the file can't be opened or
    isn't one that is read here, and, while it is read, if it is damaged or has more than
    `max_bytes` when it is unpacked. `kind` says in messages what the file should be.
    """
    name = display_name(source)
    with _open_stored(source, name, kind) as file:
        is_file = isinstance(source, Path | str) and source != STANDARD_INPUT
        found = _format_of(file, name, is_file)
        if found in COLUMNAR or found == "zip":
            file = _seekable(file, name)
            _hash_whole(file, digest)
        elif digest is not None:
            file = buffered(_hashing(file.read, digest))
        n_layers = 0
        while found in PACKED and not (found == "zip" and _is_workbook(file, name)):
            n_layers += 1
            if n_layers > MAX_LAYERS:
                raise DataError(f"{name} is compressed more than {MAX_LAYERS} times over")
            file = buffered(_limited(UNPACKERS[found](file, name), name, max_bytes))
            is_file = False
            found = _format_of(file, name, is_file)
            if found in COLUMNAR or found == "zip":
                file = _seekable(file, name)
        if found == TEXT and n_layers == 0 and max_bytes is not None:
            file = buffered(_limited(file.read, name, max_bytes))
        yield OpenedFile(name, file, WORKBOOK if found == "zip" else found, max_bytes, is_file)


def _format_of(file: PeekableFile, name: str, is_file: bool) -> str:
    """A name in `PACKED` or `COLUMNAR`, or `TEXT`; DataError for what isn't read."""
    found = recognise_format(file.peek(PROBE_BYTES)[:PROBE_BYTES])
    if isinstance(found, UnreadFormat):
        raise DataError(explain_unread(name, found, is_file))
    return found


# --- the stored bytes -----------------------------------------------------------------------------
@contextmanager
def _open_stored(source: Path | str | PeekableFile, name: str, kind: str) -> Iterator[Any]:
    """A buffered binary file; one that was given is passed on."""
    if not isinstance(source, Path | str):
        yield source
    elif source == STANDARD_INPUT:
        yield _standard_input()
    else:
        try:
            with _open_path(source, kind) as file:
                yield file
        except OSError as error:
            raise DataError(f"{name}: {error.strerror or error}") from None


def _standard_input() -> Any:
    stream = getattr(sys.stdin, "buffer", None)
    if stream is None:  # closed, or replaced by text
        raise DataError("standard input can't be read: give a file, or pipe one in")
    return stream if stream.seekable() else buffered(stream.read)


@contextmanager
def _open_path(path: Path | str, kind: str) -> Iterator[Any]:
    if Path(path).is_dir():
        raise DataError(f"{path} is a folder, but must be {kind}")
    # without waiting for a pipe that nobody writes to
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with io.FileIO(descriptor, closefd=True) as raw:
        if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            with io.BufferedReader(raw, READ_BYTES) as file:
                yield file
            return
        first = _first_byte_of_pipe(descriptor, path)
        os.set_blocking(descriptor, True)
        yield buffered(_preceded(first, raw.read))


def _first_byte_of_pipe(descriptor: int, path: Path | str) -> bytes:
    """The first byte, or nothing if a process has opened the pipe but written nothing yet.

    A process that was started together with this one has a moment to open the pipe. If the pipe
    were closed at once, a process that had just opened it would be killed by SIGPIPE.
    """
    end = time.monotonic() + WRITER_SECONDS
    while True:
        try:
            first = os.read(descriptor, 1)
        except BlockingIOError:
            return b""
        if first:
            return first
        if time.monotonic() >= end:
            raise DataError(f"{path} is a pipe that no process writes to")
        time.sleep(POLL_SECONDS)


def _seekable(file: Any, name: str) -> Any:
    """The file itself if it can be read from any place, else all of it in memory."""
    if not hasattr(file, "seekable") or file.seekable():
        return file
    data = read_whole(file, name, max_json_bytes())
    return io.BufferedReader(io.BytesIO(data))  # type: ignore[arg-type]


def read_whole(file: PeekableFile, name: str, max_bytes: int, start: bytes = b"") -> bytes:
    """`start` and all that follows in the file; DataError if that is more than `max_bytes`.

    In pieces: `file.read(max_bytes)` would reserve so many bytes at once.
    """
    pieces = [start]
    n_bytes = len(start)
    while n_bytes <= max_bytes and (piece := file.read(1 << 20)):
        pieces.append(piece)
        n_bytes += len(piece)
    if n_bytes > max_bytes:
        raise DataError(too_large(name, max_bytes))
    return b"".join(pieces)


# --- streams --------------------------------------------------------------------------------------
class _Stream(io.RawIOBase):
    """A raw file that is read through a function, a little at a time.

    The first read brings enough to recognise the format, even where a pipe brings single bytes.
    """

    def __init__(self, read: Read) -> None:
        self._read = read
        self._started = False
        self._error: DataError | None = None  # raised once the data before it was read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        if self._error is not None:
            raise self._error
        size = min(len(buffer), READ_BYTES)
        data = self._read(size)
        while not self._started and data and len(data) < min(PROBE_BYTES, size):
            try:
                more = self._read(size - len(data))
            except DataError as error:
                self._error = error
                break
            if not more:
                break
            data += more
        self._started = True
        buffer[: len(data)] = data
        return len(data)


def buffered(read: Read) -> Any:
    """A buffered file that is read through a function."""
    return io.BufferedReader(_Stream(read), READ_BYTES)


def _preceded(first: bytes, read: Read) -> Read:
    pending = [first]

    def read_first(size: int) -> bytes:
        return (pending.pop() if pending else b"") or read(size)

    return read_first


def _hashing(read: Read, digest: Digest) -> Read:
    def read_and_hash(size: int) -> bytes:
        data = read(size)
        digest.update(data)
        return data

    return read_and_hash


def _hash_whole(file: Any, digest: Digest | None) -> None:
    """Update the digest with a file that can be read twice."""
    if digest is None:
        return
    while data := file.read(1 << 20):
        digest.update(data)
    file.seek(0)


def _limited(read: Read, name: str, max_bytes: int | None) -> Read:
    """A `Read` that raises a DataError once there is more than `max_bytes`."""
    n_read = 0

    def read_counted(size: int) -> bytes:
        nonlocal n_read
        data = read(size)
        n_read += len(data)
        if max_bytes is not None and n_read > max_bytes:
            raise DataError(too_large(name, max_bytes))
        return data

    return read_counted


def too_large(name: str, max_bytes: int) -> str:
    """The sentence about a file that may not fit into the free memory."""
    return (
        f"{name}: more than {max_bytes / 1e6:,.0f} MB, which may not fit into the free "
        "memory once it is read: split the file"
    )


# --- compressed files -----------------------------------------------------------------------------
def _checked(read: Read, name: str, kind: str) -> Read:
    """A `Read` whose errors say that the compressed file is damaged."""

    def read_checked(size: int) -> bytes:
        try:
            return read(size)
        except DataError:  # of the stream below
            raise
        except EOFError:
            raise DamagedFileError(f"{name}: the {kind} file is cut short") from None
        except (zlib.error, lzma.LZMAError, zipfile.BadZipFile, OSError, ValueError) as error:
            raise DamagedFileError(f"{name}: the {kind} file is damaged ({error})") from None

    return read_checked


def _unpack_gzip(file: PeekableFile, name: str) -> Read:
    stream = buffered(file.read)  # from Python 3.12 on, gzip would request 128 KB at once
    return _checked(gzip.GzipFile(fileobj=stream).read1, name, "gzip")


def _unpack_bzip2(file: PeekableFile, name: str) -> Read:
    return _checked(bz2.BZ2File(buffered(file.read)).read1, name, "bzip2")


def _unpack_xz(file: PeekableFile, name: str) -> Read:
    """A `Read` with a limit on memory, which `lzma.LZMAFile` doesn't have."""
    decompressor = lzma.LZMADecompressor(memlimit=XZ_MEMORY)

    def read(size: int) -> bytes:
        nonlocal decompressor
        while True:
            if decompressor.eof:  # a file may hold several streams, and zeros after each
                rest = decompressor.unused_data.lstrip(b"\0") or file.read(READ_BYTES).lstrip(b"\0")
                if not rest:
                    return b""
                decompressor = lzma.LZMADecompressor(memlimit=XZ_MEMORY)
            else:
                rest = file.read(READ_BYTES) if decompressor.needs_input else b""
                if not rest and decompressor.needs_input:
                    raise EOFError
            data = decompressor.decompress(rest, size)
            if data:
                return data

    return _checked(read, name, "xz")


def _unpack_zstd(file: PeekableFile, name: str) -> Read:
    """By pyarrow, which reads Parquet as well; Python has zstd itself from 3.14 on."""
    pyarrow = import_optional("pyarrow", "unpacking zstd", "pyarrow")
    stream = pyarrow.CompressedInputStream(pyarrow.PythonFile(file, mode="r"), "zstd")
    return _checked(stream.read, name, "zstd")


def _unpack_zip(file: Any, name: str) -> Read:
    """The one file in the archive."""
    try:
        archive = zipfile.ZipFile(file)
        members = [
            member
            for member in archive.infolist()
            if not member.is_dir()
            and not member.filename.startswith(IGNORED_MEMBERS)
            and Path(member.filename).name not in IGNORED_MEMBERS
        ]
        document = _kind_of_document([member.filename for member in members])
        if document is not None:
            raise DataError(f"{name} is {document}: save it as CSV or .xlsx")
        if len(members) != 1:
            folder = shell_path(f"{Path(name).stem}_unpacked")
            raise DataError(
                f"{name} is a zip of {len(members)} files: unpack it, and give the folder or one "
                f"of its files: unzip {shell_path(name)} -d {folder}"
            )
        member: Any = archive.open(members[0], "r")
        return _checked(member.read1, name, "zip")
    except DataError:
        raise
    except (zipfile.BadZipFile, OSError, ValueError, EOFError) as error:
        raise DamagedFileError(f"{name}: the zip file is damaged ({error})") from None
    except (RuntimeError, NotImplementedError) as error:  # a password, a rare compression
        raise DataError(f"{name}: the zip file can't be unpacked: {error}") from None


def _kind_of_document(names: Sequence[str]) -> str | None:
    """What a zip is that holds no data files of its own; None if nothing says so."""
    if any(name.startswith("word/") for name in names):
        return "a Word document"
    if "mimetype" in names and "content.xml" in names:
        return "an OpenDocument file"
    return None


def _is_workbook(file: Any, name: str) -> bool:
    try:
        names = zipfile.ZipFile(file).namelist()
    except (zipfile.BadZipFile, OSError, ValueError, EOFError) as error:
        raise DamagedFileError(f"{name}: the zip file is damaged ({error})") from None
    return any(member.startswith("xl/") for member in names)


UNPACKERS: dict[str, Callable[[Any, str], Read]] = {
    "gzip": _unpack_gzip,
    "bzip2": _unpack_bzip2,
    "xz": _unpack_xz,
    "zstd": _unpack_zstd,
    "zip": _unpack_zip,
}
