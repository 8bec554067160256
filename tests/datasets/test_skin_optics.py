"""Skin's optics against the spec's table of tones, the published spectra and the closed form of Kubelka and Munk."""

import numpy as np
import pytest

from medaudit.datasets import skin_optics
from medaudit.datasets.colour import lab, to_srgb
from medaudit.datasets.skin_optics import BLOOD, MELANIN, WAVELENGTHS, linear_rgb, reflectance, skin_rgb

# Spec 05, section 4.7: melanin fraction, ITA in degrees, sRGB; 2 % blood, saturation 0.75, 90 um, floor 0.02.
TONES = [
    (0.005, 67, (208, 180, 166)), (0.02, 55, (202, 170, 149)), (0.05, 34, (190, 150, 119)), (0.08, 18, (177, 133, 96)),
    (0.12, 3, (162, 113, 72)), (0.20, -18, (134, 83, 47)), (0.30, -41, (106, 60, 38)), (0.43, -66, (79, 46, 37)),
]  # fmt: skip

# CIE 1931 2-degree observer and D65 at 400, 410 ... 700 nm, as colour-science 0.4.7 holds them (to five decimals).
X = [
    0.01431, 0.04351, 0.13438, 0.2839, 0.34828, 0.3362, 0.2908, 0.19536, 0.09564, 0.03201, 0.0049, 0.0093, 0.06327,
    0.1655, 0.2904, 0.43345, 0.5945, 0.7621, 0.9163, 1.0263, 1.0622, 1.0026, 0.85445, 0.6424, 0.4479, 0.2835, 0.1649,
    0.0874, 0.04677, 0.0227, 0.01136,
]  # fmt: skip
Y = [
    0.0004, 0.00121, 0.004, 0.0116, 0.023, 0.038, 0.06, 0.09098, 0.13902, 0.20802, 0.323, 0.503, 0.71, 0.862, 0.954,
    0.99495, 0.995, 0.952, 0.87, 0.757, 0.631, 0.503, 0.381, 0.265, 0.175, 0.107, 0.061, 0.032, 0.017, 0.00821, 0.0041,
]  # fmt: skip
Z = [
    0.06785, 0.2074, 0.6456, 1.3856, 1.74706, 1.77211, 1.6692, 1.28764, 0.81295, 0.46518, 0.272, 0.1582, 0.07825,
    0.04216, 0.0203, 0.00875, 0.0039, 0.0021, 0.00165, 0.0011, 0.0008, 0.00034, 0.00019, 0.00005, 0.00002, 0, 0, 0, 0,
    0, 0,
]  # fmt: skip
D65 = [
    82.7549, 91.486, 93.4318, 86.6823, 104.865, 117.008, 117.812, 114.861, 115.923, 108.811, 109.354, 107.802, 104.79,
    107.689, 104.405, 104.046, 100, 96.3342, 95.788, 88.6856, 90.0062, 89.5991, 87.6987, 83.2886, 83.6992, 80.0268,
    80.2146, 82.2778, 78.2842, 69.7213, 71.6091,
]  # fmt: skip
# S. Prahl, Tabulated molar extinction coefficient for hemoglobin in water (omlc.org, 4 March 1998): nm, HbO2, Hb.
PRAHL = np.asarray([
    [400, 266232, 223296], [410, 466840, 303956], [420, 480360, 407560], [430, 246072, 528600], [440, 102580, 413280],
    [450, 62816, 103292], [460, 44480, 23388.8], [470, 33209.2, 16156.4], [480, 26629.2, 14550], [490, 23684.4, 16684],
    [500, 20932.8, 20862], [510, 20035.2, 25773.6], [520, 24202.4, 31589.6], [530, 39956.8, 39036.4],
    [540, 53236, 46592], [550, 43016, 53412], [560, 32613.2, 53788], [570, 44496, 45072], [580, 50104, 37020],
    [590, 14400.8, 28324.4], [600, 3200, 14677.2], [610, 1506, 9443.6], [620, 942, 6509.6], [630, 610, 5148.8],
    [640, 442, 4345.2], [650, 368, 3750.12], [660, 319.6, 3226.56], [670, 294, 2795.12], [680, 277.6, 2407.92],
    [690, 276, 2051.96], [700, 290, 1794.28],
])  # fmt: skip


