"""Adjustment for the source against statsmodels, and planted causes that must be told apart."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

from medaudit.statistics import (
    attenuation,
    cluster_weights,
    compare,
    confounding_verdict,
    permutation_test,
)


def cohort(rng, intrinsic, site, n=1503):
    """Two sources with opposite mixes of three groups; ``intrinsic`` between groups, ``site`` between sources."""
    sources = (rng.random(n) < 0.5).astype(int)
    groups = np.where(sources == 0, rng.choice(3, n, p=[0.6, 0.3, 0.1]), rng.choice(3, n, p=[0.1, 0.3, 0.6]))
    return intrinsic * groups / 2 + site * sources + rng.normal(0, 0.2, n), groups, sources


def test_adjusted_means_and_effect_sizes_agree_with_statsmodels():
    rng = np.random.default_rng(0)
    y, groups, sources = cohort(rng, 0.06, 0.1, 600)
    frame = pd.DataFrame({"y": y, "g": groups, "s": sources})
    plain, within = smf.ols("y ~ C(g)", frame).fit(), smf.ols("y ~ C(g) + C(s)", frame).fit()
    ours = attenuation(y, compare(groups), sources, n_resamples=200)
    effect = lambda fit: np.array([0.0, fit.params["C(g)[T.1]"], fit.params["C(g)[T.2]"]])
    np.testing.assert_allclose(np.diff(ours.means_adjusted), np.diff(effect(within)))
    assert (ours.worst, ours.best) == (0, 2)
    assert ours.gap_raw == pytest.approx(np.ptp(effect(plain)))
    assert ours.gap_adjusted == pytest.approx(np.ptp(effect(within)))
    assert ours.attenuation.value == pytest.approx(1 - effect(within)[2] / effect(plain)[2])
    assert ours.eta2_raw == pytest.approx(plain.rsquared)
    source_only = smf.ols("y ~ C(s)", frame).fit()
    assert ours.eta2_adjusted == pytest.approx(1 - within.ssr / source_only.ssr)


def test_resampled_contrasts_are_those_of_weighted_least_squares():
    rng = np.random.default_rng(1)
    y, groups, sources = cohort(rng, 0.1, 0.2, 200)
    patients = rng.integers(0, 80, 200)
    comparison = compare(groups, clusters=patients)
    ours = attenuation(y, comparison, sources, n_resamples=40, seed=3)
    weights = np.concatenate([w for _, w in cluster_weights(comparison, 40, 3)])[:, comparison.clusters]
    frame = pd.DataFrame({"y": y, "g": groups, "s": sources})
    adjusted = [smf.wls("y ~ C(g) + C(s)", frame, weights=w).fit().params for w in weights]
    contrasts = [p["C(g)[T.2]"] for p in adjusted]
    np.testing.assert_allclose(
        [ours.adjusted.low, ours.adjusted.high], np.quantile(contrasts, [0.025, 0.975]), rtol=1e-4
    )


def test_groups_that_share_no_source_cannot_be_told_from_it():
    rng = np.random.default_rng(2)
    sources = rng.integers(0, 2, 300)
    ours = attenuation(rng.normal(size=300) + sources, compare(sources), sources, n_resamples=100)
    assert np.isnan(ours.adjusted.value)
    assert np.isnan(ours.attenuation.value)
    assert np.isnan(ours.adjusted_group_test.p)
    assert "not connected" in ours.reason


def test_a_group_from_one_source_is_adjusted_through_the_others_there():
    rng = np.random.default_rng(3)
    sources = np.repeat([0, 1], 300)
    groups = np.where(sources == 0, rng.integers(0, 2, 600), rng.choice([0, 2], 600))
    y = groups * 0.5 + 2.0 * sources + rng.normal(0, 0.1, 600)
    ours = attenuation(y, compare(groups), sources, n_resamples=500)
    np.testing.assert_allclose(np.diff(ours.means_adjusted), [0.5, 0.5], atol=0.05)
    assert ours.reason == ""


def test_nothing_to_explain_has_no_share():
    rng = np.random.default_rng(4)
    y, groups, sources = cohort(rng, 0.0, 0.0, 300)
    ours = attenuation(y, compare(groups), sources, n_resamples=500)
    assert np.isnan(ours.attenuation.low)
    assert "not distinguishable" in ours.reason


def verdict(y, groups, sources, margin=0.03):
    pooled = permutation_test(y, compare(groups), n_permutations=500).p[0] < 0.05
    within = permutation_test(y, compare(groups, strata=sources), n_permutations=500).p[0]
    result = attenuation(y, compare(groups), sources, n_resamples=1_000)
    return confounding_verdict("supported" if pooled else "insufficient", result, within, margin)


def test_planted_site_confounding_is_named_and_never_called_intrinsic():
    rng = np.random.default_rng(5)
    verdicts = [verdict(*cohort(rng, 0.0, 0.2)).verdict for _ in range(40)]
    assert verdicts.count("supported") >= 36
    assert "refuted" not in verdicts


def test_planted_intrinsic_gap_is_not_blamed_on_the_site():
    rng = np.random.default_rng(6)
    verdicts = [verdict(*cohort(rng, 0.15, 0.0)).verdict for _ in range(40)]
    assert verdicts.count("refuted") >= 36
    assert "supported" not in verdicts


def test_both_causes_at_once_in_a_small_cohort_are_too_uncertain_to_call():
    rng = np.random.default_rng(7)
    verdicts = [verdict(*cohort(rng, 0.08, 0.08, 120)).verdict for _ in range(20)]
    assert verdicts.count("insufficient") >= 12
