"""Association, agreement and shares with intervals that know that one patient has several images.

Every interval is Wald's, by the delta method: each row's influence on the estimate is summed over its cluster (the
patient), and the variance is the sum of the squared sums. Where each row is a cluster of its own this is the textbook
formula: Woolf's for the odds ratio, Katz's for the ratio of shares, Fleiss, Cohen and Everitt's for kappa; with
clusters it is the sandwich of a regression that has one parameter a cell. The review computes these itself, because
this room imports no other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

_Z = 1.959963984540054  # the normal's 97.5 % point


@dataclass(frozen=True)
class Estimate:
    """A number of ``n`` rows, with the 95 % interval where there is one."""

    value: float
    low: float | None
    high: float | None
    n: int


def cells(first: ArrayLike, second: ArrayLike) -> tuple[int, int, int, int]:
    """Return how many rows have both, only the first, only the second, neither."""
    x, y = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    return int((x & y).sum()), int((x & ~y).sum()), int((~x & y).sum()), int((~x & ~y).sum())


def odds_ratio(exposed: ArrayLike, outcome: ArrayLike, clusters: np.ndarray | None = None) -> Estimate | None:
    """Return the odds ratio of ``outcome`` (n,) for ``exposed`` (n,), its interval on the log.

    ``clusters`` (n,) are codes from 0. None where a cell is empty: then the ratio is 0, infinite or undefined, and
    adding a half to each cell would report a number that depends on the half.
    """
    x, y = np.asarray(exposed, dtype=bool), np.asarray(outcome, dtype=bool)
    a, b, c, d = cells(x, y)
    if 0 in (a, b, c, d):
        return None
    influence = np.where(x, np.where(y, 1 / a, -1 / b), np.where(y, -1 / c, 1 / d))
    return _ratio(math.log(a) + math.log(d) - math.log(b) - math.log(c), influence, clusters)


def ratio_of_shares(exposed: ArrayLike, outcome: ArrayLike, clusters: np.ndarray | None = None) -> Estimate | None:
    """Return how many times as often ``outcome`` (n,) is found where ``exposed`` (n,) as elsewhere.

    The interval is on the log. None where either has no outcome at all.
    """
    x, y = np.asarray(exposed, dtype=bool), np.asarray(outcome, dtype=bool)
    a, b, c, d = cells(x, y)
    if 0 in (a, c):
        return None
    inside, outside = a + b, c + d
    influence = np.where(x, y / a - 1 / inside, 1 / outside - y / c)
    return _ratio(math.log(a / inside) - math.log(c / outside), influence, clusters)


def share(among: ArrayLike, part: ArrayLike, clusters: np.ndarray | None = None) -> Estimate | None:
    """Return the share of ``part`` (n,) in the rows of ``among`` (n,), its interval on the logit.

    Precision is ``share(predicted, real)``, sensitivity ``share(real, predicted)``. ``n`` counts the rows of
    ``among``; None where there are none, no interval where the share is 0 or 1.
    """
    x, y = np.asarray(among, dtype=bool), np.asarray(part, dtype=bool)
    a, b, _, _ = cells(x, y)
    if a + b == 0:
        return None
    if 0 in (a, b):
        return Estimate(a / (a + b), None, None, a + b)
    error = _error(np.where(x, np.where(y, 1 / a, -1 / b), 0.0), clusters)
    middle = math.log(a / b)
    low, high = (1 / (1 + math.exp(-(middle + side * _Z * error))) for side in (-1, 1))
    return Estimate(a / (a + b), low, high, a + b)


def kappa(first: ArrayLike, second: ArrayLike, clusters: np.ndarray | None = None) -> Estimate | None:
    """Return Cohen's kappa of two raters' yes and no (n,); None where both say the same of every row."""
    x, y = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    n = x.size
    if n == 0:
        return None
    one, two = float(x.mean()), float(y.mean())
    agreed = float((x == y).mean())
    chance = one * two + (1 - one) * (1 - two)
    if chance >= 1:
        return None
    # The derivative of (agreed - chance) / (1 - chance) by the share of the row's cell; that of chance is the share
    # of the column that the first rater's answer names, and of the row that the second's names.
    by_cell = np.where(x, two, 1 - two) + np.where(y, one, 1 - one)
    influence = ((x == y) * (1 - chance) - (1 - agreed) * by_cell) / (1 - chance) ** 2
    error = _error((influence - influence.mean()) / n, clusters)
    value = (agreed - chance) / (1 - chance)
    return Estimate(value, value - _Z * error, value + _Z * error, n)


def _ratio(log: float, influence: np.ndarray, clusters: np.ndarray | None) -> Estimate:
    reach = _Z * _error(influence, clusters)
    return Estimate(math.exp(log), math.exp(log - reach), math.exp(log + reach), influence.size)


def _error(influence: np.ndarray, clusters: np.ndarray | None) -> float:
    sums = influence if clusters is None else np.bincount(clusters, weights=influence)
    return math.sqrt(float(np.square(sums).sum()))
