"""Texts that say nearly the same: pairs by the cosine of their TF-IDF vectors.

The one idea: a text is the bag of its pieces of one to three letters, each weighted by how rare it
is. Two texts can only be alike if they share rare pieces, so only texts that do are compared, and
no table of all pairs is ever made. Exact, not a guess: equal to scikit-learn's `TfidfVectorizer(
analyzer="char", ngram_range=(1, 3))`, as in the book's `02_dataset-utilities`.
"""

import re

import numpy as np

LONGEST_PIECE = 3  # letters
RARE = 0.05  # a piece in fewer than this share of the texts is looked up; the rest is bounded


def normalised(text):
    """Lower case, without punctuation, white space evened out.

    >>> normalised("Name  a COLOUR!")
    'name a colour'
    """
    return re.sub(r"\s\s+", " ", re.sub(r"[^\w\s]", "", text.lower()))


def find_near_duplicates(texts, threshold=0.9, first=None, one_each=False):
    """[(i, j, similarity)] with i < j, for all pairs of texts at least so alike; 1.0: the same.

    With `first`, only pairs of one of the first so many texts with one of the others. With
    `one_each`, at most one pair for each i: enough to count, and quick where thousands are alike.
    Texts with one letter or none (after `normalised`) are like no other.
    """
    texts = [normalised(text) for text in texts]
    rows = np.array([i for i, text in enumerate(texts) if len(text) > 1], dtype=np.int64)
    if len(rows) < 2:
        return []
    vectors = tfidf([texts[i] for i in rows])
    n_first = None if first is None else int((rows < first).sum())
    found = [
        (int(rows[i]), int(rows[j]), min(1.0, float(similarity)))
        for i, others, similarities in _similar(vectors, threshold, n_first, one_each)
        for j, similarity in zip(others, similarities, strict=True)
    ]
    return sorted(found)


class Sparse:
    """Rows of (column, value) pairs: row i has those from `starts[i]` to `starts[i + 1]`."""

    def __init__(self, starts, columns, values, n_columns):
        self.starts, self.columns, self.values = starts, columns, values
        self.n_columns = n_columns

    def row(self, i):
        part = slice(self.starts[i], self.starts[i + 1])
        return self.columns[part], self.values[part]

    @property
    def row_numbers(self):
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))


def tfidf(texts):
    """The vectors, each of length 1, as a `Sparse` matrix of texts by pieces.

    Weight: count times ln((1 + n) / (1 + texts that have it)) + 1 (scikit-learn's "smooth" idf).
    """
    keys, owners = _pieces(texts)
    names, columns = np.unique(keys, return_inverse=True)
    cells, counts = np.unique(owners * len(names) + columns, return_counts=True)
    owners, columns = np.divmod(cells, len(names))
    having = np.bincount(columns, minlength=len(names))
    values = counts * (np.log((1 + len(texts)) / (1 + having)) + 1)[columns]
    values /= np.sqrt(np.bincount(owners, values**2, len(texts)))[owners]
    starts = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=len(texts)))])
    return Sparse(starts, columns, values, len(names))


def _pieces(texts):
    """(a number for each piece, the text that it stands in) for all pieces of all texts."""
    letters = np.array([ord(c) for text in texts for c in text], dtype=np.int64)
    owner = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    keys, owners = [], []
    for length in range(1, LONGEST_PIECE + 1):
        n = len(letters) - length + 1
        whole = owner[:n] == owner[length - 1 :]  # no piece reaches from one text into the next
        key = sum((letters[k : n + k] + 1) << (21 * k) for k in range(length))  # 21 bits a letter
        keys.append(key[whole])
        owners.append(owner[:n][whole])
    return np.concatenate(keys), np.concatenate(owners)


def _similar(vectors, threshold, n_first, one_each):
    """(i, others at least so similar, their similarities) for each row that has any after it."""
    n = len(vectors.starts) - 1
    rare = np.bincount(vectors.columns, minlength=vectors.n_columns) <= max(2, RARE * n)
    in_rare = rare[vectors.columns]
    # what the common pieces can add to a product of two rows is at most that of their lengths
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
        alike, products = [], []
        for j in maybe:
            product = vectors.row(j)[1] @ dense[vectors.row(j)[0]]
            if product >= threshold:
                alike.append(j)
                products.append(product)
                if one_each:
                    break
        dense[columns] = 0
        if alike:
            yield i, alike, products


def by_column(vectors, wanted):
    """A function: column -> (rows that have it, in order; their values), of the `wanted` pairs."""
    order = np.flatnonzero(wanted)
    order = order[np.argsort(vectors.columns[order], kind="stable")]
    rows, values = vectors.row_numbers[order], vectors.values[order]
    ends = np.cumsum(np.bincount(vectors.columns[order], minlength=vectors.n_columns))

    def lookup(column):
        part = slice(ends[column - 1] if column else 0, ends[column])
        return rows[part], values[part]

    return lookup
