"""Test-time augmentation: the same case, as it might have been acquired a little differently.

Views keep the label: shift, turn, scale, gamma, gain, attenuation along depth (spec 1.4, M4; the ranges are ours).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, grid_sample

from medaudit.errors import DataError, UsageError
from medaudit.uncertainty.ensemble import softmax_of
from medaudit.uncertainty.outputs import device_of, evaluating

DYNAMIC_RANGE_DB = 60.0
"""Assumed of a log-compressed image: what a gain in dB means in grey levels."""


def augmented(
    model: nn.Module, batches: Iterable[Tensor], views: int = 16, seed: int = 0, flip: bool = False
) -> np.ndarray:
    """Return softmax probabilities (V, N, C), float64, of ``views`` views of each case; view 0 is the case itself.

    Images are (N, C, H, W) from 0 to 1. A view follows from (``seed``, view, case): batch size changes nothing.
    ``flip``: views may be mirrored, for tasks whose label does not say a side. Raises UsageError for fewer than two
    views, DataError where grey levels are not within 0 and 1.
    """
    if views < 2:
        raise UsageError(f"{views} views; expected 2 or more")
    found: list[list[np.ndarray]] = [[] for _ in range(views)]
    first = 0
    device = device_of(model)
    with evaluating(model), torch.no_grad():
        for images in batches:
            images = _checked(images, first).to(device)
            for v in range(views):
                seen = images if v == 0 else ultrasound_view(images, _drawn(seed, v, first, len(images), flip))
                found[v].append(softmax_of(model(seen), model))
            first += len(images)
    if not found[0]:
        raise DataError("no batch of images was given")
    return np.stack([np.concatenate(one) for one in found])


def ultrasound_view(images: Tensor, how: Tensor) -> Tensor:
    """Return images (N, C, H, W) seen as ``how`` (N, 8) says.

    Columns: shift x and y (shares of the image; the content moves to the left and up), degrees (counter-clockwise),
    scale, gamma, gain (dB), attenuation mu (with depth d from 0 to 1, intensity is multiplied by exp(-mu d)), and -1
    where mirrored. Pixels are taken to be square.
    """
    x, y, degrees, scale, gamma, gain, mu, mirror = how.to(images).T
    angle, zero = torch.deg2rad(degrees), torch.zeros_like(degrees)
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    # The grid's axes both run from -1 to 1: a turn of an oblong image needs the ratio of its sides.
    ratio = images.shape[2] / images.shape[3]
    top = torch.stack([cos * mirror, -sin * ratio, zero + 2 * x], 1)
    bottom = torch.stack([sin * mirror / ratio, cos, zero + 2 * y], 1)
    grid = affine_grid(torch.stack([top, bottom], 1), list(images.shape), align_corners=False)
    moved = grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    per = lambda values: values[:, None, None, None]
    depth = torch.linspace(0, 1, images.shape[2]).to(images)[None, None, :, None]
    brighter = moved.clamp(0, 1) ** per(gamma)
    # Black is outside the fan or below the floor: gain does not lift it.
    lifted = torch.where(moved > 0.02, brighter + per(gain) / DYNAMIC_RANGE_DB, brighter)
    return lifted.clamp(0, 1) * torch.exp(-per(mu) * depth)


def _checked(images: Tensor, first: int) -> Tensor:
    if images.ndim != 4:
        raise DataError(f"images have shape {tuple(images.shape)}; expected (N, C, H, W)")
    least, most = images.flatten(1).amin(dim=1), images.flatten(1).amax(dim=1)
    bad = torch.nonzero(~((least >= -1e-6) & (most <= 1 + 1e-6))).flatten()
    if len(bad):
        k = int(bad[0])
        raise DataError(
            f"case {first + k} has grey levels from {float(least[k]):.3g} to {float(most[k]):.3g}; gamma and gain need "
            "images from 0 to 1: scale them so, and put any further scaling into the model"
        )
    return images


def _drawn(seed: int, view: int, first: int, cases: int, flip: bool) -> Tensor:
    rows = []
    for case in range(first, first + cases):
        rng = np.random.default_rng((seed, view, case))
        rows.append(
            [
                *rng.uniform(-0.04, 0.04, 2),
                rng.uniform(-5, 5),
                rng.uniform(0.95, 1.05),
                rng.uniform(0.8, 1.25),
                rng.uniform(-3, 3),
                rng.uniform(0, 1),
                -1.0 if flip and rng.random() < 0.5 else 1.0,
            ]
        )
    return torch.tensor(rows, dtype=torch.float32)
