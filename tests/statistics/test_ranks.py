"""Rank and contingency tests against scipy and scikit-posthocs."""

import numpy as np
import pytest
import scikit_posthocs
from scipy.stats import chi2_contingency, kruskal, mannwhitneyu
from scipy.stats.contingency import association

from medaudit.statistics import (
    ChiSquareTest,
    compare,
    dunn,
    kruskal_wallis,
    pairs,
    permutation_test,
    rating_test,
    van_elteren,
)


@pytest.fixture
def scores():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 4, 200)
    return np.round(rng.normal(size=200) + 0.2 * groups, 1), groups


def test_kruskal_wallis_with_ties_agrees_with_scipy(scores):
    values, groups = scores
    peer = kruskal(*(values[groups == g] for g in range(4)))
    ours = kruskal_wallis(values, compare(groups))
    assert (ours.statistic, ours.p) == pytest.approx((peer.statistic, peer.pvalue))
    assert ours.effect == pytest.approx((peer.statistic - 3) / (200 - 4))


def test_published_kruskal_wallis_has_its_printed_p():
    assert ChiSquareTest(5.09, 3, 1506).p == pytest.approx(0.1653, abs=5e-5)


def test_dunn_agrees_with_scikit_posthocs(scores):
    values, groups = scores
    ours = dunn(values, compare(groups))
    i, j = pairs(4)
    parts = [values[groups == g] for g in range(4)]
    for name, p in ((None, ours.p), ("holm", ours.p_holm), ("bonferroni", ours.p_bonferroni)):
        np.testing.assert_allclose(p, scikit_posthocs.posthoc_dunn(parts, p_adjust=name).to_numpy()[i, j])


def test_rank_biserial_is_that_of_mann_whitney(scores):
    values, groups = scores
    u = mannwhitneyu(values[groups == 0], values[groups == 1]).statistic
    sizes = np.bincount(groups)
    assert dunn(values, compare(groups)).rank_biserial[0] == pytest.approx(1 - 2 * u / (sizes[0] * sizes[1]))


def test_infinite_distances_rank_last_and_missing_ones_are_left_out():
    values, groups = np.array([1.0, 2.0, np.inf, 3.0, np.inf, np.nan]), np.array([0, 0, 0, 1, 1, 1])
    peer = kruskal([1, 2, 9], [3, 9])
    assert kruskal_wallis(values, compare(groups)).statistic == pytest.approx(peer.statistic)


def test_van_elteren_with_one_stratum_is_kruskal_wallis(scores):
    values, groups = scores
    plain = kruskal_wallis(values, compare(groups))
    ours = van_elteren(values, compare(groups, strata=np.zeros(200, int)))
    assert (ours.statistic, ours.df) == pytest.approx((plain.statistic, plain.df))


def test_van_elteren_ignores_differences_between_strata(scores):
    values, groups = scores
    strata = np.random.default_rng(1).integers(0, 3, 200)
    comparison = compare(groups, strata=strata)
    assert van_elteren(values + 100 * strata, comparison).statistic == pytest.approx(
        van_elteren(values, comparison).statistic
    )
    ranks = np.empty(200)
    for s in range(3):
        ranks[strata == s] = values[strata == s].argsort().argsort() / (strata == s).sum()
    assert van_elteren(values, comparison).p == pytest.approx(permutation_test(ranks, comparison).p[0], abs=0.1)


def test_chi_square_of_ratings_agrees_with_scipy():
    rng = np.random.default_rng(2)
    ratings, groups = rng.integers(0, 4, 300), rng.integers(0, 3, 300)
    table = np.zeros((4, 3), int)
    np.add.at(table, (ratings, groups), 1)
    peer = chi2_contingency(table, correction=False)
    ours = rating_test(ratings, compare(groups), n_permutations=4_000)
    np.testing.assert_array_equal(ours.counts, table)
    assert (ours.chi2, ours.df, ours.p) == pytest.approx((peer.statistic, peer.dof, peer.pvalue))
    assert ours.cramers_v == pytest.approx(association(table, method="cramer"))
    assert ours.min_expected == pytest.approx(peer.expected_freq.min())
    assert ours.p_permutation == pytest.approx(peer.pvalue, abs=0.03)


def test_ratings_of_the_same_patients_are_not_independent():
    ratings = np.repeat(np.arange(30) % 2, 10)
    groups = np.repeat((np.arange(30) < 14).astype(int), 10)
    ratings[groups == 1] = np.repeat([1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 1], 10)
    clustered = rating_test(ratings, compare(groups, clusters=np.repeat(np.arange(30), 10)))
    assert clustered.p < 0.02
    assert clustered.p_permutation > 0.2


def test_ratings_that_nobody_varies_cannot_be_tested():
    assert np.isnan(rating_test([1, 1, 1, 1], compare([0, 0, 1, 1])).p)


def test_ranks_of_a_single_case_compare_nothing():
    alone = compare([0, -1], 2)
    assert np.isnan(dunn([0.5, 0.7], alone).p).all()
    assert np.isnan(kruskal_wallis([0.5, 0.7], alone).p)
