"""Counting lesions, and what shape a mask has."""

import math

import numpy as np
import pytest
from made_masks import ball, blob_pair, box
from scipy import ndimage

from medaudit.metrics import segmentation


def test_lesions_are_found_missed_and_invented():
    """Three reference lesions: one hit twice, one touched in a single voxel, one missed; one false alarm."""
    reference = box((30, 30, 10), (2, 2, 2), (8, 20, 5)) | box((30, 30, 10), (15, 2, 2), (18, 5, 5))
    reference |= box((30, 30, 10), (25, 25, 2), (26, 26, 3))
    prediction = box((30, 30, 10), (2, 2, 2), (8, 6, 5)) | box((30, 30, 10), (2, 12, 2), (8, 22, 5))
    prediction |= box((30, 30, 10), (17, 4, 4), (21, 8, 8)) | box((30, 30, 10), (28, 2, 2), (30, 4, 4))
    result = segmentation(reference, prediction, 1)
    assert result["reference_lesions"] == 3
    assert result["prediction_lesions"] == 4
    assert result["detected_lesions"] == 2
    assert result["false_positive_lesions"] == 1


def test_voxels_that_share_a_corner_are_one_lesion():
    diagonal = np.zeros((5, 5, 5), dtype=bool)
    diagonal[np.arange(5), np.arange(5), np.arange(5)] = True
    assert segmentation(diagonal, diagonal, 1)["reference_lesions"] == 1
    flat = np.eye(6, dtype=bool)
    assert segmentation(flat, flat[::-1], 1)["prediction_lesions"] == 1
    apart = np.zeros((1, 9), dtype=bool)
    apart[0, ::2] = True
    assert segmentation(apart, apart, 1)["reference_lesions"] == 5


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("shape", [(20, 24, 17), (60, 47)])
def test_lesion_counts_are_those_of_scipy_label(seed, shape):
    a, b = blob_pair(seed, shape, smooth=0.6 + 0.2 * seed, share=0.1)
    around = np.ones((3,) * a.ndim)
    in_a, n_a = ndimage.label(a, around)
    in_b, n_b = ndimage.label(b, around)
    result = segmentation(a, b, 1)
    assert (result["reference_lesions"], result["prediction_lesions"]) == (n_a, n_b)
    assert result["detected_lesions"] == len(np.unique(in_a[a & b]))
    assert result["false_positive_lesions"] == n_b - len(np.unique(in_b[a & b]))


def test_lesions_and_shape_can_be_left_out():
    a, b = blob_pair(0, (9, 9, 9))
    lean = segmentation(a, b, 1, lesions=False, shape=False)
    full = segmentation(a, b, 1)
    assert lean == {name: full[name] for name in lean}
    assert not any("lesions" in name or "sphericity" in name for name in lean)


def test_a_cuboid_has_the_surface_volume_and_axes_of_a_cuboid():
    """The variance of n voxel centres a step s apart is s² (n² - 1) / 12."""
    cuboid = box((40, 30, 20), (3, 3, 3), (33, 23, 13))
    spacing = (0.5, 1.0, 3.0)
    shape = segmentation(cuboid, cuboid, spacing)
    lengths = [4 * s * math.sqrt((n * n - 1) / 12) for s, n in zip(spacing, (30, 20, 10), strict=True)]
    assert shape["reference_least_axis_mm"] == pytest.approx(lengths[0])
    assert shape["reference_minor_axis_mm"] == pytest.approx(lengths[1])
    assert shape["reference_major_axis_mm"] == pytest.approx(lengths[2])
    assert shape["reference_elongation"] == pytest.approx(lengths[1] / lengths[2])
    assert shape["reference_flatness"] == pytest.approx(lengths[0] / lengths[2])
    assert shape["reference_itk_elongation"] == pytest.approx(lengths[2] / lengths[1])
    assert shape["reference_itk_flatness"] == pytest.approx(lengths[1] / lengths[0])
    # The mesh cuts the edges off, so it is a little smaller than the cuboid.
    assert shape["reference_surface_area_mm2"] == pytest.approx(2 * (15 * 20 + 15 * 30 + 20 * 30), rel=0.04)
    assert shape["reference_mesh_volume_ml"] == pytest.approx(9, rel=0.01)
    assert shape["reference_mesh_volume_ml"] < 9


