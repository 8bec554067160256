"""How far reconstructions are from their images, one number an image.

``images`` and ``reconstructions`` are (N, H, W, C), floating-point, 0 to 1: the data range of every formula here is 1,
whatever the pictures hold. All functions return (N,) float64, and raise DataError for shapes that differ or do not
fit, and for a value that is NaN or outside 0 to 1, naming its place.

No single one is fair between skin tones: dark skin has a smaller dynamic range in sRGB, and so a smaller squared error
for a reconstruction that is just as bad. Report several; ``normalised_error`` and ``delta_e`` are there for that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from medaudit.datasets.colour import delta_e_2000, lab
from medaudit.errors import DataError, UsageError


class Metric(NamedTuple):
    """A measure of reconstruction, with what a reader must know of it."""

    function: Callable[..., np.ndarray]
    unit: str
    higher_is_better: bool
    what: str


METRICS: Mapping[str, Metric]
"""The functions of this file by their names; at its end."""

WINDOW, SIGMA, K1, K2 = 11, 1.5, 0.01, 0.03
"""Of SSIM: a Gaussian window of 11 x 11 pixels, its standard deviation, and the constants (Wang et al. 2004)."""
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of MS-SSIM, from the finest scale on (Wang, Simoncelli & Bovik 2003)."""


def squared_error(images: ArrayLike, reconstructions: ArrayLike) -> np.ndarray:
    """Return the mean squared error over pixels and channels."""
    return np.square(_difference(images, reconstructions)).mean(axis=(1, 2, 3))


def mean_absolute_error(images: ArrayLike, reconstructions: ArrayLike) -> np.ndarray:
    """Return the mean absolute error over pixels and channels."""
    return np.abs(_difference(images, reconstructions)).mean(axis=(1, 2, 3))


def normalised_error(images: ArrayLike, reconstructions: ArrayLike) -> np.ndarray:
    """Return the squared error over the image's own variance about the mean of each channel (our choice).

    0 at best; 1 is what the image's mean colour everywhere would have. Unchanged if contrast or brightness of both are
    changed alike, so dark and light skin compare. NaN for an image of one colour: there is no variance to explain.
    """
    x, y = _checked(images, reconstructions)
    spread = x.var(axis=(1, 2)).mean(axis=1)
    # The variance of equal values is not 0 to the last bit.
    flat = (x.max(axis=(1, 2)) == x.min(axis=(1, 2))).all(axis=1)
    return np.divide(np.square(x - y).mean(axis=(1, 2, 3)), spread, out=np.full(len(x), np.nan), where=~flat)


def psnr(images: ArrayLike, reconstructions: ArrayLike) -> np.ndarray:
    """Return the peak signal-to-noise ratio 10 log10(1 / MSE), in dB; infinite where the two are equal."""
    with np.errstate(divide="ignore"):
        return -10 * np.log10(squared_error(images, reconstructions))


def ssim(images: ArrayLike, reconstructions: ArrayLike) -> np.ndarray:
    """Return the structural similarity (Wang et al., IEEE TIP 2004), at most 1.

    The mean over channels of the mean over all places where the window lies within the image. Raises DataError for
    images with a side below 11 pixels.
    """
    x, y = _checked(images, reconstructions)
    _scales_of(x)
    return np.array([_structure(a, b)[0].mean() for a, b in zip(x, y, strict=True)])


def ms_ssim(images: ArrayLike, reconstructions: ArrayLike, scales: int | None = None) -> np.ndarray:
    """Return the multi-scale structural similarity (Wang, Simoncelli & Bovik 2003), 0 to 1.

    Five scales need a shorter side of 176 pixels. Smaller images have as many of the finest scales as the window fits
    (:func:`scales_of`; 3 at 64 pixels, 2 at 32), their weights scaled to the sum of all five (our choice): name the
    number beside the result, it does not compare across numbers. ``scales`` asks for fewer. Between scales 2 x 2 pixels
    are averaged, an odd last row or column left out. Per channel, then averaged; a contrast-structure term below 0
    counts as 0. Raises DataError for images with a side below 11 pixels, UsageError for scales that do not fit.
    """
    x, y = _checked(images, reconstructions)
    most = _scales_of(x)
    count = most if scales is None else scales
    if not 1 <= count <= most:
        raise UsageError(f"{count} scales of images of {x.shape[1]} x {x.shape[2]} pixels; expected 1 to {most}")
    weights = np.array(SCALE_WEIGHTS[:count]) * (sum(SCALE_WEIGHTS) / sum(SCALE_WEIGHTS[:count]))
    return np.array([_multi_scale(a, b, weights) for a, b in zip(x, y, strict=True)])


def scales_of(height: int, width: int) -> int:
    """Return how many scales of MS-SSIM an image has: 5 at most, 0 if the window does not fit at all."""
    side, count = min(height, width), 0
    while side >= WINDOW and count < len(SCALE_WEIGHTS):
        side, count = side // 2, count + 1
    return count


