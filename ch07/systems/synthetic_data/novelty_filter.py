"""Is this instruction new? Its nearest neighbour by ROUGE-L among all that are there already.

The one idea: two texts can't have a longer common subsequence than they have words in common, and
those can be counted for the whole pool at once; so the slow comparison is made only where it could
still change the answer, and for many texts side by side. Exact: the same neighbour and score as
from comparing with every text.

Self-Instruct (Wang et al. 2023, section 2.2) and Stanford Alpaca keep a text whose highest score is
at most 0.7. Their words are a to z and 0 to 9, so two equal Chinese texts score 0 and both are kept
(`unicode=False`). Scores are computed as the package rouge-score rounds them: seven common words of
13 and 7 are 0.7000000000000001, and too near. Knows nothing of prompts, models or files.
"""

from array import array
from collections import Counter

import numpy as np

from ch07.evaluation.metrics import lcs_length, words

MAX_ROUGE_L = 0.7  # a score above this is no new instruction
BITS = 64  # words of a text that are compared with many at once
FEW = 16
MANY = 4096  # texts that are compared at once: the likeliest alone, then more and more


class NoveltyPool:
    """Texts that were seen, and which of them is nearest to another one.

    >>> pool = Pool(["Name three primary colours.", "Sort the numbers in rising order."])
    >>> pool.nearest("Name three primary numbers.")
    (0, 0.75)
    """

    def __init__(self, texts=(), unicode=True):
        self.unicode = unicode
        self.texts = []
        self._numbers = {}  # of each word
        self._words = array("q")  # of all texts, as numbers, one text after the other
        self._starts, self._lengths = array("q"), array("q")  # of each text in there
        self._having = {}  # (word, k): the texts in which the word stands k times or more
        for text in texts:
            self.add(text)

    def __len__(self):
        return len(self.texts)

    def add(self, text):
        """Take one more text into the pool; its number is the next one."""
        found = words(text, self.unicode)
        for key in _counted(found):
            self._having.setdefault(key, array("q")).append(len(self))
        self.texts.append(text)
        self._starts.append(len(self._words))
        self._lengths.append(len(found))
        self._words.extend(self._numbers.setdefault(word, len(self._numbers)) for word in found)

    def nearest(self, text):
        """(number of the nearest text, its ROUGE-L F1 from 0 to 1); (None, 0.0) in an empty pool.

        The first of several that are equally near.
        """
        found = words(text, self.unicode)
        best, score = (0 if len(self) else None), 0.0
        most = self._most(found)
        maybe = np.flatnonzero(most > 0)
        for part in _parts(maybe[np.argsort(-most[maybe], kind="stable")]):
            if most[part[0]] < score or (most[part[0]] == score and part[0] > best):
                break  # no later text can be nearer, nor as near and before it
            scores = self._scores(found, part)
            highest = scores.max()
            first = int(part[scores == highest].min())
            if highest > score or (highest == score and first < best):
                best, score = first, float(highest)
        return best, score

    def _most(self, found):
        """What each text's score would be if all words in common stood in the same order."""
        common = np.zeros(len(self), dtype=np.int64)
        for key in _counted(found):
            if key in self._having:
                common[_view(self._having[key])] += 1
        return _f1(common, len(found), _view(self._lengths))

    def _scores(self, found, part):
        """The score of each text in an array of numbers of texts."""
        lengths = _view(self._lengths)[part]
        numbers = [self._numbers.get(word, -1) for word in found]
        in_order = self._in_order if len(found) <= BITS else self._in_order_one_by_one
        return _f1(in_order(numbers, part, lengths), len(found), lengths)

    def _in_order(self, numbers, part, lengths):
        """How many words a text shares with each of these in the same order: `lcs_length` of many.

        A row of 64 bits for each text, and the addition of `lcs_length` for all rows at once.
        """
        places = np.zeros(len(self._numbers) + 1, dtype=np.uint64)
        for i, number in enumerate(numbers):  # -1, the last place, is a word that no text has
            places[number] |= np.uint64(1 << i)
        all_words, starts = _view(self._words), _view(self._starts)[part]
        everywhere = np.uint64((1 << len(numbers)) - 1)
        row = np.full(len(part), everywhere)
        for j in range(lengths.max()):
            inside = j < lengths
            here = np.where(inside, places[all_words[np.where(inside, starts + j, 0)]], 0) & row
            row = (row + here | row - here) & everywhere
        return len(numbers) - np.bitwise_count(row).astype(np.int64)

    def _in_order_one_by_one(self, numbers, part, lengths):
        ends = zip(_view(self._starts)[part], lengths, strict=True)
        return np.array([lcs_length(numbers, self._words[i : i + n]) for i, n in ends])


def _view(numbers):
    """A growing array as one of NumPy's, without a copy: it can't grow while this is held."""
    return np.frombuffer(numbers, dtype=np.int64) if numbers else np.zeros(0, dtype=np.int64)


def _parts(numbers):
    """An array in pieces: a few first, then more and more."""
    start, size = 0, FEW
    while start < len(numbers):
        yield numbers[start : start + size]
        start, size = start + size, min(4 * size, MANY)


def _f1(common, n_found, lengths):
    """`f1_of` for many texts: the same operations, so that bounds and scores agree to the bit."""
    shared = common > 0
    precision, recall = common[shared] / n_found, common[shared] / lengths[shared]
    scores = np.zeros(len(common))
    scores[shared] = 2 * precision * recall / (precision + recall)
    return scores


def _counted(found):
    """Each word with its count so far: keys that two texts share as often as words in common."""
    seen = Counter()
    for word in found:
        seen[word] += 1
        yield word, seen[word]
