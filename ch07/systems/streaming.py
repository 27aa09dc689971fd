"""Rows of a file of any size, a few at a time: JSONL, JSONL packed by gzip, or Parquet.

The one idea: a file is an iterator of rows, so that to see five rows of a terabyte costs five rows.
The course "Finetuning Large Language Models" (DeepLearning.AI and Lamini) looks at web text this
way: `itertools.islice` over C4 as `datasets` streams it, rows with the keys text, timestamp and
url (allenai/c4, files of gzipped JSONL). Knows nothing of what a row should hold.
"""

from itertools import islice

from ch07.json_rows import PACKED, TWICE, DataError, named, parse_lines, type_name
from ch07.lines import SIP, opened, read_lines
from ch07.requirements import optional

AT_ONCE = 16  # rows of Parquet that are unpacked together


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
    with opened(source) as (name, file):
        yield from _rows_of(name, file, findings)


def _rows_of(name, file, findings):
    if file.peek(4).startswith(PACKED["Parquet"]):
        yield from ((f"row {i}", row) for i, row in enumerate(_parquet_rows(name, file), start=1))
    else:
        yield from parse_lines(read_lines(file), name, findings)


def _parquet_rows(name, file):
    """Dicts, a few at a time; of a large file only the parts in which they lie are read."""
    pyarrow, parquet = (optional(n, "Parquet", "pyarrow") for n in ("pyarrow", "pyarrow.parquet"))
    try:
        # else all that follows is fetched beforehand
        table = parquet.ParquetFile(file, pre_buffer=False, buffer_size=SIP)
        for batch in table.iter_batches(batch_size=AT_ONCE):
            yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        why = str(error).strip().split("\n")[0]
        raise DataError(f"{name}: this Parquet file can't be read: {why}") from None


def _checked_rows(source):
    """The rows; DataError for the first thing that is no row."""
    with opened(source) as (name, file):
        for where, row in _rows_of(name, file, _Refused(name)):
            if not isinstance(row, dict):
                found = type_name(row)
                raise DataError(f"{name}: {where}: expected an object, found a {found}")
            if TWICE in row:
                raise DataError(f"{name}: {where}: the key {named(row[TWICE])} stands twice")
            yield row


class _Refused:
    """Takes the place of a list of findings, and takes none."""

    def __init__(self, name):
        self._name = name

    def append(self, finding):
        raise DataError(f"{self._name}: {finding.where}: {finding.what}")
