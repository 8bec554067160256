"""The picture of a case shows both outlines where they are, in true proportions."""

import io
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image, ImageColor

from medaudit.report.overlay import LABELS_COLOUR, REFERENCE_COLOUR, outlines, overlay_png, worst_slice


def square(size: int, rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros((size, size), np.uint8)
    mask[rows, columns] = 1
    return mask


def decoded(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def wears(pixels: np.ndarray, colour: str) -> np.ndarray:
    return np.abs(pixels - ImageColor.getrgb(colour)).sum(-1) < 60


# Both masks in a 40 x 40 image that is shown whole (the context reaches its border): 8 pixels of the picture a voxel.
REFERENCE = square(40, slice(8, 32), slice(5, 25))
LABELS = square(40, slice(8, 32), slice(15, 35))


def test_both_outlines_lie_where_the_masks_end():
    picture = decoded(overlay_png(np.zeros((40, 40)), REFERENCE, LABELS))
    assert picture.shape == (320, 320, 3)
    middle = slice(15 * 8, 25 * 8)  # rows away from the corners
    solid = wears(picture, REFERENCE_COLOUR)[middle]
    dashed = wears(picture, LABELS_COLOUR)[middle]
    assert set(np.flatnonzero(solid.any(0)) // 4) <= {5 * 2 - 1, 5 * 2, 25 * 2 - 1, 25 * 2}
    assert set(np.flatnonzero(dashed.any(0)) // 4) <= {15 * 2 - 1, 15 * 2, 35 * 2 - 1, 35 * 2}
    # The reference is unbroken, the labels' line has gaps: they differ without colour.
    assert solid[:, 5 * 8 - 1 : 5 * 8 + 1].any(1).all()
    drawn = dashed[:, 35 * 8 - 1 : 35 * 8 + 1].any(1).mean()
    assert 0.4 < drawn < 0.8


def test_the_reference_is_the_thicker_line():
    picture = decoded(overlay_png(np.zeros((40, 40)), REFERENCE, REFERENCE * 0))
    other = decoded(overlay_png(np.zeros((40, 40)), REFERENCE * 0, REFERENCE))
    row = 20 * 8
    dashed = max(wears(other, LABELS_COLOUR)[r, 20:60].sum() for r in range(row, row + 16))
    assert wears(picture, REFERENCE_COLOUR)[row, 20:60].sum() > dashed > 0


def test_the_outline_of_a_mask_is_as_long_as_its_border():
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = rng.random((9, 13)) < 0.5
        padded = np.pad(mask, 1)
        edges = np.sum(padded[1:] != padded[:-1]) + np.sum(padded[:, 1:] != padded[:, :-1])
        loops = outlines(mask)
        assert sum(len(loop) - 1 for loop in loops) == edges
        for loop in loops:
            assert loop[0] == loop[-1]
            assert all(abs(a - c) + abs(b - d) == 1 for (a, b), (c, d) in pairwise(loop))


def test_the_area_inside_the_outlines_is_that_of_the_mask():
    mask = np.zeros((20, 20), bool)
    mask[3:15, 4:18] = True
    mask[6:9, 8:11] = False  # a hole is a loop of the other direction, and takes its area away
    area = sum(sum(a * d - c * b for (a, b), (c, d) in pairwise(loop)) / 2 for loop in outlines(mask))
    assert abs(area) == mask.sum()


def test_anisotropic_voxels_are_shown_in_true_proportions():
    reference = np.zeros((20, 60), np.uint8)
    reference[6:14, 20:40] = 1  # 8 rows of 3 mm, 20 columns of 1.2 mm: a square of 24 mm
    picture = decoded(overlay_png(np.zeros((20, 60)), reference, reference * 0, spacing=(3.0, 1.2)))
    rows, columns = np.nonzero(wears(picture, REFERENCE_COLOUR))
    assert np.ptp(rows) == pytest.approx(np.ptp(columns), abs=2)


def test_the_picture_is_cropped_around_the_masks_with_some_context():
    reference = square(500, slice(240, 260), slice(240, 260))
    picture = decoded(overlay_png(np.zeros((500, 500)), reference, reference))
    rows, _ = np.nonzero(wears(picture, REFERENCE_COLOUR))
    assert 0.4 < np.ptp(rows) / picture.shape[0] < 0.8


@pytest.mark.parametrize(
    "image",
    [None, np.full((40, 40), 7), np.full((40, 40), np.nan), np.where(REFERENCE, np.inf, 1.0), REFERENCE > 0],
)
def test_any_image_or_none_gives_a_picture(image):
    picture = decoded(overlay_png(image, REFERENCE, LABELS, spacing=(0.7, 0.7)))
    assert wears(picture, REFERENCE_COLOUR).any()
    assert wears(picture, LABELS_COLOUR).any()


def test_two_empty_masks_show_the_whole_image():
    empty = np.zeros((30, 60))
    assert decoded(overlay_png(np.arange(1800).reshape(30, 60), empty, empty)).shape == (160, 320, 3)


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_the_worst_slice_is_where_a_lesion_was_planted_in_one_mask_only(axis):
    reference = np.zeros((10, 12, 14), np.uint8)
    reference[2:8, 2:8, 2:8] = 1
    labels = reference.copy()
    labels[5, 6, 7] = 3 * (1 - labels[5, 6, 7])  # one voxel differs
    labels[9, 10, 12], labels[9, 11, 12] = 2, 2  # and two more, elsewhere, in one slice of axes 0 and 2
    index = worst_slice(reference, labels, axis)
    assert index == {0: 9, 1: 6, 2: 12, -1: 12}[axis]
