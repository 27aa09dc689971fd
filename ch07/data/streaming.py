"""Files of any size, read row by row: JSONL, plain or gzip-compressed, and Parquet.

The one idea: no more of a file is ever in memory than one line, or one batch of Parquet rows, and a
small buffer. Lines have a maximum length, so neither a file without line ends nor a small one that
decompresses to gigabytes fills the memory. Knows nothing of what a row should contain.
"""

import gzip
import io
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn, Protocol, TypeVar

from ch07.data.json_reader import (
    COMPRESSED_FORMATS,
    DUPLICATE_KEY,
    Finding,
    FindingSink,
    parse_jsonl_lines,
)
from ch07.utils.dependencies import import_optional
from ch07.utils.errors import DataError, InputError
from ch07.utils.validation import quote, type_name

MAX_LINE_BYTES = 10_000_000  # bytes, decompressed
MAX_BLANK_LINES = 1_000_000  # in a row: a file with more isn't data
READ_BYTES = 1 << 14  # bytes requested from a file at a time
ROWS_PER_BATCH = 16  # rows of Parquet that are decoded together

T = TypeVar("T")


class PeekableFile(Protocol):
    """A buffered binary file, as `open(path, "rb")` or `urlopen` gives it."""

    def peek(self, size: int = 0, /) -> bytes: ...

    def read(self, size: int = -1, /) -> bytes: ...

    def readline(self, size: int = -1, /) -> bytes: ...


class Digest(Protocol):
    """A hash of `hashlib`."""

    def update(self, data: bytes, /) -> None: ...


# --- lines ----------------------------------------------------------------------------------------
def read_lines(source: Path | str | PeekableFile, digest: Digest | None = None) -> Iterator[str]:
    """Each line of a UTF-8 file without its end; `source` is as for `open_maybe_gzip`.

    `digest` is updated with all bytes, decompressed. DataError names the line that is too long, not
    UTF-8, or where the compressed data is damaged.
    """
    with open_maybe_gzip(source) as (name, file):
        yield from _decoded_lines(name, file, digest)


@contextmanager
def open_maybe_gzip(source: Path | str | PeekableFile) -> Iterator[tuple[str, PeekableFile]]:
    """(name, file) of a path, or of a buffered binary file, which is left open.

    DataError if the path can't be opened, or isn't a regular file.
    """
    if not isinstance(source, Path | str):
        yield getattr(source, "name", "the file"), source
        return
    if Path(source).exists() and not Path(source).is_file():
        raise DataError(f"{source} is not a regular file")
    try:
        with io.BufferedReader(io.FileIO(source), READ_BYTES) as file:
            yield str(source), file
    except OSError as error:
        raise DataError(f"{source}: {error.strerror or error}") from None


def _decoded_lines(name: str, file: PeekableFile, digest: Digest | None) -> Iterator[str]:
    number = 1
    n_blank = 0
    text_seen = False
    try:
        packed = file.peek(2).startswith(COMPRESSED_FORMATS["gzip"])
        # GzipFile needs only read() of a file that it reads
        lines = gzip.GzipFile(fileobj=_SmallReads(file)) if packed else file  # type: ignore
        while line := lines.readline(MAX_LINE_BYTES + 1):
            if digest is not None:
                digest.update(line)
            text = _decode_line(name, number, line)
            if not text_seen and text.lstrip().startswith("["):
                raise DataError(
                    f"{name}: a JSON list must be read whole. Make it JSONL, one entry on "
                    f"each line: jq -c '.[]' {name}"
                )
            if text.strip():
                n_blank = 0
                text_seen = True
            else:
                n_blank += 1
            if n_blank > MAX_BLANK_LINES:
                raise DataError(f"{name}: nothing but blank lines up to line {number}")
            yield text.rstrip("\r\n")
            number += 1
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        fault = "cut short" if isinstance(error, EOFError) else f"damaged ({error})"
        raise DataError(
            f"{name}: the gzip file is {fault}: it can be read up to line {number - 1}"
        ) from None


