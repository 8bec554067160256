"""The shape of one mask: surface, sphericity, elongation, flatness, by both conventions in use.

PyRadiomics (van Griethuysen et al. 2017) and the IBSI give ratios in [0, 1]; ITK's label shape filter gives the
inverse ratios, at least 1. Papers seldom say which they print: both are returned, each under its own name.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from medaudit.metrics.area import area_by_code, count_codes, surface_by_code, volume_by_code
from medaudit.metrics.runs import Runs

SHAPE = {
    2: (
        "perimeter_mm",
        "mesh_area_mm2",
        "sphericity",
        "spherical_disproportion",
        "major_axis_mm",
        "minor_axis_mm",
        "elongation",
        "itk_elongation",
    ),
    3: (
        "surface_area_mm2",
        "mesh_volume_ml",
        "sphericity",
        "spherical_disproportion",
        "major_axis_mm",
        "minor_axis_mm",
        "least_axis_mm",
        "elongation",
        "flatness",
        "itk_elongation",
        "itk_flatness",
    ),
}
"""The names that :func:`shape_of` returns, by the number of axes."""


@njit(cache=True, nogil=True)
def _moments(n0, n1, first, start, stop):  # type: ignore[no-untyped-def]
    """Return the voxel count, the sums of i, j, k and of ii, jj, kk, ij, ik, jk over the foreground, as integers."""
    sums = np.zeros(10, dtype=np.int64)
    for i in range(n0):
        for j in range(n1):
            for r in range(first[i * n1 + j], first[i * n1 + j + 1]):
                a, b = np.int64(start[r]), np.int64(stop[r])
                n = b - a
                k = (a + b - 1) * n // 2
                kk = ((b - 1) * b * (2 * b - 1) - (a - 1) * a * (2 * a - 1)) // 6
                sums[0] += n
                sums[1] += n * i
                sums[2] += n * j
                sums[3] += k
                sums[4] += n * i * i
                sums[5] += n * j * j
                sums[6] += kk
                sums[7] += n * i * j
                sums[8] += i * k
                sums[9] += j * k
    return sums


def _principal_mm2(runs: Runs, scale: NDArray[np.float64]) -> list[float]:
    """Return the variances of the voxel centres along their principal axes, smallest first."""
    n, *sums = (int(v) for v in _moments(*runs.shape[:2], runs.first, runs.start, runs.stop))
    mean, square = sums[:3], {(0, 0): 3, (1, 1): 4, (2, 2): 5, (0, 1): 6, (0, 2): 7, (1, 2): 8}
    axes = range(3 - scale.size, 3)
    # In whole numbers, so that a small lesion far from the corner of the crop loses no digit.
    matrix = [[(n * sums[square[min(p, q), max(p, q)]] - mean[p] * mean[q]) / (n * n) for q in axes] for p in axes]
    variances = np.linalg.eigvalsh(np.asarray(matrix) * np.outer(scale, scale))
    # A flat object has an eigenvalue that is 0 but for rounding.
    return [float(v) if v > 1e-12 * variances[-1] else 0.0 for v in variances]


def _ratio(a: float, b: float) -> float:
    return a / b if b > 0 else math.nan


def shape_of(mask: NDArray[np.uint8], runs: Runs, scale: NDArray[np.float64]) -> dict[str, float]:
    """Return the shape of a crop; ``scale`` is the spacing in mm along its two or three axes.

    ``surface_area_mm2`` and ``mesh_volume_ml`` (2-D: ``perimeter_mm``, ``mesh_area_mm2``) are those of the
    marching-cubes surface at the midpoints between voxel centres, as PyRadiomics defines them. From them, with the
    volume V of the mesh, ``sphericity`` (36 pi V²)^(1/3) / A in [0, 1] and its inverse,
    ``spherical_disproportion``. From the variances of the voxel centres along the principal axes, l1 >= l2 >= l3:
    ``major_axis_mm`` 4 sqrt(l1) and so on; ``elongation`` sqrt(l2 / l1) and ``flatness`` sqrt(l3 / l1) of
    PyRadiomics, in [0, 1]; ``itk_elongation`` sqrt(l1 / l2) and ``itk_flatness`` sqrt(l2 / l3) of ITK, at least 1.
    A ratio to an axis of no extent, and everything of an empty mask, is NaN.
    """
    if not runs.start.size:
        return dict.fromkeys(SHAPE[scale.size], math.nan)
    codes = count_codes(mask)
    codes[0] = 0
    surface = float(codes @ surface_by_code(tuple(scale)))
    variances = _principal_mm2(runs, scale)
    voxel = float(np.prod(scale))
    axes = [4 * math.sqrt(v) for v in variances]
    if scale.size == 2:
        inside = float(codes @ area_by_code()) * voxel
        round_surface = 2 * math.sqrt(math.pi * inside)
        minor, major = axes
        least = minor
    else:
        inside = float(codes @ volume_by_code()) * voxel
        round_surface = (36 * math.pi * inside**2) ** (1 / 3)
        least, minor, major = axes
    values = {
        "surface_area_mm2": surface,
        "perimeter_mm": surface,
        "mesh_volume_ml": inside / 1000,
        "mesh_area_mm2": inside,
        "sphericity": round_surface / surface,
        "spherical_disproportion": surface / round_surface,
        "major_axis_mm": major,
        "minor_axis_mm": minor,
        "least_axis_mm": least,
        "elongation": _ratio(minor, major),
        "flatness": _ratio(least, major),
        "itk_elongation": _ratio(major, minor),
        "itk_flatness": _ratio(minor, least),
    }
    return {name: values[name] for name in SHAPE[scale.size]}
