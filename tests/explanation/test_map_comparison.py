"""Measures of maps against scipy, scikit-image and brute force; verdicts by simulation; shares of variance."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats
from skimage.metrics import structural_similarity

from medaudit.errors import DataError, UsageError
from medaudit.explanation.warrants import comparison as c
from medaudit.explanation.warrants.anova import sensitivity_profile


@pytest.fixture(scope="module")
def maps():
    """Return pairs of maps full of ties: without any, with some, with a background of zeros, one that is constant."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 5, 6, 7))
    a[1], b[1] = np.round(2 * a[1]), np.round(2 * b[1])
    a[2, :4], b[2, :3] = 0, 0
    a[3], b[3] = np.round(a[3]), -np.round(a[3])
    a[4] = 0.1
    return a, b


def test_correlations_are_those_of_scipy(maps):
    a, b = maps
    flat = [(x.ravel(), y.ravel()) for x, y in zip(a[:4], b[:4], strict=True)]
    np.testing.assert_allclose(c.spearman(*maps)[:4], [stats.spearmanr(x, y)[0] for x, y in flat])
    np.testing.assert_allclose(c.pearson(*maps)[:4], [stats.pearsonr(x, y)[0] for x, y in flat])
    np.testing.assert_allclose(c.kendall(*maps)[:4], [stats.kendalltau(x, y)[0] for x, y in flat])
    of_absolute = [stats.spearmanr(np.abs(x), np.abs(y))[0] for x, y in flat]
    np.testing.assert_allclose(c.spearman(torch.from_numpy(a), b, absolute=True)[:4], of_absolute)
    union = [(x[(x != 0) | (y != 0)], y[(x != 0) | (y != 0)]) for x, y in flat]
    np.testing.assert_allclose(c.spearman(a, b, support=True)[:4], [stats.spearmanr(x, y)[0] for x, y in union])
    for of in (c.spearman, c.pearson, c.kendall):
        assert np.isnan(of(a, b)[4])
    assert c.cosine(a, -3 * a) == pytest.approx(-np.ones(5))
    with pytest.raises(DataError, match="same units"):
        c.spearman(a, b[:, :5])
    with pytest.raises(DataError, match="not finite, the first of image 2"):
        c.pearson(a, np.where(np.arange(5)[:, None, None] == 2, np.nan, b))


