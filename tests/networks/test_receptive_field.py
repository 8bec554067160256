"""What a cell sees: the formula against the pixels that its gradient reaches, and the paper's sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from medaudit.errors import UsageError
from medaudit.networks.prototypes.encoder import EncoderShape, PrototypeEncoder
from medaudit.networks.prototypes.receptive_field import ReceptiveField, receptive_field
from medaudit.training.prototypes.recipe import PRESETS


def support(kernels: list[int], strides: list[int], paddings: list[int], side: int, cell: int) -> tuple[int, int]:
    """Return the first pixel that a cell's gradient reaches in one dimension, and the one after the last."""
    layers = [nn.Conv1d(1, 1, k, s, p) for k, s, p in zip(kernels, strides, paddings, strict=True)]
    for layer in layers:
        nn.init.constant_(layer.weight, 1.0)  # all positive: no two paths cancel
    x = torch.zeros(1, 1, side, requires_grad=True, dtype=torch.float32)
    nn.Sequential(*layers)(x)[0, 0, cell].backward()
    seen = torch.nonzero(x.grad[0, 0]).flatten()
    return int(seen.min()), int(seen.max()) + 1


@pytest.mark.parametrize("inner", [False, True], ids=["padding in the first layer", "padding anywhere"])
@pytest.mark.parametrize("seed", range(20))
def test_a_box_holds_the_pixels_that_the_cells_gradient_reaches_and_no_other(seed: int, inner: bool) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 5))
    strides = rng.integers(1, 4, n).tolist()
    kernels = [int(rng.integers(s, 6)) for s in strides]  # a stride beyond its kernel leaves gaps
    paddings = [int(rng.integers(0, k)) if inner or not i else 0 for i, k in enumerate(kernels)]
    shape = EncoderShape(1, (2,) * n, tuple(kernels), tuple(strides), tuple(paddings), prototypes=1)
    field = receptive_field(kernels, strides, paddings)
    side = 2 * (field.size + field.jump) + int(rng.integers(0, 20))
    cells = PrototypeEncoder(shape).features(torch.zeros(1, 1, side, side)).shape[-1]
    exact = 0
    for cell in range(cells):
        top, left, bottom, right = field.box(cell, cells - 1 - cell, side, side)
        first, end = support(kernels, strides, paddings, side, cell) if top < bottom else (top, bottom)
        assert top <= first <= end <= bottom
        # A later layer's padding hides pixels at the edge that the formula counts.
        if not inner or (field.start + cell * field.jump >= 0 and bottom < side):
            assert (top, bottom) == (first, end)
            exact += 1
        assert (left, right) == field.box(cells - 1 - cell, 0, side, side)[::2]
    assert exact > 0


@pytest.mark.parametrize("name", PRESETS)
def test_every_cells_box_is_exact_in_every_preset(name: str) -> None:
    shape, side = PRESETS[name].encoder, PRESETS[name].side
    encoder = PrototypeEncoder(shape)
    for cell in range(encoder.features(torch.zeros(1, shape.channels, side, side)).shape[-1]):
        seen = support(list(shape.kernels), list(shape.strides), list(shape.paddings), side, cell)
        assert encoder.field.box(cell, 0, side, side)[::2] == seen


def test_the_two_dimensional_encoder_sees_exactly_its_box() -> None:
    encoder = PrototypeEncoder(EncoderShape())
    for layer in encoder.convolutions:
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.weight, 0.1)
    x = torch.ones(1, 1, 32, 40, requires_grad=True)
    encoder.features(x)[0, :, 2, 9].sum().backward()
    rows, columns = np.nonzero(x.grad[0, 0].numpy())
    assert encoder.field.box(2, 9, 32, 40) == (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)


@pytest.mark.parametrize(
    ("preset", "side", "cells", "field"),
    [
        ("paper-32", 32, 10, ReceptiveField(size=15, jump=2, start=-1)),
        ("paper-64", 64, 26, ReceptiveField(size=15, jump=2, start=-1)),
        ("paper-224", 224, 43, ReceptiveField(size=61, jump=4, start=-3)),
    ],
)
def test_the_papers_encoders_see_15_and_61_pixels(preset: str, side: int, cells: int, field: ReceptiveField) -> None:
    encoder = PrototypeEncoder(PRESETS[preset].encoder)
    assert PRESETS[preset].side == side
    assert encoder.features(torch.zeros(1, 1, side, side)).shape[1:] == (128, cells, cells)
    assert encoder.field == field
    # ProtoPNet's centre of the first cell lies half a pixel in: its pixel 0 is centred at 0.5.
    assert encoder.field.start + encoder.field.size / 2 == {15: 6.5, 61: 27.5}[field.size]


def test_boxes_are_cut_at_the_images_edge() -> None:
    field = ReceptiveField(size=15, jump=2, start=-1)
    assert field.box(0, 9, 32, 32) == (0, 17, 14, 32)
    assert field.box(4, 4, 32, 32) == (7, 7, 22, 22)


def test_the_smallest_image_leaves_one_cell_and_a_smaller_one_none() -> None:
    for shape in {preset.encoder for preset in PRESETS.values()}:
        encoder, side = PrototypeEncoder(shape), shape.least_side
        assert encoder.features(torch.zeros(1, shape.channels, side, side)).shape[-2:] == (1, 1)
        with pytest.raises(RuntimeError, match="Kernel size"):
            encoder.features(torch.zeros(1, shape.channels, side - 1, side - 1))


def test_lists_of_different_lengths_are_refused() -> None:
    with pytest.raises(UsageError, match="3 kernels, 2 strides, 3 paddings"):
        receptive_field([3, 3, 3], [1, 1], [0, 0, 0])
    with pytest.raises(UsageError, match="differ in length"):
        EncoderShape(features=(8, 8))
    with pytest.raises(UsageError, match="log, linear"):
        EncoderShape(similarity="cosine")
