"""Classification networks: a trunk that makes features of an image, and a head that makes logits of features."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from monai.networks.nets import ResNetFeatures
from torch import Tensor, nn

from medaudit.errors import UsageError

PRESETS: dict[str, dict[str, Any]] = {
    "cpu": {"net": "plain", "channels": (12, 24, 48, 96)},
    "gpu": {"net": "resnet50", "channels": (64, 256, 512, 1024, 2048)},
}
"""``cpu``: five convolutions, for images of 64 pixels. ``gpu``: MONAI's ResNet-50, from random weights."""


class Classifier(nn.Module):
    """Images (N, 1, H, W) to logits (N, classes): ``head(trunk(images))``.

    ``trunk`` returns the features (N, D), the global average of the last stage. ``stage_dropout`` drops whole channels
    after each stage, ``dropout`` single features before the head: MC dropout needs both in the net from the start.
    """

    def __init__(self, trunk: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.trunk, self.head = trunk, head

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, classes)."""
        return self.head(self.trunk(images))


def build_classifier(
    preset: str, classes: int, *, seed: int, dropout: float = 0.2, stage_dropout: float = 0.05, colours: int = 1
) -> Classifier:
    """Return the classifier of a preset, of images of one channel or of ``colours``; ``seed`` decides its weights.

    Raises UsageError for an unknown preset or fewer than 2 classes.
    """
    if preset not in PRESETS:
        raise UsageError(f"no preset '{preset}'; expected one of {', '.join(PRESETS)}")
    if classes < 2:
        raise UsageError(f"{classes} classes; expected 2 or more")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        trunk = _trunk(PRESETS[preset], stage_dropout, colours)
        head = nn.Sequential(nn.Dropout(dropout), nn.Linear(feature_count(preset), classes))
        return Classifier(trunk, head)


def feature_count(preset: str) -> int:
    """Return how many features the trunk of a preset makes."""
    return int(PRESETS[preset]["channels"][-1])


def _trunk(shape: dict[str, Any], dropout: float, colours: int) -> nn.Module:
    if shape["net"] == "plain":
        channels = (colours, *shape["channels"])
        stages = [_stage(before, after, dropout) for before, after in pairwise(channels)]
        last = channels[-1]
        stages.append(nn.Sequential(nn.Conv2d(last, last, 3, padding=1, bias=False), nn.BatchNorm2d(last), nn.ReLU()))
        return nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return _ResNet(shape["net"], dropout, colours)


def _stage(before: int, after: int, dropout: float) -> nn.Module:
    # Strided convolution, not pooling: a max over a neighbourhood would throw away the speckle that tells a device.
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(),
        nn.Dropout2d(dropout),
    )


class _ResNet(nn.Module):
    """MONAI's residual stages with channel dropout after each, averaged over space at the end."""

    def __init__(self, name: str, dropout: float, colours: int) -> None:
        super().__init__()
        self.stages = ResNetFeatures(name, pretrained=False, spatial_dims=2, in_channels=colours)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, images: Tensor) -> Tensor:
        net: Any = self.stages
        x = net.maxpool(net.act(net.bn1(net.conv1(images))))
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
            x = self.dropout(stage(x))
        return x.mean(dim=(2, 3))
