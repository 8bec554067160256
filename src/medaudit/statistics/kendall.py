"""Kendall's tau-b, over many pairs of rankings at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def kendall_tau(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """Return tau-b (Kendall 1945) over the last axis of ``a`` and ``b`` (..., n), ties corrected; NaN if all tie."""
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    i, j = np.triu_indices(x.shape[-1], 1)
    up, over = np.sign(x[..., i] - x[..., j]), np.sign(y[..., i] - y[..., j])
    with np.errstate(divide="ignore", invalid="ignore"):
        return (up * over).sum(axis=-1) / np.sqrt(np.abs(up).sum(axis=-1) * np.abs(over).sum(axis=-1))
