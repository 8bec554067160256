"""Rank tests: Kruskal-Wallis with Dunn's comparisons, and van Elteren's test within strata.

Ranks do not mind atoms, skew, or a distance that is infinite because a mask is empty: it ranks last. They assume
independent cases; where patients repeat, pass ranks to the permutation test instead.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import chdtrc, ndtr

from medaudit.statistics.comparison import Comparison
from medaudit.statistics.disparity import pairs
from medaudit.statistics.multiplicity import holm


@dataclass(frozen=True)
class ChiSquareTest:
    """A statistic that is chi-square under the null: Kruskal-Wallis H, van Elteren, or Pearson's."""

    statistic: float
    df: int
    n: int
    effect: float = math.nan

    @property
    def p(self) -> float:
        """The asymptotic p-value."""
        return float(chdtrc(self.df, self.statistic)) if self.df > 0 else math.nan


@dataclass(frozen=True)
class PairwiseRanks:
    """Dunn's comparisons of all pairs (i, j); every array is (P,).

    ``rank_biserial`` is 1 - 2 U / (n_i n_j): +1 if every case of j ranks above every case of i.
    """

    i: np.ndarray
    j: np.ndarray
    z: np.ndarray
    p: np.ndarray
    p_holm: np.ndarray
    p_bonferroni: np.ndarray
    rank_biserial: np.ndarray


def kruskal_wallis(values: ArrayLike, comparison: Comparison) -> ChiSquareTest:
    """Return Kruskal-Wallis' H (corrected for ties) over the groups; effect = epsilon^2 = (H - k + 1) / (N - k)."""
    y, groups = _ranked(values, comparison)
    n, sizes = y.size, np.bincount(groups, minlength=comparison.n_groups)
    k = int((sizes > 0).sum())
    if k < 2 or np.ptp(y) == 0:
        return ChiSquareTest(math.nan, 0, n)
    sums = np.bincount(groups, _ranks(y), comparison.n_groups)[sizes > 0]
    h = 12 / (n * (n + 1)) * float((sums**2 / sizes[sizes > 0]).sum()) - 3 * (n + 1)
    h /= 1 - _tie_sum(y) / (n**3 - n)
    return ChiSquareTest(h, k - 1, n, (h - k + 1) / (n - k) if n > k else math.nan)


def dunn(values: ArrayLike, comparison: Comparison) -> PairwiseRanks:
    """Return Dunn's z tests of all pairs of groups (Dunn 1964) with Holm and Bonferroni corrections."""
    y, groups = _ranked(values, comparison)
    n, sizes = y.size, np.bincount(groups, minlength=comparison.n_groups)
    i, j = pairs(comparison.n_groups)
    with np.errstate(divide="ignore", invalid="ignore"):
        ranks = np.bincount(groups, _ranks(y), comparison.n_groups) / sizes
        variance = (n * (n + 1) / 12 - _tie_sum(y) / (12 * max(n - 1, 1))) * (1 / sizes[i] + 1 / sizes[j])
        z = (ranks[i] - ranks[j]) / np.sqrt(variance)
    p = 2 * ndtr(-np.abs(z))
    biserial = np.array([_rank_biserial(y[groups == a], y[groups == b]) for a, b in zip(i, j, strict=True)])
    tested = int(np.isfinite(p).sum())
    return PairwiseRanks(i, j, z, p, holm(p), np.minimum(p * tested, 1.0), biserial)


def van_elteren(values: ArrayLike, comparison: Comparison) -> ChiSquareTest:
    """Return van Elteren's stratified rank test that groups are alike within strata (van Elteren 1960).

    Ranks are taken within strata and weighted by 1 / (n_s + 1); with one stratum it is Kruskal-Wallis.
    """
    y, groups = _ranked(values, comparison)
    known = comparison.known & ~np.isnan(np.asarray(values, dtype=np.float64))
    strata = np.zeros(y.size, dtype=np.int64) if comparison.strata is None else comparison.strata[known]
    size = comparison.n_groups
    excess, covariance = np.zeros(size), np.zeros((size, size))
    for s in np.unique(strata):
        inside = strata == s
        n = int(inside.sum())
        if n < 2:
            continue
        ranks = _ranks(y[inside])
        sizes = np.bincount(groups[inside], minlength=size)
        weight = 1 / (n + 1)
        excess += weight * (np.bincount(groups[inside], ranks, size) - sizes * (n + 1) / 2)
        covariance += weight**2 * ranks.var(ddof=1) * (np.diag(sizes) - np.outer(sizes, sizes) / n)
    df = int(np.linalg.matrix_rank(covariance, hermitian=True))
    statistic = float(excess @ np.linalg.pinv(covariance, hermitian=True) @ excess) if df else math.nan
    return ChiSquareTest(statistic, df, y.size)


def _ranked(values: ArrayLike, comparison: Comparison) -> tuple[np.ndarray, np.ndarray]:
    y = np.asarray(values, dtype=np.float64)
    keep = comparison.known & ~np.isnan(y)
    # Ranks of ranks are the ranks, and infinite distances become finite.
    return _ranks(y[keep]), comparison.groups[keep]


def _ranks(y: np.ndarray) -> np.ndarray:
    """Return the ranks 1..n of ``y`` (n,), equal values sharing the mean of theirs."""
    _, place, count = np.unique(y, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place]


def _tie_sum(y: np.ndarray) -> float:
    counts = np.unique(y, return_counts=True)[1].astype(np.float64)
    return float((counts**3 - counts).sum())


def _rank_biserial(a: np.ndarray, b: np.ndarray) -> float:
    if a.size == 0 or b.size == 0:
        return math.nan
    u = _ranks(np.concatenate([a, b]))[: a.size].sum() - a.size * (a.size + 1) / 2
    return float(1 - 2 * u / (a.size * b.size))
