"""A change of a gap between two scores of the same cases: its size, its test, and the level that the test keeps."""

import numpy as np
import pytest
from scipy import stats

from medaudit.statistics import compare, gap_change


def two_scores(seed, sizes, sds, shift=0.0, twin=False, correlation=0.5):
    """Scores of groups of these sizes and SDs: v, and u with ``shift`` more in the first group."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    sd = np.asarray(sds)[groups]
    v = 0.8 + sd * rng.standard_normal(groups.size)
    noise = sd * rng.standard_normal(groups.size)
    u = 0.97 + 0.01 * noise if twin else 0.8 + correlation * (v - 0.8) + np.sqrt(1 - correlation**2) * noise
    return groups, u + shift * (groups == 0), v


def test_the_size_is_the_difference_of_the_gaps_and_its_interval_is_paired():
    groups = np.repeat([0, 1, 2], 50)
    rng = np.random.default_rng(0)
    v = 0.7 + 0.05 * groups + 0.1 * rng.standard_normal(150)
    u = v + 0.03 * (groups == 2)
    change = gap_change(u, v, compare(groups), n_resamples=2_000, n_permutations=500)
    means = lambda x: [x[groups == g].mean() for g in range(3)]
    assert change.gap_u == pytest.approx(np.ptp(means(u)))
    assert change.gap_v == pytest.approx(np.ptp(means(v)))
    assert change.value == pytest.approx(change.gap_u - change.gap_v)
    assert change.low <= change.low_90 <= change.value <= change.high_90 <= change.high
    assert change.p == pytest.approx(1 / 501)  # the shift is the same for all of a group: nothing else is so extreme


def test_the_p_value_of_two_groups_is_welchs_by_permutation():
    groups, u, v = two_scores(1, (40, 60), (0.1, 0.2), shift=0.04)
    ours = gap_change(u, v, compare(groups), n_resamples=100, n_permutations=20_000).p
    delta = u - v
    welch = lambda x, y, axis: np.abs(stats.ttest_ind(x, y, equal_var=False, axis=axis).statistic)
    theirs = stats.permutation_test(
        (delta[groups == 0], delta[groups == 1]), welch, n_resamples=20_000, vectorized=True, alternative="greater",
        rng=np.random.default_rng(0),
    )  # fmt: skip
    assert ours == pytest.approx(theirs.pvalue, abs=0.012)


@pytest.mark.parametrize(
    ("sizes", "sds", "twin"),
    [
        ((60, 120, 60), (0.2, 0.2, 0.2), True),
        ((60, 120, 60), (0.3, 0.2, 0.1), True),
        ((60, 120, 30), (0.1, 0.2, 0.3), True),
        ((60, 120, 60), (0.3, 0.2, 0.1), False),
    ],
)
def test_the_level_is_kept_even_where_one_score_is_nearly_without_noise(sizes, sds, twin):
    rejected = [
        gap_change(u, v, compare(groups), n_resamples=2, n_permutations=199, seed=seed).p < 0.05
        for seed in range(300)
        for groups, u, v in [two_scores(seed, sizes, sds, twin=twin)]
    ]
    assert 0.02 <= np.mean(rejected) <= 0.09


def test_groups_that_trade_places_at_an_equal_gap_are_noticed():
    groups = np.repeat([0, 1], 100)
    rng = np.random.default_rng(2)
    case = 0.1 * rng.standard_normal(200)
    change = gap_change(0.8 + 0.06 * groups + case, 0.86 - 0.06 * groups + case, compare(groups), n_permutations=999)
    assert abs(change.value) < 0.04
    assert change.p < 0.01


def test_only_pairs_are_compared():
    groups, u, v = two_scores(3, (30, 30), (0.1, 0.1), shift=0.05)
    few = gap_change(u, v, compare(groups), n_resamples=200, n_permutations=200)
    more_u, more_v = np.append(u, [0.0, np.nan]), np.append(v, [np.nan, 1.0])
    assert (
        gap_change(more_u, more_v, compare(np.append(groups, [0, 1])), n_resamples=200, n_permutations=200).n == few.n
    )
    nothing = gap_change(np.full(4, np.nan), np.ones(4), compare([0, 0, 1, 1]), n_resamples=50, n_permutations=50)
    assert np.isnan(nothing.value)
    assert nothing.n == 0


def test_patients_with_several_images_are_exchanged_as_wholes():
    rng = np.random.default_rng(4)
    rejected = []
    for seed in range(150):
        patient = np.arange(200) // 4
        groups = np.repeat([0, 1], 100)
        own = 0.1 * rng.standard_normal(50)[patient]  # of a patient's four images alike
        u, v = 0.8 + own + 0.02 * rng.standard_normal(200), np.full(200, 0.8)
        rejected.append(
            gap_change(u, v, compare(groups, clusters=patient), n_resamples=50, n_permutations=199, seed=seed).p < 0.05
        )
    assert np.mean(rejected) < 0.11


def test_a_constant_shift_changes_nothing_and_that_is_certain():
    groups, _, v = two_scores(5, (40, 40, 40), (0.2, 0.2, 0.2))
    change = gap_change(v + 0.1, v, compare(groups), n_resamples=200, n_permutations=200)
    assert change.p == 1.0
    assert (change.low, change.high) == pytest.approx((0.0, 0.0), abs=1e-6)


def test_no_change_of_the_gap_exceeds_the_largest_change_of_a_difference():
    groups, u, v = two_scores(6, (100, 100, 100), (0.2, 0.2, 0.2), correlation=0.999)
    change = gap_change(u, v, compare(groups), n_resamples=500, n_permutations=10)
    delta, pairs = u - v, [(0, 1), (0, 2), (1, 2)]
    reach = [
        abs(delta[groups == i].mean() - delta[groups == j].mean())
        + 1.96 * np.hypot(*(delta[groups == g].std() / 10 for g in (i, j)))
        for i, j in pairs
    ]
    assert change.high <= 1.05 * max(reach)
    assert change.low >= -1.05 * max(reach)


@pytest.mark.parametrize("shift", [0.0, 0.06])
def test_the_interval_covers_although_a_twin_is_quiet_and_gold_is_not(shift):
    sizes, covered = (60, 120, 60), []
    for seed in range(200):
        groups, u, v = two_scores(1000 + seed, sizes, (0.2, 0.2, 0.2), shift=shift, twin=True)
        change = gap_change(u, v, compare(groups), n_resamples=300, n_permutations=2, seed=seed)
        covered.append(change.low <= shift <= change.high)
    assert np.mean(covered) >= 0.93
