"""Overlap of label maps in two ways that are often both called mDice: of images, and of areas summed over images.

The mean over images weighs an image with a small object as much as one with a large; the sum of areas (the released
UltraDINO code, mmsegmentation) weighs pixels. They differ, so each has its name. A patient bootstrap needs only the
areas of each image, never the maps again.
"""

from __future__ import annotations

import numpy as np

from medaudit.errors import DataError

IMAGES, SUMMED, IOU = "mean Dice of images", "Dice of summed areas", "IoU of summed areas"


def areas(found: np.ndarray, wanted: np.ndarray, classes: int) -> np.ndarray:
    """Return the pixels of each class in both maps, in ``found`` and in ``wanted`` (N, *S): (N, classes, 3) int64.

    Raises DataError for maps of unequal shapes and for labels that are no class.
    """
    if found.shape != wanted.shape or found.ndim < 2:
        raise DataError(f"maps of shapes {found.shape} and {wanted.shape}; expected (N, ...) twice the same")
    for name, maps in (("found", found), ("wanted", wanted)):
        if maps.size and (maps.min() < 0 or maps.max() >= classes):
            raise DataError(f"{name} labels run from {maps.min()} to {maps.max()}; expected 0 to {classes - 1}")
    pairs = found.reshape(len(found), -1).astype(np.int64) * classes + wanted.reshape(len(wanted), -1)
    counts = np.stack([np.bincount(row, minlength=classes**2) for row in pairs]).reshape(-1, classes, classes)
    return np.stack([np.diagonal(counts, axis1=1, axis2=2), counts.sum(axis=2), counts.sum(axis=1)], axis=2)


def dice_of_images(counted: np.ndarray) -> np.ndarray:
    """Return each image's Dice of each class, (N, C); NaN where both maps are without the class."""
    return _dice(counted.astype(np.float64))


def overlap(counted: np.ndarray) -> dict[str, np.ndarray]:
    """Return per class (C,): ``mean Dice of images``, ``Dice of summed areas``, ``IoU of summed areas``.

    ``counted`` (N, C, 3) from :func:`areas`. Class 0 is background by custom: average with or without it, and say.
    """
    drawn = overlap_draws(counted, np.zeros(len(counted), dtype=np.int64), np.ones((1, 1)))
    return {name: values[0] for name, values in drawn.items()}


def overlap_draws(counted: np.ndarray, cluster: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Return what :func:`overlap` returns in each of B resamples of patients, (B, C).

    ``cluster`` (N,) and ``weights`` (B, P) from ``statistics.patients.patient_weights``. NaN where no image of a
    resample has the class.
    """
    classes, patients = counted.shape[1], np.shape(weights)[1]
    dice = dice_of_images(counted)
    known = np.isfinite(dice)
    each = np.concatenate([counted.reshape(len(counted), -1), np.where(known, dice, 0.0), known], axis=1)
    by_patient = np.zeros((patients, each.shape[1]))
    np.add.at(by_patient, cluster, each)
    total = np.asarray(weights, dtype=np.float64) @ by_patient
    summed = total[:, : 3 * classes].reshape(-1, classes, 3)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            IMAGES: total[:, 3 * classes : 4 * classes] / total[:, 4 * classes :],
            SUMMED: _dice(summed),
            IOU: summed[..., 0] / (summed[..., 1] + summed[..., 2] - summed[..., 0]),
        }


def _dice(counted: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return 2 * counted[..., 0] / (counted[..., 1] + counted[..., 2])
