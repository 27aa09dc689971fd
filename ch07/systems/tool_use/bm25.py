"""BM25 retrieval: which document fits a query best, judged by the words they share?

The one idea: a shared word counts for more if few documents contain it, for less with every
repetition, and for less in a long document. Nothing is trained, so any set of documents can be
searched at once. Source: Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and
Beyond" (2009), in the form of `rank_bm25.BM25Okapi`, the retriever of Gorilla's evaluation
(`eval/get_llm_responses_retriever.py`). Knows nothing of calls, models or files.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from ch07.utils.errors import InputError

K1 = 1.5  # term-frequency saturation: the smaller, the less a repeated word adds
B = 0.75  # length normalization: 0 none, 1 in full proportion
EPSILON = 0.25  # the idf of a word in most documents, as a share of the mean idf


class BM25Retriever:
    """An index of documents, each a list of words.

    ValueError if there is no document or no word at all, and for a document that is a string,
    whose "words" would be its letters.

    >>> retriever = BM25Retriever([["turn", "a", "picture"], ["hear", "a", "song"], ["a", "map"]])
    >>> retriever.best(["hear", "the", "song"])
    1
    """

    def __init__(
        self,
        documents: Iterable[Sequence[str]],
        k1: float = K1,
        b: float = B,
        epsilon: float = EPSILON,
    ) -> None:
        documents = list(documents)
        for i, words in enumerate(documents):
            _check_words(words, f"document {i}")
        if not any(documents):
            raise InputError("the documents contain no words")
        self.k1 = k1
        self.b = b
        self.counts = [Counter(words) for words in documents]
        self.lengths = [count.total() for count in self.counts]
        self.mean_length = sum(self.lengths) / len(documents)
        self.idf = _inverse_document_frequencies(self.counts, epsilon)

    def scores(self, query: Sequence[str]) -> list[float]:
        """The score of each document for a query, a list of words.

        A word that no document contains adds nothing; a repeated query word counts each time.
        """
        _check_words(query, "the query")
        return [
            sum(self._word_score(word, count, length) for word in query)
            for count, length in zip(self.counts, self.lengths, strict=True)
        ]

    def best(self, query: Sequence[str]) -> int:
        """The index of the document with the highest score; ties go to the first."""
        scores = self.scores(query)
        return scores.index(max(scores))

    def _word_score(self, word: str, count: Counter[str], length: int) -> float:
        """idf x tf (k1 + 1) / (tf + k1 (1 - b + b length / mean length))."""
        if word not in count:
            return 0.0
        tf = count[word]
        denominator = tf + self.k1 * (1 - self.b + self.b * length / self.mean_length)
        return self.idf[word] * (tf * (self.k1 + 1) / denominator)


def _inverse_document_frequencies(
    counts: Sequence[Counter[str]], epsilon: float
) -> dict[str, float]:
    """The idf of each word, ln((n - df + 0.5) / (df + 0.5)), where df documents contain it.

    The idf is negative for a word in more than half of the documents; such a word gets `epsilon`
    times the mean idf instead, as in `rank_bm25`. (With few documents the mean itself can be
    negative, and so can this replacement.)
    """
    document_frequency: Counter[str] = Counter()
    for count in counts:
        document_frequency.update(count.keys())
    idf = {
        word: math.log(len(counts) - df + 0.5) - math.log(df + 0.5)
        for word, df in document_frequency.items()
    }
    replacement = epsilon * sum(idf.values()) / len(idf)
    return {word: replacement if value < 0 else value for word, value in idf.items()}


def _check_words(words: Sequence[str], name: str) -> None:
    if isinstance(words, str):
        raise InputError(f"{name} is a string, but must be a list of words: split it first")
