"""The class-wise Gaussian density against scipy, its integral, and pytorch-ood's."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.covariance import LedoitWolf

from medaudit.errors import DataError, UsageError
from medaudit.uncertainty.density import GaussianDensity

PEERS = json.loads((Path(__file__).parent / "peers.json").read_text())
PROBLEM = {name: np.array(value) for name, value in PEERS["problem"].items()}


def two_moons(seed=0, cases=200):
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 3], [cases // 4, cases - cases // 4])
    x = rng.normal(size=(cases, 2)) @ np.array([[1.0, 0.6], [0.0, 0.5]])
    x[labels == 3] = x[labels == 3] @ np.array([[0.3, 0.0], [0.4, 1.2]]) + [3, -1]
    return x, labels


def test_density_is_that_of_pytorch_ood():
    fitted = GaussianDensity.fit(PROBLEM["features"], PROBLEM["labels"], 0)
    np.testing.assert_allclose(fitted.score(PROBLEM["test"]), PEERS["pytorch_ood"]["gmm"], rtol=1e-5)


@pytest.mark.parametrize("shrinkage", [0, 0.3, "ledoit-wolf"])
def test_density_is_the_mixture_of_scipy(shrinkage):
    x, labels = two_moons()
    points = np.random.default_rng(1).normal(size=(50, 2)) * 3
    density = np.zeros(50)
    for c in (0, 3):
        inside = x[labels == c]
        if shrinkage == "ledoit-wolf":
            covariance = LedoitWolf().fit(inside).covariance_
        else:
            covariance = np.cov(inside.T, bias=True)
            covariance = (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / 2 * np.eye(2)
        density += len(inside) / len(x) * multivariate_normal(inside.mean(axis=0), covariance).pdf(points)
    fitted = GaussianDensity.fit(x, labels, shrinkage)
    np.testing.assert_allclose(fitted.log_density(points), np.log(density), rtol=1e-9)
    np.testing.assert_array_equal(fitted.score(points), -fitted.log_density(points))


def test_density_integrates_to_1():
    fitted = GaussianDensity.fit(*two_moons())
    axis = np.linspace(-25, 25, 1001)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    assert np.exp(fitted.log_density(grid)).sum() * (axis[1] - axis[0]) ** 2 == pytest.approx(1, abs=1e-9)


def test_far_cases_have_finite_and_growing_scores():
    fitted = GaussianDensity.fit(*two_moons())
    score = fitted.score(np.outer([1, 10, 1e3, 1e6], [1.0, 1.0]))
    assert np.isfinite(score).all()
    assert (np.diff(score) > 0).all()


def test_more_features_than_cases_are_noted_by_class():
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(30, 40)), np.repeat([0, 1], [20, 10])
    fitted = GaussianDensity.fit(x, labels)
    assert [note.split(" has")[0] for note in fitted.notes] == [
        "the covariance of class 0",
        "the covariance of class 1",
    ]
    assert np.isfinite(fitted.score(x)).all()
    assert (fitted.conditions < 1e3).all()


def test_bad_input_is_named():
    x, labels = two_moons()
    with pytest.raises(DataError, match="class 7 has one"):
        GaussianDensity.fit(x, np.where(np.arange(len(x)) == 0, 7, labels))
    with pytest.raises(DataError, match="singular"):
        GaussianDensity.fit(np.random.default_rng(0).normal(size=(30, 40)), np.arange(30) % 2, 0)
    with pytest.raises(DataError, match="do not vary within class 3"):
        GaussianDensity.fit(np.where(labels[:, None] == 3, 1.0, x), labels)
    with pytest.raises(UsageError, match="expected"):
        GaussianDensity.fit(x, labels, 2.0)
    with pytest.raises(DataError, match="row 1"):
        GaussianDensity.fit(x, labels).score([[0, 0], [np.inf, 0]])
