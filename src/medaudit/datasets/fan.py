"""The fan of a real B-mode image: which pixels the beams reach, where the beams come from, how deep a pixel lies.

A curved or phased probe shows a sector: its two straight edges meet at the apex, from which all beams come; the apex
may lie above the picture. A linear probe shows a rectangle, whose beams are parallel and point down. Everything is
found from one image: the lit region without text, a line along each of its edges, the point where they meet. It is an
estimate. A sector that is cropped on both sides leaves no edge to see, and is taken for a rectangle.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import ndimage

from medaudit.errors import DataError

LIT = 4.0
"""Grey level, after light smoothing, from which a pixel is lit."""
STEEPEST, FLATTEST = 6.0, 65.0
"""Degrees from the vertical between which a line counts as the edge of a sector."""
NARROWEST = 20.0
"""Degrees that a sector opens at least."""
_NEAR = 1.5
"""Pixels from a line within which a boundary point lies on it."""


@dataclass(frozen=True, eq=False)
class Fan:
    """The geometry of a B-mode image of H rows and W columns; lengths in pixels.

    ``mask`` (H, W) is true where the beams reach. ``apex`` is the (row, column) that all beams come from, or ``None``
    for parallel beams that point down. ``near`` and ``far`` are where the beams begin and end: the distance from the
    apex, or the row. ``left`` and ``right`` are the outermost beams: the angle in radians from straight down, positive
    to the right, or the column.
    """

    mask: np.ndarray
    apex: tuple[float, float] | None
    near: float
    far: float
    left: float
    right: float

    def __post_init__(self) -> None:
        if self.mask.ndim != 2 or not (self.near < self.far and self.left < self.right):
            raise DataError(
                f"a fan from {self.near:g} to {self.far:g} and from {self.left:g} to {self.right:g} on a mask of "
                f"{self.mask.ndim} axes; expected a mask (rows, columns) and near < far, left < right"
            )

    @cached_property
    def _polar(self) -> tuple[np.ndarray, np.ndarray]:
        return self.polar(*np.indices(self.mask.shape, dtype=float))

    def polar(self, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return where points lie along and across the beams, in the units of ``near`` and of ``left``."""
        if self.apex is None:
            return rows, columns
        down, right = rows - self.apex[0], columns - self.apex[1]
        return np.hypot(down, right), np.arctan2(right, down)

    def cartesian(self, along: np.ndarray, across: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows and columns of points given along and across the beams, the inverse of :meth:`polar`."""
        if self.apex is None:
            return along, across
        return self.apex[0] + along * np.cos(across), self.apex[1] + along * np.sin(across)

    def depth(self) -> np.ndarray:
        """Return the depth (H, W) of each pixel along its beam: 0 at the probe, 1 at the deepest, clipped outside."""
        return np.clip((self._polar[0] - self.near) / (self.far - self.near), 0.0, 1.0)

    def across(self) -> np.ndarray:
        """Return the beam (H, W) on which each pixel lies: -1 the leftmost, 1 the rightmost, beyond them outside."""
        return 2 * (self._polar[1] - self.left) / (self.right - self.left) - 1

    def angle(self) -> np.ndarray:
        """Return the angle (H, W) of each pixel's beam in radians, 0 straight down; 0 everywhere for parallel beams."""
        return np.zeros(self.mask.shape) if self.apex is None else self._polar[1]

    @property
    def grid(self) -> tuple[int, int]:
        """The samples along and across the beams of the polar grid, about one a pixel at the deepest."""
        along = int(np.ceil(self.far - self.near)) + 1
        across = (self.right - self.left) * (1.0 if self.apex is None else self.far)
        return along, int(np.ceil(across)) + 1

    def to_polar(self, image: np.ndarray, *, outside: float | None = None) -> np.ndarray:
        """Return ``image`` (H, W) on the polar grid (depths, beams), bilinear; beyond the picture it is ``outside``.

        ``None``: the picture's edge goes on.
        """
        along, across = self.grid
        where = self.cartesian(
            np.linspace(self.near, self.far, along)[:, None], np.linspace(self.left, self.right, across)[None]
        )
        rows, columns = np.broadcast_arrays(*where)
        pixels, mode = np.asarray(image, dtype=float), "nearest" if outside is None else "constant"
        return ndimage.map_coordinates(pixels, [rows, columns], order=1, mode=mode, cval=outside or 0.0)

    def from_polar(self, polar: np.ndarray) -> np.ndarray:
        """Return a frame of the polar grid on the pixels (H, W), bilinear; the outermost beam goes on outside."""
        along, across = self._polar
        rows = (along - self.near) / (self.far - self.near) * (polar.shape[0] - 1)
        columns = (across - self.left) / (self.right - self.left) * (polar.shape[1] - 1)
        return ndimage.map_coordinates(polar, [rows, columns], order=1, mode="nearest")


def find_fan(image: np.ndarray) -> Fan:
    """Return the fan of a B-mode ``image`` (H, W), grey levels 0 to 255.

    The lit region is the largest after smoothing, opening (which takes off text, ticks and grey bars), closing and
    filling; the mask is that region with the dark parts of the fan that are not quite black. Each side's edge is the
    line that most of the region's boundary lies on, with next to nothing lit beyond it. With one edge found, the fan
    is taken as symmetric about the middle of the picture; with none, or edges that do not meet above the region, the
    beams are parallel. Raises DataError for an image that is not two-dimensional, not finite, or has nothing lit.
    """
    pixels = np.asarray(image, dtype=float)
    if pixels.ndim != 2 or min(pixels.shape) < 8:
        raise DataError(f"an image of shape {pixels.shape}; expected grey levels (rows, columns), 8 x 8 or larger")
    if not np.isfinite(pixels).all():
        raise DataError("the image has values that are NaN or infinite; expected grey levels, 0 to 255")
    mask = _lit(pixels)
    if mask.sum() < 16:
        raise DataError(f"nothing in the image is lit (highest grey level {pixels.max():g}); expected a B-mode image")
    fan = _sector(mask) or _rectangle(mask)
    return _completed(fan, pixels)


def _sector(mask: np.ndarray) -> Fan | None:
    """Return the sector whose edges bound the lit region, or None where it has no such edges."""
    found = _apex(mask)
    if found is None:
        return None
    apex, edges = found
    rows, columns = np.nonzero(mask)
    along, across = np.hypot(rows - apex[0], columns - apex[1]), np.arctan2(columns - apex[1], rows - apex[0])
    # The outermost thousandths are the boundary's roughness. An edge that was seen is better than they are.
    low, high = np.quantile(across, [0.001, 0.999])
    left, right = (float(low) if edges[0] is None else edges[0]), (float(high) if edges[1] is None else edges[1])
    if np.rad2deg(right - left) < NARROWEST:
        return None
    within = (across >= left) & (across <= right)
    near, far = np.quantile(along[within], [0.0005, 0.9995])
    return Fan(mask, apex, float(near), float(far), left, right)


def _rectangle(mask: np.ndarray) -> Fan:
    rows, columns = np.nonzero(mask)
    return Fan(mask, None, *(float(end) for end in (rows.min(), rows.max(), columns.min(), columns.max())))


def _completed(fan: Fan, pixels: np.ndarray) -> Fan:
    """Return the fan with what is dark in it, and without what lies outside its beams.

    Fluid and shadow at the fan's rim are too dark to be lit, but seldom quite black; what is quite black over a
    patch (beyond the fan, or blacked out for privacy) is void. The fan goes as deep as a quarter of its beams is
    not void.
    """
    reach = 2 * max(2, round(min(pixels.shape) / 60)) + 1
    # Padded, so that the narrow strip between an arc and the picture's edge is a patch too.
    black = np.pad(pixels < 1, reach, constant_values=True)
    patches = ndimage.maximum_filter(ndimage.minimum_filter(black, reach), reach)
    void = (patches & black)[reach:-reach, reach:-reach]
    along, across = fan.polar(*np.indices(pixels.shape, dtype=float))
    unit = 1.0 if fan.apex is None else 1.0 / fan.far  # a pixel, across the beams, at the deepest
    beams = (across >= fan.left - unit) & (across <= fan.right + unit)
    step = np.rint(along[beams]).astype(int)
    share = np.bincount(step, ~void[beams]) / np.maximum(np.bincount(step), 1)
    reached = share >= 0.25
    first, last = int(np.ceil(fan.near)), min(int(fan.far), reached.size - 1)
    # Closing may have filled the hollow above a curved probe's arc, and the strip below the deepest one.
    lit = first + np.flatnonzero(reached[first : last + 1])
    near, far = (fan.near, fan.far) if not lit.size else (max(fan.near, float(lit[0])), min(fan.far, float(lit[-1])))
    if reached[last]:
        far = max(far, float(last + np.argmin(np.append(reached[last:], False)) - 1))
    inside = beams & (along >= near - 1) & (along <= far + 1)
    # What is quite black amid the fan is fluid; at its rim it cannot be told from the outside.
    return replace(fan, mask=np.asarray(ndimage.binary_fill_holes(inside & ~void)), near=near, far=far)


def _lit(pixels: np.ndarray) -> np.ndarray:
    """Return the largest lit region: without thin strokes, its gaps closed and its holes filled."""
    size = min(pixels.shape)
    # Smoothing alone would widen the region by a pixel.
    lit = (ndimage.gaussian_filter(pixels, 0.7) >= LIT) & (pixels >= 1)
    # A box filter's minimum and maximum are as good as a ball's here and much faster.
    reach = 2 * max(1, round(size / 120)) + 1
    opened = ndimage.minimum_filter(lit, reach, mode="nearest")
    opened = ndimage.maximum_filter(opened, reach, mode="nearest") & lit
    labels, n = ndimage.label(opened)
    if n == 0:
        return np.zeros(pixels.shape, dtype=bool)
    largest = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    wide = 2 * max(1, round(size / 40)) + 1
    closed = ndimage.maximum_filter(largest, wide, mode="constant")
    # Beyond the picture counts as lit, or closing would shrink a region that touches the picture's edge.
    closed = ndimage.minimum_filter(closed, wide, mode="constant", cval=1)
    return np.asarray(ndimage.binary_fill_holes(closed))


def _apex(mask: np.ndarray) -> tuple[tuple[float, float], tuple[float | None, float | None]] | None:
    """Return where the two edges of the lit region meet and the angle of each that was seen; None without edges."""
    width = mask.shape[1]
    left, right = _edge(mask), _edge(mask[:, ::-1])
    if right is not None:
        right = (width - 1 - right[0], -right[1])
    middle = (width - 1) / 2
    if left is not None and right is not None:
        row = (right[0] - left[0]) / (left[1] - right[1])
        column = left[0] + left[1] * row
    elif (seen := left or right) is not None:
        row, column = (middle - seen[0]) / seen[1], middle
    else:
        return None
    # Edges that meet inside the region are not those of a sector.
    if row > int(np.argmax(mask.any(axis=1))) + 0.05 * mask.shape[0]:
        return None
    angles = (
        None if left is None else float(np.arctan(left[1])),
        None if right is None else float(np.arctan(right[1])),
    )
    return (float(row), float(column)), angles


def _edge(mask: np.ndarray) -> tuple[float, float] | None:
    """Return the left edge as (column at row 0, columns a row), or None where no line goes down and outward.

    Of the lines through pairs of the boundary's points it is the one with the most points on it, less three for each
    point lit beyond it: shadows and boxes hide parts of an edge, but nothing is lit outside the fan.
    """
    rows = np.nonzero(mask.any(axis=1))[0]
    columns = np.argmax(mask[rows], axis=1)
    seen = columns > 1  # at the picture's own edge the fan is cropped
    # Below its lower corner the fan ends in an arc.
    corner = rows[np.argmin(columns)] if seen.all() else rows[~seen].min() if (~seen).any() else rows[-1]
    use = seen & (rows <= corner)
    if use.sum() < max(8, 0.12 * rows.size):
        return None
    y, x = rows[use].astype(float), columns[use].astype(float)
    some = np.unique(np.linspace(0, y.size - 1, min(y.size, 70)).astype(int))
    i, j = np.triu_indices(some.size, k=max(2, some.size // 8))
    i, j = some[i], some[j]
    slope = (x[j] - x[i]) / (y[j] - y[i])
    steep = np.rad2deg(np.arctan(-slope))
    right_way = (steep >= STEEPEST) & (steep <= FLATTEST)
    if not right_way.any():
        return None
    slope, at = slope[right_way], (x[i] - slope * y[i])[right_way]
    off = (x[None] - (at[:, None] + slope[:, None] * y[None])) / np.hypot(1.0, slope)[:, None]
    on = (np.abs(off) <= _NEAR).sum(axis=1)
    score = on - 3.0 * (off < -2 * _NEAR).sum(axis=1)
    best = int(np.argmax(score))
    if score[best] < max(8, 0.12 * rows.size, 0.3 * y.size):
        return None
    close = np.abs(off[best]) <= _NEAR
    fitted, start = np.polyfit(y[close], x[close], 1)
    return float(start), float(fitted)
