"""What goes wrong in an automated mask, as pure functions on the expert mask's signed distance.

A mask is where the signed distance (mm, negative inside) is at most 0: to erode is to add, to dilate is to subtract,
and a boundary that wanders adds a smooth wave. All work in millimetres on the crop round the lesion.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from scipy import ndimage


@dataclass(frozen=True)
class LabelError:
    """How automated masks err: millimetres, and the probabilities of what happens to a whole lesion or case.

    ``shift_mm`` is the RMS of a boundary that wanders smoothly in and out; ``missed`` leaves an empty mask,
    ``missed_satellites`` drops a satellite, ``false_positive`` adds a small far blob, ``untouched`` makes the mask
    equal to the expert's (as when an expert accepts an automated preview). Errors add up: :meth:`__add__`.
    """

    erode_mm: float = 0.0
    dilate_mm: float = 0.0
    shift_mm: float = 0.0
    missed: float = 0.0
    missed_satellites: float = 0.0
    false_positive: float = 0.0
    untouched: float = 0.0

    def __add__(self, other: LabelError) -> LabelError:
        return LabelError(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})


def signed_distance(mask: np.ndarray, spacing_mm: tuple[float, ...]) -> np.ndarray:
    """Return the distance to the mask's surface in mm, float32, negative inside; +inf everywhere if it is empty.

    The surface is put half the smallest step from the voxel centres on either side of it.
    """
    if not mask.any():
        return np.full(mask.shape, np.inf, dtype=np.float32)
    half = min(spacing_mm) / 2
    outside = ndimage.distance_transform_edt(~mask, sampling=spacing_mm)
    # A mask that fills the crop has no outside to measure to: a margin of one voxel is that outside.
    inside = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=spacing_mm)
    inside = inside[tuple(slice(1, -1) for _ in mask.shape)]
    return np.where(mask, half - inside, outside - half).astype(np.float32)


def erode(distance: np.ndarray, mm: float) -> np.ndarray:
    """Return the signed distance whose mask has lost a rim of ``mm``."""
    return distance + np.float32(mm)


def dilate(distance: np.ndarray, mm: float) -> np.ndarray:
    """Return the signed distance whose mask has gained a rim of ``mm``."""
    return distance - np.float32(mm)


def shift(distance: np.ndarray, offset_mm: np.ndarray) -> np.ndarray:
    """Return the signed distance whose surface moved outwards by ``offset_mm`` (same shape; negative: inwards)."""
    return distance - offset_mm.astype(np.float32)


def waves(
    shape: tuple[int, ...],
    spacing_mm: tuple[float, ...],
    wavelength_mm: float,
    rng: np.random.Generator,
    count: int = 10,
) -> np.ndarray:
    """Return a smooth random field of RMS 1, float32 of ``shape``: plane waves in random directions.

    A plane wave is a product of one factor an axis, so the field costs a few multiplications a voxel.
    """
    field = np.zeros(shape, dtype=np.float32)
    for _ in range(count):
        direction = rng.standard_normal(len(shape))
        direction /= np.linalg.norm(direction)
        wavenumber = 2 * np.pi / (wavelength_mm * rng.uniform(0.7, 1.4))
        wave = np.asarray(np.exp(2j * np.pi * rng.random()), dtype=np.complex64)
        for n, step, along in zip(shape, spacing_mm, direction, strict=True):
            wave = wave[..., None] * np.exp(1j * wavenumber * along * step * np.arange(n)).astype(np.complex64)
        field += wave.real
    return field * np.float32(np.sqrt(2 / count))


def automatic_mask(
    lesion: np.ndarray,
    satellites: list[np.ndarray],
    spacing_mm: tuple[float, ...],
    error: LabelError,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the automated mask of a crop: the expert's ``lesion`` and ``satellites`` as ``error`` distorts them.

    The random numbers drawn do not depend on ``error``, so that two plants with one seed differ in nothing else.
    """
    fate, kept = rng.random(2), rng.random(len(satellites))
    radius_mm = (3 * lesion.sum() * np.prod(spacing_mm) / (4 * np.pi)) ** (1 / 3)
    strength = np.exp(0.6 * rng.standard_normal() - 0.18)  # some cases are outlined better than others
    offset = waves(lesion.shape, spacing_mm, max(1.2 * radius_mm, 6.0), rng)
    if fate[0] < error.missed:
        return np.zeros_like(lesion)
    if fate[1] < error.untouched:
        return np.logical_or.reduce([lesion, *satellites])
    seen = [part for part, draw in zip(satellites, kept, strict=True) if draw >= error.missed_satellites]
    distance = signed_distance(np.logical_or.reduce([lesion, *seen]), spacing_mm)
    distance = dilate(erode(distance, error.erode_mm), error.dilate_mm)
    return shift(distance, error.shift_mm * strength * offset) <= 0
