"""The convolutional parts of VGG-16, VGG-19 and AlexNet, to be filled from a user's local file of weights.

Keys are those of torchvision's state dicts, whose ``classifier.`` part is not needed. No weights come with medaudit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor, nn

from medaudit.networks.pretrained import Weights, filled

VGG_BLOCKS: Mapping[str, tuple[int, ...]] = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
"""Convolutions before each of the five poolings (Simonyan & Zisserman, ICLR 2015, configurations D and E)."""
VGG_WIDTHS = (64, 128, 256, 512, 512)
MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's RGB: what these nets were trained on, and (from 0 to 1) LPIPS' own scaling, to its last digit."""


class FeatureStack(nn.Module):
    """RGB images (N, 3, H, W) from 0 to 1 to what chosen layers of a plain stack make of them."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.features = nn.Sequential(*layers)

    def tapped(self, images: Tensor, at: Sequence[int]) -> list[Tensor]:
        """Return the outputs of the layers ``at`` (rising, counted as in ``features.N``); later ones are not run."""
        mean, spread = (images.new_tensor(values)[:, None, None] for values in (MEAN, SPREAD))
        x, found = (images - mean) / spread, []
        for k in range(max(at) + 1):
            x = self.features[k](x)
            if k in at:
                found.append(x)
        return found


def stack_of(name: str, weights: Weights) -> FeatureStack:
    """Return ``vgg16``, ``vgg19`` or ``alexnet`` with these weights, frozen.

    Raises DataError, naming the first key that differs, if they are of another net.
    """
    needed = {key: value for key, value in weights.tensors.items() if not key.startswith("classifier.")}
    build = _alexnet if name == "alexnet" else lambda: _vgg(VGG_BLOCKS[name])
    return filled(build, replace(weights, tensors=needed), name)


def _vgg(blocks: tuple[int, ...]) -> FeatureStack:
    layers: list[nn.Module] = []
    before = 3
    for count, width in zip(blocks, VGG_WIDTHS, strict=True):
        for _ in range(count):
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
            before = width
        layers.append(nn.MaxPool2d(2))
    return FeatureStack(layers)


def _alexnet() -> FeatureStack:
    """Krizhevsky's "one weird trick" (2014), the one-column AlexNet."""
    return FeatureStack([
        nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(),
    ])  # fmt: skip
