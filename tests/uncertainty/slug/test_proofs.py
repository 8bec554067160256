"""SLUG against exact algebra: Bayesian linear regression, limits, monotonicity, and the laws of its estimators."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from torch import Tensor, nn
from torch.func import functional_call, jacrev

from medaudit.networks.vae import MeanEncoder, Vae, VaeShape
from medaudit.uncertainty import slug

OUT, CODE = 12, 3


class Code(nn.Module):
    """The first numbers of an image: an encoder without parameters."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :CODE]


class Linear(nn.Module):
    """A decoder that is linear in its weights."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.layer, self.scale = nn.Linear(CODE, OUT), scale

    def forward(self, codes: Tensor) -> Tensor:
        return self.scale * self.layer(codes).view(-1, 3, 2, 2)


def regression(n: int = 40, seed: int = 0) -> tuple[Linear, Tensor, Tensor]:
    torch.manual_seed(seed)
    images = torch.randn(n, 3, 2, 2, dtype=torch.float64)
    return Linear().double(), images, torch.randn(6, 3, 2, 2, dtype=torch.float64)


def extended(images: Tensor) -> Tensor:
    return torch.cat([images.flatten(1)[:, :CODE], torch.ones(len(images), 1, dtype=torch.float64)], dim=1)


def full(decoder: nn.Module, images: Tensor, **options: object) -> slug.SlugState:
    rank = sum(p.numel() for p in decoder.parameters())
    chosen = {"residual_variance": 0.5, "prior_precision": 0.3, **options}
    return slug.fit(Code(), decoder, images, rank=rank, block=rank, params="decoder", **chosen)  # type: ignore[arg-type]


def predicted(images: Tensor, new: Tensor, variance: float = 0.5, alpha: float = 0.3) -> np.ndarray:
    """Return Tr A of Bayesian linear regression, exactly: O z' (Z'Z / s² + α I)^-1 z."""
    z, x = extended(images), extended(new)
    precision = z.T @ z / variance + alpha * torch.eye(CODE + 1, dtype=torch.float64)
    return OUT * ((x @ torch.linalg.inv(precision)) * x).sum(dim=1).numpy()


def tiny(seed: int = 0, double: bool = True) -> tuple[Vae, Tensor, Tensor]:
    model = Vae(VaeShape(channels=3, side=8, widths=(8, 8), latent=4), seed=seed).eval()
    generator = torch.Generator().manual_seed(seed)
    images, new = torch.rand(20, 3, 8, 8, generator=generator), torch.rand(4, 3, 8, 8, generator=generator)
    return (model.double(), images.double(), new.double()) if double else (model, images, new)


def of(model: Vae, images: Tensor, rank: int = 12, **options: object) -> slug.SlugState:
    return slug.fit(MeanEncoder(model.encoder), model.decoder, images, rank=rank, **options)  # type: ignore[arg-type]


def covariance(state: slug.SlugState, image: Tensor) -> Tensor:
    """Return A = J Σ J' of one image, (O, O), with J by reverse differentiation and Σ written out."""
    model = state.model

    def f(parameters: dict[str, Tensor]) -> Tensor:
        return functional_call(model.chain, {**model.fixed, **parameters}, (image[None],)).flatten()

    jacobian = model.flat({k: v.flatten(1) for k, v in jacrev(f)(dict(model.parameters)).items()}, batched=True)
    u = state.vectors
    assert u is not None
    sigma = (torch.eye(model.size, dtype=u.dtype) - u.T @ torch.diag(state.removed.to(u)) @ u) / (
        state.fitted.prior_precision
    )
    return jacobian @ sigma @ jacobian.T


def test_a_linear_decoder_gives_bayesian_linear_regression_and_equal_pixels() -> None:
    decoder, images, new = regression()
    said = slug.score(full(decoder, images), new, estimator="exact", pixel_map=True)
    np.testing.assert_allclose(said.score, predicted(images, new), rtol=1e-8)
    assert said.pixels is not None
    np.testing.assert_allclose(said.pixels.reshape(6, -1), said.score[:, None] / OUT * np.ones((1, OUT)), rtol=1e-5)


def test_a_large_prior_precision_leaves_the_jacobian_and_a_small_one_leaves_nothing_of_the_training_images() -> None:
    decoder, images, new = regression()
    said = slug.score(full(decoder, images, prior_precision=1e9), new, estimator="exact")
    np.testing.assert_allclose(said.score * 1e9, OUT * extended(new).square().sum(dim=1), rtol=1e-6)
    sure = slug.score(full(decoder, images, prior_precision=1e-9), images[:5], estimator="exact")
    assert (sure.rho < 1e-9).all()


def test_an_image_seen_m_times_is_known_to_the_noise_over_m() -> None:
    decoder, images, _ = regression()
    for times in (1, 4, 16):
        seen = torch.cat([images, images[:1].repeat(times - 1, 1, 1, 1)])
        said = slug.score(full(decoder, seen, prior_precision=1e-6), images[:1], estimator="exact")
        assert said.score[0] <= OUT * 0.5 / times + 1e-9


def test_more_data_never_makes_anything_less_certain() -> None:
    decoder, images, new = regression()
    before = slug.score(full(decoder, images[:6]), new, estimator="exact").score
    for n in (7, 10, 20, 40):
        after = slug.score(full(decoder, images[:n]), new, estimator="exact").score
        assert (after <= before + 1e-10).all()
        before = after