def delta_e(images: ArrayLike, reconstructions: ArrayLike) -> np.ndarray:
    """Return the mean over pixels of the CIEDE2000 colour difference, sRGB under D65: about 1 is just noticeable.

    Raises DataError for images that are neither grey (C = 1) nor RGB (C = 3).
    """
    x, y = _checked(images, reconstructions)
    if x.shape[-1] not in (1, 3):
        raise DataError(f"images have {x.shape[-1]} channels; expected 1 (grey) or 3 (RGB), which have a colour")
    x, y = (np.broadcast_to(a, (*a.shape[:-1], 3)) for a in (x, y))
    return np.array([delta_e_2000(lab(a), lab(b)).mean() for a, b in zip(x, y, strict=True)])


def _structure(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean SSIM, and the mean contrast-structure term, of each channel of one image (H, W, C)."""
    mean_x, mean_y = _windowed(x), _windowed(y)
    squares = mean_x**2 + mean_y**2
    spread = _windowed(x * x + y * y) - squares
    product = mean_x * mean_y
    together = _windowed(x * y) - product
    contrast = (2 * together + K2**2) / (spread + K2**2)
    light = (2 * product + K1**2) / (squares + K1**2)
    return (light * contrast).mean(axis=(0, 1)), contrast.mean(axis=(0, 1))


def _multi_scale(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> float:
    terms = []
    for k in range(len(weights)):
        whole, contrast = _structure(x, y)
        terms.append(np.maximum(whole if k == len(weights) - 1 else contrast, 0))
        if k < len(weights) - 1:
            x, y = _halved(x), _halved(y)
    return float(np.prod(np.array(terms) ** weights[:, None], axis=0).mean())


def _windowed(x: np.ndarray) -> np.ndarray:
    """Return the Gaussian-weighted mean of each window that lies within ``x`` (H, W, C)."""
    half = WINDOW // 2
    window = np.exp(-(np.arange(-half, half + 1) ** 2) / (2 * SIGMA**2))
    window /= window.sum()
    rows = ndimage.correlate1d(x, window, axis=0, mode="constant")[half:-half]
    return ndimage.correlate1d(rows, window, axis=1, mode="constant")[:, half:-half]


def _halved(x: np.ndarray) -> np.ndarray:
    height, width = x.shape[0] // 2, x.shape[1] // 2
    return x[: 2 * height, : 2 * width].reshape(height, 2, width, 2, -1).mean(axis=(1, 3))


def _scales_of(x: np.ndarray) -> int:
    count = scales_of(*x.shape[1:3])
    if not count:
        raise DataError(f"images of {x.shape[1]} x {x.shape[2]} pixels; SSIM's window needs {WINDOW} x {WINDOW}")
    return count


def _difference(images: ArrayLike, reconstructions: ArrayLike) -> np.ndarray:
    x, y = _checked(images, reconstructions)
    return x - y


def _checked(images: ArrayLike, reconstructions: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    both = []
    for name, array in (("image", np.asarray(images)), ("reconstruction", np.asarray(reconstructions))):
        if array.ndim != 4 or array.dtype.kind != "f" or not array.size:
            found = f"{name}s of {array.dtype} {array.shape}"
            raise DataError(f"{found}; expected floating-point (N, H, W, C), from 0 to 1, none of them 0")
        values = array.astype(np.float64)
        if not (values.min() >= 0 and values.max() <= 1):  # false for NaN too
            place = np.argwhere(~((values >= 0) & (values <= 1)))[0]
            where = f"{name} {place[0]}, row {place[1]}, column {place[2]}, channel {place[3]}"
            mend = "clip what a linear decoder made: numpy.clip(x, 0, 1)"
            raise DataError(f"{where} is {values[tuple(place)]:g}; expected 0 to 1 ({mend})")
        both.append(values)
    if both[0].shape != both[1].shape:
        raise DataError(f"images are {both[0].shape}, reconstructions {both[1].shape}; expected the same shape")
    return both[0], both[1]


METRICS = {
    "squared_error": Metric(
        squared_error, "squared intensity", False, "Mean squared error of sRGB values from 0 to 1; favours dark images."
    ),
    "normalised_error": Metric(
        normalised_error, "ratio", False, "Squared error over the image's own variance: 1 is no better than its mean."
    ),
    "mean_absolute_error": Metric(
        mean_absolute_error, "intensity", False, "Mean absolute error of sRGB values from 0 to 1; favours dark images."
    ),
    "psnr": Metric(psnr, "dB", True, "Peak signal-to-noise ratio for a peak of 1: the squared error on a log scale."),
    "ssim": Metric(ssim, "index", True, "Structural similarity in windows of 11 pixels: contrast and structure kept."),
    "ms_ssim": Metric(ms_ssim, "index", True, "Structural similarity at up to five scales, as many as the images fit."),
    "delta_e": Metric(delta_e, "CIEDE2000", False, "Mean colour difference as it is seen: about 1 is just noticeable."),
}