def seen(melanin: float, blood: float = 0.02, **other: float) -> tuple[np.ndarray, float]:
    """Return the CIELAB of skin and its ITA, degrees."""
    colour = lab(to_srgb(linear_rgb(reflectance(np.asarray(melanin), np.asarray(blood), **other))))
    return colour, float(np.degrees(np.arctan2(colour[0] - 50, colour[2])))


@pytest.mark.parametrize(("melanin", "angle", "srgb"), TONES)
def test_tones_are_those_of_the_specs_table(melanin: float, angle: float, srgb: tuple[int, int, int]) -> None:
    for linear in (
        linear_rgb(reflectance(np.asarray(melanin), np.asarray(0.02))),
        skin_rgb(np.asarray([melanin]), np.asarray([0.02]))[0],
    ):
        shown = to_srgb(linear)
        assert np.abs(255 * shown - srgb).max() < 2
        lightness, _, yellow = lab(shown)
        assert np.degrees(np.arctan2(lightness - 50, yellow)) == pytest.approx(angle, abs=2)


def test_ita_falls_with_melanin_and_b_rises_and_then_falls() -> None:
    melanin = np.geomspace(0.004, 0.5, 60)
    colours, angles = zip(*(seen(part) for part in melanin), strict=True)
    assert np.all(np.diff(angles) < 0)
    assert np.all(np.diff([colour[0] for colour in colours]) < 0)
    yellow = np.asarray([colour[2] for colour in colours])
    top = int(yellow.argmax())
    assert 0.1 < melanin[top] < 0.25
    assert np.all(np.diff(yellow[: top + 1]) > 0)
    assert np.all(np.diff(yellow[top:]) < 0)
    assert yellow[top] - max(yellow[0], yellow[-1]) > 10


@pytest.mark.parametrize("melanin", [0.006, 0.02, 0.08, 0.2, 0.4])
def test_blood_reddens_and_lowers_ita_so_erythema_passes_for_tone(melanin: float) -> None:
    colours, angles = zip(*(seen(melanin, blood) for blood in np.geomspace(0.002, 0.1, 20)), strict=True)
    assert np.all(np.diff(angles) < 0)
    assert np.all(np.diff([colour[1] for colour in colours][:12]) > 0)  # a*, until the dermis is nearly black
    assert angles[0] - angles[-1] > (40 if melanin == 0.02 else 4)


def test_without_the_floor_dark_skin_turns_orange() -> None:
    with_floor, _ = seen(0.3)
    without, _ = seen(0.3, floor=0.0)
    assert np.hypot(*without[1:]) > 1.3 * np.hypot(*with_floor[1:])
    red, green, blue = 255 * to_srgb(linear_rgb(reflectance(np.asarray(0.3), np.asarray(0.02), floor=0.0)))
    assert blue < 5  # the spec's example is 109 53 1
    assert red > 95
    assert red > 2 * green
    assert np.all(reflectance(np.asarray(0.6), np.asarray(0.4)) >= 0.02)


@pytest.mark.parametrize("blood", [0.0, 0.01, 0.05])
def test_bare_dermis_obeys_kubelka_and_munk(blood: float) -> None:
    # (1 - R)^2 / 2R = K / S of a layer without end, with nothing above it.
    dermis = reflectance(np.asarray(0.0), np.asarray(blood), epidermis_cm=0.0, floor=0.0)
    nm = PRAHL[:, 0]
    base = 0.244 + 85.3 * np.exp(-(nm - 154) / 66.2)
    absorbed = blood * 2.303 * (0.75 * PRAHL[:, 1] + 0.25 * PRAHL[:, 2]) * 150 / 64_500 + (1 - blood) * base
    scattered = 2e5 * nm**-1.5 + 2e12 * nm**-4.0
    here = 0.75 * scattered - 0.25 * absorbed > 0.1 * scattered  # elsewhere the simulator stops S from turning negative
    assert here.sum() >= 24
    wanted = 2 * absorbed / (0.75 * scattered - 0.25 * absorbed)
    np.testing.assert_allclose(((1 - dermis) ** 2 / (2 * dermis))[here], wanted[here], rtol=2e-3)


