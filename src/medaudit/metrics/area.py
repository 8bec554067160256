"""The surface of a mask as area (3-D) or length (2-D): marching cubes on the corners where voxels meet.

At every corner of the voxel lattice up to eight voxels meet; which of them are foreground is an 8-bit code.
Cutting the cube between their centres at the midpoints of its edges gives the piece of surface at that corner.
Nikolov et al. (arXiv 1809.04430) weight surface distances with these areas, so that a finer or anisotropic grid
does not change how much a part of the surface counts.

The tables are derived here from geometry. Of foreground and background the smaller side is cut off (at four
corners each the foreground), every edge-connected group of its corners by itself; up to symmetry there are only
six such groups, and each is cut off by one to four plane polygons.
"""

from __future__ import annotations

import math
from functools import cache
from itertools import permutations, product

import numpy as np
from numba import njit
from numpy.typing import NDArray

from medaudit.metrics.border import Points
from medaudit.metrics.runs import INSIDE_WORD

_Corner = tuple[int, int, int]
_Polygon = tuple[tuple[float, float, float], ...]

_CUBE: list[_Corner] = [(i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1)]

# A group of corners, the polygons that cut it off, and the part of the cell's volume that it takes.
_CUTS: tuple[tuple[tuple[_Corner, ...], tuple[_Polygon, ...], float], ...] = (
    # one corner
    (((0, 0, 0),), (((0.5, 0, 0), (0, 0.5, 0), (0, 0, 0.5)),), 1 / 48),
    # the two ends of an edge
    (((0, 0, 0), (1, 0, 0)), (((0, 0.5, 0), (1, 0.5, 0), (1, 0, 0.5), (0, 0, 0.5)),), 1 / 8),
    # three corners of a face
    (
        ((0, 0, 0), (1, 0, 0), (0, 1, 0)),
        (((0, 0, 0.5), (1, 0, 0.5), (0, 1, 0.5)), ((1, 0, 0.5), (1, 0.5, 0), (0.5, 1, 0), (0, 1, 0.5))),
        17 / 48,
    ),
    # a face
    (
        ((0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0)),
        (((0, 0, 0.5), (1, 0, 0.5), (1, 1, 0.5), (0, 1, 0.5)),),
        1 / 2,
    ),
    # a corner and its three neighbours
    (
        ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)),
        (((1, 0.5, 0), (0.5, 1, 0), (0, 1, 0.5), (0, 0.5, 1), (0.5, 0, 1), (1, 0, 0.5)),),
        1 / 2,
    ),
    # a path of three edges in three directions
    (
        ((0, 1, 0), (0, 0, 0), (1, 0, 0), (1, 0, 1)),
        (
            ((0.5, 1, 0), (0, 1, 0.5), (0, 0, 0.5)),
            ((0.5, 1, 0), (0, 0, 0.5), (0.5, 0, 1)),
            ((0.5, 0, 1), (1, 0.5, 1), (1, 0.5, 0)),
            ((0.5, 0, 1), (1, 0.5, 0), (0.5, 1, 0)),
        ),
        1 / 2,
    ),
)


