"""Plain text -> rows of token ids for pretraining.

The one idea: all documents form one long stream of tokens, with an end-of-text between them, and a
row is the next piece of it. A row has one token more than the model reads, since its targets are
its inputs shifted by one; its last target is the first token of the next row. So the chapter's own
`custom_collate_fn`, given the same `allowed_max_length`, makes such rows into a batch and loses no
token: each is read once, and each but the first is a target once.
Knows nothing of instructions or of training.

Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.1;
the rows are those of Raschka's `GPTDatasetV1` with `stride` equal to `max_length` (section 2.6).
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from ch07.data.data_files import rows_in_text, rows_of_file
from ch07.data.entries import DataFile
from ch07.data.file_formats import TEXT
from ch07.data.findings import Finding, FindingCounts, raise_faulty_rows
from ch07.data.loaded_rows import LazySequence, LoadedRows, SplitDataset
from ch07.data.opened_file import open_unpacked
from ch07.data.text_lines import TextLines
from ch07.data.tokenizer import load_tokenizer
from ch07.data.toy_instructions.corpus import make_corpus
from ch07.utils.console import count
from ch07.utils.errors import DataError
from ch07.utils.run_log import RunLog
from ch07.utils.validation import max_json_bytes
from collate import END_OF_TEXT
from instruction_dataset import Tokenizer

VALIDATION_SHARE = 200  # one row in so many, from the end, is only for the validation loss
SEPARATOR = "<|endoftext|>"  # as plain text has it; in an instruction it would be ordinary text
MAX_BLANKS = 100_000
BLANKS = re.compile(rf"\s{{{MAX_BLANKS}}}")
TOY_CORPUS = Path("toy corpus")  # the name in messages where there is no file


class PretrainingDataset(Dataset):
    """Pieces of a stream of ids: each row has `allowed_max_length` + 1 ids, the last perhaps fewer.

    >>> list(PretrainingDataset([1, 2, 3, 4, 5], allowed_max_length=2))
    [[1, 2, 3], [3, 4, 5], [5]]
    """

    def __init__(self, ids: Sequence[int] | np.ndarray, allowed_max_length: int) -> None:
        self.ids = ids
        self.allowed_max_length = allowed_max_length

    def __len__(self) -> int:
        return -(-len(self.ids) // self.allowed_max_length)

    def __getitem__(self, index: int) -> list[int]:
        if not 0 <= index < len(self):
            raise IndexError(f"there is no row {index}: the text has {len(self)} rows")
        start = index * self.allowed_max_length
        return list(map(int, self.ids[start : start + self.allowed_max_length + 1]))

    @property
    def data(self) -> range:
        """The row numbers, since these rows were not made from entries."""
        return range(len(self))

    @property
    def lengths(self) -> np.ndarray:
        """Tokens in each row."""
        starts = np.arange(len(self), dtype=np.int64) * self.allowed_max_length
        return np.minimum(self.allowed_max_length + 1, len(self.ids) - starts)

    @property
    def prompt_lengths(self) -> np.ndarray:
        """0 for each row: no token is a prompt."""
        return np.zeros(len(self), dtype=np.int64)

    def place_of(self, row: int) -> str:
        """Which tokens of the text a row reads."""
        first = row * self.allowed_max_length + 1
        return f"tokens {first} to {first + self.allowed_max_length - 1}"


def read_documents(path: Path | str) -> tuple[list[str], str]:
    """(documents, sha256) of a file of plain text, or of rows of "text"; DataError if it has none.

    In plain text, documents are separated by <|endoftext|> where the text has it, else by blank
    lines.
    """
    digest = hashlib.sha256()
    findings = FindingCounts()
    with open_unpacked(path, max_json_bytes(), digest, "a file of plain text") as opened:
        text = TextLines(opened).rest() if opened.format == TEXT else None
        rows = None if text is None else rows_in_text(text, opened.name, findings)
        if text is None:
            rows = rows_of_file(opened, findings)
        if rows is not None:
            return _texts_of_rows(path, rows, findings), digest.hexdigest()
    sha256 = digest.hexdigest()
    assert text is not None  # a table has rows
    parts = text.split(SEPARATOR) if SEPARATOR in text else re.split(r"\n\s*\n", text)
    documents = [part.strip() for part in parts if part.strip()]
    if not documents:
        raise DataError(f"{path}: the file is empty")
    return documents, sha256


def _texts_of_rows(
    path: Path | str, rows: Iterable[tuple[str, Any]], findings: FindingCounts
) -> list[str]:
    """The "text" of each row of a data file, as published corpora have it."""
    documents: list[str] = []
    for place, row in rows:
        text = row.get("text") if isinstance(row, dict) else None
        if isinstance(text, str):
            documents.append(text)
        else:
            findings.append(Finding(place, "error", "there is no text under 'text'"))
    if findings.n_errors:
        raise_faulty_rows(path, findings)
    return [text for text in documents if text.strip()]


def token_stream(documents: Iterable[str], tokenizer: Tokenizer) -> np.ndarray:
    """All documents as one array of ids, with an end-of-text between two; DataError for blanks.

    Collate adds the last end-of-text, as it does at the end of any row.

    >>> from ch07.data.tokenizer import load_tokenizer
    >>> token_stream(["Hello", "Good day"], load_tokenizer()).tolist()
    [15496, 50256, 10248, 1110]
    """
    ids: list[int] = []
    for number, document in enumerate(documents, start=1):
        if BLANKS.search(document):  # the tokenizer's rules would overflow its stack
            raise DataError(
                f"document {number} has {MAX_BLANKS:,} or more consecutive white-space "
                "characters: remove most of them"
            )
        ids += [*tokenizer.encode_ordinary(document), END_OF_TEXT]
    return np.array(ids[:-1], dtype=np.int32)


def load_pretraining_data(
    path: Path | str | None, allowed_max_length: int, log: RunLog
) -> LoadedRows:
    """The rows of a file of plain text, or of the toy corpus if `path` is None.

    DataError if the tokens don't fill one row and the first place of the next.
    """
    if path is None:
        documents = make_corpus()
        sha256 = hashlib.sha256("\n\n".join(documents).encode()).hexdigest()
    else:
        documents, sha256 = read_documents(path)
    path = TOY_CORPUS if path is None else Path(path)
    ids = token_stream(documents, load_tokenizer())
    if len(ids) <= allowed_max_length:
        raise DataError(
            f"{path}: {count(len(ids), 'token')} of text, but a row takes {allowed_max_length} and "
            "one more: add text, or choose a smaller --allowed-max-length"
        )
    dataset = PretrainingDataset(ids, allowed_max_length)
    n_rows = len(dataset)
    n_train = n_rows - -(-n_rows // VALIDATION_SHARE)
    log.finding(f"{count(len(documents), 'document')} of {len(ids):,} tokens in {n_rows:,} rows")
    places = LazySequence(range(n_rows), dataset.place_of)
    return LoadedRows(
        file=DataFile(path, entries=[], places=places, findings=[], sha256=sha256),
        datasets={
            "train": SplitDataset(dataset, range(n_train)),
            "test": SplitDataset(dataset, range(0)),
            "validation": SplitDataset(dataset, range(n_train, n_rows)),
        },
        findings=[],
        lengths=[],
        near_duplicates=[],
    )