def test_kendall_of_many_units_and_few():
    rng = np.random.default_rng(1)
    for size in (2, 3, 64, 65, 3_000):
        a, b = rng.integers(0, max(2, size // 2), (2, 3, size)).astype(float)
        np.testing.assert_allclose(c.kendall(a, b), [stats.kendalltau(x, y)[0] for x, y in zip(a, b, strict=True)])


def test_agreements_are_those_of_their_definitions(maps):
    a, b = maps
    share = c.pairwise_agreement(a, b, absolute=False)
    for x, y, found in zip(a, b, share, strict=True):
        pairs = itertools.combinations(zip(x.ravel(), y.ravel(), strict=True), 2)
        assert found == pytest.approx(np.mean([np.sign(p[0] - q[0]) == np.sign(p[1] - q[1]) for p, q in pairs]))
    assert share[0] == pytest.approx((stats.kendalltau(a[0].ravel(), b[0].ravel())[0] + 1) / 2)
    # The example that OpenXAI's code calls full agreement: a tie in one, an order in the other.
    assert c.pairwise_agreement([[1.0, 1.0]], [[2.0, 1.0]])[0] == 0
    one, other = np.array([[5.0, -4, 3, 2, 1, 0]]), np.array([[5.0, 4, 2, 3, 0, 9]])
    # The top four of the one are 0 1 2 3, of the other 5 0 1 3.
    assert c.feature_agreement(one, other, 4)[0] == 3 / 4
    assert c.rank_agreement(one, other, 4)[0] == 1 / 4
    assert c.sign_agreement(one, other, 4)[0] == 2 / 4
    assert c.signed_rank_agreement(one, other, 4)[0] == 1 / 4
    # Nothing is among the most important for being 0.
    assert c.feature_agreement([[1.0, 0, 0, 0]], [[1.0, 0, 0, 0]], 3)[0] == 1
    assert c.top_iou(one, other, 0.5)[0] == 1 / 5
    with pytest.raises(UsageError, match="1 to 6"):
        c.rank_agreement(one, other, 7)


def test_where_the_mass_lies():
    a, b = np.zeros((2, 1, 8, 8))
    a[0, 2, 3], b[0, 5, 7] = 2.0, -1.0
    assert c.centre_shift(a, b, (0.5, 2.0))[0] == pytest.approx(np.hypot(3 * 0.5, 4 * 2.0))
    mask = np.zeros((8, 8), dtype=bool)
    mask[:4] = True
    assert c.mass_share(a + b, mask)[0] == pytest.approx(2 / 3)
    assert c.mass_share(a + b, mask, kind="positive")[0] == 1
    with pytest.raises(DataError, match="expected"):
        c.mass_share(a, mask[:4])


def test_ssim_is_that_of_scikit_image(maps):
    a, b = np.random.default_rng(2).standard_normal((2, 3, 16, 12))
    wide = np.maximum(a, b).max((1, 2)) - np.minimum(a, b).min((1, 2))
    wanted = [structural_similarity(x, y, data_range=r) for x, y, r in zip(a, b, wide, strict=True)]
    np.testing.assert_allclose(c.ssim(a, b), wanted)


def test_effects_of_nothing_are_rarely_called_effects():
    rng = np.random.default_rng(3)
    verdicts = []
    for draw in range(500):
        # Patients differ in how noisy their maps are; both sides are reruns of one configuration.
        truth, spread = rng.standard_normal((12, 20)), rng.uniform(0.2, 1.5, (12, 1))
        runs = truth + spread * rng.standard_normal((4, 12, 20))
        verdicts.append(c.effect(runs[:2], runs[2:], similarity="pearson", resamples=200, seed=draw).verdict)
    assert 1 - np.mean(np.isin(verdicts, ("indistinguishable", "insufficient"))) <= 0.05


def test_effects_and_their_floor():
    rng = np.random.default_rng(4)
    truth = rng.standard_normal((30, 40))

    def runs(of, sd=0.3):
        return [of + sd * rng.standard_normal(of.shape) for _ in range(3)]

    assert c.effect(runs(truth), runs(truth)).verdict == "indistinguishable"
    other = c.effect(runs(truth), runs(truth + rng.standard_normal(truth.shape)))
    assert (other.verdict, other.beyond.n) == ("differs", 30)
    assert 0.02 < other.floor.mean() < 0.2
    assert c.effect(runs(truth), runs(-truth)).verdict == "reverses"
    assert c.effect([truth], [truth]).verdict == "indistinguishable"
    assert c.effect(runs(truth), runs(truth), patients=["a", "b"] * 15).verdict == "insufficient"
    assert other.as_dict()["verdict"] == "differs"
    with pytest.raises(UsageError, match="expected one of spearman"):
        c.effect([truth], [truth], similarity="r2")
    matrix = c.agreement_matrix([truth, -truth, truth], "cosine")[..., 0]
    np.testing.assert_allclose(matrix, [[1, -1, 1], [-1, 1, -1], [1, -1, 1]])
    np.testing.assert_allclose(c.flip_rate([["yes", "no"], ["yes", "yes"], ["yes", "no"]]), [0, 2 / 3])


def test_shares_of_a_factorial_are_those_that_were_planted():
    """Orthogonal effects of known variance: f = sum of what each atom, and each two, do."""
    rng = np.random.default_rng(5)
    levels, n, units = (2, 3, 4), 6, 50
    effects = {}
    for which in ((0,), (1,), (2,), (0, 1), (1, 2)):
        part = rng.standard_normal((*(levels[k] if k in which else 1 for k in range(3)), n, units))
        for k in which:  # no part of it is an effect of fewer atoms
            part = part - part.mean(axis=k, keepdims=True)
        effects[which] = part * rng.uniform(0.3, 1.5)
    maps = sum(effects.values()) + rng.standard_normal((n, units))
    variance = {k: np.square(v).sum(-1).mean((0, 1, 2)) for k, v in effects.items()}
    total = sum(variance.values())
    found = sensitivity_profile(maps, ("absence", "locality", "shown"), normalise="none", pairs=True, at_once=4)
    for k in range(3):
        np.testing.assert_allclose(found.first[k], variance[(k,)] / total)
        np.testing.assert_allclose(found.total[k], sum(v for which, v in variance.items() if k in which) / total)
    both = found.pairs["absence", "locality"]
    assert both.value == pytest.approx((variance[(0, 1)] / total).mean())
    assert found.largest == max(found.total_order, key=lambda name: found.total_order[name].value)
    assert found.interactions.value == pytest.approx(((variance[(0, 1)] + variance[(1, 2)]) / total).mean())


def test_a_factorial_of_which_some_cannot_be_had():
    rng = np.random.default_rng(6)
    a, b = 3 * rng.standard_normal((3, 1, 20, 30)), rng.standard_normal((1, 4, 20, 30))
    maps = a + b
    full = sensitivity_profile(maps, ("absence", "shown"), normalise="none")
    holes = maps.copy()
    holes[0, 0] = holes[2, 1] = holes[1, 3] = np.nan
    part = sensitivity_profile(holes, ("absence", "shown"), normalise="none")
    np.testing.assert_allclose(part.first, full.first, atol=1e-10)
    np.testing.assert_allclose(part.total, full.first, atol=1e-10)
    assert (part.filled, part.largest, part.leads, full.leads) == (3, "absence", True, True)
    holes[1:, :2] = holes[0, 2:] = np.nan  # no path from some levels to the others
    with pytest.raises(DataError, match="cannot be told apart"):
        sensitivity_profile(holes, ("absence", "shown"))
    holes = maps.copy()
    holes[0, 0, 3, 4] = np.nan
    with pytest.raises(DataError, match="not finite"):
        sensitivity_profile(holes, ("absence", "shown"))
    with pytest.raises(UsageError, match="two levels"):
        sensitivity_profile(maps[:1], ("absence", "shown"))
    # What only changes the scale is no change of a normalised map.
    scaled = np.stack([maps, 7 * maps])
    assert sensitivity_profile(scaled, ("scale", "absence", "shown")).total_order["scale"].value < 1e-12
    same = np.broadcast_to(maps[:1, :1], maps.shape)
    with pytest.raises(DataError, match="nothing to share out"):
        sensitivity_profile(same, ("absence", "shown"))


def test_intervals_of_shares_cover():
    rng = np.random.default_rng(7)

    def shares(n):
        a, b = rng.standard_normal((2, 1, n, 5)), rng.standard_normal((1, 3, n, 5)) * rng.exponential(1, (1, 1, n, 1))
        return sensitivity_profile(a + b, ("a", "b"), normalise="none", resamples=300).first_order["a"]

    truth = shares(3_000).value
    found = [shares(30) for _ in range(100)]
    assert np.mean([one.low <= truth <= one.high for one in found]) >= 0.9
