"""Prediction-powered means: unbiased, narrower than gold alone, and the numbers of the peer and of the closed form."""

import numpy as np
import pytest

from medaudit.statistics import compare, prediction_powered_means

ROOM = (0.70, 0.80)


def world(rng, n=400, few=60):
    """Silver flatters the second group by 0.1; gold is known of a few."""
    groups = np.repeat([0, 1], n)
    true = np.array(ROOM)[groups] + rng.normal(0, 0.12, 2 * n)
    silver = true + 0.1 * groups + rng.normal(0, 0.03, 2 * n)
    gold = np.full(2 * n, np.nan)
    for g in (0, 1):
        chosen = rng.choice(np.flatnonzero(groups == g), few, replace=False)
        gold[chosen] = true[chosen]
    return gold, silver, compare(groups)


def test_the_mean_is_all_silver_plus_the_gold_samples_correction():
    gold = np.array([0.9, 0.8, np.nan, np.nan])
    silver = np.array([0.95, 0.7, 0.6, 0.9])
    found = prediction_powered_means(gold, silver, compare([0, 0, 0, 0]))
    assert found.means[0] == pytest.approx(np.mean(silver) + np.mean([0.9 - 0.95, 0.8 - 0.7]))
    deviations = (silver - silver.mean()) / 4
    deviations[:2] += (np.array([-0.05, 0.1]) - 0.025) / 2
    assert found.errors[0] == pytest.approx(np.sqrt(np.sum(deviations**2)))


def test_it_is_unbiased_and_covers_and_is_narrower_than_gold_alone():
    rng = np.random.default_rng(0)
    found = [prediction_powered_means(*world(rng)) for _ in range(300)]
    means = np.array([f.means for f in found])
    np.testing.assert_allclose(means.mean(0), ROOM, atol=4 * means.std(0).max() / np.sqrt(300))
    limits = [f.interval() for f in found]
    inside = np.mean([(low <= ROOM) & (high >= ROOM) for low, high in limits])
    assert 0.91 < inside < 0.98
    assert all((f.errors < 0.7 * f.gold_errors).all() for f in found)


def test_the_gap_is_the_true_one_and_not_silvers():
    gold, silver, comparison = world(np.random.default_rng(1), n=2000, few=300)
    value, low, high = prediction_powered_means(gold, silver, comparison).gap()
    assert low < 0.10 < high
    assert high < 0.16  # silver alone shows 0.20
    assert value == pytest.approx(0.10, abs=0.03)


def test_with_gold_of_everybody_it_is_golds_mean():
    rng = np.random.default_rng(2)
    gold, silver = rng.random((2, 50))
    found = prediction_powered_means(gold, silver, compare([0, 1] * 25))
    np.testing.assert_allclose(found.means, found.gold_means)
    np.testing.assert_allclose(found.errors, found.gold_errors)


def test_a_patient_imaged_twice_counts_once():
    gold, silver, comparison = world(np.random.default_rng(3))
    twice = compare(np.tile(comparison.groups, 2), clusters=np.tile(np.arange(800), 2))
    once = prediction_powered_means(gold, silver, comparison)
    doubled = prediction_powered_means(np.tile(gold, 2), np.tile(silver, 2), twice)
    np.testing.assert_allclose(once.errors, doubled.errors)


def test_a_group_without_gold_has_no_mean():
    found = prediction_powered_means([0.5, 0.6, np.nan, np.nan], [0.5] * 4, compare([0, 0, 1, 1]))
    assert np.isnan(found.means).tolist() == [False, True]
    assert np.isnan(found.gap()[1])


def test_it_gives_the_numbers_of_ppi_python():
    # ppi_mean_ci(gold, silver[:4], silver, alpha=0.05, lam=1.0) of ppi-python 0.2.3. Silver and the correction are
    # uncorrelated here, so that our term for cases in both means, which the peer has not, is 0.
    silver = np.array([0.6, 0.8, 0.6, 0.8, 0.9, 0.7, 0.5, 0.75, 0.85, 0.95])
    gold = np.full(10, np.nan)
    gold[:4] = silver[:4] + np.array([0.1, 0.1, -0.05, -0.05])
    found = prediction_powered_means(gold, silver, compare([0] * 10))
    assert found.means[0] == pytest.approx(0.77, abs=1e-8)
    low, high = found.interval()
    assert (low[0], high[0]) == pytest.approx((0.65777174, 0.88222826), abs=1e-8)