def _decode_line(name: str, number: int, line: bytes) -> str:
    if len(line) > MAX_LINE_BYTES:
        most = f"{MAX_LINE_BYTES / 1e6:.0f} MB"
        raise DataError(f"{name}: line {number} is longer than {most}: is it JSONL?")
    try:
        return line.decode("utf-8").removeprefix("\ufeff" if number == 1 else "")
    except UnicodeDecodeError:
        raise DataError(f"{name}: line {number} is not UTF-8") from None


class _SmallReads:
    """A file that returns a little at a time: from Python 3.12 on, gzip requests 128 KB at once."""

    def __init__(self, file: PeekableFile) -> None:
        self._file = file

    def read(self, size: int, /) -> bytes:
        return self._file.read(min(size, READ_BYTES))


# --- rows -----------------------------------------------------------------------------------------
def stream_rows(
    source: Path | str | PeekableFile, limit: int | None = None
) -> Iterator[dict[str, Any]]:
    r"""The first `limit` rows of a file, or all, as dicts, read as they are asked for.

    `source` is a path or a buffered binary file. Its first bytes tell its format. DataError names
    the line that isn't a JSON object.

    >>> from io import BufferedReader, BytesIO
    >>> file = BufferedReader(BytesIO(b'{"text": "one"}\n{"text": "two"}\n'))
    >>> list(stream_rows(file, limit=1))
    [{'text': 'one'}]
    """
    return islice(_objects(source), limit)


def in_batches(rows: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` rows, of which the last may be shorter; ValueError for a size below 1.

    >>> list(in_batches(range(5), 2))
    [[0, 1], [2, 3], [4]]
    """
    if size < 1:
        raise InputError(f"a batch has {size} rows, but must have at least 1")
    remaining = iter(rows)
    return iter(lambda: list(islice(remaining, size)), [])


def numbered_rows(
    source: Path | str | PeekableFile, findings: FindingSink
) -> Iterator[tuple[str, Any]]:
    """("line 3" or "row 3", row) for each row; lines that aren't JSON go to `findings`."""
    with open_maybe_gzip(source) as (name, file):
        yield from _numbered_rows(name, file, findings)


def _numbered_rows(
    name: str, file: PeekableFile, findings: FindingSink
) -> Iterator[tuple[str, Any]]:
    if file.peek(4).startswith(COMPRESSED_FORMATS["Parquet"]):
        yield from ((f"row {i}", row) for i, row in enumerate(_parquet_rows(name, file), start=1))
    else:
        yield from parse_jsonl_lines(read_lines(file), name, findings)


def _parquet_rows(name: str, file: PeekableFile) -> Iterator[dict[str, Any]]:
    """Rows, a few at a time; of a large file only the parts that contain them are read."""
    pyarrow = import_optional("pyarrow", "Parquet", "pyarrow")
    parquet = import_optional("pyarrow.parquet", "Parquet", "pyarrow")
    try:
        # with pre_buffer, all that follows would be fetched in advance
        table = parquet.ParquetFile(file, pre_buffer=False, buffer_size=READ_BYTES)
        for batch in table.iter_batches(batch_size=ROWS_PER_BATCH):
            yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        cause = str(error).strip().split("\n")[0]
        raise DataError(f"{name}: this Parquet file can't be read: {cause}") from None


def _objects(source: Path | str | PeekableFile) -> Iterator[dict[str, Any]]:
    """The rows; DataError for the first that isn't an object."""
    with open_maybe_gzip(source) as (name, file):
        for place, row in _numbered_rows(name, file, _RaiseFindings(name)):
            if not isinstance(row, dict):
                found = type_name(row)
                raise DataError(f"{name}: {place}: expected an object, found a {found}")
            if DUPLICATE_KEY in row:
                raise DataError(
                    f"{name}: {place}: the key {quote(row[DUPLICATE_KEY])} appears twice"
                )
            yield row


class _RaiseFindings:
    """Stands in for a list of findings, and raises the first one as a DataError."""

    def __init__(self, name: str) -> None:
        self._name = name

    def append(self, finding: Finding, /) -> NoReturn:
        raise DataError(f"{self._name}: {finding.place}: {finding.text}")
