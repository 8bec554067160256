"""Layers that users have, against differences of the model itself; and a user's model is left as it was found."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medaudit.errors import DataError, UsageError
from medaudit.uncertainty import slug

IMAGES = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Overwriting(nn.Module):
    """x + f(x), into the memory of x."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        x += self.inner(x)
        return x


class Permuted(nn.Module):
    """A LayerNorm over channels, as ConvNeXt has it: the result's memory is channels-last."""

    def __init__(self, contiguous: bool = False) -> None:
        super().__init__()
        self.norm, self.contiguous = nn.LayerNorm(8), contiguous

    def forward(self, x: Tensor) -> Tensor:
        made = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return made.contiguous() if self.contiguous else made


class Gain(nn.Module):
    """A weight that is a single number."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(1.5))

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * x


class Recurrent(nn.Module):
    """A decoder that unrolls its code."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.last = nn.GRU(4, 8, batch_first=True), nn.Linear(8, 192)

    def forward(self, codes: Tensor) -> Tensor:
        return self.last(self.cell(codes[:, None].expand(-1, 3, 4))[0][:, -1]).view(-1, 3, 8, 8)


def encoder() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 4, 2, 1), nn.GroupNorm(2, 8), nn.SiLU(), nn.Flatten(), nn.Linear(128, 4))


def head(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 128), nn.Unflatten(1, (8, 4, 4)), *layers)


def decoder(*middle: nn.Module) -> nn.Module:
    return head(*middle, nn.Upsample(scale_factor=2), conv(3))


def conv(channels: int = 8, **options: str) -> nn.Conv2d:
    return nn.Conv2d(8, channels, 3, 1, 1, **options)  # type: ignore[arg-type]


TAKEN: dict[str, Callable[[], nn.Module]] = {
    "activations in place": lambda: decoder(conv(), nn.SiLU(inplace=True), conv(), nn.ReLU(inplace=True)),
    "channels-last LayerNorm": lambda: decoder(Permuted()),
    "channels-last, made contiguous": lambda: decoder(Permuted(contiguous=True), nn.GroupNorm(2, 8)),
    "BatchNorm and dropout, evaluated": lambda: decoder(nn.BatchNorm2d(8), nn.Dropout2d(0.5)),
    "InstanceNorm": lambda: decoder(nn.InstanceNorm2d(8, affine=True)),
    "a weight that is one number": lambda: decoder(Gain()),
    "ConvTranspose and PReLU": lambda: head(nn.PReLU(8), nn.ConvTranspose2d(8, 3, 4, 2, 1)),
    "PixelShuffle": lambda: head(conv(12), nn.PixelShuffle(2)),
    "bilinear": lambda: head(nn.Upsample(scale_factor=2, mode="bilinear"), conv(3)),
    "pooling": lambda: head(nn.Upsample(scale_factor=4), nn.MaxPool2d(2), conv(3, padding_mode="reflect")),
    "GLU, GELU, Mish": lambda: head(conv(16), nn.GLU(1), nn.GELU(), nn.Mish(), nn.Upsample(scale_factor=2), conv(3)),
    "GRU": Recurrent,
}


def both(make: Callable[[], nn.Module]) -> tuple[nn.Module, nn.Module]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return encoder().double().eval(), make().double().eval()


