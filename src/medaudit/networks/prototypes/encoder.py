"""How strongly each of m patch prototypes is present anywhere in an image (paper, 3.2)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from medaudit.errors import DataError, UsageError
from medaudit.networks.prototypes.receptive_field import ReceptiveField, receptive_field

SIMILARITIES = ("log", "linear")


@dataclass(frozen=True)
class EncoderShape:
    """A stack of convolutions with ReLU after each, and prototypes of its last features. Defaults: the paper's,
    32 px.
    """

    channels: int = 1
    features: tuple[int, ...] = (32, 64, 64, 128)
    kernels: tuple[int, ...] = (3, 3, 3, 3)
    strides: tuple[int, ...] = (2, 1, 1, 1)
    paddings: tuple[int, ...] = (1, 0, 0, 0)
    prototypes: int = 30
    similarity: str = "log"
    epsilon: float = 1e-4

    def __post_init__(self) -> None:
        if not len(self.features) == len(self.kernels) == len(self.strides) == len(self.paddings) > 0:
            raise UsageError(
                "features, kernels, strides and paddings differ in length; expected one each a convolution"
            )
        if self.similarity not in SIMILARITIES:
            raise UsageError(f"no similarity '{self.similarity}'; expected one of {', '.join(SIMILARITIES)}")

    @property
    def least_side(self) -> int:
        """The smallest image that leaves a cell."""
        cells = 1
        for kernel, stride, padding in zip(
            reversed(self.kernels), reversed(self.strides), reversed(self.paddings), strict=True
        ):
            cells = (cells - 1) * stride + kernel - 2 * padding
        return cells

    def cells(self, height: int, width: int) -> tuple[int, int]:
        """Return how many rows and columns of cells an image has."""
        found = []
        for side in (height, width):
            for kernel, stride, padding in zip(self.kernels, self.strides, self.paddings, strict=True):
                side = (side + 2 * padding - kernel) // stride + 1
            found.append(side)
        return found[0], found[1]


def activation_of(squared_distance: Tensor, similarity: str = "log", epsilon: float = 1e-4) -> Tensor:
    """Return the activation of a squared distance: ``log`` is log((d² + 1) / (d² + epsilon)), ``linear`` is -d²."""
    if similarity == "linear":
        return -squared_distance
    return torch.log((squared_distance + 1) / (squared_distance + epsilon))


def distance_of(activation: Tensor, similarity: str = "log", epsilon: float = 1e-4) -> Tensor:
    """Return the squared distance of an activation: the inverse of :func:`activation_of`."""
    if similarity == "linear":
        return -activation
    return (1 - epsilon * activation.exp()) / torch.expm1(activation)


class PrototypeEncoder(nn.Module):
    """Images (N, C, H, W) to activations (N, m).

    Only convolutions and ReLU: no norm and no pooling, so that a cell sees its receptive field and nothing else.
    """

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        self.shape = shape
        layers: list[nn.Module] = []
        for k, (before, after) in enumerate(pairwise((shape.channels, *shape.features))):
            layers += [nn.Conv2d(before, after, shape.kernels[k], shape.strides[k], shape.paddings[k]), nn.ReLU()]
        self.convolutions = nn.Sequential(*layers)
        self.prototypes = nn.Parameter(torch.rand(shape.prototypes, shape.features[-1], 1, 1))

    @property
    def field(self) -> ReceptiveField:
        """What a cell sees."""
        return receptive_field(self.shape.kernels, self.shape.strides, self.shape.paddings)

    def features(self, images: Tensor) -> Tensor:
        """Return the features of patches (N, D, h, w)."""
        return self.convolutions(images)

    def distances(self, images: Tensor) -> Tensor:
        """Return squared distances (N, m, h, w) between patches and prototypes.

        Never in half precision, not under autocast either: |z|² - 2 z p + |p|² has no digit left there.
        """
        with _no_autocast(images):
            z, p = self._patches(images), self._points()
            squared = _less_norms(z.flatten(2), p) + p.square().sum(1)[:, None]
        return squared.clamp(min=0).unflatten(2, z.shape[-2:])

    def nearest(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return activations (N, m) and the flat number of the cell that each is nearest to (N, m)."""
        with _no_autocast(images):
            squared, cells = self.least(self._patches(images))
            return activation_of(squared, self.shape.similarity, self.shape.epsilon), cells

    def forward(self, images: Tensor) -> Tensor:
        """Return activations (N, m)."""
        return self.nearest(images)[0]

    def least(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the least squared distance over space (N, m), of features (N, D, h, w), and the flat cell it is in.

        |p|² is the same in all cells, so that one product finds the cell. The distance there is then taken as a sum of
        squares: exact near 0 too, where the product has lost all digits, and its gradient passes m cells, not all.
        """
        z, p = _whole(features).flatten(2), self._points()
        with torch.no_grad():
            cells = _less_norms(z, p).argmin(2)
        at = z.gather(2, cells[:, None].expand(-1, z.shape[1], -1))
        return (at - p.T).square().sum(1), cells

    def _patches(self, images: Tensor) -> Tensor:
        return _whole(self.features(images.to(self.prototypes.dtype)))

    def _points(self) -> Tensor:
        """Return the prototypes as (m, D)."""
        return _whole(self.prototypes).flatten(1)


def _less_norms(cells: Tensor, points: Tensor) -> Tensor:
    """Return |z|² - 2 z p (N, m, n) of cells (N, D, n) and points (m, D): the squared distance less |p|²."""
    norms = cells.square().sum(1, keepdim=True)
    return torch.baddbmm(norms, points.expand(len(cells), -1, -1), cells, alpha=-2)


def _whole(values: Tensor) -> Tensor:
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def _no_autocast(images: Tensor) -> torch.autocast:
    return torch.autocast(images.device.type, enabled=False)


@torch.no_grad()
def paper_init(encoder: PrototypeEncoder, generator: torch.Generator) -> None:
    """Draw weights from N(0, 0.1²) and prototypes from U[0, 1), as the released code does."""
    for layer in encoder.convolutions:
        if isinstance(layer, nn.Conv2d):
            layer.weight.normal_(0, 0.1, generator=generator)
    encoder.prototypes.uniform_(0, 1, generator=generator)


@torch.no_grad()
def data_init(encoder: PrototypeEncoder, images: Tensor, generator: torch.Generator) -> None:
    """Start the encoder from images (N, C, H, W): our recipe, so that no budget is lost in a desert without gradients.

    Weights by Kaiming's rule; the last layer scaled until a patch's nearest prototype is at a squared distance of about
    1 (the median); prototypes are patches of the images, each drawn by its squared distance from those before
    (k-means++), the first by lot.
    """
    convolutions = [layer for layer in encoder.convolutions if isinstance(layer, nn.Conv2d)]
    for layer in convolutions:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
        if layer.bias is not None:
            layer.bias.zero_()
    patches = torch.cat([_some_patches(encoder.features(part), generator) for part in images.split(256)])
    chosen = _far_apart(patches, encoder.shape.prototypes, generator)
    nearest = torch.cdist(patches, chosen, compute_mode="donot_use_mm_for_euclid_dist").square().amin(1)
    # Patches of an empty background lie on a prototype, and are most of them: their distances say nothing.
    nearest = nearest[nearest > 1e-3 * nearest.max()]
    scale = 1 / math.sqrt(float(nearest.median())) if len(nearest) else 1.0
    convolutions[-1].weight.mul_(scale)
    encoder.prototypes.copy_((chosen * scale).view_as(encoder.prototypes))


@torch.no_grad()
def project(encoder: PrototypeEncoder, batches: Iterable[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Replace each prototype by the feature of the real patch nearest to it, as ProtoPNet does (arXiv 1806.10574).

    ``batches`` of images are seen once. Returns for each prototype the number of the image, the flat number of the
    cell, and the squared distance before, (m,) each. Raises DataError where there is no image to take a patch from.
    """
    m = len(encoder.prototypes)
    numbers = torch.arange(m, device=encoder.prototypes.device)
    best = torch.full_like(numbers, math.inf, dtype=torch.float32)
    image, cell = torch.zeros_like(numbers), torch.zeros_like(numbers)
    patches = torch.zeros_like(encoder.prototypes).flatten(1)
    start = 0
    for batch in batches:
        z = encoder.features(batch)
        squared, cells = encoder.least(z)
        value, which = squared.min(0)
        at = cells[which, numbers]
        nearer = value < best
        best = torch.where(nearer, value, best)
        image, cell = torch.where(nearer, start + which, image), torch.where(nearer, at, cell)
        patches = torch.where(nearer[:, None], z.flatten(2)[which, :, at], patches)
        start += len(batch)
    if not bool(torch.isfinite(best).all()):
        raise DataError(
            f"no patch of {start} images has a finite distance to every prototype; expected images of numbers"
        )
    encoder.prototypes.copy_(patches.view_as(encoder.prototypes))
    return image, cell, best


def _some_patches(features: Tensor, generator: torch.Generator, each: int = 16) -> Tensor:
    """Return drawn patches of each image, (N * each, D)."""
    n, d, h, w = features.shape
    at = torch.randint(0, h * w, (n, 1, each), generator=generator)
    return features.flatten(2).gather(2, at.expand(-1, d, -1)).transpose(1, 2).reshape(-1, d)


def _far_apart(patches: Tensor, m: int, generator: torch.Generator) -> Tensor:
    first = int(torch.randint(0, len(patches), (1,), generator=generator))
    chosen = [first]
    squared = (patches - patches[first]).square().sum(1)
    for _ in range(m - 1):
        # Patches that are all alike leave nothing to choose by: then any.
        weights = squared if float(squared.sum()) > 0 else torch.ones_like(squared)
        chosen.append(int(torch.multinomial(weights, 1, generator=generator)))
        squared = torch.minimum(squared, (patches - patches[chosen[-1]]).square().sum(1))
    return patches[chosen]
