"""Resampled patients for statistics that are no means: how often each was drawn, as whole numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from medaudit.errors import DataError


def patient_weights(
    clusters: Sequence[Any] | np.ndarray, n_resamples: int, seed: int, strata: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return codes (n,) of the cases' patients, 0 to P - 1, and weights (B, P) int32: how often each was drawn.

    With ``strata`` (n,), as in and out of distribution, patients are drawn within the strata they have cases in, so
    that the strata keep their numbers of patients; who has cases in several forms a block with the others who have.
    Raises DataError for no cases, a case without a patient, or strata of another length.
    """
    known = np.asarray(clusters)
    if known.ndim != 1 or not known.size or n_resamples < 1:
        raise DataError(f"clusters have shape {known.shape}, resamples are {n_resamples}; expected (n,), and 1 or more")
    missing = sum(one is None or one != one for one in known.tolist())
    if missing:
        raise DataError(f"{missing} of {known.size} cases have no patient; give each an id of its own, or leave it out")
    if strata is not None and np.shape(strata) != known.shape:
        raise DataError(f"strata have shape {np.shape(strata)}; expected {known.shape}, one a case")
    patients, codes = np.unique(known, return_inverse=True)
    block = np.zeros(len(patients), dtype=np.int64)
    if strata is not None:
        kinds, kind = np.unique(np.asarray(strata), return_inverse=True)
        member = np.zeros((len(patients), len(kinds)), dtype=np.int64)
        member[codes, kind] = 1
        block = np.unique(member, axis=0, return_inverse=True)[1].ravel()
    rng = np.random.default_rng(seed)
    weights = np.empty((n_resamples, len(patients)), dtype=np.int32)
    for b in range(int(block.max()) + 1):
        inside = np.flatnonzero(block == b)
        drawn = rng.integers(0, inside.size, (n_resamples, inside.size))
        drawn += np.arange(n_resamples)[:, None] * inside.size
        weights[:, inside] = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
    return codes, weights
