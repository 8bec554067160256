"""Volume: the pixels of one image or mask and where they lie in space."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True, eq=False)
class Volume:
    """An image or mask, and its place in the patient.

    ``array``: 3-D with axes (i, j, k) as the columns of ``affine``, or 2-D with axes (row, column); with ``colour``
    a last axis of three channels follows. ``spacing_mm``: millimetres a step along each axis of space, ``None`` where
    neither file nor table says. ``affine``: (4, 4), from array index to millimetres in RAS+ (NIfTI's convention,
    whatever the format), ``None`` where the format knows no place. ``cropped``: the file may store only the part of
    the image that has something on it (DICOM SEG, a Slicer segmentation); :func:`on_common_grid` adds the rest.
    """

    array: np.ndarray
    spacing_mm: tuple[float, ...] | None
    affine: np.ndarray | None
    path: Path
    colour: bool = False
    cropped: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Steps along each axis of space, without the colour axis."""
        return self.array.shape[:-1] if self.colour else self.array.shape


def by(numbers: tuple[float, ...] | tuple[int, ...]) -> str:
    """Return a shape or spacing as people write it, ``512 x 512 x 60``."""
    return " x ".join(f"{n:g}" if isinstance(n, float) else str(n) for n in numbers)
