"""What is known of a score against masks that nobody drew: the triangle inequality of the Jaccard distance.

1 - IoU is a metric on masks (Levandowsky and Winter 1971). A prediction whose distance to the silver mask is a, where
silver is b away from gold, is therefore at least abs(a - b) and at most a + b away from gold.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from medaudit.statistics.comparison import Comparison


def jaccard_distance(dice: ArrayLike) -> np.ndarray:
    """Return 1 - IoU of masks whose Dice is ``dice``, of its shape."""
    overlap = np.asarray(dice, dtype=np.float64)
    return 1 - overlap / (2 - overlap)


def jaccard_bounds(a: ArrayLike, b: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return the least and the largest distance that two sides ``a`` and ``b`` of a triangle leave for the third."""
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    return np.abs(first - second), np.minimum(first + second, 1.0)


def bounded_means(a: ArrayLike, b: ArrayLike, comparison: Comparison) -> tuple[np.ndarray, np.ndarray]:
    """Return values (n,) whose group means bound the group means of the third side, from ``a`` and ``b`` (n,).

    Where ``b`` varies inside a group it is taken as each case's own. Where it is one number for the whole group it
    is that group's mean, and a case's own bound would be false: there mean(abs(a - b)) >= abs(mean a - mean b) is
    all that can be said, and every case of the group gets that number.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    low, high = jaccard_bounds(first, second)
    for g in range(comparison.n_groups):
        of = (comparison.groups == g) & np.isfinite(first) & np.isfinite(second)
        if of.sum() > 1 and np.ptp(second[of]) < 1e-12:
            low[of], high[of] = jaccard_bounds(first[of].mean(), second[of][0])
    return low, high


def bounded_gap(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the least and the largest max-min gap of group means that lie in [``low``, ``high``] (..., G)."""
    least = np.maximum(np.fmax.reduce(low, axis=-1) - np.fmin.reduce(high, axis=-1), 0.0)
    apart = np.where(np.eye(low.shape[-1], dtype=bool), np.nan, high[..., :, None] - low[..., None, :])
    return least, np.maximum(np.fmax.reduce(apart, axis=(-2, -1)), 0.0)
