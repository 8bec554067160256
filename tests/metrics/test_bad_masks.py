"""Input that cannot be measured is refused with one line that says what is wrong and how to mend it."""

import numpy as np
import pytest

from medaudit.errors import DataError
from medaudit.metrics import segmentation, segmentation_by_label

GOOD = np.zeros((4, 5, 6), dtype=np.uint8)
GOOD[1:3, 1:3, 1:3] = 1
ONES = (1, 1, 1)


def with_value(value, dtype=np.float64):
    mask = GOOD.astype(dtype)
    mask[2, 3, 4] = value
    return mask


@pytest.mark.parametrize(
    ("prediction", "says"),
    [
        (GOOD[:3], "one grid"),
        (GOOD.T, r"\(6, 5, 4\)"),
        (with_value(np.nan), "NaN"),
        (with_value(np.inf), "infinite"),
        (with_value(-np.inf), "infinite"),
        (with_value(2, np.uint8), "3 values .* segmentation_by_label"),
        (with_value(0.5), "threshold a probability map"),
        (with_value(-1, np.int8), "negative"),
        (with_value(-1, np.int64), "negative"),
        (np.full_like(GOOD, -3, dtype=np.int32), "negative"),
        (np.full(GOOD.shape, "1"), "expected a mask of numbers"),
        (GOOD.astype(complex), "expected a mask of numbers"),
        (GOOD.astype(object), "expected a mask of numbers"),
        ([[[1, 0], [1]]], "different lengths"),
    ],
)
def test_a_bad_prediction_is_named_and_explained(prediction, says):
    with pytest.raises(DataError, match=says) as error:
        segmentation(GOOD, prediction, ONES)
    assert "prediction" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_bad_reference_is_called_the_reference():
    with pytest.raises(DataError, match="the reference mask"):
        segmentation(with_value(np.nan), GOOD, ONES)


@pytest.mark.parametrize("shape", [(5,), (2, 3, 4, 5), (), (0, 4, 4)])
def test_only_images_of_two_or_three_axes_with_voxels_are_measured(shape):
    with pytest.raises(DataError, match=r"axes|no voxels"):
        segmentation(np.zeros(shape, bool), np.zeros(shape, bool), 1)


@pytest.mark.parametrize(
    "spacing",
    [
        (1, 1),
        (1, 1, 1, 1),
        (1,),
        (),
        (1, 0, 1),
        (1, -1, 1),
        (1, np.nan, 1),
        (np.inf, 1, 1),
        "abc",
        None,
        0,
        [[1, 1, 1]],
    ],
)
def test_a_spacing_that_is_none_is_refused(spacing):
    with pytest.raises(DataError, match="spacing"):
        segmentation(GOOD, GOOD, spacing)


@pytest.mark.parametrize("bad", [0.5, -1, np.nan, 70000])
def test_label_maps_hold_whole_numbers(bad):
    with pytest.raises(DataError, match="the prediction is not a label map"):
        segmentation_by_label(GOOD, with_value(bad), ONES)
