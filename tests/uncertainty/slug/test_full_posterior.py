"""With all eigenpairs SLUG is Laplace's approximation: laplace-torch, linear regression, and what must not matter.

The rank is the number of parameters here, so that nothing is approximated but the posterior.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medaudit.networks.vae import MeanEncoder, Vae, VaeShape
from medaudit.uncertainty import slug

# laplace-torch 0.3, FullLaplace(decoder, "regression", sigma_noise=sqrt(0.5), prior_precision=0.3) on the codes and
# images of `by_formula`, float64: its functional variance at three new codes, and the largest eigenvalues of H / s².
LAPLACE_TORCH = {
    "trace": [5.771250001331653, 12.119744207553834, 3.3661976036406447],
    "diagonal": [0.5234611985748532, 0.5149949575497643, 0.485453570459379, 0.44937717483672907, 0.4245224099501203,
                 0.4231226790143958, 0.44586692328517197, 0.48156052827904167, 0.5126352625493015, 0.5237962819943673,
                 0.5095501831649168, 0.4769088316736114],
    "values": [64.34841354286843, 49.41124259612347, 43.008441508785765, 30.320446539085275, 21.177896853403432],
}  # fmt: skip


class Code(nn.Module):
    """The first three numbers of an image: an encoder without parameters."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :3]


class Scaled(nn.Module):
    """A decoder times a number."""

    def __init__(self, decode: nn.Module, scale: float) -> None:
        super().__init__()
        self.decode, self.scale = decode, scale

    def forward(self, codes: Tensor) -> Tensor:
        return self.scale * self.decode(codes)


def sines(model: nn.Module) -> nn.Module:
    at = 0
    for p in model.parameters():
        p.data = (0.4 * torch.sin(0.7 * torch.arange(at, at + p.numel(), dtype=torch.float64))).view(p.shape)
        at += p.numel()
    return model


def by_formula() -> tuple[nn.Module, Tensor, Tensor]:
    decode = sines(nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 12), nn.Unflatten(1, (3, 2, 2))))
    images = torch.sin(1.3 * torch.arange(96, dtype=torch.float64)).view(8, 3, 2, 2)
    return decode, images, torch.sin(0.9 * torch.arange(36, dtype=torch.float64) + 0.3).view(3, 3, 2, 2)


def convolutional() -> tuple[nn.Module, Tensor, Tensor]:
    decode = sines(nn.Sequential(nn.Linear(3, 8), nn.Unflatten(1, (2, 2, 2)), nn.Conv2d(2, 4, 3, padding=1),
                                 nn.GroupNorm(1, 4), nn.SiLU(), nn.Upsample(scale_factor=2),
                                 nn.Conv2d(4, 3, 3, padding=1)))  # fmt: skip
    images = torch.sin(1.3 * torch.arange(12 * 48, dtype=torch.float64)).view(12, 3, 4, 4)
    return decode, images, torch.sin(0.9 * torch.arange(3 * 48, dtype=torch.float64) + 0.3).view(3, 3, 4, 4)


def full(decode: nn.Module, images: object, **options: object) -> slug.SlugState:
    size = sum(p.numel() for p in decode.parameters())
    chosen = {"residual_variance": 0.5, "prior_precision": 0.3, "block": size, "params": "decoder", "trace_probes": 1}
    return slug.fit(Code(), decode, images, size, **{**chosen, **options})  # type: ignore[arg-type]


def exact(state: slug.SlugState, images: Tensor) -> np.ndarray:
    return slug.score(state, images, estimator="exact").score


def test_trace_and_diagonal_are_laplace_torchs() -> None:
    decode, images, new = by_formula()
    state = full(decode, list(images.split(3)))
    said = slug.score(state, new, estimator="exact", pixel_map=True)
    np.testing.assert_allclose(state.values[:5], LAPLACE_TORCH["values"], rtol=1e-9)
    np.testing.assert_allclose(said.score, LAPLACE_TORCH["trace"], rtol=1e-8)
    assert said.pixels is not None
    np.testing.assert_allclose(said.pixels[0].ravel(), LAPLACE_TORCH["diagonal"], rtol=1e-6)


