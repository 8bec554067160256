"""Disparities against fairlearn, printed tables and formulas worked by hand."""

import numpy as np
import pytest
from fairlearn.metrics import demographic_parity_difference, demographic_parity_ratio

from medaudit.errors import DataError, UsageError
from medaudit.statistics import (
    best_and_worst,
    between_group_sd,
    compare,
    equity_scaled,
    gap,
    group_means,
    group_sds,
    pairs,
    pairwise_differences,
    pairwise_ratios,
    ratio,
    skewness,
)


@pytest.mark.parametrize(
    ("young", "older", "dpd", "dir_"),
    [(163, 200, 0.1060, 0.8150), (189, 217, 0.0802, 0.8710), (193, 218, 0.0716, 0.8853), (150, 190, 0.1146, 0.7895)],
)
def test_dpd_and_dir_of_the_published_success_counts(young, older, dpd, dir_):
    rates = np.array([young / 349, older / 349])
    assert round(float(gap(rates)), 4) == dpd
    assert round(float(ratio(rates)), 4) == dir_


def test_dpd_and_dir_agree_with_fairlearn_on_random_groups():
    rng = np.random.default_rng(0)
    groups, outcome = rng.integers(0, 4, 500), rng.random(500) < 0.4
    rates, _ = group_means(outcome, compare(groups))
    truth = np.zeros(500)
    assert gap(rates)[0] == pytest.approx(demographic_parity_difference(truth, outcome, sensitive_features=groups))
    assert ratio(rates)[0] == pytest.approx(demographic_parity_ratio(truth, outcome, sensitive_features=groups))


def test_published_gap_inflation_and_bias_amplification():
    observed, true = np.array([0.6941, 0.7104, 0.7500]), np.array([0.7304, 0.7333, 0.7703])
    biased = np.array([0.6797, 0.7132, 0.7458])
    assert float(gap(observed)) == pytest.approx(0.0559, abs=5e-5)
    assert float(gap(observed) / gap(true)) - 1 == pytest.approx(0.401, abs=5e-4)
    assert float(gap(biased) / gap(true)) - 1 == pytest.approx(0.657, abs=5e-4)


def test_equity_scaled_dice_in_its_two_published_forms():
    means, sizes = np.array([0.9, 0.7]), np.array([30, 10])
    overall = 0.85
    assert equity_scaled(means, sizes, "fairseg") == pytest.approx(overall / (1 + 0.05 + 0.15))
    assert equity_scaled(means, sizes, "fairmedfm") == pytest.approx(overall / (1 + 0.1))
    assert equity_scaled(np.array([0.8, 0.8]), sizes) == pytest.approx(0.8)


def test_skewness_is_the_ratio_of_the_shortfalls_from_one():
    assert skewness(np.array([0.9, 0.7, 0.8])) == pytest.approx(0.3 / 0.1)


def test_functions_act_on_every_measure_and_resample_at_once():
    means = np.random.default_rng(1).random((5, 2, 3))
    for b in range(5):
        for j in range(2):
            assert gap(means)[b, j] == pytest.approx(means[b, j].max() - means[b, j].min())
    i, j = pairs(3)
    assert pairwise_differences(means).shape == (5, 2, 3)
    np.testing.assert_allclose(pairwise_differences(means)[..., 2], means[..., i[2]] - means[..., j[2]])
    assert np.all(pairwise_ratios(means) <= 1)


def test_a_group_without_cases_is_not_compared():
    means = np.array([0.5, np.nan, 0.9])
    assert gap(means) == pytest.approx(0.4)
    assert ratio(means) == pytest.approx(5 / 9)
    assert [int(x) for x in best_and_worst(means)] == [2, 0]
    assert [int(x) for x in best_and_worst(means, higher_is_better=False)] == [0, 2]
    assert np.isnan(gap(np.array([np.nan, np.nan])))


def test_dir_is_undefined_when_nobody_succeeds():
    assert np.isnan(ratio(np.array([0.0, 0.0])))
    assert ratio(np.array([0.0, 0.5])) == 0.0


def test_unknown_groups_and_missing_scores_are_left_out():
    means, sizes = group_means([[1.0, 1.0], [3.0, np.nan], [100.0, 100.0], [5.0, 7.0]], compare([0, 0, -1, 1], 3))
    np.testing.assert_allclose(means, [[2.0, 5.0, np.nan], [1.0, 7.0, np.nan]])
    np.testing.assert_array_equal(sizes, [[2, 1, 0], [1, 1, 0]])


def test_group_sds_are_those_of_the_groups_cases():
    rng = np.random.default_rng(2)
    groups, values = rng.integers(0, 3, 60), rng.normal(size=60)
    expected = [values[groups == g].std(ddof=1) for g in range(3)]
    np.testing.assert_allclose(group_sds(values, compare(groups))[0], expected)


def test_between_group_sd_removes_the_noise_that_max_min_keeps():
    rng = np.random.default_rng(3)
    truth, error = np.array([0.70, 0.74, 0.81]), 0.03
    observed = truth + rng.normal(0, error, (20_000, 3))
    estimated = between_group_sd(observed, np.full(3, error)) ** 2
    # Cutting at 0 leaves a small upward bias; without the correction it would be error**2 = 9e-4 too high.
    assert estimated.mean() == pytest.approx(truth.var(ddof=1), rel=0.03)


def test_infinite_distances_are_refused_with_the_way_out():
    with pytest.raises(DataError, match="empty mask"):
        group_means([1.0, np.inf], compare([0, 1]))


def test_lists_of_different_length_are_refused():
    with pytest.raises(UsageError, match="3 entries, 2 cases"):
        group_means([1.0, 2.0, 3.0], compare([0, 1]))
    with pytest.raises(UsageError, match="from -1 to 1"):
        compare([0, 2], 2)


def test_a_case_of_unknown_patient_is_a_patient_of_its_own():
    assert compare([0, 0, 0, 0], clusters=["a", None, None, "a"]).n_clusters == 3
    assert compare([0, 0, 0], clusters=np.array([1.0, np.nan, np.nan])).n_clusters == 3


def test_clusters_are_counted_once_per_group():
    comparison = compare([0, 0, 0, 1, 1, -1], 2, clusters=["a", "a", "b", "b", "c", "d"])
    assert comparison.n_clusters == 3
    assert not comparison.nested
    np.testing.assert_array_equal(comparison.clusters_per_group, [2, 2])
    np.testing.assert_array_equal(comparison.cases_per_group, [3, 2])
    assert compare([0, 0, 1], 2, clusters=["a", "a", "b"]).nested
    np.testing.assert_array_equal(compare([0, 0, 1], 2).at_least(2).groups, [0, 0, -1])