def test_light_crosses_the_epidermis_twice() -> None:
    bare = reflectance(np.asarray(0.1), np.asarray(0.02), epidermis_cm=0.0, floor=0.0)
    thick = reflectance(np.asarray(0.1), np.asarray(0.02), epidermis_cm=0.01, floor=0.0)
    base = 0.244 + 85.3 * np.exp(-(WAVELENGTHS - 154) / 66.2)
    absorption = 0.1 * 6.6e11 * WAVELENGTHS**-3.33 + 0.9 * base
    np.testing.assert_allclose(-np.log(thick / bare), 2 * 0.01 * absorption, rtol=1e-9)


def test_reflectance_is_a_share_and_falls_with_melanin_at_every_band() -> None:
    melanin, blood = np.geomspace(*MELANIN, 40), np.geomspace(*BLOOD, 30)
    spectra = reflectance(*np.meshgrid(melanin, blood, indexing="ij"))
    assert spectra.shape == (40, 30, 31)
    assert spectra.min() >= 0.02
    assert spectra.max() < 1
    assert np.all(np.diff(spectra, axis=0) < 0)


def test_the_spectra_are_the_published_ones() -> None:
    assert np.array_equal(WAVELENGTHS, PRAHL[:, 0])
    np.testing.assert_allclose(skin_optics._X, X, atol=1.1e-5)
    np.testing.assert_allclose(skin_optics._Y, Y, atol=1.1e-5)
    np.testing.assert_allclose(skin_optics._Z, Z, atol=1.1e-5)
    np.testing.assert_array_equal(skin_optics._D65, D65)
    # Ours are cut to whole numbers.
    np.testing.assert_allclose(skin_optics._HBO2, PRAHL[:, 1], rtol=2.5e-3)
    np.testing.assert_allclose(skin_optics._HB, PRAHL[:, 2], rtol=1e-3)


def test_a_perfect_diffuser_is_white_and_a_grey_one_is_grey() -> None:
    np.testing.assert_allclose(linear_rgb(np.ones(31)), 1, atol=1e-6)
    np.testing.assert_allclose(linear_rgb(np.full((2, 5, 31), 0.3)), np.full((2, 5, 3), 0.3), atol=1e-6)


def test_31_bands_see_nearly_the_colour_of_421() -> None:
    # colour-science 0.4.7, sd_to_XYZ by integration from 360 to 780 nm every 1 nm, then XYZ_to_sRGB without encoding.
    share = np.clip((WAVELENGTHS - 400) / 300, 0, 1)
    wanted = [
        (0.1 + 0.8 * share, (0.74643, 0.48142, 0.2089)),
        (0.05 + 0.6 * np.exp(-(((WAVELENGTHS - 530) / 60) ** 2)), (0.01714, 0.5964, 0.16318)),
        (0.7 - 0.6 / (1 + np.exp(-(WAVELENGTHS - 520) / 30)), (0.03548, 0.30215, 0.67625)),
        (0.02 + 0.1 * share**2, (0.08236, 0.04225, 0.02057)),
    ]
    for spectrum, linear in wanted:
        np.testing.assert_allclose(linear_rgb(spectrum), linear, atol=8e-4)


def test_the_table_is_within_half_a_grey_level_and_ends_at_its_ends() -> None:
    rng = np.random.default_rng(0)
    melanin, blood = (np.exp(rng.uniform(*np.log(ends), 20_000)) for ends in (MELANIN, BLOOD))
    error = to_srgb(skin_rgb(melanin, blood)) - to_srgb(linear_rgb(reflectance(melanin, blood)))
    assert np.abs(error).max() < 0.5 / 255
    outside = skin_rgb(np.asarray([0.0, 5.0]), np.asarray([0.0, 5.0]))
    ends = linear_rgb(reflectance(np.asarray(MELANIN), np.asarray(BLOOD)))
    np.testing.assert_allclose(outside, ends, atol=1e-9)
    assert skin_rgb(np.full((4, 6), 0.1), np.full((4, 6), 0.02)).shape == (4, 6, 3)
