"""The first bytes of a file -> what it is, and what to do with a file that isn't read.

The one idea: a file is known by its content, never by its name. Whatever is not read here is called
by its name, with the command that turns it into something that is.
"""

from dataclasses import dataclass

from ch07.utils.console import shell_path

PROBE_BYTES = 512  # enough for all of the below; a tar archive says so at byte 257

# Compressed files (RFC 1952; the formats' own specifications). Inside is another file.
PACKED = {
    "gzip": b"\x1f\x8b",
    "bzip2": b"BZh",
    "xz": b"\xfd7zXZ\x00",
    "zstd": b"\x28\xb5\x2f\xfd",
    "zip": b"PK\x03\x04",  # an Excel workbook, too
}
# Tables that the package pyarrow reads.
COLUMNAR = {
    "Parquet": b"PAR1",
    "Arrow file": b"ARROW1",
    "Arrow stream": b"\xff\xff\xff\xff",
}
TEXT = "text"


@dataclass(frozen=True)
class UnreadFormat:
    """A kind of file that holds no rows that can be read as they are."""

    name: str  # with its article, as in "a SQLite database"
    first_bytes: tuple[bytes, ...]
    advice: str  # {file} stands for the file's name, quoted for a shell
    offset: int = 0  # where the bytes stand


UNREAD_FORMATS = (
    UnreadFormat(
        "a SQLite database",
        (b"SQLite format 3\0",),
        "write one of its tables as CSV: "
        "sqlite3 -header -csv {file} 'SELECT * FROM name_of_table' > rows.csv",
    ),
    UnreadFormat(
        "a pointer that Git LFS left in place of the file",
        (b"version https://git-lfs",),
        "fetch the file itself: git lfs pull",
    ),
    UnreadFormat(
        "a tar archive",
        (b"ustar",),
        "unpack it, and give a file from it: tar -xf {file}",
        offset=257,
    ),
    UnreadFormat(
        "a 7z archive", (b"7z\xbc\xaf\x27\x1c",), "unpack it, and give a file from it: 7z x {file}"
    ),
    UnreadFormat("a RAR archive", (b"Rar!",), "unpack it, and give a file from it: unrar x {file}"),
    UnreadFormat("an lz4 file", (b"\x04\x22\x4d\x18",), "unpack it: lz4 -d {file} rows"),
    UnreadFormat(
        "a workbook or document of an older Office",
        (b"\xd0\xcf\x11\xe0",),
        "open it, and save the sheet as CSV in UTF-8, or as .xlsx",
    ),
    UnreadFormat("an empty zip", (b"PK\x05\x06",), "there is nothing in it"),
    UnreadFormat(
        "a PDF document", (b"%PDF",), "its text has no rows: write them as JSON, JSONL or CSV"
    ),
    UnreadFormat("an RTF document", (b"{\\rtf",), "save it as plain text in UTF-8"),
    UnreadFormat(
        "a web page, not the file itself",
        (b"<!doctype html", b"<html", b"<!DOCTYPE html", b"<!DOCTYPE HTML", b"<HTML"),
        "download the file again, from its own address (on a hub: the raw file)",
    ),
    UnreadFormat("XML", (b"<?xml",), "its rows have no known form: write them as JSON or CSV"),
    UnreadFormat(
        "an array of NumPy",
        (b"\x93NUMPY",),
        "its rows have no names: write them as JSON, JSONL or CSV",
    ),
    UnreadFormat(
        "an HDF5 file", (b"\x89HDF",), "write its rows with pandas: to_json(..., orient='records')"
    ),
    UnreadFormat(
        "a pickle, which could run any code",
        (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"),
        "if you trust it, load it and write its rows as JSON",
    ),
    UnreadFormat("weights in GGUF", (b"GGUF",), "weights are given with --model, not as data"),
    UnreadFormat("a picture", (b"\x89PNG", b"\xff\xd8\xff", b"GIF8"), "instruction data is text"),
    UnreadFormat(
        "an ORC or Avro table",
        (b"ORC", b"Obj\x01"),
        "write its rows as Parquet, for instance with pandas or Spark",
    ),
)


def recognise_format(first_bytes: bytes) -> str | UnreadFormat:
    r"""A name in `PACKED` or `COLUMNAR`, `TEXT`, or the `UnreadFormat` that starts like this.

    >>> recognise_format(b"PAR1..."), recognise_format(b'[{"instruction": ')
    ('Parquet', 'text')
    >>> recognise_format(b"\x89PNG\r\n").name
    'a picture'
    """
    for name, start in {**PACKED, **COLUMNAR}.items():
        if first_bytes.startswith(start):
            return name
    for unread in UNREAD_FORMATS:
        if first_bytes[unread.offset :].startswith(unread.first_bytes):
            return unread
    return TEXT


def explain_unread(name: str, unread: UnreadFormat, is_file: bool = True) -> str:
    """The sentence about a file that isn't read; `name` is its path.

    If it isn't a file itself, but was packed in one or came through a pipe, no command can name it.
    """
    if is_file:
        return f"{name} is {unread.name}: {unread.advice.format(file=shell_path(name))}"
    return f"{name} holds {unread.name}: unpack it or save it first, and name the file itself"


# --- the encoding of text -------------------------------------------------------------------------
BYTE_ORDER_MARKS = {
    "utf-8": b"\xef\xbb\xbf",
    "utf-32-le": b"\xff\xfe\x00\x00",  # before UTF-16, whose mark begins alike
    "utf-32-be": b"\x00\x00\xfe\xff",
    "utf-16-le": b"\xff\xfe",
    "utf-16-be": b"\xfe\xff",
}


def recognise_encoding(first_bytes: bytes) -> tuple[str, int]:
    r"""(encoding, length of its byte-order mark) of a text; UTF-8 unless something says otherwise.

    Without a mark, UTF-16 is known by its first two characters: data begins with ASCII (a bracket,
    a brace or a column's name), whose other bytes are zero.

    >>> recognise_encoding(b"\xff\xfe[\x00"), recognise_encoding(b"[\x00{\x00")
    (('utf-16-le', 2), ('utf-16-le', 0))
    >>> recognise_encoding(b"\x00[\x00{"), recognise_encoding(b'[{"a"')
    (('utf-16-be', 0), ('utf-8', 0))
    """
    for encoding, mark in BYTE_ORDER_MARKS.items():
        if first_bytes.startswith(mark):
            return encoding, len(mark)
    zeros = [byte == 0 for byte in first_bytes[:4]]
    patterns = {"utf-16-le": [False, True, False, True], "utf-16-be": [True, False, True, False]}
    for encoding, pattern in patterns.items():
        if zeros == pattern or (len(zeros) == 2 and zeros == pattern[:2]):
            return encoding, 0
    return "utf-8", 0
