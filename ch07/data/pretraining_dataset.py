"""Plain text -> rows of token ids to read on: what a model is pretrained with.

The one idea: all documents stand in one long stream of tokens, an end-of-text between them, and a
row is the next piece of it. Row i has one token more than the model reads, since its targets are
its inputs shifted by one, and the last target is the first token of row i + 1. So cut to `width`,
the chapter's own `custom_collate_fn` makes such rows into a batch, and no token is lost: each is
read once, and each but the first is a target once. Knows nothing of instructions or of training.

Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.1;
the rows are those of Raschka's `GPTDatasetV1` with `stride` equal to `max_length` (section 2.6).
"""

import hashlib
import re
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from ch07.data.entries import DataError, DataFile, count
from ch07.data.json_reader import read_utf8
from ch07.data.tokenizer import load_tokenizer
from ch07.data.toy_instructions.corpus import make_corpus
from collate import END_OF_TEXT

HELD_BACK = 200  # one row in so many, the last ones, is for the validation loss alone
BETWEEN = "<|endoftext|>"  # as plain text has it; in an instruction it would be ordinary text
MOST_BLANKS = 100_000
BLANKS = re.compile(rf"\s{{{MOST_BLANKS}}}")
TOY = Path("toy corpus")  # what is told where there is no file


class PretrainingDataset(Dataset):
    """Pieces of a stream of ids: `rows[i]` is a list of `width` + 1 ids; the last may be shorter.

    >>> list(TextRows([1, 2, 3, 4, 5], width=2))
    [[1, 2, 3], [3, 4, 5], [5]]
    """

    def __init__(self, ids, width, numbers=None):
        self.ids, self.width = ids, width
        self.data = range(-(-len(ids) // width)) if numbers is None else numbers

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        start = self.data[index] * self.width
        return list(map(int, self.ids[start : start + self.width + 1]))

    @property
    def lengths(self):
        """Tokens in each row."""
        starts = (number * self.width for number in self.data)
        return [min(self.width + 1, len(self.ids) - start) for start in starts]


def read_documents(path):
    """(documents, sha256) of a file of plain text; DataError if it holds none.

    Documents stand between <|endoftext|> where the text has it, else between blank lines.
    """
    text, sha256 = read_utf8(path, "a file of plain text")
    documents = text.split(BETWEEN) if BETWEEN in text else re.split(r"\n\s*\n", text)
    documents = [document.strip() for document in documents if document.strip()]
    if not documents:
        raise DataError(f"{path}: the file is empty")
    return documents, sha256


def token_stream(documents, tokenizer):
    """All documents as one array of ids, with an end-of-text between two; DataError for blanks.

    The last one's is left to collate, as the end of any row's text is.

    >>> from ch07.data.tokenizer import load_tokenizer
    >>> stream_of(["Hello", "Good day"], load_tokenizer()).tolist()
    [15496, 50256, 10248, 1110]
    """
    ids = []
    for number, document in enumerate(documents, start=1):
        if BLANKS.search(document):  # the tokenizer's rules would overflow its stack
            raise DataError(f"document {number} has {MOST_BLANKS:,} blanks in a row, or more")
        ids += [*tokenizer.encode_ordinary(document), END_OF_TEXT]
    return np.array(ids[:-1], dtype=np.int32)


def load_pretraining_data(path, width, found):
    """What a plan holds of plain text, the toy corpus if `path` is None; `found(text)` hears of it.

    DataError if there is less than a row and the first token of the next.
    """
    if path is None:
        documents = make_corpus()
        sha256 = hashlib.sha256("\n\n".join(documents).encode()).hexdigest()
    else:
        documents, sha256 = read_documents(path)
    path = TOY if path is None else Path(path)
    ids = token_stream(documents, load_tokenizer())
    if len(ids) <= width:
        raise DataError(
            f"{path}: {count(len(ids), 'token')} of text, but a row takes {width} and one more: "
            "add text, or choose a smaller --allowed-max-length"
        )
    n_rows = len(PretrainingDataset(ids, width))
    n_train = n_rows - -(-n_rows // HELD_BACK)
    found(f"{count(len(documents), 'document')} of {len(ids):,} tokens in {n_rows:,} rows")
    parts = {"train": range(n_train), "test": range(0), "validation": range(n_train, n_rows)}
    return {
        "file": DataFile(path, [], [], [], sha256),
        "findings": [],
        "lengths": [],
        "datasets": {
            name: PretrainingDataset(ids, width, numbers) for name, numbers in parts.items()
        },
        "alike": [],
        "place_of": lambda i: f"tokens {i * width + 1} to {(i + 1) * width}",
    }
