"""What may be a cause: pixels, cells of a grid, superpixels, columns of a table; and values painted back on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medaudit.errors import DataError, UsageError
from medaudit.explanation.attributions.intensity import Intensity


@dataclass(frozen=True, eq=False)
class Units:
    """A partition of an image: every pixel belongs to one of M units, all channels of it together.

    Raises DataError for labels that are not 0 to M - 1, every one of them in every image.
    """

    labels: Tensor
    """(N, *spatial) int64, or (1, *spatial) where all images share it; of a table, (1, d)."""
    count: int

    def __post_init__(self) -> None:
        if self.labels.dtype != torch.int64 or self.labels.ndim < 2:
            raise DataError(f"labels are {self.labels.dtype} of shape {tuple(self.labels.shape)}; expected int64, (N or"
                            " 1, *spatial)")  # fmt: skip
        if self.labels.numel() == 0 or int(self.labels.min()) < 0 or int(self.labels.max()) >= self.count:
            raise DataError(f"labels are not 0 to {self.count - 1}, the units counted")
        if (sizes(self) == 0).any():
            image, unit = torch.nonzero(sizes(self) == 0)[0].tolist()
            raise DataError(f"unit {unit} has no pixel in image {image}; expected as many units in every image")

    def check(self, x: Tensor) -> Units:
        """Return the units on the device of ``x`` (N, C, *spatial) or (N, d); UsageError where they do not fit."""
        spatial = tuple(x.shape[1:] if x.ndim == 2 else x.shape[2:])
        if tuple(self.labels.shape[1:]) != spatial or len(self.labels) not in (1, len(x)):
            raise UsageError(f"units are labelled on {tuple(self.labels.shape)}; expected ({len(x)} or 1, "
                             f"{', '.join(map(str, spatial))}) for these inputs")  # fmt: skip
        return self if self.labels.device == x.device else Units(self.labels.to(x.device), self.count)


def of_labels(labels: np.ndarray | Tensor) -> Units:
    """Return units of labels of any whole numbers, (N or 1, *spatial), the same set of them in every image."""
    found, inverse = torch.unique(torch.as_tensor(labels), return_inverse=True)
    return Units(inverse.long(), len(found))


def pixels(x: Tensor) -> Units:
    """Return each pixel of images (N, C, *spatial) by itself."""
    shape = tuple(x.shape[2:])
    count = int(np.prod(shape))
    return Units(torch.arange(count, device=x.device).reshape(1, *shape), count)


def columns(x: Tensor) -> Units:
    """Return each column of a table (N, d) by itself."""
    if x.ndim != 2:
        raise UsageError(f"columns were asked of shape {tuple(x.shape)}; expected a table, (N, d)")
    return Units(torch.arange(x.shape[1], device=x.device)[None], x.shape[1])


def grid(x: Tensor, cells: int | Sequence[int]) -> Units:
    """Return ``cells`` along each axis of images (N, C, *spatial), as equal as can be."""
    shape = tuple(x.shape[2:])
    many = (cells,) * len(shape) if isinstance(cells, int) else tuple(cells)
    if len(many) != len(shape) or not all(1 <= m <= size for m, size in zip(many, shape, strict=False)):
        raise UsageError(f"the grid has {many} cells; expected one number for each axis of {shape}, 1 to its length")
    labels = torch.zeros(shape, dtype=torch.int64, device=x.device)
    for axis, (m, size) in enumerate(zip(many, shape, strict=True)):
        along = torch.arange(size, device=x.device) * m // size
        labels = labels * m + along.reshape([-1 if k == axis else 1 for k in range(len(shape))])
    return Units(labels[None], int(np.prod(many)))


def superpixels(
    x: Tensor, segments: int, compactness: float = 10.0, *, intensity: Intensity | None = None, sigma: float = 0.0,
    colour: bool = True,
) -> Units:  # fmt: skip
    """Return SLIC's superpixels or supervoxels of images (N, C, *spatial), as many in each.

    SLIC (Achanta et al., TPAMI 2012) is scikit-image's; it sees intensities scaled to [0, 1]: by ``intensity``, or else
    by each image's own extremes. It finds about ``segments``; where images differ, the smallest are joined to the
    neighbour with the longest common border until all have the number of the one with fewest. Three channels are taken
    as red, green and blue, and compared in CIELAB, unless ``colour`` is False.
    """
    from skimage.segmentation import slic

    if x.ndim not in (4, 5):
        raise UsageError(f"superpixels were asked of shape {tuple(x.shape)}; expected (N, C, H, W) or (N, C, D, H, W)")
    if segments < 1:
        raise UsageError(f"{segments} superpixels were asked for; expected 1 or more")
    seen = x.detach().double().cpu()
    if intensity is not None:
        seen = intensity.to_intensity(seen)
        low, high = (torch.as_tensor(end, dtype=torch.float64).reshape(-1) for end in (intensity.low, intensity.high))
        wide = [1, -1] + [1] * (x.ndim - 2)
        seen = (seen - low.reshape(wide)) / (high - low).reshape(wide)
    else:
        low, high = (getattr(seen.flatten(1), end)(1)[0].reshape(-1, *[1] * (x.ndim - 1)) for end in ("min", "max"))
        seen = (seen - low) / (high - low).clamp(min=1e-12)
    lab = colour and x.shape[1] == 3 and x.ndim == 4
    found = [
        _numbered(slic(image, segments, compactness, sigma=sigma, channel_axis=-1, start_label=0, convert2lab=lab))
        for image in seen.movedim(1, -1).numpy()
    ]
    count = min(int(labels.max()) + 1 for labels in found)
    labels = np.stack([_joined(labels, count) for labels in found])
    return Units(torch.from_numpy(labels).to(x.device), count)


def paint(values: Tensor, units: Units) -> Tensor:
    """Return (N, *spatial) of values (N, M): each pixel has that of its unit."""
    labels = units.labels.to(values.device).expand(len(values), *units.labels.shape[1:])
    return values.gather(1, labels.flatten(1)).reshape(labels.shape)


def pooled(attribution: Tensor, units: Units) -> Tensor:
    """Return (N, M): the sum over each unit of a map (N, *spatial)."""
    labels = units.labels.to(attribution.device).expand(attribution.shape).flatten(1)
    out = attribution.new_zeros(len(attribution), units.count)
    return out.scatter_add(1, labels, attribution.flatten(1))


def sizes(units: Units) -> Tensor:
    """Return (N or 1, M): how many pixels a unit has."""
    return pooled(torch.ones_like(units.labels), units)


def kept(coalitions: Tensor, labels: Tensor, x: Tensor) -> Tensor:
    """Return (m, N or 1, 1, *spatial), of a table (m, 1, d): which pixels coalitions (m, M) leave as they are."""
    where = coalitions.index_select(1, labels.flatten()).reshape(len(coalitions), *labels.shape)
    return where if x.ndim == 2 else where.unsqueeze(2)


def _numbered(labels: np.ndarray) -> np.ndarray:
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.int64)


def _joined(labels: np.ndarray, count: int) -> np.ndarray:
    """Return labels of which the smallest have been joined to a neighbour until ``count`` are left."""
    have = int(labels.max()) + 1
    if have == count:
        return labels
    border = np.zeros((have, have))
    for axis in range(labels.ndim):
        a, b = np.moveaxis(labels, axis, 0)[:-1].ravel(), np.moveaxis(labels, axis, 0)[1:].ravel()
        np.add.at(border, (a, b), 1)
    border += border.T
    np.fill_diagonal(border, 0)
    size = np.bincount(labels.ravel(), minlength=have).astype(float)
    into = np.arange(have)
    for _ in range(have - count):
        small = int(np.argmin(size))
        big = int(np.argmax(border[small]))
        into[into == small] = big
        size[big], size[small] = size[big] + size[small], np.inf
        border[big] += border[small]
        border[:, big] += border[:, small]
        border[small], border[:, small], border[big, big] = 0, 0, 0
    return _numbered(into[labels])
