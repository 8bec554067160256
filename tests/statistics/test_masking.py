"""Masking by aggregation, heterogeneity of sites, and balance."""

import numpy as np
import pytest
from statsmodels.stats.meta_analysis import combine_effects

from medaudit.statistics import cochran_q, compare, masking_by_source, standardised_differences

SOURCES = np.repeat([0, 1, 2, 3], [980, 291, 171, 64])


def test_a_gap_that_lives_in_one_source_is_found_there():
    rng = np.random.default_rng(0)
    groups = rng.choice(2, SOURCES.size, p=[0.7, 0.3])
    y = rng.normal(0, 0.2, SOURCES.size) + 0.15 * groups * (SOURCES == 1)
    found = masking_by_source(y, compare(groups), SOURCES, n_permutations=999, n_resamples=999)
    assert found.p < 0.01
    assert found.largest.source == 1
    assert found.largest.gap > 2 * found.pooled_gap
    assert found.largest.low > 0
    assert found.sites.p < 0.01


def test_a_gap_hidden_because_groups_sit_in_different_sources_is_found():
    # Group 1 is worse by 0.1 in both sources, but sits where scores are better: pooled, nothing is seen.
    rng = np.random.default_rng(1)
    source = np.repeat([0, 1], 700)
    groups = (rng.random(1400) < np.where(source == 0, 0.25, 0.75)).astype(int)
    y = rng.normal(0, 0.2, 1400) - 0.1 * groups + 0.2 * source
    found = masking_by_source(y, compare(groups), source, n_permutations=999, n_resamples=999)
    assert found.pooled_gap < 0.04
    assert found.p < 0.01
    assert all(row.p_holm < 0.01 for row in found.sources)
    assert found.sites.p > 0.01


def test_one_gap_everywhere_is_not_masking():
    rng = np.random.default_rng(2)
    groups = rng.choice(2, SOURCES.size, p=[0.7, 0.3])
    p = []
    for _ in range(30):
        y = rng.normal(0, 0.2, SOURCES.size) + 0.1 * groups + 0.1 * SOURCES
        p.append(masking_by_source(y, compare(groups), SOURCES, n_permutations=199, n_resamples=50).p)
    assert np.mean(np.array(p) < 0.05) <= 0.15


def test_sources_with_too_few_patients_are_counted_and_left_out():
    rng = np.random.default_rng(3)
    groups = rng.choice(2, SOURCES.size, p=[0.75, 0.25])
    found = masking_by_source(
        rng.normal(size=SOURCES.size), compare(groups), SOURCES, n_permutations=99, n_resamples=99
    )
    assert [row.source for row in found.sources] == [0, 1, 2]
    assert found.skipped == 1
    none = masking_by_source(rng.normal(size=20), compare(np.repeat([0, 1], 10)), np.zeros(20, int))
    assert np.isnan(none.p)
    assert "at least 20" in none.reason
    assert none.largest is None


def test_cochran_q_agrees_with_statsmodels():
    effects, errors = np.array([0.1, 0.3, -0.05, 0.2]), np.array([0.05, 0.08, 0.06, 0.1])
    peer = combine_effects(effects, errors**2)
    ours = cochran_q([*effects, np.nan], [*errors, 0.1])
    assert (ours.q, ours.mean, ours.standard_error) == pytest.approx((peer.q, peer.mean_effect_fe, peer.sd_eff_w_fe))
    assert ours.i2 == pytest.approx(peer.i2)
    assert ours.p == pytest.approx(peer.test_homogeneity().pvalue)


def test_standardised_difference_is_in_units_of_the_sd():
    a, b = np.array([1.0, 2, 3, 4, 5]), np.array([2.0, 4, 6, 8, 10])
    ours = standardised_differences(np.concatenate([a, b]), compare(np.repeat([0, 1], 5)))
    assert ours[0, 0] == pytest.approx((3 - 6) / np.sqrt((2.5 + 10) / 2))
