"""A file of any size -> its lines as text, one by one; gzip is unpacked on the way.

The one idea: at no time is more of a file in memory than one line and a small piece. A line has a
limit, so that neither a file without line ends nor a small one that unpacks to gigabytes fills
the memory. Knows nothing of what a line holds, but that a JSON list is no JSONL.
"""

import gzip
import zlib
from contextlib import contextmanager
from pathlib import Path

from ch07.json_rows import PACKED, DataError

LONGEST_LINE = 10_000_000  # bytes, unpacked
BLANK = 1_000_000  # blank lines in a row: whatever the file is, it isn't data
SIP = 1 << 14  # bytes that are asked of a file at a time


def read_lines(source, digest=None):
    """Each line of a UTF-8 file without its end; what `source` may be, `opened` says.

    `digest` (of hashlib) is fed with all bytes, unpacked ones. DataError names the line that is
    too long, not UTF-8, or where the packed data is damaged.
    """
    with opened(source) as (name, file):
        yield from _lines_of(name, file, digest)


@contextmanager
def opened(source):
    """(name, file) of a path, or of a buffered binary file, which is left open.

    DataError if the path can't be opened, or is no plain file.
    """
    if hasattr(source, "peek"):
        yield getattr(source, "name", "the file"), source
        return
    if Path(source).exists() and not Path(source).is_file():
        raise DataError(f"{source} is no file")
    try:
        with open(source, "rb", buffering=SIP) as file:
            yield str(source), file
    except OSError as error:
        raise DataError(f"{source}: {error.strerror or error}") from None


def _lines_of(name, file, digest):
    number, begun, blank = 1, False, 0
    try:
        packed = file.peek(2).startswith(PACKED["gzip"])
        lines = gzip.GzipFile(fileobj=_InSips(file)) if packed else file
        while line := lines.readline(LONGEST_LINE + 1):
            if digest is not None:
                digest.update(line)
            text = _text(name, number, line)
            if not begun and text.lstrip().startswith("["):
                raise DataError(
                    f"{name}: a JSON list must be read whole. Make it JSONL, an entry on "
                    f"each line: jq -c '.[]' {name}"
                )
            blank = 0 if text.strip() else blank + 1
            if blank > BLANK:
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
    if len(line) > LONGEST_LINE:
        most = f"{LONGEST_LINE / 1e6:.0f} MB"
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
        return self._file.read(min(size, SIP))
