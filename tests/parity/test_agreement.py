"""Rank correlations are scipy's, with and without ties."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, spearmanr

from ch07.evaluation.rank_correlation import kendall, spearman

few = st.integers(0, 6).map(float)  # many ties
many = st.floats(-1e6, 1e6).map(lambda x: round(x, 3))
pairs = st.lists(st.tuples(few, few) | st.tuples(few, many) | st.tuples(many, many),
                 min_size=2, max_size=40)  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(pairs)
def test_equal_to_scipy(rows):
    a, b = zip(*rows, strict=True)
    if len(set(a)) == 1 or len(set(b)) == 1:  # scipy: a warning and NaN
        assert spearman(a, b) is kendall(a, b) is None
        return
    assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)
    assert kendall(a, b) == pytest.approx(kendalltau(a, b, variant="b").statistic, abs=1e-12)
