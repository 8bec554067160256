"""What to set activations to: within what the data show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from medaudit.errors import UsageError


@dataclass(frozen=True, eq=False)
class Ranges:
    """How activations (n, m) of training images lie: what a prototype may be moved to."""

    low: np.ndarray
    """(m,): the 5th percentile."""
    high: np.ndarray
    """(m,): the 95th."""
    least: np.ndarray
    most: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray
    """(m, m)."""

    @classmethod
    def of(cls, activations: np.ndarray) -> Ranges:
        """Return the ranges of activations (n, m)."""
        values = np.asarray(activations, dtype=np.float64)
        low, high = np.quantile(values, (0.05, 0.95), axis=0)
        covariance = np.atleast_2d(np.cov(values, rowvar=False))
        return cls(low, high, values.min(0), values.max(0), values.mean(0), covariance)

    def moved(self, activations: np.ndarray, prototype: int, target: float) -> np.ndarray:
        """Return activations (n, m) with one prototype set to ``target``, the others as they are (paper, 3.3)."""
        after = np.array(activations, dtype=np.float32)
        after[:, prototype] = target
        return after

    def edited(self, activations: np.ndarray, changes: Mapping[int, tuple[bool, float]]) -> np.ndarray:
        """Return activations (n, m) changed by hand: each prototype to a value, or by it where the flag is true.

        In units of the training images' SD. Raises UsageError for a prototype that is not there.
        """
        after = np.array(activations, dtype=np.float64)
        spread = np.sqrt(np.diag(self.covariance))
        for prototype, (relative, value) in changes.items():
            if not 0 <= prototype < after.shape[1]:
                raise UsageError(f"there is no prototype {prototype}; there are {after.shape[1]}, counted from 0")
            if relative:
                after[:, prototype] += value * spread[prototype]
            else:
                after[:, prototype] = value
        return np.maximum(after, 0).astype(np.float32)
