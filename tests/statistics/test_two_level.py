"""Intervals for cases and trainings together, against closed forms and a simulated truth; rank correlations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr, t

from medaudit.errors import DataError
from medaudit.statistics import patient_weights, spearman_draws, two_level


def test_variances_add_and_the_freedom_is_satterthwaites() -> None:
    rng = np.random.default_rng(0)
    point = np.asarray([1.0, 1.4, 0.8, 1.2])
    draws = rng.normal(0, 0.3, (50_000, 1)) + point  # all trainings see the same patients
    found = two_level("x", point, draws, n=40, patients=40)
    by_case, by_seed = draws.mean(axis=1).var(ddof=1), point.var(ddof=1) / 4
    freedom = (by_case + by_seed) ** 2 / (by_case**2 / 39 + by_seed**2 / 3)
    half = t.ppf(0.975, freedom) * (by_case + by_seed) ** 0.5
    assert found.value == pytest.approx(1.1)
    assert (found.low, found.high) == pytest.approx((1.1 - half, 1.1 + half))
    assert found.p == pytest.approx(2 * t.sf(1.1 / (by_case + by_seed) ** 0.5, freedom))
    assert found.extra["seed_high"] - 1.1 == pytest.approx(t.ppf(0.975, 3) * by_seed**0.5)
    assert two_level("x", point, draws, n=40, patients=40, null=1.1).p == pytest.approx(1.0)


def test_the_interval_covers_the_truth_of_a_simulated_world() -> None:
    rng = np.random.default_rng(1)
    patients, seeds, inside = 40, 4, 0
    for _ in range(400):
        # A score of each patient, an effect of each training, and noise of both together.
        scores = (
            rng.normal(0, 1, (patients, 1)) + rng.normal(0, 0.15, (1, seeds)) + rng.normal(0, 0.5, (patients, seeds))
        )
        _, weights = patient_weights(np.arange(patients), 300, 0)
        draws = weights @ scores / patients
        found = two_level("x", scores.mean(axis=0), draws, n=patients, patients=patients)
        inside += found.low <= 0 <= found.high
    assert 0.92 <= inside / 400 <= 0.985


def test_limits_are_cut_and_one_training_has_no_seed_part() -> None:
    found = two_level("AUROC", np.asarray([0.9, 0.99]), np.full((10, 2), 0.9), n=9, patients=9, bounds=(0.0, 1.0))
    assert found.high == 1.0
    alone = two_level("x", np.asarray([0.5]), np.random.default_rng(0).normal(0.5, 0.1, (500, 1)), n=9, patients=9)
    assert np.isnan(alone.extra["seed_low"])
    assert alone.low < 0.5 < alone.high
    with pytest.raises(DataError, match="expected"):
        two_level("x", np.zeros(3), np.zeros((5, 2)), n=1, patients=1)


def test_rank_correlations_by_resample_are_those_of_the_cases_drawn() -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(size=(2, 60)).round(1)
    second = (first + rng.normal(size=(2, 60))).round(1)
    clusters, weights = patient_weights(np.repeat(np.arange(20), 3), 15, 0)
    drawn = spearman_draws(first, second, clusters, weights)
    for b in range(15):
        cases = np.repeat(np.arange(60), weights[b][clusters])
        for r in range(2):
            assert drawn[b, r] == pytest.approx(spearmanr(first[r, cases], second[r, cases])[0])
    with pytest.raises(DataError, match="NaN"):
        spearman_draws(np.full((1, 3), np.nan), np.zeros((1, 3)), np.arange(3), np.ones((1, 3)))
