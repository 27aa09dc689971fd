"""Is this instruction new? Its nearest neighbour by ROUGE-L among all that are there already.

The one idea: two texts can't have a longer common subsequence than they have words in common, and
those can be counted for the whole pool at once; so the slow comparison is made only where it could
still change the answer. Exact: the same neighbour and score as from comparing with every text.

Self-Instruct (Wang et al. 2023, section 2.2) and Stanford Alpaca keep a text whose highest score is
at most 0.7. Their words are a to z and 0 to 9, so two equal Chinese texts score 0 and both are kept
(`unicode=False`). Scores are computed as the package rouge-score rounds them: seven common words of
13 and 7 are 0.7000000000000001, and too near. Knows nothing of prompts, models or files.
"""

from array import array
from collections import Counter

import numpy as np

from ch07.scoring import f1_of, lcs_length, words

TOO_NEAR = 0.7  # a score above this is no new instruction


class Pool:
    """Texts that were seen, and which of them is nearest to another one.

    >>> pool = Pool(["Name three primary colours.", "Sort the numbers in rising order."])
    >>> pool.nearest("Name three primary numbers.")
    (0, 0.75)
    """

    def __init__(self, texts=(), unicode=True):
        self.unicode = unicode
        self.texts = []
        self._words = []  # of each text
        self._lengths = array("q")
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
        self._words.append(found)
        self._lengths.append(len(found))

    def nearest(self, text):
        """(number of the nearest text, its ROUGE-L F1 from 0 to 1); (None, 0.0) in an empty pool.

        The first of several that are equally near.
        """
        found = words(text, self.unicode)
        best, score = (0 if len(self) else None), 0.0
        most = self._most(found)
        maybe = np.flatnonzero(most > 0)
        for i in maybe[np.argsort(-most[maybe], kind="stable")].tolist():
            if most[i] < score or (most[i] == score and i > best):
                break  # no later text can be nearer, nor as near and before it
            now = f1_of(lcs_length(found, self._words[i]), len(found), len(self._words[i]))
            if now > score or (now == score and i < best):
                best, score = i, now
        return best, score

    def _most(self, found):
        """What each text's score would be if all words in common stood in the same order."""
        common = np.zeros(len(self), dtype=np.int64)
        for key in _counted(found):
            if key in self._having:
                common[np.frombuffer(self._having[key], dtype=np.int64)] += 1
        having = np.flatnonzero(common)
        # the very operations of `f1_of`, so that bounds and scores can be compared to the bit
        precision = common[having] / len(found)
        recall = common[having] / np.array(self._lengths)[having]
        most = np.zeros(len(self))
        most[having] = 2 * precision * recall / (precision + recall)
        return most


def _counted(found):
    """Each word with its count so far: keys that two texts share as often as words in common."""
    seen = Counter()
    for word in found:
        seen[word] += 1
        yield word, seen[word]
