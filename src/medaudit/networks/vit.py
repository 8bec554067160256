"""Vision transformers as DINOv2 has them (arXiv 2304.07193; registers: arXiv 2309.16588), under DINOv2's own names.

A state dict of :class:`ViT` is one of Meta's ``dinov2_vits14_reg`` and the like, and of UltraDINO's backbones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medaudit.errors import UsageError


@dataclass(frozen=True)
class ViTShape:
    """What a vision transformer is made of. Sides are pixels; the image's is a multiple of the patch's."""

    dim: int
    depth: int
    heads: int
    patch: int = 16
    side: int = 224
    """Of the square image whose positions are learned; others interpolate."""
    channels: int = 1
    registers: int = 4
    mlp_ratio: float = 4.0
    ffn: str = "mlp"
    """Or ``swiglu``, as in ViT-g."""
    layer_scale: float | None = 1e-5
    drop_path: float = 0.0
    """Share of a batch that each residual branch leaves out in training; the same in every block."""
    offset: float = 0.1
    """Added to the grid's size when positions are interpolated: DINOv2's own is 0.1, with registers it is 0."""
    antialias: bool = False

    def __post_init__(self) -> None:
        if self.side % self.patch:
            raise UsageError(f"an image of {self.side} pixels is not made of whole patches of {self.patch}")
        if self.dim % self.heads:
            raise UsageError(f"a width of {self.dim} cannot be dealt to {self.heads} heads")
        if self.ffn not in ("mlp", "swiglu"):
            raise UsageError(f"ffn is '{self.ffn}'; expected mlp or swiglu")
        if not 0 <= self.drop_path < 1:
            raise UsageError(f"drop_path is {self.drop_path}; expected from 0 to less than 1")

    @property
    def grid(self) -> int:
        """Patches along a side of the native image."""
        return self.side // self.patch


SHAPES: dict[str, ViTShape] = {
    "tiny": ViTShape(dim=96, depth=4, heads=3, patch=8, side=48),
    "small": ViTShape(dim=384, depth=12, heads=6),
    "base": ViTShape(dim=768, depth=12, heads=12),
    "large": ViTShape(dim=1024, depth=24, heads=16),
}
"""UltraDINO's three (released code), and one for two cores that is ours."""


class Tokens(NamedTuple):
    """What the last norm leaves: the class token (N, d), registers (N, R, d), patches (N, rows * columns, d)."""

    cls: Tensor
    registers: Tensor
    patches: Tensor


