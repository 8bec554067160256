"""Random features against the kernel they stand for, SNGP's variance by Woodbury, DUQ's kernels by hand."""

import numpy as np
import pytest
import torch
from scipy.stats import chi, kstest, norm

from medaudit.errors import DataError, UsageError
from medaudit.networks.heads import (
    RadialBasis,
    RandomFeatureGP,
    gradient_penalty,
    mean_field_logits,
    orthogonal_frequencies,
)

X = torch.randn(40, 16, generator=torch.Generator().manual_seed(0))


def test_inner_products_approach_the_rbf_kernel() -> None:
    for inducing in (512, 8192):
        head = RandomFeatureGP(16, 3, inducing=inducing, projection=8, length_scale=2.0, seed=1)
        with torch.no_grad():
            k = head.kernel_features(X).double().numpy()
            z = head.norm(X @ head.projection.T).double().numpy()
        wanted = np.exp(-((z[:, None] - z[None]) ** 2).sum(-1) / (2 * 2.0**2))
        error = k @ k.T - wanted
        assert np.sqrt((error**2).mean()) < 1.2 / np.sqrt(inducing)  # 1 / sqrt(L) each, at most, by theory
        assert np.abs(error).max() < 5 / np.sqrt(inducing)  # of 820 pairs


def test_frequencies_are_orthogonal_with_chi_lengths() -> None:
    w = orthogonal_frequencies(4096, 16, torch.Generator().manual_seed(0)).double().numpy()
    block = w[:16] / np.linalg.norm(w[:16], axis=1, keepdims=True)
    np.testing.assert_allclose(block @ block.T, np.eye(16), atol=1e-5)
    assert kstest(np.linalg.norm(w, axis=1), chi(16).cdf).pvalue > 0.01
    assert kstest(w[::16].ravel(), norm.cdf).pvalue > 0.01  # each is a standard normal vector


def test_variance_is_woodbury_s_and_grows_with_distance() -> None:
    head = RandomFeatureGP(16, 3, inducing=64, projection=8, ridge=0.5, seed=2)
    head.update_precision(X[:10])
    head.update_precision(X[10:])
    with torch.no_grad():
        k, phi = head.kernel_features(X[:5] * 3 + 1).double().numpy(), head.kernel_features(X).double().numpy()
    # ridge k (ridge I + Phi^T Phi)^-1 k^T = k k^T - k Phi^T (ridge I + Phi Phi^T)^-1 Phi k^T
    inner = np.linalg.solve(0.5 * np.eye(40) + phi @ phi.T, phi @ k.T)
    wanted = (k * k).sum(1) - ((k @ phi.T) * inner.T).sum(1)
    np.testing.assert_allclose(head.variance(X[:5] * 3 + 1).numpy(), wanted, rtol=1e-6)
    wide = RandomFeatureGP(16, 3, inducing=1024, projection=64, length_scale=1.0, seed=2)
    wide.update_precision(X[:1].repeat(200, 1))
    seen, far = wide.variance(X[:1]), wide.variance(-X[:1])
    assert seen < 0.02
    assert far == pytest.approx(1, abs=0.1)  # the prior's: k(x, x) = 1, up to the random features' error


def test_variance_never_grows_with_more_cases_and_is_kept_in_the_state() -> None:
    head = RandomFeatureGP(16, 3, inducing=64, projection=8, seed=2)
    head.update_precision(X[:10])
    before = head.variance(X)
    head.update_precision(X[10:])
    after = head.variance(X)
    assert (after <= before + 1e-12).all()
    again = RandomFeatureGP(16, 3, inducing=64, projection=8, seed=77)
    again.load_state_dict(head.state_dict())
    assert torch.equal(again.variance(X), after)
    assert torch.equal(again(X), head(X))


def test_ridge_tempers_the_variance() -> None:
    # With one case seen, variance there is ridge c / (ridge + c), c = k.k: Sherman-Morrison.
    for ridge in (0.1, 1.0, 10.0):
        head = RandomFeatureGP(16, 3, inducing=256, projection=8, ridge=ridge, seed=4)
        head.update_precision(X[:1])
        with torch.no_grad():
            c = float(head.kernel_features(X[:1]).double().square().sum())
        assert float(head.variance(X[:1])) == pytest.approx(ridge * c / (ridge + c), rel=1e-6)


def test_no_variance_without_precision() -> None:
    head = RandomFeatureGP(16, 3, seed=0)
    with pytest.raises(DataError, match="never accumulated"):
        head.variance(X)
    head.update_precision(X)
    head.reset_precision()
    with pytest.raises(DataError, match="never accumulated"):
        head.variance(X)


def test_mean_field() -> None:
    z = mean_field_logits(torch.tensor([[2.0, -2.0]]), torch.tensor([8 / np.pi * 3]))
    torch.testing.assert_close(z, torch.tensor([[1.0, -1.0]]))


def test_duq_kernels_by_hand_and_centroids_move() -> None:
    head = RadialBasis(16, 3, size=7, length_scale=0.4, momentum=0.9, seed=0)
    with torch.no_grad():
        e = (head.sums / head.counts).numpy()
        w = head.weight.numpy()
        off = np.einsum("nd,scd->nsc", X.numpy(), w) - e
        np.testing.assert_allclose(head(X).numpy(), np.exp(-(off**2).mean(1) / (2 * 0.16)), rtol=1e-3, atol=1e-12)
        one = torch.nn.functional.one_hot(torch.arange(40) % 3, 3).float()
        for _ in range(200):
            head.update_centroids(X, one)
        embedded = head.embedded(X).numpy()
    for c in range(3):
        np.testing.assert_allclose((head.sums / head.counts)[:, c], embedded[c::3, :, c].mean(0), atol=1e-3)


def test_penalty_is_zero_where_the_gradient_is_one() -> None:
    x = torch.randn(6, 4, requires_grad=True, generator=torch.Generator().manual_seed(0))
    direction = torch.tensor([0.6, 0.8, 0.0, 0.0])
    assert float(gradient_penalty(x, (x @ direction)[:, None], 0.5)) == pytest.approx(0.0, abs=1e-10)
    assert float(gradient_penalty(x, (2 * x @ direction)[:, None], 0.5)) == pytest.approx(0.5 * 9.0, rel=1e-5)
    with pytest.raises(UsageError, match="requires_grad_"):
        gradient_penalty(x.detach(), (x.detach() @ direction)[:, None], 0.5)


def test_penalty_trains_the_net_towards_a_gradient_of_one() -> None:
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    weight = torch.nn.Parameter(torch.tensor([3.0, 0.0, 0.0, 0.0]))
    optimiser = torch.optim.SGD([weight], 0.01)
    for _ in range(300):
        optimiser.zero_grad()
        gradient_penalty(x, (x @ weight)[:, None], 0.5).backward()
        optimiser.step()
    assert float(weight.detach().norm()) == pytest.approx(1.0, abs=1e-3)
