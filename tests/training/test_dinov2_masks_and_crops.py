"""Which patches are hidden, and what a view is: the laws by counting, the pixels against Pillow and plain numpy."""

import math
from collections import deque
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from medaudit.training.dinov2.crops import CropLaw, blurring, draw, resampling, views
from medaudit.training.dinov2.masks import MaskLaw, _add_block, masks_of
from medaudit.training.dinov2.recipe import PRESETS, faithful

GRID = 14
PLAIN = CropLaw(32, 16, 1, flip="none", jitter=0, blur=(0, 0, 0), solarize=0)
TOP, LEFT, TALL, WIDE, FLIP_V, FLIP_H, BRIGHT, CONTRAST, SWAP, SIGMA, SOLARIZE = range(11)


def generator(seed=0):
    return np.random.default_rng(seed)


# Masks


def many_masks(crops=32, batches=120):
    rng = generator(3)
    return [masks_of(crops, GRID, MaskLaw(), rng) for _ in range(batches)]


def test_exactly_half_of_the_crops_are_masked_in_random_order():
    drawn = many_masks()
    for masks in drawn:
        assert masks.dtype == bool
        assert masks.any(1).sum() == 16
    often = np.mean([masks.any(1) for masks in drawn], axis=0)
    assert np.abs(often - 0.5).max() < 4 * 0.5 / math.sqrt(len(drawn))
    assert [masks_of(n, GRID, MaskLaw(), generator()).any(1).sum() for n in (2, 3, 5)] == [1, 1, 2]


def test_masked_shares_are_spread_from_a_tenth_to_a_half_with_a_mean_near_0_30():
    shares = np.concatenate([masks[masks.any(1)].mean(1) for masks in many_masks()])
    assert shares.mean() == pytest.approx(0.297, abs=0.006)  # what the released code's masks have
    assert shares.max() <= 0.5
    assert shares.min() < 0.15
    counts, _ = np.histogram(shares, [0, 0.1, 0.2, 0.3, 0.4, 0.5 + 1e-9])
    assert counts[0] < 0.1 * len(shares)
    assert (counts[1:] > 0.2 * len(shares)).all()


def test_each_batch_has_a_mask_of_every_size():
    for masks in many_masks(batches=20):
        sizes = np.sort(masks.sum(1))[-16:]
        edges = np.linspace(0.1, 0.5, 17)[1:] * GRID * GRID
        assert (sizes <= edges).all()


def parts(mask):
    """Connected parts of a mask, as arrays of (row, column)."""
    left, found = {tuple(at) for at in np.argwhere(mask)}, []
    while left:
        queue, part = deque([left.pop()]), []
        while queue:
            r, c = queue.popleft()
            part.append((r, c))
            near = {(r + 1, c), (r - 1, c), (r, c + 1), (r, c - 1)} & left
            left -= near
            queue.extend(near)
        found.append(np.array(part))
    return found


def test_a_block_is_a_rectangle_of_an_area_from_four_and_a_side_from_0_3_to_3_3_before_they_are_rounded():
    rng, areas = generator(1), []
    for most in (4, 10, 49, 98) * 100:
        mask = np.zeros((GRID, GRID), dtype=bool)
        count = _add_block(mask, most, rng)
        (tall, wide), area = np.ptp(np.argwhere(mask), axis=0) + 1, mask.sum()
        assert tall * wide == area == count <= most
        assert area >= 3  # 2.83 x 1.41 becomes 3 x 1
        near = [(tall + i) / (wide + j) for i in (-0.5, 0.5) for j in (-0.5, 0.5)]
        assert min(near) <= 1 / 0.3
        assert max(near) >= 0.3
        areas.append(area / most)
    assert np.mean(areas) == pytest.approx(0.6, abs=0.1)


