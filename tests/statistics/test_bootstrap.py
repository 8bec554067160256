"""The clustered bootstrap against scipy's, closed forms, and a slow loop written the obvious way."""

import numpy as np
import pytest
from scipy.stats import beta, bootstrap

from medaudit.statistics import (
    bootstrap_means,
    cluster_weights,
    compare,
    gap,
    gap_difference_interval,
    gap_interval,
    pairwise_intervals,
    ratio,
    ratio_interval,
    standard_errors,
)


def difference(means):
    return means[..., 0] - means[..., 1]


@pytest.mark.parametrize(("method", "name"), [("bca", "BCa"), ("percentile", "percentile")])
def test_interval_of_a_difference_agrees_with_scipy(method, name):
    rng = np.random.default_rng(0)
    a, b = rng.gamma(1.0, 1.0, 40), rng.gamma(2.0, 1.0, 60)
    peer = bootstrap(
        (a, b),
        lambda x, y, axis: x.mean(axis=axis) - y.mean(axis=axis),
        n_resamples=40_000,
        method=name,
        rng=np.random.default_rng(1),
    ).confidence_interval
    draws = bootstrap_means(np.concatenate([a, b]), compare(np.repeat([0, 1], [40, 60])), n_resamples=40_000, seed=2)
    low, high = draws.interval(difference, method=method)
    width = peer.high - peer.low
    assert low[0] == pytest.approx(peer.low, abs=0.02 * width)
    assert high[0] == pytest.approx(peer.high, abs=0.02 * width)


def test_bca_and_percentile_differ_where_the_scores_are_skewed():
    scores = np.random.default_rng(3).gamma(0.3, 1.0, 30)
    draws = bootstrap_means(scores, compare(np.zeros(30, int)), n_resamples=20_000, seed=0)
    mean = lambda means: means[..., 0]
    assert draws.interval(mean, method="bca")[1][0] > 1.03 * draws.interval(mean, method="percentile")[1][0]


def test_draws_equal_those_of_resampling_patients_one_by_one():
    rng = np.random.default_rng(4)
    patients = rng.integers(0, 25, 80)
    groups, values = rng.integers(0, 3, 80), rng.normal(size=(80, 2))
    values[rng.random(80) < 0.1, 1] = np.nan
    comparison = compare(groups, 3, clusters=patients)
    weights = np.concatenate([w for _, w in cluster_weights(comparison, 50, 7)])
    draws = bootstrap_means(values, comparison, n_resamples=50, seed=7)
    for b in range(50):
        rows = np.concatenate(
            [np.repeat(np.flatnonzero(comparison.clusters == c), int(k)) for c, k in enumerate(weights[b])]
        )
        for g in range(3):
            expected = np.nanmean(values[rows][groups[rows] == g], axis=0)
            np.testing.assert_allclose(draws.means[b, :, g], expected, atol=2e-6)


def test_how_many_sums_are_held_at_once_changes_no_bit(monkeypatch):
    rng = np.random.default_rng(5)
    comparison = compare(rng.integers(0, 3, 200), 3, clusters=rng.integers(0, 60, 200))
    values = rng.random((200, 9))
    values[rng.random(values.shape) < 0.1] = np.nan
    whole = bootstrap_means(values, comparison, n_resamples=30, seed=1)
    monkeypatch.setattr("medaudit.statistics.bootstrap._SUMMED_CELLS", 400)
    parts = bootstrap_means(values, comparison, n_resamples=30, seed=1)
    np.testing.assert_array_equal(parts.means, whole.means)
    np.testing.assert_array_equal(parts.jackknife, whole.jackknife)
    np.testing.assert_array_equal(parts.thin, whole.thin)


def test_without_a_jackknife_the_percentiles_are_the_same_and_bca_is_refused():
    comparison = compare(np.repeat([0, 1], [30, 40]))
    values = np.random.default_rng(6).random(70)
    with_it = bootstrap_means(values, comparison, n_resamples=100, seed=1)
    without = bootstrap_means(values, comparison, n_resamples=100, seed=1, jackknife=False)
    assert without.jackknife is None
    assert without.interval(gap, method="percentile") == with_it.interval(gap, method="percentile")
    with pytest.raises(ValueError, match="jackknife=True"):
        without.interval(gap)