def test_the_outputs_noise_and_the_priors_precision_enter_as_in_linear_regression() -> None:
    torch.manual_seed(0)
    decode = nn.Sequential(nn.Linear(3, 12), nn.Unflatten(1, (3, 2, 2))).double()
    _, images, new = by_formula()
    z, x = (
        torch.cat([part.flatten(1)[:, :3], torch.ones(len(part), 1, dtype=torch.float64)], dim=1)
        for part in (images, new)
    )
    for variance, alpha, scale in (
        (0.5, 0.3, 1.0),
        (4.0, 0.3, 1.0),
        (0.5, 20.0, 1.0),
        (0.5, 0.3, 3.0),
        (1e-4, 1e-2, 0.1),
    ):
        precision = scale**2 * z.T @ z / variance + alpha * torch.eye(4, dtype=torch.float64)
        wanted = 12 * scale**2 * ((x @ torch.linalg.inv(precision)) * x).sum(dim=1)
        state = full(Scaled(decode, scale), images, residual_variance=variance, prior_precision=alpha)
        said = slug.score(state, new, estimator="exact", pixel_map=True)
        np.testing.assert_allclose(said.score, wanted, rtol=1e-8)
        np.testing.assert_allclose(said.pixels, (wanted / 12)[:, None, None, None].expand(-1, 3, 2, 2), rtol=1e-5)  # type: ignore[arg-type]
        np.testing.assert_allclose(said.rho, said.score / said.jacobian, rtol=1e-10)
        np.testing.assert_allclose(said.jacobian, 12 * scale**2 * x.square().sum(dim=1) / alpha, rtol=1e-8)


def test_the_projector_scales_with_the_square_of_the_output_at_one_noise_and_prior() -> None:
    decode, images, new = by_formula()
    plain = exact(full(decode, images, weights="projector", prior_precision=1.0), new)
    for scale in (0.2, 5.0):
        scaled = full(Scaled(decode, scale), images, weights="projector", prior_precision=1.0)
        np.testing.assert_allclose(exact(scaled, new), scale**2 * plain, atol=1e-8 * scale**2)
    half = slug.fit(Code(), decode, images, 20, params="decoder", weights="projector", prior_precision=4.0, block=4)
    one = slug.fit(Code(), decode, images, 20, params="decoder", weights="projector", prior_precision=1.0, block=4)
    np.testing.assert_allclose(4 * exact(half, new), exact(one, new), rtol=1e-9)  # α is a mere scale


def test_a_strong_prior_leaves_the_jacobian_and_a_weak_one_leaves_nothing_of_what_was_seen() -> None:
    decode, images, new = convolutional()
    strong = slug.score(full(decode, images, prior_precision=1e10), new, estimator="exact")
    np.testing.assert_allclose(strong.score, strong.jacobian, rtol=1e-5)
    np.testing.assert_allclose(strong.rho, 1, rtol=1e-5)
    weak = slug.score(full(decode, images, prior_precision=1e-8), images[:3], estimator="exact")
    assert (weak.rho < 1e-6).all()
    assert (weak.score <= 48 * 0.5).all()


def test_a_datum_seen_m_times_is_known_to_the_noise_over_m_and_any_datum_makes_everything_more_certain() -> None:
    decode, images, new = convolutional()
    before = exact(full(decode, images[:2]), torch.cat([new, images]))
    for seen in (images[:3], images, torch.cat([images, *4 * [new[:1]]])):
        after = exact(full(decode, seen), torch.cat([new, images]))
        assert (after <= before * (1 + 1e-9)).all()
        before = after
    decode, images, new = by_formula()
    for times in (1, 5, 25):
        often = torch.cat([images[:4], new[:1].repeat(times, 1, 1, 1)])
        assert exact(full(decode, often, prior_precision=1e-6), new[:1])[0] <= 12 * 0.5 / times * (1 + 1e-9)


