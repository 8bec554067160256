"""Differences of correlations: normal values in closed form, level for skewed codes of repeating patients, a plant."""

import numpy as np
import pytest

from medaudit.errors import DataError
from medaudit.statistics import correlation_change


def images(rng, patients, repeats, tied=0.0, m=3):
    """Skewed codes (n, m) of patients with some images each; codes 0 and 1 correlate by ``tied`` before the skew."""
    own, here = rng.normal(size=(patients, 1, m)), rng.normal(size=(patients, repeats, m))
    z = (0.8 * own + 0.6 * here).reshape(-1, m)
    z[:, 1] = tied * z[:, 0] + (1 - tied**2) ** 0.5 * z[:, 1]
    return np.exp(0.5 * z), np.repeat(np.arange(patients), repeats)


def test_correlations_are_numpys_and_errors_fishers_for_normal_values():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4_000, 3)), rng.normal(size=(1_000, 3))
    x[:, 1] += x[:, 0]
    found = correlation_change(x, y)
    assert found.difference == pytest.approx(np.corrcoef(x, rowvar=False) - np.corrcoef(y, rowvar=False), abs=1e-12)
    fisher = np.hypot((1 - found.first**2) / 3_997**0.5, (1 - found.second**2) / 997**0.5)
    at = np.triu_indices(3, 1)
    assert found.se[at] == pytest.approx(fisher[at], rel=0.08)


def test_jackknife_leaves_each_patient_out():
    rng = np.random.default_rng(1)
    (x, who), (y, _) = images(rng, 12, 3), images(rng, 200, 1)
    shuffled = rng.permutation(36)
    found = correlation_change(x[shuffled], y, first_patients=who[shuffled])

    def spread(values, patients):
        bent = [np.arctanh(np.corrcoef(values[patients != p], rowvar=False)[0, 1]) for p in np.unique(patients)]
        r = np.corrcoef(values, rowvar=False)[0, 1]
        return (1 - r**2) * np.sqrt((len(bent) - 1) * np.var(bent))

    assert found.se[0, 1] == pytest.approx(np.hypot(spread(x, who), spread(y, np.arange(200))), rel=1e-9)


@pytest.mark.parametrize(("patients", "repeats", "tied"), [(60, 4, 0.6), (200, 1, 0.0)])
def test_level_is_held_where_codes_are_skewed_and_patients_repeat(patients, repeats, tied):
    worlds, rejected, naive = 400, 0, 0
    for seed in range(worlds):
        rng = np.random.default_rng(seed)
        (x, first), (y, second) = (images(rng, patients, repeats, tied) for _ in range(2))
        found = correlation_change(x, y, first_patients=first, second_patients=second)
        rejected += found.p[0, 1] < 0.05
        z = (np.arctanh(found.first[0, 1]) - np.arctanh(found.second[0, 1])) / np.sqrt(2 / (len(x) - 3))
        naive += abs(z) > 1.96
    assert rejected / worlds == pytest.approx(0.05, abs=3 * (0.05 * 0.95 / worlds) ** 0.5)
    if tied:
        assert naive / worlds > 0.15  # Fisher's formula, which knows of neither


def test_codes_tied_in_training_alone_are_found_among_many():
    rng = np.random.default_rng(2)
    (x, first), (y, second) = images(rng, 300, 3, 0.6, m=30), images(rng, 100, 2, 0.0, m=30)
    found = correlation_change(x, y, first_patients=first, second_patients=second)
    assert found.largest(1) == [(0, 1)]
    assert found.p_by[0, 1] == found.p_by[1, 0] < 0.001
    assert (found.p_holm < 0.05).sum() == 2
    assert found.difference[0, 1] > 0.4
    both = correlation_change(x, images(rng, 300, 3, 0.6, m=30)[0], first_patients=first, second_patients=first)
    assert not (both.p_holm < 0.05).any()


def test_a_column_that_does_not_vary_is_no_test():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(50, 3)), rng.normal(size=(50, 3))
    x[:, 2] = 4
    found = correlation_change(x, y)
    assert np.isnan(found.p[2]).all()
    assert np.isfinite(found.p[0, 1])
    assert found.largest() == [(0, 1)]


def test_sets_that_do_not_fit_are_refused():
    x = np.random.default_rng(4).normal(size=(20, 3))
    with pytest.raises(DataError, match="same columns"):
        correlation_change(x, x[:, :2])
    with pytest.raises(DataError, match="there are 2 patients"):
        correlation_change(x, x, first_patients=np.arange(20) % 2)
    with pytest.raises(DataError, match="one for each of 20"):
        correlation_change(x, x, second_patients=np.arange(3))
    with pytest.raises(DataError, match="not finite"):
        correlation_change(x, np.where(x > 1, np.nan, x))
