"""Success at a threshold, top fractions with ties, and sweeps."""

import numpy as np
import pytest

from medaudit.statistics import compare, group_means, success, threshold_sweep, top_fraction


@pytest.mark.parametrize("n", [100, 101, 102, 103, 1503])
def test_top_quarter_without_ties_is_beyond_the_75th_percentile(n):
    scores = np.random.default_rng(n).random(n)
    np.testing.assert_array_equal(top_fraction(scores) == 1, scores >= np.quantile(scores, 0.75))
    distances = 10 * scores
    np.testing.assert_array_equal(
        top_fraction(distances, better="lower") == 1, distances <= np.quantile(distances, 0.25)
    )


def test_ties_at_the_boundary_are_included_excluded_or_split():
    scores = np.array([1.0, 1.0, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5])
    assert top_fraction(scores).sum() == 3
    assert top_fraction(scores, ties="exclude").sum() == 0
    np.testing.assert_allclose(top_fraction(scores, ties="split"), [2 / 3] * 3 + [0] * 5)


def test_split_ties_give_exactly_the_fraction():
    scores = np.random.default_rng(0).integers(0, 5, 1503).astype(float)
    scores[:7] = np.nan
    shares = top_fraction(scores, ties="split")
    assert np.nansum(shares) == pytest.approx(0.25 * 1496)
    assert np.isnan(shares[:7]).all()


def test_the_rule_for_ties_can_flip_the_disadvantaged_group():
    # 51 of 200 shall succeed; 50 scores are 1.0, then 60 of group 1 tie.
    scores = np.concatenate([np.full(40, 1.0), np.full(60, 0.5), np.full(10, 1.0), np.full(60, 0.95), np.full(30, 0.5)])
    comparison = compare(np.repeat([0, 1], 100))
    included, _ = group_means(top_fraction(scores, 0.255), comparison)
    excluded, _ = group_means(top_fraction(scores, 0.255, ties="exclude"), comparison)
    np.testing.assert_allclose(included, [[0.4, 0.7]])
    np.testing.assert_allclose(excluded, [[0.4, 0.1]])


def test_infinite_distance_fails_and_missing_stays_missing():
    np.testing.assert_array_equal(success([3.0, 12.0, np.inf, np.nan], 10.0, better="lower"), [1, 0, 0, np.nan])
    np.testing.assert_array_equal(top_fraction([1.0, 2.0, np.inf, np.inf], 0.5, better="lower"), [1, 1, 0, 0])


def test_the_threshold_itself_succeeds_only_if_not_strict():
    np.testing.assert_array_equal(success([0.8], 0.8), [0])
    np.testing.assert_array_equal(success([0.8], 0.8, strict=False), [1])


def test_sweep_equals_one_threshold_at_a_time():
    rng = np.random.default_rng(1)
    scores, groups = rng.beta(4, 1, 300), rng.integers(0, 3, 300)
    sweep = threshold_sweep(scores, compare(groups), [0.7, 0.8, 0.9], n_resamples=500)
    for k, cut in enumerate([0.7, 0.8, 0.9]):
        rates = np.array([(scores[groups == g] > cut).mean() for g in range(3)])
        np.testing.assert_allclose(sweep.rates[k], rates)
        assert sweep.dpd[k] == pytest.approx(np.ptp(rates))
        assert sweep.dir[k] == pytest.approx(rates.min() / rates.max())
    assert np.all(sweep.dpd_low <= sweep.dpd)
    assert np.all(sweep.dpd <= sweep.dpd_high)
    assert np.all((sweep.dir_low <= sweep.dir) & (sweep.dir <= sweep.dir_high))
    assert np.all((sweep.rates_low < sweep.rates) & (sweep.rates < sweep.rates_high))
