"""Kendall's tau-b, over many pairs of rankings at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from medaudit.errors import DataError


def kendall_tau(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """Return tau-b (Kendall 1945) over the last axis of ``a`` and ``b`` (..., n), ties corrected; NaN if all tie.

    NaN where a value is NaN; an infinite value ranks as the largest or smallest. Raises DataError for unequal lengths.
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if not x.ndim or not y.ndim or x.shape[-1] != y.shape[-1]:
        raise DataError(f"rankings have shapes {x.shape} and {y.shape}; expected the same length on the last axis")
    i, j = np.triu_indices(x.shape[-1], 1)
    up, over = _order(x[..., i], x[..., j]), _order(y[..., i], y[..., j])
    with np.errstate(divide="ignore", invalid="ignore"):
        return (up * over).sum(axis=-1) / np.sqrt(np.abs(up).sum(axis=-1) * np.abs(over).sum(axis=-1))


def _order(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return 1, 0, -1 where a is above, at, below b; NaN where either is. A difference of two infinities is NaN."""
    sign = (a > b).astype(np.float64) - (a < b)
    sign[np.isnan(a) | np.isnan(b)] = np.nan
    return sign
