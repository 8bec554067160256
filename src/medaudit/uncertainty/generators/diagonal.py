"""Diagonal Laplace: each parameter's own variance, and none of what they do together.

Λ = diag(g + α) with g the diagonal of the GGN Σ J^T J / s². A score is Σ_p J_ip² / (g_p + α), summed over outputs i:
the predictive variance of the linearised model, as SLUG's, with another posterior.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from medaudit.errors import DataError, UsageError
from medaudit.uncertainty.slug import traces
from medaudit.uncertainty.slug.model import Reconstruction


def ggn_diagonal(model: Reconstruction, batches: Iterable[Tensor], variance: float, probes: int, seed: int) -> Tensor:
    """Return the diagonal of Σ J^T J / s², (P,) float64, by Hutchinson over the outputs of each image.

    An image's own backward pass a probe, because the square is taken image by image: E (J^T ε)² = diag J^T J. The
    square of a batch's sum costs one backward a batch, but adds products of different images as noise. Never negative,
    so nothing has to be shifted up. An image's signs do not depend on its batch.
    """
    if probes < 1 or not variance > 0:
        raise UsageError(f"probes is {probes}, variance {variance}; expected 1 or more, and more than 0")
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(model.size, dtype=torch.float64)
    for images in batches:
        x = images.to(model.device, model.dtype)
        signs = traces.signs(len(x) * probes, model.outputs, generator, model.dtype).to(model.device)
        for one in signs.view(len(x), probes, *x.shape[1:]).unbind(dim=1):
            total += model.pull_each(x, one).double().square().sum(dim=0).cpu() / probes
    return total / variance


def exact_ggn_diagonal(model: Reconstruction, batches: Iterable[Tensor], variance: float, at_once: int = 64) -> Tensor:
    """Return the diagonal of Σ J^T J / s², (P,) float64, exactly: a backward pass for each output of each image.

    C·H·W times the cost of one probe of :func:`ggn_diagonal`: for small images and tests. ``at_once`` rows of a
    Jacobian, of P numbers each, are held.
    """
    if not variance > 0 or at_once < 1:
        raise UsageError(f"variance is {variance}, at_once {at_once}; expected more than 0, and 1 or more")
    total = torch.zeros(model.size, dtype=torch.float64)
    rows = torch.eye(model.outputs, dtype=model.dtype, device=model.device)
    for images in batches:
        for x in images.to(model.device, model.dtype).split(1):
            for some in rows.split(at_once):
                total += model.pull(x, some.view(-1, *x.shape)).double().square().sum(dim=0).cpu()
    return total / variance


def diagonal_scores(
    model: Reconstruction, diagonal: Tensor, prior_precision: float, batches: Iterable[Tensor], probes: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return Tr J diag(g + α)⁻¹ J^T (N,) and its diagonal as a map, float32, by pushed draws of the posterior.

    ``diagonal`` is g, with its 1 / s². All images share the draws. Each pixel's value is χ² with ``probes`` degrees of
    freedom, over their number: a relative error of sqrt(2 / probes).
    """
    if probes < 1 or not prior_precision > 0:
        raise UsageError(f"probes is {probes}, prior_precision {prior_precision}; expected 1 or more, and more than 0")
    if diagonal.shape != (model.size,) or bool((diagonal < 0).any()):
        raise DataError(f"the diagonal is {tuple(diagonal.shape)}; expected ({model.size},), nowhere below 0")
    generator = torch.Generator().manual_seed(seed)
    spread = (diagonal + prior_precision).rsqrt().to(model.dtype)
    draws = torch.randn(probes, model.size, generator=generator, dtype=model.dtype) * spread.cpu()
    maps = []
    for images in batches:
        x = images.to(model.device, model.dtype)
        maps.append(model.push(x, draws.to(model.device)).double().square().mean(dim=0).cpu())
    if not maps:
        raise DataError("no batch of images was given")
    pixels = torch.cat(maps)
    return pixels.flatten(1).sum(dim=1).numpy(), pixels.float().numpy()
