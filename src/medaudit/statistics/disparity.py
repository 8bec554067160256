"""How unequal groups are: gap, ratio, pairwise differences, equity-scaled means, skewness.

Every function takes group means (..., G), whether of a score or of a 0/1 outcome (then they are success
rates), and treats leading axes as measures or resamples. A group that is NaN is not compared. On success rates
:func:`gap` is the demographic parity difference (DPD) and :func:`ratio` the disparate impact ratio (DIR); a
DIR of raw means is not meaningful (it depends on the score's origin) and the audits never form one.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from medaudit.statistics.comparison import Comparison, as_columns


def group_means(values: ArrayLike, comparison: Comparison) -> tuple[np.ndarray, np.ndarray]:
    """Return the groups' means and their numbers of cases, both (m, G), for ``values`` (n,) or (n, m)."""
    matrix = as_columns(values, comparison)[comparison.known]
    member = np.eye(comparison.n_groups)[comparison.groups[comparison.known]]
    finite = np.isfinite(matrix)
    sizes = finite.T.astype(np.float64) @ member
    sums = np.where(finite, matrix, 0.0).T @ member
    return _divide(sums, sizes), sizes.astype(np.int64)


def group_sds(values: ArrayLike, comparison: Comparison) -> np.ndarray:
    """Return the groups' standard deviations over cases (n - 1 in the denominator), (m, G)."""
    matrix = as_columns(values, comparison)
    means, sizes = group_means(matrix, comparison)
    centred = matrix - np.where(comparison.known[:, None], means.T[comparison.groups], np.nan)
    squares, _ = group_means(centred**2, comparison)
    return np.sqrt(squares * _divide(sizes.astype(np.float64), np.maximum(sizes - 1, 0).astype(np.float64)))


def pairs(n_groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the codes (i, j), i < j, of all pairs of groups, two arrays (P,)."""
    return np.triu_indices(n_groups, 1)


def gap(means: np.ndarray) -> np.ndarray:
    """Return the largest minus the smallest group mean, (...,); on success rates this is the DPD."""
    return _largest(means) - _smallest(means)


def ratio(rates: np.ndarray) -> np.ndarray:
    """Return the smallest over the largest success rate (DIR), (...,); NaN if nobody succeeded."""
    return _divide(_smallest(rates), _largest(rates))


def pairwise_differences(means: np.ndarray) -> np.ndarray:
    """Return mean_i - mean_j for all :func:`pairs`, (..., P)."""
    i, j = pairs(means.shape[-1])
    return means[..., i] - means[..., j]


def pairwise_ratios(rates: np.ndarray) -> np.ndarray:
    """Return min/max of the two success rates for all :func:`pairs`, (..., P); NaN if neither group succeeded."""
    i, j = pairs(rates.shape[-1])
    return _divide(np.minimum(rates[..., i], rates[..., j]), np.maximum(rates[..., i], rates[..., j]))


def best_and_worst(means: np.ndarray, *, higher_is_better: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Return the codes of the best and of the worst group, two arrays (...,), -1 if no group has a mean."""
    high, low = _nan_argument(np.argmax, means, -np.inf), _nan_argument(np.argmin, means, np.inf)
    return (high, low) if higher_is_better else (low, high)


def equity_scaled(
    means: np.ndarray, sizes: np.ndarray, form: Literal["fairseg", "fairmedfm"] = "fairseg"
) -> np.ndarray:
    """Return the equity-scaled mean (ES-Dice), (...,): the overall mean, divided down by the groups' disparity.

    ``fairseg``: mean / (1 + sum over groups of abs(mean - mean_g)), Harvard-FairSeg (arXiv 2311.02189).
    ``fairmedfm``: mean / (1 + SD of the group means, ddof 0), FairMedFM (arXiv 2407.00983).
    The two differ in size, so the form is always named. ``sizes`` (..., G) weigh the groups in the overall mean.
    """
    counted = np.where(np.isnan(means), 0.0, sizes)
    overall = _divide(np.sum(np.nan_to_num(means) * counted, axis=-1), np.sum(counted, axis=-1))
    if form == "fairseg":
        return overall / (1.0 + np.nansum(np.abs(means - overall[..., None]), axis=-1))
    return overall / (1.0 + _over_groups(np.nanstd, means))


def skewness(means: np.ndarray) -> np.ndarray:
    """Return (1 - smallest) / (1 - largest) group mean of a score in [0, 1] (FairMedFM), (...,); 1 is equal."""
    return _divide(1.0 - _smallest(means), 1.0 - _largest(means))


def between_group_sd(means: np.ndarray, standard_errors: np.ndarray) -> np.ndarray:
    """Return the SD of the true group means, (...,), after removing what sampling noise adds to it.

    The variance of the observed means less the mean of their squared standard errors, cut at 0: the unbiased
    variance estimator that Lum et al. 2022 (arXiv 2205.05770) recommend over max-min, which grows with noise.
    """
    counted = np.sum(~np.isnan(means), axis=-1)
    observed = _over_groups(np.nanvar, means) * _divide(counted, np.maximum(counted - 1, 0))
    noise = _over_groups(np.nanmean, np.where(np.isnan(means), np.nan, standard_errors) ** 2)
    return np.sqrt(np.maximum(observed - noise, 0.0))


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(denominator > 0, numerator / denominator, np.nan)


def _largest(means: np.ndarray) -> np.ndarray:
    return np.fmax.reduce(means, axis=-1)


def _smallest(means: np.ndarray) -> np.ndarray:
    return np.fmin.reduce(means, axis=-1)


def _over_groups(reduce: Callable[..., np.ndarray], means: np.ndarray) -> np.ndarray:
    with warnings.catch_warnings():
        # An all-NaN slice is an answer here (no group has a mean), not an accident.
        warnings.simplefilter("ignore", category=RuntimeWarning)
        return reduce(means, axis=-1)


def _nan_argument(arg: Callable[..., np.ndarray], means: np.ndarray, fill: float) -> np.ndarray:
    chosen = arg(np.where(np.isnan(means), fill, means), axis=-1)
    return np.where(np.all(np.isnan(means), axis=-1), -1, chosen)
