"""What must hold for any pair of masks."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_masks import blob_pair
from numpy.testing import assert_allclose

from medaudit.metrics import segmentation

DISTANCES = ("hd_mm", "hd95_mm", "assd_mm", "masd_mm")
SYMMETRIC = ("dice", "iou", *DISTANCES, "nsd_1mm", "nsd_2mm")
MODES = [(surface, hd95) for surface in ("voxel", "area") for hd95 in ("pooled", "max")]

spacings = st.floats(0.2, 6.0)


@st.composite
def cases(draw):
    """Two masks that are not empty on a small 2-D or 3-D grid, touching its edges as often as not, and a spacing."""
    ndim = draw(st.sampled_from((2, 3)))
    shape = tuple(draw(st.integers(1, 12 if ndim == 2 else 8)) for _ in range(ndim))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    masks = []
    for _ in range(2):
        mask = rng.random(shape) < draw(st.sampled_from((0.03, 0.3, 0.7, 1.0)))
        mask.flat[rng.integers(mask.size)] = True
        masks.append(mask)
    return *masks, tuple(draw(spacings) for _ in range(ndim))


def assert_same(a, b, names=None, factor=1.0):
    for name in names or a:
        assert_allclose(b[name], factor * a[name], rtol=1e-9, atol=1e-9, err_msg=name)


@pytest.mark.parametrize(("surface", "hd95"), MODES)
@settings(max_examples=40, deadline=None)
@given(case=cases())
def test_exchanging_the_masks_exchanges_their_roles_and_nothing_else(surface, hd95, case):
    a, b, spacing = case
    forward = segmentation(a, b, spacing, surface=surface, hd95=hd95)
    backward = segmentation(b, a, spacing, surface=surface, hd95=hd95)
    assert_same(forward, backward, SYMMETRIC)
    assert forward["precision"] == backward["recall"]
    assert forward["reference_voxels"] == backward["prediction_voxels"]
    missed = forward["reference_lesions"] - forward["detected_lesions"]
    assert missed == backward["false_positive_lesions"]


@pytest.mark.parametrize("surface", ["voxel", "area"])
@settings(max_examples=60, deadline=None)
@given(case=cases(), room=st.lists(st.integers(0, 5), min_size=6, max_size=6))
def test_padding_with_background_changes_nothing_though_the_object_touched_the_edge(surface, case, room):
    a, b, spacing = case
    margins = [(room[2 * axis], room[2 * axis + 1]) for axis in range(a.ndim)]
    tight = segmentation(a, b, spacing, surface=surface)
    roomy = segmentation(np.pad(a, margins), np.pad(b, margins), spacing, surface=surface)
    assert_same(tight, roomy, set(tight) - {"image_voxels", "image_diagonal_mm"})


@pytest.mark.parametrize("surface", ["voxel", "area"])
@settings(max_examples=40, deadline=None)
@given(case=cases(), factor=st.floats(0.1, 10))
def test_distances_scale_with_the_spacing_and_ratios_do_not(surface, case, factor):
    a, b, spacing = case
    once = segmentation(a, b, spacing, surface=surface, tolerances_mm=(1.3,))
    scaled = segmentation(a, b, [s * factor for s in spacing], surface=surface, tolerances_mm=(1.3 * factor,))
    assert_same(once, scaled, DISTANCES, factor)
    assert_same(once, scaled, ("dice", "reference_sphericity", "reference_elongation"))
    size = "reference_volume_ml" if a.ndim == 3 else "reference_area_mm2"
    assert_same(once, scaled, (size,), factor**a.ndim)


@pytest.mark.parametrize("surface", ["voxel", "area"])
@settings(max_examples=40, deadline=None)
@given(case=cases(), seed=st.integers(0, 1000))
def test_turning_and_mirroring_the_grid_changes_nothing(surface, case, seed):
    a, b, spacing = case
    rng = np.random.default_rng(seed)
    axes = rng.permutation(a.ndim)
    flipped = tuple(np.flatnonzero(rng.random(a.ndim) < 0.5))
    turned = [np.flip(mask.transpose(axes), flipped) for mask in (a, b)]
    assert_same(
        segmentation(a, b, spacing, surface=surface),
        segmentation(*turned, [spacing[axis] for axis in axes], surface=surface),
    )


@pytest.mark.parametrize(("surface", "hd95"), MODES)
@settings(max_examples=40, deadline=None)
@given(case=cases())
def test_order_of_the_numbers(surface, hd95, case):
    a, b, spacing = case
    result = segmentation(a, b, spacing, surface=surface, hd95=hd95, tolerances_mm=(0, 0.5, 1, 2, 5, 1000))
    assert result["hd95_mm"] <= result["hd_mm"] + 1e-12
    assert result["assd_mm"] <= result["hd_mm"] + 1e-12
    surface_dice = [value for name, value in result.items() if name.startswith("nsd")]
    assert surface_dice == sorted(surface_dice)
    assert surface_dice[-1] == pytest.approx(1)
    assert result["dice"] == pytest.approx(2 * result["iou"] / (1 + result["iou"]))
    if surface == "voxel":
        pooled = segmentation(a, b, spacing, hd95="pooled")["hd95_mm"]
        assert result["hd_mm"] <= result["image_diagonal_mm"]
        assert pooled <= segmentation(a, b, spacing, hd95="max")["hd_mm"]


@settings(max_examples=80, deadline=None)
@given(case=cases(), seed=st.integers(0, 2**32 - 1))
def test_jaccard_distance_obeys_the_triangle_inequality(case, seed):
    a, b, spacing = case
    c = np.random.default_rng(seed).random(a.shape) < 0.5

    def apart(x, y):
        return 1 - segmentation(x, y, spacing, empty="penalise")["iou"]

    assert apart(a, c) <= apart(a, b) + apart(b, c) + 1e-12


def test_all_memory_layouts_and_number_types_give_the_same_numbers():
    a, b = blob_pair(3, (21, 17, 13))
    spacing = (0.7, 1.1, 2.5)
    expected = segmentation(a, b, spacing)
    wide = np.zeros((42, 17, 26), dtype=np.uint8)
    wide[::2, :, 1::2] = b
    read_only = a.astype(np.uint8)
    read_only.flags.writeable = False
    crooked = np.frombuffer(b"\0\0\0" + a.tobytes(), dtype=np.uint8, offset=3).reshape(a.shape)
    variants = [
        (np.asfortranarray(a), np.asfortranarray(b)),
        (np.asfortranarray(a), b),
        (a.astype(np.uint8) * 255, b.astype(np.int16)),
        (a.astype(np.float64), np.asfortranarray(b.astype(np.float32))),
        (a.astype(np.int8), b.astype(np.uint64) * 7),
        (read_only, wide[::2, :, 1::2]),
        (crooked, np.ascontiguousarray(b[::-1])[::-1]),
        (np.ascontiguousarray(a.transpose(1, 2, 0)).transpose(2, 0, 1), b[:, ::-1][:, ::-1]),
        (a.tolist(), b.tolist()),
    ]
    for reference, prediction in variants:
        assert_same(expected, segmentation(reference, prediction, spacing))
    for same_spacing in (list(spacing), np.asarray(spacing), np.asarray(spacing, dtype=object)):
        assert segmentation(a, b, same_spacing) == expected
    assert_same(segmentation(a, b, (2, 2, 2)), segmentation(a, b, 2))


def test_every_number_is_a_plain_python_number():
    for a, b in (blob_pair(4, (12, 12, 12)), blob_pair(4, (12, 12)), (np.zeros((3, 3)), np.zeros((3, 3)))):
        for empty in ("nan", "penalise"):
            result = segmentation(a, b, np.ones(a.ndim, dtype=np.float32), empty=empty)
            assert {type(value) for value in result.values()} == {int, float}
            json.dumps(result)


def test_the_masks_are_left_as_they_were():
    a, b = (mask.astype(np.uint8) for mask in blob_pair(4, (12, 12, 12)))
    before = a.copy(), b.copy()
    segmentation(a, b, 1, surface="area")
    assert (a == before[0]).all()
    assert (b == before[1]).all()


def test_a_huge_ratio_of_spacings_is_no_obstacle():
    a, b = blob_pair(5, (15, 15, 15))
    slices = segmentation(a, b, (1e6, 1e-3, 1e-3))
    assert np.isfinite([slices[name] for name in DISTANCES]).all()
