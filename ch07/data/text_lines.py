"""Bytes -> lines of text: UTF-8, or UTF-16 and UTF-32, with a byte-order mark or without.

The one idea: a line is read only when it is asked for, and has a maximum length, so neither a file
without line ends nor an endless one fills the memory.
"""

import codecs
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ch07.data.file_formats import recognise_encoding
from ch07.data.opened_file import (
    READ_BYTES,
    DamagedFileError,
    OpenedFile,
    buffered,
    open_unpacked,
    read_whole,
)
from ch07.utils.console import shell_path
from ch07.utils.errors import DataError
from ch07.utils.validation import max_json_bytes

MAX_LINE_BYTES = 10_000_000  # bytes, unpacked
MAX_BLANK_LINES = 1_000_000  # in a row: a file with more isn't data
UTF8 = "utf-8"

Line = tuple[int, str]  # its number, from 1, and its text without the line's end


class TextLines:
    """An iterator of the lines of a text file.

    Lines may be put back, and all that follows may be taken as one text. DataError names the line
    that is too long or isn't valid text, or up to which a damaged file can be read.
    """

    def __init__(self, opened: OpenedFile) -> None:
        self.name = opened.name
        self.number = 0  # of the line that was read last
        self._is_file = opened.is_file
        self._max_bytes = opened.max_bytes
        self._max_line_bytes = opened.max_bytes or MAX_LINE_BYTES
        self._file, self._n_bytes = _as_utf8(opened.file, opened.name)
        self._next_bytes: bytes | None = None  # a line that was looked at already
        self._put_back: list[Line] = []
        self._n_blank = 0

    def __iter__(self) -> Iterator[Line]:
        return self

    def __next__(self) -> Line:
        if self._put_back:
            return self._put_back.pop()
        line = self._take_bytes()
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) > self._max_line_bytes:
            most = f"{self._max_line_bytes / 1e6:.0f} MB"
            raise DataError(f"{self.name}: line {self.number} is longer than {most}: is it JSONL?")
        text = self._decode(line).rstrip("\r\n")
        self._n_blank = 0 if text.strip() else self._n_blank + 1
        if self._n_blank > MAX_BLANK_LINES:
            raise DataError(f"{self.name}: nothing but blank lines up to line {self.number}")
        return self.number, text

    def put_back(self, *lines: Line) -> None:
        """Have these lines, the last ones that were read, come again."""
        self._put_back += reversed(lines)

    def skip_blank_lines(self) -> str:
        """Go to the first line that isn't blank; the character that it starts with, or ""."""
        while True:
            line = self._take_bytes()
            if line.strip():
                self._next_bytes = line
                return line.lstrip()[:1].decode("latin-1")  # of ASCII, which is all that matters
            if not line:
                return ""
            self._next_bytes = line
            next(self)

    def next_is_too_long(self) -> bool:
        """Whether the next line is longer than a line may be."""
        self._next_bytes = self._take_bytes()
        return len(self._next_bytes) > self._max_line_bytes

    def rest(self) -> str:
        """All that follows, as one text that begins at line 1: blank lines stand for those read.

        DataError if it may not fit into the free memory.
        """
        texts = [text for _, text in reversed(self._put_back)]
        n_before = self.number - len(texts)
        largest = self._max_bytes or max_json_bytes()
        start = self._take_bytes()
        try:
            data = read_whole(self._file, self.name, largest, start)
        except DamagedFileError as error:
            raise self._with_line(error) from None
        self._put_back.clear()
        self.number += 1
        before = "\n" * n_before + "".join(f"{text}\n" for text in texts)
        return before + self._decode(data).replace("\r\n", "\n")

    def _take_bytes(self) -> bytes:
        """The next line as it is stored; at the end of the file, nothing."""
        if self._next_bytes is not None:
            line = self._next_bytes
            self._next_bytes = None
            return line
        try:
            return self._file.readline(self._max_line_bytes + 1)
        except DamagedFileError as error:
            raise self._with_line(error) from None

    def _decode(self, data: bytes) -> str:
        try:
            text = data.decode(UTF8)
        except UnicodeDecodeError as error:
            line = self.number + data[: error.start].count(b"\n")
            byte = f"byte {self._n_bytes + error.start} is 0x{data[error.start]:02x}"
            advice = _how_to_convert(self.name, self._is_file, data)
            raise DataError(f"{self.name}: not UTF-8: {byte} (in line {line}); {advice}") from None
        self._n_bytes += len(data)
        return text

    def _with_line(self, error: DamagedFileError) -> DamagedFileError:
        return DamagedFileError(f"{error}: it can be read up to line {self.number}")


