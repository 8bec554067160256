"""The last-layer posterior against laplace-torch, logistic regression's information matrix, and brute force."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar
from scipy.special import softmax
from statsmodels.discrete.discrete_model import Logit

from medaudit.errors import DataError, UsageError
from medaudit.uncertainty.decomposition import decompose
from medaudit.uncertainty.laplace import VALIDATION_GRID, LastLayerLaplace
from medaudit.uncertainty.softmax import entropy_of, negative_log_likelihood

PEERS = json.loads((Path(__file__).parent / "peers.json").read_text())
PROBLEM = {name: np.array(value) for name, value in PEERS["problem"].items()}
X, Y, T, W, B = (PROBLEM[name] for name in ("features", "labels", "test", "weight", "bias"))
STRUCTURES = pytest.mark.parametrize("structure", ["full", "kron"])


def fit(structure, prior=0.7, **options):
    return LastLayerLaplace.fit(X, W, B, structure=structure, prior=prior, labels=Y, **options)


def precision(x, weight, bias, tau):
    """The full posterior precision, one case and one Kronecker product at a time."""
    phi = np.column_stack([x, np.ones(len(x))])
    p = softmax(x @ weight.T + bias, axis=1)
    matrix = tau * np.eye(phi.shape[1] * len(weight))
    for f, q in zip(phi, p, strict=True):
        matrix += np.kron(np.diag(q) - np.outer(q, q), np.outer(f, f))
    return matrix


def covariance_by_jacobian(matrix, points, classes):
    phi = np.column_stack([points, np.ones(len(points))])
    jacobian = np.stack([np.kron(np.eye(classes), f) for f in phi])
    return jacobian @ np.linalg.inv(matrix) @ jacobian.transpose(0, 2, 1)


@STRUCTURES
def test_all_numbers_are_those_of_laplace_torch(structure):
    peer, ours = PEERS["laplace_torch"][structure], fit(structure, PEERS["laplace_torch"][structure]["tau"])
    np.testing.assert_allclose(ours.logit_covariance(T), peer["f_var"], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(ours.predict(T, "probit"), peer["probit"], rtol=1e-9)
    np.testing.assert_allclose(ours.predict(T, "bridge"), peer["bridge"], rtol=1e-9)
    assert ours.log_marginal_likelihood() == pytest.approx(peer["log_marginal_likelihood"], rel=1e-11)
    best = fit(structure, "marginal")
    assert best.tau == pytest.approx(peer["optimised_tau"], rel=1e-9)
    assert best.log_marginal_likelihood() == pytest.approx(peer["optimised_lml"], rel=1e-11)


def test_full_covariance_is_that_of_the_jacobian():
    expected = covariance_by_jacobian(precision(X, W, B, 0.7), T, 3)
    ours = fit("full")
    np.testing.assert_allclose(ours.logit_covariance(T), expected, rtol=1e-9, atol=1e-9)


@STRUCTURES
def test_variances_are_the_diagonal_of_the_covariances(structure):
    ours = fit(structure)
    np.testing.assert_allclose(ours.logit_variance(T), np.einsum("ncc->nc", ours.logit_covariance(T)), rtol=1e-9)


def test_two_classes_are_logistic_regression():
    # Of the difference of two logits: Cov = [phi; -phi]^T Sigma [phi; -phi] -> phi^T I^-1 phi as tau -> 0, with
    # statsmodels' Fisher information I of the same coefficients.
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3))
    labels = (x @ [1.0, -1.0, 0.5] + rng.logistic(size=400) > 0).astype(int)
    phi = np.column_stack([x, np.ones(400)])
    peer = Logit(labels, phi).fit(disp=0)
    half = peer.params / 2
    weight, bias = np.stack([-half[:3], half[:3]]), np.array([-half[3], half[3]])
    ours = LastLayerLaplace.fit(x, weight, bias, structure="full", prior=1e-6).logit_covariance(x[:20])
    difference = ours[:, 0, 0] + ours[:, 1, 1] - 2 * ours[:, 0, 1]
    np.testing.assert_allclose(difference, np.einsum("np,pq,nq->n", phi[:20], peer.cov_params(), phi[:20]), rtol=1e-4)


def test_kronecker_is_exact_for_one_case_and_for_equal_probabilities():
    flat = np.zeros_like(W)
    for x, weight in ((X[:1], W), (X, flat)):
        full = LastLayerLaplace.fit(x, weight, B, structure="full", prior=0.3)
        kron = LastLayerLaplace.fit(x, weight, B, structure="kron", prior=0.3)
        np.testing.assert_allclose(kron.logit_covariance(T), full.logit_covariance(T), rtol=1e-8, atol=1e-8)
    assert np.abs(fit("kron").logit_variance(T) / fit("full").logit_variance(T) - 1).max() > 0.01


@STRUCTURES
@pytest.mark.parametrize("gap", [10.0, 40.0, 200.0])
def test_curvature_keeps_its_digits_where_training_probabilities_are_nearly_1(structure, gap):
    """One case, two classes: p (1 - p) [[1, -1], [-1, 1]] (x) phi phi^T has one eigenvalue, 2 p (1 - p) |phi|^2."""
    ours = LastLayerLaplace.fit([[3.0]], np.zeros((2, 1)), [gap, 0.0], structure=structure, prior=1.0)
    expected = 2 * np.exp(-gap) / (1 + np.exp(-gap)) ** 2 * (3.0**2 + 1)
    values = np.sort(ours.eigenvalues.ravel())
    np.testing.assert_allclose(values[-1], expected, rtol=1e-12)
    np.testing.assert_allclose(values[:-1], 0, atol=1e-12 * expected)


@STRUCTURES
def test_a_strong_prior_gives_the_map_and_a_weak_one_more_entropy(structure):
    plain = softmax(T @ W.T + B, axis=1)
    for link in ("probit", "mc"):
        np.testing.assert_allclose(fit(structure, 1e12).predict(T, link), plain, atol=1e-5)
    entropies = np.array([entropy_of(fit(structure, tau).predict(T)) for tau in (1e3, 1.0, 1e-3, 1e-6)])
    assert (np.diff(entropies, axis=0) > 0).all()


@STRUCTURES
def test_marginal_likelihood_is_largest_where_a_grid_and_brent_find_it(structure):
    ours = fit(structure, "marginal")
    peer = minimize_scalar(
        lambda t: -ours.log_marginal_likelihood(np.exp(t)), bounds=(-9, 9), method="bounded", options={"xatol": 1e-10}
    )
    assert np.log(ours.tau) == pytest.approx(peer.x, abs=1e-5)
    grid = np.logspace(-6, 6, 400)
    assert ours.log_marginal_likelihood() >= max(map(ours.log_marginal_likelihood, grid))


def test_marginal_likelihood_is_that_of_the_dense_determinant():
    z = X @ W.T + B
    for tau in (0.01, 1.0, 30.0):
        sign, determinant = np.linalg.slogdet(precision(X, W, B, tau))
        expected = -len(X) * negative_log_likelihood(z, Y)
        expected += -tau * ((W**2).sum() + (B**2).sum()) / 2 + 18 * np.log(tau) / 2 - determinant / 2
        assert sign == 1
        assert fit("full").log_marginal_likelihood(tau) == pytest.approx(expected, rel=1e-10)


def test_marginal_likelihood_is_near_the_integral_that_it_approximates():
    # A MAP estimate of a small problem, and importance sampling of p(labels) = E_prior[p(labels | weights)].
    rng = np.random.default_rng(3)
    x, labels, tau = rng.normal(size=(80, 1)), rng.integers(0, 2, 80), 1.0

    def losses(v):
        weight, bias = v.reshape(-1, 2, 2)[..., :1], v.reshape(-1, 2, 2)[..., 1]
        z = np.einsum("nd,scd->snc", x, weight) + bias[:, None, :]
        return (np.log(np.exp(z).sum(axis=2)) - z[:, np.arange(80), labels]).sum(axis=1)

    best = minimize(lambda v: losses(v)[0] + tau * (v**2).sum() / 2, np.zeros(4), tol=1e-12).x.reshape(2, 2)
    ours = LastLayerLaplace.fit(x, best[:, :1], best[:, 1], structure="full", prior=tau, labels=labels)
    prior = rng.normal(size=(200_000, 4))
    integral = np.log(np.exp(-losses(prior) + 60).mean()) - 60
    assert ours.log_marginal_likelihood() == pytest.approx(integral, abs=0.1)


@STRUCTURES
def test_validation_prior_is_the_likeliest_of_its_grid(structure):
    rng = np.random.default_rng(0)
    x, labels = T + rng.normal(size=T.shape), rng.integers(0, 3, len(T))
    chosen = fit(structure, "validation", validation=(x, labels))
    likelihoods = [
        np.log(fit(structure, float(tau)).predict(x)[np.arange(len(x)), labels]).sum() for tau in VALIDATION_GRID
    ]
    assert chosen.tau == VALIDATION_GRID[np.argmax(likelihoods)]
    assert bool(chosen.notes) == (chosen.tau in VALIDATION_GRID[[0, -1]])


@STRUCTURES
def test_draws_have_the_posterior_mean_and_covariance(structure):
    ours = fit(structure, 5.0)
    draws = ours.draws(T, samples=40_000, seed=1)
    # Log-ratios of probabilities are differences of logits.
    ratios = np.log(draws[..., :2]) - np.log(draws[..., 2:])
    contrast = np.array([[1.0, 0, -1], [0, 1, -1]])
    expected = contrast @ ours.logit_covariance(T) @ contrast.T
    deviation = np.sqrt(np.einsum("ncc->nc", expected))
    error = ratios.mean(axis=0) - (T @ W.T + B) @ contrast.T
    assert (np.abs(error) < 5 * deviation / np.sqrt(len(draws))).all()
    for n in range(len(T)):
        np.testing.assert_allclose(np.cov(ratios[:, n].T), expected[n], rtol=0.05, atol=0.05 * deviation[n].max() ** 2)
    parts = decompose(draws[:500])
    np.testing.assert_allclose(parts.total, parts.aleatoric + parts.epistemic, rtol=1e-12)
    assert (parts.epistemic > 0).all()


@STRUCTURES
def test_draws_are_a_cases_own(structure):
    ours = fit(structure)
    np.testing.assert_allclose(ours.draws(T, 5, seed=3)[:, 4:6], ours.draws(T[4:6], 5, seed=3), rtol=1e-9)
    assert np.abs(ours.draws(T, 5, seed=3) - ours.draws(T, 5, seed=4)).max() > 0.01
    np.testing.assert_array_equal(ours.predict(T, "mc", 5, seed=3), ours.draws(T, 5, seed=3).mean(axis=0))


def test_blocks_change_nothing(monkeypatch):
    whole = {s: (fit(s).logit_covariance(T), fit(s).logit_variance(T)) for s in ("full", "kron")}
    monkeypatch.setattr("medaudit.uncertainty.laplace._BLOCK_CELLS", 30)
    for structure, (covariance, variance) in whole.items():
        np.testing.assert_allclose(fit(structure).logit_covariance(T), covariance, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(fit(structure).logit_variance(T), variance, rtol=1e-10)


def test_far_cases_are_less_certain_and_links_survive_large_logits():
    ours = fit("kron", "marginal")
    direction = T[0] / np.linalg.norm(T[0])
    far = np.outer([1, 10, 100, 1e6], direction)
    assert (np.diff(ours.logit_variance(far), axis=0) > 0).all()
    for link in ("probit", "bridge", "mc"):
        p = ours.predict(far, link)
        np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-12)
    # softmax(z) goes to 1 far out; the probit's prediction does not (Hein et al. 2019; Kristiadi et al. 2020).
    assert softmax(far @ W.T + B, axis=1)[-1].max() == 1
    assert ours.predict(far)[-1].max() < 0.99


def test_bad_input_is_named():
    with pytest.raises(UsageError, match="'full' or 'kron'"):
        fit("diag")
    with pytest.raises(UsageError, match="4,098 weights"):
        LastLayerLaplace.fit(np.ones((3, 2048)), np.ones((2, 2048)), np.ones(2), structure="full")
    for prior in ("empirical", 0, -1.0, np.nan, np.inf):
        with pytest.raises(UsageError, match="precision above 0"):
            fit("kron", prior)
    with pytest.raises(UsageError, match="validation="):
        fit("kron", "validation")
    with pytest.raises(UsageError, match="labels"):
        LastLayerLaplace.fit(X, W, B).log_marginal_likelihood()
    with pytest.raises(UsageError, match="'probit', 'bridge' or 'mc'"):
        fit("kron").predict(T, "softplus")
    with pytest.raises(UsageError, match="2 or more"):
        fit("kron").draws(T, samples=1)
    with pytest.raises(DataError, match="shape"):
        LastLayerLaplace.fit(X, W[:, :4], B)
    with pytest.raises(DataError, match="0 to 2"):
        LastLayerLaplace.fit(X, W, B, labels=Y + 1)
    with pytest.raises(DataError, match="row 2"):
        fit("kron").predict(np.where(np.arange(len(T))[:, None] == 2, np.nan, T))
    with pytest.raises(DataError, match="expected 5"):
        fit("full").logit_variance(T[:, :3])
    with pytest.raises(DataError, match="give the prior a number"):
        LastLayerLaplace.fit(X, W * 0, B * 0)
