"""ROUGE-L is the rouge-score package's, on text that both tokenize alike (lower-case ASCII)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score import rouge_scorer

from ch07.evaluation.metrics import rouge_l

texts = st.lists(
    st.sampled_from(["the", "cat", "sat", "on", "a", "mat", "12", "b4"]), max_size=12
).map(" ".join)


@given(texts, texts)
def test_equal_to_rouge_score(a, b):
    peer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
    expected = peer.score(b, a)["rougeL"].fmeasure
    if not a and not b:
        expected = 1.0  # ours: an empty answer to an empty reference is right
    assert rouge_l(a, b) == pytest.approx(expected, abs=1e-12)