def _vector_area(polygon: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.cross(polygon, np.roll(polygon, -1, axis=0)).sum(axis=0) / 2


@cache
def _cut_by_corners() -> dict[frozenset[_Corner], tuple[list[NDArray[np.float64]], float]]:
    """Return, for every connected group of up to four corners, its polygons' vector areas and its volume."""
    cuts = {}
    for corners, polygons, volume in _CUTS:
        for axes in permutations(range(3)):
            for mirrored in product((False, True), repeat=3):
                flip = np.asarray(mirrored)

                def move(points: object, axes: tuple[int, ...] = axes, flip: NDArray[np.bool_] = flip) -> NDArray:
                    moved = np.asarray(points, dtype=np.float64)[:, axes]
                    return np.where(flip, 1 - moved, moved)

                group = frozenset((int(i), int(j), int(k)) for i, j, k in move(corners))
                cuts[group] = ([_vector_area(move(polygon)) for polygon in polygons], volume)
    return cuts


def _groups(corners: set[_Corner]) -> list[frozenset[_Corner]]:
    """Return the corners in groups that hang together along edges of the cube."""
    left, groups = set(corners), []
    while left:
        group, new = set(), {left.pop()}
        while new:
            group |= new
            new = {c for c in left if any(sum(abs(a - b) for a, b in zip(c, g, strict=True)) == 1 for g in group)}
            left -= new
        groups.append(frozenset(group))
    return groups


@cache
def _cells() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return, for each 8-bit code, the vector areas of its up to four polygons, and the part of the cell inside.

    Shapes ``(256, 4, 3)`` and ``(256,)``. The bit of corner ``(i, j, k)`` is ``4 i + 2 j + k``.
    """
    areas, volumes = np.zeros((256, 4, 3)), np.zeros(256)
    for code in range(256):
        foreground = {corner for bit, corner in enumerate(_CUBE) if code >> bit & 1}
        few = len(foreground) <= 4
        cuts = [_cut_by_corners()[group] for group in _groups(foreground if few else set(_CUBE) - foreground)]
        polygons = [area for cut, _ in cuts for area in cut]
        areas[code, : len(polygons)] = np.reshape(polygons, (-1, 3))
        volume = sum(part for _, part in cuts)
        volumes[code] = volume if few else 1 - volume
    return areas, volumes


def surface_by_code(scale: tuple[float, ...]) -> NDArray[np.float64]:
    """Return the surface at a lattice corner by its code: 256 areas in mm² in 3-D, 16 lengths in mm in 2-D.

    ``scale`` is the spacing in mm along the three or two axes of the crop.
    """
    if len(scale) == 3:
        # A vector area stretches with the two spacings across it.
        stretched = _cells()[0] * [scale[1] * scale[2], scale[0] * scale[2], scale[0] * scale[1]]
        return np.sqrt((stretched**2).sum(axis=2)).sum(axis=1)
    diagonal = math.hypot(*scale) / 2
    lengths = np.zeros(16)
    for code in range(1, 15):
        match code if code.bit_count() <= 2 else 15 - code:
            case 0b0011 | 0b1100:
                lengths[code] = scale[1]
            case 0b0101 | 0b1010:
                lengths[code] = scale[0]
            case 0b0110 | 0b1001:
                lengths[code] = 2 * diagonal
            case _:
                lengths[code] = diagonal
    return lengths


def volume_by_code() -> NDArray[np.float64]:
    """Return the foreground's part of the cell at a lattice corner by its code: 256 numbers in [0, 1]."""
    return _cells()[1]


def area_by_code() -> NDArray[np.float64]:
    """Return the foreground's part of the square at a lattice corner by its code: 16 numbers in [0, 1]."""
    part = [0.0, 1 / 8, 1 / 2, 7 / 8, 1.0]
    return np.asarray([1 / 4 if code in (0b0110, 0b1001) else part[code.bit_count()] for code in range(16)])


@njit(cache=True, nogil=True, inline="always")
def _code(m, i, j, k, flat):  # type: ignore[no-untyped-def]
    code = (m[i, j, k] & 1) | (m[i, j, k + 1] & 1) << 1 | (m[i, j + 1, k] & 1) << 2 | (m[i, j + 1, k + 1] & 1) << 3
    if flat:
        return code
    i += 1
    return (
        code
        | (m[i, j, k] & 1) << 4
        | (m[i, j, k + 1] & 1) << 5
        | (m[i, j + 1, k] & 1) << 6
        | (m[i, j + 1, k + 1] & 1) << 7
    )


@njit(cache=True, nogil=True, inline="always")
def _rows(words, i, j, w, flat):  # type: ignore[no-untyped-def]
    """Tell whether any, and whether every voxel of eight columns is set in the rows that meet at ``(i, j)``."""
    some = words[i, j, w] | words[i, j + 1, w]
    every = words[i, j, w] & words[i, j + 1, w]
    if not flat:
        some |= words[i + 1, j, w] | words[i + 1, j + 1, w]
        every &= words[i + 1, j, w] & words[i + 1, j + 1, w]
    return some != 0, every & INSIDE_WORD == INSIDE_WORD


@njit(cache=True, nogil=True)
def _count_codes(m, words):  # type: ignore[no-untyped-def]
    n0, n1, n_words = words.shape
    flat = n0 == 1
    counts = np.zeros(16 if flat else 256, dtype=np.int64)
    for i in range(1 if flat else n0 - 1):
        for j in range(n1 - 1):
            some_before = every_before = False
            for w in range(n_words):
                some, every = _rows(words, i, j, w, flat)
                # A corner joins two columns: the first of this word also needs the last of the one before.
                if every and every_before:
                    counts[-1] += 8
                elif some or some_before:
                    for k in range(max(0, 8 * w - 1), 8 * w + 7):
                        counts[_code(m, i, j, k, flat)] += 1
                some_before, every_before = some, every
    return counts


@njit(cache=True, nogil=True)
def _collect(m, other, words, surface, n):  # type: ignore[no-untyped-def]
    at = np.empty((n, 3), dtype=np.int32)
    shared = np.empty(n, dtype=np.bool_)
    weight = np.empty(n, dtype=np.float64)
    n0, n1, n_words = words.shape
    flat = n0 == 1
    full = 15 if flat else 255
    p = 0
    for i in range(1 if flat else n0 - 1):
        for j in range(n1 - 1):
            some_before = every_before = False
            for w in range(n_words):
                some, every = _rows(words, i, j, w, flat)
                if (some or some_before) and not (every and every_before):
                    for k in range(max(0, 8 * w - 1), 8 * w + 7):
                        code = _code(m, i, j, k, flat)
                        if code != 0 and code != full:
                            at[p, 0], at[p, 1], at[p, 2] = i, j, k
                            shared[p] = 0 < _code(other, i, j, k, flat) < full
                            weight[p] = surface[code]
                            p += 1
                some_before, every_before = some, every
    return at, shared, weight


def count_codes(mask: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return how often each code occurs at the lattice corners of a crop: 256 counts in 3-D, 16 in 2-D.

    The counts of the empty code 0 depend on the crop; all others are the mask's.
    """
    return _count_codes(mask, mask.view(np.uint64))


def surface_points(a: NDArray[np.uint8], b: NDArray[np.uint8], scale: tuple[float, ...]) -> tuple[Points, Points]:
    """Return the lattice corners on the surface of both crops, weighted by area (mm²) or length (mm).

    The crops are as :func:`medaudit.metrics.crop.crop_pair` makes them, ``scale`` the spacing along their axes.
    """
    surface = surface_by_code(scale)
    n_a, n_b = (int(count_codes(m)[1:-1].sum()) for m in (a, b))
    return (
        Points(*_collect(a, b, a.view(np.uint64), surface, n_a)),
        Points(*_collect(b, a, b.view(np.uint64), surface, n_b)),
    )
