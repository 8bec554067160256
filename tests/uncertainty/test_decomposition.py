"""TU = AU + EU, its bounds and extremes, and the Dirichlet's parts against draws from it."""

import numpy as np
import pytest
from scipy.stats import dirichlet
from scipy.stats import entropy as scipy_entropy

from medaudit.errors import DataError
from medaudit.uncertainty.decomposition import decompose, dirichlet_decomposition


def draws(members, cases, classes, seed=0, concentration=0.5):
    return np.random.default_rng(seed).dirichlet(np.full(classes, concentration), size=(members, cases))


@pytest.mark.parametrize(("members", "cases", "classes"), [(2, 50, 2), (5, 40, 6), (30, 20, 3)])
def test_total_is_aleatoric_plus_epistemic(members, cases, classes):
    p = draws(members, cases, classes)
    parts = decompose(p)
    np.testing.assert_allclose(parts.total, scipy_entropy(p.mean(axis=0), axis=1), rtol=1e-12)
    np.testing.assert_allclose(parts.aleatoric, scipy_entropy(p, axis=2).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(parts.epistemic, parts.total - parts.aleatoric, rtol=0, atol=1e-12)
    assert (parts.epistemic >= 0).all()
    assert (parts.epistemic <= min(np.log(members), np.log(classes)) + 1e-12).all()
    # The mean of the members' entropies, often called the ensemble's, is the smaller one.
    assert (parts.aleatoric < parts.total).all()


def test_members_that_agree_have_no_epistemic_uncertainty():
    p = np.repeat(draws(1, 30, 4), 7, axis=0)
    parts = decompose(p)
    np.testing.assert_allclose(parts.epistemic, 0, atol=1e-15)
    np.testing.assert_allclose(parts.variance, 0, atol=1e-30)
    assert (parts.variation_ratio == 0).all()


@pytest.mark.parametrize("classes", [2, 3, 8])
def test_certain_members_that_all_disagree_are_all_epistemic(classes):
    parts = decompose(np.eye(classes)[:, None, :])
    assert parts.epistemic[0] == pytest.approx(np.log(classes), rel=1e-14)
    assert parts.total[0] == pytest.approx(np.log(classes), rel=1e-14)
    assert parts.aleatoric[0] == 0
    assert parts.variation_ratio[0] == pytest.approx(1 - 1 / classes)
    assert parts.variance[0] == pytest.approx((1 / classes) * (1 - 1 / classes))


def test_tiny_disagreements_are_told_apart():
    # KL to second order: for p = (1/2 + d, 1/2 - d) and its mirror image the mean divergence is 2 d^2.
    offsets = np.array([1e-6, 2e-6, 4e-6])
    p = 0.5 + np.array([1, -1])[:, None, None] * np.stack([offsets, -offsets], axis=1)
    np.testing.assert_allclose(decompose(p).epistemic, 2 * offsets**2, rtol=1e-3)


@pytest.mark.parametrize("alpha", [[1.0, 1.0, 1.0], [5.0, 0.7, 2.0], [40.0, 1.0, 1.0], [0.2, 0.2, 0.1]])
def test_dirichlet_parts_are_those_of_many_draws(alpha):
    p = dirichlet(alpha).rvs(200_000, random_state=np.random.default_rng(0))
    entropies = scipy_entropy(p, axis=1)
    parts = dirichlet_decomposition([alpha])
    error = 4 * entropies.std() / np.sqrt(len(p))
    assert parts.aleatoric[0] == pytest.approx(entropies.mean(), abs=error)
    assert parts.total[0] == pytest.approx(scipy_entropy(np.array(alpha) / sum(alpha)), rel=1e-12)
    assert parts.epistemic[0] == pytest.approx(parts.total[0] - parts.aleatoric[0], abs=1e-12)


def test_no_evidence_is_all_vacuity():
    parts = dirichlet_decomposition(np.ones((1, 5)))
    assert parts.vacuity[0] == 1
    assert parts.epistemic[0] > 0
    # A uniform Dirichlet's expected entropy is H_C - 1 with H_C the harmonic number.
    assert parts.aleatoric[0] == pytest.approx(sum(1 / k for k in range(2, 6)))


def test_evidence_removes_epistemic_uncertainty():
    parts = dirichlet_decomposition(np.outer([1, 10, 100, 1e4, 1e6], [3.0, 2.0, 1.0]))
    assert (np.diff(parts.epistemic) < 0).all()
    # To first order (C - 1) / (2 S).
    assert parts.epistemic[-1] == pytest.approx(2 / (2 * 6e6), rel=1e-3)
    np.testing.assert_allclose(parts.total, parts.total[0])


@pytest.mark.parametrize(
    ("p", "says"),
    [
        (draws(1, 3, 2), "2 draws"),
        (np.zeros((2, 0, 3)), "1 case"),
        (np.ones((3, 2, 2)), "not logits"),
        (np.concatenate([draws(2, 3, 2), np.full((1, 3, 2), np.nan)]), "case 0 of draw 2"),
        (np.array([[[0.5, 0.5]], [[1.5, -0.5]]]), "case 0 of draw 1"),
    ],
)
def test_predictions_that_are_none_are_named(p, says):
    with pytest.raises(DataError, match=says):
        decompose(p)


@pytest.mark.parametrize(("alpha", "says"), [([[1.0, 0.0]], "row 0"), ([[1.0]], "2 classes"), ([[1, np.nan]], "row 0")])
def test_concentrations_that_are_none_are_named(alpha, says):
    with pytest.raises(DataError, match=says):
        dirichlet_decomposition(alpha)
