"""Rank correlations with ties: do two scorers put the same answers in the same order?

The one idea: two scorers can agree without a common scale, since only the order counts; ties (a
judge often gives a round 80) count neither for nor against. Equal to scipy's `spearmanr` and
`kendalltau`. Sources: Spearman 1904; Kendall 1945, "The treatment of ties in ranking problems",
where tau-b is defined. Knows nothing of judges or texts.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ch07.utils.errors import InputError


def spearman(a: ArrayLike, b: ArrayLike) -> float | None:
    """Spearman's rho, the correlation of the ranks, from -1 to 1; None if one list is constant.

    >>> round(spearman([10, 20, 20, 90], [1, 2, 3, 4]), 4)
    0.9487
    """
    a, b = _validated_arrays(a, b)
    mean_rank = (len(a) + 1) / 2
    ranks_a = _ranks(a) - mean_rank
    ranks_b = _ranks(b) - mean_rank
    return _normalized(float(ranks_a @ ranks_b), float(ranks_a @ ranks_a), float(ranks_b @ ranks_b))


def kendall(a: ArrayLike, b: ArrayLike) -> float | None:
    """Kendall's tau-b, from concordant and discordant pairs, -1 to 1; None as in `spearman`.

    >>> round(kendall([10, 20, 20, 90], [1, 2, 3, 4]), 4)
    0.9129
    """
    a, b = _validated_arrays(a, b)
    concordant_minus_discordant = 0
    untied_a = 0
    untied_b = 0
    for i in range(len(a)):
        sign_a = np.sign(a[i + 1 :] - a[i])
        sign_b = np.sign(b[i + 1 :] - b[i])
        concordant_minus_discordant += int(sign_a @ sign_b)
        untied_a += int(sign_a @ sign_a)
        untied_b += int(sign_b @ sign_b)
    return _normalized(concordant_minus_discordant, untied_a, untied_b)


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 1; equal values share their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last_ranks = np.cumsum(counts)
    return (last_ranks - (counts - 1) / 2)[inverse]


def _normalized(product: float, norm_a: float, norm_b: float) -> float | None:
    """The correlation from a product and two squared norms, within -1 to 1 despite rounding."""
    if norm_a == 0 or norm_b == 0:
        return None
    return float(max(-1.0, min(1.0, product / math.sqrt(norm_a * norm_b))))


def _validated_arrays(
    a: ArrayLike, b: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a = np.asarray(a, dtype=np.float64)
    b = np.asarray(b, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise InputError(
            f"two lists of the same length are needed, but got {a.shape} and {b.shape}"
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise InputError("a score is NaN or infinite: remove such pairs first")
    return a, b
