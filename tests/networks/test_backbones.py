"""Frozen extractors, edges' histograms and the picture of patches."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from trained_backbone import weights_or_skip

from medaudit.errors import DataError, UsageError
from medaudit.networks import backbones
from medaudit.networks.backbones import FUS13M, IMAGENET, Preprocessing, open_backbone, save_backbone
from medaudit.networks.efficientnet_lite import load_lite0
from medaudit.networks.hog import hog
from medaudit.networks.patch_pca import patch_colours
from medaudit.networks.vit import ViT, ViTShape
from medaudit.networks.vit_weights import write_huggingface

SHAPE = ViTShape(dim=32, depth=5, heads=2, patch=8, side=32, registers=2)
HOW = Preprocessing(32, 1, (0.2,), (0.25,))
ABOUT = {"title": "ours", "trained_on": "12 frames", "seed": 3}


def frames(n: int = 3, side: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, side, side), dtype=np.uint8)


def net(shape: ViTShape = SHAPE) -> ViT:
    torch.manual_seed(0)
    return ViT(shape).eval()


@pytest.fixture
def folder(tmp_path):
    save_backbone(tmp_path / "run", net(), HOW, about=ABOUT)
    return tmp_path / "run"


def test_a_saved_backbone_gives_the_features_of_the_net(folder):
    found, images, vit = open_backbone(folder), frames(), net()
    features, patches = found.features(images), found.patches(images)
    x = (torch.from_numpy(images)[:, None] / 255 - 0.2) / 0.25
    with torch.no_grad():
        whole = vit(x)
        first = vit.layers(x, [1])[0]
    assert features.layers.shape == (3, 4, 32)
    assert features.layers.dtype == patches.dtype == np.float32
    np.testing.assert_allclose(features.vector, whole.cls, atol=1e-5)
    np.testing.assert_allclose(features.layers[:, 0], first.cls, atol=1e-5)
    np.testing.assert_allclose(features.mean_patch, whole.patches.mean(1), atol=1e-5)
    np.testing.assert_allclose(patches.reshape(3, 16, 32), whole.patches, atol=1e-5)
    assert (found.title, found.trained_on, found.preprocessing) == ("ours", "12 frames", HOW)
    assert json.loads((folder / "backbone.json").read_text())["about"] == ABOUT


def test_a_shallow_net_has_as_many_layers_as_blocks(tmp_path):
    save_backbone(tmp_path, net(replace(SHAPE, depth=2)), HOW, about=ABOUT)
    assert open_backbone(tmp_path / "backbone.pt").features(frames()).layers.shape == (3, 2, 32)


def test_floats_from_0_to_1_and_bytes_are_the_same_image(folder):
    found, images = open_backbone(folder), frames()
    np.testing.assert_allclose(
        found.features(images).vector, found.features(images.astype(np.float32) / 255).vector, atol=1e-5
    )


def test_batches_do_not_change_features(folder, monkeypatch):
    found, images = open_backbone(folder), frames(7)
    whole = found.features(images)
    monkeypatch.setattr(backbones, "BATCH_PIXELS", 2 * 32 * 32)
    for a, b in zip(found.features(images), whole, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    np.testing.assert_allclose(found.patches(images).mean((1, 2)), whole.mean_patch, atol=1e-5)


def test_larger_images_are_averaged_and_smaller_ones_stay_within_0_and_1(folder):
    found = open_backbone(folder)
    large = frames(2, 64)
    means = large.reshape(2, 32, 2, 32, 2).mean((2, 4)) / 255
    np.testing.assert_allclose(found.prepared(large)[:, 0] * 0.25 + 0.2, means, atol=1e-5)
    small = found.prepared(np.kron([[0, 255], [255, 0]], np.ones((4, 4)))[None].astype(np.uint8)) * 0.25 + 0.2
    assert small.shape == (1, 1, 32, 32)
    assert small.min() > -1e-6
    assert small.max() < 1 + 1e-6


def test_no_images_are_refused():
    with pytest.raises(UsageError, match="no images"):
        open_backbone("pixels").features(frames(0))


@pytest.mark.parametrize(
    "wrong", [frames()[0], frames()[:, :20], frames().astype(np.int64), frames().astype(np.uint16)]
)
def test_images_of_another_kind_are_refused(wrong):
    with pytest.raises(UsageError, match="expected"):
        open_backbone("pixels").features(wrong)


def test_a_backbone_that_was_changed_on_disk_is_refused(folder):
    torch.save({"model": net(replace(SHAPE, registers=0)).state_dict()}, folder / "backbone.pt")
    with pytest.raises(DataError, match="is not the file that"):
        open_backbone(folder)
    (folder / "backbone.json").write_text("{}")
    with pytest.raises(DataError, match="no record of a backbone"):
        open_backbone(folder)


def test_a_hugging_face_folder_is_a_backbone_prepared_as_it_says(folder, tmp_path):
    vit = net(replace(SHAPE, offset=0.0, antialias=True))
    write_huggingface(vit, tmp_path / "hf", HOW)
    found = open_backbone(tmp_path / "hf")
    assert found.preprocessing == HOW
    np.testing.assert_allclose(
        found.features(frames()).layers, open_backbone(folder).features(frames()).layers, atol=1e-5
    )
    (tmp_path / "hf" / "preprocessor_config.json").unlink()
    with pytest.raises(DataError, match=r"no preprocessor_config\.json"):
        open_backbone(tmp_path / "hf")


@pytest.mark.parametrize(("channels", "patch", "norm"), [(3, 14, IMAGENET), (1, 16, FUS13M)])
def test_published_files_are_prepared_as_in_their_evaluations(channels, patch, norm, tmp_path):
    shape = ViTShape(dim=64, depth=1, heads=1, patch=patch, side=patch * 37, channels=channels)
    path = tmp_path / "dinov2_vits14_reg4_pretrain.pth"
    torch.save(net(shape).state_dict(), path)
    found = open_backbone(path)
    assert found.preprocessing == Preprocessing(224, channels, *norm)
    assert found.features(frames(1, 64)).vector.shape == (1, 64)
    assert found.title == "dinov2_vits14_reg4"


def test_a_random_net_is_its_seed_and_leaves_torchs_own_draws_alone():
    torch.manual_seed(5)
    one = open_backbone("random", seed=1)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))
    images = frames(2, 48)
    same, other = open_backbone("random:tiny", seed=1), open_backbone("random", seed=2)
    np.testing.assert_array_equal(one.features(images).vector, same.features(images).vector)
    assert np.abs(one.features(images).vector - other.features(images).vector).max() > 1e-3
    assert one.trained_on == "nothing (random weights)"


def test_pixels_are_the_grey_values_row_by_row():
    images = frames(2, 16)
    found = open_backbone("pixels")
    np.testing.assert_allclose(found.features(images).vector, images.reshape(2, -1) / 255, atol=1e-6)
    assert open_backbone("pixels:4").features(images).layers.shape == (2, 1, 16)
    assert found.patches(images) is None
    assert found.net is None


def test_lite0_gives_what_its_classifier_sees():
    weights_or_skip()
    found, images, trained = open_backbone("lite0"), frames(2, 144), load_lite0()
    features, patches = found.features(images), found.patches(images)
    x = (torch.from_numpy(images)[:, None] / 255).expand(-1, 3, -1, -1)
    seen = []
    trained._fc.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    with torch.no_grad():
        trained(x)
    np.testing.assert_allclose(features.vector, seen[0], atol=1e-5)
    assert features.vector.shape == (2, 1280)
    assert patches.shape == (2, 9, 9, 112)
    np.testing.assert_allclose(patches.mean((1, 2)), features.mean_patch, atol=1e-4)
    assert open_backbone("lite0:224").preprocessing.side == 224


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vgg", "no backbone 'vgg'; expected a folder of a pretraining run"),
        ("gone/x.pth", "no backbone 'gone/x.pth'"),
        ("random:huge", "no shape 'huge'"),
        ("hog:60", "multiple of 8"),
        ("hog:8", "from 16"),
        ("lite0:100", "from 144"),
        ("pixels:x", "as in pixels:16"),
    ],
)
def test_a_name_that_is_not_understood_says_what_is(name, message):
    with pytest.raises(UsageError, match=message):
        open_backbone(name)


def by_loops(image: np.ndarray) -> np.ndarray:
    """The paper's section 6, pixel by pixel."""
    side = len(image)
    blocks = side // 8 - 1
    made = np.zeros((blocks, blocks, 2, 2, 9))
    for i in range(side):
        for j in range(side):
            down = image[min(i + 1, side - 1), j] - image[max(i - 1, 0), j]
            right = image[i, min(j + 1, side - 1)] - image[i, max(j - 1, 0)]
            size, angle = np.hypot(down, right), np.degrees(np.arctan2(down, right)) % 180
            for block_row in range(max(0, i // 8 - 1), min(blocks, i // 8 + 1)):
                for block_column in range(max(0, j // 8 - 1), min(blocks, j // 8 + 1)):
                    y, x = i + 0.5 - 8 * block_row, j + 0.5 - 8 * block_column
                    window = np.exp(-((y - 8) ** 2 + (x - 8) ** 2) / (2 * 8**2))
                    for a in (0, 1):
                        for b in (0, 1):
                            near = max(0, 1 - abs(y - 4 - 8 * a) / 8) * max(0, 1 - abs(x - 4 - 8 * b) / 8)
                            for k in range(9):
                                away = abs(angle - (20 * k + 10))
                                share = max(0, 1 - min(away, 180 - away) / 20)
                                made[block_row, block_column, a, b, k] += size * window * near * share
    vectors = made.reshape(blocks * blocks, 36)
    for _ in range(2):
        vectors = vectors / np.sqrt((vectors**2).sum(1, keepdims=True) + 1e-6)
        unclipped, vectors = vectors, np.minimum(vectors, 0.2)
    return unclipped.ravel()


def test_histograms_are_those_of_the_papers_loops():
    images = frames(2, 32).astype(np.float32) / 255
    np.testing.assert_allclose(hog(images), [by_loops(image) for image in images], atol=1e-5)


@pytest.mark.parametrize(("along", "bins"), [(1, {0, 8}), (0, {4})])
def test_a_ramp_votes_for_its_own_direction_alone(along, bins):
    ramp = np.indices((32, 32))[along][None] / 31
    votes = hog(ramp).reshape(-1, 9)
    assert set(np.flatnonzero(votes.max(0) > 1e-6)) == bins


def test_histograms_do_not_change_with_contrast_or_sign():
    images = frames(1, 32).astype(np.float32) / 255
    np.testing.assert_allclose(hog(images), hog(1 - images), atol=1e-5)
    np.testing.assert_allclose(hog(images), hog(0.5 * images + 0.2), atol=1e-4)
    assert np.abs(hog(np.full((1, 32, 32), 0.3))).max() == 0


def planted(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Patches of two images: a square that differs from its surround, and varies inside along three directions."""
    rng = np.random.default_rng(seed)
    inside = np.zeros((2, 8, 8), bool)
    inside[:, 2:6, 2:6] = True
    patches = 0.01 * rng.standard_normal((2, 8, 8, 12))
    patches[..., 0] += np.where(inside, 10, -10)
    for k, spread in enumerate((3.0, 2.0, 1.0)):
        patches[..., 1 + k] += inside * spread * rng.standard_normal(inside.shape)
    return patches.astype(np.float32), inside


def test_the_first_component_finds_the_planted_foreground_whatever_its_sign():
    patches, inside = planted()
    for sign in (1, -1):
        coloured = patch_colours(sign * patches).any(-1)
        assert (coloured == inside).mean() > 0.98  # all three colours may be 0 where all are least
        assert not coloured[~inside].any()


def test_colours_are_scikit_learns_components_scaled_between_percentiles():
    patches, inside = planted()
    colours = patch_colours(patches, inside)[inside]
    scores = PCA(3, svd_solver="full").fit_transform(patches[inside].astype(float))
    low, high = np.percentile(scores, (1, 99), axis=0)
    wanted = ((scores - low) / (high - low)).clip(0, 1)
    for k in range(3):
        error = min(np.abs(colours[:, k] - side).max() for side in (wanted[:, k], 1 - wanted[:, k]))
        assert error < 1e-4
    assert colours.min() == 0
    assert colours.max() == 1


def test_colours_are_joint_and_repeat_in_another_order_of_images():
    patches, inside = planted()
    both = patch_colours(patches, inside)
    np.testing.assert_allclose(patch_colours(patches[::-1], inside[::-1])[::-1], both, atol=1e-9)
    assert np.abs(patch_colours(patches[:1], inside[:1]) - both[:1]).max() > 0.01


def test_nothing_to_colour_is_black_and_what_does_not_vary_is_grey():
    patches, inside = planted()
    assert patch_colours(patches, np.zeros_like(inside)).max() == 0
    np.testing.assert_array_equal(patch_colours(np.ones((1, 2, 2, 5)), np.ones((1, 2, 2), bool)), 0.5)
    assert patch_colours(patches[..., :2], inside).shape == (2, 8, 8, 3)
    with pytest.raises(UsageError, match="the foreground is"):
        patch_colours(patches, inside[:1])
