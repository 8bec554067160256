"""Standardisation for a mix of strata: the closed form, and that only a mix is taken for a mix."""

import numpy as np
import pytest

from medaudit.statistics import compare, standardised


def cohort(share_hard, easy, hard, n=200, noise=0.0, seed=0):
    """Two groups with a share of hard cases each, and the mean scores of their easy and hard cases."""
    rng = np.random.default_rng(seed)
    groups = np.repeat([0, 1], n)
    strata = np.concatenate([(np.arange(n) < round(share * n)).astype(int) for share in share_hard])
    means = np.where(strata == 1, np.take(hard, groups), np.take(easy, groups))
    return groups, strata, means + noise * rng.standard_normal(2 * n)


def test_a_gap_that_is_only_a_mix_goes_away_to_the_last_digit():
    groups, strata, scores = cohort((0.75, 0.25), (0.8, 0.8), (0.6, 0.6))
    s = standardised(scores, scores, compare(groups), strata, n_resamples=200)
    # 0.25 * 0.8 + 0.75 * 0.6 = 0.65 against 0.75; at half and half both are 0.7.
    assert s.raw.value == pytest.approx(0.10)
    assert s.adjusted.value == pytest.approx(0.0, abs=1e-12)
    assert s.change.value == pytest.approx(0.10)
    assert s.means == pytest.approx([0.7, 0.7])
    assert s.shares == pytest.approx([0.5, 0.5])
    assert s.mix[:, 1] == pytest.approx([0.75, 0.25])
    assert (s.high, s.low) == (1, 0)


def test_a_gap_inside_every_stratum_stays():
    groups, strata, scores = cohort((0.5, 0.5), (0.7, 0.8), (0.5, 0.6), noise=0.1)
    s = standardised(scores, scores, compare(groups), strata, n_resamples=2_000)
    assert s.change.value == pytest.approx(0, abs=1e-12)
    assert s.adjusted.low > 0
    assert s.change.p > 0.5


def test_the_gap_of_another_model_is_taken_at_one_mix():
    groups, strata, first = cohort((0.5, 0.5), (0.7, 0.8), (0.7, 0.8))
    second = np.full_like(first, 0.75)
    s = standardised(first, second, compare(groups), strata, n_resamples=200)
    assert (s.raw.value, s.adjusted.value, s.change.value) == pytest.approx((0.1, 0.0, 0.1))


def test_the_interval_of_the_change_has_the_width_that_theory_gives():
    # One mix for both groups: the change is the chance difference of the shares times the strata's difference.
    n, difference = 400, 0.2
    groups, strata, scores = cohort((0.5, 0.5), (0.8, 0.8), (0.6, 0.6), n=n)
    s = standardised(scores, scores, compare(groups), strata, n_resamples=4_000)
    error = difference * np.sqrt(2 * 0.5 * 0.5 / n)
    assert (s.change.high - s.change.low) / 3.92 == pytest.approx(error, rel=0.06)


def test_the_level_of_the_change_is_kept_where_both_groups_have_one_mix():
    rejected = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        groups = np.repeat([0, 1], 80)
        strata = rng.integers(0, 2, 160)
        scores = 0.8 - 0.2 * strata + 0.1 * rng.standard_normal(160)
        rejected.append(
            standardised(scores, scores, compare(groups), strata, n_resamples=300, seed=seed).change.p < 0.05
        )
    assert 0.01 <= np.mean(rejected) <= 0.09


def test_patients_are_resampled_as_wholes():
    groups, strata, scores = cohort((0.6, 0.4), (0.8, 0.8), (0.6, 0.6), noise=0.05)
    patients = np.arange(scores.size) // 4
    alone, together = (
        standardised(scores, scores, compare(groups, clusters=who), strata, n_resamples=2_000).raw
        for who in (None, patients)
    )
    assert together.high - together.low > 1.3 * (alone.high - alone.low)


def test_a_group_without_a_stratum_cannot_be_standardised():
    groups, strata, scores = cohort((0.0, 0.5), (0.8, 0.8), (0.6, 0.6))
    s = standardised(scores, scores, compare(groups), strata, n_resamples=100)
    assert "fewer than two cases" in s.reason
    assert np.isnan(s.change.value)


def test_cases_of_unknown_difficulty_or_score_are_left_out_of_both():
    groups, strata, scores = cohort((0.75, 0.25), (0.8, 0.8), (0.6, 0.6))
    strata[::10] = -1
    scores[5::10] = np.nan
    s = standardised(scores, scores, compare(groups), strata, n_resamples=100)
    assert s.raw.n == s.adjusted.n == 2 * 200 - 80
