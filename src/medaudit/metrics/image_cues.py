"""Trivial cues of a picture: numbers that know nothing of anatomy, and may tell a scanner or a dataset all the same.

They are baselines for every study of shifts: where the size of the picture, or its share of black, ranks images as well
as a model's uncertainty does, the study has measured how the pictures were cropped and exported. Nothing is resized or
normalised first: that would remove what is to be found.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike
from scipy import fft, ndimage

from medaudit.errors import DataError

CUES: Mapping[str, str] = {
    "height": "Rows of the picture, pixels.",
    "width": "Columns of the picture, pixels.",
    "aspect": "Columns over rows.",
    "mean_grey": "Mean grey level, 0 to 255.",
    "sd_grey": "Standard deviation of the grey levels.",
    "black_fraction": "Share of pixels below grey level 5: what lies outside the fan, and fluid.",
    "saturated_fraction": "Share of pixels of grey level 254 or more: too much gain, text and scales.",
    "text_pixels": "Pixels of bright strokes up to 4 wide, 100 greys above their surroundings: text, ticks, crosses.",
    "spectral_slope": "Slope of log power on log spatial frequency: 0 for white noise, the more negative the smoother.",
    "local_contrast": "Variance of the Laplacian (four neighbours): fine texture and noise.",
}
"""What each cue is, by its name."""

NAMES = tuple(CUES)
"""The names that :func:`cues` returns, in order."""

BLACK, SATURATED = 5.0, 254.0
STROKE, BRIGHT, ABOVE = 4, 150.0, 100.0
"""A stroke of text: at most that many pixels wide, at least that grey, and that far above its surroundings."""
BANDS = 16
"""Bands of equal width in log frequency, over which the spectral slope is fitted."""
HIGHEST = 0.4
"""Cycles a pixel up to which it is fitted: above, only the diagonals have any."""


def cues(image: ArrayLike) -> dict[str, float]:
    """Return the numbers named in :data:`NAMES` of one ``image`` (H, W), grey levels 0 to 255, of any number type.

    Raises DataError for an image that is not two-dimensional, smaller than 8 x 8, not finite, or not in 0 to 255.
    A constant image has cues too: one that went black is what they are there to find.
    """
    grey = np.asarray(image)
    if grey.ndim != 2 or min(grey.shape) < 8 or grey.dtype.kind not in "uif":
        raise DataError(f"an image of {grey.dtype} {grey.shape}; expected grey levels (rows, columns), 8 x 8 or larger")
    grey = grey.astype(np.float64)
    lowest, highest = grey.min(), grey.max()
    if not (lowest >= 0 and highest <= 255):
        raise DataError(f"grey levels are from {lowest:g} to {highest:g}; expected finite ones, 0 to 255")
    rows, columns = grey.shape
    laplacian = ndimage.laplace(grey)[1:-1, 1:-1]
    return {
        "height": float(rows),
        "width": float(columns),
        "aspect": columns / rows,
        "mean_grey": float(grey.mean()),
        "sd_grey": float(grey.std()),
        "black_fraction": float((grey < BLACK).mean()),
        "saturated_fraction": float((grey >= SATURATED).mean()),
        "text_pixels": float(_text(grey).sum()),
        "spectral_slope": _spectral_slope(grey),
        "local_contrast": float(laplacian.var()),
    }


def _text(grey: np.ndarray) -> np.ndarray:
    """Return where bright strokes lie: what a square wider than a stroke does not fit into (a white top hat)."""
    background = ndimage.grey_opening(grey, STROKE + 1, mode="nearest")
    return (grey >= BRIGHT) & (grey - background >= ABOVE)


def _spectral_slope(grey: np.ndarray) -> float:
    """Return the least-squares slope of ln power on ln frequency, each band of frequencies counting once.

    A Hann window keeps the picture's borders out of the spectrum. The lowest frequency is two cycles over the
    shorter side.
    """
    window = np.hanning(grey.shape[0] + 2)[1:-1, None] * np.hanning(grey.shape[1] + 2)[None, 1:-1]
    mean = (grey * window).sum() / window.sum()
    power = np.abs(fft.rfft2((grey - mean) * window)) ** 2
    frequency = np.hypot(fft.fftfreq(grey.shape[0])[:, None], fft.rfftfreq(grey.shape[1])[None])
    edges = np.geomspace(2 / min(grey.shape), HIGHEST, BANDS + 1)
    band = np.digitize(frequency, edges) - 1
    use = (band >= 0) & (band < BANDS)
    counts = np.bincount(band[use], minlength=BANDS)
    sums = np.bincount(band[use], power[use], minlength=BANDS)
    logs = np.bincount(band[use], np.log(frequency[use]), minlength=BANDS)
    some = (counts > 0) & (sums > 0)
    if some.sum() < 2:
        return 0.0
    return float(np.polyfit(logs[some] / counts[some], np.log(sums[some] / counts[some]), 1)[0])
