"""Equivalence and smallest detectable gaps against statsmodels, tables and simulation."""

import numpy as np
import pytest
from scipy.stats import norm, studentized_range

from medaudit.statistics import (
    bootstrap_means,
    compare,
    detectable_difference,
    detectable_gap,
    gap_equivalence,
    permutation_test,
    ratio_equivalence,
    tost,
)


def test_tost_p_is_the_larger_of_two_one_sided_z_tests():
    ours = tost(0.01, 0.02, 0.05)
    assert ours.p == pytest.approx(max(norm.cdf((0.01 - 0.05) / 0.02), norm.sf((0.01 + 0.05) / 0.02)))
    assert (ours.low, ours.high) == pytest.approx((0.01 - 1.6449 * 0.02, 0.01 + 1.6449 * 0.02), abs=1e-5)


def test_groups_alike_are_equivalent_and_groups_apart_are_not():
    rng = np.random.default_rng(0)
    groups = np.repeat([0, 1, 2], 400)
    alike = rng.normal(0, 0.1, 1200)
    apart = alike + 0.04 * (groups == 2)
    result = gap_equivalence(bootstrap_means(np.column_stack([alike, apart]), compare(groups), seed=0), 0.03)
    np.testing.assert_array_equal(result.equivalent, [True, False])
    assert result.p[0] < 0.05 < result.p[1]


def test_few_patients_are_never_equivalent():
    values = np.random.default_rng(1).normal(0, 0.2, 30)
    draws = bootstrap_means(values, compare(np.repeat([0, 1, 2], 10)), seed=0)
    assert not gap_equivalence(draws, 0.05).equivalent[0]


def test_dir_above_four_fifths_needs_its_interval_above():
    many, few = np.tile([1.0, 1, 1, 0], 500), np.tile([1.0, 1, 1, 0], 5)
    for outcome, expected in ((many, True), (few, False)):
        draws = bootstrap_means(outcome, compare(np.repeat([0, 1], outcome.size // 2)), seed=0)
        assert ratio_equivalence(draws).equivalent[0] == expected


def test_detectable_difference_agrees_with_a_power_table():
    # Cohen: 64 per group see d = .5 with 80 % power in a two-sided 5 % test (t; z is within 2 %).
    assert detectable_difference(1 / 8, 1 / 8) == pytest.approx(0.5, rel=0.02)


def test_detectable_gap_of_two_groups_is_the_detectable_difference():
    draws = bootstrap_means(np.random.default_rng(2).normal(size=200), compare(np.repeat([0, 1], 100)), seed=0)
    error = draws.means[:, 0].std(axis=0)
    assert detectable_gap(draws)[0] == pytest.approx(detectable_difference(*error), rel=0.02)


def test_three_groups_need_a_larger_gap_because_of_the_multiplicity():
    values = np.random.default_rng(3).normal(size=3 * 349)
    draws = bootstrap_means(values, compare(np.repeat([0, 1, 2], 349)), seed=0)
    pair = detectable_difference(*draws.means[:, 0, :2].std(axis=0))
    bound = (studentized_range.ppf(0.95, 3, 10_000) / np.sqrt(2) + norm.ppf(0.8)) / (norm.ppf(0.975) + norm.ppf(0.8))
    assert 1.03 < detectable_gap(draws)[0] / pair < bound + 0.02


@pytest.mark.parametrize("sds", [(1.0, 1.0, 1.0), (8.0, 1.0, 1.5)])
def test_the_gap_test_sees_the_detectable_gap_in_four_of_five_cohorts_wherever_the_third_group_lies(sds):
    rng = np.random.default_rng(4)
    groups = np.repeat([0, 1, 2], [60, 150, 80])
    comparison, sd = compare(groups), np.asarray(sds)[groups]
    size = detectable_gap(bootstrap_means(rng.normal(0, sd), comparison, seed=0))[0]
    power = []
    for place in ((0, 1, 1), (0, 0, 1), (0, 0.5, 1), (0, 1, 0)):
        shift = size * np.array(place)[groups]
        tests = (permutation_test(rng.normal(shift, sd), comparison, n_permutations=199, seed=s) for s in range(150))
        power.append(np.mean([test.p[0] <= 0.05 for test in tests]))
    assert 0.68 <= min(power) <= 0.90
