"""Spearman's correlation under resampled patients, against scipy on the cases that were drawn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr

from medaudit.errors import DataError
from medaudit.statistics import patient_weights, spearman_draws


def drawn_cases(weights: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    return np.repeat(np.arange(len(clusters)), weights[clusters])


@pytest.mark.parametrize("levels", [2, 3, 12])
def test_few_levels_tie_as_the_cases_that_were_drawn_do(levels: int) -> None:
    rng = np.random.default_rng(levels)
    first = rng.integers(0, levels, (3, 50)).astype(float)
    second = (first + rng.integers(0, levels, (3, 50))) // 2
    clusters, weights = patient_weights(rng.integers(0, 18, 50), 25, levels)
    found = spearman_draws(first, second, clusters, weights)
    assert found.shape == (25, 3)
    for b in range(25):
        cases = drawn_cases(weights[b], clusters)
        for r in range(3):
            assert found[b, r] == pytest.approx(spearmanr(first[r, cases], second[r, cases])[0], abs=1e-12)


def test_patients_of_unequal_size_are_drawn_whole() -> None:
    rng = np.random.default_rng(0)
    owners = np.repeat(np.arange(6), [1, 2, 9, 1, 5, 3])
    first, second = rng.normal(size=(1, 21)), rng.normal(size=(1, 21))
    weights = np.array([[0, 0, 2, 1, 0, 3]])
    cases = drawn_cases(weights[0], owners)
    assert len(cases) == 2 * 9 + 1 + 3 * 3
    a, b = rankdata(first[0, cases]), rankdata(second[0, cases])
    wanted = np.corrcoef(a, b)[0, 1]
    assert spearman_draws(first, second, owners, weights)[0, 0] == pytest.approx(wanted, abs=1e-12)


def test_only_ranks_count_and_the_sign_turns_with_the_order() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.lognormal(size=(2, 40)), rng.normal(size=(2, 40))
    clusters, weights = patient_weights(np.arange(40), 10, 0)
    found = spearman_draws(first, second, clusters, weights)
    np.testing.assert_allclose(spearman_draws(np.exp(first), second**3, clusters, weights), found, atol=1e-12)
    np.testing.assert_allclose(spearman_draws(-first, second, clusters, weights), -found, atol=1e-12)
    np.testing.assert_allclose(spearman_draws(second, first, clusters, weights), found, atol=1e-12)
    np.testing.assert_allclose(spearman_draws(first, 2 * first + 5, clusters, weights), 1, atol=1e-12)


def test_the_cases_order_does_not_matter() -> None:
    rng = np.random.default_rng(2)
    first, second = rng.normal(size=(2, 30)).round(1), rng.normal(size=(2, 30)).round(1)
    clusters, weights = patient_weights(np.repeat(np.arange(10), 3), 10, 0)
    order = rng.permutation(30)
    again = spearman_draws(first[:, order], second[:, order], clusters[order], weights)
    np.testing.assert_allclose(again, spearman_draws(first, second, clusters, weights), atol=1e-12)


def test_a_value_that_never_changes_has_no_correlation() -> None:
    rng = np.random.default_rng(3)
    clusters, weights = patient_weights(np.arange(20), 5, 0)
    assert np.isnan(spearman_draws(np.ones((1, 20)), rng.normal(size=(1, 20)), clusters, weights)).all()
    # One patient drawn again and again: nothing is left to be ranked.
    alone = np.zeros((1, 20), dtype=int)
    alone[0, 7] = 20
    assert np.isnan(spearman_draws(rng.normal(size=(1, 20)), rng.normal(size=(1, 20)), clusters, alone)).all()


def test_infinity_is_ranked_and_nan_is_not() -> None:
    first, second = np.array([[1.0, 2.0, np.inf, -np.inf]]), np.array([[1.0, 2.0, 9.0, 0.0]])
    once = np.ones((1, 4))
    assert spearman_draws(first, second, np.arange(4), once)[0, 0] == pytest.approx(1.0)
    for broken in (np.where(np.arange(4) == 2, np.nan, first), first):
        other = second if np.isnan(broken).any() else np.where(np.arange(4) == 1, np.nan, second)
        with pytest.raises(DataError, match="NaN"):
            spearman_draws(broken, other, np.arange(4), once)


@pytest.mark.parametrize(
    ("first", "second", "patients"), [((2, 5), (2, 6), 5), ((5,), (5,), 5), ((2, 5), (2, 5), 4), ((2, 5), (1, 5), 5)]
)
def test_shapes_that_do_not_fit_are_refused(first: tuple[int, ...], second: tuple[int, ...], patients: int) -> None:
    with pytest.raises(DataError, match="expected"):
        spearman_draws(np.zeros(first), np.zeros(second), np.arange(patients), np.ones((1, patients)))
