"""Standardise: what a gap would be if every group had the same mix of strata (of easy and hard cases, say).

Direct standardisation: a group's mean is the mean over strata, weighted by the strata's shares among all compared
cases. The change from the raw to the standardised contrast is what the different mixes make of the gap.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr

from medaudit.statistics.bootstrap import bootstrap_means, spread
from medaudit.statistics.comparison import Comparison
from medaudit.statistics.estimate import Estimate


@dataclass(frozen=True, eq=False)
class Standardised:
    """The contrast of the extreme groups, raw and at one mix of strata, and the change between the two.

    ``high`` and ``low`` are the codes of the groups with the largest and smallest raw mean; ``raw``, ``adjusted`` and
    ``change`` (raw - adjusted) are their contrasts, with 90 % limits in ``extra``; ``change`` has a p-value. ``means``
    (G,) are the standardised means, ``raw_means`` (G,) the raw ones, ``shares`` (L,) the weights and ``mix`` (G, L)
    each group's own shares. ``reason`` says why there is nothing to compare, where that is so.
    """

    high: int
    low: int
    raw: Estimate
    adjusted: Estimate
    change: Estimate
    means: np.ndarray
    raw_means: np.ndarray
    shares: np.ndarray
    mix: np.ndarray
    reason: str = ""


def standardised(
    raw: ArrayLike,
    adjusted: ArrayLike,
    comparison: Comparison,
    strata: ArrayLike,
    *,
    n_resamples: int = 10_000,
    seed: int | np.random.Generator = 0,
) -> Standardised:
    """Return the contrast of ``raw`` (n,), that of ``adjusted`` (n,) at one mix of ``strata`` (n,), and the change.

    ``adjusted`` may be the same scores as ``raw`` (what the mix of the cases makes) or those of another model of the
    same cases (what the mix makes together with another training). Codes of ``strata`` are 0 ... L - 1, -1 unknown;
    cases without a stratum or a score are left out of both. Intervals are percentiles of the clustered bootstrap for
    the fixed pair of groups and fixed weights; p of the change is normal, two-sided.
    """
    first, second = (np.asarray(values, dtype=np.float64) for values in (raw, adjusted))
    codes = np.asarray(strata, dtype=np.int64)
    chosen = comparison.subset(comparison.known & (codes >= 0) & np.isfinite(first) & np.isfinite(second))
    levels = int(codes.max(initial=-1)) + 1
    counts = np.zeros((chosen.n_groups, max(levels, 1)))
    np.add.at(counts, (chosen.groups[chosen.known], codes[chosen.known]), 1)
    shares = counts.sum(0) / max(counts.sum(), 1)
    there = counts.sum(1) > 0
    with np.errstate(invalid="ignore"):
        mix = counts / counts.sum(1, keepdims=True)
    used = shares > 0
    lacking = there[:, None] & used & (counts < 2)
    if there.sum() < 2 or lacking.any():
        reason = "a group has fewer than two cases of some stratum" if there.sum() >= 2 else "fewer than two groups"
        return _nothing(chosen, shares, mix, reason)
    columns = [first, *(np.where(codes == level, second, np.nan) for level in np.flatnonzero(used))]
    draws = bootstrap_means(np.column_stack(columns), chosen, n_resamples=n_resamples, seed=seed)
    weights = shares[used]

    def at_one_mix(means: np.ndarray) -> np.ndarray:
        return np.einsum("l,...lg->...g", weights, means[..., 1:, :])

    raw_means, means = draws.observed[0], at_one_mix(draws.observed)
    ranked = np.argsort(np.where(np.isfinite(raw_means), raw_means, np.inf), kind="stable")
    low, high = int(ranked[0]), int(ranked[np.isfinite(raw_means).sum() - 1])  # two groups, even where all are equal
    drawn_raw = draws.means[:, 0, high] - draws.means[:, 0, low]
    drawn_means = at_one_mix(draws.means)
    drawn_adjusted = drawn_means[:, high] - drawn_means[:, low]
    n = chosen.n_cases
    change = _contrast("change", raw_means[high] - raw_means[low] - means[high] + means[low],
                       drawn_raw - drawn_adjusted, n, test=True)  # fmt: skip
    return Standardised(
        high=high,
        low=low,
        raw=_contrast("contrast", raw_means[high] - raw_means[low], drawn_raw, n),
        adjusted=_contrast("standardised contrast", means[high] - means[low], drawn_adjusted, n),
        change=change,
        means=means,
        raw_means=raw_means,
        shares=shares,
        mix=mix,
    )


def _contrast(name: str, value: float, draws: np.ndarray, n: int, *, test: bool = False) -> Estimate:
    finite = draws[np.isfinite(draws)]
    low, low_90, high_90, high = np.quantile(finite, [0.025, 0.05, 0.95, 0.975]) if finite.size else [np.nan] * 4
    error = float(spread(draws)) if finite.size > 1 else float("nan")
    p = min(1.0, 2 * float(ndtr(-abs(value) / error))) if test and error > 0 else float("nan")
    return Estimate(
        name=name,
        value=float(value),
        low=float(low),
        high=float(high),
        p=p,
        n=n,
        method="direct standardisation; bootstrap of patients",
        extra={"low_90": float(low_90), "high_90": float(high_90)},
    )


def _nothing(comparison: Comparison, shares: np.ndarray, mix: np.ndarray, reason: str) -> Standardised:
    nan = np.full(comparison.n_groups, np.nan)
    nothing = Estimate("contrast", float("nan"), n=comparison.n_cases)
    return Standardised(0, 0, nothing, nothing, nothing, nan, nan, shares, mix, reason)
