"""Normalised Dice: Dice as it would be if every case's object filled the same part of its image."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medaudit.errors import DataError


def reference_fraction(reference_voxels: ArrayLike, image_voxels: ArrayLike) -> float:
    """Return r, the mean over the cohort of the part of the image that the reference fills.

    The r of :func:`ndsc` where none is given. Numbers of cohorts with different r cannot be compared: print it.
    """
    filled = np.asarray(reference_voxels, dtype=np.float64) / np.asarray(image_voxels, dtype=np.float64)
    return float(np.mean(filled))


def ndsc(
    true_positive_voxels: ArrayLike,
    reference_voxels: ArrayLike,
    prediction_voxels: ArrayLike,
    image_voxels: ArrayLike,
    *,
    r: float | None = None,
) -> NDArray[np.float64]:
    """Return the normalised Dice of each case of a cohort, from the voxel counts of :func:`segmentation`.

    Dice falls for small objects at an equal rate of false positives, so groups whose lesions differ in size differ in
    Dice. False positives are therefore scaled by kappa = (1 - r) |G| / (r (N - |G|)), as if the reference G filled the
    part ``r`` of the N voxels of the image: nDSC = 2 TP / (2 TP + kappa FP + FN) (Raina et al. 2023, arXiv 2302.05432).

    ``r``: in (0, 1); by default :func:`reference_fraction` of these cases. All inputs are ``(cases,)``.

    Without a reference the formula is 0 / 0. Our choice: 0 if anything is predicted, NaN if both masks are empty.
    Raises DataError for counts that no pair of masks can have and for an ``r`` outside of (0, 1).
    """
    tp, g, p, n = (
        np.atleast_1d(np.asarray(counts, dtype=np.float64))
        for counts in (true_positive_voxels, reference_voxels, prediction_voxels, image_voxels)
    )
    if not np.all((tp >= 0) & (tp <= np.minimum(g, p)) & (np.maximum(g, p) <= n)):
        raise DataError("nDSC: the voxel counts are not those of two masks; expected 0 <= TP <= |G|, |P| <= image")
    fraction = reference_fraction(g, n) if r is None else r
    if not 0 < fraction < 1:
        raise DataError(f"nDSC: r is {fraction:g}; expected the part of the image that a reference fills, in (0, 1)")
    fp, fn = p - tp, g - tp
    outside = np.maximum(n - g, 1)  # no voxel outside of G, no false positive: kappa does not matter
    kappa = np.where(g > 0, (1 - fraction) * g / (fraction * outside), 1.0)
    whole = 2 * tp + kappa * fp + fn
    return np.divide(2 * tp, whole, out=np.full_like(whole, np.nan), where=whole > 0)
