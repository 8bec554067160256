"""A continuous attribute without bins: linear trend, restricted cubic spline, and whether the line bends.

Bins lose what happens inside them and their edges are a choice. The line and the spline use every patient's own age.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import fdtrc, stdtrit

from medaudit.statistics.estimate import Estimate
from medaudit.statistics.regression import least_squares, slope

_KNOT_QUANTILES = {
    3: (0.10, 0.50, 0.90),
    4: (0.05, 0.35, 0.65, 0.95),
    5: (0.05, 0.275, 0.50, 0.725, 0.95),
}
"""Harrell's default knot positions (Regression Modeling Strategies, table 2.3)."""


@dataclass(frozen=True)
class Trend:
    """How a score changes with a continuous attribute.

    ``slope`` is per unit of x; ``grid``, ``curve``, ``low``, ``high`` (K,) the spline and its pointwise band;
    ``p_overall`` tests any association, ``p_nonlinear`` any departure from the line. NaN with a ``reason`` if x has
    too few distinct values for a spline.
    """

    slope: Estimate
    grid: np.ndarray
    curve: np.ndarray
    low: np.ndarray
    high: np.ndarray
    knots: np.ndarray
    p_overall: float
    p_nonlinear: float
    reason: str = ""

    def per(self, units: float) -> Estimate:
        """Return the slope for ``units`` of x at once: ``per(10)`` is the change in a decade."""
        line = self.slope
        low, high = sorted((line.low * units, line.high * units)) if math.isfinite(line.low) else (math.nan,) * 2
        return Estimate(f"slope per {units:g}", line.value * units, low, high, line.p, n=line.n, method=line.method)


def spline_trend(
    values: ArrayLike,
    x: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    n_knots: int = 4,
    grid: ArrayLike | None = None,
    level: float = 0.95,
) -> Trend:
    """Return the :class:`Trend` of ``values`` (n,) on ``x`` (n,), NaN left out; ``n_knots`` 3, 4 or 5.

    HC3 errors, or cluster-robust ones with ``clusters`` (n,). The grid spans the 1st to 99th percentile by
    default, since a spline beyond the data is a guess.
    """
    y, z = np.asarray(values, dtype=np.float64), np.asarray(x, dtype=np.float64)
    keep = np.isfinite(y) & np.isfinite(z)
    who = None if clusters is None else np.asarray(clusters)[keep]
    y, z = y[keep], z[keep]
    line = slope(y, z, clusters=who, level=level)
    where = np.asarray(grid, dtype=np.float64) if grid is not None else _default_grid(z)
    knots = np.unique(np.quantile(z, _KNOT_QUANTILES[n_knots])) if z.size else np.zeros(0)
    if knots.size < 3 or z.size < 2 * n_knots + 2:
        nothing = np.full(where.shape, np.nan)
        return Trend(line, where, nothing, nothing, nothing, knots, line.p, math.nan, "too few distinct values")
    fit = least_squares(y, spline_basis(z, knots), who)
    basis = spline_basis(where, knots)
    curve = basis @ fit.coefficients
    error = np.sqrt(np.maximum(((basis @ fit.covariance) * basis).sum(axis=1), 0.0))
    half = float(stdtrit(fit.df_robust, (1 + level) / 2)) * error
    overall, df = fit.wald(slice(1, None))
    bend, df_bend = fit.wald(slice(2, None))
    return Trend(
        line,
        where,
        curve,
        curve - half,
        curve + half,
        knots,
        float(fdtrc(df, fit.df_robust, overall)),
        float(fdtrc(df_bend, fit.df_robust, bend)),
    )


def spline_basis(x: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """Return the restricted cubic spline basis of ``x`` (n,): 1, x, and k - 2 cubic terms, (n, k).

    Linear outside the outer knots. Harrell's truncated-power form with x scaled to the outer knots, which only
    improves the conditioning.
    """
    first, last, before = knots[0], knots[-1], knots[-2]
    unit = last - first

    def cube(knot: float) -> np.ndarray:
        return np.maximum((x - knot) / unit, 0.0) ** 3

    terms = [
        cube(t) - cube(before) * (last - t) / (last - before) + cube(last) * (before - t) / (last - before)
        for t in knots[:-2]
    ]
    return np.column_stack([np.ones_like(x), (x - first) / unit, *terms])


def _default_grid(x: np.ndarray) -> np.ndarray:
    return np.linspace(np.quantile(x, 0.01), np.quantile(x, 0.99), 60) if x.size else np.zeros(0)
