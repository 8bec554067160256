"""A small net that tells attributes of an image: what judges generated images, apart from the model that made them."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn


class AttributeNet(nn.Module):
    """Images (N, C, H, W) to a logit an attribute (N, attributes), and to the features (N, 2 d) before it.

    Convolutions of 3 x 3, halving the sides at all but the first, then the mean and the largest value over space: a
    ruler is a small thing in a corner, a skin tone is everywhere.
    """

    def __init__(self, channels: int, attributes: int, widths: tuple[int, ...] = (24, 48, 96), seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            stages: list[nn.Module] = []
            for k, (before, after) in enumerate(pairwise((channels, *widths))):
                for first, last, stride in ((before, after, 1 if k == 0 else 2), (after, after, 1)):
                    stages += [nn.Conv2d(first, last, 3, stride=stride, padding=1, bias=False),
                               nn.BatchNorm2d(last), nn.ReLU()]  # fmt: skip
            self.trunk = nn.Sequential(*stages)
            self.head = nn.Linear(2 * widths[-1], attributes)

    def features(self, images: Tensor) -> Tensor:
        """Return the features (N, 2 d)."""
        maps = self.trunk(images)
        return torch.cat([maps.mean((-2, -1)), maps.amax((-2, -1))], dim=1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, attributes)."""
        return self.head(self.features(images))