def test_blocks_hold_together_and_single_patches_do_not():
    law = MaskLaw(crops=1, least=0.06, most=0.06)
    scattered = np.mean([len(parts(mask)) for mask in masks_of(99, GRID, replace(law, style="patch"), generator())
                         .reshape(-1, GRID, GRID)[:40]])  # fmt: skip
    blocks = np.mean([len(parts(mask)) for mask in masks_of(40, GRID, law, generator()).reshape(-1, GRID, GRID)])
    assert blocks < 3 < scattered


def test_single_patches_are_hidden_to_the_wanted_number_exactly():
    masks = masks_of(8, GRID, MaskLaw(style="patch", least=0.25, most=0.25), generator())
    assert sorted(masks.sum(1)) == [0] * 4 + [49] * 4
    assert masks_of(400, GRID, MaskLaw(style="patch", crops=1), generator()).mean(0).std() < 0.04


@pytest.mark.parametrize("grid", [2, 3, 6])
def test_small_grids_have_masks_too(grid):
    masks = masks_of(200, grid, MaskLaw(), generator())
    assert masks.sum(1).max() <= grid * grid / 2
    assert grid == 2 or masks.any(1).sum() > 50


# Crops: the law


def test_crops_have_the_areas_and_aspects_of_random_resized_crop():
    law, rng = CropLaw(), generator(5)
    drawn = np.stack([draw(law, rng) for _ in range(600)])
    assert drawn.shape == (600, 10, 19)
    for part, (least, most) in ((drawn[:, :2], law.global_scale), (drawn[:, 2:], law.local_scale)):
        tall, wide, top, left = (part[..., k].ravel() for k in (TALL, WIDE, TOP, LEFT))
        area, aspect = tall * wide, wide / tall
        assert least - 1e-6 <= area.min() < area.max() <= most + 1e-6
        assert 3 / 4 - 1e-6 <= aspect.min() < aspect.max() <= 4 / 3 + 1e-6
        assert (top >= 0).all()
        assert (left >= 0).all()
        assert (top + tall).max() <= 1 + 1e-6
        assert (left + wide).max() <= 1 + 1e-6
        assert np.log(aspect).mean() == pytest.approx(0, abs=0.02)
    small = drawn[:, 2:, TALL] * drawn[:, 2:, WIDE]
    assert small.mean() == pytest.approx((0.05 + 0.32) / 2, abs=0.005)  # none is refused there: uniform


def test_what_is_drawn_has_the_probabilities_of_the_law():
    law, rng = CropLaw(), generator(6)
    drawn = np.stack([draw(law, rng) for _ in range(2_000)])
    often = (drawn != np.array([0] * 6 + [1, 1] + [0] * 10 + [1])).mean(0)
    assert often[:, FLIP_V] == pytest.approx(0.5, abs=0.05)
    assert (often[:, FLIP_H] == 0).all()
    assert often[:, BRIGHT] == pytest.approx(0.8, abs=0.04)
    assert often[:, SWAP] == pytest.approx(0.4, abs=0.05)
    assert often[:, SIGMA] == pytest.approx([0, 0.9] + [0.5] * 8, abs=0.05)
    assert often[:, SOLARIZE] == pytest.approx([0, 0.2] + [0] * 8, abs=0.04)
    assert (often[:, 11:] == 0).all()
    changed = drawn[..., BRIGHT : CONTRAST + 1]
    assert 0.6 <= changed.min() < 0.62
    assert 1.38 < changed.max() <= 1.4
    blurred = drawn[..., SIGMA][drawn[..., SIGMA] > 0]
    assert 0.1 <= blurred.min() < blurred.max() <= 2


def test_paper_turns_upside_down_and_blurs_with_turned_probabilities_and_fixed_does_what_was_written():
    for preset in PRESETS.values():
        paper, fixed = faithful(preset, "paper"), faithful(preset, "fixed")
        assert (paper.fidelity, paper.crops.flip, paper.crops.blur) == ("paper", "v", (0.0, 0.9, 0.5))
        assert (fixed.fidelity, fixed.crops.flip, fixed.crops.blur) == ("fixed", "h", (1.0, 0.1, 0.5))
        assert replace(fixed, fidelity="paper", crops=paper.crops) == paper