def test_the_score_scales_with_the_square_of_the_output_and_forgets_the_order_of_the_images() -> None:
    _, images, new = regression()
    torch.manual_seed(1)
    plain = Linear().double()
    scaled = Linear(scale=3.0).double()
    scaled.load_state_dict(plain.state_dict())
    one = slug.score(full(plain, images), new, estimator="exact").score
    # In units three times as small the noise is nine times as large, and the posterior the same.
    nine = slug.score(full(scaled, images, residual_variance=4.5), new, estimator="exact").score
    np.testing.assert_allclose(nine, 9 * one, rtol=1e-8)
    turned = slug.score(full(plain, images.flip(0)), new, estimator="exact").score
    np.testing.assert_allclose(turned, one, rtol=1e-8)


def test_the_exact_score_is_the_trace_and_the_map_the_diagonal_of_the_covariance_written_out() -> None:
    model, images, new = tiny()
    for weights in ("eigenvalue", "projector"):
        state = of(model, images, weights=weights)
        said = slug.score(state, new, estimator="exact", pixel_map=True)
        for i in range(2):
            a = covariance(state, new[i])
            assert said.score[i] == pytest.approx(float(torch.trace(a)), rel=1e-9)
            assert said.pixels is not None
            np.testing.assert_allclose(said.pixels[i].ravel(), torch.diagonal(a).numpy(), rtol=1e-5)
        assert (said.rho >= 0).all()
        assert (said.rho <= 1).all()


@pytest.mark.parametrize("estimator", ["jvp", "vjp", "row_norms", "hutch++", "xtrace"])
def test_estimators_are_unbiased_and_know_their_error(estimator: str) -> None:
    model, images, new = tiny()
    state = of(model, images)
    truth = slug.score(state, new[:2], estimator="exact").score
    runs = [
        slug.score(state, new[:2], estimator=estimator, relative_error=None, min_probes=2, max_probes=24, seed=seed)
        for seed in range(60)
    ]
    values, errors = np.stack([run.score for run in runs]), np.stack([run.error for run in runs])
    z = (values.mean(axis=0) - truth) / (values.std(axis=0, ddof=1) / len(runs) ** 0.5)
    assert np.abs(z).max() < 3.5
    if estimator in ("jvp", "vjp"):
        ratio = values.std(axis=0, ddof=1) / np.sqrt((errors**2).mean(axis=0))
        assert ((ratio > 0.8) & (ratio < 1.25)).all()


def test_the_variance_of_pushed_draws_is_that_of_the_theory_and_a_pixel_is_chi_square() -> None:
    model, images, new = tiny()
    state = of(model, images)
    a = covariance(state, new[0])
    said = slug.score(state, new[:1], relative_error=None, min_probes=2, max_probes=3_000, rho=False, pixel_map=True)
    assert said.each[:, 0].var(ddof=1) == pytest.approx(float(2 * a.square().sum()), rel=0.1)
    diagonal = torch.diagonal(a).numpy()
    draws = np.stack(
        [
            slug.score(
                state, new[:1], relative_error=None, min_probes=2, max_probes=10, rho=False, pixel_map=True, seed=seed
            ).pixels.ravel()  # type: ignore[union-attr]
            for seed in range(1, 160)
        ]
    )
    for pixel in (0, 77, 191):
        assert kstest(10 * draws[:, pixel] / diagonal[pixel], "chi2", args=(10,)).pvalue > 1e-3
    spread = draws.std(axis=0, ddof=1) / diagonal
    assert np.median(spread) == pytest.approx((2 / 10) ** 0.5, rel=0.05)


def test_a_map_by_hutchinson_is_worse_than_one_by_squares_and_can_be_negative() -> None:
    model, images, new = tiny()
    state = of(model, images)
    truth = slug.score(state, new, estimator="exact", pixel_map=True).pixels
    options = {"relative_error": None, "min_probes": 2, "max_probes": 20, "pixel_map": True}
    squares = slug.score(state, new, estimator="jvp", **options).pixels  # type: ignore[arg-type]
    bekas = slug.score(state, new, estimator="vjp", **options).pixels  # type: ignore[arg-type]
    rows = slug.score(state, new, estimator="row_norms", **options).pixels  # type: ignore[arg-type]
    assert squares.min() >= 0  # type: ignore[union-attr]
    assert rows.min() >= 0  # type: ignore[union-attr]
    assert bekas.min() < 0  # type: ignore[union-attr]
    wrong = [float(np.abs(made - truth).mean() / truth.mean()) for made in (rows, squares, bekas)]  # type: ignore
    assert wrong[1] < wrong[2]


def test_probes_are_added_until_each_image_is_known_well_enough_whatever_the_batch() -> None:
    model, images, new = tiny()
    state = of(model, images)
    said = slug.score(state, new, relative_error=0.1, max_probes=2_000)
    assert (said.error / said.score <= 0.1).all()
    assert said.probes.max() < 2_000
    alone = [slug.score(state, new[i : i + 1], relative_error=0.1, max_probes=2_000) for i in range(4)]
    np.testing.assert_array_equal(said.probes, [one.probes[0] for one in alone])
    np.testing.assert_allclose(said.score, [one.score[0] for one in alone], rtol=1e-9)
    value, error = said.contrast(np.asarray([0, 1]), np.asarray([2, 3]))
    assert value == pytest.approx(said.score[:2].mean() - said.score[2:].mean(), rel=0.3, abs=3 * error)
    assert error < np.hypot(said.error[:2].mean(), said.error[2:].mean()) * 1.5


def test_float32_is_near_float64() -> None:
    model, images, new = tiny()
    state = of(model, images)
    single = of(model.float(), images.float())
    both = [slug.score(s, x, estimator="exact").score for s, x in ((state, new), (single, new.float()))]
    np.testing.assert_allclose(both[1], both[0], rtol=2e-2)
