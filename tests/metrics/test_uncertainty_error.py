"""Sparsification against its definition read literally, and maps against scikit-learn and planted boxes."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, jaccard_score, roc_auc_score

from medaudit.errors import DataError, UsageError
from medaudit.metrics.uncertainty_error import DETECTION, pixel_detection, pixel_sparsification, sparsification


def literal_curve(order: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Return the mean error of the n, n - 1, ..., 1 cases of lowest order over that of all."""
    rising = error[np.argsort(order)]
    return np.array([rising[:k].mean() for k in range(len(error), 0, -1)]) / error.mean()


@pytest.mark.parametrize("seed", range(4))
def test_curves_and_ause_are_what_taking_cases_out_one_by_one_gives(seed: int) -> None:
    rng = np.random.default_rng(seed)
    error = rng.gamma(2, 30, 50)
    uncertainty = error + rng.normal(0, 60, 50)
    wanted, oracle = literal_curve(uncertainty, error), literal_curve(error, error)
    found = sparsification(uncertainty, error, points=50)
    np.testing.assert_allclose(found.removed, np.arange(50) / 50)
    np.testing.assert_allclose(found.error, wanted, rtol=1e-9)
    np.testing.assert_allclose(found.oracle, oracle, rtol=1e-9)
    assert found.ause == pytest.approx((wanted - oracle).mean(), rel=1e-9)
    assert sparsification(uncertainty, error, points=7).ause == found.ause


def test_ties_are_the_mean_over_their_orders() -> None:
    rng = np.random.default_rng(5)
    uncertainty, error = rng.integers(0, 4, 40).astype(float), rng.random(40)
    drawn = [
        (literal_curve(uncertainty + 0.5 * rng.random(40), error) - literal_curve(error, error)).mean()
        for _ in range(2000)
    ]
    assert sparsification(uncertainty, error).ause == pytest.approx(
        np.mean(drawn), abs=4 * np.std(drawn) / np.sqrt(len(drawn))
    )


def test_the_errors_own_order_has_no_ause_and_no_order_a_flat_curve() -> None:
    error = np.random.default_rng(1).gamma(1, 1, 300)
    assert sparsification(np.log(error), error).ause == pytest.approx(0, abs=1e-12)
    flat = sparsification(np.zeros(300), error)
    np.testing.assert_allclose(flat.error, 1, rtol=1e-12)
    worst = sparsification(-error, error)
    assert worst.ause > flat.ause > 0
    assert (np.diff(worst.error) > 0).all()


def test_units_of_errors_and_of_uncertainties_do_not_matter() -> None:
    rng = np.random.default_rng(2)
    error, uncertainty = rng.random(60), rng.random(60)
    one, other = sparsification(uncertainty, error), sparsification(np.exp(3 * uncertainty), 1e-6 * error)
    np.testing.assert_allclose(one.error, other.error, rtol=1e-9)
    assert one.ause == pytest.approx(other.ause, rel=1e-9)


def test_each_map_is_taken_by_itself() -> None:
    rng = np.random.default_rng(3)
    maps, errors = rng.random((3, 6, 5)), rng.random((3, 6, 5))
    found = pixel_sparsification(maps, errors, points=10)
    for k in range(3):
        alone = sparsification(maps[k].ravel(), errors[k].ravel(), points=10)
        assert found.ause[k] == alone.ause
        assert np.array_equal(found.error[k], alone.error)
        assert np.array_equal(found.oracle[k], alone.oracle)


@pytest.mark.parametrize("decimals", [1, 8])
def test_detection_is_that_of_scikit_learn(decimals: int) -> None:
    rng = np.random.default_rng(4)
    masks = rng.random((4, 12, 15)) < 0.2
    maps = np.round(rng.random(masks.shape) + 0.4 * masks, decimals)
    found = pixel_detection(maps, masks, quantile=0.8)
    assert list(found) == list(DETECTION)
    for k in range(4):
        scores, truth = maps[k].ravel(), masks[k].ravel()
        assert found["auroc"][k] == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
        assert found["average_precision"][k] == pytest.approx(average_precision_score(truth, scores), abs=1e-12)
        best = max(jaccard_score(truth, scores >= cut) for cut in np.unique(scores))
        assert found["best_iou"][k] == pytest.approx(best, abs=1e-12)
        fixed = jaccard_score(truth, scores > np.quantile(scores, 0.8))
        assert found["iou"][k] == pytest.approx(fixed, abs=1e-12)
        assert found["prevalence"][k] == truth.mean()


def test_a_planted_box_is_found_and_a_map_turned_over_is_worse_than_chance() -> None:
    masks = np.zeros((1, 20, 20), bool)
    masks[0, 5:9, 5:10] = True  # 20 pixels, 5 % of them
    maps = np.random.default_rng(0).random(masks.shape) + 2 * masks
    found = pixel_detection(maps, masks)
    assert [float(found[name][0]) for name in DETECTION] == [1, 1, 1, 1, 0.05]
    over = pixel_detection(-maps, masks)
    assert over["auroc"][0] == 0
    assert over["best_iou"][0] == 0.05  # every pixel flagged


def test_a_flat_map_is_chance_and_an_empty_mask_has_no_number() -> None:
    masks = np.zeros((3, 4, 4), np.uint8)
    masks[0, 0] = 1
    masks[2] = 1
    found = pixel_detection(np.ones((3, 4, 4)), masks)
    assert [float(found[name][0]) for name in DETECTION] == [0.5, 0.25, 0.25, 0, 0.25]
    for name in ("auroc", "average_precision", "best_iou", "iou"):
        assert np.isnan(found[name][1:]).all()
    assert found["prevalence"].tolist() == [0.25, 0, 1]


def test_what_does_not_fit_is_refused() -> None:
    maps, masks = np.random.default_rng(0).random((2, 4, 4)), np.zeros((2, 4, 4), bool)
    holed = maps.copy()
    holed[1, 2, 3] = np.nan
    with pytest.raises(DataError, match="map 1 is NaN at row 2, column 3"):
        pixel_detection(holed, masks)
    with pytest.raises(DataError, match="expected 0 and 1 alone"):
        pixel_detection(maps, masks + 2)
    with pytest.raises(DataError, match=r"expected \(N, H, W\)"):
        pixel_detection(maps, masks[:1])
    for quantile in (0, 1, 95):
        with pytest.raises(UsageError, match="expected above 0 and below 1"):
            pixel_detection(maps, masks, quantile)
    with pytest.raises(DataError, match=r"expected \(N, H, W\)"):
        pixel_sparsification(maps[0], maps[0])
    with pytest.raises(DataError, match=r"image 1: .* NaN"):
        pixel_sparsification(holed, maps)
    for errors in ([-1.0, 1], [0.0, 0], [np.inf, 1]):
        with pytest.raises(DataError, match="expected finite ones, 0 or more, and at least one above 0"):
            sparsification([1, 2], errors)
    with pytest.raises(DataError, match="1 of 2 values of error are NaN, the first at place 1"):
        sparsification([1, 2], [1, np.nan])
    with pytest.raises(DataError, match="expected \\(n,\\) for both"):
        sparsification([1, 2], [1])
    with pytest.raises(UsageError, match="expected 2 or more"):
        sparsification([1, 2], [1, 2], points=1)
