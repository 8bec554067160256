"""Which numbers went together in one set of images and do not in another: a screen for shortcuts without a generator.

Of latent codes: corr(training) - corr(probe), where the probe's images do not have what the training's had
together. No label is needed. It says that two codes are tied in the training images, not that a model uses the tie.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t as student

from medaudit.errors import DataError
from medaudit.statistics.multiplicity import benjamini_hochberg, holm
from medaudit.statistics.placebo import benjamini_yekutieli


@dataclass(frozen=True, eq=False)
class CorrelationChange:
    """Correlations of m columns in two sets, their ``difference`` (first less second), ``se`` and tests, all (m, m).

    ``p`` is of one pair alone, ``p_holm``, ``p_bh`` and ``p_by`` are corrected over all pairs. The diagonals of se and
    p are NaN, and so are pairs with a column that does not vary.
    """

    first: np.ndarray
    second: np.ndarray
    difference: np.ndarray
    se: np.ndarray
    p: np.ndarray
    p_holm: np.ndarray
    p_bh: np.ndarray
    p_by: np.ndarray

    def largest(self, count: int = 10) -> list[tuple[int, int]]:
        """Return the pairs (i, j), i < j, of smallest p, the largest differences first among equal ones."""
        i, j = np.triu_indices(len(self.p), 1)
        known = np.isfinite(self.p[i, j])
        i, j = i[known], j[known]
        order = np.lexsort((-np.abs(self.difference[i, j]), self.p[i, j]))[:count]
        return [(int(i[o]), int(j[o])) for o in order]


def correlation_change(
    first: ArrayLike, second: ArrayLike, *, first_patients: ArrayLike | None = None,
    second_patients: ArrayLike | None = None,
) -> CorrelationChange:  # fmt: skip
    """Return how Pearson's correlations of the columns of ``first`` (n, m) differ from those of ``second`` (n', m).

    On Fisher's scale, atanh r, by Welch's t. The standard error is not Fisher's 1 / sqrt(n - 3), which is for
    independent normal values: activations are skewed, and patients repeat. It leaves out each patient in turn
    (jackknife), which keeps the level from some 50 patients on.
    Raises DataError for shapes that do not fit, values that are not finite, or fewer than 4 patients.
    """
    x, y = _checked(first, "first"), _checked(second, "second")
    if x.shape[1] != y.shape[1]:
        raise DataError(f"the sets are {x.shape} and {y.shape}; expected the same columns in both")
    (r, r_var, n), (s, s_var, k) = _correlations(x, first_patients), _correlations(y, second_patients)
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = (r_var + s_var) ** 2 / (r_var**2 / (n - 1) + s_var**2 / (k - 1))
        t = (_bent(r) - _bent(s)) / np.sqrt(r_var + s_var)
    p = 2 * student.sf(np.abs(t), freedom)
    np.fill_diagonal(p, np.nan)
    se = np.where(np.isnan(p), np.nan, np.sqrt((1 - r**2) ** 2 * r_var + (1 - s**2) ** 2 * s_var))
    corrected = (_both_ways(p, correct) for correct in (holm, benjamini_hochberg, benjamini_yekutieli))
    return CorrelationChange(r, s, r - s, se, p, *corrected)


def _bent(r: np.ndarray) -> np.ndarray:
    return np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12))


def _both_ways(p: np.ndarray, correct: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return p corrected over the pairs i < j, at (i, j) and (j, i)."""
    at = np.triu_indices(len(p), 1)
    corrected = np.full(p.shape, np.nan)
    corrected[at] = corrected.T[at] = correct(p[at])
    return corrected


def _correlations(x: np.ndarray, patients: ArrayLike | None) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the correlations (m, m) of columns of (n, m), the variances of their atanh, and the number of patients."""
    n, m = x.shape
    who = np.arange(n) if patients is None else np.asarray(patients)
    if who.shape != (n,):
        raise DataError(f"patients have shape {who.shape}; expected one for each of {n} images")
    _, code = np.unique(who, return_inverse=True)
    order = np.argsort(code, kind="stable")
    starts = np.flatnonzero(np.diff(code[order], prepend=-1))
    count = len(starts)
    if count < 4:
        raise DataError(f"there are {count} patients; expected 4 or more, and better 50")
    spread = np.where(np.ptp(x, axis=0) > 0, x.std(axis=0), np.nan)
    z = ((x - x.mean(axis=0)) / spread)[order]
    sums = lambda values: np.add.reduceat(values, starts, axis=0)
    left = n - np.diff(starts, append=n)[:, None]  # images left without each patient
    mean = -sums(z) / left
    variance = (n - sums(z**2)) / left - mean**2
    r, var = z.T @ z / n, np.empty((m, m))
    for i in range(m):
        both = (n * r[i] - sums(z[:, [i]] * z)) / left - mean[:, [i]] * mean
        with np.errstate(divide="ignore", invalid="ignore"):
            without = _bent(both / np.sqrt(variance[:, [i]] * variance))
        var[i] = (count - 1) / count * np.square(without - without.mean(axis=0)).sum(axis=0)
    return r, var, count


def _checked(values: ArrayLike, what: str) -> np.ndarray:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] < 2:
        raise DataError(f"the {what} set has shape {x.shape}; expected (n, m), two columns or more")
    if not np.isfinite(x).all():
        raise DataError(f"the {what} set holds values that are not finite; leave such images out")
    return x
