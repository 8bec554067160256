"""The normalised Dice of Raina et al. (2023)."""

import numpy as np
import pytest

from medaudit.errors import DataError
from medaudit.metrics import ndsc, reference_fraction, segmentation


def test_equals_dice_where_every_object_fills_the_cohorts_mean_share():
    counts = np.array([[40, 50, 45, 1000], [10, 50, 90, 1000], [0, 50, 5, 1000]])
    dice = 2 * counts[:, 0] / (counts[:, 1] + counts[:, 2])
    assert ndsc(*counts.T) == pytest.approx(dice)


def test_removes_the_penalty_on_small_objects():
    """Same recall, same false positive rate outside of the object, ten times the size: Dice differs, nDSC does not."""
    n, recall, false_rate = 1_000_000, 0.8, 0.01
    size = np.array([1_000, 10_000])
    tp = recall * size
    predicted = tp + false_rate * (n - size)
    dice = 2 * tp / (size + predicted)
    assert dice[1] > 3 * dice[0]
    values = ndsc(tp, size, predicted, [n, n])
    assert values[0] == pytest.approx(values[1])


def test_follows_its_formula_from_the_columns_of_segmentation():
    rng = np.random.default_rng(0)
    rows = [segmentation(rng.random((9, 9)) < share, rng.random((9, 9)) < 0.3, 1) for share in (0.1, 0.4)]
    columns = ("true_positive_voxels", "reference_voxels", "prediction_voxels", "image_voxels")
    tp, g, p, n = (np.array([row[name] for row in rows]) for name in columns)
    r = np.mean(g / n)
    assert reference_fraction(g, n) == pytest.approx(r)
    kappa = (1 - r) * g / (r * (n - g))
    assert ndsc(tp, g, p, n) == pytest.approx(2 * tp / (kappa * (p - tp) + 2 * tp + (g - tp)))
    assert ndsc(tp, g, p, n, r=0.001) != pytest.approx(ndsc(tp, g, p, n))


def test_empty_and_full_references():
    values = ndsc([0, 0, 100, 50], [0, 0, 100, 100], [5, 0, 100, 50], [100] * 4, r=0.1)
    assert values == pytest.approx([0, np.nan, 1, 2 / 3], nan_ok=True)


def test_impossible_counts_and_shares_are_refused():
    with pytest.raises(DataError, match="voxel counts"):
        ndsc([5], [4], [9], [100])
    with pytest.raises(DataError, match="r is 0"):
        ndsc([0], [0], [9], [100])
