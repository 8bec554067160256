"""Colours as numbers: sRGB, linear light, CIELAB, the CIEDE2000 difference, and the individual typology angle.

All functions work over any leading axes; the last axis holds the three channels.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from medaudit.errors import DataError, UsageError

_TO_XYZ = np.asarray(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
"""Linear sRGB to CIE XYZ, white D65 (IEC 61966-2-1)."""
WHITE = _TO_XYZ.sum(axis=1)

ITA_SCHEMES: Mapping[str, tuple[float, ...]] = {
    "chardon": (55.0, 41.0, 28.0, 19.0, 10.0),
    "del_bino": (55.0, 41.0, 28.0, 10.0, -30.0),
    "groh_notebook": (45.0, 28.0, 17.0, 5.0, -20.0),
    "derm_ita": (40.0, 23.0, 12.0, 0.0, -25.0),
}
"""Falling thresholds between six classes, very light to dark; four published sets that do not agree with each other."""


def to_linear(srgb: np.ndarray) -> np.ndarray:
    """Return linear light of sRGB values from 0 to 1 (..., 3)."""
    values = np.asarray(srgb, dtype=np.float64)
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def to_srgb(linear: np.ndarray) -> np.ndarray:
    """Return sRGB of linear light from 0 to 1 (..., 3)."""
    values = np.clip(np.asarray(linear, dtype=np.float64), 0.0, 1.0)
    return np.where(values <= 0.0031308, 12.92 * values, 1.055 * values ** (1 / 2.4) - 0.055)


def lab(srgb: np.ndarray) -> np.ndarray:
    """Return CIELAB (L*, a*, b*), white D65, of sRGB values from 0 to 1 (..., 3)."""
    relative = to_linear(srgb) @ _TO_XYZ.T / WHITE
    cut = (6 / 29) ** 3
    f = np.where(relative > cut, np.cbrt(relative), relative / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)


def delta_e_2000(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the CIEDE2000 difference (...) of two arrays of CIELAB (..., 3), all weights 1 (Sharma et al. 2005)."""
    l1, a1, b1 = np.moveaxis(np.asarray(first, dtype=np.float64), -1, 0)
    l2, a2, b2 = np.moveaxis(np.asarray(second, dtype=np.float64), -1, 0)
    mean_chroma = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2
    g = 0.5 * (1 - np.sqrt(mean_chroma**7 / (mean_chroma**7 + 25.0**7)))
    a1, a2 = (1 + g) * a1, (1 + g) * a2
    c1, c2 = np.hypot(a1, b1), np.hypot(a2, b2)
    h1, h2 = (np.degrees(np.arctan2(b, a)) % 360 for a, b in ((a1, b1), (a2, b2)))
    grey = c1 * c2 == 0
    turn = (h2 - h1 + 180) % 360 - 180
    turn = np.where(np.abs(h2 - h1) == 180, h2 - h1, turn)
    d_l, d_c = l2 - l1, c2 - c1
    d_h = np.where(grey, 0.0, 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2)))
    light, c = (l1 + l2) / 2, (c1 + c2) / 2
    around = np.abs(h1 - h2) > 180
    h = np.where(around, (h1 + h2 + np.where(h1 + h2 < 360, 360, -360)) / 2, (h1 + h2) / 2)
    h = np.where(grey, h1 + h2, h)
    t = (
        1 - 0.17 * np.cos(np.radians(h - 30)) + 0.24 * np.cos(np.radians(2 * h))
        + 0.32 * np.cos(np.radians(3 * h + 6)) - 0.20 * np.cos(np.radians(4 * h - 63))
    )  # fmt: skip
    s_l = 1 + 0.015 * (light - 50) ** 2 / np.sqrt(20 + (light - 50) ** 2)
    s_c, s_h = 1 + 0.045 * c, 1 + 0.015 * c * t
    rotation = -2 * np.sqrt(c**7 / (c**7 + 25.0**7)) * np.sin(np.radians(60 * np.exp(-(((h - 275) / 25) ** 2))))
    l_, c_, h_ = d_l / s_l, d_c / s_c, d_h / s_h
    return np.sqrt(np.maximum(l_**2 + c_**2 + h_**2 + rotation * c_ * h_, 0.0))


def ita(srgb: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Return the individual typology angle of skin, degrees: atan2(L* - 50, b*) (Chardon et al. 1991).

    ``srgb`` (H, W, 3) from 0 to 1, ``mask`` (H, W) the skin. L* and b* are means over the pixels of which both lie
    within one SD: a hair or a glint is no skin. It is a weak stand-in for skin type, and moves with redness. Raises
    DataError where no pixel is left, and for a mask of another shape.
    """
    colours = lab(srgb).reshape(-1, 3)
    if mask is not None:
        if np.shape(mask) != np.shape(srgb)[:2]:
            raise DataError(f"the mask is {np.shape(mask)}, the picture {np.shape(srgb)}; expected one grid for both")
        colours = colours[np.asarray(mask, dtype=bool).ravel()]
    if not len(colours):
        raise DataError("no skin pixel; expected a mask with some")
    lightness, yellow = colours[:, 0], colours[:, 2]
    inside = np.ones(len(colours), dtype=bool)
    for values in (lightness, yellow):
        # One mask for both: two would average different pixels.
        inside &= np.abs(values - values.mean()) <= max(float(values.std()), 1e-9)
    if not inside.any():
        inside[:] = True
    return float(np.degrees(np.arctan2(lightness[inside].mean() - 50, yellow[inside].mean())))


def ita_class(angle: float, scheme: str = "chardon") -> int:
    """Return the class of an ITA, 1 (very light) to 6 (dark); an angle on a threshold is in the darker class.

    Raises UsageError for a scheme that is not in :data:`ITA_SCHEMES`.
    """
    if scheme not in ITA_SCHEMES:
        raise UsageError(f"no ITA scheme is called '{scheme}'; there are: {', '.join(ITA_SCHEMES)}")
    return 1 + sum(angle <= edge for edge in ITA_SCHEMES[scheme])
