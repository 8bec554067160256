"""Colours against scikit-image's numbers and the published CIEDE2000 pairs; ITA against its angle by hand."""

import math

import numpy as np
import pytest

from medaudit.datasets.colour import ITA_SCHEMES, delta_e_2000, ita, ita_class, lab, to_linear, to_srgb
from medaudit.errors import DataError, UsageError

# skimage.color.rgb2lab, scikit-image 0.26.0: 8-bit sRGB and its CIELAB. Its white differs from ours in the 5th digit.
LAB = {
    (0, 0, 0): (0.0, 0.0, 0.0),
    (3, 2, 1): (0.5869, 0.1224, 0.4706),
    (10, 10, 10): (2.7417, -0.0002, 0.0003),
    (79, 46, 37): (22.8279, 13.9959, 12.1859),
    (90, 110, 170): (47.2705, 9.245, -34.4543),
    (120, 90, 160): (44.0074, 27.1178, -33.5237),
    (128, 128, 128): (53.585, -0.0015, 0.0028),
    (134, 83, 47): (40.3469, 17.6069, 29.6109),
    (208, 180, 166): (75.3311, 7.8382, 10.8532),
    (255, 255, 255): (100.0, -0.0025, 0.0047),
    (255, 0, 0): (53.2406, 80.0923, 67.2028),
    (0, 255, 0): (87.7351, -86.183, 83.1797),
    (0, 0, 255): (32.2957, 79.1856, -107.8573),
}

# Sharma, Wu and Dalal 2005, table 1: two colours and their difference to four decimals. Pairs 1 to 6 try the rotation
# term, 7 to 16 the mean hue and its difference where hues lie about 180 degrees apart or have none, the last ones
# small differences of many kinds. scikit-image 0.26.0 and colour-science 0.4.7 give the same 34 numbers.
SHARMA = np.asarray([
    [50, 2.6772, -79.7751, 50, 0, -82.7485, 2.0425], [50, 3.1571, -77.2803, 50, 0, -82.7485, 2.8615],
    [50, 2.8361, -74.0200, 50, 0, -82.7485, 3.4412], [50, -1.3802, -84.2814, 50, 0, -82.7485, 1.0000],
    [50, -1.1848, -84.8006, 50, 0, -82.7485, 1.0000], [50, -0.9009, -85.5211, 50, 0, -82.7485, 1.0000],
    [50, 0, 0, 50, -1, 2, 2.3669], [50, -1, 2, 50, 0, 0, 2.3669],
    [50, 2.4900, -0.0010, 50, -2.4900, 0.0009, 7.1792], [50, 2.4900, -0.0010, 50, -2.4900, 0.0010, 7.1792],
    [50, 2.4900, -0.0010, 50, -2.4900, 0.0011, 7.2195], [50, 2.4900, -0.0010, 50, -2.4900, 0.0012, 7.2195],
    [50, -0.0010, 2.4900, 50, 0.0009, -2.4900, 4.8045], [50, -0.0010, 2.4900, 50, 0.0010, -2.4900, 4.8045],
    [50, -0.0010, 2.4900, 50, 0.0011, -2.4900, 4.7461], [50, 2.5, 0, 50, 0, -2.5, 4.3065],
    [50, 2.5, 0, 73, 25, -18, 27.1492], [50, 2.5, 0, 61, -5, 29, 22.8977],
    [50, 2.5, 0, 56, -27, -3, 31.9030], [50, 2.5, 0, 58, 24, 15, 19.4535],
    [50, 2.5, 0, 50, 3.1736, 0.5854, 1.0000], [50, 2.5, 0, 50, 3.2972, 0, 1.0000],
    [50, 2.5, 0, 50, 1.8634, 0.5757, 1.0000], [50, 2.5, 0, 50, 3.2592, 0.3350, 1.0000],
    [60.2574, -34.0099, 36.2677, 60.4626, -34.1751, 39.4387, 1.2644],
    [63.0109, -31.0961, -5.8663, 62.8187, -29.7946, -4.0864, 1.2630],
    [61.2901, 3.7196, -5.3901, 61.4292, 2.2480, -4.9620, 1.8731],
    [35.0831, -44.1164, 3.7933, 35.0232, -40.0716, 1.5901, 1.8645],
    [22.7233, 20.0904, -46.6940, 23.0331, 14.9730, -42.5619, 2.0373],
    [36.4612, 47.8580, 18.3852, 36.2715, 50.5065, 21.2231, 1.4146],
    [90.8027, -2.0831, 1.4410, 91.1528, -1.6435, 0.0447, 1.4441],
    [90.9257, -0.5406, -0.9208, 88.6381, -0.8985, -0.7239, 1.5381],
    [6.7747, -0.2908, -2.4247, 5.8714, -0.0985, -2.2286, 0.6377],
    [2.0776, 0.0795, -1.1350, 0.9033, -0.0636, -0.5514, 0.9082],
])  # fmt: skip

LIGHT, DARK, BLUE = (np.asarray(colour) / 255 for colour in ((208, 180, 166), (79, 46, 37), (90, 110, 170)))


def angle_by_hand(lightness: float, yellow: float) -> float:
    """Return the angle of the point (b*, L* - 50) from the b* axis, degrees."""
    return math.degrees(math.atan2(lightness - 50, yellow))


def test_lab_is_that_of_scikit_image() -> None:
    np.testing.assert_allclose(lab(np.asarray(list(LAB)) / 255), list(LAB.values()), atol=0.006)


def test_channels_lie_last_and_other_axes_are_kept() -> None:
    pixels = np.random.default_rng(0).random((4, 5, 6, 3))
    assert lab(pixels).shape == (4, 5, 6, 3)
    np.testing.assert_allclose(lab(pixels)[1, 2, 3], lab(pixels[1, 2, 3]), rtol=1e-12)
    assert delta_e_2000(lab(pixels), lab(pixels[0])).shape == (4, 5, 6)


@pytest.mark.parametrize("order", [(slice(0, 3), slice(3, 6)), (slice(3, 6), slice(0, 3))], ids=["ab", "ba"])
def test_ciede2000_of_the_published_pairs_in_either_order(order: tuple[slice, slice]) -> None:
    first, second = order
    np.testing.assert_allclose(delta_e_2000(SHARMA[:, first], SHARMA[:, second]), SHARMA[:, 6], atol=6e-5)


def test_ciede2000_of_pictures_is_that_of_scikit_image() -> None:
    pairs = {((208, 180, 166), (79, 46, 37)): 52.6321, ((79, 46, 37), (134, 83, 47)): 16.8624,
             ((255, 0, 0), (0, 255, 0)): 86.6085, ((0, 255, 0), (0, 0, 255)): 83.1868,
             ((128, 128, 128), (120, 90, 160)): 24.88, ((0, 0, 0), (3, 2, 1)): 0.6024}  # fmt: skip
    first, second = (lab(np.asarray(side) / 255) for side in zip(*pairs, strict=True))
    np.testing.assert_allclose(delta_e_2000(first, second), list(pairs.values()), atol=0.01)


def test_a_colour_differs_from_itself_by_nothing() -> None:
    colours = lab(np.random.default_rng(1).random((200, 3)))
    assert np.array_equal(delta_e_2000(colours, colours), np.zeros(200))


def test_linear_light_and_srgb_undo_each_other_and_meet_the_standard() -> None:
    shown = np.arange(256) / 255
    np.testing.assert_allclose(to_srgb(to_linear(shown)), shown, atol=1e-12)
    # IEC 61966-2-1: half of the light is shown at 188 of 255, 18 % grey at 118; the foot is a line of slope 12.92.
    assert np.rint(255 * to_srgb(np.asarray([0.5, 0.18, 0.0, 1.0]))).tolist() == [188, 118, 0, 255]
    assert float(to_linear(np.asarray(0.04))) == pytest.approx(0.04 / 12.92)
    assert np.all(np.diff(to_linear(np.linspace(0, 1, 10_001))) > 0)
    assert to_srgb(np.asarray([-0.5, 1.7])) == pytest.approx([0.0, 1.0])  # out of gamut is cut


@pytest.mark.parametrize("colour", [LIGHT, DARK, BLUE], ids=["light", "dark", "blue"])
def test_ita_of_one_colour_is_its_angle_in_the_plane_of_l_and_b(colour: np.ndarray) -> None:
    lightness, _, yellow = LAB[tuple(np.rint(255 * colour).astype(int).tolist())]
    assert ita(np.broadcast_to(colour, (6, 7, 3))) == pytest.approx(angle_by_hand(lightness, yellow), abs=0.03)


def test_bluish_skin_keeps_its_side() -> None:
    # With b* < 0 an arctan of the quotient would be off by 180 degrees.
    lightness, _, yellow = LAB[(90, 110, 170)]
    assert yellow < 0 < 50 - lightness
    assert ita(np.broadcast_to(BLUE, (5, 5, 3))) < -90
    paler = np.asarray([0.8, 0.82, 0.95])
    assert 90 < ita(np.broadcast_to(paler, (5, 5, 3))) < 180
    grey = np.full((5, 5, 3), 0.8)  # b* = 0 is a colour, and no background
    assert ita(grey) == pytest.approx(90, abs=0.01)


def test_l_and_b_are_averaged_over_the_same_pixels() -> None:
    # 12 pixels of skin; one is as light but yellow, one as yellow but dark. Masks of their own would let the first into
    # the mean of L* and the second into that of b*.
    yellow, dark = np.asarray([215, 180, 60]) / 255, np.asarray([40, 25, 18]) / 255
    picture = np.asarray([LIGHT] * 12 + [yellow, dark]).reshape(2, 7, 3)
    colours = lab(picture).reshape(-1, 3)
    inside = [np.abs(values - values.mean()) <= values.std() for values in (colours[:, 0], colours[:, 2])]
    assert (inside[0].sum(), inside[1].sum(), (inside[0] & inside[1]).sum()) == (13, 13, 12)
    lightness, _, b = LAB[(208, 180, 166)]
    assert ita(picture) == pytest.approx(angle_by_hand(lightness, b), abs=0.03)
    apart = angle_by_hand(colours[inside[0], 0].mean(), colours[inside[1], 2].mean())
    assert abs(ita(picture) - apart) > 0.1  # so that the test can tell the two


def test_only_the_mask_counts() -> None:
    picture = np.broadcast_to(DARK, (8, 8, 3)).copy()
    picture[:, :4] = LIGHT
    mask = np.zeros((8, 8), dtype=bool)
    mask[:, :4] = True
    lightness, _, yellow = LAB[(208, 180, 166)]
    assert ita(picture, mask) == pytest.approx(angle_by_hand(lightness, yellow), abs=0.03)
    assert ita(picture, ~mask) < -40
    with pytest.raises(DataError, match="no skin pixel; expected a mask with some"):
        ita(picture, np.zeros((8, 8), dtype=bool))


@pytest.mark.parametrize("scheme", list(ITA_SCHEMES))
def test_an_angle_on_a_threshold_is_in_the_darker_class(scheme: str) -> None:
    edges = ITA_SCHEMES[scheme]
    assert [ita_class(edge, scheme) for edge in edges] == [2, 3, 4, 5, 6]
    assert [ita_class(edge + 1e-9, scheme) for edge in edges] == [1, 2, 3, 4, 5]
    assert (ita_class(90, scheme), ita_class(-90, scheme)) == (1, 6)


def test_the_schemes_are_the_published_ones_and_do_not_agree() -> None:
    # Very light > 55, light 41 to 55, intermediate 28 to 41, tan 10 to 28, brown -30 to 10, dark: Del Bino 2013.
    assert [ita_class(angle, "del_bino") for angle in (60, 50, 30, 20, -10, -40)] == [1, 2, 3, 4, 5, 6]
    assert [ita_class(angle, "chardon") for angle in (60, 50, 30, 20, 15, 5)] == [1, 2, 3, 4, 5, 6]
    assert [ita_class(-22, scheme) for scheme in ITA_SCHEMES] == [6, 5, 6, 5]
    assert ita_class(50) == ita_class(50, "chardon") == 2
    with pytest.raises(UsageError, match="no ITA scheme is called 'fitz'; there are: chardon, del_bino"):
        ita_class(10, "fitz")
