"""Spearman's rank correlation, and its bootstrap over patients without sorting anew for each resample."""

from __future__ import annotations

import numpy as np

from medaudit.errors import DataError


def spearman_draws(first: np.ndarray, second: np.ndarray, clusters: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return Spearman's correlation of each row of ``first`` (R, n) with that of ``second``, by resample, (B, R).

    ``clusters`` (n,) are codes of patients, ``weights`` (B, P) how often each was drawn
    (:func:`medaudit.statistics.patient_weights`). Ranks are those within the resample: a case that was drawn w times is
    w cases, tied. Raises DataError for other shapes or a value that is NaN.
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if first.ndim != 2 or first.shape != second.shape or first.shape[1] != len(clusters):
        raise DataError(f"shapes are {first.shape} and {second.shape}, {len(clusters)} clusters; expected (R, n) twice")
    if np.isnan(first).any() or np.isnan(second).any():
        raise DataError("a value is NaN; expected numbers, to be ranked")
    cases = np.asarray(weights, dtype=np.float64)[:, clusters]
    total = cases.sum(axis=1)
    drawn = np.empty((len(cases), len(first)))
    for r in range(len(first)):
        a, b = _ranks(first[r], cases), _ranks(second[r], cases)
        middle = (total + 1)[:, None] / 2
        a, b = a - middle, b - middle
        cross = (cases * a * b).sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn[:, r] = cross / np.sqrt((cases * a * a).sum(axis=1) * (cases * b * b).sum(axis=1))
    return drawn


def _ranks(values: np.ndarray, cases: np.ndarray) -> np.ndarray:
    """Return the mid-ranks (B, n) of ``values`` (n,) where case i occurs ``cases`` (B, n) times."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    held = np.add.reduceat(cases[:, order], starts, axis=1)
    middle = np.cumsum(held, axis=1) - held / 2 + 0.5
    place = np.empty(len(values), dtype=np.int64)
    place[order] = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(values))))
    return middle[:, place]
