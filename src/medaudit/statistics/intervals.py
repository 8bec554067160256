"""Closed-form intervals: rates (Wilson), differences (Newcombe) and ratios (Katz) of rates, and medians.

They treat cases as independent. Where patients repeat, use the clustered bootstrap; these serve as its check and
where there is no cluster. The median has its own interval because bootstrap intervals of a median can fail
badly on segmentation scores, whose distributions have atoms.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import bdtr, ndtri

from medaudit.statistics.estimate import Estimate


def wilson(successes: float, n: int, level: float = 0.95) -> Estimate:
    """Return the success rate with Wilson's score interval (Wilson 1927)."""
    if n < 1:
        return Estimate("rate", math.nan, method="Wilson")
    z, rate = _z(level), successes / n
    centre = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    return Estimate("rate", rate, max(centre - half, 0.0), min(centre + half, 1.0), n=n, method="Wilson")


def newcombe(successes_a: float, n_a: int, successes_b: float, n_b: int, level: float = 0.95) -> Estimate:
    """Return rate_a - rate_b with Newcombe's hybrid score interval (Newcombe 1998, method 10)."""
    a, b = wilson(successes_a, n_a, level), wilson(successes_b, n_b, level)
    difference = a.value - b.value
    low = difference - math.hypot(a.value - a.low, b.high - b.value)
    high = difference + math.hypot(a.high - a.value, b.value - b.low)
    return Estimate("rate difference", difference, low, high, n=n_a + n_b, method="Newcombe")


def katz(successes_a: float, n_a: int, successes_b: float, n_b: int, level: float = 0.95) -> Estimate:
    """Return rate_a / rate_b with the log interval of Katz et al. 1978.

    If a count is 0 or n, half a success and half a failure are added to both groups for the interval only.
    """
    name, n, method = "rate ratio", n_a + n_b, "Katz log"
    if min(n_a, n_b) < 1 or successes_b == 0:
        return Estimate(name, math.nan, n=n, method=method)
    value = (successes_a / n_a) / (successes_b / n_b)
    edge = successes_a in (0, n_a) or successes_b in (0, n_b)
    x_a, x_b, m_a, m_b = (
        (successes_a + 0.5, successes_b + 0.5, n_a + 1.0, n_b + 1.0) if edge else (successes_a, successes_b, n_a, n_b)
    )
    centre = math.log(x_a / m_a) - math.log(x_b / m_b)
    half = _z(level) * math.sqrt(1 / x_a - 1 / m_a + 1 / x_b - 1 / m_b)
    return Estimate(name, value, math.exp(centre - half), math.exp(centre + half), n=n, method=method)


def median(values: ArrayLike, level: float = 0.95) -> Estimate:
    """Return the median of ``values`` (NaN left out) with its order-statistic interval.

    The limits are two observed values chosen by the binomial law, so the coverage is at least ``level`` for any
    distribution, with atoms too; NaN where n is too small (below 6 for 95 %). Infinite values are ranked, not
    averaged.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    ordered = ordered[~np.isnan(ordered)]
    n = int(ordered.size)
    if n == 0:
        return Estimate("median", math.nan, method="order statistics")
    middle = ordered[(n - 1) // 2], ordered[n // 2]
    value = float(middle[0]) if middle[0] == middle[1] else float(sum(middle)) / 2
    # The largest rank r with P(Binomial(n, 1/2) < r) <= (1 - level) / 2.
    below = bdtr(np.arange(n), n, 0.5)
    rank = int(np.searchsorted(below, (1 - level) / 2, side="right"))
    if rank == 0:
        return Estimate("median", value, n=n, method="order statistics")
    return Estimate("median", value, float(ordered[rank - 1]), float(ordered[n - rank]), n=n, method="order statistics")


def _z(level: float) -> float:
    return float(ndtri((1 + level) / 2))
