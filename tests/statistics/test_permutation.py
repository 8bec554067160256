"""Permutation tests against scipy's, against theory of the range, and on designs that mislead naive tests."""

import numpy as np
import pytest
from scipy.stats import permutation_test as scipy_permutation_test
from scipy.stats import studentized_range, ttest_ind

from medaudit.statistics import compare, permutation_test
from medaudit.statistics.exchange import exchanged_labels


def exchanges(comparison, size=300):
    return np.concatenate([labels for _, labels in exchanged_labels(comparison, size, 0)])


def test_p_of_the_gap_agrees_with_scipy():
    rng = np.random.default_rng(0)
    parts = [rng.normal(0.0, 1, 30), rng.normal(0.3, 1, 20), rng.normal(0.5, 1, 25)]
    peer = scipy_permutation_test(
        parts,
        lambda a, b, c, axis: np.ptp([a.mean(axis=axis), b.mean(axis=axis), c.mean(axis=axis)], axis=0),
        permutation_type="independent",
        alternative="greater",
        n_resamples=9_999,
        vectorized=True,
        rng=np.random.default_rng(1),
    )
    ours = permutation_test(np.concatenate(parts), compare(np.repeat([0, 1, 2], [30, 20, 25])), seed=2)
    assert ours.gap[0] == pytest.approx(peer.statistic)
    assert ours.p_gap[0] == pytest.approx(peer.pvalue, abs=0.015)


def test_studentised_p_of_two_groups_agrees_with_welch():
    rng = np.random.default_rng(3)
    a, b = rng.normal(0, 1, 60), rng.normal(0.5, 2, 90)
    ours = permutation_test(np.concatenate([a, b]), compare(np.repeat([0, 1], [60, 90])), seed=0)
    assert ours.p[0] == pytest.approx(ttest_ind(a, b, equal_var=False).pvalue, abs=0.015)


def test_null_gap_is_the_expected_range_of_three_means():
    # 3 x 349 scores of SD .22 without any effect: E = .0198 and 95th percentile .0390 in arXiv 2511.00477's setting.
    values = np.random.default_rng(4).normal(size=1047)
    values = 0.22 * (values - values.mean()) / values.std()
    test = permutation_test(values, compare(np.repeat([0, 1, 2], 349)), seed=0)
    error = 0.22 / np.sqrt(349)
    assert test.null_gap_mean[0] == pytest.approx(1.6926 * error, rel=0.02)
    assert test.null_gap_95[0] == pytest.approx(studentized_range.ppf(0.95, 3, 10_000) * error, rel=0.02)
    assert test.null_gap_mean[0] == pytest.approx(0.0198, abs=5e-4)
    assert test.null_gap_95[0] == pytest.approx(0.0390, abs=8e-4)


@pytest.mark.parametrize(("rate", "expected"), [(0.25, 0.72), (0.75, 0.04)])
def test_four_fifths_rule_accuses_a_fair_system_of_small_groups(rate, expected):
    sizes = [1128, 241, 86, 51]
    outcome = (np.arange(1506) < round(rate * 1506)).astype(float)
    test = permutation_test(outcome, compare(np.repeat(np.arange(4), sizes)), seed=0)
    assert test.null_ratio_below(0.8)[0] == pytest.approx(expected, abs=0.02)


def test_bias_corrected_gap_takes_off_what_chance_shows():
    values = np.random.default_rng(5).normal(size=90)
    test = permutation_test(values, compare(np.repeat([0, 1, 2], 30)), seed=0)
    assert test.bias_corrected_gap[0] == pytest.approx(max(test.gap[0] - test.null_gap_mean[0], 0.0))
    assert test.null_gap_mean[0] > 0.2


def test_smallest_p_counts_the_observed_labels():
    values = np.concatenate([np.zeros(50), np.ones(50)])
    test = permutation_test(values, compare(np.repeat([0, 1], 50)), n_permutations=99, seed=0)
    assert test.p_gap[0] == pytest.approx(1 / 100)
    assert test.p_ratio[0] == pytest.approx(1 / 100)


def test_ties_with_the_observed_gap_count_as_extreme():
    # Of the 6 ways to give two successes to two pairs, 2 show the observed DPD of 1.
    test = permutation_test([1.0, 1.0, 0.0, 0.0], compare([0, 0, 1, 1]), seed=0)
    assert test.p_gap[0] == pytest.approx(2 / 6, abs=0.02)


def test_labels_never_leave_their_stratum():
    rng = np.random.default_rng(6)
    groups, strata = rng.integers(0, 3, 120), rng.integers(0, 4, 120)
    for drawn in exchanges(compare(groups, 3, strata=strata), 50):
        for s in range(4):
            assert sorted(drawn[strata == s]) == sorted(groups[strata == s])