# (encoding, letters that show it, their least share): of texts whose letters take two bytes each.
# Chinese read as Korean is a mixture; Korean itself is nearly all Hangul.
EAST_ASIAN_ENCODINGS = (
    ("SHIFT_JIS", re.compile(r"[\u3040-\u30ff]"), 0.3),
    ("EUC-JP", re.compile(r"[\u3040-\u30ff]"), 0.3),
    ("CP949", re.compile(r"[\uac00-\ud7a3]"), 0.9),
    ("GB18030", re.compile(r"[\u4e00-\u9fff]"), 0.3),
)


def likely_encoding(data: bytes) -> str:
    """The likely encoding of text that isn't UTF-8: a guess, for a hint.

    >>> likely_encoding("Voil\u00e0, a caf\u00e9".encode("cp1252"))
    'WINDOWS-1252'
    >>> likely_encoding("\u6c34\u679c".encode("gb18030"))
    'GB18030'
    """
    for encoding, letters, share in EAST_ASIAN_ENCODINGS:
        decoder = codecs.getincrementaldecoder(encoding)()
        try:
            text = decoder.decode(data)
        except UnicodeDecodeError:
            continue
        foreign = [character for character in text if not character.isascii()]
        # where letters stand between ASCII letters, it is an alphabet with accents
        n_pairs = len(re.findall(rb"[\x80-\xff]{2}", data))
        if 2 * n_pairs >= len(foreign) and len(letters.findall(text)) > share * len(foreign):
            return encoding
    return "WINDOWS-1252"


def _how_to_convert(name: str, is_file: bool, data: bytes) -> str:
    advice = "save the file with UTF-8 encoding"
    if not is_file:
        return advice
    file = shell_path(name)
    return (
        f"{advice}, or convert it from its own, for example: "
        f"iconv -f {likely_encoding(data)} -t UTF-8 {file} > {shell_path(name + '.utf8')}"
    )


def _as_utf8(file: Any, name: str) -> tuple[Any, int]:
    """(the file as UTF-8 without a byte-order mark, how many bytes of the mark were read)."""
    encoding, n_mark = recognise_encoding(file.peek(4)[:4])
    file.read(n_mark)
    if encoding == UTF8:
        beginning = file.peek(READ_BYTES)
        if b"\r" in beginning and b"\n" not in beginning:  # lines end as on an old Mac
            return buffered(lambda size: file.read(size).replace(b"\r", b"\n")), n_mark
        return file, n_mark
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    n_read = n_mark
    ended = False

    def read(size: int) -> bytes:
        nonlocal n_read, ended
        while not ended:
            data = file.read(max(4, size // 4))  # UTF-8 needs up to three bytes for two of UTF-16
            ended = not data
            try:
                text = decoder.decode(data, final=ended)
            except UnicodeDecodeError as error:
                # half a character: a file that was cut, or that is something else
                raise DataError(
                    f"{name}: not {encoding.upper()}, as its first bytes say: near byte "
                    f"{n_read + error.start}: {error.reason}"
                ) from None
            n_read += len(data)
            if text:
                return text.encode(UTF8)
        return b""

    return buffered(read), n_mark


# --- a whole text ---------------------------------------------------------------------------------
def whole_text(path: Path | str, kind: str = "a text file") -> tuple[str, str]:
    """The whole text of a file, unpacked, and the sha256 of its bytes.

    DataError if it isn't text, or is too large. `kind` says in messages what the file should be.
    """
    digest = hashlib.sha256()
    with open_unpacked(path, max_json_bytes(), digest, kind) as opened:
        return TextLines(opened).rest(), digest.hexdigest()