class PatchEmbed(nn.Module):
    """Images (N, C, H, W) to patch embeddings (N, H/p * W/p, d), row by row."""

    def __init__(self, shape: ViTShape) -> None:
        super().__init__()
        self.proj = nn.Conv2d(shape.channels, shape.dim, shape.patch, stride=shape.patch)

    def forward(self, images: Tensor) -> Tensor:
        """Return the embeddings."""
        # The same product as the strided convolution, and on a CPU a faster one, forward and backward.
        n, c, h, w = images.shape
        p = self.proj.stride[0]
        cells = images.reshape(n, c, h // p, p, w // p, p).permute(0, 2, 4, 1, 3, 5).reshape(n, -1, c * p * p)
        return F.linear(cells, self.proj.weight.flatten(1), self.proj.bias)


class LayerScale(nn.Module):
    """A learned factor a channel."""

    def __init__(self, dim: int, start: float) -> None:
        super().__init__()
        self.start = start
        self.gamma = nn.Parameter(torch.full((dim,), start))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` scaled."""
        return x * self.gamma


class Attention(nn.Module):
    """Self-attention within each sequence of each group; sequences of one group are equally long."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, sizes: Sequence[tuple[int, int]], asked: Tensor | None = None) -> Tensor:
        """Return (T, d) for the rows (T, d) of all groups, which hold ``sizes`` = (sequences, tokens) each.

        With ``asked`` (A,), numbers of rows, those alone are returned (A, d).
        """
        rows = self.qkv(x)
        made, start = [], 0
        for n, length in sizes:
            part = rows[start : start + n * length].view(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            start += n * length
            made.append(F.scaled_dot_product_attention(*part.unbind(0)).transpose(1, 2).reshape(n * length, -1))
        packed = made[0] if len(made) == 1 else torch.cat(made)
        return self.proj(packed if asked is None else packed[asked])


class Mlp(nn.Module):
    """Two layers with GELU between."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., d)."""
        return self.fc2(F.gelu(self.fc1(x)))


class SwiGLU(nn.Module):
    """A gated layer (arXiv 2002.05202), two thirds as wide, rounded up to a multiple of 8, as in ViT-g."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        hidden = (int(hidden * 2 / 3) + 7) // 8 * 8
        self.w12, self.w3 = nn.Linear(dim, 2 * hidden), nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., d)."""
        gate, value = self.w12(x).chunk(2, dim=-1)
        return self.w3(F.silu(gate) * value)


class Block(nn.Module):
    """Attention and a feed-forward layer, each after a norm and added to what came in."""

    def __init__(self, shape: ViTShape) -> None:
        super().__init__()
        d, hidden = shape.dim, int(shape.dim * shape.mlp_ratio)
        self.drop_path = shape.drop_path
        self.norm1, self.norm2 = nn.LayerNorm(d, eps=1e-6), nn.LayerNorm(d, eps=1e-6)
        self.attn = Attention(d, shape.heads)
        self.mlp = Mlp(d, hidden) if shape.ffn == "mlp" else SwiGLU(d, hidden)
        scaled = shape.layer_scale is not None
        self.ls1 = LayerScale(d, shape.layer_scale or 0.0) if scaled else nn.Identity()
        self.ls2 = LayerScale(d, shape.layer_scale or 0.0) if scaled else nn.Identity()

    def forward(self, groups: list[Tensor], asked: Sequence[Tensor] | None = None) -> list[Tensor]:
        """Return each group (N, tokens, d) one block further; all groups share one product a layer.

        With ``asked``, (N, tokens) bool of each group, the tokens asked for alone (A, d), image by image: what follows
        attention is computed for no others.
        """
        if asked is not None:
            return self._asked(groups, asked)
        groups = self._added(groups, lambda x, sizes: self.ls1(self.attn(self.norm1(x), sizes)))
        return self._added(groups, lambda x, sizes: self.ls2(self.mlp(self.norm2(x))))

    def _added(self, groups: list[Tensor], branch: Callable[[Tensor, list[tuple[int, int]]], Tensor]) -> list[Tensor]:
        if not (self.training and self.drop_path):
            sizes = [(len(x), x.shape[1]) for x in groups]
            return [x + y for x, y in zip(groups, _split(branch(_packed(groups), sizes), sizes), strict=True)]
        # A random part of the batch takes the branch, scaled up to stand for all: what is left out is not computed.
        kept = [rows for x in groups if (rows := self._kept(x)) is not None]
        some = [x[rows] for x, rows in zip(groups, kept, strict=True)]
        sizes = [(len(x), x.shape[1]) for x in some]
        made = _split(branch(_packed(some), sizes), sizes)
        return [
            x.index_add(0, rows, y.to(x.dtype), alpha=len(x) / len(rows))
            for x, rows, y in zip(groups, kept, made, strict=True)
        ]

    def _asked(self, groups: list[Tensor], asked: Sequence[Tensor]) -> list[Tensor]:
        image = [torch.nonzero(which)[:, 0] for which in asked]
        found = [x[which] for x, which in zip(groups, asked, strict=True)]

        kept = [self._kept(x) for x in groups]
        some = [x if rows is None else x[rows] for x, rows in zip(groups, kept, strict=True)]
        which = [a if rows is None else a[rows] for a, rows in zip(asked, kept, strict=True)]
        rows_asked = torch.nonzero(torch.cat([a.flatten() for a in which]))[:, 0]
        sizes = [(len(x), x.shape[1]) for x in some]
        made = self.ls1(self.attn(self.norm1(_packed(some)), sizes, rows_asked))
        at = [None if rows is None else _numbers(a)[rows][w] for a, rows, w in zip(asked, kept, which, strict=True)]
        found = self._put(found, made, at, groups, kept)

        kept = [self._kept(x) for x in groups]
        at = [
            None if rows is None else torch.nonzero(torch.isin(of, rows))[:, 0]
            for of, rows in zip(image, kept, strict=True)
        ]
        taking = [x if rows is None else x[rows] for x, rows in zip(found, at, strict=True)]
        made = self.ls2(self.mlp(self.norm2(taking[0] if len(taking) == 1 else torch.cat(taking))))
        return self._put(found, made, at, groups, kept)

    def _kept(self, x: Tensor) -> Tensor | None:
        """Return the images that take a branch, drawn anew; None where all do."""
        if not (self.training and self.drop_path):
            return None
        return torch.randperm(len(x), device=x.device)[: max(1, int(len(x) * (1 - self.drop_path)))]

    @staticmethod
    def _put(
        found: list[Tensor], made: Tensor, at: Sequence[Tensor | None], groups: list[Tensor],
        kept: Sequence[Tensor | None],
    ) -> list[Tensor]:  # fmt: skip
        parts = made.split([len(x) if rows is None else len(rows) for x, rows in zip(found, at, strict=True)])
        return [
            x + y if rows is None or some is None
            else x.index_add(0, rows, y.to(x.dtype), alpha=len(group) / len(some))
            for x, y, rows, group, some in zip(found, parts, at, groups, kept, strict=True)
        ]  # fmt: skip


def _numbers(which: Tensor) -> Tensor:
    """Return for each true cell its number among the true ones, row by row."""
    return (which.flatten().cumsum(0) - 1).view_as(which)


def _packed(groups: list[Tensor]) -> Tensor:
    return groups[0].flatten(0, 1) if len(groups) == 1 else torch.cat([x.flatten(0, 1) for x in groups])


def _split(rows: Tensor, sizes: list[tuple[int, int]]) -> list[Tensor]:
    parts = rows.split([n * length for n, length in sizes])
    return [part.view(n, length, -1) for part, (n, length) in zip(parts, sizes, strict=True)]


class ViT(nn.Module):
    """Images (N, C, H, W), normalised, to tokens. Sides may differ from the native one, in whole patches."""

    def __init__(self, shape: ViTShape) -> None:
        super().__init__()
        self.shape = shape
        d = shape.dim
        self.cls_token = nn.Parameter(torch.empty(1, 1, d))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + shape.grid**2, d))
        self.register_tokens = nn.Parameter(torch.empty(1, shape.registers, d)) if shape.registers else None
        self.mask_token = nn.Parameter(torch.zeros(1, d))
        self.patch_embed = PatchEmbed(shape)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.depth))
        self.norm = nn.LayerNorm(d, eps=1e-6)
        if self.cls_token.device.type != "meta":
            self._start()

    def _start(self) -> None:
        """Draw the weights as DINOv2 does."""
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.normal_(self.cls_token, std=1e-6)
        if self.register_tokens is not None:
            nn.init.normal_(self.register_tokens, std=1e-6)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor, masks: Tensor | None = None) -> Tokens:
        """Return the tokens; ``masks`` (N, patches), true where the mask token stands for a patch."""
        return self.several([images], [masks])[0]

    def several(self, images: Sequence[Tensor], masks: Sequence[Tensor | None]) -> list[Tokens]:
        """Return the tokens of batches of several sizes, packed: one product a layer for all of them."""
        groups = [self._embedded(some, mask) for some, mask in zip(images, masks, strict=True)]
        for block in self.blocks:
            groups = block(groups)
        return [self._tokens(group) for group in groups]

    def asked(
        self, images: Sequence[Tensor], masks: Sequence[Tensor | None], patches: Sequence[Tensor | None]
    ) -> list[tuple[Tensor, Tensor]]:
        """Return of each batch the class tokens (N, d) and the ``patches`` asked for (A, d), none where None.

        They are those of :meth:`several`, for less: the last block is computed for them alone. ``patches`` (N,
        patches), bool; the rows of the answer are in the order of ``torch.nonzero``.
        """
        groups = [self._embedded(some, mask) for some, mask in zip(images, masks, strict=True)]
        for block in self.blocks[:-1]:
            groups = block(groups)
        first = 1 + self.shape.registers
        asked = []
        for x, which in zip(groups, patches, strict=True):
            tokens = torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)
            tokens[:, 0] = True
            if which is not None:
                tokens[:, first:] = which
            asked.append(tokens)
        found = []
        for rows, tokens in zip(self.blocks[-1](groups, asked), asked, strict=True):
            is_cls = torch.nonzero(tokens)[:, 1] == 0
            rows = self.norm(rows)
            found.append((rows[is_cls], rows[~is_cls]))
        return found

    def layers(self, images: Tensor, blocks: Sequence[int], norm: bool = True) -> list[Tokens]:
        """Return the tokens after each of ``blocks`` (counted from 0), through the last norm where ``norm``.

        Raises UsageError for a block that is not there.
        """
        wrong = [k for k in blocks if not 0 <= k < self.shape.depth]
        if wrong:
            raise UsageError(f"no block {wrong[0]}; there are {self.shape.depth}, counted from 0")
        groups, found = [self._embedded(images, None)], {}
        for k, block in enumerate(self.blocks[: max(blocks) + 1]):
            groups = block(groups)
            if k in blocks:
                found[k] = self._tokens(groups[0], norm)
        return [found[k] for k in blocks]

    def _tokens(self, x: Tensor, norm: bool = True) -> Tokens:
        x = self.norm(x) if norm else x
        r = self.shape.registers
        return Tokens(x[:, 0], x[:, 1 : 1 + r], x[:, 1 + r :])

    def _embedded(self, images: Tensor, masks: Tensor | None) -> Tensor:
        p = self.shape.patch
        if images.shape[-2] % p or images.shape[-1] % p:
            raise UsageError(f"images of {images.shape[-2]} x {images.shape[-1]} are not made of patches of {p}")
        x = self.patch_embed(images)
        if masks is not None:
            x = torch.where(masks.unsqueeze(-1), self.mask_token.to(x.dtype), x)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1).to(x.dtype), x], dim=1)
        x = x + self.positions(images.shape[-2] // p, images.shape[-1] // p).to(x.dtype)
        if self.register_tokens is not None:
            registers = self.register_tokens.expand(len(x), -1, -1).to(x.dtype)
            x = torch.cat([x[:, :1], registers, x[:, 1:]], dim=1)
        return x

    def positions(self, rows: int, columns: int) -> Tensor:
        """Return the embeddings of position (1, 1 + rows * columns, d), interpolated bicubically where they must be.

        DINOv2's offset makes torch's scale a little larger than the ratio of the grids; published weights were trained
        with it, and give other features without.
        """
        native = self.shape.grid
        if rows == columns == native:
            return self.pos_embed
        grid = self.pos_embed[:, 1:].float().reshape(1, native, native, -1).permute(0, 3, 1, 2)
        if self.shape.offset:
            factors = tuple(float(side + self.shape.offset) / native for side in (rows, columns))
            grid = F.interpolate(grid, scale_factor=factors, mode="bicubic", antialias=self.shape.antialias)
        else:
            grid = F.interpolate(grid, size=(rows, columns), mode="bicubic", antialias=self.shape.antialias)
        if grid.shape[-2:] != (rows, columns):
            raise UsageError(f"positions interpolated to {tuple(grid.shape[-2:])}; expected {(rows, columns)}")
        return torch.cat([self.pos_embed[:, :1].float(), grid.flatten(2).transpose(1, 2)], dim=1)


def layer_of(name: str, depth: int) -> int:
    """Return how deep a parameter of :class:`ViT` lies: 0 for embeddings, k + 1 for block k, depth + 1 after them."""
    if name.startswith(("cls_token", "pos_embed", "register_tokens", "mask_token", "patch_embed")):
        return 0
    return int(name.split(".")[1]) + 1 if name.startswith("blocks.") else depth + 1


def parameters_of(shape: ViTShape) -> int:
    """Return the number of a net's parameters, without making it."""
    with torch.device("meta"):
        return sum(math.prod(p.shape) for p in ViT(shape).parameters())