def test_groups_keep_their_sizes_when_each_patient_is_in_one_group():
    comparison = compare(np.repeat([0, 1, 2], [5, 30, 70]))
    weights = np.concatenate([w for _, w in cluster_weights(comparison, 200, 0)])
    for g, size in enumerate([5, 30, 70]):
        assert np.all(weights[:, comparison.groups == g].sum(axis=1) == size)
    assert weights.var() == pytest.approx(1.0, abs=0.05)


def test_repeated_patients_widen_the_interval_by_the_root_of_the_cluster_size():
    patients = np.repeat(np.arange(300), 4)
    values = np.repeat(np.random.default_rng(5).normal(size=300), 4)
    groups = np.repeat(np.repeat([0, 1], 150), 4)
    naive = standard_errors(bootstrap_means(values, compare(groups), seed=0))
    honest = standard_errors(bootstrap_means(values, compare(groups, clusters=patients), seed=0))
    np.testing.assert_allclose(honest / naive, 2.0, rtol=0.05)


def test_standard_error_is_the_sd_over_root_n():
    rng = np.random.default_rng(6)
    values, groups = rng.normal(size=500), np.repeat([0, 1], 250)
    errors = standard_errors(bootstrap_means(values, compare(groups), seed=0))[0]
    expected = [values[groups == g].std() / np.sqrt(250) for g in range(2)]
    np.testing.assert_allclose(errors, expected, rtol=0.03)


def test_measures_are_paired_so_a_constant_shift_has_no_uncertainty():
    rng = np.random.default_rng(7)
    scores, groups = rng.random(90), rng.integers(0, 3, 90)
    draws = bootstrap_means(np.column_stack([scores, scores - 0.1]), compare(groups, 3), seed=0)
    low, high = draws.interval(lambda means: gap(means[..., 0, :]) - gap(means[..., 1, :]), method="percentile")
    assert abs(low) < 1e-6
    assert abs(high) < 1e-6


def test_the_same_seed_gives_the_same_draws_whatever_the_other_measures_are():
    rng = np.random.default_rng(8)
    scores, groups = rng.random((90, 3)), rng.integers(0, 3, 90)
    together = bootstrap_means(scores, compare(groups, 3), n_resamples=100, seed=5)
    alone = bootstrap_means(scores[:, 1], compare(groups, 3), n_resamples=100, seed=5)
    np.testing.assert_allclose(together.means[:, 1], alone.means[:, 0], atol=1e-6)


def test_gap_interval_of_two_groups_is_that_of_the_absolute_difference():
    rng = np.random.default_rng(9)
    groups = np.repeat([0, 1], 200)
    values = rng.normal(0, 1, 400) + groups
    draws = bootstrap_means(values, compare(groups), seed=0)
    low, high = gap_interval(draws)
    error = np.hypot(*standard_errors(draws)[0])
    centre = gap(draws.observed)[0]
    assert low[0] == pytest.approx(centre - 1.96 * error, rel=0.03)
    assert high[0] == pytest.approx(centre + 1.96 * error, rel=0.03)


def test_gap_interval_reaches_zero_when_nothing_differs_and_percentile_does_not():
    values = np.random.default_rng(10).normal(size=(3, 200))
    values = (values - values.mean(axis=1, keepdims=True)).ravel()
    draws = bootstrap_means(values, compare(np.repeat([0, 1, 2], 200)), seed=0)
    assert gap_interval(draws)[0][0] == 0.0
    assert draws.interval(gap, method="percentile")[0][0] > 0.0


