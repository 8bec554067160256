"""How far several images of one case lie apart: the variance over draws, whatever was drawn (codes, weights, masks)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medaudit.errors import DataError, UsageError

_HELD = 2**25  # numbers of all draws of some images that are held at once: 128 MiB


@dataclass(frozen=True, eq=False)
class Spread:
    """Variances over draws, in the images' units squared, unbiased (over the number of draws - 1)."""

    score: np.ndarray
    """Summed over all pixels and channels, (N,) float64."""
    error: np.ndarray
    """The score's standard error over draws, by the jackknife; NaN for two draws. Draws are shared by all images, so
    differences of images are known better."""
    pixels: np.ndarray
    """(N, C, H, W) float32."""


def pieces(batches: Iterable[Tensor], draws: int) -> Iterator[Tensor]:
    """Yield the images of ``batches`` so few at a time that all their draws can be held; which ones changes nothing."""
    for images in batches:
        yield from images.split(max(1, _HELD // max(1, draws * images[0].numel())))


def spread_of(made: Iterable[Tensor], draws: int) -> Spread:
    """Return the spread of images, given some at a time as (draws, n, C, H, W).

    The mean is taken first and then the squares around it: their difference instead would lose the small variances of
    bright pixels. Raises UsageError below two draws, DataError without images.
    """
    if draws < 2:
        raise UsageError(f"{draws} draws; a variance needs 2 or more")
    scores, errors, maps = [], [], []
    for images in made:
        mean = torch.zeros(images.shape[1:], dtype=torch.float64, device=images.device)
        for one in images:
            mean += one.double() / draws
        squares = torch.zeros_like(mean)
        each = []
        for one in images:
            square = (one.double() - mean).square()
            squares += square
            each.append(square.flatten(1).sum(dim=1))
        scores.append(squares.flatten(1).sum(dim=1).cpu() / (draws - 1))
        errors.append(_jackknife(torch.stack(each).cpu()))
        maps.append((squares / (draws - 1)).float().cpu())
    if not maps:
        raise DataError("no batch of images was given")
    return Spread(torch.cat(scores).numpy(), torch.cat(errors).numpy(), torch.cat(maps).numpy())


def _jackknife(each: Tensor) -> Tensor:
    """Return the standard error of Σ_s |y_s - mean|² / (S - 1) from these squares (S, n).

    Leaving draw s out changes the sum of squares by S / (S - 1) times its own: the S variances need not be formed.
    """
    s = len(each)
    if s < 3:
        return torch.full_like(each[0], float("nan"))
    return (s * (each - each.mean(dim=0)).square().sum(dim=0) / ((s - 1) * (s - 2) ** 2)).sqrt()
