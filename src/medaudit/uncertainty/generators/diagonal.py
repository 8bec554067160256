"""Diagonal Laplace: each parameter's own variance, and none of what they do together."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from medaudit.errors import UsageError
from medaudit.uncertainty.slug import traces
from medaudit.uncertainty.slug.model import Reconstruction


def ggn_diagonal(model: Reconstruction, batches: Iterable[Tensor], variance: float, probes: int, seed: int) -> Tensor:
    """Return the diagonal of Σ J^T J / s², (P,) float64, by Hutchinson over the outputs of each image.

    An image's own backward pass a probe, because the square is taken image by image: E (J^T ε)² = diag J^T J. Never
    negative, so nothing has to be shifted up.
    """
    if probes < 1 or not variance > 0:
        raise UsageError(f"probes is {probes}, variance {variance}; expected 1 or more, and more than 0")
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(model.size, dtype=torch.float64)
    for images in batches:
        x = images.to(model.device, model.dtype)
        for _ in range(probes):
            signs = traces.signs(len(x), model.outputs, generator, model.dtype).view(x.shape).to(model.device)
            total += model.pull_each(x, signs).double().square().sum(dim=0).cpu() / probes
    return total / variance


def diagonal_scores(
    model: Reconstruction, diagonal: Tensor, prior_precision: float, batches: Iterable[Tensor], probes: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return Tr J diag(g + α)⁻¹ J^T (N,) and its diagonal as a map, float32, by pushed draws of the posterior."""
    generator = torch.Generator().manual_seed(seed)
    spread = (diagonal + prior_precision).rsqrt().to(model.dtype)
    draws = torch.randn(probes, model.size, generator=generator, dtype=model.dtype) * spread
    maps = []
    for images in batches:
        x = images.to(model.device, model.dtype)
        maps.append(model.push(x, draws.to(model.device)).double().square().mean(dim=0).cpu())
    pixels = torch.cat(maps)
    return pixels.flatten(1).sum(dim=1).numpy(), pixels.float().numpy()
