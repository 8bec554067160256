"""What each policy says of a missed lesion, of a false alarm and of two empty masks."""

import math

import numpy as np
import pytest
from made_masks import box

from medaudit.errors import UsageError
from medaudit.metrics import segmentation

LESION = box((10, 20, 30), (2, 3, 4), (5, 6, 7))
NOTHING = np.zeros_like(LESION)
SPACING = (3.0, 2.0, 1.0)
DIAGONAL = math.sqrt(30**2 + 40**2 + 30**2)
OVERLAP = ("dice", "iou", "nsd_1mm", "nsd_2mm")
DISTANCES = ("hd_mm", "hd95_mm", "assd_mm", "masd_mm")

BOTH = {"nan": (math.nan, math.nan), "penalise": (1.0, 0.0), "ignore": (math.nan, math.nan)}
ONE = {"nan": (0.0, math.inf), "penalise": (0.0, DIAGONAL), "ignore": (math.nan, math.nan)}


@pytest.mark.parametrize("surface", ["voxel", "area"])
@pytest.mark.parametrize("empty", ["nan", "penalise", "ignore"])
def test_every_policy_gives_its_row_of_the_table(empty, surface):
    pairs = ((NOTHING, NOTHING, BOTH), (LESION, NOTHING, ONE), (NOTHING, LESION, ONE))
    for reference, prediction, table in pairs:
        overlap, distance = table[empty]
        result = segmentation(reference, prediction, SPACING, empty=empty, surface=surface)
        for name in OVERLAP:
            assert result[name] == pytest.approx(overlap, nan_ok=True), name
        for name in DISTANCES:
            assert result[name] == pytest.approx(distance, nan_ok=True), name


@pytest.mark.parametrize("empty", ["nan", "penalise", "ignore"])
def test_a_missed_lesion_is_never_at_distance_zero(empty):
    result = segmentation(LESION, NOTHING, SPACING, empty=empty)
    assert not any(result[name] == 0 for name in DISTANCES)


def test_precision_without_a_prediction_is_undefined_and_recall_zero():
    missed = segmentation(LESION, NOTHING, SPACING)
    assert math.isnan(missed["precision"])
    assert missed["recall"] == 0
    false_alarm = segmentation(NOTHING, LESION, SPACING)
    assert false_alarm["precision"] == 0
    assert math.isnan(false_alarm["recall"])
    assert segmentation(LESION, NOTHING, SPACING, empty="penalise")["precision"] == 0


def test_counts_and_volumes_stay_what_they_are_whatever_the_policy():
    for empty in ("nan", "penalise", "ignore"):
        result = segmentation(LESION, NOTHING, SPACING, empty=empty)
        assert result["reference_voxels"] == 27
        assert result["reference_volume_ml"] == pytest.approx(27 * 6 / 1000)
        assert (result["prediction_voxels"], result["true_positive_voxels"]) == (0, 0)
        assert (result["reference_lesions"], result["detected_lesions"], result["false_positive_lesions"]) == (1, 0, 0)
        assert math.isnan(result["prediction_sphericity"])


def test_empty_masks_return_the_same_names_as_others():
    names = list(segmentation(LESION, LESION, SPACING))
    assert list(segmentation(NOTHING, NOTHING, SPACING)) == names
    assert list(segmentation(LESION, NOTHING, SPACING, empty="ignore")) == names
    flat = list(segmentation(LESION[3], LESION[3], SPACING[1:]))
    assert list(segmentation(NOTHING[3], NOTHING[3], SPACING[1:], empty="penalise")) == flat


def test_missed_lesions_of_the_young_make_their_distances_worse_not_better():
    """The rule that scores an empty prediction 0 mm would show the group with the missed lesions ahead."""
    rng = np.random.default_rng(0)
    hd95 = {"young": [], "older": []}
    for group, missed in (("young", 0.1), ("older", 0.0)):
        for case in range(60):
            prediction = np.roll(LESION, int(rng.integers(1, 4)), axis=1)
            if case < 60 * missed:
                prediction = NOTHING
            hd95[group].append(segmentation(LESION, prediction, SPACING, empty="penalise")["hd95_mm"])
    young, older = np.mean(hd95["young"]), np.mean(hd95["older"])
    as_zero = np.mean([0 if distance == pytest.approx(DIAGONAL) else distance for distance in hd95["young"]])
    assert young > older > as_zero


def test_an_unknown_policy_is_refused_with_those_on_offer():
    with pytest.raises(UsageError, match="nan, penalise, ignore"):
        segmentation(LESION, LESION, SPACING, empty="zero")
    with pytest.raises(UsageError, match="pooled, max"):
        segmentation(LESION, LESION, SPACING, hd95="mean")
    with pytest.raises(UsageError, match="voxel, area"):
        segmentation(LESION, LESION, SPACING, surface="mesh")
    for tolerances in ((-1.0,), 1.0, (math.nan,)):
        with pytest.raises(UsageError, match="tolerances_mm"):
            segmentation(LESION, LESION, SPACING, tolerances_mm=tolerances)
