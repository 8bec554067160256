"""Prototypes in images: distances and activations against the equations, and what finds, starts and moves them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medaudit.errors import DataError
from medaudit.networks.diffusion.unet import ConditionalUNet, UNetShape
from medaudit.networks.prototypes.encoder import (
    EncoderShape,
    PrototypeEncoder,
    activation_of,
    data_init,
    distance_of,
    paper_init,
    project,
)
from medaudit.networks.prototypes.model import PrototypeDiffusion

SHAPE = EncoderShape(2, (8, 12), (3, 3), (2, 1), (1, 0), prototypes=7)
IDENTITY = EncoderShape(3, (3,), (1,), (1,), (0,), prototypes=4)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def encoder(shape: EncoderShape = SHAPE, seed: int = 0) -> PrototypeEncoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = PrototypeEncoder(shape)
    if shape == IDENTITY:
        with torch.no_grad():
            made.convolutions[0].weight.copy_(torch.eye(3)[:, :, None, None])
            made.convolutions[0].bias.zero_()
    return made


def images(n: int = 5, channels: int = 2, side: int = 12, seed: int = 0) -> Tensor:
    return torch.rand(n, channels, side, side, generator=seeded(seed)) * 2 - 1


def nearest(made: PrototypeEncoder, x: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        return made.nearest(x)


def naive_distances(made: PrototypeEncoder, x: Tensor) -> Tensor:
    """Return squared distances (N, m, h * w) as a sum of squared differences, in float64."""
    z = made.features(x).double().flatten(2).transpose(1, 2)
    return (z[:, None] - made.prototypes.double().flatten(1)[:, None]).square().sum(3)


@pytest.mark.parametrize("shape", [SHAPE, replace(SHAPE, channels=1, prototypes=1), EncoderShape(2, prototypes=30)])
def test_distances_are_those_of_cdist(shape: EncoderShape) -> None:
    made, x = encoder(shape), images(channels=shape.channels, side=20)
    z = made.features(x).detach().double()
    wanted = torch.cdist(
        made.prototypes.detach().double().flatten(1).expand(len(x), -1, -1), z.flatten(2).mT,
        compute_mode="donot_use_mm_for_euclid_dist",
    ).square()  # fmt: skip
    found = made.distances(x).detach()
    assert found.shape == (5, shape.prototypes, *z.shape[-2:])
    torch.testing.assert_close(found.flatten(2).double(), wanted, rtol=1e-5, atol=1e-5)
    least = wanted.amin(2)
    torch.testing.assert_close(made(x).double(), torch.log((least + 1) / (least + 1e-4)), rtol=1e-5, atol=1e-5)
    activations, cells = nearest(made, x)
    torch.testing.assert_close(activations, made(x))
    torch.testing.assert_close(wanted.gather(2, cells[:, :, None])[..., 0], least, rtol=1e-5, atol=1e-5)


def test_the_log_similarity_has_the_papers_values_and_falls_with_distance() -> None:
    found = activation_of(torch.tensor([0.0, 1.0], dtype=torch.float64)).tolist()
    assert found == pytest.approx([9.2103, 0.6930], abs=5e-5)
    assert found == pytest.approx([math.log(1e4), math.log(2 / 1.0001)])
    assert bool((activation_of(torch.logspace(-6, 4, 200)).diff() < 0).all())
    assert activation_of(torch.tensor([0.0, 2.5]), "linear").tolist() == [0.0, -2.5]


@pytest.mark.parametrize("similarity", ["log", "linear"])
def test_a_distance_comes_back_from_its_activation(similarity: str) -> None:
    squared = torch.cat([torch.zeros(1), torch.logspace(-5, 3, 200)]).double()
    back = distance_of(activation_of(squared, similarity), similarity)
    torch.testing.assert_close(back, squared, rtol=1e-6, atol=1e-10)
    coarse = distance_of(activation_of(squared.float(), similarity), similarity)
    torch.testing.assert_close(coarse.double(), squared, rtol=1e-3, atol=1e-6)


def test_a_planted_patch_is_found_in_its_cell() -> None:
    made, x = encoder(IDENTITY), torch.rand(3, 3, 9, 11, generator=seeded())
    planted = [(0, 5, 2), (1, 0, 10), (2, 8, 0), (2, 3, 7)]
    with torch.no_grad():
        for j, (i, row, column) in enumerate(planted):
            made.prototypes[j, :, 0, 0] = x[i, :, row, column]
    activations, cells = nearest(made, x)
    for j, (i, row, column) in enumerate(planted):
        assert int(cells[i, j]) == row * 11 + column
        assert float(activations[i, j]) == pytest.approx(math.log(1e4), abs=5e-3)
        others = [k for k in range(3) if k != i]
        assert bool((activations[others, j] < activations[i, j] - 1).all())


def test_moving_a_pattern_by_the_jump_moves_its_cell_and_nothing_else() -> None:
    made = encoder()
    field, pattern = made.field, images(1, 2, 6)
    size, jump = field.size, field.jump
    x = torch.zeros(3, 2, 40, 40)
    for i, (row, column) in enumerate([(size, size), (size + 4 * jump, size), (size + jump, size + 3 * jump)]):
        x[i, :, row : row + 6, column : column + 6] = pattern[0]
    with torch.no_grad():  # prototypes inside the pattern, so that its own cells are the nearest
        z = made.features(x[:1])
        made.prototypes.copy_(
            z[0, :, 5, 5].expand(7, -1)[..., None, None] * torch.linspace(0.9, 1.1, 7).view(7, 1, 1, 1)
        )
    activations, cells = nearest(made, x)
    torch.testing.assert_close(activations[1:], activations[:1].expand(2, -1))
    side = z.shape[-1]
    assert (cells[1] - cells[0]).tolist() == [4 * side] * 7
    assert (cells[2] - cells[0]).tolist() == [side + 3] * 7


def test_an_images_activations_know_no_other_image() -> None:
    made, x = encoder(), images()
    torch.testing.assert_close(torch.cat([made(one[None]) for one in x]), made(x))


def test_gradients_are_those_of_the_equation() -> None:
    made, x = encoder(), images()
    weights = torch.rand(5, 7, generator=seeded(3))
    learned = list(made.parameters())
    found = torch.autograd.grad((made(x) * weights).sum(), learned)
    least = naive_distances(made, x).amin(2)
    wanted = torch.autograd.grad((torch.log((least + 1) / (least + 1e-4)) * weights.double()).sum(), learned)
    for ours, theirs in zip(found, wanted, strict=True):
        assert float(theirs.abs().max()) > 0
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_renumbering_prototypes_and_the_nets_inputs_changes_no_prediction() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        shape = UNetShape(channels=2, width=8, multipliers=(1, 2), blocks=1, conditions=7, embedding=16)
        model = PrototypeDiffusion(encoder(), ConditionalUNet(shape)).eval()
    x, times = images(), torch.tensor([0, 3, 50, 500, 999])
    model.centre.copy_(torch.linspace(0, 1, 7))
    model.spread.copy_(torch.linspace(1, 2, 7))
    with torch.no_grad():
        before, activations = model(x, x.flip(0), times), model.activations(x)
        order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
        first = model.unet.condition[0]
        for values, axis in (
            (model.encoder.prototypes, 0), (model.centre, 0), (model.spread, 0), (first.weight, 1),
        ):  # fmt: skip
            values.copy_(values.index_select(axis, order))
        torch.testing.assert_close(model(x, x.flip(0), times), before)
        torch.testing.assert_close(model.activations(x), activations[:, order])
        model.unet.condition[0].weight.copy_(first.weight.flip(1))
        assert not torch.allclose(model(x, x.flip(0), times), before)


def test_the_papers_start_is_drawn_as_it_says() -> None:
    made = encoder(EncoderShape(prototypes=100))
    biases = [layer.bias.clone() for layer in made.convolutions if isinstance(layer, nn.Conv2d)]
    paper_init(made, seeded())
    convolutions = [layer for layer in made.convolutions if isinstance(layer, nn.Conv2d)]
    weights = torch.cat([layer.weight.flatten() for layer in convolutions]).detach()
    # Standard errors: 0.1 / sqrt(129,000) of the mean, and 1 / sqrt(2) of that of the SD.
    assert float(weights.mean()) == pytest.approx(0, abs=1.2e-3)
    assert float(weights.std()) == pytest.approx(0.1, abs=8e-4)
    prototypes = made.prototypes.detach().flatten()
    assert 0 <= float(prototypes.min()) < 0.01
    assert 0.99 < float(prototypes.max()) < 1
    assert float(prototypes.mean()) == pytest.approx(0.5, abs=0.012)
    for layer, bias in zip(convolutions, biases, strict=True):
        assert torch.equal(layer.bias, bias)
    other = encoder(EncoderShape(prototypes=100), seed=5)
    paper_init(other, seeded())
    assert torch.equal(other.prototypes, made.prototypes)


def test_from_data_the_median_patch_is_at_a_squared_distance_of_1() -> None:
    made, x = encoder(EncoderShape(2, prototypes=30)), images(200, 2, 16)
    data_init(made, x, seeded())
    with torch.no_grad():
        nearest = naive_distances(made, images(100, 2, 16, seed=9)).amin(1)
    assert float(nearest.median()) == pytest.approx(1, rel=0.1)
    again = encoder(EncoderShape(2, prototypes=30), seed=4)
    data_init(again, x, seeded())
    assert all(torch.equal(a, b) for a, b in zip(made.parameters(), again.parameters(), strict=True))


def test_from_data_prototypes_are_patches_of_the_images_and_far_apart() -> None:
    made = encoder(EncoderShape(2, (8, 12), (3, 3), (2, 1), (0, 0), prototypes=10))
    x = torch.ones(1_000, 2, 12, 12)
    for i in range(9):  # 991 images of one sort, and one each of nine others
        x[100 * i] = torch.tensor([i + 2.0, -i - 2.0])[:, None, None]
    data_init(made, x, seeded())
    with torch.no_grad():
        squared = naive_distances(made, x).amin(2)
    # A sort is never drawn twice, as its distance is 0 then.
    assert float(squared.amin(1).max()) < 1e-6 * float(squared.max())


@pytest.mark.parametrize("seed", [0, 2, 4])
def test_from_data_an_empty_background_does_not_blow_up_the_features(seed: int) -> None:
    x = -torch.ones(60, 1, 48, 48)
    for i, (row, column) in enumerate(torch.randint(14, 26, (60, 2), generator=seeded()).tolist()):
        x[i, 0, row : row + 8, column : column + 8] = torch.rand(8, 8, generator=seeded(i)) * 2 - 1
    made = encoder(EncoderShape(1, prototypes=32))
    data_init(made, x, seeded(seed))
    with torch.no_grad():
        least = naive_distances(made, x[:10]).amin(1)
    seen = least[least > 1e-3 * least.max()]  # what is no background
    assert 0.6 < float(seen.median()) < 1.7  # a rounding error taken for the median makes this 100,000


def test_images_that_are_all_alike_start_an_encoder_of_finite_numbers() -> None:
    made = encoder()
    data_init(made, torch.zeros(20, 2, 12, 12), seeded())
    assert all(bool(torch.isfinite(p).all()) for p in made.parameters())


def test_projection_takes_the_nearest_real_patch_wherever_it_is() -> None:
    made, x = encoder(), images(23)
    with torch.no_grad():
        squared = naive_distances(made, x)
        least = squared.amin((0, 2))
        features = made.features(x).flatten(2)
    image, cell, before = project(made, x.split(5))
    for j in range(7):
        i, at = divmod(int(squared[:, j].argmin()), squared.shape[2])
        assert (int(image[j]), int(cell[j])) == (i, at)
        torch.testing.assert_close(made.prototypes[j, :, 0, 0].detach(), features[i, :, at])
    torch.testing.assert_close(before.double(), least, rtol=1e-5, atol=1e-5)
    activations, cells = nearest(made, x)
    for j in range(7):
        assert float(activations[image[j], j]) == pytest.approx(math.log(1e4), abs=1e-4)
        assert int(activations[:, j].argmax()) == int(image[j])
        assert int(cells[image[j], j]) == int(cell[j])


def test_under_autocast_distances_and_activations_stay_the_same_to_the_bit() -> None:
    made, x = encoder(), images()
    with torch.no_grad():  # at distance 0 an activation is all rounding, if any
        made.prototypes.copy_(made.features(x)[0, :, 1, :3].repeat(1, 3)[:, :7].T[..., None, None])
    wanted, apart = made(x), made.distances(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert made.features(x).dtype == torch.bfloat16
        assert torch.equal(made(x), wanted)
        assert torch.equal(made.distances(x), apart)
    assert torch.equal(made(x.bfloat16()), made(x.bfloat16().float()))


def test_an_encoder_of_half_the_bits_measures_in_full_ones() -> None:
    made, x = encoder().to(torch.bfloat16), images().bfloat16()
    least = naive_distances(made, x).amin(2)
    torch.testing.assert_close(made(x).double(), torch.log((least + 1) / (least + 1e-4)), rtol=1e-5, atol=1e-5)


def test_in_float64_everything_is_float64() -> None:
    made, x = encoder().double(), images().double()
    points = made.prototypes.flatten(1).expand(len(x), -1, -1)
    apart = torch.cdist(points, made.features(x).flatten(2).mT, compute_mode="donot_use_mm_for_euclid_dist").square()
    torch.testing.assert_close(made.distances(x).flatten(2), apart, rtol=1e-12, atol=1e-12)
    learned, weights = list(made.parameters()), torch.rand(5, 7, generator=seeded(3)).double()
    found = torch.autograd.grad((made(x) * weights).sum(), learned)
    least = apart.amin(2)
    wanted = torch.autograd.grad((torch.log((least + 1) / (least + 1e-4)) * weights).sum(), learned)
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_a_tiny_distance_between_large_features_keeps_its_digits() -> None:
    made = encoder(IDENTITY)
    x = torch.zeros(1, 3, 4, 4)
    x[0, :, 2, 1] = torch.tensor([1000.0, 800.0, 600.0])
    with torch.no_grad():
        made.prototypes.copy_((x[0, :, 2, 1] + torch.tensor([0.0, 0.25, 0.0])).view(1, 3, 1, 1).expand(4, -1, -1, -1))
    activations, cells = nearest(made, x)
    assert cells.tolist() == [[9] * 4]
    assert activations[0].tolist() == pytest.approx([math.log((0.0625 + 1) / (0.0625 + 1e-4))] * 4, rel=1e-6)


def test_a_projection_needs_images() -> None:
    made = encoder()
    before = made.prototypes.detach().clone()
    for batches in ([], [torch.full((2, 2, 12, 12), math.nan)]):
        with pytest.raises(DataError, match="no patch of"):
            project(made, batches)
    assert torch.equal(made.prototypes, before)


def test_numpys_own_arithmetic_gives_one_activation() -> None:
    made = encoder(IDENTITY)
    x = np.full((1, 3, 2, 2), 2.0, dtype=np.float32)
    x[0, :, 1, 0] = [1.0, 0.5, 0.0]
    with torch.no_grad():
        made.prototypes.copy_(torch.tensor([1.0, 0.0, 0.0])[None, :, None, None].expand(4, -1, -1, -1))
    activations, cells = nearest(made, torch.from_numpy(x))
    assert activations[0].tolist() == pytest.approx([math.log(1.25 / 0.2501)] * 4, rel=1e-6)
    assert cells[0].tolist() == [2] * 4
