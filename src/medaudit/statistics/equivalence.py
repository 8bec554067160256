"""When nothing was found: is it absent, or could it not be seen? Equivalence and the smallest detectable gap.

Non-significance is not fairness. A gap is called absent only if its interval lies inside a margin; otherwise the
smallest gap that this cohort could have shown with 80 % power is printed beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from medaudit.statistics.bootstrap import Draws, gap_interval, ratio_interval, spread, standard_errors
from medaudit.statistics.disparity import pairs, pairwise_differences
from medaudit.statistics.estimate import Estimate

_SIMULATED = 20_000
_WIDEST = 3
"""The pairs with the largest standard errors, among which the one that is hardest to see is."""


@dataclass(frozen=True)
class Equivalence:
    """Whether all groups agree within a margin, for m measures.

    ``p`` (m,) is the largest of all pairs' TOST p-values, ``low``/``high`` (m,) the (1 - 2 alpha) interval of
    the gap (or DIR), ``equivalent`` (m,) whether that interval lies inside the margin.
    """

    margin: float
    p: np.ndarray
    low: np.ndarray
    high: np.ndarray
    equivalent: np.ndarray


def tost(difference: float, standard_error: float, margin: float, *, alpha: float = 0.05, n: int = 0) -> Estimate:
    """Return a difference with its (1 - 2 alpha) interval and the TOST p-value of abs(difference) >= ``margin``.

    Two one-sided z tests (Schuirmann 1987); pass a cluster-robust standard error where patients repeat.
    """
    half = float(ndtri(1 - alpha)) * standard_error
    p = float(ndtr((abs(difference) - margin) / standard_error)) if standard_error > 0 else float("nan")
    return Estimate(
        "difference",
        difference,
        difference - half,
        difference + half,
        p=p,
        n=n,
        method="TOST",
        extra={"margin": margin},
    )


def gap_equivalence(draws: Draws, margin: float, *, alpha: float = 0.05) -> Equivalence:
    """Return whether no two groups' means differ by ``margin`` or more.

    All pairs must pass their own TOST at ``alpha`` (intersection-union, so no further correction): that is,
    the upper limit of the (1 - 2 alpha) gap interval is below the margin.
    """
    low, high = gap_interval(draws, 1 - 2 * alpha)
    i, j = pairs(draws.observed.shape[-1])
    error = spread(draws.means[..., i] - draws.means[..., j])
    with np.errstate(divide="ignore", invalid="ignore"):
        p = ndtr((np.abs(pairwise_differences(draws.observed)) - margin) / error)
    worst = np.fmax.reduce(p, axis=-1, initial=np.nan)
    return Equivalence(margin, np.where(np.isnan(high), np.nan, worst), low, high, high < margin)


def ratio_equivalence(draws: Draws, threshold: float = 0.8, *, alpha: float = 0.05) -> Equivalence:
    """Return whether the DIR's (1 - 2 alpha) interval lies above ``threshold``; it has no p-value (NaN)."""
    low, high = ratio_interval(draws, 1 - 2 * alpha)
    return Equivalence(threshold, np.full(low.shape, np.nan), low, high, low > threshold)


def detectable_difference(error_a: float, error_b: float, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """Return the smallest difference of two means that a two-sided z test sees with ``power``.

    (z_{1 - alpha/2} + z_power) sqrt(error_a^2 + error_b^2), from the groups' standard errors; cluster-robust
    ones carry the design effect of repeated patients.
    """
    return float((ndtri(1 - alpha / 2) + ndtri(power)) * np.hypot(error_a, error_b))


def detectable_gap(draws: Draws, *, alpha: float = 0.05, power: float = 0.8) -> np.ndarray:
    """Return the smallest gap that the max-min test sees with ``power`` whichever pair it lies between, (m,).

    The test's largest Welch t is simulated with the groups' bootstrap standard errors: two groups differ by the gap,
    all others lie level with either of them or midway, and the pair and placement that are hardest to see
    count. NaN if fewer than two groups can be resampled.
    """
    errors = standard_errors(draws)
    return np.array([_detectable(row[np.isfinite(row) & (row > 0)], alpha, power) for row in errors])


def _detectable(errors: np.ndarray, alpha: float, power: float) -> float:
    if errors.size < 2:
        return float("nan")
    # A fixed seed: the same standard errors give the same answer, to three digits.
    noise = np.random.default_rng(20_000).standard_normal((_SIMULATED, errors.size)) * errors
    i, j = pairs(errors.size)
    spread = np.hypot(errors[i], errors[j])
    null = (noise[:, i] - noise[:, j]) / spread
    critical = np.quantile(np.abs(null).max(axis=1), 1 - alpha)
    hardest = 0.0
    for k in np.argsort(spread)[-_WIDEST:]:
        a, b = i[k], j[k]
        for others in (0.5, 0.0, -0.5):
            shape = np.full(errors.size, others)
            shape[a], shape[b] = 0.5, -0.5
            step = (shape[i] - shape[j]) / spread
            low, high = 0.0, 20.0 * float(spread[k])
            for _ in range(20):
                middle = (low + high) / 2
                seen = np.mean(np.abs(null + middle * step).max(axis=1) > critical)
                low, high = (low, middle) if seen >= power else (middle, high)
            hardest = max(hardest, high)
    return hardest
