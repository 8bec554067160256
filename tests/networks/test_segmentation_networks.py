"""The U-Nets: their shapes, their bottleneck, and that one learns."""

import numpy as np
import pytest
import torch
from monai.losses import DiceCELoss

from medaudit.errors import UsageError
from medaudit.networks.segmentation import PRESETS, bottleneck_features, build, stride
from medaudit.training import TrainingData, TrainingSettings, load_weights, train

presets = pytest.mark.parametrize("preset", PRESETS)


def image_for(model, preset, channels, cells=2):
    return torch.rand((1, channels) + (cells * stride(model),) * PRESETS[preset]["spatial_dims"])


@presets
def test_logits_have_the_images_shape_and_the_bottleneck_its_width(preset):
    model = build(preset, 2, 3).eval()
    image = image_for(model, preset, 2)
    with torch.no_grad(), bottleneck_features(model) as features:
        logits = model(image)
    assert logits.shape == (1, 3, *image.shape[2:])
    assert [f.shape for f in features] == [(1, PRESETS[preset]["channels"][-1])]


@presets
def test_presets_are_of_the_size_that_is_said(preset):
    millions = sum(p.numel() for p in build(preset, 1, 2).parameters()) / 1e6
    low, high = (0.3, 1.0) if preset.startswith("cpu") else (20, 40)
    assert low < millions < high


@presets
def test_the_bottleneck_is_the_smallest_picture_of_the_image(preset):
    model = build(preset, 1, 2).eval()
    sides = []
    hooks = [
        module.register_forward_hook(lambda m, i, o: sides.append(tuple(o.shape[2:])) if torch.is_tensor(o) else None)
        for module in model.modules()
    ]
    image = image_for(model, preset, 1)
    with torch.no_grad():
        model(image)
    assert min(sides) == (2,) * PRESETS[preset]["spatial_dims"]
    for hook in hooks:
        hook.remove()


def test_features_are_the_mean_over_space_of_what_the_deepest_stage_gives():
    model = build("cpu-2d", 1, 2).eval()
    deepest = []
    block = model.model[1].submodule[1].submodule[1].submodule
    handle = block.register_forward_hook(lambda m, i, o: deepest.append(o))
    with torch.no_grad(), bottleneck_features(model) as features:
        model(torch.rand(3, 1, 32, 32))
        model(torch.rand(2, 1, 32, 32))
    handle.remove()
    assert [f.shape[0] for f in features] == [3, 2]
    torch.testing.assert_close(features[0], deepest[0].mean(dim=(2, 3)))
    with torch.no_grad():
        model(torch.rand(1, 1, 32, 32))
    assert len(features) == 2  # the hook is gone


def test_the_seed_decides_the_first_weights_and_nothing_else_changes():
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    first, same, other = (build("cpu-2d", 1, 2, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.rand(2), expected)
    pairs = list(zip(first.parameters(), same.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert not all(torch.equal(a, c) for a, _, c in pairs)


def test_what_cannot_be_built_is_one_line():
    with pytest.raises(UsageError, match="no preset 'huge'; expected one of cpu-2d"):
        build("huge", 1, 2)
    with pytest.raises(UsageError, match="cpu-2d is for 2-D images, these are 3-D; take cpu-3d"):
        build("cpu-2d", 1, 2, 3)
    with pytest.raises(UsageError, match="0 channels"):
        build("cpu-2d", 0, 2)
    with pytest.raises(UsageError, match="no stride known of a Linear"):
        stride(torch.nn.Linear(1, 1))


def discs(n, seed, side=32):
    """Noisy images with a bright disc, and the disc."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side]
    images, masks = [], []
    for _ in range(n):
        row, column, radius = rng.uniform([10, 10, 4], [side - 10, side - 10, 8])
        mask = (rows - row) ** 2 + (columns - column) ** 2 <= radius**2
        images.append(torch.tensor(mask + rng.normal(0, 0.6, mask.shape), dtype=torch.float32)[None])
        masks.append(torch.tensor(mask)[None].long())
    return images, masks


def test_a_small_unet_learns_to_segment_discs(tmp_path):
    images, masks = discs(64, seed=0)
    unseen, wanted = (torch.stack(part) for part in discs(12, seed=1))
    data = TrainingData([f"disc-{i}" for i in range(64)], lambda i, rng: {"image": images[i], "label": masks[i]})
    criterion = DiceCELoss(to_onehot_y=True, softmax=True)

    def dice(model):
        predicted = model(unseen).argmax(dim=1, keepdim=True)
        both = (predicted * wanted).sum(dim=(1, 2, 3))
        return {"dice": float((2 * both / (predicted.sum(dim=(1, 2, 3)) + wanted.sum(dim=(1, 2, 3)))).mean())}

    settings = TrainingSettings(
        epochs=15, batch_size=4, epoch_steps=10, learning_rate=3e-3, monitor="dice", higher_is_better=True
    )
    model = build("cpu-2d", 1, 2)
    before = dice(model)["dice"]
    trained = train(
        model, lambda m, b: criterion(m(b["image"]), b["label"]), data, settings, folder=tmp_path, validate=dice
    )
    assert before < 0.5
    assert trained.best_value > 0.9
    load_weights(model, trained.best)
    with torch.no_grad():
        assert dice(model.eval())["dice"] == trained.best_value
