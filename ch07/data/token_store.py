"""Rows as tokens on disk: written once, row by row, and read where they lie.

The one idea: to make a batch, all one needs of a row is where its ids begin and end. These numbers
are plain arrays in files, of which the system keeps in memory what is being read; so rows that
don't fit into memory give the same batches, bit for bit, as rows that do.
nanoGPT's `train.bin` (data/openwebtext/prepare.py) is such an array, without rows.
"""

import hashlib
import json
import os
from array import array
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ch07.data.chat_dataset import counted_flags, fit_conversations, make_dataset
from ch07.data.chat_forms import describe_conversations, merge_descriptions
from ch07.data.data_files import STORE_FILE, Source, source_name
from ch07.data.disk_array import DiskArray
from ch07.data.entries import entry_key
from ch07.data.entry_checks import Entry
from ch07.data.field_names import SPLITS
from ch07.data.findings import Finding, FindingCounts, FindingSink
from ch07.data.prepared_rows import usable_rows
from ch07.data.prompt_styles import get_style
from ch07.data.row_checks import BOUNDARY_MERGE
from ch07.data.splits import group_key
from ch07.data.token_boundaries import boundary_merge_rows
from ch07.data.tokenizer import load_tokenizer
from ch07.utils.atomic_files import (
    read_json_with_checksum,
    sha256_of,
    write_json_with_checksum,
)
from ch07.utils.errors import DataError, InputError
from ch07.utils.plain_files import open_plain
from ch07.utils.publication import new_folder
from instruction_dataset import PromptStyle

ABOUT = STORE_FILE
TEXT = "entries.jsonl"
ARRAYS = {  # the type codes of the module array: 2, 8, 4, 8, 8, 8 and 1 bytes
    "ids": "H",  # all rows, one after the other
    "ends": "Q",  # where each row ends in ids
    "prompts": "I",  # how many ids of each row are its prompt
    "keys": "Q",  # a hash of each row's prompt, equal for rows that ask the same
    "starts": "Q",  # where each row begins in entries.jsonl
    "lines": "Q",  # its number in the reader's file; `place` has the words before it
    "splits": "B",  # 0, or which of SPLITS the row's "split" field names, from 1
}
# One more, in a store that has conversations: for each id of each row, and for the end-of-text
# after the row, 1 if the loss counts it.
CHAT_ARRAYS = {"counted": "B"}
CHUNK_ROWS = 1000  # rows in memory while a store is written


def is_store(source: Source | None) -> bool:
    """Whether a source is the folder of a store that `write_store` finished."""
    return isinstance(source, Path | str) and (Path(source) / ABOUT).is_file()


# --- writing --------------------------------------------------------------------------------------
def write_store(
    source: Source,
    folder: Path | str,
    style: PromptStyle,
    skip_bad_rows: bool = False,
    max_length: int | None = None,
) -> "TokenStore":
    """Read a file, or several, row by row into a new folder; its `TokenStore`.

    Conversations of more than `max_length` tokens lose their oldest turns.

    DataError names the rows that can't be used, unless `skip_bad_rows` leaves them out. Needs
    memory for a thousand rows, and 8 bytes for each row.
    """
    folder = Path(folder)
    if os.path.lexists(folder):
        raise DataError(f"{folder} exists: choose another name for the store")
    try:
        with new_folder(folder) as new:
            about = _write_files(source, new, style, skip_bad_rows, max_length)
            names = _file_names(about["conversations"] is not None)
            about["sha256"] = {name: sha256_of(new / name) for name in names}
            write_json_with_checksum(new / ABOUT, about)
    except OSError as error:
        raise InputError(f"{folder} can't be written: {error.strerror or error}") from error
    return TokenStore(folder)


def _file_names(chats: bool) -> list[str]:
    return [TEXT, *(f"{name}.bin" for name in _arrays(chats))]


def _arrays(chats: bool) -> dict[str, str]:
    return {**ARRAYS, **CHAT_ARRAYS} if chats else ARRAYS


def _write_files(
    source: Source, new: Path, style: PromptStyle, skip_bad_rows: bool, max_length: int | None
) -> dict[str, Any]:
    """Write all files but store.json; returns the content of that."""
    digest = hashlib.sha256()
    findings = FindingCounts()
    entry_hashes = array("Q")
    with ExitStack() as stack:
        files = {name: stack.enter_context(open(new / name, "wb")) for name in _file_names(True)}
        rows = usable_rows(source, findings, skip_bad_rows=skip_bad_rows, digest=digest)
        writer = ChunkWriter(files, style, max_length)
        while chunk := list(islice(rows, CHUNK_ROWS)):
            writer.write(chunk, findings)
            for _, entry in chunk:
                entry_hashes.append(_hash(repr(entry_key(entry))))
        for file in files.values():
            file.flush()
            os.fsync(file.fileno())
    if not writer.conversations:
        for name in CHAT_ARRAYS:
            (new / f"{name}.bin").unlink()
    lines = findings.lines()
    n_repeated = writer.n_rows - len(np.unique(np.asarray(entry_hashes)))
    if n_repeated:
        lines.append(f"{n_repeated} rows are the same as an earlier one")
    return {
        "source": Path(source_name(source)).name,
        "source_sha256": digest.hexdigest(),
        "findings": lines,
        "rows": writer.n_rows,
        "places": writer.places,
        "conversations": writer.conversations,
        "style": style.name,
        "tokenizer": writer.tokenizer.name,
    }


