"""Localisation against scikit-learn and by hand, beside annotators; warrants and how they are read."""

import json

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from sklearn.metrics import average_precision_score, roc_auc_score

from medaudit.errors import DataError, UsageError
from medaudit.explanation.warrants import localisation as loc
from medaudit.explanation.warrants.maps import _widened, mean_estimate
from medaudit.explanation.warrants.warrant import RULES, Warrant, judged, shares_assumption


def test_areas_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    maps, masks = np.round(rng.standard_normal((6, 9, 8)), 1), rng.random((6, 9, 8)) < 0.3
    pairs = [(m.ravel(), x.ravel()) for m, x in zip(masks, maps, strict=True)]
    np.testing.assert_allclose(loc.mask_auroc(maps, masks), [roc_auc_score(m, x) for m, x in pairs])
    np.testing.assert_allclose(loc.mask_auprc(maps, masks), [average_precision_score(m, x) for m, x in pairs])
    # Ties: the mean over orders of the tied.
    shuffled = [rng.permutation(72) for _ in range(2_000)]
    best = [np.lexsort((order, -pairs[0][1]))[: masks[0].sum()] for order in shuffled]
    hit = np.mean([pairs[0][0][which].mean() for which in best])
    assert loc.rank_accuracy(maps, masks)[0] == pytest.approx(hit, abs=0.01)


def test_known_maps():
    mask = np.zeros((3, 8, 8), dtype=bool)
    mask[:2, 2:4, 2:6] = True
    maps = np.zeros((3, 8, 8))
    maps[0, 2:4, 2:6] = 1.0  # the mask itself
    maps[1, 2, 2:4], maps[1, 7, 0], maps[1, 0, 0] = 1.0, 3.0, -9.0  # points elsewhere
    found = loc.localise(torch.from_numpy(maps), torch.from_numpy(mask))
    one = {name: value[0] for name, value in found.values.items()}
    for name in ("pointing", "mass", "rank", "iou", "auroc", "auprc"):
        assert one[name][0] == 1
        assert np.isnan(one[name][2])
    assert (one["pointing"][1], one["mass"][1]) == (0, 2 / 5)
    assert found.empty == (1,)
    assert found.chance[0, 0] == 8 / 64
    assert np.isnan(found.ceiling["iou"]).all()
    # The largest value is 4 rows and 2 columns from the mask: 4 x 1 mm and 2 x 3 mm.
    far = np.hypot(4, 6)
    assert loc.pointing(maps, mask, spacing=(1, 3), tolerance=far - 0.01)[1] == 0
    assert loc.pointing(maps, mask, spacing=(1, 3), tolerance=far)[1] == 1
    apart = ndimage.distance_transform_edt(~mask[0], sampling=(1, 3))
    flat = loc.pointing(np.zeros((3, 8, 8)), mask, spacing=(1, 3), tolerance=4.2)  # all places have the largest value
    assert flat[0] == pytest.approx((apart <= 4.2).mean())
    for wrong in (mask[:, :4], np.stack([mask, mask])[:, :2], mask * 2):
        with pytest.raises(DataError):
            loc.localise(maps, wrong)
    with pytest.raises(DataError, match="empty"):
        loc.localise(maps, mask & False)


def test_annotators_are_the_ceiling():
    masks = np.zeros((3, 20, 8, 8), dtype=bool)
    masks[0, :, 2:6, 2:6], masks[1, :, 2:6, 3:7] = True, True
    masks[2, :10, 2:6, 2:6] = True  # the third marks half of the images
    found = loc.localise(masks[0].astype(float), masks)
    assert found.empty == (0, 0, 10)
    np.testing.assert_allclose(found.ceiling["iou"][0], [(12 / 20 + 1) / 2] * 10 + [12 / 20] * 10)
    np.testing.assert_allclose(found.ceiling["mass"][1], 12 / 16)
    assert [one.n for one in found.estimates("iou", patients=np.arange(20) // 2)] == [10, 10, 5]
    below = found.below_ceiling("iou")
    assert below.value > 0
    assert judged("annotator-ceiling", below).passed


def test_intervals_are_of_patients():
    rng = np.random.default_rng(1)
    patient, values = np.repeat(np.arange(15), 4), np.repeat(rng.standard_normal(15), 4)
    wide, narrow = mean_estimate(values, patient), mean_estimate(values)
    assert (wide.n, narrow.n) == (15, 60)
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)
    values[:4] = np.nan
    part = mean_estimate(values, patient)
    assert (part.n, part.extra["left_out"]) == (14, 4)
    assert mean_estimate([0.0] * 12).high == 0
    assert mean_estimate([1.0] * 12, share=True).low < 0.95
    covered = [mean_estimate(rng.integers(0, 2, 40) * 1.0 - 0.5, resamples=300, seed=k) for k in range(100)]
    assert np.mean([one.low <= 0 <= one.high for one in covered]) >= 0.88


def test_warrants_are_read_by_their_rules():
    rng = np.random.default_rng(2)
    near = rng.normal(0.1, 0.05, 30)
    assert judged("randomisation", near).passed
    assert judged("randomisation", near + 0.8).passed is False
    assert judged("randomisation", near + 0.2).passed is None
    assert judged("randomisation", near[:5]).passed is None
    assert judged("deletion", near).passed
    assert judged("deletion", -near).passed is False
    assert judged("deletion", np.zeros(30)).passed is None
    assert judged("intervention", -near).passed
    assert judged("intervention", rng.normal(0, 1, 30)).passed is None
    gap = judged("completeness", [0.001, 0.02, np.nan], internal=True)
    assert (gap.value, gap.passed, gap.interval, gap.n, gap.internal) == (0.02, False, None, 2, True)
    assert "1 of 3 images left out" in gap.note
    assert judged("determinism", np.ones(4, dtype=bool)).passed
    assert judged("pointing", np.ones(30, dtype=bool)).passed is None  # nobody said what is enough
    assert judged("pointing", np.ones(30, dtype=bool), threshold=0.3).passed
    assert judged("rashomon-spread", near).passed is None
    told = json.loads(json.dumps(judged("completeness", [np.inf]).as_dict()))
    assert told["value"] is None
    assert told["passed"] is False
    with pytest.raises(UsageError, match="expected one of completeness"):
        Warrant("faith", 1.0, None, None, None, 3)
    with pytest.raises(DataError, match="no number"):
        judged("deletion", [np.nan])
    assert len(RULES) == 29


def test_what_a_test_shares_with_the_method():
    deletion = {"absence": "constant(black)", "locality": "rows"}
    assert shares_assumption(deletion, {"absence": "constant(black)", "locality": "path(32)"}) is True
    assert shares_assumption(deletion, {"absence": "blur(3)", "locality": "path(32)"}) is False
    assert shares_assumption({"absence": "none"}, {"absence": "none"}) is False
    assert shares_assumption({}, {"absence": "none"}) is None


@pytest.mark.parametrize("n", [3, 10, 32, 1_000])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_the_widened_level_makes_of_a_normal_interval_that_of_student(n, level):
    """A bootstrap's spread is that of the plug-in SD: its normal interval at the widened level is Student's of s."""
    values = np.random.default_rng(n).normal(size=n)
    reach = stats.norm.ppf((1 + _widened(level, n)) / 2) * values.std() / np.sqrt(n)
    low, high = stats.t.interval(level, n - 1, values.mean(), stats.sem(values))
    assert 2 * reach == pytest.approx(high - low)


def test_two_patients_have_an_interval_between_them():
    found = mean_estimate([0.0, 1.0])
    assert (found.low, found.high) == (0.0, 1.0)
