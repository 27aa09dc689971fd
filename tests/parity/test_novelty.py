"""The nearest neighbour is that of a plain search with rouge-score, number and score alike."""

import itertools
import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rouge_score import rouge_scorer

from ch07.evaluation.metrics import f1_from_counts, lcs_length, words
from ch07.systems.synthetic_data.novelty_filter import MAX_ROUGE_L, NoveltyPool

PEER = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
WORDS = [
    "write",
    "a",
    "the",
    "poem",
    "list",
    "of",
    "Sort,",
    "3",
    "don't",
    "x_y",
    "naïve",
    "猫",
    "-",
]
texts = st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join)

STARTS = [
    "Write a short poem about",
    "List three facts on",
    "Write a poem about",
    "Explain to a child",
]
ENDS = [
    "the sea.",
    "winter: and the SEA",
    "co-operation, 1990's",
    "über-long_names",
    "",
    "the the the",
]
MORE = [
    "a a a b",
    "b a a a",
    "A-B-C",
    "a b c d e f g h i j",
    "a b c d e f g x y z",
    "写一首诗",
    "...",
    "",
]
FIXTURE = [f"{start} {end}" for start in STARTS for end in ENDS]
FIXTURE += [f"{end} {start.lower()}" for start in STARTS for end in ENDS] + MORE
FIXTURE += [
    "Translate the sentence into French.",
    "translate the Sentence into German",
    "2016.",
    "é",
]


def test_precision_recall_and_f1_on_all_pairs_of_sixty_texts():
    assert len(FIXTURE) == 60
    for a, b in itertools.product(FIXTURE, repeat=2):
        expected = PEER.score(b, a)["rougeL"]
        one, two = words(a, unicode=False), words(b, unicode=False)
        common = lcs_length(one, two)
        precision, recall = (common / len(side) if side else 0.0 for side in (one, two))
        ours = (precision, recall, f1_from_counts(common, len(one), len(two)))
        if not one or not two:
            ours = (0.0, 0.0, 0.0)
        assert ours == pytest.approx(tuple(expected), abs=1e-12), (a, b)


def plain(pool, text):
    """(number, score) by asking the package about every text, first of the nearest."""
    scores = [PEER.score(other, text)["rougeL"].fmeasure for other in pool]
    return (scores.index(max(scores)), max(scores)) if pool else (None, 0.0)


@settings(max_examples=80)
@example(["a b c z", "d a b c"], "a b c d")  # the second could be nearer, but is only as near
@given(st.lists(texts, max_size=12), texts)
def test_the_neighbour_is_that_of_comparing_with_every_text(pool, text):
    assert NoveltyPool(pool, unicode=False).nearest(text) == plain(pool, text), "to the bit"


@settings(max_examples=80)
@given(st.lists(texts, max_size=12), texts)
def test_with_unicode_words_too(pool, text):
    scores = [_slow(words(text), words(other)) for other in pool]
    best = (scores.index(max(scores)), max(scores)) if pool else (None, 0.0)
    assert NoveltyPool(pool).nearest(text) == best


def test_many_texts_side_by_side_and_long_ones_too():
    """More texts than are compared at once, with ties, and texts about the 64 bits of a row."""
    draw = random.Random(0)

    def text(n):
        return " ".join(draw.choice("abcdef") for _ in range(n))

    pool = [text(draw.choice([1, 2, 5, 5, 5, 63, 64, 65, 90])) for _ in range(300)]
    held = NoveltyPool(pool, unicode=False)
    for n in [1, 5, 5, 5, 5, 30, 62, 63, 64, 65, 80]:
        one = text(n)
        scores = [_by_lcs(one.split(), other.split()) for other in pool]
        assert held.nearest(one) == (scores.index(max(scores)), max(scores)), n


@pytest.mark.parametrize("n_before", [15, 16, 17, 79, 80, 81, 335, 336, 337])
def test_as_near_and_before_it_wherever_a_part_ends(n_before):
    """The first shares two words of four, all others four, of which two stand in order."""
    pool = ["a b x y", *["b a d c"] * n_before]
    assert NoveltyPool(pool).nearest("a b c d") == (0, 0.5)


def _by_lcs(a, b):
    return f1_from_counts(lcs_length(a, b), len(a), len(b))


def _slow(a, b):
    """The textbook's table, no bits."""
    best = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, j in itertools.product(range(len(a)), range(len(b))):
        same = best[i][j] + 1
        best[i + 1][j + 1] = same if a[i] == b[j] else max(best[i][j + 1], best[i + 1][j])
    return f1_from_counts(best[-1][-1], len(a), len(b))


def test_seven_tenths_are_new_where_the_package_says_so():
    """A score of exactly 0.7 is kept, but 7 of 13 and 7 words round to a little more."""
    even = NoveltyPool(["a b c d e f g h i j"]).nearest("a b c d e f g x y z")
    odd = NoveltyPool(["a b c d e f g h i j k l m"]).nearest("a b c d e f g")
    assert even == (0, MAX_ROUGE_L) and odd[1] > MAX_ROUGE_L
    assert odd == plain(["a b c d e f g h i j k l m"], "a b c d e f g")


def test_a_chinese_duplicate_is_found_unless_words_are_the_papers():
    text = "写一首关于春天的诗。"
    assert NoveltyPool([text]).nearest(text) == (0, 1.0)
    assert NoveltyPool([text], unicode=False).nearest(text) == (0, 0.0)
    assert PEER.score(text, text)["rougeL"].fmeasure == 0
