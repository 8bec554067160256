"""Dense heads: their shapes, their loss against MONAI's, what they learn from maps that hold the answer."""

import numpy as np
import pytest
import torch
from monai.losses import DiceLoss

from medaudit.errors import UsageError
from medaudit.networks.dense_heads import HEADS, build_dense_head, four_blocks, patch_maps
from medaudit.networks.vit import ViT, ViTShape
from medaudit.statistics.patients import patient_weights
from medaudit.training.probes.areas import IMAGES, SUMMED, areas, overlap, overlap_draws
from medaudit.training.probes.dense import (
    DenseRecipe,
    cached_maps,
    dense_areas,
    dense_loss,
    fine_tuned_segmenter,
    fit_dense,
    predict_dense,
)

SHAPE = ViTShape(dim=24, depth=4, heads=3, patch=8, side=32, registers=1)


def vit(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ViT(SHAPE)


def planted(n=24, classes=3, grid=12, patch=4, d=12, noise=0.1, seed=0):
    """Maps (n, 1, d, grid, grid) that hold the class of each patch, and label maps of whole patches."""
    rng = np.random.default_rng(seed)
    coarse = np.zeros((n, grid, grid), dtype=np.int64)
    for one in coarse:
        for c in range(1, classes):
            r, q = rng.integers(0, grid - 5, 2)
            one[r : r + 6, q : q + 6] = c
    maps = np.moveaxis(np.eye(classes, d)[coarse], -1, 1) + noise * rng.normal(size=(n, d, grid, grid))
    return maps[:, None].astype(np.float16), coarse.repeat(patch, axis=1).repeat(patch, axis=2)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("taps", [1, 4])
def test_maps_of_14_by_14_patches_become_logits_of_224_by_224(name, taps):
    head = build_dense_head(name, 16, taps, 5, (224, 224), width=32)
    assert head(torch.randn(2, taps, 16, 14, 14)).shape == (2, 5, 224, 224)


@pytest.mark.parametrize("name", HEADS)
def test_an_image_need_not_be_square_nor_a_patch_a_power_of_2(name):
    head = build_dense_head(name, 16, 1, 2, (70, 98), patch=14, width=16)
    assert head(torch.randn(2, 1, 16, 5, 7)).shape == (2, 2, 70, 98)


def test_the_same_seed_gives_the_same_head():
    heads = [build_dense_head("upernet", 8, 4, 2, (32, 32), seed=seed) for seed in (0, 0, 1)]
    first = [next(iter(head.laterals.parameters())) for head in heads]
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first[0], first[2])


def test_a_pyramid_is_of_ultradinos_blocks():
    assert four_blocks(12) == (3, 5, 7, 11)
    assert four_blocks(4) == (0, 1, 2, 3)
    assert all(len(set(four_blocks(depth))) == 4 and four_blocks(depth)[-1] == depth - 1 for depth in range(4, 41))
    with pytest.raises(UsageError, match="4 blocks"):
        build_dense_head("upernet", 8, 2, 2, (32, 32))


def test_the_loss_is_monais_soft_dice_of_all_classes_plus_torchs_cross_entropy():
    logits, labels = torch.randn(3, 4, 8, 9), torch.randint(0, 4, (3, 8, 9))
    losses = dense_loss(logits, labels)
    theirs = DiceLoss(softmax=True, to_onehot_y=True, smooth_nr=1.0, smooth_dr=1.0)(logits, labels[:, None])
    torch.testing.assert_close(losses["dice_loss"], theirs)
    entropy = torch.nn.functional.cross_entropy(logits, labels)
    torch.testing.assert_close(losses["loss"], theirs + entropy)


