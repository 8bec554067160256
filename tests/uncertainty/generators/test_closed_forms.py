"""The other scores of a generator against closed forms, dense algebra and torch's own distributions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.func import functional_call, jacrev

from medaudit.errors import UsageError
from medaudit.networks.vae import MeanEncoder, Vae, VaeShape
from medaudit.uncertainty import generators
from medaudit.uncertainty.slug.model import reconstruction

SHAPE = VaeShape(channels=3, side=8, widths=(8, 8), latent=4)


def tiny(seed: int = 0, **options: object) -> tuple[Vae, Tensor]:
    shape = VaeShape(**{**SHAPE.as_dict(), **options})  # type: ignore[arg-type]
    images = torch.rand(7, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return Vae(shape, seed=seed).eval().requires_grad_(False), images


class LinearDecoder(nn.Module):
    """W z + b as an image."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 192)

    def forward(self, codes: Tensor) -> Tensor:
        return self.layer(codes).view(-1, 3, 8, 8)


def linear() -> tuple[Vae, Tensor]:
    model, images = tiny()
    torch.manual_seed(1)
    model.decoder = LinearDecoder().requires_grad_(False)  # type: ignore[assignment]
    return model, images


def test_scores_of_the_encoder_are_those_of_its_gaussian() -> None:
    model, images = tiny()
    found = generators.encoder_scores(model, images.split(3))
    _, log_variance = model.encoder(images)
    gaussian = Normal(torch.zeros_like(log_variance), torch.exp(0.5 * log_variance))
    np.testing.assert_allclose(found["encoder_entropy"], gaussian.entropy().sum(1).detach(), rtol=1e-5)
    np.testing.assert_allclose(found["encoder_variance"], gaussian.variance.sum(1).detach(), rtol=1e-5)
    np.testing.assert_allclose(found["encoder_log_variance"], log_variance.mean(1).detach(), rtol=1e-5)


def test_a_linear_decoder_turns_the_codes_variance_into_w_sigma_w() -> None:
    model, images = linear()
    w = model.decoder.layer.weight.detach().double()
    variance = model.encoder(images)[1].detach().double().exp()
    wanted = torch.einsum("oz,nz->no", w**2, variance)
    score, pixels = generators.latent_delta(model, images.split(2))
    np.testing.assert_allclose(pixels.reshape(7, -1), wanted, rtol=1e-4)
    np.testing.assert_allclose(score, wanted.sum(1), rtol=1e-4)
    sampled, _ = generators.latent_monte_carlo(model, images.split(3), 4_000, 0)
    np.testing.assert_allclose(sampled, wanted.sum(1), rtol=0.1)


def test_scores_do_not_depend_on_the_batch_and_repeat_with_their_seed() -> None:
    model, images = tiny()
    for size in (2, 7):
        again = generators.latent_monte_carlo(model, images.split(size), 8, 3)[0]
        np.testing.assert_allclose(again, generators.latent_monte_carlo(model, images.split(5), 8, 3)[0], rtol=1e-4)
        bound = generators.negative_elbo(model, images.split(size), 0.1, 4, 3)
        np.testing.assert_allclose(bound, generators.negative_elbo(model, images.split(5), 0.1, 4, 3), rtol=1e-5)


def test_the_evidence_bound_is_that_of_torchs_distributions_and_weighted_bounds_rise() -> None:
    model, images = tiny()
    noise = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    mean, log_variance = (part.detach() for part in model.encoder(images))
    likelihoods, weights = [], []
    for one in noise:
        codes = mean + torch.exp(0.5 * log_variance) * one
        made = model.decoder(codes).detach()
        likelihood = Normal(made, 0.1**0.5).log_prob(images).flatten(1).sum(1)
        prior = Normal(0.0, 1.0).log_prob(codes).sum(1)
        posterior = Normal(mean, torch.exp(0.5 * log_variance)).log_prob(codes).sum(1)
        likelihoods.append(likelihood)
        weights.append(likelihood + prior - posterior)
    divergence = torch.distributions.kl_divergence(
        Normal(mean, torch.exp(0.5 * log_variance)), Normal(torch.zeros_like(mean), torch.ones_like(mean))
    ).sum(1)
    elbo = torch.stack(likelihoods).mean(0) - divergence
    iwae = torch.logsumexp(torch.stack(weights), 0) - math.log(6)
    np.testing.assert_allclose(-generators.negative_elbo(model, [images], 0.1, 6, 0), elbo, rtol=1e-4)
    np.testing.assert_allclose(-generators.negative_iwae(model, [images], 0.1, 6, 0), iwae, rtol=1e-4)
    # In expectation over draws the bound rises with their number, from the evidence bound on.
    many = [
        np.mean([-generators.negative_iwae(model, [images], 0.1, k, seed).mean() for seed in range(60)])
        for k in (1, 5, 25)
    ]
    assert many[0] < many[1] < many[2]


