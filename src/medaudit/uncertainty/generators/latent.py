"""The delta method: the code's variance through the linearised decoder, J_z diag(σ²) J_z^T (our choice, spec 1.3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.func import jvp

from medaudit.errors import DataError, UsageError
from medaudit.uncertainty.generators.encoder import Autoencoder, at_rest
from medaudit.uncertainty.slug import traces


def latent_delta(
    model: Autoencoder, batches: Iterable[Tensor], probes: int | None = None, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the trace (N,) and the diagonal of J_z diag(σ²) J_z^T, a map (N, C, H, W) float32.

    Exact by default: a forward derivative for each number of the code. With ``probes`` S, a forward derivative each:
    the mean of (J_z (σ ε))² over signs ε that all images share, unbiased and never negative. The limit of
    :func:`medaudit.uncertainty.generators.encoder.latent_monte_carlo` for small σ.
    """
    if probes is not None and probes < 1:
        raise UsageError(f"probes is {probes}; expected 1 or more, or None for the exact sum")
    maps = []
    with at_rest(model) as device:
        for images in batches:
            mean, log_variance = model.encoder(images.to(device))
            spread = torch.exp(0.5 * log_variance)
            total: Tensor | float = 0.0
            for along in _directions(mean, probes, seed):
                total = total + jvp(model.decoder, (mean,), (spread * along,))[1].double().square()
            assert isinstance(total, Tensor)
            maps.append((total / (probes or 1)).cpu())
    if not maps:
        raise DataError("no batch of images was given")
    pixels = torch.cat(maps)
    return pixels.flatten(1).sum(dim=1).numpy(), pixels.float().numpy()


def _directions(mean: Tensor, probes: int | None, seed: int) -> Iterator[Tensor]:
    """Yield what σ is multiplied by, (latent,): each axis in turn, or signs."""
    size = mean.shape[1]
    if probes is None:
        yield from torch.eye(size, dtype=mean.dtype, device=mean.device)
    else:
        yield from traces.signs(probes, size, torch.Generator().manual_seed(seed), mean.dtype).to(mean.device)
