"""Do two scores of the same cases show the same differences between groups, and if not, by how much do gaps differ?

Two rulers on one model's predictions, or two trainings on one ruler: each case has a score u and a score v. The *size*
of the change is gap(u) - gap(v), what a reader would see. The *test* asks a linear question instead: all differences
between groups are the same under u and under v exactly if u - v has the same mean in every group, so it is the
permutation test of that difference of scores. It keeps its level where a test of the two max-min gaps cannot: a gap is
biased upward by its score's noise, so a noisy score shows a larger gap than a quiet one where neither has any. And it
notices groups that trade places at an equal gap, which max - min does not see (our choice;
``benchmarks/calibration.py`` measures it).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from medaudit.statistics.bootstrap import bootstrap_means, gap_difference_interval
from medaudit.statistics.comparison import Comparison, as_columns
from medaudit.statistics.disparity import gap
from medaudit.statistics.permutation import permutation_test


@dataclass(frozen=True)
class GapChange:
    """The change ``value`` = gap(u) - gap(v), its 95 % (``low``, ``high``) and 90 % limits, and the ``p`` of no change.

    ``p`` small says that the groups differ by other amounts under u than under v; the limits say what that does
    to the gap, and a change that spares the extremes does nothing to it. ``gap_u`` and ``gap_v`` are those of the
    ``n`` cases with both scores.
    """

    value: float
    low: float
    high: float
    low_90: float
    high_90: float
    p: float
    gap_u: float
    gap_v: float
    n: int


def gap_change(
    u: ArrayLike,
    v: ArrayLike,
    comparison: Comparison,
    *,
    n_resamples: int = 10_000,
    n_permutations: int = 10_000,
    seed: int = 0,
) -> GapChange:
    """Return how the groups' differences change from score ``v`` to score ``u``, both (n,), NaN = missing.

    A case without either score is left out of both: pairs are what is compared. Intervals are paired, by bootstrap of
    clusters (:func:`gap_difference_interval`); ``p`` is the studentised permutation test of u - v, by clusters and
    within strata where the comparison has them (:func:`permutation_test`). NaN where fewer than two groups have pairs.
    """
    pair = np.column_stack([as_columns(u, comparison)[:, 0], as_columns(v, comparison)[:, 0]])
    paired = comparison.subset(comparison.known & np.isfinite(pair).all(axis=1))
    pair[~paired.known] = np.nan
    draws = bootstrap_means(pair, paired, n_resamples=n_resamples, seed=seed)
    value, low, high = gap_difference_interval(draws, 0, 1)
    _, low_90, high_90 = gap_difference_interval(draws, 0, 1, 0.90)
    test = permutation_test(_difference(pair, paired), paired, n_permutations=n_permutations, seed=seed)
    gap_u, gap_v = gap(draws.observed)
    # Not the raw p-value, not even where all differences are 0 or 1: u - v and v - u must give the same answer.
    p = float(test.p_studentised[0])
    return GapChange(value, low, high, low_90, high_90, p, float(gap_u), float(gap_v), paired.n_cases)


def _difference(pair: np.ndarray, paired: Comparison) -> np.ndarray:
    """Return u - v (n,), where what only rounding makes unlike is made equal: else its digits would be tested."""
    difference = pair[:, 0] - pair[:, 1]
    seen = difference[paired.known]
    if seen.size == 0:
        return difference
    middle = float(np.median(seen))
    rounding = 1e-12 * float(np.abs(pair[paired.known]).max())
    return np.where(np.abs(difference - middle) <= rounding, middle, difference)