def test_the_last_layers_laplace_is_dense_bayesian_regression() -> None:
    model, images = tiny()
    posterior = generators.fit_last_layer(model, images.split(3), 0.2, 1.5)
    score, pixels = generators.last_layer_scores(model, posterior, images[:2].split(1))
    last = {name: value.detach().double() for name, value in model.decoder.last.named_parameters()}
    double = model.double()

    def made(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        named = {f"last.{name}": value for name, value in parameters.items()}
        return functional_call(double.decoder, named, (double.encode_mean(x),)).flatten()

    def jacobian(x: Tensor) -> Tensor:
        parts = jacrev(made)(last, x.double())
        return torch.cat([parts[name].flatten(1) for name in last], dim=1)

    size = sum(value.numel() for value in last.values())
    precision = 1.5 * torch.eye(size, dtype=torch.float64)
    for image in images:
        j = jacobian(image[None])
        precision += j.T @ j / 0.2
    covariance = torch.linalg.inv(precision)
    for i in range(2):
        j = jacobian(images[i : i + 1])
        wanted = ((j @ covariance) * j).sum(1)
        np.testing.assert_allclose(pixels[i].ravel(), wanted, rtol=1e-3)
        assert score[i] == pytest.approx(float(wanted.sum()), rel=1e-3)
    sigmoid, _ = tiny(output="sigmoid")
    with pytest.raises(UsageError, match="sigmoid"):
        generators.fit_last_layer(sigmoid, [images], 0.2, 1.5)


def test_the_diagonal_is_that_of_the_dense_ggn_and_its_scores_those_of_the_dense_formula() -> None:
    model, images = tiny()
    model = model.double()
    images = images.double()
    f = reconstruction(MeanEncoder(model.encoder), model.decoder, images)

    def made(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(f.chain, {**f.fixed, **parameters}, (x,)).flatten()

    def jacobian(x: Tensor) -> Tensor:
        return f.flat({k: v.flatten(1) for k, v in jacrev(made)(dict(f.parameters), x).items()}, batched=True)

    dense = torch.stack([jacobian(image[None]).square().sum(0) for image in images]).sum(0) / 0.3
    found = generators.ggn_diagonal(f, images.split(3), 0.3, 300, 0)
    big = dense > dense.median()
    assert float((found[big] / dense[big]).mean()) == pytest.approx(1.0, abs=0.02)
    assert float(found.min()) >= 0
    score, pixels = generators.diagonal_scores(f, dense, 2.0, images[:2].split(1), 3_000, 0)
    j = jacobian(images[:1])
    wanted = (j.square() / (dense + 2.0)).sum(1)
    assert score[0] == pytest.approx(float(wanted.sum()), rel=0.1)
    assert np.corrcoef(pixels[0].ravel(), wanted)[0, 1] > 0.97


def test_an_ensembles_variance_and_the_squared_error_are_those_by_hand() -> None:
    models = [tiny(seed)[0] for seed in range(3)]
    _, images = tiny()
    made = np.stack([model.reconstruct(images).detach().numpy() for model in models])
    score, pixels = generators.members_variance(models, images.split(2))
    np.testing.assert_allclose(pixels, made.var(axis=0, ddof=1), rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(score, made.var(axis=0, ddof=1).sum(axis=(1, 2, 3)), rtol=1e-4)
    error, map_ = generators.squared_errors(models[0], images.split(4))
    # Where the picture is nearly right the difference of two float32 has few digits left: eps of a value, twice their
    # difference (at most 1e-2 where rtol is not enough).
    np.testing.assert_allclose(map_, (images.numpy() - made[0]) ** 2, rtol=1e-5, atol=2e-9)
    np.testing.assert_allclose(error, map_.sum(axis=(1, 2, 3)), rtol=1e-5)
