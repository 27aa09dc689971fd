"""Files of any size, read row by row: JSONL (perhaps gzip), JSON or Parquet.

At no time is more of a file in memory than one line, or one batch of Parquet rows, and a small
buffer. A line has a limit, so that neither a file without line ends nor a small one that unpacks to
gigabytes fills the memory. Knows nothing of what a row should hold.
"""

import gzip
import zlib
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from ch07.data.json_reader import DUPLICATE_KEY, PACKED_FORMATS, parse_jsonl_lines
from ch07.utils.dependencies import import_optional
from ch07.utils.errors import DataError
from ch07.utils.validation import quoted, type_name

MAX_LINE_BYTES = 10_000_000  # bytes, unpacked
MAX_BLANK_LINES = 1_000_000  # blank lines in a row: whatever the file is, it isn't data
READ_BYTES = 1 << 14  # bytes that are asked of a file at a time


def read_lines(source, digest=None):
    """Each line of a UTF-8 file without its end; what `source` may be, `open_maybe_gzip` says.

    `digest` (of hashlib) is fed with all bytes, unpacked ones. DataError names the line that is
    too long, not UTF-8, or where the packed data is damaged.
    """
    with open_maybe_gzip(source) as (name, file):
        yield from _lines_of(name, file, digest)


@contextmanager
def open_maybe_gzip(source):
    """(name, file) of a path, or of a buffered binary file, which is left open.

    DataError if the path can't be opened, or is no plain file.
    """
    if hasattr(source, "peek"):
        yield getattr(source, "name", "the file"), source
        return
    if Path(source).exists() and not Path(source).is_file():
        raise DataError(f"{source} is no file")
    try:
        with open(source, "rb", buffering=READ_BYTES) as file:
            yield str(source), file
    except OSError as error:
        raise DataError(f"{source}: {error.strerror or error}") from None


def _lines_of(name, file, digest):
    number, begun, blank = 1, False, 0
    try:
        packed = file.peek(2).startswith(PACKED_FORMATS["gzip"])
        lines = gzip.GzipFile(fileobj=_InSips(file)) if packed else file
        while line := lines.readline(MAX_LINE_BYTES + 1):
            if digest is not None:
                digest.update(line)
            text = _text(name, number, line)
            if not begun and text.lstrip().startswith("["):
                raise DataError(
                    f"{name}: a JSON list must be read whole. Make it JSONL, an entry on "
                    f"each line: jq -c '.[]' {name}"
                )
            blank = 0 if text.strip() else blank + 1
            if blank > MAX_BLANK_LINES:
                raise DataError(f"{name}: nothing but blank lines up to line {number}")
            begun = begun or not blank
            yield text.rstrip("\r\n")
            number += 1
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        what = "cut short" if isinstance(error, EOFError) else f"damaged ({error})"
        raise DataError(
            f"{name}: the gzip file is {what}: it can be read up to line {number - 1}"
        ) from None


def _text(name, number, line):
    """The bytes of a line as text."""
    if len(line) > MAX_LINE_BYTES:
        most = f"{MAX_LINE_BYTES / 1e6:.0f} MB"
        raise DataError(f"{name}: line {number} is longer than {most}: is it JSONL?")
    try:
        return line.decode("utf-8").removeprefix("\ufeff" if number == 1 else "")
    except UnicodeDecodeError:
        raise DataError(f"{name}: line {number} is not UTF-8") from None


class _InSips:
    """Hands a file on a little at a time: from Python 3.12 on, gzip asks for 128 KB at once."""

    def __init__(self, file):
        self._file = file

    def read(self, size):
        return self._file.read(min(size, READ_BYTES))


ROWS_PER_BATCH = 16  # rows of Parquet that are unpacked together


def stream_rows(source, limit=None):
    r"""The first `limit` rows of a file, or all, as dicts, read as they are asked for.

    `source` is a path or a buffered binary file (`open(path, "rb")`, or what `urlopen` gives). What
    a file is, its first bytes say. DataError names the line that is no JSON object.

    >>> from io import BufferedReader, BytesIO
    >>> file = BufferedReader(BytesIO(b'{"text": "one"}\n{"text": "two"}\n'))
    >>> list(stream_rows(file, limit=1))
    [{'text': 'one'}]
    """
    return islice(_checked_rows(source), limit)


def in_batches(rows, size):
    """Lists of `size` rows, the last one perhaps shorter; ValueError for a size below 1.

    >>> list(in_batches(range(5), 2))
    [[0, 1], [2, 3], [4]]
    """
    if size < 1:
        raise ValueError(f"a batch of {size} rows: it must have at least 1")
    rows = iter(rows)
    return iter(lambda: list(islice(rows, size)), [])


def numbered_rows(source, findings):
    """("line 3" or "row 3", row) for each row; lines that are no JSON go to `findings`."""
    with open_maybe_gzip(source) as (name, file):
        yield from _rows_of(name, file, findings)


def _rows_of(name, file, findings):
    if file.peek(4).startswith(PACKED_FORMATS["Parquet"]):
        yield from ((f"row {i}", row) for i, row in enumerate(_parquet_rows(name, file), start=1))
    else:
        yield from parse_jsonl_lines(read_lines(file), name, findings)


def _parquet_rows(name, file):
    """Dicts, a few at a time; of a large file only the parts in which they lie are read."""
    pyarrow, parquet = (
        import_optional(n, "Parquet", "pyarrow") for n in ("pyarrow", "pyarrow.parquet")
    )
    try:
        # else all that follows is fetched beforehand
        table = parquet.ParquetFile(file, pre_buffer=False, buffer_size=READ_BYTES)
        for batch in table.iter_batches(batch_size=ROWS_PER_BATCH):
            yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        why = str(error).strip().split("\n")[0]
        raise DataError(f"{name}: this Parquet file can't be read: {why}") from None


def _checked_rows(source):
    """The rows; DataError for the first thing that is no row."""
    with open_maybe_gzip(source) as (name, file):
        for where, row in _rows_of(name, file, _Refused(name)):
            if not isinstance(row, dict):
                found = type_name(row)
                raise DataError(f"{name}: {where}: expected an object, found a {found}")
            if DUPLICATE_KEY in row:
                raise DataError(
                    f"{name}: {where}: the key {quoted(row[DUPLICATE_KEY])} stands twice"
                )
            yield row


class _Refused:
    """Takes the place of a list of findings, and takes none."""

    def __init__(self, name):
        self._name = name

    def append(self, finding):
        raise DataError(f"{self._name}: {finding.where}: {finding.what}")
