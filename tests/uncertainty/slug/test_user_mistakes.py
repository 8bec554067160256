"""What a user does wrong, and the one line that says so: which image, which batch, which layer, which option."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medaudit.errors import DataError, UsageError
from medaudit.uncertainty import slug

IMAGES = torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))


class Then(nn.Module):
    """A function at the end of layers."""

    def __init__(self, function, *layers: nn.Module) -> None:  # type: ignore[no-untyped-def]
        super().__init__()
        self.layers, self.function = nn.Sequential(*layers), function

    def forward(self, x: Tensor) -> object:
        return self.function(self.layers(x))


def encoder(function=lambda x: x) -> nn.Module:  # type: ignore[no-untyped-def]
    return Then(function, nn.Flatten(), nn.Linear(48, 4))


def decoder(function=lambda x: x) -> nn.Module:  # type: ignore[no-untyped-def]
    return Then(function, nn.Linear(4, 48), nn.Unflatten(1, (3, 4, 4)))


def fitted(images: object = IMAGES, **options: object) -> slug.SlugState:
    return slug.fit(encoder(), decoder(), images, **{"rank": 3, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("encode", "decode", "said"),
    [
        (encoder(lambda z: (z, z)), decoder(), "encode_mean returns 2 things; expected the mean alone"),
        (encoder(lambda z: [z]), decoder(), "encode_mean returns 1 things"),
        (encoder(lambda z: torch.distributions.Normal(z, 1.0)), Then(lambda z: z.mean, nn.Identity()), "tensor|shape"),
        (encoder(lambda z: torch.distributions.Normal(z, 1.0)), decoder(), "cannot reconstruct|tensor"),
        (encoder(lambda z: {"mean": z}), decoder(), "cannot reconstruct|tensor"),
        (encoder(lambda z: torch.distributions.Normal(z, 1.0)),
         nn.Sequential(nn.Flatten(), nn.Linear(4, 48)), "cannot reconstruct|tensor"),
        (encoder(lambda z: z + torch.randn_like(z)), decoder(), "must return the mean, not a sample"),
        (encoder(), decoder(lambda x: x + 0.1 * torch.rand_like(x)), "draws something at random"),
        (encoder(lambda z: torch.nn.functional.dropout(z, 0.5)), decoder(), "draws something at random"),
        (encoder(), decoder(lambda x: (x, x)), "is tuple; expected the same shape"),
        (encoder(), decoder(lambda x: x[:, :1]), r"of an image \(3, 4, 4\) is \(1, 4, 4\)"),
        (encoder(), decoder(lambda x: x.flatten(1)), r"is \(48,\)"),
        (encoder(), decoder(lambda x: x.mean(dim=0)), "expected the same shape"),
        (encoder(), decoder(lambda x: x.detach()), "detached"),
        (encoder(), decoder(lambda x: x * float("nan")), "differ|not finite"),
        (encoder(), decoder(lambda x: x / 0.0), "not finite"),
        (nn.Flatten(), nn.Unflatten(1, (3, 4, 4)), "no parameters"),
        (nn.Sequential(nn.Flatten(), nn.BatchNorm1d(48), nn.Linear(48, 4)), decoder(), r"encode\.1 is a BatchNorm1d"),
        (encoder(), nn.Sequential(decoder(), nn.Dropout2d(0.1)), r"decode\.1 is a Dropout2d that is on"),
        (encoder(), nn.Sequential(decoder(), nn.BatchNorm2d(3, track_running_stats=False)).eval(), "own statistics"),
        ("encoder", decoder(), "encode_mean is a str"),
        (encoder(), lambda z: z, "decode is a function; expected a torch module or a method"),
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 4)), decoder(), "cannot reconstruct the images: mat1 and mat2"),
    ],
)  # fmt: skip
def test_a_model_that_is_no_differentiable_function_of_its_weights(
    encode: nn.Module, decode: nn.Module, said: str
) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        slug.fit(encode, decode, IMAGES, rank=3)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", [lambda x: x.sub_(0.5), lambda x: x.clamp_(0.2, 0.8)])
def test_an_encoder_that_changes_its_images_where_they_lie_is_told_so_and_they_are_not_changed(change) -> None:  # type: ignore[no-untyped-def]
    encode = nn.Sequential(Then(change, nn.Identity()), nn.Flatten(), nn.Linear(48, 4))
    mine = IMAGES.clone()
    with pytest.raises(UsageError, match="in-place"):
        slug.fit(encode, decoder(), mine, rank=3)
    assert torch.equal(mine, IMAGES)


def test_an_instance_norm_that_still_counts_is_refused_for_it_would_be_another_model_with_every_pass() -> None:
    decode = nn.Sequential(decoder(), nn.InstanceNorm2d(3, track_running_stats=True)).train()
    with pytest.raises(UsageError, match="InstanceNorm2d"):
        slug.fit(encoder(), decode, IMAGES, rank=3)


def test_weights_of_half_precision_are_refused() -> None:
    with pytest.raises(UsageError, match=r"bfloat16|float32|precision"):
        slug.fit(encoder().bfloat16(), decoder().bfloat16(), IMAGES.bfloat16(), rank=3)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_image_that_is_not_finite_is_named_by_its_place_wherever_it_is(value: float) -> None:
    many = torch.rand(70, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    for place in (4, 66):
        holed = many.clone()
        holed[place, 1, 2, 3] = value
        for options in ({}, {"residual_variance": 0.1}):
            with pytest.raises(DataError, match=rf"image {place} has a value that is not finite"):
                fitted(holed, **options)
        with pytest.raises(DataError, match=rf"image {place} has a value that is not finite"):
            slug.score(fitted(), holed)
        batch, inside = divmod(place, 10)
        with pytest.raises(DataError, match=rf"batch {batch}: image {inside} has a value"):
            fitted(list(holed.split(10)))


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ([], "the loader gives no images"),
        (torch.zeros(0, 3, 4, 4), "no images"),
        ([torch.zeros(0, 3, 4, 4)], "no images"),
        ([()], "batch 0"),
        ([[]], "batch 0"),
        ([{}], "expected 'image'"),
        ([{"picture": IMAGES, "label": 1}], "batch 0 has the keys picture, label; expected 'image'"),
        ([{"image": "a.png"}], "batch 0 is str"),
        ([(["a.png"], 1)], "batch 0 is list"),
        ([IMAGES[0]], r"batch 0 is torch.float32 \(3, 4, 4\); expected floating-point images"),
        (IMAGES[0], "expected floating-point images"),
        ((255 * IMAGES).byte(), r"torch.uint8 \(6, 3, 4, 4\)"),
        ([(255 * IMAGES).long()], "batch 0 is torch.int64"),
        (IMAGES.numpy(), "batch 0 is ndarray"),
        ([IMAGES, torch.rand(2, 3, 8, 8)], r"images are \(3, 8, 8\), the first ones \(3, 4, 4\)"),
        ([IMAGES, IMAGES.byte()], "batch 1 is torch.uint8"),
        (iter([IMAGES]), "the same ones|no images"),
        (iter([IMAGES, IMAGES]), "it must give the same ones again"),
    ],
)
def test_images_that_are_no_batches_of_pictures(images: object, said: str) -> None:
    with pytest.raises(DataError, match=said):
        fitted(images)


def test_a_training_set_without_residual_and_one_that_shrinks() -> None:
    class Same(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor) -> Tensor:
            return self.scale * x

    with pytest.raises(DataError, match="without any error; give residual_variance"):
        slug.fit(nn.Identity(), Same(), IMAGES, rank=1)
    assert slug.fit(nn.Identity(), Same(), IMAGES, rank=1, residual_variance=0.1).fitted.parameters == 1

    class Shrinks:
        left = 7

        def __iter__(self) -> Iterator[Tensor]:
            self.left -= 1
            yield IMAGES[: self.left]

    with pytest.raises(DataError, match="gave 4 images, the first one 5"):
        fitted(Shrinks())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rank": 437}, "rank is 437; expected 1 to 436"),
        ({"rank": 241, "params": "decoder"}, "rank is 241; expected 1 to 240"),
        ({"params": "encoder"}, "params is 'encoder'; expected one of all, decoder"),
        ({"weights": "slu"}, "weights is 'slu'"),
        ({"prior_precision": float("nan")}, "prior_precision is nan"),
        ({"prior_precision": "0.1"}, "prior_precision is '0.1'; expected more than 0, or 'marginal'"),
        ({"prior_precision": float("inf")}, "prior_precision is inf"),
        ({"residual_variance": 0.0}, "residual_variance is 0.0"),
        ({"residual_variance": float("nan")}, "residual_variance is nan"),
        ({"sketch": 0, "weights": "projector"}, "sketch is 0"),
        ({"sketch": 2, "weights": "projector"}, "sketch is 2"),
        ({"sketch": 100}, "use weights='projector'"),
        ({"training_images": 5}, "training_images is 5; the pass alone has 6"),
        ({"training_images": 0}, "training_images is 0"),
        ({"block": 0}, "block is 0"),
        ({"depth": 1, "block": 1}, "1 blocks of 1 hold 1 vectors; expected at least rank = 3"),
        ({"depth": 0}, "0 blocks|depth is 0"),
        ({"trace_probes": 0}, "trace_probes is 0"),
        ({"max_images": 0}, "max_images is 0"),
        ({"max_images": -3}, "max_images is -3"),
        ({"tolerance": -1.0}, "tolerance is -1"),
    ],
)
def test_options_of_a_fit_that_mean_nothing(options: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        fitted(**options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"estimator": "hutchinson"}, "estimator is 'hutchinson'; expected one of jvp, vjp, row_norms"),
        ({"min_probes": 1}, "min_probes is 1"),
        ({"max_probes": 8}, "min_probes is 16 and max_probes 8"),
        ({"relative_error": -0.1}, "relative_error is -0.1"),
        ({"estimator": "hutch++", "pixel_map": True}, "hutch.. gives no pixel map; use"),
        ({"estimator": "xtrace", "min_probes": 2, "max_probes": 2}, "needs 2 or more"),
        ({"estimator": "hutch++", "min_probes": 2, "max_probes": 2}, "needs 3 or more"),
        ({"batch_size": 0}, "batch_size is 0"),
    ],
)
def test_options_of_a_score_that_mean_nothing(options: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        slug.score(fitted(), IMAGES, **options)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ([], "no images to score"),
        (IMAGES[0], "expected floating-point images"),
        ((255 * IMAGES).byte(), "torch.uint8"),
        (torch.rand(2, 1, 4, 4), r"images are \(1, 4, 4\), the first ones \(3, 4, 4\)"),
        ([{"x": IMAGES}], "expected 'image'"),
        (torch.zeros(0, 3, 4, 4), "no images"),
    ],
)
def test_images_that_cannot_be_scored(images: object, said: str) -> None:
    with pytest.raises(DataError, match=said):
        slug.score(fitted(), images)  # type: ignore[arg-type]


def test_lists_tuples_and_mappings_of_batches_are_one_training_set() -> None:
    torch.manual_seed(0)
    encode, decode = encoder(), decoder()
    loaders = (IMAGES, [IMAGES], [(IMAGES[:4], 0), (IMAGES[4:], 1)], ([IMAGES[:1], 0], [IMAGES[1:], 1]),
               [{"image": IMAGES[:3], "case": ["a"]}, {"image": IMAGES[3:]}])  # fmt: skip
    states = [slug.fit(encode, decode, loader, 5) for loader in loaders]
    assert len({state.fitted.data for state in states}) == 1
    for state in states[1:]:
        np.testing.assert_allclose(state.values, states[0].values, rtol=1e-4)
