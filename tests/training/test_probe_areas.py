"""The two things called mDice differ, as a case by hand shows; resamples of patients need only the areas."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, jaccard_score

from medaudit.errors import DataError
from medaudit.statistics.patients import patient_weights
from medaudit.training.probes.areas import IMAGES, IOU, SUMMED, areas, dice_of_images, overlap, overlap_draws


def test_a_large_object_found_and_a_small_one_missed_is_half_by_images_and_nearly_all_by_areas():
    wanted = np.zeros((2, 10, 10), dtype=int)
    wanted[0, :9] = 1  # 90 pixels, all found
    wanted[1, 0, :10] = 1  # 10 pixels, none found
    found = wanted.copy()
    found[1] = 0
    scores = overlap(areas(found, wanted, 2))
    assert scores[IMAGES][1] == pytest.approx(0.5)
    assert scores[SUMMED][1] == pytest.approx(2 * 90 / (90 + 100))
    assert scores[IOU][1] == pytest.approx(0.9)


def test_sums_are_scikit_learns_f1_and_jaccard_of_all_pixels():
    rng = np.random.default_rng(0)
    found, wanted = rng.integers(0, 3, (2, 5, 6, 7))
    scores = overlap(areas(found, wanted, 3))
    np.testing.assert_allclose(scores[SUMMED], f1_score(wanted.ravel(), found.ravel(), average=None))
    np.testing.assert_allclose(scores[IOU], jaccard_score(wanted.ravel(), found.ravel(), average=None))
    each = [f1_score(w.ravel(), f.ravel(), average=None) for f, w in zip(found, wanted, strict=True)]
    np.testing.assert_allclose(scores[IMAGES], np.mean(each, axis=0))


def test_an_image_without_the_class_in_either_map_is_no_part_of_its_mean():
    found = np.array([[[1, 0]], [[0, 0]]])
    counted = areas(found, found, 2)
    assert np.isnan(dice_of_images(counted)[1, 1])
    assert overlap(counted)[IMAGES][1] == 1.0


def test_a_resample_is_the_overlap_of_its_images_repeated():
    rng = np.random.default_rng(1)
    found, wanted = rng.integers(0, 3, (2, 8, 4, 4))
    counted = areas(found, wanted, 3)
    cluster, weights = patient_weights(list("aabbccdd"), 6, seed=0)
    drawn = overlap_draws(counted, cluster, weights)
    for b in range(6):
        alone = overlap(counted[np.repeat(np.arange(8), weights[b, cluster])])
        for name in (IMAGES, SUMMED, IOU):
            np.testing.assert_allclose(drawn[name][b], alone[name])


def test_labels_that_are_no_class_are_refused():
    with pytest.raises(DataError, match="wanted labels run from 0 to 3"):
        areas(np.zeros((1, 2, 2), dtype=int), np.full((1, 2, 2), 3) * np.eye(2, dtype=int), 3)
