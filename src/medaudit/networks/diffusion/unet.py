"""The denoising U-Net that a vector conditions, as in the paper's released code (its 3.2; layers of the code)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medaudit.errors import DataError, UsageError

_GROUPS = 8


@dataclass(frozen=True)
class UNetShape:
    """Defaults: the released code's, 25.2 million parameters."""

    channels: int = 3
    width: int = 64
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    blocks: int = 2
    """Residual blocks a level on the way down; one more on the way up."""
    heads: int = 4
    dropout: float = 0.1
    conditions: int = 30
    embedding: int = 256

    def __post_init__(self) -> None:
        if self.width % _GROUPS:
            raise UsageError(
                f"a U-Net of width {self.width}; expected a multiple of {_GROUPS}, the groups of its norms"
            )
        if self.width * self.multipliers[-1] % self.heads:
            raise UsageError(
                f"{self.heads} heads cannot share {self.width * self.multipliers[-1]} channels, the U-Net's last; "
                "expected a divisor"
            )


class Residual(nn.Module):
    """Two convolutions; time and condition are added between them, each through a layer of its own."""

    def __init__(self, before: int, after: int, shape: UNetShape, attends: bool = False) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(_GROUPS, before), nn.GroupNorm(_GROUPS, after)
        self.conv1 = nn.Conv2d(before, after, 3, padding=1)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1)
        self.time = nn.Linear(shape.embedding, after)
        self.condition = nn.Linear(shape.embedding, after)
        self.dropout = nn.Dropout2d(shape.dropout)
        self.skip = nn.Conv2d(before, after, 1) if before != after else nn.Identity()
        self.attention = Attention(after, shape.heads) if attends else nn.Identity()

    def forward(self, x: Tensor, added: Tensor) -> Tensor:
        """Return (N, after, H, W); ``added`` (N, after) is what time and condition bring."""
        h = self.conv1(F.silu(self.norm1(x))) + added[:, :, None, None]
        h = self.conv2(self.dropout(F.silu(self.norm2(h))))
        return self.attention(h + self.skip(x))

    def brought(self, time: Tensor, condition: Tensor) -> Tensor:
        """Return what is added between the convolutions (N, after), of embeddings after SiLU (N, embedding)."""
        return self.time(time) + self.condition(condition)


class Attention(nn.Module):
    """Self-attention over positions, after a norm and added to what came in."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(_GROUPS, width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C, H, W)."""
        n, c, h, w = x.shape
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(tokens).view(n, h * w, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        made = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, h * w, c)
        return x + self.out(made).transpose(1, 2).view(n, c, h, w)


class ConditionalUNet(nn.Module):
    """Noisy images (N, C, H, W), times (N,) and conditions (N, m) to a prediction of the images' shape."""

    def __init__(self, shape: UNetShape) -> None:
        super().__init__()
        self.shape = shape
        widths = [shape.width * k for k in shape.multipliers]
        e = shape.embedding
        self.time = nn.Sequential(nn.Linear(shape.width, e), nn.SiLU(), nn.Linear(e, e))
        self.condition = nn.Sequential(nn.Linear(shape.conditions, e), nn.SiLU(), nn.Linear(e, e))
        self.first = nn.Conv2d(shape.channels, shape.width, 3, padding=1)
        down: list[nn.Module] = []
        kept, width = [shape.width], shape.width
        for level, after in enumerate(widths):
            for _ in range(shape.blocks):
                down.append(Residual(width, after, shape))
                width = after
                kept.append(width)
            if level < len(widths) - 1:
                down.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
                kept.append(width)
        self.down = nn.ModuleList(down)
        self.middle = nn.ModuleList([Residual(width, width, shape, attends=True), Residual(width, width, shape)])
        up: list[nn.Module] = []
        for level, after in reversed(list(enumerate(widths))):
            for _ in range(shape.blocks + 1):
                up.append(Residual(width + kept.pop(), after, shape))
                width = after
            if level:
                up.append(nn.Conv2d(width, width, 3, padding=1))
        self.up = nn.ModuleList(up)
        self.last = nn.Sequential(
            nn.GroupNorm(_GROUPS, width), nn.SiLU(), nn.Conv2d(width, shape.channels, 3, padding=1)
        )

    @property
    def stride(self) -> int:
        """What both sides of an image must be multiples of."""
        return 2 ** (len(self.shape.multipliers) - 1)

    def forward(self, noisy: Tensor, times: Tensor, conditions: Tensor) -> Tensor:
        """Return the prediction. Raises DataError for sides that are no multiples of the stride."""
        height, width = noisy.shape[-2:]
        if height % self.stride or width % self.stride:
            s, side = self.stride, height if height % self.stride else width
            raise DataError(
                f"images of {height} x {width} pixels; expected sides that are multiples of {s}, as "
                f"{side // s * s or s} or {-(-side // s) * s}"
            )
        time = F.silu(self.time(sinusoids(times, self.shape.width).to(noisy.dtype)))
        condition = F.silu(self.condition(conditions))
        x = self.first(noisy)
        kept = [x]
        for layer in self.down:
            x = layer(x, layer.brought(time, condition)) if isinstance(layer, Residual) else layer(x)
            kept.append(x)
        for layer in self.middle:
            assert isinstance(layer, Residual)
            x = layer(x, layer.brought(time, condition))
        for layer in self.up:
            if isinstance(layer, Residual):
                x = layer(torch.cat([x, kept.pop()], dim=1), layer.brought(time, condition))
            else:
                x = layer(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return self.last(x)


def sinusoids(times: Tensor, width: int) -> Tensor:
    """Return sines and cosines of times (N,) at geometric frequencies, (N, width) (arXiv 1706.03762, 3.5)."""
    half = width // 2
    rates = torch.exp(-math.log(10_000) / (half - 1) * torch.arange(half, device=times.device))
    angles = times.float()[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)
