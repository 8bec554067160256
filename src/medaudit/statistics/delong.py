"""DeLong: AUROCs of several scores on the same cases, their covariance, the test of a difference; by patient too."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata

from medaudit.errors import DataError


@dataclass(frozen=True, eq=False)
class DeLong:
    """AUROCs ``auc`` (M,) of M scores on the same cases, and their ``covariance`` (M, M)."""

    auc: np.ndarray
    covariance: np.ndarray


def delong(scores: ArrayLike, positive: ArrayLike, clusters: ArrayLike | None = None) -> DeLong:
    """Return the AUROCs of ``scores`` (M, n) for ``positive`` (n,) bool, with DeLong's covariance (1988).

    By mid-ranks, in n log n (Sun & Xu 2014). ``clusters`` (n,): the patient of each case; the covariance is then that
    of Obuchowski (1997), where the parts of one patient's cases, positive or not, belong together. Raises DataError
    where there are fewer than two cases (patients, if given) of either kind, or a score is NaN. A score that parts the
    kinds without an error has variance 0, which is DeLong's word and no certainty: resampling says the same.
    """
    values, up = np.atleast_2d(np.asarray(scores, dtype=np.float64)), np.asarray(positive, dtype=bool)
    if values.shape[1] != up.size:
        raise DataError(f"{values.shape[1]} scores and {up.size} labels; expected one of each for every case")
    m, n = int(up.sum()), int((~up).sum())
    if m < 2 or n < 2:
        raise DataError(f"{m} positive and {n} negative cases; expected 2 or more of both")
    if np.isnan(values).any():
        raise DataError("a score is NaN; expected a number for every case and score")
    both = rankdata(values, axis=1)
    inside_up, inside_down = rankdata(values[:, up], axis=1), rankdata(values[:, ~up], axis=1)
    above = (both[:, up] - inside_up) / n  # share of negatives below each positive
    below = 1 - (both[:, ~up] - inside_down) / m  # share of positives above each negative
    auc = above.mean(axis=1)
    if clusters is None:
        return DeLong(auc, np.atleast_2d(np.cov(above)) / m + np.atleast_2d(np.cov(below)) / n)
    who_is = np.asarray(clusters)
    if who_is.shape != up.shape:
        raise DataError(f"clusters have shape {who_is.shape}; expected {up.shape}, one a case")
    codes = np.unique(who_is, return_inverse=True)[1]
    k = int(codes.max()) + 1
    with_up, with_down = len(np.unique(codes[up])), len(np.unique(codes[~up]))
    if with_up < 2 or with_down < 2:
        found = f"positive cases are of {with_up} patient(s), negative ones of {with_down}"
        raise DataError(f"{found}; expected 2 or more of both: one patient does not show how patients differ")

    def sums(parts: np.ndarray, who: np.ndarray) -> np.ndarray:
        """Return each cluster's sum of centred parts, (M, K)."""
        return np.stack([np.bincount(who, weights=row, minlength=k) for row in parts - auc[:, None]])

    of_up, of_down = sums(above, codes[up]), sums(below, codes[~up])
    up_part = of_up @ of_up.T * with_up / (with_up - 1) / m**2
    down_part = of_down @ of_down.T * with_down / (with_down - 1) / n**2
    cross = of_up @ of_down.T * k / (k - 1) / (m * n)
    return DeLong(auc, up_part + down_part + cross + cross.T)


def delong_test(result: DeLong, a: int, b: int, level: float = 0.95) -> tuple[float, float, float, float]:
    """Return AUROC a - AUROC b, its limits, and the two-sided p-value.

    Where the difference has no variance p is 1 if it is 0, and else 0.
    """
    difference = float(result.auc[a] - result.auc[b])
    c = result.covariance
    se = float(np.sqrt(max(c[a, a] + c[b, b] - 2 * c[a, b], 0.0)))
    half = float(ndtri((1 + level) / 2)) * se
    p = float(2 * ndtr(-abs(difference) / se)) if se > 0 else (1.0 if difference == 0 else 0.0)
    return difference, difference - half, difference + half, p