# Crops: the pixels


def pictures(n=3, side=40):
    return generator(8).integers(0, 256, (n, side, side), dtype=np.uint8)


def row(**changes):
    """What draws nothing but the given numbers; the rectangle is the whole image."""
    numbers = np.zeros(19, dtype=np.float32)
    numbers[[TALL, WIDE, BRIGHT, CONTRAST, 18]] = 1
    for name, value in changes.items():
        numbers[globals()[name]] = value
    return numbers


def seen(image, *rows, law=PLAIN):
    """The global views of one image, on 0 to 1."""
    drawn = torch.from_numpy(np.stack([*rows, *[row()] * (law.count - len(rows))]))[None]
    return views(torch.from_numpy(np.asarray(image))[None], drawn, law, 0.0, 1.0)[0][: len(rows), 0].numpy()


@pytest.mark.parametrize("box", [(3, 5, 20, 28), (0, 0, 40, 40), (10, 30, 8, 8), (7, 0, 33, 9)])
@pytest.mark.parametrize("side", [12, 32, 33, 80])
@pytest.mark.parametrize("flips", [(0, 0), (1, 0), (0, 1)])
def test_a_crop_is_pillows_crop_and_bicubic_resize(box, side, flips):
    image, (top, left, tall, wide) = pictures(1)[0].astype(np.float32), box
    cut = Image.fromarray(image).crop((left, top, left + wide, top + tall))
    expected = np.asarray(cut.resize((side, side), Image.Resampling.BICUBIC))
    expected = expected[:: -1 if flips[0] else 1, :: -1 if flips[1] else 1]
    sides = torch.tensor([[float(v) for v in box]])
    rows = resampling(sides[:, 0], sides[:, 2], 40, side, torch.tensor([bool(flips[0])]))
    columns = resampling(sides[:, 1], sides[:, 3], 40, side, torch.tensor([bool(flips[1])]))
    found = (rows @ torch.from_numpy(image) @ columns.transpose(-1, -2))[0].numpy()
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_views_cut_and_flip_what_was_drawn():
    image = pictures(1)[0]
    box = {"TOP": 0.1, "LEFT": 0.25, "TALL": 0.5, "WIDE": 0.6}  # rows 4 to 24, columns 10 to 34
    plain, v, h = (seen(image, row(**box, **flip))[0] for flip in ({}, {"FLIP_V": 1}, {"FLIP_H": 1}))
    cut = Image.fromarray(image.astype(np.float32)).crop((10, 4, 34, 24)).resize((32, 32), Image.Resampling.BICUBIC)
    np.testing.assert_allclose(plain, np.asarray(cut).clip(0, 255) / 255, atol=1e-3)
    np.testing.assert_allclose(v, plain[::-1], atol=1e-6)
    np.testing.assert_allclose(h, plain[:, ::-1], atol=1e-6)


@pytest.mark.parametrize("sigma", [0.1, 0.8, 2.0])
@pytest.mark.parametrize("side", [9, 24])
def test_a_blur_is_a_reflected_convolution_of_nine_taps(sigma, side):
    x = generator(2).random((side, side))
    taps = np.exp(-0.5 * (np.arange(-4, 5) / sigma) ** 2)
    kernel = np.outer(taps, taps) / taps.sum() ** 2
    wide = np.pad(x, 4, mode="reflect")
    expected = sum(
        kernel[i, j] * wide[i : i + side, j : j + side] for i in range(9) for j in range(9)
    )  # fmt: skip
    band = blurring(torch.tensor([sigma]), side)[0].double().numpy()
    np.testing.assert_allclose(band @ x @ band.T, expected, atol=1e-6)


