"""Do two volumes lie on one grid: put those there that were saved cropped, and say what differs in the others."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from medaudit.cohort.volume import Volume, by
from medaudit.errors import DataError

MOST_VOXELS = 2**31
"""A cropped mask that lies farther away than fits in a grid of this size is not of the same image."""


def on_common_grid(first: Volume, second: Volume) -> tuple[Volume, Volume]:
    """Return both on the smallest grid that holds both, where what lies outside a cropped file is background.

    Acts only on files that are stored cropped and whose voxels coincide; else both come back as they are, and
    :func:`check_geometry` says what differs.
    """
    if not (first.cropped or second.cropped) or first.affine is None or second.affine is None:
        return first, second
    if len(first.shape) != len(second.shape):
        return first, second
    first, second = _with_steps_of(first, second), _with_steps_of(second, first)
    assert first.affine is not None
    assert second.affine is not None
    step = np.linalg.inv(first.affine) @ second.affine
    start = np.rint(step[:3, 3]).astype(int)
    if not (np.allclose(step[:3, :3], np.eye(3), atol=1e-3) and np.allclose(step[:3, 3], start, atol=0.02)):
        return first, second
    low = np.minimum(0, start)
    high = np.maximum(first.shape, start + second.shape)
    if math.prod((high - low).tolist()) > MOST_VOXELS:
        return first, second
    return _padded(first, -low, high), _padded(second, start - low, high - start)


def check_geometry(case_id: str, first: Volume, second: Volume, *, names: tuple[str, str] = ("image", "mask")) -> None:
    """Raise DataError, naming case and files, unless both volumes have the same shape and lie at the same place.

    Places may differ by 1 micrometre and 1 % of a voxel at the farthest corner, as much as writing an affine in
    another format may cost (our choice). What a file does not say (PNG has no place) is not compared.
    """
    told = f"case {case_id}: {names[1]} {second.path} does not lie on {names[0]} {first.path}"
    if first.shape != second.shape:
        raise DataError(f"{told}: shape {by(second.shape)} against {by(first.shape)}; {_shape_cure(first, second)}")
    if first.spacing_mm is not None and second.spacing_mm is not None:
        a, b = np.asarray(first.spacing_mm), np.asarray(second.spacing_mm)
        if not np.allclose(a, b, rtol=1e-3, atol=1e-4):
            raise DataError(
                f"{told}: spacing {by(second.spacing_mm)} mm against {by(first.spacing_mm)} mm; "
                "save it with the other's header, or mend spacing_mm in the table"
            )
    if first.affine is not None and second.affine is not None:
        away = _farthest(first.affine, second.affine, first.shape)
        limit = 1e-3 + 0.01 * float(np.min(np.linalg.norm(first.affine[:3, :3], axis=0)))
        if not away <= limit:
            raise DataError(f"{told}: other affine, up to {away:.4g} mm apart; {_affine_cure(first, second)}")


def _with_steps_of(volume: Volume, other: Volume) -> Volume:
    """Return a cropped volume with the other's step along axes of one voxel, along which it cannot know its own."""
    if not volume.cropped:
        return volume
    assert volume.affine is not None
    assert other.affine is not None
    affine = volume.affine.copy()
    for axis, n in enumerate(volume.shape):
        if n == 1:
            affine[:3, axis] = other.affine[:3, axis]
    spacing = tuple(float(s) for s in np.linalg.norm(affine[:3, : len(volume.shape)], axis=0))
    return replace(volume, affine=affine, spacing_mm=spacing)


def _padded(volume: Volume, before: np.ndarray, end: np.ndarray) -> Volume:
    """Return a cropped volume with ``before`` steps of background ahead of it and up to ``end``, in its own steps."""
    after = end - volume.shape
    if not volume.cropped or not (before.any() or after.any()):
        return volume
    assert volume.affine is not None
    affine = volume.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ before
    array = np.pad(volume.array, list(zip(before, after, strict=True)))
    return replace(volume, array=array, affine=affine)


def _farthest(first: np.ndarray, second: np.ndarray, shape: tuple[int, ...]) -> float:
    """Return how far apart, in mm, the two affines put a corner of the volume, at most."""
    ends = [(0, n - 1) for n in (*shape, 1)[:3]]
    corners = np.stack([c.ravel() for c in np.meshgrid(*ends, indexing="ij")] + [np.ones(8)])
    return float(np.max(np.linalg.norm(((first - second) @ corners)[:3], axis=0)))


def _shape_cure(first: Volume, second: Volume) -> str:
    if sorted(first.shape) == sorted(second.shape):
        return "the axes seem to be in another order (an array saved as z, y, x?); save it with the other's header"
    if len(first.shape) != len(second.shape):
        return "one is a picture, the other a volume"
    return "was it resampled or cropped? Resample it onto the other's grid, nearest neighbour for masks"


def _affine_cure(first: Volume, second: Volume) -> str:
    a, b = first.affine, second.affine
    assert a is not None
    assert b is not None
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    if _farthest(a, flip @ b, first.shape) < 0.1:
        return "x and y have the opposite sign: it was written as LPS and read as RAS, or the other way round"
    if np.allclose(np.abs(b), np.eye(4)) or np.allclose(np.abs(a), np.eye(4)):
        return (
            "one has no place of its own (identity): it was saved without the other's header; save it with that affine"
        )
    if np.allclose(np.linalg.norm(a[:3, :3], axis=0), np.linalg.norm(b[:3, :3], axis=0), rtol=1e-3):
        if np.allclose(a[:3, :3], b[:3, :3], rtol=1e-3, atol=1e-4):
            return "the origin was shifted; resample it onto the other's grid or save it with the other's affine"
        return "the axes point elsewhere (flipped or rotated); resample it onto the other's grid"
    return "the spacing differs; resample it onto the other's grid"