@pytest.mark.parametrize(("name", "steps"), [("linear", 300), ("conv", 100), ("upernet", 60)])
def test_maps_that_hold_the_answer_are_read(name, steps, tmp_path):
    maps, masks = planted()
    head = build_dense_head(name, 12, 1, 3, (48, 48), patch=4, width=16)
    recipe = DenseRecipe(steps=steps, batch_size=6, learning_rate=1e-2, epochs=2)
    trained = fit_dense(head, maps, masks, range(16), 3, recipe, tmp_path, seed=0, validation_rows=[16, 17])
    counted = dense_areas(head, maps, masks, range(18, 24), 3)
    scores = overlap(counted)
    # Bilinear upsampling rounds the squares' corners: the true patches, upsampled so, are not the masks either.
    coarse = torch.nn.functional.one_hot(torch.from_numpy(masks[18:, ::4, ::4]), 3).movedim(-1, 1).float()
    rounded = torch.nn.functional.interpolate(coarse, size=(48, 48), mode="bilinear").argmax(dim=1).numpy()
    limit = overlap(areas(rounded, masks[18:], 3))[SUMMED].min()
    assert limit > 0.96
    assert scores[SUMMED].min() > limit - 0.02
    assert scores[IMAGES].min() > limit - 0.05
    assert {"val_mean_dice", "dice_loss", "cross_entropy"} <= set(trained.history[-1])
    cluster, weights = patient_weights(range(6), 10, seed=0)
    assert overlap_draws(counted, cluster, weights)[SUMMED].shape == (10, 3)


def test_the_best_epoch_is_what_the_head_has_in_the_end(tmp_path):
    maps, masks = planted(8)
    head = build_dense_head("linear", 12, 1, 3, (48, 48))
    recipe = DenseRecipe(steps=6, batch_size=4, learning_rate=1.0, epochs=3, schedule="constant")
    trained = fit_dense(head, maps, masks, range(6), 3, recipe, tmp_path, seed=0, validation_rows=[6, 7])
    scores = overlap(dense_areas(head, maps, masks, [6, 7], 3))[SUMMED]
    assert np.nanmean(scores) == pytest.approx(trained.best_value)
    assert trained.best_value == max(row["val_mean_dice"] for row in trained.history)


def test_cached_maps_are_the_patches_of_the_blocks_in_rows_and_columns():
    net, images = vit().eval(), np.random.default_rng(0).normal(size=(3, 1, 32, 24)).astype(np.float32)
    maps = cached_maps(net, images, (1, 3), batch_size=2)
    assert maps.shape == (3, 2, 24, 4, 3)
    assert maps.dtype == np.float16
    with torch.no_grad():
        patches = net(torch.from_numpy(images)).patches
        torch.testing.assert_close(patch_maps(net, torch.from_numpy(images), (3,))[:, 0].flatten(2).mT, patches)
    np.testing.assert_allclose(maps[1, 1, :, 2, 1], patches[1, 2 * 3 + 1].numpy(), atol=2e-3)


def test_a_fine_tuned_segmenter_moves_its_backbone_and_learns_bright_squares(tmp_path):
    rng = np.random.default_rng(0)
    masks = np.zeros((16, 32, 32), dtype=np.int64)
    for one in masks:
        r, c = rng.integers(0, 16, 2)
        one[r : r + 16, c : c + 16] = 1
    images = (masks * 2.0 - 1 + 0.3 * rng.normal(size=masks.shape))[:, None].astype(np.float32)
    net = vit()
    before = net.blocks[0].attn.qkv.weight.detach().clone()
    head = build_dense_head("conv", 24, 4, 2, (32, 32), patch=8, width=32)
    model = fine_tuned_segmenter(net, head, four_blocks(4), drop_path=0.1)
    recipe = DenseRecipe(steps=80, batch_size=8, learning_rate=3e-3, epochs=1, augment=True)
    fit_dense(model, images, masks, range(12), 2, recipe, tmp_path, seed=0)
    assert not torch.equal(before, net.blocks[0].attn.qkv.weight)
    assert overlap(dense_areas(model, images, masks, range(12, 16), 2))[SUMMED].min() > 0.8
    rows, found = next(predict_dense(model, images, [3, 1]))
    assert rows == [3, 1]
    assert found.shape == (2, 32, 32)
