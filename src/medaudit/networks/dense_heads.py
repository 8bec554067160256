"""Heads that make a label map of a vision transformer's patches: linear, convolutional, and UPerNet.

All take maps (N, K, d, rows, columns), of one block (K = 1) or of K, and return logits (N, classes, H, W) on the
image's grid, upsampled bilinearly. Batch norms: train with two or more images a batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medaudit.errors import UsageError
from medaudit.networks.vit import ViT

HEADS = ("linear", "conv", "upernet")


def build_dense_head(
    name: str, dim: int, taps: int, classes: int, size: tuple[int, int], *, patch: int = 16, width: int | None = None,
    seed: int = 0,
) -> nn.Module:  # fmt: skip
    """Return the head ``name`` for ``taps`` maps of ``dim`` channels and images of ``size`` (H, W) pixels.

    ``patch`` (pixels) is how far ``conv`` has to double; ``width`` is that of ``conv`` (default 256) and ``upernet``
    (default ``dim``, as UltraDINO). The same ``seed`` gives the same first weights. Raises UsageError for an unknown
    head and for taps that it cannot take.
    """
    if name not in HEADS:
        raise UsageError(f"no dense head '{name}'; expected one of {', '.join(HEADS)}")
    if classes < 2:
        raise UsageError(f"{classes} classes; expected 2 or more, the background one of them")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name == "linear":
            return LinearHead(dim, taps, classes, size)
        if name == "conv":
            return ConvHead(dim, taps, classes, size, width or 256, patch)
        return UPerHead(dim, taps, classes, size, width or dim)


class LinearHead(nn.Module):
    """BatchNorm and a 1 x 1 convolution on all maps side by side (DINOv2's linear segmentation head)."""

    def __init__(self, dim: int, taps: int, classes: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size
        self.norm, self.classify = nn.BatchNorm2d(dim * taps), nn.Conv2d(dim * taps, classes, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """Return the logits (N, classes, H, W)."""
        return _upsampled(self.classify(self.norm(maps.flatten(1, 2))), self.size)


class ConvHead(nn.Module):
    """A decoder: the maps side by side, narrowed, then doubled with 3 x 3 convolutions up to the image's pixels.

    Each doubling halves the width, so that the finest stage is not the dearest. A patch that is no power of 2 leaves
    the rest to the last, bilinear step.
    """

    def __init__(self, dim: int, taps: int, classes: int, size: tuple[int, int], width: int, patch: int) -> None:
        super().__init__()
        self.size = size
        widths = [max(16, width >> k) for k in range(1 + int(math.log2(patch)))]
        self.narrow = _conv(dim * taps, width, 1)
        self.stages = nn.ModuleList(_conv(a, b, 3) for a, b in pairwise([width, *widths[1:]]))
        self.classify = nn.Conv2d(widths[-1] if len(widths) > 1 else width, classes, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """Return the logits (N, classes, H, W)."""
        x = self.narrow(maps.flatten(1, 2))
        for stage in self.stages:
            x = stage(_upsampled(x, (2 * x.shape[-2], 2 * x.shape[-1])))
        return _upsampled(self.classify(x), self.size)


class UPerHead(nn.Module):
    """UPerNet (arXiv 1807.10221) on a pyramid of a transformer's maps, as UltraDINO's released code has it.

    Four maps become those of strides 4, 8, 16 and 32 (of a patch of 16); of one map all four are made. Pyramid
    pooling at scales 1, 2, 3, 6; lateral connections; all levels fused at the finest.
    """

    def __init__(
        self, dim: int, taps: int, classes: int, size: tuple[int, int], width: int,
        scales: Sequence[int] = (1, 2, 3, 6), dropout: float = 0.1,
    ) -> None:  # fmt: skip
        super().__init__()
        if taps not in (1, 4):
            raise UsageError(f"UPerNet's pyramid is made of 4 blocks' maps, or of one; not of {taps}")
        self.size, self.taps = size, taps
        self.fpn1 = nn.Sequential(_double(dim), nn.BatchNorm2d(dim), nn.GELU(), _double(dim))
        self.fpn2, self.fpn3, self.fpn4 = _double(dim), nn.Identity(), nn.MaxPool2d(2)
        self.pools = nn.ModuleList(nn.Sequential(nn.AdaptiveAvgPool2d(k), _conv(dim, width, 1)) for k in scales)
        self.bottleneck = _conv(dim + len(scales) * width, width, 3)
        self.laterals = nn.ModuleList(_conv(dim, width, 1) for _ in range(3))
        self.smooth = nn.ModuleList(_conv(width, width, 3) for _ in range(3))
        self.fuse = _conv(4 * width, width, 3)
        self.classify = nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(width, classes, 1))

    def forward(self, maps: Tensor) -> Tensor:
        """Return the logits (N, classes, H, W)."""
        four = [maps[:, k if self.taps == 4 else 0] for k in range(4)]
        steps = (self.fpn1, self.fpn2, self.fpn3, self.fpn4)
        levels = [step(x) for step, x in zip(steps, four, strict=True)]
        deepest = levels[3]
        pooled = [_upsampled(pool(deepest), deepest.shape[-2:]) for pool in self.pools]
        made = [lateral(x) for lateral, x in zip(self.laterals, levels, strict=False)]
        made.append(self.bottleneck(torch.cat([deepest, *pooled], dim=1)))
        for k in (2, 1, 0):
            made[k] = made[k] + _upsampled(made[k + 1], made[k].shape[-2:])
        out = [smooth(x) for smooth, x in zip(self.smooth, made, strict=False)] + [made[3]]
        fused = self.fuse(torch.cat([_upsampled(x, out[0].shape[-2:]) for x in out], dim=1))
        return _upsampled(self.classify(fused), self.size)


class Segmenter(nn.Module):
    """Images (N, C, H, W) to logits (N, classes, H, W): a dense head on the maps of some of a transformer's blocks."""

    def __init__(self, vit: ViT, head: nn.Module, blocks: Sequence[int]) -> None:
        super().__init__()
        self.vit, self.head, self.blocks = vit, head, tuple(blocks)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        return self.head(patch_maps(self.vit, images, self.blocks))


def patch_maps(vit: ViT, images: Tensor, blocks: Sequence[int]) -> Tensor:
    """Return the patches after ``blocks`` (counted from 0), through the last norm, (N, K, d, rows, columns)."""
    rows, columns = (side // vit.shape.patch for side in images.shape[-2:])
    tokens = vit.layers(images, blocks)
    return torch.stack([one.patches.transpose(1, 2).unflatten(2, (rows, columns)) for one in tokens], dim=1)


def four_blocks(depth: int) -> tuple[int, ...]:
    """Return the blocks that a pyramid is made of, counted from 0: [3, 5, 7, 11] of 12, as UltraDINO; else in shares.

    Raises UsageError for fewer than 4 blocks.
    """
    if depth < 4:
        raise UsageError(f"a pyramid is made of 4 blocks; there are {depth}")
    if depth == 4:
        return 0, 1, 2, 3
    return tuple(math.ceil(depth * part / 6) - 1 for part in (2, 3, 4, 6))


def _conv(before: int, after: int, side: int) -> nn.Sequential:
    """Convolution, batch norm, ReLU: mmsegmentation's ConvModule."""
    conv = nn.Conv2d(before, after, side, padding=side // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(after), nn.ReLU())


def _double(dim: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(dim, dim, 2, stride=2)


def _upsampled(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, size=list(size), mode="bilinear", align_corners=False)
