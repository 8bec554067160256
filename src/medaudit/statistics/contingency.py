"""Are ratings spread alike over groups? Pearson's chi-square with Cramer's V and a permutation p-value."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import chdtrc

from medaudit.statistics.comparison import Comparison
from medaudit.statistics.exchange import exchange_units, exchanged_labels


@dataclass(frozen=True)
class RatingTest:
    """Pearson's chi-square of rating x group: the ``counts`` (R, G), Cramer's V, and two p-values.

    ``p`` is asymptotic and unreliable where ``min_expected`` is below 5 or patients repeat; ``p_permutation`` is not.
    """

    counts: np.ndarray
    chi2: float
    df: int
    n: int
    cramers_v: float
    p: float
    p_permutation: float
    min_expected: float


def rating_test(
    ratings: ArrayLike, comparison: Comparison, *, n_permutations: int = 10_000, seed: int | np.random.Generator = 0
) -> RatingTest:
    """Return the test that ``ratings`` (n,), codes with -1 unknown, do not depend on the group.

    Labels are exchanged as the comparison's clusters and strata allow.
    """
    rated = np.asarray(ratings, dtype=np.int64)
    chosen = comparison.subset(comparison.known & (rated >= 0))
    rows = rated[chosen.known]
    counts = np.zeros((int(rows.max(initial=-1)) + 1, comparison.n_groups))
    np.add.at(counts, (rows, chosen.groups[chosen.known]), 1)
    chi2, expected = _pearson(counts)
    used_ratings, used_groups = int((counts.sum(1) > 0).sum()), int((counts.sum(0) > 0).sum())
    n = int(counts.sum())
    if min(used_ratings, used_groups) < 2:
        return RatingTest(counts.astype(np.int64), math.nan, 0, n, math.nan, math.nan, math.nan, math.nan)
    df = (used_ratings - 1) * (used_groups - 1)

    units, labels = exchange_units(chosen)
    profile = np.zeros((labels.size, len(counts)), dtype=np.float32)
    np.add.at(profile, (units, rows), 1.0)
    extreme = 0
    for _, exchanged in exchanged_labels(chosen, n_permutations, seed):
        tables = np.stack([(exchanged == g).astype(np.float32) @ profile for g in range(comparison.n_groups)], axis=-1)
        extreme += int((_pearson(tables)[0] >= float(chi2) * (1 - 1e-6)).sum())
    return RatingTest(
        counts.astype(np.int64),
        float(chi2),
        df,
        n,
        math.sqrt(float(chi2) / (n * (min(used_ratings, used_groups) - 1))),
        float(chdtrc(df, float(chi2))),
        (extreme + 1) / (n_permutations + 1),
        float(expected[expected > 0].min()),
    )


def _pearson(tables: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    counts = tables.astype(np.float64)
    total = counts.sum(axis=(-2, -1), keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = counts.sum(-1, keepdims=True) * counts.sum(-2, keepdims=True) / total
        cells = np.where(expected > 0, (counts - expected) ** 2 / expected, 0.0)
    return cells.sum(axis=(-2, -1)), expected
