"""Do two scorers put the same answers in the same order? Rank correlations, with ties.

The one idea: two scores need no common scale to agree; only the order counts, and scores that are
equal (a judge gives many a round 80) are neither for nor against. Equal to scipy's `spearmanr` and
`kendalltau`. Sources: Spearman 1904; Kendall 1945, "The treatment of ties in ranking problems",
where tau-b is defined. Knows nothing of judges or texts.
"""

import math

import numpy as np


def spearman(a, b):
    """Pearson's correlation of the ranks, -1 to 1; None where one of them is all the same.

    >>> round(spearman([10, 20, 20, 90], [1, 2, 3, 4]), 4)
    0.9487
    """
    a, b = _checked(a, b)
    ranks = [_ranks(values) - (len(a) + 1) / 2 for values in (a, b)]
    return _bounded(ranks[0] @ ranks[1], ranks[0] @ ranks[0], ranks[1] @ ranks[1])


def kendall(a, b):
    """Tau-b, -1 to 1: pairs in the same order less those in the other; None as in `spearman`.

    >>> round(kendall([10, 20, 20, 90], [1, 2, 3, 4]), 4)
    0.9129
    """
    a, b = _checked(a, b)
    same = untied_a = untied_b = 0
    for i in range(len(a)):
        up_a, up_b = np.sign(a[i + 1 :] - a[i]), np.sign(b[i + 1 :] - b[i])
        same += int(up_a @ up_b)
        untied_a, untied_b = untied_a + int(up_a @ up_a), untied_b + int(up_b @ up_b)
    return _bounded(same, untied_a, untied_b)


def _ranks(values):
    """Places from 1, the mean of them where values are equal."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[place]


def _bounded(common, of_a, of_b):
    if of_a == 0 or of_b == 0:
        return None
    return float(max(-1.0, min(1.0, common / math.sqrt(of_a * of_b))))


def _checked(a, b):
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"two lists of scores of the same length are needed: {a.shape}, {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("a score is NaN or infinite: leave such pairs out first")
    return a, b
