"""What SLUG refuses, and that the message names what is wrong; and models that it takes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medaudit.errors import DataError, UsageError
from medaudit.networks.vae import MeanEncoder, Vae, VaeShape
from medaudit.uncertainty import slug

SHAPE = VaeShape(channels=3, side=8, widths=(8, 8), latent=4)
IMAGES = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Flat(nn.Module):
    """A small encoder or decoder of a user's own."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def encoder(*layers: nn.Module) -> Flat:
    return Flat(nn.Flatten(), nn.Linear(192, 5), *layers)


def decoder(*layers: nn.Module) -> Flat:
    return Flat(nn.Linear(5, 192), *layers, nn.Unflatten(1, (3, 8, 8)))


class Adds(nn.Module):
    """Changes its input where it lies."""

    def forward(self, x: Tensor) -> Tensor:
        x += 1
        return x


class Draws(nn.Module):
    """A drawn code instead of its mean."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x)


class Cut(nn.Module):
    """An output that no gradient reaches."""

    def forward(self, x: Tensor) -> Tensor:
        return x.detach()


def fitted(encode: nn.Module | Callable, decode: nn.Module | Callable, images: object = IMAGES, **options: object):  # type: ignore[no-untyped-def]
    chosen = {"rank": 3, **options}
    return slug.fit(encode, decode, images, **chosen)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("encode", "decode", "said"),
    [
        (encoder(nn.BatchNorm1d(5)), decoder(), "BatchNorm1d that uses the batch's own statistics"),
        (encoder(nn.Dropout(0.5)), decoder(), "Dropout that is on"),
        (encoder(), Flat(nn.Linear(5, 192)), "expected the same shape"),
        (encoder(), Flat(nn.Linear(5, 48), nn.Unflatten(1, (3, 4, 4))), "expected the same shape"),
        (Flat(nn.Flatten(), nn.Linear(100, 5)), decoder(), "cannot reconstruct the images"),
        (encoder(Draws()), decoder(), "two reconstructions of one image differ"),
        (encoder(), decoder(Cut()), "no parameter"),
        (lambda x: x, decoder(), "expected a torch module"),
        (Vae(SHAPE).encoder, Vae(SHAPE).decoder, "encode_mean returns 2 things"),
    ],
)
def test_a_model_that_is_no_fixed_function_is_refused(encode: nn.Module, decode: nn.Module, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        fitted(encode, decode)


def test_an_evaluated_model_with_batch_norm_and_dropout_is_taken() -> None:
    state = fitted(encoder(nn.BatchNorm1d(5), nn.Dropout(0.5)).eval(), decoder().eval())
    assert slug.score(state, IMAGES).score.shape == (6,)


def test_an_in_place_operation_that_can_be_followed_gives_the_right_numbers() -> None:
    state = fitted(encoder(), decoder(Adds()), prior_precision=1.0, residual_variance=1.0)
    exact = slug.score(state, IMAGES[:1], estimator="exact")
    many = slug.score(state, IMAGES[:1], relative_error=None, max_probes=400)
    assert abs(many.score[0] - exact.score[0]) < 5 * many.error[0]


def test_an_in_place_operation_on_what_a_gradient_needs_is_refused_by_name() -> None:
    class Overwrites(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = torch.sigmoid(x)
            y.mul_(2.0)
            return y

    with pytest.raises(UsageError, match="in-place"):
        fitted(encoder(), decoder(Overwrites()))


def test_images_that_are_no_finite_pictures_are_refused() -> None:
    holed = IMAGES.clone()
    holed[4, 0, 0, 0] = float("nan")
    with pytest.raises(DataError, match="image 4 has a value that is not finite"):
        fitted(encoder(), decoder(), holed)
    for images, said in (
        (torch.zeros(0, 3, 8, 8), "no images"),
        ([], "no images"),
        ((IMAGES * 255).byte(), "expected floating-point"),
        ([{"picture": IMAGES}], "expected 'image'"),
    ):
        with pytest.raises(DataError, match=said):
            fitted(encoder(), decoder(), images)
    state = fitted(encoder(), decoder())
    with pytest.raises(DataError, match="image 4"):
        slug.score(state, holed)
    with pytest.raises(DataError, match="expected one shape"):
        slug.score(state, torch.rand(2, 3, 16, 16))


def test_a_loader_that_gives_other_images_in_every_pass_is_refused() -> None:
    class Shrinks:
        def __init__(self) -> None:
            self.left = 6

        def __iter__(self):  # type: ignore[no-untyped-def]
            self.left -= 1
            yield IMAGES[: self.left]

    with pytest.raises(DataError, match="it must give the same ones again"):
        fitted(encoder(), decoder(), Shrinks())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rank": 10_000}, "the number of parameters"),
        ({"rank": 0}, "expected 1 to"),
        ({"params": "encoder"}, "expected one of all, decoder"),
        ({"weights": "none"}, "expected one of eigenvalue, projector"),
        ({"prior_precision": 0.0}, "more than 0"),
        ({"prior_precision": "best"}, "marginal"),
        ({"residual_variance": -1.0}, "more than 0"),
        ({"sketch": 50}, "projector"),
        ({"sketch": 10**6, "weights": "projector"}, "sketch is"),
        ({"training_images": 2}, "the pass alone has 6"),
        ({"block": 0}, "block is 0"),
        ({"depth": 1, "block": 2}, "expected at least rank"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        fitted(encoder(), decoder(), **options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"estimator": "lanczos"}, "expected one of jvp"),
        ({"min_probes": 1}, "2 or more"),
        ({"min_probes": 40, "max_probes": 20}, "min <= max"),
        ({"relative_error": 0.0}, "more than 0"),
        ({"estimator": "xtrace", "pixel_map": True}, "no pixel map"),
    ],
)
def test_ways_to_score_that_mean_nothing_are_refused(options: dict, said: str) -> None:
    state = fitted(encoder(), decoder())
    with pytest.raises(UsageError, match=said):
        slug.score(state, IMAGES, **options)


def test_a_decoder_that_shares_weights_with_the_encoder_is_refused_alone_and_taken_whole() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down = nn.Linear(192, 5)

        def encode_mean(self, x: Tensor) -> Tensor:
            return self.down(x.flatten(1))

        def decode(self, z: Tensor) -> Tensor:
            return (z @ self.down.weight).view(-1, 3, 8, 8)

    model = Both()
    assert fitted(model.encode_mean, model.decode).fitted.parameters == 192 * 5 + 5
    with pytest.raises(UsageError, match="share weights"):
        fitted(model.encode_mean, model.decode, params="decoder")


def test_parameters_that_the_mean_does_not_depend_on_are_left_out() -> None:
    model = Vae(SHAPE).eval()
    state = fitted(MeanEncoder(model.encoder), model.decoder)
    heads = sum(p.numel() for p in model.encoder.log_variance.parameters())
    assert state.fitted.parameters == sum(p.numel() for p in model.parameters()) - heads
    bound = fitted(model.encode_mean, model.decoder)
    said = [slug.score(s, IMAGES, estimator="exact").score for s in (state, bound)]
    np.testing.assert_allclose(said[1], said[0], rtol=5e-2)


@pytest.mark.parametrize(
    "layers",
    [
        (nn.Unflatten(1, (3, 8, 8)), nn.Conv2d(3, 6, 3, padding=1), nn.GroupNorm(2, 6), nn.SiLU(),
         nn.ConvTranspose2d(6, 3, 3, padding=1), nn.Flatten()),
        (nn.LayerNorm(192), nn.GELU(), nn.Linear(192, 192)),
        (nn.Unflatten(1, (3, 8, 8)), nn.Upsample(scale_factor=2), nn.AvgPool2d(2), nn.InstanceNorm2d(3),
         nn.LeakyReLU(), nn.Flatten()),
    ],
)  # fmt: skip
def test_layers_that_users_have_are_differentiated_rightly(layers: tuple[nn.Module, ...]) -> None:
    torch.manual_seed(0)
    state = fitted(encoder().double().eval(), decoder(*layers).double().eval(), IMAGES.double(), prior_precision=1.0)
    exact = slug.score(state, IMAGES[:2].double(), estimator="exact")
    many = slug.score(state, IMAGES[:2].double(), relative_error=None, max_probes=600)
    assert (np.abs(many.score - exact.score) < 4.5 * many.error).all()


def test_images_in_another_order_of_memory_are_taken() -> None:
    model = Vae(SHAPE).eval()
    turned = IMAGES.to(memory_format=torch.channels_last)
    said = [
        slug.score(fitted(MeanEncoder(model.encoder), model.decoder, images), images[:2], estimator="exact").score
        for images in (IMAGES, turned)
    ]
    np.testing.assert_allclose(said[1], said[0], rtol=1e-2)


def test_grey_images_whose_strides_pass_for_channels_last_are_taken() -> None:
    model = Vae(VaeShape(channels=1, side=32, widths=(16, 32, 64), latent=8)).eval()
    grey = torch.rand(9, 32, 32)[:, None].as_strided((9, 1, 32, 32), (1024, 1, 32, 1))
    assert grey.is_contiguous(memory_format=torch.channels_last)
    assert slug.score(fitted(MeanEncoder(model.encoder), model.decoder, grey), grey[:2]).score.shape == (2,)
