"""From scores to success: one threshold, a top fraction with its ties, or a sweep over all thresholds.

A single hard-coded cut can hide or make a disparity, and where many scores are equal (masks left untouched
have Dice 1.0) even ``>=`` against ``>`` can change which group looks disadvantaged. So thresholds are swept
and ties are named.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from medaudit.statistics.bootstrap import bootstrap_means, gap_interval, ratio_interval
from medaudit.statistics.comparison import Comparison
from medaudit.statistics.disparity import gap, ratio

Better = Literal["higher", "lower"]
Ties = Literal["include", "exclude", "split"]


def success(values: ArrayLike, threshold: float, *, better: Better = "higher", strict: bool = True) -> np.ndarray:
    """Return 1.0 where a score is beyond ``threshold`` on the better side, else 0.0, in the shape of ``values``.

    ``strict``: Dice > 0.8 as in arXiv 2511.00477; otherwise the threshold itself is a success. NaN stays
    NaN; an infinite distance is a failure, not missing.
    """
    scores = np.asarray(values, dtype=np.float64)
    passed = _beyond(scores, threshold, better, strict)
    return np.where(np.isnan(scores), np.nan, passed.astype(np.float64))


def top_fraction(
    values: ArrayLike, fraction: float = 0.25, *, better: Better = "higher", ties: Ties = "include"
) -> np.ndarray:
    """Return success = being among the best ``fraction`` of scores (n,), NaN where the score is NaN.

    The boundary score is the one at which the better scores first reach the fraction (for a quarter: Dice >= 75th
    percentile, HD95 <= 25th, arXiv 2510.27421). ``ties`` says what happens to all cases on it: ``include``
    them (the paper's rule; more than the fraction may succeed), ``exclude`` them if that overshoots, or
    ``split``: each gets the same share of a success, so that exactly the fraction succeeds (our choice for atoms).
    """
    scores = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(scores)
    ranked = np.sort(-scores[known] if better == "higher" else scores[known])
    if ranked.size == 0:
        return np.full(scores.shape, np.nan)
    wanted = fraction * ranked.size
    # The small step keeps 0.1 * 30 from asking for a fourth success.
    boundary = ranked[min(max(int(np.ceil(wanted - 1e-9)), 1), ranked.size) - 1]
    boundary = -boundary if better == "higher" else boundary
    beyond = _beyond(scores, float(boundary), better, strict=True)
    tied = scores == boundary
    share = (wanted - beyond.sum()) / tied.sum()
    given = {"include": 1.0, "exclude": float(share >= 1.0 - 1e-9), "split": float(share)}[ties]
    return np.where(known, beyond + given * tied, np.nan)


@dataclass(frozen=True)
class Sweep:
    """Success rates and disparities at every threshold: ``rates`` (T, G), all else (T,), with interval limits."""

    thresholds: np.ndarray
    rates: np.ndarray
    rates_low: np.ndarray
    rates_high: np.ndarray
    dpd: np.ndarray
    dpd_low: np.ndarray
    dpd_high: np.ndarray
    dir: np.ndarray
    dir_low: np.ndarray
    dir_high: np.ndarray


def threshold_sweep(
    values: ArrayLike,
    comparison: Comparison,
    thresholds: ArrayLike,
    *,
    better: Better = "higher",
    strict: bool = True,
    level: float = 0.95,
    n_resamples: int = 2_000,
    seed: int | np.random.Generator = 0,
) -> Sweep:
    """Return success rates, DPD and DIR of ``values`` (n,) at ``thresholds`` (T,) with pointwise intervals.

    One set of resampled patients serves all thresholds.
    """
    cuts = np.asarray(thresholds, dtype=np.float64)
    outcomes = np.column_stack([success(values, cut, better=better, strict=strict) for cut in cuts])
    draws = bootstrap_means(outcomes, comparison, n_resamples=n_resamples, seed=seed, jackknife=False)
    low, high = draws.interval(lambda rates: rates, level, "percentile")
    dpd_low, dpd_high = gap_interval(draws, level)
    dir_low, dir_high = ratio_interval(draws, level)
    dpd, dir_ = gap(draws.observed), ratio(draws.observed)
    return Sweep(cuts, draws.observed, low, high, dpd, dpd_low, dpd_high, dir_, dir_low, dir_high)


def _beyond(scores: np.ndarray, threshold: float, better: Better, strict: bool) -> np.ndarray:
    if better == "higher":
        return scores > threshold if strict else scores >= threshold
    return scores < threshold if strict else scores <= threshold