def test_difference_of_two_groups_gaps_has_the_paired_standard_error():
    # E5 of the published comparison: the correlation of the two rulers decides what can be said.
    rng = np.random.default_rng(13)
    groups = np.repeat([0, 1], 349)
    shared, own = rng.normal(size=698), rng.normal(size=698)
    for rho in (0.0, 0.95):
        other = rho * shared + np.sqrt(1 - rho**2) * own
        values = np.column_stack([shared + 2.0 * groups, other + 1.5 * groups])
        difference, low, high = gap_difference_interval(bootstrap_means(values, compare(groups), seed=0), 0, 1)
        paired = values[:, 0] - values[:, 1]
        error = np.sqrt(sum(paired[groups == g].var(ddof=1) / 349 for g in (0, 1)))
        assert difference == pytest.approx(paired[groups == 1].mean() - paired[groups == 0].mean())
        assert (low, high) == pytest.approx((difference - 1.96 * error, difference + 1.96 * error), abs=0.1 * error)


def test_difference_of_gaps_is_wider_where_a_gap_may_be_mere_noise():
    values = np.random.default_rng(14).normal(size=(300, 2))
    draws = bootstrap_means(values, compare(np.repeat([0, 1, 2], 100)), seed=0)
    _, low, high = gap_difference_interval(draws, 0, 1)
    half = 1.96 * (gap(draws.means)[:, 0] - gap(draws.means)[:, 1]).std()
    assert high - low > 2 * half


def test_dir_interval_of_two_groups_agrees_with_katz():
    groups = np.repeat([0, 1], [349, 349])
    outcome = np.concatenate([np.arange(349) < 163, np.arange(349) < 200]).astype(float)
    low, high = ratio_interval(bootstrap_means(outcome, compare(groups), n_resamples=40_000, seed=0))
    katz_half = 1.96 * np.sqrt(1 / 163 - 1 / 349 + 1 / 200 - 1 / 349)
    assert low[0] == pytest.approx(np.exp(np.log(0.815) - katz_half), abs=0.006)
    assert high[0] == pytest.approx(np.exp(np.log(0.815) + katz_half), abs=0.006)


def test_a_group_in_which_everybody_succeeds_is_not_taken_for_certain():
    outcome = np.concatenate([np.ones(30), np.arange(30) < 27]).astype(float)
    draws = bootstrap_means(outcome, compare(np.repeat([0, 1], 30)), seed=0)
    # Jeffreys' posterior for 30 of 30: mean 30.5/31.
    assert draws.means[:, 0, 0].mean() == pytest.approx(30.5 / 31, abs=0.002)
    assert ratio_interval(draws)[0][0] < ratio(draws.observed)[0] < ratio_interval(draws)[1][0]


@pytest.mark.parametrize("method", ["bca", "percentile"])
def test_interval_of_a_unanimous_rate_is_that_of_jeffreys(method):
    draws = bootstrap_means(np.ones(30), compare(np.zeros(30, int)), n_resamples=40_000, seed=0)
    low, _ = draws.interval(lambda means: means[..., 0], method=method)
    assert low[0] == pytest.approx(beta.ppf(0.025, 30.5, 0.5), abs=0.01)


def test_no_cases_give_no_numbers_and_no_failure():
    nobody = compare(np.full(5, -1), 2)
    draws = bootstrap_means(np.arange(5.0), nobody, n_resamples=10)
    assert np.isnan(draws.observed).all()
    assert np.isnan(gap_interval(draws)).all()
    assert np.isnan(draws.interval(gap)).all()


def test_a_group_of_one_patient_gives_no_interval():
    values = np.concatenate([np.random.default_rng(11).normal(size=40), [5.0]])
    draws = bootstrap_means(values, compare(np.repeat([0, 1, 2], [20, 20, 1])), n_resamples=500, seed=0)
    assert np.isnan(gap_interval(draws)).all()
    assert np.isnan(draws.interval(gap)).all()
    _, low, high = pairwise_intervals(draws)
    np.testing.assert_array_equal(np.isnan(low[0]), [False, True, True])
    np.testing.assert_array_equal(np.isnan(high[0]), [False, True, True])


def test_large_offsets_do_not_cost_precision():
    values = np.random.default_rng(12).normal(size=200)
    groups = np.repeat([0, 1], 100)
    near = standard_errors(bootstrap_means(values, compare(groups), seed=0))
    far = standard_errors(bootstrap_means(values + 1e3, compare(groups), seed=0))
    np.testing.assert_allclose(far, near, rtol=1e-2)
