"""Novelty filter: the nearest neighbour of an instruction by ROUGE-L, in a pool of instructions.

The one idea: the longest common subsequence of two texts has at most as many words as they have in
common, and common words can be counted for the whole pool at once. So the slow comparison is only
made where it could still change the result, and for many texts in parallel. Exact: the same
neighbour and score as from comparing with every text.

Self-Instruct (Wang et al. 2023, section 2.2) and Stanford Alpaca keep a text whose highest score is
at most 0.7. Their words consist of a to z and 0 to 9, so two equal Chinese texts score 0 and both
are kept (`unicode=False`). Scores are rounded as in the package rouge-score: seven common words of
13 and 7 give 0.7000000000000001, which is above 0.7. Knows nothing of prompts, models or files.
"""

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ch07.evaluation.metrics import lcs_length, words

MAX_ROUGE_L = 0.7  # F1: an instruction with a higher score is not new
WORDS_PER_BITMASK = 64  # longer texts are compared one by one
FIRST_CHUNK = 16  # texts compared in parallel at first, those with the highest upper bound
MAX_CHUNK = 4096  # later chunks grow up to this many texts


class NoveltyPool:
    """A growing collection of texts, and the nearest of them to another text.

    >>> pool = NoveltyPool(["Name three primary colours.", "Sort the numbers in rising order."])
    >>> pool.nearest("Name three primary numbers.")
    (0, 0.75)
    """

    def __init__(self, texts: Iterable[str] = (), unicode: bool = True) -> None:
        self.unicode = unicode
        self.texts: list[str] = []
        self._word_ids: dict[str, int] = {}
        self._ids = array("q")  # the word ids of all texts, concatenated
        self._starts = array("q")  # where each text begins in `_ids`
        self._lengths = array("q")  # how many words each text has
        # (word, k) -> the texts in which the word occurs at least k times
        self._texts_with: dict[tuple[str, int], array[int]] = {}
        for text in texts:
            self.add(text)

    def __len__(self) -> int:
        return len(self.texts)

    def add(self, text: str) -> None:
        """Add a text to the pool; its index is the next one."""
        text_words = words(text, self.unicode)
        for key in _numbered_occurrences(text_words):
            self._texts_with.setdefault(key, array("q")).append(len(self))
        self.texts.append(text)
        self._starts.append(len(self._ids))
        self._lengths.append(len(text_words))
        for word in text_words:
            self._ids.append(self._word_ids.setdefault(word, len(self._word_ids)))

    def nearest(self, text: str) -> tuple[int | None, float]:
        """(index of the nearest text, its ROUGE-L F1 from 0 to 1); (None, 0.0) in an empty pool.

        Ties go to the first text.
        """
        if not len(self):
            return None, 0.0
        text_words = words(text, self.unicode)
        best = 0
        best_score = 0.0
        bounds = self._upper_bounds(text_words)
        candidates = np.flatnonzero(bounds > 0)
        for chunk in _chunks(candidates[np.argsort(-bounds[candidates], kind="stable")]):
            bound = bounds[chunk[0]]
            if bound < best_score or (bound == best_score and chunk[0] > best):
                break  # no later text is nearer, nor equally near with a smaller index
            scores = self._scores(text_words, chunk)
            highest = scores.max()
            first = int(chunk[scores == highest].min())
            if highest > best_score or (highest == best_score and first < best):
                best = first
                best_score = float(highest)
        return best, best_score

    def _upper_bounds(self, text_words: Sequence[str]) -> NDArray[np.float64]:
        """Each text's score if all its common words occurred in the same order."""
        common = np.zeros(len(self), dtype=np.int64)
        for key in _numbered_occurrences(text_words):
            if key in self._texts_with:
                common[_as_numpy(self._texts_with[key])] += 1
        return _f1_scores(common, len(text_words), _as_numpy(self._lengths))

    def _scores(self, text_words: Sequence[str], chunk: NDArray[np.int64]) -> NDArray[np.float64]:
        """The score of each text in an array of text indices."""
        lengths = _as_numpy(self._lengths)[chunk]
        ids = [self._word_ids.get(word, -1) for word in text_words]
        if len(ids) <= WORDS_PER_BITMASK:
            common = self._lcs_lengths_in_parallel(ids, chunk, lengths)
        else:
            common = self._lcs_lengths_one_by_one(ids, chunk, lengths)
        return _f1_scores(common, len(text_words), lengths)

    def _lcs_lengths_in_parallel(
        self, ids: Sequence[int], chunk: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """`lcs_length` of a text and each text of a chunk: one 64-bit mask per text of the chunk.

        Each step is the addition of `lcs_length`, for all masks at once.
        """
        positions = np.zeros(len(self._word_ids) + 1, dtype=np.uint64)  # word id -> bitmask
        for i, word_id in enumerate(ids):  # id -1, the last element: a word that no text has
            positions[word_id] |= np.uint64(1 << i)
        all_ids = _as_numpy(self._ids)
        starts = _as_numpy(self._starts)[chunk]
        all_bits = np.uint64((1 << len(ids)) - 1)
        mask = np.full(len(chunk), all_bits)
        for j in range(lengths.max()):
            inside = j < lengths
            word_ids = all_ids[np.where(inside, starts + j, 0)]
            matches = np.where(inside, positions[word_ids], 0) & mask
            mask = (mask + matches | mask - matches) & all_bits
        return len(ids) - np.bitwise_count(mask).astype(np.int64)

    def _lcs_lengths_one_by_one(
        self, ids: Sequence[int], chunk: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        starts = _as_numpy(self._starts)[chunk]
        lcs_lengths = []
        for start, length in zip(starts, lengths, strict=True):
            lcs_lengths.append(lcs_length(ids, self._ids[start : start + length]))
        return np.array(lcs_lengths)


def _as_numpy(numbers: "array[int]") -> NDArray[np.int64]:
    """A view of a growing array, without a copy; the array can't grow while the view exists."""
    return np.frombuffer(numbers, dtype=np.int64) if numbers else np.zeros(0, dtype=np.int64)


def _chunks(indices: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """An array in chunks, small ones first."""
    start = 0
    size = FIRST_CHUNK
    while start < len(indices):
        yield indices[start : start + size]
        start += size
        size = min(4 * size, MAX_CHUNK)


def _f1_scores(
    common: NDArray[np.int64], n_words: int, lengths: NDArray[np.int64]
) -> NDArray[np.float64]:
    """`f1_from_counts` for many texts: the same operations, so bounds and scores agree exactly."""
    positive = common > 0
    precision = common[positive] / n_words
    recall = common[positive] / lengths[positive]
    scores = np.zeros(len(common))
    scores[positive] = 2 * precision * recall / (precision + recall)
    return scores


def _numbered_occurrences(text_words: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Each word with how often it has occurred so far: two texts share a key per common word."""
    occurrences: Counter[str] = Counter()
    for word in text_words:
        occurrences[word] += 1
        yield word, occurrences[word]
