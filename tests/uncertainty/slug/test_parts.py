"""The parts of SLUG against dense algebra: eigenpairs, GGN products, posterior, sketch, saved state."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.func import functional_call, jacrev

from medaudit.errors import DataError, UsageError
from medaudit.networks.vae import MeanEncoder, Vae, VaeShape
from medaudit.uncertainty import slug
from medaudit.uncertainty.slug import krylov, posterior, traces
from medaudit.uncertainty.slug.ggn import Gaussian, Perceptual, ggn_products, ggn_trace, look_at
from medaudit.uncertainty.slug.model import Reconstruction, reconstruction
from medaudit.uncertainty.slug.sketch import Sketch

CPU = torch.device("cpu")


def matrix(size: int, rank: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    half = torch.randn(size, rank, generator=generator, dtype=torch.float64)
    return half @ half.T


def eigenpairs(g: Tensor, rank: int, block: int, **options: object) -> krylov.Eigenpairs:
    return krylov.largest(
        lambda rows: rows @ g, len(g), rank, block=block, seed=0, dtype=g.dtype, device=CPU, **options
    )  # type: ignore[arg-type]


def tiny(seed: int = 0) -> tuple[Vae, Tensor]:
    model = Vae(VaeShape(channels=3, side=8, widths=(8, 8), latent=4), seed=seed).eval().double()
    return model, torch.rand(14, 3, 8, 8, generator=torch.Generator().manual_seed(seed)).double()


def of(model: Vae, images: Tensor, over: str = "all") -> Reconstruction:
    return reconstruction(MeanEncoder(model.encoder), model.decoder, images, over)


def jacobian(f: Reconstruction, images: Tensor) -> Tensor:
    """Return J of all images, (N O, P), by reverse differentiation."""
    codes = f.chain.encode(images).detach()

    def made(parameters: dict[str, Tensor]) -> Tensor:
        if f.over == "decoder":
            inner = {name.removeprefix("decode."): value for name, value in parameters.items()}
            return functional_call(f.chain.decode, inner, (codes,)).flatten()
        return functional_call(f.chain, {**f.fixed, **parameters}, (images,)).flatten()

    return f.flat({name: value.flatten(1) for name, value in jacrev(made)(dict(f.parameters)).items()}, batched=True)


def test_all_eigenpairs_of_a_matrix_are_those_of_lapack() -> None:
    g = matrix(40, 40)
    found = eigenpairs(g, 40, block=7, depth=6)
    np.testing.assert_allclose(found.values, torch.linalg.eigvalsh(g).flip(0), atol=1e-9)
    np.testing.assert_allclose((found.vectors.T * found.values) @ found.vectors, g, atol=1e-8)


def test_residuals_bound_the_distance_to_an_eigenvalue() -> None:
    g = matrix(60, 60)
    found = eigenpairs(g, 12, block=3)
    true = torch.linalg.eigvalsh(g)
    for value, residual in zip(found.values, found.residuals, strict=True):
        assert (true - value).abs().min() <= residual + 1e-8
    assert found.converged(0.5) >= found.converged(0.01)


def test_a_block_finds_every_copy_of_an_eigenvalue_and_a_single_vector_one() -> None:
    distinct = torch.tensor([100.0, 80.0, 60.0, 5.0, 4.0, 3.0, 2.0, 1.0], dtype=torch.float64)
    g = torch.diag(distinct.repeat(3))
    three = eigenpairs(g, 9, block=3, depth=6, tolerance=1e-9)
    np.testing.assert_allclose(three.values, np.repeat([100, 80, 60], 3), rtol=1e-5)
    one = eigenpairs(g, 3, block=1, depth=8, tolerance=1e-9)
    np.testing.assert_allclose(one.values, [100, 80, 60], rtol=1e-6)  # each once: why the default is a block


def test_a_matrix_of_low_rank_is_exhausted_and_exact() -> None:
    g = matrix(50, 4)
    found = eigenpairs(g, 10, block=3, depth=10)
    np.testing.assert_allclose(found.values[:4], torch.linalg.eigvalsh(g).flip(0)[:4], rtol=1e-9)
    np.testing.assert_allclose(found.values[4:], 0, atol=1e-8)


def test_a_search_that_was_stopped_goes_on_to_the_same_bits() -> None:
    g = matrix(50, 50)
    whole = eigenpairs(g, 12, block=3, depth=6, tolerance=0.0)
    state = krylov.Krylov()
    with pytest.raises(KeyboardInterrupt):
        eigenpairs(g, 12, block=3, depth=6, tolerance=0.0, state=state, after_block=stop_at(3))
    rest = eigenpairs(g, 12, block=3, depth=6, tolerance=0.0, state=state)
    assert torch.equal(rest.values, whole.values)
    assert torch.equal(rest.vectors, whole.vectors)


def stop_at(count: int):  # type: ignore[no-untyped-def]
    def after(found: krylov.Krylov) -> None:
        if len(found.columns) == count:
            raise KeyboardInterrupt

    return after


@pytest.mark.parametrize("over", ["all", "decoder"])
def test_products_are_those_of_the_jacobian_written_out(over: str) -> None:
    model, images = tiny()
    f = of(model, images, over)
    j = jacobian(f, images)
    rows = torch.randn(3, f.size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    wanted = rows @ (j.T @ j) / 0.7
    for loader in (images, list(images.split(4)), [(part, 0) for part in images.split(5)], [{"image": images}]):
        made = ggn_products(f, loader, rows, likelihood=Gaussian(), variance=0.7)
        np.testing.assert_allclose(made, wanted, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(f.push(images, rows).flatten(1), rows @ j.T, rtol=1e-8, atol=1e-10)
    trace, error = ggn_trace(f, images, likelihood=Gaussian(), variance=0.7, probes=200, seed=0)
    assert abs(trace - float(j.square().sum()) / 0.7) < 4 * error


def test_a_perceptual_likelihood_adds_the_features_of_the_output() -> None:
    model, images = tiny()
    f = of(model, images[:3])
    j = jacobian(f, images[:3])
    rows = torch.randn(2, f.size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    same = ggn_products(f, images[:3], rows, likelihood=Perceptual(lambda x: x, 0.4), variance=0.7)
    np.testing.assert_allclose(same, rows @ (j.T @ j) * (1 / 0.7 + 2 * 0.4), rtol=1e-8, atol=1e-8)
    weights = torch.randn(30, 192, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def embed(x: Tensor) -> Tensor:
        return torch.tanh(x.flatten(1) @ weights.T / 10)

    dense = torch.zeros(f.size, f.size, dtype=torch.float64)
    by_image = j.view(3, 192, -1)
    wide = jacrev(embed)(f.reconstruct(images[:3])).reshape(3, 30, 3, 192)
    for n in range(3):
        part = wide[n, :, n] @ by_image[n]
        dense += by_image[n].T @ by_image[n] / 0.7 + 2 * 0.4 * part.T @ part
    made = ggn_products(f, images[:3], rows, likelihood=Perceptual(embed, 0.4), variance=0.7)
    np.testing.assert_allclose(made, rows @ dense, rtol=1e-7, atol=1e-7)


def test_the_products_are_half_of_curvlinops_ggn_of_summed_squared_errors() -> None:
    # curvlinops 3.0.1, GGNLinearOperator(net, MSELoss(reduction="sum"), all parameters, [(x, x)]) @ v, first numbers
    # and norm of the product, divided by 2: its loss has 2 J'J. Weights, images and v from the formulas below.
    f, images, v = by_formula()
    made = ggn_products(f, images, v, likelihood=Gaussian(), variance=1.0)[0]
    np.testing.assert_allclose(made[:5], CURVLINOPS["first"], rtol=1e-9)
    assert float(made.norm()) == pytest.approx(CURVLINOPS["norm"], rel=1e-12)


def by_formula() -> tuple[Reconstruction, Tensor, Tensor]:
    """Return a model, images and a vector whose numbers follow from sines alone: no generator to depend on."""
    encode = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 5), torch.nn.Tanh())
    decode = torch.nn.Sequential(torch.nn.Linear(5, 16), torch.nn.SiLU(), torch.nn.Linear(16, 48),
                                 torch.nn.Unflatten(1, (3, 4, 4)))  # fmt: skip
    at = 0
    for part in (encode, decode):
        for parameter in part.parameters():
            count = parameter.numel()
            parameter.data = (0.4 * torch.sin(0.7 * torch.arange(at, at + count, dtype=torch.float64))).view(
                parameter.shape
            )
            at += count
    images = (0.5 + 0.5 * torch.sin(1.3 * torch.arange(6 * 48, dtype=torch.float64))).view(6, 3, 4, 4)
    f = reconstruction(encode, decode, images)
    return f, images, torch.cos(0.9 * torch.arange(f.size, dtype=torch.float64))[None]


CURVLINOPS = {
    "first": [1.0633914816321062, 3.4629520174550104, 4.825748862528031, 3.1552814461257417, 0.8987884467664329],
    "norm": 124.8071168057998,
}


def test_the_square_root_squares_to_the_covariance_and_inverts_the_precision() -> None:
    u = torch.linalg.qr(torch.randn(30, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).Q.T
    values = torch.tensor([9.0, 4.0, 2.0, 1.0, 0.5, 0.1], dtype=torch.float64)
    removed = posterior.retained(values, 0.7, "eigenvalue")
    eye = torch.eye(30, dtype=torch.float64)
    root = posterior.square_root(eye, u, removed, 0.7)
    sigma = posterior.covariance(eye, u, removed, 0.7)
    np.testing.assert_allclose(root @ root.T, sigma, atol=1e-12)
    np.testing.assert_allclose(sigma @ ((u.T * values) @ u + 0.7 * eye), eye, atol=1e-12)
    projector = posterior.covariance(eye, u, posterior.retained(values, 0.7, "projector"), 0.7)
    np.testing.assert_allclose(projector @ u.T, 0, atol=1e-12)


def test_the_prior_precision_maximises_the_marginal_likelihood() -> None:
    values, norm, size = torch.tensor([50.0, 20.0, 5.0, 1.0], dtype=torch.float64), 3.7, 40

    def minus_log_evidence(log_alpha: float) -> float:
        alpha = np.exp(log_alpha)
        determinant = size * log_alpha + float(torch.log1p(values / alpha).sum())
        return 0.5 * (determinant + alpha * norm - size * log_alpha)

    best = minimize_scalar(minus_log_evidence, bounds=(-8, 8), method="bounded", options={"xatol": 1e-9})
    assert posterior.marginal_precision(values, norm) == pytest.approx(np.exp(best.x), rel=1e-4)
    with pytest.raises(UsageError, match="no maximum"):
        posterior.marginal_precision(values * 0, norm)


def test_a_sketch_keeps_lengths_on_average_and_its_rows_are_orthogonal() -> None:
    v = torch.randn(1, 101, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    lengths = [float(Sketch.draw(101, 20, seed)(v).square().sum()) for seed in range(800)]
    assert np.mean(lengths) == pytest.approx(float(v.square().sum()), rel=0.03)
    dense = Sketch.draw(101, 20, 0)(torch.eye(101, dtype=torch.float64)).T
    np.testing.assert_allclose(dense @ dense.T, 101 / 20 * torch.eye(20), atol=1e-10)
    whole = Sketch.draw(101, 101, 3)(torch.cat([v, 2 * v]))
    assert float(whole[0] @ whole[1]) == pytest.approx(float(2 * v.square().sum()))


def test_a_sketched_score_nears_the_projectors_as_the_sketch_grows() -> None:
    model, images = tiny()
    new = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(9)).double()
    f = of(model, images)
    parts = MeanEncoder(model.encoder), model.decoder
    options = {"rank": 9, "weights": "projector", "prior_precision": 1.0, "block": 3, "depth": 3}
    exact = slug.score(slug.fit(*parts, images, **options), new, estimator="vjp", relative_error=None)  # type: ignore
    gaps = []
    for size in (60, 400, f.size):
        state = slug.fit(*parts, images, sketch=size, **options)  # type: ignore[arg-type]
        said = slug.score(state, new, estimator="vjp", relative_error=None)
        assert said.score.min() >= 0
        gaps.append(float(np.abs(said.score / exact.score - 1).max()))
    assert gaps[2] < 1e-6
    assert gaps[1] < gaps[0] + 0.05
    with pytest.raises(UsageError, match="fit without sketch"):
        slug.score(state, new, pixel_map=True)


def test_stochastic_traces_are_exact_for_low_rank_and_their_errors_honest() -> None:
    g, generator = matrix(40, 3), torch.Generator().manual_seed(1)
    for estimate in (traces.hutch_pp, traces.xtrace):
        value, _ = estimate(lambda rows: rows @ g, traces.signs(12, 40, generator, torch.float64))
        assert value == pytest.approx(float(torch.trace(g)), rel=1e-9)
    full = matrix(40, 40, seed=2)
    for estimate in (traces.hutchinson, traces.hutch_pp, traces.xtrace):
        found = np.asarray(
            [estimate(lambda rows: rows @ full, traces.signs(18, 40, generator, torch.float64)) for _ in range(300)]
        )
        z = (found[:, 0].mean() - float(torch.trace(full))) / (found[:, 0].std(ddof=1) / 300**0.5)
        assert abs(z) < 3.5
        assert 0.5 < np.median(found[:, 1]) / found[:, 0].std(ddof=1) < 1.6


def test_a_state_comes_back_from_its_file_and_belongs_to_one_model_and_one_training_set(tmp_path: Path) -> None:
    model, images = tiny()
    parts = MeanEncoder(model.encoder), model.decoder
    state = slug.fit(*parts, images, rank=8)
    state.save(tmp_path / "slug.pt")
    again = slug.load(tmp_path / "slug.pt", *parts, images.flip(0))
    np.testing.assert_array_equal(slug.score(again, images[:2]).score, slug.score(state, images[:2]).score)
    assert "eigenpairs" in slug.describe(again)
    other, _ = tiny(seed=1)
    with pytest.raises(DataError, match="another model"):
        slug.load(tmp_path / "slug.pt", MeanEncoder(other.encoder), other.decoder, images)
    with pytest.raises(DataError, match="other images"):
        slug.load(tmp_path / "slug.pt", *parts, images[:-1])
    (tmp_path / "cut.pt").write_bytes((tmp_path / "slug.pt").read_bytes()[:2_000])
    with pytest.raises(DataError, match="damaged"):
        slug.load(tmp_path / "cut.pt", *parts, images)


def test_a_fit_that_was_killed_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    model, images = tiny()
    parts = MeanEncoder(model.encoder), model.decoder
    whole = slug.fit(*parts, images, rank=12, tolerance=0.0)

    def kill(done: int, of_: int) -> None:
        if done > 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        slug.fit(*parts, images, rank=12, tolerance=0.0, checkpoint=tmp_path / "krylov.pt", progress=kill)
    assert (tmp_path / "krylov.pt").exists()
    rest = slug.fit(*parts, images, rank=12, tolerance=0.0, checkpoint=tmp_path / "krylov.pt")
    assert torch.equal(rest.values, whole.values)
    assert torch.equal(rest.vectors, whole.vectors)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="another model"):
        slug.fit(*parts, images[:9], rank=12, checkpoint=tmp_path / "krylov.pt")


def test_a_part_of_the_training_images_stands_for_all() -> None:
    model, images = tiny()
    parts = MeanEncoder(model.encoder), model.decoder
    part = slug.fit(*parts, images, rank=6, max_images=7, training_images=14, residual_variance=0.1)
    alone = slug.fit(*parts, images[:7], rank=6, residual_variance=0.1)
    np.testing.assert_allclose(part.values, 2 * alone.values)
    assert part.fitted.captured == pytest.approx(alone.fitted.captured)


def test_the_fingerprint_forgets_order_and_counts_copies() -> None:
    model, images = tiny()
    f = of(model, images)
    assert look_at(f, images, None).fingerprint == look_at(f, images.flip(0), None).fingerprint
    twice = torch.cat([images[:1], images[:1]])
    assert look_at(f, twice, None).fingerprint != look_at(f, images[:1], None).fingerprint