@pytest.mark.parametrize("name", TAKEN)
def test_the_derivative_is_that_of_differences_and_backward_is_its_transpose(name: str) -> None:
    encode, decode = both(TAKEN[name])
    state = slug.fit(encode, decode, IMAGES, rank=3, prior_precision=1.0, residual_variance=0.1, trace_probes=2)
    assert state.fitted.parameters == sum(p.numel() for part in (encode, decode) for p in part.parameters())
    f = state.model
    v = torch.randn(1, f.size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = torch.randn(1, *IMAGES.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    pushed = f.push(IMAGES, v)
    assert float((pushed * y).sum()) == pytest.approx(float((f.pull(IMAGES, y) * v).sum()), rel=1e-8)
    moved = []
    for step in (1e-6, -1e-6):
        there = {k: p + step * d for (k, p), d in zip(f.parameters.items(), f.named(v[0]).values(), strict=True)}
        with torch.no_grad():
            moved.append(f.function(IMAGES)(there))
    wanted = (moved[0] - moved[1]) / 2e-6
    np.testing.assert_allclose(pushed[0], wanted, rtol=1e-4, atol=1e-5 * float(pushed.abs().max()))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: decoder(nn.Sigmoid(), Overwriting(nn.Sequential(nn.Sigmoid(), conv()))), "operation: write x = x"),
        (lambda: decoder(Permuted(), nn.GroupNorm(2, 8)), r"\.contiguous\(\)"),
        (lambda: decoder(nn.utils.parametrizations.weight_norm(conv())), "weight_norm"),
    ],
)
def test_what_cannot_be_differentiated_is_refused_with_what_to_change(make: Callable, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        slug.fit(*both(make), IMAGES, rank=3)


class Autoencoder(nn.Module):
    """One module with all in it, as most users have."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder(), decoder(nn.GroupNorm(2, 8))
        self.log_variance = nn.Linear(4, 4)

    def encode_mean(self, images: Tensor) -> Tensor:
        return self.encoder(images)

    def decode(self, codes: Tensor) -> Tensor:
        return self.decoder(codes)


def autoencoder() -> Autoencoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Autoencoder().double().eval()


@pytest.mark.parametrize("how", ["modules", "two methods", "a method and a module"])
def test_a_users_model_can_be_trained_on_after_it_was_fitted_and_scored(how: str) -> None:
    model = autoencoder()
    encode = model.encoder if how == "modules" else model.encode_mean
    decode = model.decode if how == "two methods" else model.decoder
    before = {name: value.clone() for name, value in model.state_dict().items()}
    weights = list(model.parameters())
    slug.score(slug.fit(encode, decode, IMAGES, 3), IMAGES, pixel_map=True, max_probes=16)
    # The very tensors that an optimizer holds, and not others with their values.
    assert all(now is then for now, then in zip(model.parameters(), weights, strict=True))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in weights)
    model.decode(model.encode_mean(IMAGES)).square().sum().backward()
    assert sum(p.grad is not None for p in weights) == 12


def test_a_layer_that_is_an_attribute_and_in_a_list_keeps_its_weights() -> None:
    class Listed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(4, 192)
            self.layers = nn.Sequential(self.first, nn.Unflatten(1, (3, 8, 8)))

        def forward(self, codes: Tensor) -> Tensor:
            return self.layers(codes)

    encode, decode = both(Listed)
    weights = [*encode.parameters(), *decode.parameters()]
    state = slug.fit(encode, decode, IMAGES, 3)
    assert state.fitted.parameters == sum(p.numel() for p in weights)
    assert all(now is then for now, then in zip([*encode.parameters(), *decode.parameters()], weights, strict=True))


def test_a_decoder_of_its_own_may_be_fitted_alone_with_a_method_as_the_encoder() -> None:
    # Encoder and decoder share no weight, though the method's owner has both.
    model = autoencoder()
    said = []
    for encode in (model.encoder, model.encode_mean):
        state = slug.fit(encode, model.decoder, IMAGES, 3, params="decoder", block=4, depth=10, tolerance=1e-8)
        assert state.fitted.parameters == sum(p.numel() for p in model.decoder.parameters())
        said.append(slug.score(state, IMAGES[:2], estimator="exact").score)
    np.testing.assert_allclose(said[1], said[0], rtol=1e-6)


@pytest.mark.parametrize(("model_type", "image_type"), [(torch.float64, torch.float32), (torch.float32, torch.float64)])
def test_images_of_another_floating_point_type_than_the_weights_are_cast(
    model_type: torch.dtype, image_type: torch.dtype
) -> None:
    model = autoencoder().to(model_type)
    images = IMAGES.float().to(image_type)
    said = []
    for given in (images, images.to(model_type)):
        state = slug.fit(model.encoder, model.decoder, given, 3, residual_variance=0.1, prior_precision=1.0)
        said.append(slug.score(state, given[:2], estimator="exact").score)
    np.testing.assert_allclose(said[0], said[1], rtol=1e-5)


class Augmented:
    """Images that are others in every pass, as many as before."""

    def __init__(self, change: str) -> None:
        self.change, self.passes = change, 0

    def __iter__(self) -> Iterator[Tensor]:
        self.passes += 1
        if self.change == "flip":
            # A mirrored image has the same pixels: their sum does not tell it from the image.
            yield (IMAGES, IMAGES.flip(3))[self.passes % 2]
        else:
            generator = torch.Generator().manual_seed(self.passes)
            yield IMAGES + 0.01 * torch.randn(IMAGES.shape, generator=generator, dtype=IMAGES.dtype)


@pytest.mark.parametrize("change", ["flip", "noise"])
def test_images_that_are_augmented_in_every_pass_are_refused(change: str) -> None:
    model = autoencoder()
    with pytest.raises(DataError, match="same"):
        slug.fit(model.encoder, model.decoder, Augmented(change), 3)
