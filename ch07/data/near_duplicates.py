"""Texts that say nearly the same: pairs by the cosine of their TF-IDF vectors.

The one idea: a text is the bag of its character n-grams of one to three characters, each weighted
by how rare it is. Two texts can only be similar if they share rare n-grams, so only such texts are
compared, and no table of all pairs is ever made. The result is exact: equal to scikit-learn's
`TfidfVectorizer(analyzer="char", ngram_range=(1, 3))`, as in the book's `02_dataset-utilities`.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import regex as re

from ch07.utils.unicode_text import fold_case

MAX_NGRAM = 3  # characters
# An n-gram in fewer than this share of the texts is looked up; the rest is bounded.
RARE_SHARE = 0.05
# Of sentences, with quotes and brackets: neither a sign within a name, nor one before a digit.
PUNCTUATION = re.compile(r"(?![#@&%*/\\_])(?![.,]\d)(?![-\u2010-\u2015]\s?\d)(?!(?<=\d):\d)\p{P}")


def normalised(text: str) -> str:
    """Lower case, without the punctuation of sentences, and without repeated white space.

    Signs that mean something stay: symbols, as in "C++", a point or minus before a digit, a colon
    between digits, and the marks of a letter, as Hindi has them.

    >>> normalised("Name  a COLOUR!"), normalised("What is 'C#'?"), normalised("1.5 - 3 + x-y")
    ('name a colour', 'what is c#', '1.5 - 3 + xy')
    """
    return re.sub(r"\s\s+", " ", PUNCTUATION.sub("", fold_case(text)))


def find_near_duplicates(
    texts: Sequence[str],
    threshold: float = 0.9,
    first: int | None = None,
    one_each: bool = False,
) -> list[tuple[int, int, float]]:
    """[(i, j, similarity)] with i < j, for all pairs of texts at least as similar as `threshold`.

    With `first`, only pairs of one of the first so many texts and one of the others. With
    `one_each`, at most one pair for each i: enough to count, and fast where thousands are similar.
    A text with at most one character (after `normalised`) is similar to no other.
    """
    texts = [normalised(text) for text in texts]
    rows = np.array([i for i, text in enumerate(texts) if len(text) > 1], dtype=np.int64)
    if len(rows) < 2:
        return []
    vectors = tfidf([texts[i] for i in rows])
    n_first = None if first is None else int((rows < first).sum())
    pairs = [
        (int(rows[i]), int(rows[j]), min(1.0, float(similarity)))
        for i, others, similarities in _similar_rows(vectors, threshold, n_first, one_each)
        for j, similarity in zip(others, similarities, strict=True)
    ]
    return sorted(pairs)


class SparseMatrix:
    """Rows of (column, value) pairs: row i has those from `starts[i]` to `starts[i + 1]`."""

    def __init__(
        self, starts: np.ndarray, columns: np.ndarray, values: np.ndarray, n_columns: int
    ) -> None:
        self.starts = starts
        self.columns = columns
        self.values = values
        self.n_columns = n_columns

    def row(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """(columns, values) of row i."""
        part = slice(self.starts[i], self.starts[i + 1])
        return self.columns[part], self.values[part]

    @property
    def row_numbers(self) -> np.ndarray:
        """The row of each pair."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))


def tfidf(texts: Sequence[str]) -> SparseMatrix:
    """The vectors, each of length 1, as a matrix of texts by n-grams.

    Weight: count times ln((1 + n) / (1 + texts that have it)) + 1 (scikit-learn's "smooth" idf).
    """
    keys, owners = _ngrams(texts)
    ngrams, columns = np.unique(keys, return_inverse=True)
    cells, counts = np.unique(owners * len(ngrams) + columns, return_counts=True)
    owners, columns = np.divmod(cells, len(ngrams))
    document_frequency = np.bincount(columns, minlength=len(ngrams))
    values = counts * (np.log((1 + len(texts)) / (1 + document_frequency)) + 1)[columns]
    values /= np.sqrt(np.bincount(owners, values**2, len(texts)))[owners]
    starts = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=len(texts)))])
    return SparseMatrix(starts, columns, values, len(ngrams))


def _ngrams(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(a number that identifies it, the text that it is in) for all n-grams of all texts."""
    characters = np.array([ord(c) for text in texts for c in text], dtype=np.int64)
    owner = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    keys: list[np.ndarray] = []
    owners: list[np.ndarray] = []
    for length in range(1, MAX_NGRAM + 1):
        n = max(0, len(characters) - length + 1)
        whole = owner[:n] == owner[length - 1 :]  # no n-gram extends into the next text
        key = np.zeros(n, dtype=np.int64)
        for k in range(length):
            key += (characters[k : n + k] + 1) << (21 * k)  # a character takes 21 bits
        keys.append(key[whole])
        owners.append(owner[:n][whole])
    return np.concatenate(keys), np.concatenate(owners)


def _similar_rows(
    vectors: SparseMatrix, threshold: float, n_first: int | None, one_each: bool
) -> Iterator[tuple[int, list[int], list[float]]]:
    """(i, others at least so similar, their similarities) for each row that has any after it."""
    n = len(vectors.starts) - 1
    rare = np.bincount(vectors.columns, minlength=vectors.n_columns) <= max(2, RARE_SHARE * n)
    in_rare = rare[vectors.columns]
    # common n-grams add at most the product of their lengths to the product of two rows
    common = np.sqrt(np.bincount(vectors.row_numbers, vectors.values**2 * ~in_rare, n))
    lookup = by_column(vectors, in_rare)
    dense = np.zeros(vectors.n_columns)
    for i in range(n - 1 if n_first is None else n_first):
        start = i + 1 if n_first is None else n_first
        columns, values = vectors.row(i)
        most = common[i] * common[start:]  # an upper bound of the product with each later row
        for column, value in zip(*(part[rare[columns]] for part in (columns, values)), strict=True):
            others, theirs = lookup(column)
            after = np.searchsorted(others, start)
            most[others[after:] - start] += value * theirs[after:]
        maybe = np.flatnonzero(most >= threshold - 1e-9)
        maybe = start + maybe[np.argsort(-most[maybe], kind="stable")]
        dense[columns] = values
        similar: list[int] = []
        products: list[float] = []
        for j in maybe:
            product = vectors.row(j)[1] @ dense[vectors.row(j)[0]]
            if product >= threshold:
                similar.append(j)
                products.append(float(product))
                if one_each:
                    break
        dense[columns] = 0
        if similar:
            yield i, similar, products


def by_column(
    vectors: SparseMatrix, wanted: np.ndarray
) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
    """A function: column -> (rows that have it, in order; their values), of the `wanted` pairs."""
    order = np.flatnonzero(wanted)
    order = order[np.argsort(vectors.columns[order], kind="stable")]
    rows, values = vectors.row_numbers[order], vectors.values[order]
    ends = np.cumsum(np.bincount(vectors.columns[order], minlength=vectors.n_columns))

    def lookup(column: int) -> tuple[np.ndarray, np.ndarray]:
        part = slice(ends[column - 1] if column else 0, ends[column])
        return rows[part], values[part]

    return lookup
