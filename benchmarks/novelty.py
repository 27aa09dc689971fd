"""Seconds to compare one new instruction exactly with a pool of 50,000, and Alpaca's way to do it.

    python -m benchmarks.novelty [--rows N] [--json FILE]

The peer is what Alpaca does in each of its processes: rouge-score's `_score_lcs` for every text of
the pool, tokenized beforehand. The texts are generated: words or Chinese characters as frequent as
in natural text (Zipf's law), a sentence with two words changed, and a sentence with its words
shuffled, where counting words doesn't help and every text must be compared.
"""

import random
import statistics
import time
from itertools import accumulate

from benchmarks.harness import parser, report, row
from ch07.systems.synthetic_data.novelty_filter import NoveltyPool

CANDIDATES = 20
PEER_CANDIDATES = 2
SENTENCE = "write a short story about the sea and explain why it is good".split()


def makers(draw):
    """{name: a function that makes one text}."""
    words = [f"w{i}" for i in range(20_000)]
    letters = [chr(0x4E00 + i) for i in range(3_000)]
    odds = {
        len(some): list(accumulate(1 / (i + 1) for i in range(len(some))))
        for some in (words, letters)
    }

    def drawn(some, low, high):
        return draw.choices(some, cum_weights=odds[len(some)], k=draw.randint(low, high))

    return {
        "words": lambda: " ".join(drawn(words, 5, 22)),
        "Chinese": lambda: "".join(drawn(letters, 8, 40)),
        "two words changed": lambda: " ".join(SENTENCE[:5] + drawn(words, 2, 2) + SENTENCE[7:]),
        "every order": lambda: " ".join(draw.sample(SENTENCE, len(SENTENCE))),
    }


def compare(n_rows):
    """One row per kind of text: median seconds per candidate."""
    from rouge_score import rouge_scorer

    tokenizer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)._tokenizer
    for name, make in makers(random.Random(0)).items():
        texts = [make() for _ in range(n_rows)]
        pool, candidates = NoveltyPool(texts), [make() for _ in range(CANDIDATES)]
        tokens = [tokenizer.tokenize(text) for text in texts]

        def peer(text, tokens=tokens):
            own = tokenizer.tokenize(text)
            return max(rouge_scorer._score_lcs(own, other).fmeasure for other in tokens)

        ours = _median(pool.nearest, candidates)
        yield row(
            f"seconds: {name}", ours, _median(peer, candidates[:PEER_CANDIDATES]), "Alpaca's way"
        )


def _median(function, texts):
    seconds = []
    for text in texts:
        started = time.perf_counter()
        function(text)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--rows", type=int, default=50_000)
    given = arguments.parse_args()
    report(list(compare(given.rows)), given.json)