def test_a_single_voxel_is_an_octahedron():
    """The mesh of one voxel joins the six midpoints to its neighbours: volume 1/6, surface sqrt(3)."""
    voxel = box((3, 3, 3), (1, 1, 1), (2, 2, 2))
    shape = segmentation(voxel, voxel, 1)
    assert shape["reference_mesh_volume_ml"] == pytest.approx(1 / 6 / 1000)
    assert shape["reference_surface_area_mm2"] == pytest.approx(math.sqrt(3))
    assert shape["reference_major_axis_mm"] == 0
    assert math.isnan(shape["reference_elongation"])
    pixel = box((3, 3), (1, 1), (2, 2))
    shape = segmentation(pixel, pixel, 1)
    assert shape["reference_mesh_area_mm2"] == pytest.approx(1 / 2)
    assert shape["reference_perimeter_mm"] == pytest.approx(2 * math.sqrt(2))


def test_a_ball_is_rounder_than_a_rod_and_both_conventions_are_inverse():
    spacing = (0.5, 0.5, 0.5)
    sphere = ball(12, spacing, 14)
    rod = box(sphere.shape, (2, 20, 20), (50, 26, 24))
    shape = segmentation(sphere, rod, spacing)
    # A staircase is larger than the sphere it stands for: about 8 % for marching cubes on a binary mask.
    assert 0.9 < shape["reference_sphericity"] < 1
    assert shape["prediction_sphericity"] < 0.7
    assert shape["reference_elongation"] == pytest.approx(1)
    assert shape["reference_mesh_volume_ml"] == pytest.approx(4 / 3 * math.pi * 1.728, rel=0.01)
    for role in ("reference", "prediction"):
        assert shape[f"{role}_spherical_disproportion"] == pytest.approx(1 / shape[f"{role}_sphericity"])
        assert shape[f"{role}_itk_elongation"] == pytest.approx(1 / shape[f"{role}_elongation"])
        assert shape[f"{role}_sphericity"] <= 1 <= shape[f"{role}_itk_flatness"] + 1e-9


@pytest.mark.parametrize(("shape", "spacing"), [((20, 16, 12), (0.8, 1.0, 2.5)), ((40, 30), (0.5, 1.25))])
def test_itk_elongation_and_flatness_are_those_of_itk(shape, spacing):
    sitk = pytest.importorskip("SimpleITK")
    mask = blob_pair(1, shape, smooth=3)[0]
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing(spacing[::-1])
    filter_ = sitk.LabelShapeStatisticsImageFilter()
    filter_.Execute(image)
    result = segmentation(mask, mask, spacing)
    assert result["reference_itk_elongation"] == pytest.approx(filter_.GetElongation(1), rel=1e-6)
    if mask.ndim == 3:
        assert result["reference_itk_flatness"] == pytest.approx(filter_.GetFlatness(1), rel=1e-6)


def test_a_neighbourhood_and_its_negative_share_their_surface_and_fill_the_cell():
    """Not where both sides fall apart: there each is cut off corner by corner and the rest of the cell is neither's."""
    from medaudit.metrics.area import surface_by_code, volume_by_code

    surface = surface_by_code((1.0, 2.0, 3.0))
    assert surface == pytest.approx(surface[::-1])
    volumes = volume_by_code()
    corners = (np.arange(256)[:, None] >> np.arange(8) & 1).reshape(-1, 2, 2, 2)
    whole = [max(ndimage.label(c)[1], ndimage.label(1 - c)[1]) == 1 or c.sum() != 4 for c in corners]
    assert sum(whole) == 256 - 32
    assert (volumes + volumes[::-1])[whole] == pytest.approx(1)
