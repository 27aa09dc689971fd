"""`BM25Retriever` against `rank_bm25.BM25Okapi`, the one that Gorilla's evaluation calls."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rank_bm25 import BM25Okapi

from ch07.systems.tool_use.bm25 import BM25Retriever
from ch07.systems.tool_use.toy_api_dataset import (
    build_entries,
    document_words,
    reference,
    toolbox,
)

WORDS = "the a picture smaller turn sound song words of to french map chart rows mean voice".split()
documents = st.lists(st.lists(st.sampled_from(WORDS), max_size=12), min_size=1, max_size=12)
questions = st.lists(st.sampled_from([*WORDS, "never", "heard"]), max_size=8)


def thirty_documents():
    """Rare words, and "the" and "a" in most, so that the floor of the weights is at work."""
    dice = random.Random(0)
    rare = [f"{word}{i}" for word in WORDS for i in range(8)]
    return [
        ["the"] * dice.randint(0, 2) + ["a"] + dice.choices(WORDS + rare, k=dice.randint(3, 20))
        for _ in range(30)
    ]


def check_same(texts, question, **settings):
    ours, theirs = BM25Retriever(texts, **settings), BM25Okapi(texts, **settings)
    scores = theirs.get_scores(question)
    assert ours.scores(question) == pytest.approx(scores.tolist(), rel=0, abs=1e-9)
    assert scores[ours.best(question)] >= scores.max() - 1e-9
    ranked = np.sort(scores)
    if len(texts) == 1 or ranked[-1] - ranked[-2] > 1e-9:  # of equals, the order is anybody's
        assert theirs.get_top_n(question, range(len(texts)), n=1) == [ours.best(question)]


def test_thirty_documents_score_the_same():
    texts, dice = thirty_documents(), random.Random(1)
    theirs = BM25Okapi(texts)
    floor = theirs.epsilon * theirs.average_idf
    assert theirs.idf["a"] == floor > 0, "a common word must stand on the floor"
    for _ in range(100):
        some = [*dice.choice(texts), *WORDS, "never"]
        check_same(texts, dice.choices(some, k=dice.randint(1, 10)))


@settings(max_examples=60, deadline=None)
@given(documents.filter(any), questions, st.floats(0.01, 3), st.floats(0, 0.99), st.floats(0, 1))
def test_any_documents_score_the_same(texts, question, k1, b, epsilon):
    check_same(texts, question, k1=k1, b=b, epsilon=epsilon)


def test_a_floor_below_zero_is_theirs_too():
    """With one document every word is in more than half of them."""
    check_same([["a", "b", "b"]], ["b", "a", "b"])
    assert BM25Retriever([["a"]]).scores(["a"])[0] < 0


def test_where_theirs_divides_nothing_by_nothing_ours_is_0():
    """Without k1, a word that a document has not adds nothing to it."""
    with np.errstate(invalid="ignore"):
        assert np.isnan(BM25Okapi([["a"], ["b"]], k1=0).get_scores(["a"])[1])
    assert BM25Retriever([["a"], ["b"]], k1=0).scores(["a"])[1] == 0
    assert BM25Retriever([["a"], []], b=1).scores(["a"])[1] == 0


@pytest.mark.parametrize("documents", [[], [[]], [[], []]])
def test_nothing_to_search_is_said(documents):
    with pytest.raises(ValueError, match="the documents contain no words"):
        BM25Retriever(documents)


def test_a_text_that_was_not_split_is_refused():
    with pytest.raises(ValueError, match="document 1 is a string"):
        BM25Retriever([["a"], "a picture"])
    with pytest.raises(ValueError, match="the query is a string"):
        BM25Retriever([["a"]]).scores("a picture")


def test_the_toolbox_finds_the_documents_that_theirs_would():
    tools = toolbox()
    documents = [document_words(tool.document) for tool in tools]
    theirs = BM25Okapi(documents)
    entries, found = build_entries("bm25"), 0
    for entry in entries:
        best = int(theirs.get_scores(document_words(entry["instruction"])).argmax())
        assert entry["input"] == reference(tools[best].document)
        found += entry["output"] == str(tools[best].api.call)
    assert 0.2 < found / len(entries) < 0.9, "neither useless nor an oracle"