@pytest.mark.parametrize("swap", [0, 1])
def test_light_blur_and_solarisation_come_in_the_order_of_the_transforms(swap):
    image = pictures(1, 32)[0]
    x = image / 255
    for step in ("bc", "cb")[swap]:
        x = x * 1.35 if step == "b" else 0.7 * x + 0.3 * x.mean()
        x = x.clip(0, 1)
    band = blurring(torch.tensor([1.2]), 32)[0].numpy()
    x = band @ x @ band.T
    expected = np.where(x >= 128 / 255, 1 - x, x)
    found = seen(image, row(BRIGHT=1.35, CONTRAST=0.7, SWAP=swap, SIGMA=1.2, SOLARIZE=1))[0]
    near = np.abs(x - 128 / 255) < 1e-5
    np.testing.assert_allclose(found[~near], expected[~near], atol=1e-5)
    other = seen(image, row(BRIGHT=1.35, CONTRAST=0.7, SWAP=1 - swap, SIGMA=1.2, SOLARIZE=1))[0]
    assert np.abs(other - found).max() > 0.01


def test_views_come_crop_by_crop_the_first_global_ones_first_and_normalised():
    law = replace(PLAIN, locals=3)
    images = np.stack([np.full((40, 40), v, dtype=np.uint8) for v in (10, 20, 40)])
    drawn = np.stack([[row(BRIGHT=1 + k / 10) for k in range(law.count)]] * 3)
    wide, narrow = views(torch.from_numpy(images), torch.from_numpy(drawn), law, 0.2, 0.5)
    assert wide.shape == (6, 1, 32, 32)
    assert narrow.shape == (9, 1, 16, 16)
    expected = [(v * (1 + k / 10) / 255 - 0.2) / 0.5 for k in range(5) for v in (10, 20, 40)]
    found = torch.cat([wide.mean((1, 2, 3)), narrow.mean((1, 2, 3))]).tolist()
    assert found == pytest.approx(expected, abs=1e-5)


def test_making_views_draws_nothing_and_no_image_depends_on_its_batch():
    law, rng = replace(CropLaw(32, 16, 2), ultrasound=True), generator(9)
    images = torch.from_numpy(pictures(6))
    drawn = torch.from_numpy(np.stack([draw(law, rng) for _ in images]))
    torch.manual_seed(4)
    state = torch.get_rng_state()
    one, other = views(images, drawn, law, 0.3, 0.2), views(images, drawn, law, 0.3, 0.2)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert all(torch.isfinite(some).all() for some in one)
    for i in range(6):
        alone = views(images[i : i + 1], drawn[i : i + 1], law, 0.3, 0.2)
        torch.testing.assert_close(alone[0], one[0][[i, 6 + i]], atol=1e-5, rtol=0)
        torch.testing.assert_close(alone[1], one[1][[i, 6 + i]], atol=1e-5, rtol=0)


def test_without_local_crops_there_are_two_views():
    wide, narrow = views(torch.from_numpy(pictures(2)), torch.from_numpy(np.stack([[row()] * 2] * 2)),
                         replace(PLAIN, locals=0), 0.0, 1.0)  # fmt: skip
    assert wide.shape == (4, 1, 32, 32)
    assert len(narrow) == 0


def test_the_same_generator_draws_the_same_views():
    law = replace(CropLaw(), ultrasound=True)
    assert np.array_equal(draw(law, generator(1)), draw(law, generator(1)))
    assert not np.array_equal(draw(law, generator(1)), draw(law, generator(2)))


def test_ultrasounds_shadow_is_a_darker_column_and_gain_a_change_along_the_depth():
    image, numbers = np.full((32, 32), 128, dtype=np.uint8), row()
    numbers[15:18] = 0.5, 0.1, 0.8
    shadow = seen(image, numbers)[0]
    assert np.ptp(shadow, axis=0).max() < 1e-6
    assert shadow[0].argmin() in (15, 16)
    assert shadow.min() == pytest.approx(0.2 * 128 / 255, abs=0.01)
    numbers = row()
    numbers[11:15] = 0, 0, 6, 6
    gain = seen(image, numbers)[0]
    assert np.ptp(gain, axis=1).max() < 1e-6
    assert gain[-1, 0] - gain[0, 0] == pytest.approx(0.1, abs=1e-6)
