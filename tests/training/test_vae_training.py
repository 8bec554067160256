"""A VAE and its training: what it is made of, its loss, and that a killed training ends with the same bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from medaudit.errors import UsageError
from medaudit.networks import vae
from medaudit.training.vae import VaeRecipe, fit_vae, vae_loss

SHAPE = vae.VaeShape(channels=3, side=8, widths=(8, 8), latent=4)


def images(n: int = 30) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (0.5 + 0.3 * rng.normal(size=(n, 3, 1, 1)) + np.zeros((1, 1, 8, 8))).clip(0, 1).astype(np.float32)


def test_images_come_back_in_their_own_shape_and_one_seed_gives_one_net() -> None:
    x = torch.rand(5, 3, 8, 8)
    model = vae.Vae(SHAPE, seed=3).eval()
    assert model.reconstruct(x).shape == x.shape
    assert torch.equal(model.reconstruct(x), vae.Vae(SHAPE, seed=3).eval().reconstruct(x))
    assert not torch.equal(model.reconstruct(x), vae.Vae(SHAPE, seed=4).eval().reconstruct(x))
    assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
    alone = torch.cat([model.reconstruct(one[None]) for one in x])
    torch.testing.assert_close(alone, model.reconstruct(x))  # one image's reconstruction knows no other image


def test_set_ups_differ_as_they_say() -> None:
    x = torch.rand(4, 3, 8, 8)
    sigmoid = vae.Vae(replace(SHAPE, output="sigmoid")).reconstruct(x)
    assert 0 < float(sigmoid.min()) < float(sigmoid.max()) < 1
    plain = vae.Vae(replace(SHAPE, norm=False))
    assert not any(isinstance(module, nn.GroupNorm) for module in plain.modules())
    centred, raw = vae.Vae(SHAPE), vae.Vae(replace(SHAPE, centred=False))
    torch.testing.assert_close(centred.encode_mean(x), raw.encode_mean((x - vae.MEAN) / vae.SCALE))
    for options, said in (
        ({"side": 10}, "cannot be halved"),
        ({"output": "tanh"}, "linear"),
        ({"dropout": 1.0}, "less"),
    ):
        with pytest.raises(UsageError, match=said):
            replace(SHAPE, **options)  # type: ignore[arg-type]


def test_the_divergence_is_torchs_own() -> None:
    mean, log_variance = torch.randn(6, 4), torch.randn(6, 4)
    wanted = kl_divergence(Normal(mean, torch.exp(0.5 * log_variance)), Normal(torch.zeros(4), torch.ones(4))).sum(1)
    torch.testing.assert_close(vae.kl_divergence(mean, log_variance), wanted)


def test_the_losss_gradient_is_that_of_a_gaussian_whose_variance_is_the_error_itself() -> None:
    model = vae.Vae(SHAPE).double()
    x = torch.from_numpy(images(6)).double()
    torch.manual_seed(0)
    losses = vae_loss(model, x, VaeRecipe(SHAPE, steps=1, beta=0.7))
    (ours,) = torch.autograd.grad(losses["loss"], [model.decoder.last.weight])
    torch.manual_seed(0)
    made, mean, log_variance = model(x)
    s2 = (x - made).square().mean().detach() + 1e-6
    bound = ((x - made).square() / (2 * s2)).mean() + 0.7 * vae.kl_divergence(mean, log_variance).mean() / 192
    (wanted,) = torch.autograd.grad(bound, [model.decoder.last.weight])
    torch.testing.assert_close(ours, wanted)
    with pytest.raises(ValueError, match="needs a distance"):
        vae_loss(model, x, VaeRecipe(SHAPE, steps=1, perceptual=1.0))


def test_training_lowers_the_error_and_a_killed_one_ends_with_the_same_bits(tmp_path: Path) -> None:
    data, recipe = images(), VaeRecipe(SHAPE, steps=150, batch_size=8, epochs=3, beta=0.01, learning_rate=3e-3)
    rows = list(range(30))
    x = torch.from_numpy(data)
    before = float((x - vae.Vae(SHAPE, seed=1).reconstruct(x)).square().mean())
    whole = fit_vae(vae.Vae(SHAPE, seed=1), data, rows, recipe, tmp_path / "whole", seed=1)
    assert float((x - whole.reconstruct(x)).square().mean()) < before / 3

    def stop(model: nn.Module) -> dict[str, float]:
        if len(list((tmp_path / "killed").glob("checkpoint-*.pt"))) == 1:
            raise KeyboardInterrupt
        return {"loss": 0.0}

    with pytest.raises(KeyboardInterrupt):
        fit_vae(vae.Vae(SHAPE, seed=1), data, rows, recipe, tmp_path / "killed", seed=1, after_epoch=stop)
    rest = fit_vae(vae.Vae(SHAPE, seed=1), data, rows, recipe, tmp_path / "killed", seed=1)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, rest.state_dict()[name]), name
