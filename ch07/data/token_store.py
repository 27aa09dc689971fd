"""Rows as tokens on the disk: written once, line by line, and read through memory maps.

The one idea: to make a batch, all one needs of a row is where its ids begin and end. These stand in
plain arrays of numbers in files, of which the system holds what is being read and forgets the
rest; so rows that don't fit into memory give the same batches, bit for bit, as if they did.
nanoGPT's `train.bin` (data/openwebtext/prepare.py) is such an array, without rows.
"""

import hashlib
import json
import os
import shutil
from array import array
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import numpy as np
import psutil

from ch07.data.entries import SPLITS, FindingCounts, check_row, raise_faulty_rows
from ch07.data.json_reader import Finding, parse_jsonl_lines
from ch07.data.prompt_styles import get_style
from ch07.data.row_checks import SEAM
from ch07.data.splits import normalised_prompt
from ch07.data.streaming import read_lines
from ch07.data.tokenizer import load_tokenizer
from ch07.utils.atomic_files import (
    fsync_folder,
    read_json_with_checksum,
    sha256_of,
    write_json_with_checksum,
)
from ch07.utils.errors import DataError
from instruction_dataset import InstructionDataset

ABOUT = "store.json"
TEXT = "entries.jsonl"
ARRAYS = {  # the type codes of the module array: 2, 8, 4, 8, 8, 8 and 1 bytes
    "ids": "H",  # all rows, one after the other
    "ends": "Q",  # where each row ends in ids
    "prompts": "I",  # how many ids of each row are its prompt
    "keys": "Q",  # a hash of each row's prompt: rows that ask the same have the same
    "starts": "Q",  # where each row begins in entries.jsonl
    "lines": "Q",  # where it stood in the reader's file
    "splits": "B",  # 0, or which of SPLITS the row says that it is in, from 1
}
AT_ONCE = 1000  # rows in memory while a store is written


def is_store(path):
    """Whether a folder is a store that `write_store` finished."""
    return path is not None and (Path(path) / ABOUT).is_file()


# --- writing ------------------------------------------------------------------------------------
def write_store(source, folder, style, skip_bad_rows=False):
    """Read JSONL, packed by gzip or not, line by line into a new folder; the `TokenStore` there.

    DataError names the rows that can't be used, unless they shall be left out. Holds a thousand
    rows at a time, and 8 bytes for each row.
    """
    folder = Path(folder)
    if folder.exists():
        raise DataError(f"{folder} exists: choose another name for the store")
    for left in folder.parent.glob(f".{folder.name}.*.new"):  # by a process that was killed
        pid = left.suffixes[-2][1:]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(left)
    new = folder.with_name(f".{folder.name}.{os.getpid()}.new")
    try:
        new.mkdir(parents=True)
        about = _written(Path(source), new, style, skip_bad_rows)
        about["sha256"] = {name: sha256_of(new / name) for name in _files()}
        write_json_with_checksum(new / ABOUT, about)
        fsync_folder(new)
        os.replace(new, folder)
    except OSError as error:
        raise RuntimeError(f"{folder} can't be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return TokenStore(folder)


def _files():
    return [TEXT, *(f"{name}.bin" for name in ARRAYS)]


def _written(source, new, style, skip_bad_rows):
    """Write all files but store.json; what stands in that."""
    digest, tally, twins, tokenizer = (
        hashlib.sha256(),
        FindingCounts(),
        array("Q"),
        load_tokenizer(),
    )
    with ExitStack() as until_written:
        files = {name: until_written.enter_context(open(new / name, "wb")) for name in _files()}
        rows, n_rows, n_ids = _rows(source, digest, tally), 0, 0
        while chunk := list(islice(rows, AT_ONCE)):
            parts = {name: array(code) for name, code in ARRAYS.items()}
            dataset = InstructionDataset([entry for _, entry in chunk], tokenizer, style)
            for i in dataset.seam_rows:
                tally.append(Finding(f"line {chunk[i][0]}", "note", SEAM))
            for i, (line, entry) in enumerate(chunk):
                parts["ids"].extend(dataset[i])
                parts["ends"].append(n_ids + len(parts["ids"]))
                parts["keys"].append(_hash(normalised_prompt(entry)))
                parts["starts"].append(files[TEXT].tell())
                parts["lines"].append(line)
                split = entry.get("split")
                parts["splits"].append(1 + SPLITS.index(split) if split else 0)
                files[TEXT].write(json.dumps(entry, ensure_ascii=True).encode() + b"\n")
                twins.append(_hash(repr([entry[k] for k in ("instruction", "input", "output")])))
            parts["prompts"].extend(dataset.prompt_lengths)
            for name, part in parts.items():
                part.tofile(files[f"{name}.bin"])
            n_rows, n_ids = n_rows + len(chunk), n_ids + len(parts["ids"])
        for file in files.values():
            file.flush()
            os.fsync(file.fileno())
    if tally.n_errors and not skip_bad_rows:
        raise_faulty_rows(source, tally.n_errors, tally.errors)
    if not n_rows:
        raise DataError(f"{source}: no usable row" + "".join(f"\n  {s}" for s in tally.lines()))
    same = n_rows - len(np.unique(np.asarray(twins)))
    said = [*tally.lines(), *([f"{same} rows are the same as an earlier one"] if same else [])]
    about = {"source": source.name, "source_sha256": digest.hexdigest(), "findings": said}
    return about | {"rows": n_rows, "style": style.name, "tokenizer": tokenizer.name}


def _hash(text):
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _rows(source, digest, tally):
    """(line, entry) for each row that can be used."""
    for where, row in parse_jsonl_lines(read_lines(source, digest), source, tally):
        entry = check_row(where, row, tally)
        if entry is not None:
            yield int(where.removeprefix("line ")), entry


# --- reading ------------------------------------------------------------------------------------
class TokenStore:
    """A folder that `write_store` wrote; DataError if it isn't what was written."""

    def __init__(self, folder):
        self.folder = Path(folder)
        try:
            self.about = read_json_with_checksum(self.folder / ABOUT, checksum_required=True)
            if sorted(self.about["sha256"]) != sorted(_files()):
                raise ValueError("it names other files")
            for name, expected in self.about["sha256"].items():
                if sha256_of(self.folder / name) != expected:
                    raise ValueError(f"{name} is not what was written: altered, or damaged")
            self.style = get_style(self.about["style"])
            for name, code in ARRAYS.items():
                setattr(self, name, np.memmap(self.folder / f"{name}.bin", np.dtype(code), "r"))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{folder} can't be read as a token store: {error}") from None
        tokenizer = load_tokenizer()
        if self.ids.max(initial=0) >= tokenizer.n_vocab:
            raise DataError(f"{folder} holds a token id that there isn't: {self.ids.max()}")
        if self.about["tokenizer"] != tokenizer.name:
            raise DataError(f"{folder} was made with the tokenizer {self.about['tokenizer']!r}")

    def __len__(self):
        return len(self.ends)

    def bounds(self, row):
        """Where the row's ids begin and end."""
        return int(self.ends[row - 1]) if row else 0, int(self.ends[row])

    def entry(self, row):
        """The row as text, a dict."""
        with open(self.folder / TEXT, "rb") as file:
            file.seek(int(self.starts[row]))
            return json.loads(file.readline())
