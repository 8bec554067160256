"""The eigenpairs of a matrix that is known by products, against LAPACK: copies, low rank, residuals, stops."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from medaudit.errors import DataError, UsageError
from medaudit.uncertainty.slug import krylov, posterior

CPU = torch.device("cpu")
DOUBLE = torch.float64


def spectrum(values: list[float] | np.ndarray, seed: int = 0) -> Tensor:
    """Return a dense symmetric matrix with these eigenvalues."""
    generator = torch.Generator().manual_seed(seed)
    turned = torch.linalg.qr(torch.randn(len(values), len(values), generator=generator, dtype=DOUBLE)).Q
    return (turned * torch.as_tensor(values, dtype=DOUBLE)) @ turned.T


def pairs(g: Tensor, rank: int, block: int, seed: int = 0, **options: object) -> krylov.Eigenpairs:
    return krylov.largest(lambda v: v @ g, len(g), rank, block=block, seed=seed, dtype=g.dtype, device=CPU, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("size", "block"), [(1, 1), (5, 2), (24, 7), (30, 30), (12, 50)])
def test_as_many_pairs_as_there_are_parameters_are_the_whole_matrix(size: int, block: int) -> None:
    g = spectrum(np.geomspace(1e4, 1e-2, size))
    found = pairs(g, size, block, depth=size, tolerance=1e-12)
    np.testing.assert_allclose(found.values, torch.linalg.eigvalsh(g).flip(0), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.vectors @ found.vectors.T, torch.eye(size), atol=1e-12)
    np.testing.assert_allclose((found.vectors.T * found.values) @ found.vectors, g, atol=1e-7)


@pytest.mark.parametrize("block", [3, 4])
def test_each_eigenvalue_of_three_channels_is_found_three_times(block: int) -> None:
    d = spectrum(np.geomspace(1_000, 1, 20))
    g = torch.kron(torch.eye(3, dtype=DOUBLE), d)
    found = pairs(g, 12, block, depth=12, tolerance=1e-9)
    wanted = torch.linalg.eigvalsh(d).flip(0)[:4].repeat_interleave(3)
    np.testing.assert_allclose(found.values, wanted, rtol=1e-7)
    # The three vectors of one value span its eigenspace, whatever turns them within it.
    space = torch.linalg.eigh(g).eigenvectors[:, -3:]
    np.testing.assert_allclose((found.vectors[:3] @ space).square().sum(), 3, rtol=1e-9)


def test_a_single_vector_sees_one_copy_of_each_until_all_distinct_values_are_exhausted() -> None:
    d = spectrum([100.0, 50.0, 20.0, 10.0, 5.0, 1.0])
    g = torch.kron(torch.eye(3, dtype=DOUBLE), d)
    one = pairs(g, 4, block=1, depth=6, tolerance=1e-9)
    np.testing.assert_allclose(one.values, [100, 50, 20, 10], rtol=1e-8)  # the documented limit
    rest = pairs(g, 18, block=1, depth=18, tolerance=1e-9)
    np.testing.assert_allclose(rest.values, torch.linalg.eigvalsh(g).flip(0), rtol=1e-8)


@pytest.mark.parametrize("block", [1, 2, 5])
def test_what_lies_outside_of_a_matrix_of_low_rank_has_the_eigenvalue_0(block: int) -> None:
    g = spectrum([9.0, 9.0, 4.0, 1.0] + 36 * [0.0])
    found = pairs(g, 12, block, depth=40, tolerance=1e-12)
    np.testing.assert_allclose(found.values[:4], [9, 9, 4, 1], rtol=1e-9)
    np.testing.assert_allclose(found.values[4:], 0, atol=1e-9)
    assert found.products <= 40
    nothing = pairs(torch.zeros(10, 10, dtype=DOUBLE), 3, block, depth=10)
    np.testing.assert_array_equal(nothing.values, torch.zeros(len(nothing.values)))


def test_a_residual_is_that_of_its_pair_and_bounds_the_distance_to_an_eigenvalue() -> None:
    for seed in range(5):
        g = spectrum(np.linspace(100, 1, 60), seed)
        found = pairs(g, 15, block=3, depth=6, tolerance=0.0, seed=seed)
        written_out = (found.vectors @ g - found.values[:, None] * found.vectors).norm(dim=1)
        np.testing.assert_allclose(found.residuals, written_out, atol=1e-9)
        assert float(found.residuals.max()) > 0.5  # else nothing was tested
        true = torch.linalg.eigvalsh(g)
        nearest = (true[None] - found.values[:, None]).abs().min(dim=1).values
        assert bool((nearest <= found.residuals + 1e-10).all())
        assert bool((found.values <= true[-1] + 1e-9).all())


def test_vectors_stay_orthonormal_in_single_precision_where_many_have_converged() -> None:
    g = spectrum(np.geomspace(1e6, 1e-6, 80)).float()
    found = pairs(g, 60, block=2, depth=38, tolerance=0.0)
    gram = found.vectors.double() @ found.vectors.double().T
    np.testing.assert_allclose(gram, torch.eye(len(gram)), atol=2e-5)
    np.testing.assert_allclose(found.values[:10], torch.linalg.eigvalsh(g.double()).flip(0)[:10], rtol=1e-4, atol=1.0)


def test_one_seed_gives_one_result_and_another_the_same_eigenvalues() -> None:
    g = spectrum(np.geomspace(1_000, 1e-3, 40))
    first, again, other = (pairs(g, 8, 3, seed=seed, depth=8, tolerance=1e-10) for seed in (4, 4, 5))
    assert torch.equal(first.vectors, again.vectors)
    assert not torch.equal(first.vectors, other.vectors)
    np.testing.assert_allclose(first.values, other.values, rtol=1e-8)


class Stopped(Exception):
    """What a kill looks like from inside."""


def stopping(after: int) -> Callable[[krylov.Krylov], None]:
    def stop(found: krylov.Krylov) -> None:
        if len(found.columns) >= after:
            raise Stopped

    return stop


@pytest.mark.parametrize("after", [1, 2, 3, 4])
def test_a_search_stopped_after_any_block_goes_on_to_the_same_bits(after: int) -> None:
    # Four blocks are needed: it then has converged, so that the last stop is of a search that was done.
    g = spectrum(list(np.geomspace(1_000, 100, 6)) + 54 * [0.01])
    whole = pairs(g, 6, block=3, depth=10, tolerance=1e-3)
    assert whole.products == 12
    state = krylov.Krylov()
    with pytest.raises(Stopped):
        pairs(g, 6, block=3, depth=10, tolerance=1e-3, state=state, after_block=stopping(after))
    rest = pairs(g, 6, block=3, depth=10, tolerance=1e-3, state=state)
    assert rest.products == whole.products
    assert torch.equal(rest.values, whole.values)
    assert torch.equal(rest.vectors, whole.vectors)


def test_a_search_that_had_exhausted_the_matrix_goes_on_to_the_same_bits() -> None:
    g = spectrum([5.0, 4.0, 3.0, 2.0, 1.0, 0.5])
    whole = pairs(g, 6, block=2, depth=9, tolerance=0.0)
    state = krylov.Krylov()
    pairs(g, 6, block=2, depth=9, tolerance=0.0, state=state)
    again = pairs(g, 6, block=2, depth=9, tolerance=0.0, state=state)
    assert torch.equal(again.values, whole.values)


def test_a_product_that_is_not_finite_and_a_space_that_is_too_small_are_refused() -> None:
    g = spectrum([3.0, 2.0, 1.0])
    with pytest.raises(DataError, match="not finite"):
        pairs(g * float("nan"), 2, 1)
    with pytest.raises(UsageError, match="at least rank"):
        pairs(g, 3, block=1, depth=2)
    with pytest.raises(UsageError, match="expected 1 to 3"):
        pairs(g, 4, block=1)
    with pytest.raises(UsageError, match="block is 0"):
        pairs(g, 2, block=0)


def evidence_precision(values: Tensor, norm: float) -> float:
    """Return the α that maximises -(Σ log(1 + λ/α) + α |θ|²) / 2, found without its derivative."""

    def minus(log_alpha: float) -> float:
        alpha = np.exp(log_alpha)
        return float(torch.log1p(values / alpha).sum()) + alpha * norm

    return float(np.exp(minimize_scalar(minus, bounds=(-25, 25), method="bounded", options={"xatol": 1e-10}).x))


@pytest.mark.parametrize(
    ("values", "norm"),
    [
        ([1e6, 1e4, 1e2, 1.0], 50.0),
        ([1e-2, 1e-3], 1e-1),
        ([5.0, 0.0, 0.0], 2.0),
        ([1e-3], 1e-3),  # less data than prior: the fixed point turns around the maximum and hardly nears it
    ],
)
def test_the_prior_precision_is_the_maximum_of_the_marginal_likelihood(values: list[float], norm: float) -> None:
    eigenvalues = torch.tensor(values, dtype=DOUBLE)
    assert posterior.marginal_precision(eigenvalues, norm) == pytest.approx(
        evidence_precision(eigenvalues, norm), rel=1e-3
    )


def test_the_posterior_inverts_the_precision_on_its_vectors_and_on_any_others() -> None:
    generator = torch.Generator().manual_seed(2)
    u = torch.linalg.qr(torch.randn(50, 7, generator=generator, dtype=DOUBLE)).Q.T
    values, alpha = torch.tensor([1e5, 1e3, 50.0, 3.0, 1.0, 1e-3, 0.0], dtype=DOUBLE), 0.3
    removed = posterior.retained(values, alpha, "eigenvalue")
    for rows in (u, torch.randn(5, 50, generator=generator, dtype=DOUBLE)):
        precise = (rows @ u.T * values) @ u + alpha * rows
        np.testing.assert_allclose(posterior.covariance(precise, u, removed, alpha), rows, atol=1e-9)
        once = posterior.square_root(rows, u, removed, alpha)
        np.testing.assert_allclose(
            posterior.square_root(once, u, removed, alpha), posterior.covariance(rows, u, removed, alpha), atol=1e-12
        )
    projector = posterior.retained(values, alpha, "projector")
    np.testing.assert_allclose(posterior.square_root(u, u, projector, alpha), torch.zeros(7, 50), atol=1e-12)
    away = posterior.square_root(torch.randn(3, 50, generator=generator, dtype=DOUBLE), u, projector, alpha)
    np.testing.assert_allclose(away @ u.T, torch.zeros(3, 7), atol=1e-12)
    with pytest.raises(UsageError, match="expected one of eigenvalue, projector"):
        posterior.retained(values, alpha, "none")