class ChunkWriter:
    """Appends rows to the files of a store, a chunk at a time."""

    def __init__(
        self, files: Mapping[str, BinaryIO], style: PromptStyle, max_length: int | None = None
    ) -> None:
        self.max_length = max_length
        self.files = files
        self.style = style
        self.tokenizer = load_tokenizer()
        self.n_rows = 0
        self.n_ids = 0
        self.conversations: dict[str, Any] | None = None  # of all rows so far
        self.places: list[tuple[int, str]] = []  # from which row on a place begins with what words

    def write(self, chunk: Sequence[tuple[str, Entry]], findings: FindingSink) -> None:
        """Tokenize and write (place, entry) pairs; rows that would merge tokens are noted."""
        places = [place for place, _ in chunk]
        entries = [entry for _, entry in chunk]
        keys = [group_key(entry) for entry in entries]  # before turns are left out: as of the file
        if self.max_length is not None:
            entries = fit_conversations(
                entries, places, self.tokenizer, self.style, self.max_length, findings
            )
        dataset = make_dataset(entries, self.tokenizer, self.style, "response")
        self.conversations = merge_descriptions(self.conversations, describe_conversations(entries))
        for i in boundary_merge_rows(entries, self.tokenizer, self.style):
            findings.append(Finding(places[i], "note", BOUNDARY_MERGE))
        parts = {name: array(code) for name, code in _arrays(True).items()}
        for i, (place, entry, key) in enumerate(zip(places, entries, keys, strict=True)):
            words, number = _split_place(place)
            if not self.places or self.places[-1][1] != words:
                self.places.append((self.n_rows + i, words))
            item: Any = dataset[i]
            first, ids = item
            parts["counted"].extend(counted_flags(first, len(ids)))
            parts["ids"].extend(ids)
            parts["ends"].append(self.n_ids + len(parts["ids"]))
            parts["keys"].append(_hash(key))
            parts["starts"].append(self.files[TEXT].tell())
            parts["lines"].append(number)
            split = entry.get("split")
            parts["splits"].append(1 + SPLITS.index(split) if split else 0)
            self.files[TEXT].write(
                json.dumps(entry, ensure_ascii=True, default=str).encode() + b"\n"
            )
        parts["prompts"].extend(dataset.prompt_lengths)
        for name, part in parts.items():
            part.tofile(self.files[f"{name}.bin"])
        self.n_rows += len(chunk)
        self.n_ids += len(parts["ids"])


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _split_place(place: str) -> tuple[str, int]:
    """A place as its words and the number at its end.

    >>> _split_place("rows.csv line 12")
    ('rows.csv line ', 12)
    """
    words = place.rstrip("0123456789")
    return words, int(place[len(words) :])


# --- reading --------------------------------------------------------------------------------------
class TokenStore:
    """A folder that `write_store` wrote; DataError if it was altered since."""

    ids: DiskArray
    ends: DiskArray
    prompts: DiskArray
    keys: DiskArray
    starts: DiskArray
    lines: DiskArray
    splits: DiskArray
    counted: DiskArray  # only if `has_chats`

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        try:
            self.about = read_json_with_checksum(self.folder / ABOUT, checksum_required=True)
            self.conversations = self.about.get("conversations")
            if sorted(self.about["sha256"]) != sorted(_file_names(self.has_chats)):
                raise InputError(f"{ABOUT} does not list the files of a token store")
            for name, expected in self.about["sha256"].items():
                if sha256_of(self.folder / name) != expected:
                    raise InputError(f"{name} was altered or damaged after it was written")
            self.style = get_style(self.about["style"])
            for name, code in _arrays(self.has_chats).items():
                setattr(self, name, DiskArray(self.folder / f"{name}.bin", code))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{folder} can't be read as a token store: {error}") from None
        tokenizer = load_tokenizer()
        largest = self.ids.maximum()
        if largest >= tokenizer.n_vocab:
            raise DataError(f"{folder} contains an unknown token id: {largest}")
        if self.about["tokenizer"] != tokenizer.name:
            raise DataError(
                f"{folder} was made with the tokenizer {self.about['tokenizer']!r}: write it "
                "again with python -m ch07 tokenize"
            )

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def has_chats(self) -> bool:
        """Whether any of its rows is a conversation."""
        return self.conversations is not None

    def bounds(self, row: int) -> tuple[int, int]:
        """Where the row's ids begin and end."""
        if row == 0:
            return 0, int(self.ends[0])
        start, end = self.ends[row - 1 : row + 1]
        return int(start), int(end)

    def counted_of(self, row: int) -> list[bool]:
        """For each id of a row, and for the end-of-text after it, whether the loss counts it."""
        start, end = self.bounds(row)  # in ids; each row before has one flag more
        return list(map(bool, self.counted[start + row : end + row + 1]))

    def place(self, row: int) -> str:
        """Where the row stands in the reader's file: "line 3"."""
        starts = self.about.get("places", [[0, "line "]])
        last = bisect_right(starts, row, key=lambda start: start[0]) - 1
        return f"{starts[last][1]}{self.lines[row]}"

    def entry(self, row: int) -> Entry:
        """The row as text."""
        path = self.folder / TEXT
        try:
            with open_plain(path) as file:
                file.seek(int(self.starts[row]))
                return json.loads(file.readline())
        except DataError:
            raise
        except ValueError:
            raise DataError(f"{path} was altered while it was in use: write it again") from None
