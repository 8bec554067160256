"""The colour of skin from its optics: a melanin layer over a dermis with blood, 31 bands from 400 to 700 nm.

Absorption and scattering as in Jacques' review of skin optics; the dermis reflects by Kubelka and Munk, light crosses
the epidermis twice, and a floor r₀ of light never enters (Fresnel and diffuse): without it dark skin comes out orange.
Tones differ in melanin and in nothing else, so a difference between them is optics and no drawing.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from medaudit.datasets.colour import WHITE

WAVELENGTHS = np.arange(400.0, 701.0, 10.0)
"""nm, (31,)."""

# Molar extinction of haemoglobin with and without oxygen, 1/cm per mol/l (S. Prahl's compilation, OMLC).
_HBO2 = np.asarray([
    266232, 466840, 480360, 246072, 102580, 62816, 44480, 33209, 26629, 23684, 20932, 20035, 24202, 39956, 53236,
    43016, 32613, 44496, 50104, 14400, 3200, 1506, 942, 610, 442, 368, 319, 294, 277, 276, 290,
], dtype=np.float64)  # fmt: skip
_HB = np.asarray([
    223296, 303956, 407560, 528600, 413280, 103292, 23388, 16156, 14550, 16684, 20862, 25773, 31589, 39036, 46592,
    53412, 53788, 45072, 37020, 28324, 14677, 9443, 6509, 5149, 4345, 3750, 3226, 2795, 2407, 2051, 1794,
], dtype=np.float64)  # fmt: skip
# CIE 1931 2-degree colour-matching functions and illuminant D65 (CIE 15), every 10 nm.
_X = np.asarray([
    0.01431, 0.04351, 0.13438, 0.2839, 0.34828, 0.3362, 0.2908, 0.19536, 0.09564, 0.03201, 0.0049, 0.0093, 0.06327,
    0.1655, 0.2904, 0.43345, 0.5945, 0.7621, 0.9163, 1.0263, 1.0622, 1.0026, 0.85445, 0.6424, 0.4479, 0.2835, 0.1649,
    0.0874, 0.04677, 0.0227, 0.01136,
])  # fmt: skip
_Y = np.asarray([
    0.0004, 0.0012, 0.004, 0.0116, 0.023, 0.038, 0.06, 0.09098, 0.13902, 0.20802, 0.323, 0.503, 0.71, 0.862, 0.954,
    0.99495, 0.995, 0.952, 0.87, 0.757, 0.631, 0.503, 0.381, 0.265, 0.175, 0.107, 0.061, 0.032, 0.017, 0.00821, 0.0041,
])  # fmt: skip
_Z = np.asarray([
    0.06785, 0.2074, 0.6456, 1.3856, 1.74706, 1.77211, 1.6692, 1.28764, 0.81295, 0.46518, 0.272, 0.1582, 0.07825,
    0.04216, 0.0203, 0.00875, 0.0039, 0.0021, 0.00165, 0.0011, 0.0008, 0.00034, 0.00019, 0.00005, 0.00002, 0, 0, 0, 0,
    0, 0,
])  # fmt: skip
_D65 = np.asarray([
    82.7549, 91.486, 93.4318, 86.6823, 104.865, 117.008, 117.812, 114.861, 115.923, 108.811, 109.354, 107.802, 104.79,
    107.689, 104.405, 104.046, 100.0, 96.3342, 95.788, 88.6856, 90.0062, 89.5991, 87.6987, 83.2886, 83.6992, 80.0268,
    80.2146, 82.2778, 78.2842, 69.7213, 71.6091,
])  # fmt: skip
_FROM_XYZ = np.asarray(
    [[3.2404542, -1.5371385, -0.4985314], [-0.9692660, 1.8760108, 0.0415560], [0.0556434, -0.2040259, 1.0572252]]
)

MELANIN = (0.003, 0.6)
BLOOD = (0.001, 0.4)
"""What is tabulated of the volume fractions; what lies outside is taken as the nearest end."""


def reflectance(
    melanin: np.ndarray,
    blood: np.ndarray,
    *,
    saturation: float = 0.75,
    epidermis_cm: float = 0.009,
    floor: float = 0.02,
) -> np.ndarray:
    """Return diffuse reflectance (..., 31) of skin with volume fractions ``melanin`` and ``blood``."""
    f_mel, f_blood = (np.asarray(part, dtype=np.float64)[..., None] for part in (melanin, blood))
    nm = WAVELENGTHS
    base = 0.244 + 85.3 * np.exp(-(nm - 154) / 66.2)
    extinction = saturation * _HBO2 + (1 - saturation) * _HB
    absorbed_blood = 2.303 * extinction * 150 / 64_500  # 150 g/l, 64,500 g/mol
    epidermis = f_mel * 6.6e11 * nm**-3.33 + (1 - f_mel) * base
    dermis = f_blood * absorbed_blood + (1 - f_blood) * base
    scattering = 2e5 * nm**-1.5 + 2e12 * nm**-4
    k = 2 * dermis
    # Where blood absorbs more than the theory allows for, what is left of scattering would turn negative.
    s = np.maximum(0.75 * scattering - 0.25 * dermis, 0.05 * scattering)
    ratio = k / s
    below = 1 + ratio - np.sqrt(ratio**2 + 2 * ratio)
    return floor + (1 - floor) * np.exp(-2 * epidermis_cm * epidermis) * below


def linear_rgb(spectrum: np.ndarray) -> np.ndarray:
    """Return linear sRGB (..., 3) of reflectances (..., 31) under daylight D65; not cut to what sRGB can show."""
    weights = np.stack([_X, _Y, _Z]) * _D65
    xyz = spectrum @ weights.T / (weights[1].sum())
    # Bands of 10 nm leave the white a little off: it is made exactly white.
    return (xyz * (WHITE / (weights.sum(axis=1) / weights[1].sum()))) @ _FROM_XYZ.T


def skin_rgb(melanin: np.ndarray, blood: np.ndarray) -> np.ndarray:
    """Return linear sRGB (..., 3) of skin, from a table of :func:`reflectance`: 31 bands a pixel would be slow."""
    table = _table()
    at = []
    for values, (low, high), count in ((melanin, MELANIN, len(table)), (blood, BLOOD, table.shape[1])):
        share = np.log(np.clip(values, low, high) / low) / np.log(high / low)
        at.append(share * (count - 1))
    i, j = (np.minimum(position.astype(np.int64), count - 2) for position, count in zip(at, table.shape, strict=False))
    u, v = (at[0] - i)[..., None], (at[1] - j)[..., None]
    return (
        (1 - u) * ((1 - v) * table[i, j] + v * table[i, j + 1])
        + u * ((1 - v) * table[i + 1, j] + v * table[i + 1, j + 1])
    )  # fmt: skip


@cache
def _table() -> np.ndarray:
    melanin, blood = (np.geomspace(low, high, 96) for low, high in (MELANIN, BLOOD))
    return linear_rgb(reflectance(*np.meshgrid(melanin, blood, indexing="ij")))
