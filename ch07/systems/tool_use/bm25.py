"""BM25: which document shares the most telling words with a question?

The one idea: a word counts for more the fewer documents have it, for less each time it comes
again, and for less in a long document. Nothing is learned, so any set of documents can be searched
at once. Source: Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond"
(2009), in the form of `rank_bm25.BM25Okapi`, the retriever of Gorilla's evaluation
(`eval/get_llm_responses_retriever.py`). Knows nothing of calls, models or files.
"""

import math
from collections import Counter

K1 = 1.5  # how soon a word that comes again stops to add to the score
B = 0.75  # how much a long document is held against itself: 0 not at all, 1 in full
EPSILON = 0.25  # a word that most documents have counts as this share of an average word


class BM25Retriever:
    """Documents, each a list of words, ready to be searched.

    ValueError for no document, for documents without any word, and for a document that is one
    text, whose "words" would be its letters.

    >>> retriever = BM25Retriever([["turn", "a", "picture"], ["hear", "a", "song"], ["a", "map"]])
    >>> retriever.best(["hear", "the", "song"])
    1
    """

    def __init__(self, documents, k1=K1, b=B, epsilon=EPSILON):
        documents = list(documents)
        for i, words in enumerate(documents):
            _check_words(words, f"document {i}")
        if not any(documents):
            raise ValueError("there is no word to search for in any document")
        self.k1, self.b = k1, b
        self.counts = [Counter(words) for words in documents]
        self.lengths = [count.total() for count in self.counts]
        self.mean_length = sum(self.lengths) / len(documents)
        self.weights = _weights(self.counts, epsilon)

    def scores(self, question):
        """How well each document fits the question, a list of words: one number each.

        A word that no document has adds nothing; one that the question repeats counts each time.
        """
        _check_words(question, "the question")
        return [
            sum(self._share(word, count, length) for word in question)
            for count, length in zip(self.counts, self.lengths, strict=True)
        ]

    def best(self, question):
        """The number of the document with the highest score; of equals the first."""
        scores = self.scores(question)
        return scores.index(max(scores))

    def _share(self, word, count, length):
        """idf x tf (k1 + 1) / (tf + k1 (1 - b + b length / mean length))."""
        if word not in count:
            return 0.0
        times = count[word]
        damped = times + self.k1 * (1 - self.b + self.b * length / self.mean_length)
        return self.weights[word] * (times * (self.k1 + 1) / damped)


def _weights(counts, epsilon):
    """Each word's idf, ln((n - having + 0.5) / (having + 0.5)).

    It is below 0 for a word that more than half of the documents have; such a word gets `epsilon`
    times the mean idf instead, as in `rank_bm25`. (With few documents the mean itself can be below
    0, and so is that floor.)
    """
    having = Counter()
    for count in counts:
        having.update(count.keys())
    idf = {word: math.log(len(counts) - n + 0.5) - math.log(n + 0.5) for word, n in having.items()}
    floor = epsilon * sum(idf.values()) / len(idf)
    return {word: floor if value < 0 else value for word, value in idf.items()}


def _check_words(words, name):
    if isinstance(words, str):
        raise ValueError(f"{name} is one text, but must be a list of words: split it first")
