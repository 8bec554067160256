"""Trivial cues: numbers of an image that need no model, to see whether they explain what a model is praised for."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.ndimage import laplace, uniform_filter

from medaudit.errors import DataError

MEANINGS: Mapping[str, str] = {
    "height": "rows of the image, pixels",
    "width": "columns of the image, pixels",
    "aspect": "columns over rows",
    "mean_grey": "mean grey level where it is not black, 0 to 255",
    "sd_grey": "standard deviation of the grey levels where it is not black",
    "black_fraction": "share of pixels of level 8 or less",
    "white_fraction": "share of pixels of level 247 or more",
    "text_pixels": "share of pixels that are bright beside near-black ones: burned-in text, calipers, ticks",
    "sharpness": "mean absolute Laplacian over the mean grey level",
    "spectral_slope": "slope of log power over log frequency: how fine the texture is",
}
"""What each cue is."""
NAMES: tuple[str, ...] = tuple(MEANINGS)
_BLACK, _WHITE, _SIDE = 8.0, 247.0, 256


def cues(image: np.ndarray) -> dict[str, float]:
    """Return every cue of an image (H, W), grey levels 0 to 255; all finite. DataError where it is no such image."""
    grey = np.asarray(image, dtype=np.float32)
    if grey.ndim != 2 or not grey.size or not np.isfinite(grey).all():
        raise DataError(f"an image of shape {grey.shape}; expected (rows, columns) of finite grey levels")
    rows, columns = grey.shape
    lit = grey > _BLACK
    inside = grey[lit] if lit.any() else grey.ravel()
    bright = grey >= 0.7 * 255
    dark_beside = uniform_filter((~lit).astype(np.float32), 7) > 0.4
    values = (
        rows,
        columns,
        columns / rows,
        inside.mean(),
        inside.std(),
        1 - lit.mean(),
        (grey >= _WHITE).mean(),
        (bright & dark_beside).mean(),
        np.abs(laplace(grey)).mean() / max(float(inside.mean()), 1.0),
        _slope(grey),
    )
    return {name: float(value) for name, value in zip(NAMES, values, strict=True)}


def _slope(grey: np.ndarray) -> float:
    """Return the slope of log power over log frequency (cycles a pixel) of the middle square, windowed; 0 if flat."""
    side = min(*grey.shape, _SIDE)
    if side < 16:
        return 0.0
    top, left = (grey.shape[0] - side) // 2, (grey.shape[1] - side) // 2
    square = grey[top : top + side, left : left + side]
    window = np.hanning(side)[:, None] * np.hanning(side)[None]
    power = np.abs(np.fft.rfft2((square - square.mean()) * window)) ** 2
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    edges = np.geomspace(2 / side, 0.5, 13)
    band = np.digitize(frequency.ravel(), edges)
    sums = np.bincount(band, weights=power.ravel(), minlength=14)[1:13]
    counts = np.bincount(band, minlength=14)[1:13]
    known = (counts > 0) & (sums > 0)
    if known.sum() < 3:
        return 0.0
    centre = np.log(np.sqrt(edges[:-1] * edges[1:]))[known]
    return float(np.polyfit(centre, np.log(sums[known] / counts[known]), 1)[0])