def test_whole_patients_swap_when_nested_and_whole_label_vectors_when_not():
    patients = np.array([0, 0, 1, 1, 2, 2, 3])
    spanning = compare([0, 1, 0, 1, 2, 2, 0], 3, clusters=patients)
    drawn = exchanges(spanning)
    pairs_seen = {tuple(sorted(pair)) for pair in drawn[:, :6].reshape(-1, 2).tolist()}
    assert pairs_seen == {(0, 1), (2, 2)}
    assert np.all(drawn[:, 6] == 0)
    nested = compare([0, 0, 1, 1, 1, 1, 0], 2, clusters=patients)
    assert exchanges(nested).shape[1] == 4
    assert np.all(np.sort(exchanges(nested), axis=1) == [0, 0, 1, 1])


def test_a_cluster_across_strata_swaps_only_with_its_like():
    patients, strata = [0, 0, 1, 1, 2, 2], [0, 1, 0, 1, 0, 0]
    comparison = compare([0, 1, 1, 0, 2, 2], 3, clusters=patients, strata=strata)
    drawn = exchanges(comparison)
    assert np.all(drawn[:, 4:] == 2)
    assert {tuple(row) for row in drawn[:, :4].tolist()} == {(0, 1, 1, 0), (1, 0, 0, 1)}


def test_share_of_movable_labels_is_reported():
    assert permutation_test(np.arange(4.0), compare([0, 1, 0, 1], strata=[0, 0, 1, 1])).movable == 1.0
    assert permutation_test(np.arange(4.0), compare([0, 1, 1, 1], strata=[0, 0, 1, 1])).movable == 0.5


def test_a_gap_made_by_sources_alone_vanishes_within_sources():
    rng = np.random.default_rng(7)
    source = np.repeat([0, 1], 300)
    groups = np.where(rng.random(600) < np.where(source == 0, 0.8, 0.2), 0, 1)
    scores = rng.normal(size=600) + source
    assert permutation_test(scores, compare(groups), seed=0).p[0] < 0.001
    assert permutation_test(scores, compare(groups, strata=source), seed=0).p[0] > 0.05


def test_pretending_repeats_are_patients_makes_p_too_small():
    rng = np.random.default_rng(8)
    naive, honest = [], []
    patients = np.repeat(np.arange(40), 10)
    groups = np.repeat(np.repeat([0, 1], 20), 10)
    for seed in range(60):
        scores = np.repeat(rng.normal(size=40), 10) + 0.3 * rng.normal(size=400)
        naive.append(permutation_test(scores, compare(groups), n_permutations=199, seed=seed).p[0])
        honest.append(permutation_test(scores, compare(groups, clusters=patients), n_permutations=199, seed=seed).p[0])
    assert np.mean(np.array(naive) < 0.05) > 0.3
    assert np.mean(np.array(honest) < 0.05) < 0.15


def test_missing_scores_are_left_out_measure_by_measure():
    rng = np.random.default_rng(9)
    groups, scores = rng.integers(0, 2, 200), rng.normal(size=200)
    holes = np.where(rng.random(200) < 0.3, np.nan, scores)
    test = permutation_test(np.column_stack([scores, holes]), compare(groups), seed=0)
    kept = ~np.isnan(holes)
    alone = permutation_test(scores[kept], compare(groups[kept]), seed=1)
    assert test.gap[1] == pytest.approx(alone.gap[0], rel=1e-5)
    assert test.p[1] == pytest.approx(alone.p[0], abs=0.02)


def test_no_cases_give_no_p_value():
    test = permutation_test(np.arange(5.0), compare(np.full(5, -1), 2, strata=np.zeros(5, int)), n_permutations=9)
    assert np.isnan(test.p[0])


def test_one_group_gives_no_p_value():
    assert np.isnan(permutation_test(np.arange(5.0), compare(np.zeros(5, int), 2)).p_gap[0])


@pytest.mark.slow
@pytest.mark.parametrize("sds", [(0.17, 0.22, 0.25, 0.30), (0.30, 0.25, 0.22, 0.17)])
def test_default_p_keeps_its_level_under_unequal_sizes_and_spreads_and_the_raw_gap_does_not(sds):
    rng = np.random.default_rng(10)
    groups = np.repeat(np.arange(4), [1128, 241, 86, 51])
    comparison, spread = compare(groups), np.array(sds)[groups]
    raw, studentised = [], []
    for seed in range(500):
        test = permutation_test(rng.normal(0, spread), comparison, n_permutations=199, seed=seed)
        raw.append(test.p_gap[0] <= 0.05)
        studentised.append(test.p[0] <= 0.05)
    assert 0.03 <= np.mean(studentised) <= 0.075
    assert np.mean(raw) < 0.02 or np.mean(raw) > 0.15
