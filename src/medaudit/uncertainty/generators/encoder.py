"""What the encoder says of its own code: the variance that is most often taken for a VAE's uncertainty."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from medaudit.networks.vae import Vae

ENCODER_SCORES = {
    "encoder_variance": "sum of the code's variances",
    "encoder_log_variance": "mean of the code's log-variances",
    "encoder_entropy": "entropy of the code's Gaussian, nats",
}


def encoder_scores(model: Vae, batches: Iterable[Tensor]) -> dict[str, np.ndarray]:
    """Return the three scores of :data:`ENCODER_SCORES` of images (N, C, H, W), (N,) each.

    The sum is ruled by the widest numbers of the code and the mean of logarithms by the narrowest, so one alone would
    be a straw man.
    """
    found = []
    with torch.no_grad():
        for images in batches:
            log_variance = model.encoder(images)[1].double()
            size = log_variance.shape[1]
            found.append(
                torch.stack(
                    [
                        log_variance.exp().sum(dim=1),
                        log_variance.mean(dim=1),
                        0.5 * (log_variance.sum(dim=1) + size * np.log(2 * np.pi * np.e)),
                    ]
                )
            )
    return dict(zip(ENCODER_SCORES, torch.cat(found, dim=1).numpy(), strict=True))


def latent_monte_carlo(model: Vae, batches: Iterable[Tensor], draws: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the variance of the decoded image over codes drawn from the encoder: its sum (N,), and its map, float32.

    The noise is the same for all images, so that their order owes nothing to luck. Unbiased (over ``draws`` - 1).
    """
    noise = torch.randn(draws, model.shape.latent, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)
    maps = []
    with torch.no_grad():
        for images in batches:
            mean, log_variance = model.encoder(images)
            spread = torch.exp(0.5 * log_variance)
            total = square = torch.zeros_like(images, dtype=torch.float64)
            for one in noise.to(images.device):
                made = model.decoder(mean + spread * one).double()
                total = total + made
                square = square + made**2
            maps.append(((square - total**2 / draws) / (draws - 1)).clamp_min(0).cpu())
    pixels = torch.cat(maps)
    return pixels.flatten(1).sum(dim=1).numpy(), pixels.float().numpy()


def latent_delta(model: Vae, batches: Iterable[Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Return the diagonal of J_z diag(σ²) J_z^T, the code's variance through the linearised decoder: sum and map.

    Exact: a forward derivative for each number of the code. The limit of :func:`latent_monte_carlo` for small σ.
    """
    maps = []
    with torch.no_grad():
        for images in batches:
            mean, log_variance = model.encoder(images)
            spread = torch.exp(0.5 * log_variance)
            total = torch.zeros_like(images, dtype=torch.float64)
            for j in range(mean.shape[1]):
                along = torch.zeros_like(mean)
                along[:, j] = spread[:, j]
                total = total + torch.func.jvp(model.decoder, (mean,), (along,))[1].double().square()
            maps.append(total.cpu())
    pixels = torch.cat(maps)
    return pixels.flatten(1).sum(dim=1).numpy(), pixels.float().numpy()


def members_variance(models: Sequence[Vae], batches: Iterable[Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Return the variance of the mean reconstructions over ``models``, a deep ensemble: sum (N,) and map, float32."""
    maps = []
    with torch.no_grad():
        for images in batches:
            made = torch.stack([model.reconstruct(images) for model in models]).double()
            maps.append(made.var(dim=0, correction=1).cpu())
    pixels = torch.cat(maps)
    return pixels.flatten(1).sum(dim=1).numpy(), pixels.float().numpy()
