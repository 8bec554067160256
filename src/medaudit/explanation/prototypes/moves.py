"""What to set activations to: within what the data show, alone or along with what they go with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from medaudit.errors import UsageError

MODES = ("direct", "total")


@dataclass(frozen=True, eq=False)
class Ranges:
    """How activations (n, m) of training images lie: what a prototype may be moved to, and what moves with it."""

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

    def moved(
        self, activations: np.ndarray, prototype: int, target: float | np.ndarray, mode: str = "direct"
    ) -> np.ndarray:
        """Return activations (n, m) with one prototype set to ``target``.

        ``direct``: the others stay (the paper's, 3.3). ``total``: the others follow as they do in the data, by the
        regression of each on the moved one; what that would push beyond what the data show is held there. Our addition:
        where two things went together in training but not always, only the total move shows it.
        """
        before = np.asarray(activations, dtype=np.float64)
        change = target - before[:, prototype]
        if mode == "direct":
            after = before.copy()
        elif mode == "total":
            variance = max(float(self.covariance[prototype, prototype]), 1e-12)
            slopes = self.covariance[:, prototype] / variance
            after = before + change[:, None] * slopes
            after = np.clip(after, np.minimum(self.least, before), np.maximum(self.most, before))
        else:
            raise UsageError(f"no move '{mode}'; expected one of {', '.join(MODES)}")
        after[:, prototype] = target
        return after.astype(np.float32)

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
