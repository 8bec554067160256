"""Adjusted p-values: Holm within a declared family, Benjamini-Hochberg for exploration. NaN is not a test."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def holm(p_values: ArrayLike) -> np.ndarray:
    """Return Holm's step-down adjusted p-values (Holm 1979): the chance of any false claim stays below alpha."""
    p, order, size = _sorted(p_values)
    stepped = np.maximum.accumulate(p[order] * (size - np.arange(size)))
    return _restored(p, order, stepped)


def benjamini_hochberg(p_values: ArrayLike) -> np.ndarray:
    """Return Benjamini-Hochberg adjusted p-values (1995): the expected share of false claims stays below alpha."""
    p, order, size = _sorted(p_values)
    stepped = np.minimum.accumulate((p[order] * size / np.arange(1, size + 1))[::-1])[::-1]
    return _restored(p, order, stepped)


def _sorted(p_values: ArrayLike) -> tuple[np.ndarray, np.ndarray, int]:
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p)[: int(np.isfinite(p).sum())]
    return p, order, order.size


def _restored(p: np.ndarray, order: np.ndarray, stepped: np.ndarray) -> np.ndarray:
    adjusted = np.full(p.shape, np.nan)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted
