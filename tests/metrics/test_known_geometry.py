"""Distances and overlap where geometry gives the answer, or where it was worked out by hand."""

import math

import numpy as np
import pytest
from made_masks import ball, box

from medaudit.metrics import segmentation

CUBE = box((30, 26, 26), (3, 3, 3), (23, 23, 23))
SHIFTED = box((30, 26, 26), (6, 3, 3), (26, 23, 23))


def test_a_mask_against_itself_is_perfect():
    for surface in ("voxel", "area"):
        result = segmentation(CUBE, CUBE, (2, 1, 0.5), surface=surface)
        assert [result[k] for k in ("dice", "iou", "precision", "recall", "nsd_1mm", "nsd_2mm")] == [1.0] * 6
        assert [result[k] for k in ("hd_mm", "hd95_mm", "assd_mm", "masd_mm")] == [0.0] * 4


def test_overlap_of_a_shifted_cube_is_its_share():
    result = segmentation(CUBE, SHIFTED, (2, 1, 0.5))
    assert result["dice"] == result["precision"] == result["recall"] == 0.85
    assert result["iou"] == pytest.approx(0.85 / 1.15)
    assert result["true_positive_voxels"] == 17 * 400
    assert result["reference_volume_ml"] == pytest.approx(8.0)
    assert result["image_voxels"] == 30 * 26 * 26
    assert result["image_diagonal_mm"] == pytest.approx(math.sqrt(60**2 + 26**2 + 13**2))


@pytest.mark.parametrize("surface", ["voxel", "area"])
@pytest.mark.parametrize("hd95", ["pooled", "max"])
@pytest.mark.parametrize(("spacing", "expected"), [((1, 1, 1), 3), ((2, 1, 0.5), 6)])
def test_hausdorff_distance_of_a_shifted_cube_is_the_shift(surface, hd95, spacing, expected):
    result = segmentation(CUBE, SHIFTED, spacing, surface=surface, hd95=hd95)
    assert result["hd_mm"] == result["hd95_mm"] == expected


@pytest.mark.parametrize(
    ("spacing", "surface", "assd", "nsd1", "nsd2"),
    [
        ((1, 1, 1), "voxel", 1.0166, 0.6624, 0.7251),
        ((1, 1, 1), "area", 1.0126, 0.6636, 0.7249),
        ((2, 1, 0.5), "voxel", 1.645, 0.642, 0.716),
        ((2, 1, 0.5), "area", 0.943, 0.778, 0.838),
    ],
)
def test_shifted_cube_has_the_tabulated_surface_numbers(spacing, surface, assd, nsd1, nsd2):
    result = segmentation(CUBE, SHIFTED, spacing, surface=surface)
    assert result["assd_mm"] == pytest.approx(assd, abs=6e-4)
    assert result["nsd_1mm"] == pytest.approx(nsd1, abs=6e-4)
    assert result["nsd_2mm"] == pytest.approx(nsd2, abs=6e-4)


def test_area_weights_bring_the_anisotropic_cube_near_its_exact_geometry():
    """Of a 40 x 20 x 10 mm box moved 6 mm along its length: ASD .9634 mm, NSD .7700 and .8086 at 1 and 2 mm."""
    voxel = segmentation(CUBE, SHIFTED, (2, 1, 0.5), surface="voxel")
    area = segmentation(CUBE, SHIFTED, (2, 1, 0.5), surface="area")
    exact = {"assd_mm": 0.9634, "nsd_1mm": 2156 / 2800, "nsd_2mm": 2264 / 2800}
    for name, value in exact.items():
        assert area[name] == pytest.approx(value, rel=0.04)
        assert abs(area[name] - value) < abs(voxel[name] - value) / 3


def test_area_mode_converges_to_exact_geometry_as_the_grid_gets_finer():
    """A 20 mm cube moved 3 mm: NSD .6317 and .6933 at 1 and 2 mm, ASD 1.0166 mm, whatever the grid."""
    fine = 5
    n = 20 * fine
    cube = box((n + 3 * fine, n, n), (0, 0, 0), (n, n, n))
    shifted = box(cube.shape, (3 * fine, 0, 0), (n + 3 * fine, n, n))
    result = segmentation(cube, shifted, 1 / fine, surface="area", lesions=False)
    assert result["nsd_1mm"] == pytest.approx(0.6317, rel=0.015)
    assert result["nsd_2mm"] == pytest.approx(0.6933, rel=0.015)
    assert result["assd_mm"] == pytest.approx(1.0166, rel=0.015)
    assert result["reference_surface_area_mm2"] == pytest.approx(2400, rel=0.01)


def test_two_single_voxels_are_their_offset_apart():
    a, b = box((8, 8, 3), (1, 1, 1), (2, 2, 2)), box((8, 8, 3), (4, 5, 1), (5, 6, 2))
    for hd95 in ("pooled", "max"):
        result = segmentation(a, b, (1, 1, 1), hd95=hd95)
        assert result["hd_mm"] == result["hd95_mm"] == result["assd_mm"] == result["masd_mm"] == 5
        assert result["dice"] == 0
    assert segmentation(a, b, (2, 0.5, 9))["hd_mm"] == pytest.approx(math.hypot(6, 2))


@pytest.mark.parametrize("surface", ["voxel", "area"])
def test_hd95_of_two_spheres_is_their_radius_difference(surface):
    spacing = (0.5, 0.5, 0.5)
    result = segmentation(ball(10, spacing, 13), ball(12, spacing, 13), spacing, surface=surface)
    assert result["hd95_mm"] == pytest.approx(2, abs=0.25)
    assert result["hd_mm"] == pytest.approx(2, abs=0.5)


def test_spheres_on_coarse_grids_have_the_tabulated_hd95():
    iso, thick = (1, 1, 1), (2.5, 0.8, 0.8)
    a, b = ball(10, iso, 15), ball(12, iso, 15)
    assert segmentation(a, b, iso)["hd95_mm"] == pytest.approx(2.236, abs=1e-3)
    assert segmentation(a, b, iso)["hd_mm"] == pytest.approx(2.449, abs=1e-3)
    a, b = ball(10, thick, 15), ball(12, thick, 15)
    assert segmentation(a, b, thick, hd95="max")["hd95_mm"] == pytest.approx(2.530, abs=1e-3)
    assert segmentation(a, b, thick, hd95="pooled")["hd95_mm"] == pytest.approx(2.500, abs=1e-3)
    assert segmentation(a, b, thick, hd95="max", surface="area")["hd95_mm"] == pytest.approx(2.500, abs=1e-3)


def test_distances_of_two_squares_worked_out_by_hand():
    """A 4 x 4 square in the corner of an 8 x 8: 12 and 28 border pixels, 7 of them shared."""
    small, large = box((8, 8), (0, 0), (4, 4)), box((8, 8), (0, 0), (8, 8))
    to_large = [0] * 7 + [1, 2, 3, 2, 1]
    beside = [1, 2, 3, 4] * 2 + [4] * 6
    around_the_corner = [math.hypot(4, 1), math.hypot(4, 2), 5.0] * 2 + [math.hypot(4, 4)]
    to_small = [0] * 7 + beside + around_the_corner
    result = segmentation(small, large, (1, 1))
    assert result["hd_mm"] == pytest.approx(math.hypot(4, 4))
    assert result["hd95_mm"] == pytest.approx(np.percentile(to_large + to_small, 95))
    assert result["assd_mm"] == pytest.approx((sum(to_large) + sum(to_small)) / 40)
    assert result["masd_mm"] == pytest.approx((sum(to_large) / 12 + sum(to_small) / 28) / 2)
    assert result["nsd_1mm"] == pytest.approx((9 + 9) / 40)
    assert result["nsd_2mm"] == pytest.approx((11 + 11) / 40)
    assert (result["reference_area_mm2"], result["prediction_area_mm2"]) == (16, 64)


def test_mean_of_means_and_mean_over_all_differ_as_their_definitions_say():
    """One voxel against a row of three beginning there: 0 one way; 0, 1, 2 mm the other."""
    a, b = box((1, 5, 5), (0, 1, 1), (1, 2, 2)), box((1, 5, 5), (0, 1, 1), (1, 2, 4))
    result = segmentation(a, b, (1, 1, 1), tolerances_mm=(0, 1, 1.5))
    assert result["assd_mm"] == pytest.approx(3 / 4)
    assert result["masd_mm"] == pytest.approx((0 + 1) / 2)
    assert result["nsd_0mm"] == 2 / 4
    assert result["nsd_1mm"] == result["nsd_1.5mm"] == 3 / 4
    assert result["hd_mm"] == 2


def test_pooled_percentile_interpolates_over_both_sets():
    """Distances 0 | 0, 1, 2: the 95th percentile of the four lies .85 of the way from 1 to 2, of the three at 1.9."""
    a, b = box((1, 5, 5), (0, 1, 1), (1, 2, 2)), box((1, 5, 5), (0, 1, 1), (1, 2, 4))
    assert segmentation(a, b, (1, 1, 1))["hd95_mm"] == pytest.approx(1.85)
    assert segmentation(a, b, (1, 1, 1), hd95="max")["hd95_mm"] == pytest.approx(1.9)


def test_a_tolerance_reached_exactly_is_within_it():
    """Ten steps of .1 mm are 1 mm, on every place of the grid, though .1 has no exact binary form."""
    for start in range(0, 40):
        a, b = box((60, 3), (start, 1), (start + 1, 2)), box((60, 3), (start + 10, 1), (start + 11, 2))
        assert segmentation(a, b, (0.1, 0.1))["nsd_1mm"] == 1


def test_two_tolerances_name_their_columns():
    result = segmentation(CUBE, SHIFTED, 1, tolerances_mm=(0.5, 3, 10.25))
    assert [name for name in result if name.startswith("nsd")] == ["nsd_0.5mm", "nsd_3mm", "nsd_10.25mm"]
    assert result["nsd_3mm"] == 1
