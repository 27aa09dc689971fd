"""`find_near_duplicates` against scikit-learn's TF-IDF, as the book's own script calls it."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics.pairwise import cosine_similarity

from ch07.data import near_duplicates
from ch07.data.near_duplicates import find_near_duplicates, normalised, tfidf

WORDS = (
    "the a sentence rewrite sort words capital of France Spain cat dog opposite hot cold".split()
)


def theirs(texts):
    vectors = TfidfVectorizer(analyzer="char", ngram_range=(1, 3)).fit_transform(texts)
    return vectors, cosine_similarity(vectors)


def phrases(n, seed=0):
    """Half of them as they come, half with one letter of another changed."""
    dice = random.Random(seed)
    made = [" ".join(dice.choices(WORDS, k=dice.randint(2, 7))) for _ in range(n // 2)]
    for text in made.copy():
        place = dice.randrange(len(text))
        made.append(text[:place] + dice.choice("aeiou") + text[place + 1 :])
    return made


def test_the_vectors_are_scikit_learns():
    texts = [normalised(text) for text in phrases(50)]
    ours, (vectors, _) = tfidf(texts), theirs(texts)
    assert ours.n_columns == vectors.shape[1]
    for i in range(len(texts)):
        assert np.allclose(sorted(ours.row(i)[1]), sorted(vectors[i].data), atol=1e-12)


@pytest.mark.parametrize("threshold", [0.5, 0.75, 0.9])
@pytest.mark.parametrize("rare", [0.0, 0.05, 1.0])
def test_the_pairs_are_those_of_all_pairs(monkeypatch, threshold, rare):
    """Whatever is looked up and whatever is bounded: no pair is missed, none is invented."""
    monkeypatch.setattr(near_duplicates, "RARE_SHARE", rare)
    texts = phrases(120)
    found = {(i, j): s for i, j, s in find_near_duplicates(texts, threshold)}
    _, all_pairs = theirs([normalised(text) for text in texts])
    wanted = {
        (i, j): all_pairs[i, j]
        for i in range(120)
        for j in range(i + 1, 120)
        if all_pairs[i, j] >= threshold
    }
    assert found.keys() == wanted.keys() and len(wanted) > 20
    assert max(abs(found[pair] - wanted[pair]) for pair in wanted) < 1e-9
    across = find_near_duplicates(texts, threshold, first=60)
    assert across == [(i, j, found[i, j]) for i, j in sorted(found) if i < 60 <= j]
    one_each = find_near_duplicates(texts, threshold, one_each=True)
    assert [i for i, _, _ in one_each] == sorted({i for i, _ in found})
    assert all(found[i, j] == similarity for i, j, similarity in one_each)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text(max_size=12), max_size=12))
def test_any_text_in_any_script(texts):
    found = find_near_duplicates(texts, 0.8)
    clean = [normalised(text) for text in texts]
    kept = [i for i, text in enumerate(clean) if len(text) > 1]
    if len(kept) < 2:
        assert found == []
        return
    _, similar = theirs([clean[i] for i in kept])
    for i, j, similarity in found:
        assert similarity == pytest.approx(min(1, similar[kept.index(i), kept.index(j)]), abs=1e-9)
    pairs = {(i, j) for i, j, _ in found}
    for a, i in enumerate(kept):
        for b, j in enumerate(kept[a + 1 :], start=a + 1):
            assert ((i, j) in pairs) == (similar[a, b] >= 0.8) or abs(similar[a, b] - 0.8) < 1e-9


def test_thousands_that_are_the_same_are_counted_in_a_moment():
    """All pairs of them would be two million."""
    found = find_near_duplicates(["Say the same again."] * 2000 + ["Else?"], one_each=True)
    assert len(found) == 1999 and {similarity for _, _, similarity in found} == {1.0}


def test_empty_texts_shift_no_index():
    """The book's script drops empty values and then reports the rows before them."""
    assert find_near_duplicates(["", "Name a colour.", "name a colour"]) == [(1, 2, 1.0)]
    assert find_near_duplicates(["", "x", ""]) == []
    assert find_near_duplicates([]) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is C++?", "What is C#?"),
        ("What is C?", "What is C++?"),
        ("Work out 1.5 + 3.", "Work out 15 - 3."),
        ("Work out 15 + 3.", "Work out 15 - 3."),
        ("Work out 5\u20133.", "Work out 53."),
        ("Which odds are 3:1?", "Which odds are 31?"),
        ("Work out 15 * 3.", "Work out 15 / 3."),
        ("Is 3 < 4?", "Is 3 > 4?"),
        ("x = -5", "x = 5"),
        ("50 %", "50"),
        ("Was ist दिल?", "Was ist दाल?"),  # heart, lentils
        ("$ 5", "€ 5"),
        ("snake_case", "snakecase"),
    ],
)
def test_signs_that_mean_something_make_texts_differ(one, other):
    assert normalised(one) != normalised(other)
    ((_, _, similarity),) = find_near_duplicates([one, other], threshold=0.0)
    assert similarity < 0.9999


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Name a colour!", "name a  colour"),
        ("What is 'hot'?", 'What is "hot"?'),
        ("Say (it), please.", "Say it please"),
        ("caf\u00e9", "cafe\u0301"),
        ("İSTANBUL", "istanbul"),
        ("well-known", "wellknown"),
        ("«oui»", "oui"),
    ],
)
def test_signs_of_sentences_make_no_difference(one, other):
    assert normalised(one) == normalised(other)
