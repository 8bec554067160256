"""Simultaneous intervals: right for the one that was picked because it looked best, whichever that was."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Simultaneous:
    """Limits ``low``, ``high`` (K,) that hold for all K values at once, and ``p`` (K,) of each being 0, adjusted."""

    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    se: np.ndarray


def simultaneous(point: np.ndarray, draws: np.ndarray, level: float = 0.95) -> Simultaneous:
    """Return max-t limits of K values from bootstrap ``draws`` (B, K) around ``point`` (K,).

    The critical value is the ``level`` quantile, over resamples, of the largest studentised deviation of any value
    (Westfall & Young 1993): with it the chance that any of the K limits misses is 1 - ``level``, so the interval of the
    value that was chosen after looking holds too. A value whose draws do
    not vary has no width; its p is 1 if it is 0, else the smallest that so many draws can give.
    """
    centred = draws - point
    se = np.sqrt(np.nanmean(centred**2, axis=0))
    moving = se > 1e-12
    with np.errstate(divide="ignore", invalid="ignore"):
        largest = np.nanmax(np.where(moving, np.abs(centred) / se, 0.0), axis=1, initial=0.0)
        t = np.where(moving, np.abs(point) / se, np.where(np.abs(point) > 1e-12, np.inf, 0.0))
    critical = float(np.quantile(largest, level))
    p = (1 + (largest[:, None] >= t[None]).sum(axis=0)) / (1 + len(largest))
    return Simultaneous(point - critical * se, point + critical * se, p, se)
