"""Input that people really give: other number types, holes far into a set, empty batches, one odd weight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medaudit.errors import DataError, UsageError
from medaudit.uncertainty import slug

IMAGES = torch.rand(8, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def parts(*layers: nn.Module, bias: bool = True) -> tuple[nn.Module, nn.Module]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encode = nn.Sequential(nn.Flatten(), nn.Linear(48, 4, bias=bias))
        return encode, nn.Sequential(nn.Linear(4, 48, bias=bias), *layers, nn.Unflatten(1, (3, 4, 4)))


def fitted(images: Any = IMAGES, model: tuple[nn.Module, nn.Module] | None = None, **options: Any) -> slug.SlugState:
    return slug.fit(*(model or parts()), images, **{"rank": 3, "trace_probes": 2, **options})


def with_hole(count: int, at: int) -> Tensor:
    images = IMAGES.repeat(-(-count // 8), 1, 1, 1)[:count].clone()
    images[at, 0, 0, 0] = float("nan")
    return images


def test_batches_may_be_tensors_tuples_lists_or_mappings() -> None:
    wanted = fitted().values
    loaders: list[Any] = [
        IMAGES.split(3),
        [(part, torch.zeros(len(part))) for part in IMAGES.split(5)],
        [[part] for part in IMAGES.split(8)],
        [{"case": "x", "image": part} for part in IMAGES.split(1)],
    ]
    for loader in loaders:
        np.testing.assert_allclose(fitted(loader).values, wanted, rtol=1e-4)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (IMAGES.numpy(), "ndarray"),
        ([IMAGES.numpy()], "batch 0 is ndarray"),
        (IMAGES[0], r"\(3, 4, 4\)"),
        ([IMAGES, IMAGES[0]], r"batch 1 is torch.float32 \(3, 4, 4\)"),
        ([IMAGES, (IMAGES * 255).byte()], "batch 1 is torch.uint8"),
        ([IMAGES, torch.rand(2, 3, 8, 8)], r"\(3, 8, 8\), the first ones \(3, 4, 4\)"),
        ([IMAGES, {"mask": IMAGES}], "batch 1 has the keys mask; expected 'image'"),
        ([IMAGES, with_hole(4, 2)], "batch 1: image 2 has a value that is not finite"),
        ([(0, IMAGES)], "batch 0 is int"),
    ],
)
def test_a_batch_that_is_no_images_is_refused_by_its_number(images: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        fitted(images)
    with pytest.raises(DataError, match=said):
        slug.score(fitted(), images)


def test_a_generator_that_can_be_read_once_is_refused() -> None:
    with pytest.raises(DataError, match="it must give the same ones again"):
        fitted(part for part in IMAGES.split(2))


def test_a_hole_in_the_66th_image_of_a_tensor_is_said_to_be_there_when_fitting() -> None:
    with pytest.raises(DataError, match="image 65 has a value that is not finite"):
        fitted(with_hole(70, 65))


def test_a_hole_in_the_66th_image_of_a_tensor_is_said_to_be_there_when_scoring() -> None:
    with pytest.raises(DataError, match="image 65 has a value that is not finite"):
        slug.score(fitted(), with_hole(70, 65))


def test_images_of_another_precision_than_the_model_are_turned_into_its_own() -> None:
    np.testing.assert_allclose(fitted(IMAGES.double()).values, fitted().values, rtol=1e-6)


class Scaled(nn.Module):
    """A decoder with a weight that is a single number, not an array of one."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.scale = nn.Linear(4, 48), nn.Parameter(torch.tensor(1.5))

    def forward(self, codes: Tensor) -> Tensor:
        return (self.scale * self.layer(codes)).view(-1, 3, 4, 4)


def test_a_parameter_that_is_a_single_number_counts_as_one() -> None:
    state = fitted(model=(parts()[0], Scaled()), prior_precision=1.0)
    assert state.fitted.parameters == (48 * 4 + 4) + (4 * 48 + 48) + 1
    exact = slug.score(state, IMAGES[:1], estimator="exact")
    many = slug.score(state, IMAGES[:1], relative_error=None, max_probes=400)
    assert abs(many.score[0] - exact.score[0]) < 4.5 * many.error[0]


def test_an_image_that_no_weight_matters_for_has_the_score_0_and_no_share() -> None:
    # Without biases a black image stays black whatever the weights.
    state = fitted(model=parts(bias=False))
    black = slug.score(state, torch.zeros(1, 3, 4, 4), estimator="exact")
    assert black.score[0] == 0
    assert np.isnan(black.rho[0])


def test_an_image_that_no_weight_matters_for_has_the_score_0_by_probes() -> None:
    state = fitted(model=parts(bias=False))
    for estimator in ("jvp", "vjp", "row_norms", "hutch++"):
        black = slug.score(state, torch.zeros(2, 3, 4, 4), estimator=estimator)
        np.testing.assert_array_equal(black.score, [0, 0])


class Compared(nn.Module):
    """What a user's own batch norm does: one image's output depends on the others."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(dim=0, keepdim=True)


def test_a_layer_that_mixes_images_is_refused_whoever_wrote_it() -> None:
    with pytest.raises(UsageError, match="other"):
        fitted(model=parts(Compared()))


def bfloat16() -> slug.SlugState:
    encode, decode = parts()
    return fitted(IMAGES.bfloat16(), (encode.bfloat16(), decode.bfloat16()))


@pytest.mark.parametrize(
    ("ask", "error", "said"),
    [
        (lambda: slug.score(fitted(), IMAGES, batch_size=0), UsageError, "batch_size is 0"),
        (lambda: fitted(trace_probes=0), UsageError, "trace_probes is 0"),
        (lambda: fitted(trace_probes=-1), UsageError, "trace_probes is -1"),
        (lambda: fitted(max_images=0), UsageError, "max_images is 0"),
        (lambda: fitted(max_images=-3), UsageError, "max_images is -3"),
        (lambda: fitted(residual_variance=float("inf")), UsageError, "residual_variance is inf"),
        (lambda: fitted(prior_precision=float("inf")), UsageError, "prior_precision is inf"),
        (lambda: fitted(training_images=0), UsageError, "training_images is 0"),
        (lambda: fitted(rank=2.5), UsageError, "rank is 2.5"),
        (lambda: fitted([()]), DataError, "batch 0 is an empty"),
        (lambda: fitted(None), (DataError, UsageError), "NoneType"),
        (bfloat16, UsageError, "bfloat16"),
    ],
)
def test_options_out_of_range_are_refused_by_name(ask: Callable, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        ask()
