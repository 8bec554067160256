"""Fill an annotation that was published as a thin closed line (HC18's ellipses)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import ndimage

from medaudit.errors import DataError

THIN = 0.2
"""A line's width is less than this part of the smaller side of its box; a filled lesion is as wide as its box."""


def fill(mask: np.ndarray, path: Path) -> np.ndarray:
    """Return the area that a closed outline encloses, itself included; a mask that is no outline comes back as it is.

    ``mask``: (rows, columns) uint8, 0 and 1. A convex line that leaves the image is closed along the image's edge.
    Raises DataError where the line is open: nobody can tell what it encloses.
    """
    if mask.ndim != 2:
        raise DataError(f"{path}: an outline can be filled in a 2-D mask only; this one has {mask.ndim} dimensions")
    if not mask.any():
        return mask
    box = ndimage.find_objects(mask)[0]
    line = mask[box].astype(bool)
    # Padded, so that a line on the box's edge has a far side too.
    thickness = 2 * int(ndimage.distance_transform_cdt(np.pad(line, 1), metric="chessboard").max()) - 1
    if thickness >= THIN * min(line.shape):
        return mask
    filled = np.zeros(mask.shape, dtype=bool)
    filled[box] = ndimage.binary_fill_holes(line)
    # A line has pinholes; what it encloses is more than they are, for any line that counts as thin.
    least = 1.2 * line.sum()
    if filled.sum() < least:
        filled = _closed_by_edge(mask)
    if filled.sum() < least:
        raise DataError(f"{path}: the outline is not closed; expected a closed line, or a filled mask")
    return filled.view(np.uint8)


def _closed_by_edge(mask: np.ndarray) -> np.ndarray:
    """Return a line that leaves the image and the part of the image on its inner side; an open line as it is."""
    line = mask.astype(bool)
    parts, n = ndimage.label(~line)
    # The centre of mass of a convex line lies on its inner side.
    row, column = (round(c) for c in ndimage.center_of_mass(line))
    inner = parts[row, column]
    return line | (parts == inner) if n > 1 and inner else line
