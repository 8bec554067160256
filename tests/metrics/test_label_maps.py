"""Several labels at once are the same as one label after the other."""

import numpy as np
import pytest
from made_masks import blob_pair

from medaudit.metrics import segmentation, segmentation_by_label

SPACING = (0.8, 1.0, 2.5)
HEART, VESSEL, NODULE = 1, 7, 300


def label_maps(dtype=np.int32):
    maps = []
    for which in (0, 1):
        volume = np.zeros((18, 20, 14), dtype=dtype)
        for seed, label in enumerate((HEART, VESSEL, NODULE)):
            volume[blob_pair(seed, volume.shape)[which]] = label
        maps.append(volume)
    maps[1][maps[1] == NODULE] = 0
    return maps


def assert_equal(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name] == pytest.approx(b[name], rel=1e-12, nan_ok=True), name


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.int64, np.float32])
@pytest.mark.parametrize("order", ["C", "F"])
def test_each_label_is_measured_as_its_own_mask(dtype, order):
    reference, prediction = (np.array(m, order=order) for m in label_maps(dtype))
    options = {"surface": "area", "hd95": "max", "empty": "penalise", "tolerances_mm": (1.5,)}
    results = segmentation_by_label(reference, prediction, SPACING, **options)
    assert list(results) == [HEART, VESSEL, NODULE]
    for label, result in results.items():
        assert_equal(result, segmentation(reference == label, prediction == label, SPACING, **options))
    assert results[NODULE]["dice"] == 0


def test_small_label_maps_of_bytes_and_in_2d():
    reference, prediction = (np.where(m == NODULE, 9, m).astype(np.uint8)[5] for m in label_maps())
    for label, result in segmentation_by_label(reference, prediction, 0.5).items():
        assert_equal(result, segmentation(reference == label, prediction == label, 0.5))


def test_chosen_labels_come_in_their_order_and_absent_ones_as_empty():
    results = segmentation_by_label(*label_maps(), SPACING, labels=[VESSEL, 42, HEART])
    assert list(results) == [VESSEL, 42, HEART]
    assert np.isnan(results[42]["dice"])
    assert results[42]["reference_voxels"] == 0


def test_maps_without_labels_have_none_to_measure():
    nothing = np.zeros((5, 5), dtype=np.uint8)
    assert segmentation_by_label(nothing, nothing, 1) == {}


def test_a_label_that_the_other_maps_type_cannot_hold_is_missing_there():
    reference, prediction = label_maps()
    results = segmentation_by_label(reference, prediction.astype(np.uint8), SPACING)
    assert results[NODULE]["prediction_voxels"] == 0
    assert results[NODULE]["hd_mm"] == np.inf
    assert segmentation_by_label(reference > 0, prediction > 0, SPACING).keys() == {1}
