"""A VAE's parts: shapes, what each option changes, and that its Jacobian knows neither a mode nor other images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence
from torch.func import jvp

from medaudit.errors import UsageError
from medaudit.networks import vae
from medaudit.training.vae import VAES

SHAPE = vae.VaeShape(channels=3, side=16, widths=(8, 16), latent=5)


def images(shape: vae.VaeShape = SHAPE, n: int = 4) -> torch.Tensor:
    return torch.rand(n, shape.channels, shape.side, shape.side, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "shape",
    [
        SHAPE,
        replace(SHAPE, channels=1),
        replace(SHAPE, widths=(8,)),
        replace(SHAPE, side=8, widths=(8, 8, 16)),
        replace(SHAPE, side=48, widths=(8, 16, 24, 32)),
        *(replace(recipe.shape, widths=(4,) * len(recipe.shape.widths), latent=3) for recipe in VAES.values()),
    ],
)
def test_images_of_any_halvable_side_come_back_in_their_own_shape(shape: vae.VaeShape) -> None:
    model, x = vae.Vae(shape), images(shape, 2)
    mean, log_variance = model.encoder(x)
    assert mean.shape == log_variance.shape == (2, shape.latent)
    assert model.reconstruct(x).shape == x.shape
    made, again, _ = model(x)
    assert made.shape == x.shape
    assert torch.equal(again, mean)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"side": 18}, "cannot be halved 2 times; expected a multiple of 4"),
        ({"side": 0}, "multiple of 4"),
        ({"side": 16, "widths": (8,) * 5}, "multiple of 32"),
        ({"output": "tanh"}, "expected 'linear' or 'sigmoid'"),
        ({"dropout": 1.0}, "less than 1"),
        ({"dropout": -0.1}, "0 or more"),
    ],
)
def test_shapes_that_cannot_be_built_are_refused(options: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        replace(SHAPE, **options)


def test_no_part_depends_on_the_mode_or_on_other_images() -> None:
    model, x = vae.Vae(SHAPE), images()
    assert not any(isinstance(part, nn.modules.batchnorm._NormBase) for part in model.modules())
    assert torch.equal(model.train().reconstruct(x), model.eval().reconstruct(x))
    torch.testing.assert_close(torch.cat([model.reconstruct(one[None]) for one in x]), model.reconstruct(x))


def test_dropout_is_in_the_decoder_only_and_only_where_it_was_asked_for() -> None:
    assert not any(isinstance(part, nn.Dropout2d) for part in vae.Vae(SHAPE).modules())
    model, x = vae.Vae(replace(SHAPE, dropout=0.5)), images()
    assert not any(isinstance(part, nn.Dropout2d) for part in model.encoder.modules())
    torch.manual_seed(0)
    assert not torch.equal(model.reconstruct(x), model.reconstruct(x))
    assert torch.equal(model.eval().reconstruct(x), model.reconstruct(x))


def test_centring_brings_inputs_to_mean_0_and_outputs_back() -> None:
    centred, raw = vae.Vae(SHAPE), vae.Vae(replace(SHAPE, centred=False))
    x = images()
    torch.testing.assert_close(centred.encode_mean(x), raw.encode_mean((x - 0.5) / 0.25))
    codes = torch.randn(3, 5, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(centred.decoder(codes), raw.decoder(codes) * 0.25 + 0.5)


def test_a_sigmoid_is_that_of_the_linear_output_and_flat_where_that_is_far_from_0() -> None:
    linear, sigmoid = vae.Vae(replace(SHAPE, centred=False)), vae.Vae(replace(SHAPE, output="sigmoid"))
    codes = torch.randn(3, 5, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(sigmoid.decoder(codes), torch.sigmoid(linear.decoder(codes)))
    with torch.no_grad():
        sigmoid.decoder.last.bias.fill_(-12.0)
        linear.decoder.last.bias.fill_(-12.0)
    along = torch.ones_like(codes)
    dark, same = (jvp(net.decoder, (codes,), (along,))[1].abs().max() for net in (sigmoid, linear))
    assert float(dark.detach()) < 1e-3 * float(same.detach())


def test_without_norm_there_is_none_and_with_it_each_block_has_one() -> None:
    counted = [
        sum(isinstance(part, nn.GroupNorm) for part in vae.Vae(replace(SHAPE, norm=norm)).modules())
        for norm in (False, True)
    ]
    assert counted == [0, 3]  # two blocks of the encoder, one of the decoder


def test_weights_follow_from_the_seed_and_nothing_else() -> None:
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    first = vae.Vae(SHAPE, seed=3).state_dict()
    assert torch.equal(torch.random.get_rng_state(), state)  # the caller's randomness is its own
    torch.manual_seed(77)
    second, other = vae.Vae(SHAPE, seed=3).state_dict(), vae.Vae(SHAPE, seed=4).state_dict()
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert any(not torch.equal(value, other[name]) for name, value in first.items())


def test_a_shape_kept_as_plain_values_builds_the_same_net() -> None:
    kept = replace(SHAPE, dropout=0.2).as_dict()
    again = vae.VaeShape(**{**kept, "widths": tuple(kept["widths"])})
    assert again == replace(SHAPE, dropout=0.2)


def test_codes_are_drawn_from_the_encoders_gaussian() -> None:
    shape = vae.VaeShape(channels=1, side=4, widths=(4,), latent=3)
    model = vae.Vae(shape).requires_grad_(False)
    model.decoder = nn.Identity()  # type: ignore[assignment]
    torch.manual_seed(0)
    codes, mean, log_variance = model(images(shape, 1).expand(20_000, -1, -1, -1))
    spread = torch.exp(0.5 * log_variance[0])
    np.testing.assert_allclose(codes.mean(0), mean[0], atol=float(5 * spread.max() / 20_000**0.5))
    np.testing.assert_allclose(codes.std(0), spread, rtol=0.04)


def test_log_variances_stay_within_what_can_be_exponentiated() -> None:
    model = vae.Vae(SHAPE)
    for bias, limit in ((1e4, 10.0), (-1e4, -20.0)):
        with torch.no_grad():
            model.encoder.log_variance.bias.fill_(bias)
        assert torch.equal(model.encoder(images())[1], torch.full((4, 5), limit))


def test_the_divergence_is_torchs_own_and_0_for_the_prior() -> None:
    mean, log_variance = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wanted = kl_divergence(Normal(mean, torch.exp(0.5 * log_variance)), Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(vae.kl_divergence(mean, log_variance), wanted)
    assert torch.equal(vae.kl_divergence(torch.zeros(3, 4), torch.zeros(3, 4)), torch.zeros(3))


def test_the_mean_encoder_is_the_encoders_mean() -> None:
    model, x = vae.Vae(SHAPE), images()
    assert torch.equal(vae.MeanEncoder(model.encoder)(x), model.encode_mean(x))
