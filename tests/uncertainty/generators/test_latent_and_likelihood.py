"""Scores of the code and of the likelihood against closed forms of a linear decoder: probabilistic PCA."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from medaudit.errors import UsageError
from medaudit.networks.vae import Vae, VaeShape
from medaudit.uncertainty import generators

NOISE = 0.3
SHAPE = (1, 3, 4)


class Exact:
    """x = W z + b + noise with orthogonal columns of W, and an encoder that is the exact posterior of z."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        basis = torch.linalg.qr(torch.randn(12, 3, generator=generator, dtype=torch.float64)).Q
        self.w = basis * torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64)
        self.b = torch.rand(12, generator=generator, dtype=torch.float64)
        self.precision = 1 + self.w.square().sum(0) / NOISE

    def encoder(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mean = (images.flatten(1) - self.b) @ self.w / NOISE / self.precision
        return mean, -self.precision.log().expand_as(mean)

    def decoder(self, codes: Tensor) -> Tensor:
        return (codes @ self.w.T + self.b).view(-1, *SHAPE)

    def evidence(self, images: Tensor) -> np.ndarray:
        covariance = self.w @ self.w.T + NOISE * torch.eye(12, dtype=torch.float64)
        return MultivariateNormal(self.b, covariance).log_prob(images.flatten(1)).numpy()


def some(count: int = 6) -> Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_with_the_exact_posterior_one_code_gives_the_evidence_itself() -> None:
    model, images = Exact(), some()
    for draws in (1, 5):
        found = -generators.negative_iwae(model, images.split(4), NOISE, draws, 0)
        np.testing.assert_allclose(found, model.evidence(images), rtol=1e-9)
    elbo = -generators.negative_elbo(model, [images], NOISE, 4_000, 0)
    np.testing.assert_allclose(elbo, model.evidence(images), atol=0.1)


def test_a_wrong_posterior_loses_its_kl_and_more_codes_win_it_back() -> None:
    model, images = Exact(), some()
    shifted = SimpleNamespace(encoder=lambda x: (model.encoder(x)[0] + 0.3, model.encoder(x)[1]), decoder=model.decoder)
    # KL of two Gaussians with equal variances 1 / precision whose means differ by 0.3.
    lost = float((0.5 * 0.3**2 * model.precision).sum())
    elbo = -generators.negative_elbo(shifted, [images], NOISE, 4_000, 0)
    np.testing.assert_allclose(elbo, model.evidence(images) - lost, atol=0.1)
    mean = [np.mean([-generators.negative_iwae(shifted, [images], NOISE, k, s) for s in range(40)]) for k in (1, 8, 64)]
    assert elbo.mean() - 0.3 < mean[0] < mean[1] < mean[2] < model.evidence(images).mean() + 0.02
    assert model.evidence(images).mean() - mean[2] < 0.2 * lost


def test_the_codes_variance_through_a_linear_decoder_is_w_sigma_w_by_every_way() -> None:
    model, images = Exact(), some(3)
    wanted = (model.w.square() / model.precision).sum(1)
    score, pixels = generators.latent_delta(model, images.split(2))
    np.testing.assert_allclose(pixels.reshape(3, -1), np.tile(wanted, (3, 1)), rtol=1e-5)
    np.testing.assert_allclose(score, float(wanted.sum()), rtol=1e-10)
    # The columns of W are orthogonal, so the probes' cross terms cancel in the sum, draw by draw.
    by_probes, map_ = generators.latent_delta(model, images, 400, seed=2)
    np.testing.assert_allclose(by_probes, float(wanted.sum()), rtol=1e-10)
    np.testing.assert_allclose(map_.reshape(3, -1), np.tile(wanted, (3, 1)), rtol=0.25)
    drawn = generators.latent_spread(model, [images], 4_000, 0)
    assert np.all(np.abs(drawn.score - float(wanted.sum())) < 4 * drawn.error)
    np.testing.assert_allclose(drawn.pixels.reshape(3, -1), np.tile(wanted, (3, 1)), rtol=0.12)


def test_the_standard_error_is_the_spread_over_seeds() -> None:
    model, images = Exact(), some(1)
    found = [generators.latent_spread(model, [images], 40, seed) for seed in range(300)]
    assert np.mean([one.error[0] for one in found]) == pytest.approx(np.std([one.score[0] for one in found]), rel=0.15)
    assert np.isnan(generators.latent_spread(model, [images], 2, 0).error[0])


def test_the_residual_variance_is_that_of_all_pixels() -> None:
    model, images = Exact(), some()
    made = model.decoder(model.encoder(images)[0])
    wanted = float((images - made).square().mean())
    assert generators.residual_variance(model, images.split(4)) == pytest.approx(wanted, rel=1e-6)


def test_scores_are_those_of_eval_mode_and_the_mode_is_given_back() -> None:
    model = Vae(VaeShape(side=8, widths=(8, 8), latent=4, dropout=0.5)).train()
    images = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    found = generators.squared_errors(model, [images])[0]
    assert model.training
    assert all(part.training for part in model.decoder.modules() if isinstance(part, nn.Dropout2d))
    with torch.no_grad():
        made = model.eval().reconstruct(images)
    np.testing.assert_allclose(found, (images - made).square().flatten(1).sum(1), rtol=1e-5)


def test_options_that_mean_nothing_are_refused() -> None:
    model, images = Exact(), some()
    with pytest.raises(UsageError, match="2 or more"):
        generators.latent_spread(model, [images], 1, 0)
    with pytest.raises(UsageError, match="probes is 0"):
        generators.latent_delta(model, [images], 0)
    with pytest.raises(UsageError, match="variance is 0"):
        generators.negative_elbo(model, [images], 0.0, 4, 0)


def test_every_method_of_the_table_says_what_it_needs() -> None:
    needs = {"one model", "members", "dropout model", "training images"}
    assert {method.needs for method in generators.METHODS.values()} == needs
    assert set(generators.ENCODER_SCORES) <= set(generators.METHODS)
    assert [name for name, method in generators.METHODS.items() if method.oracle] == ["squared_error_oracle"]