def test_batches_order_and_the_seed_of_the_search_do_not_matter() -> None:
    decode, images, new = by_formula()
    wanted = exact(full(decode, images), new)
    shuffled = images[torch.randperm(8, generator=torch.Generator().manual_seed(0))]
    for loader in (list(images.split(1)), list(images.split(5)), shuffled, list(shuffled.split(7))):
        np.testing.assert_allclose(exact(full(decode, loader), new), wanted, rtol=1e-8)
    np.testing.assert_allclose(exact(full(decode, images, seed=9), new), wanted, rtol=1e-8)
    assert full(decode, shuffled).fitted.data == full(decode, images).fitted.data


def test_hidden_channels_may_be_permuted() -> None:
    decode, images, new = convolutional()
    wanted = exact(full(decode, images), new)
    order = torch.tensor([2, 0, 3, 1])
    first, norm, last = decode[2], decode[3], decode[6]  # type: ignore[index]
    for p in (first.weight, first.bias, norm.weight, norm.bias):
        p.data = p.data[order].clone()
    last.weight.data = last.weight.data[:, order].clone()
    np.testing.assert_allclose(exact(full(decode, images), new), wanted, rtol=1e-8)


def test_more_eigenpairs_are_more_certainty_and_all_of_them_are_all_there_is() -> None:
    decode, images, new = by_formula()
    all_of_them = exact(full(decode, images), new)
    before = np.full(3, np.inf)
    for rank in (1, 5, 20, 50):
        said = exact(few(decode, images, rank), new)
        assert (said <= before * (1 + 1e-9)).all()
        assert (said >= all_of_them * (1 - 1e-9)).all()
        before = said


def few(decode: nn.Module, images: Tensor, rank: int) -> slug.SlugState:
    return slug.fit(Code(), decode, images, rank, params="decoder", block=4, depth=23, tolerance=1e-12,
                    residual_variance=0.5, prior_precision=0.3)  # fmt: skip


def test_what_training_took_away_is_between_nothing_and_the_whole_jacobian() -> None:
    model = Vae(VaeShape(channels=1, side=8, widths=(8, 8), latent=3), seed=3).eval().double()
    images = torch.rand(9, 1, 8, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    for weights in ("eigenvalue", "projector"):
        state = slug.fit(MeanEncoder(model.encoder), model.decoder, images, 40, weights=weights)
        said = slug.score(state, images[:3], estimator="exact")
        assert (said.score >= 0).all()
        assert (said.score <= said.jacobian).all()
        few_probes = slug.score(state, images, estimator="vjp", max_probes=16, relative_error=None)
        assert np.nanmin(few_probes.each) >= 0


def test_single_precision_is_near_double() -> None:
    decode, images, new = convolutional()
    wanted = slug.score(full(decode, images), new, estimator="exact")
    single = slug.score(full(decode.float(), images.float()), new.float(), estimator="exact")
    np.testing.assert_allclose(single.score, wanted.score, rtol=1e-3)
    np.testing.assert_allclose(single.jacobian, wanted.jacobian, rtol=1e-5)


def test_part_of_the_images_stands_for_all_by_their_ratio() -> None:
    decode, images, new = by_formula()
    part = full(decode, [images[:3], images[3:]], max_images=4, training_images=12, residual_variance=0.5)
    thrice = full(decode, images[:4].repeat(3, 1, 1, 1))
    np.testing.assert_allclose(exact(part, new), exact(thrice, new), rtol=1e-8)
    assert (part.fitted.images, part.fitted.training_images) == (4, 12)
    assert part.fitted.trace == pytest.approx(thrice.fitted.trace)
