"""Scores that look at the image itself: the error, which is an oracle, and bounds on its likelihood."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from medaudit.networks.vae import Vae, kl_divergence


def squared_errors(model: Vae, batches: Iterable[Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Return the sum of squared errors (N,) and their map, float32: an oracle, it is what others try to foretell."""
    maps = []
    with torch.no_grad():
        for images in batches:
            maps.append((images - model.reconstruct(images)).square().cpu())
    pixels = torch.cat(maps)
    return pixels.double().flatten(1).sum(dim=1).numpy(), pixels.float().numpy()


def negative_elbo(model: Vae, batches: Iterable[Tensor], variance: float, draws: int, seed: int) -> np.ndarray:
    """Return minus the evidence bound, nats an image (N,): Gaussian noise of ``variance``, codes by common noise."""
    return -_bounds(model, batches, variance, draws, seed)[0]


def negative_iwae(model: Vae, batches: Iterable[Tensor], variance: float, draws: int, seed: int) -> np.ndarray:
    """Return minus the importance-weighted bound of ``draws`` codes (Burda et al., ICLR 2016), nats an image (N,)."""
    return -_bounds(model, batches, variance, draws, seed)[1]


def _bounds(
    model: Vae, batches: Iterable[Tensor], variance: float, draws: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    noise = torch.randn(draws, model.shape.latent, generator=torch.Generator().manual_seed(seed))
    lower, weighted = [], []
    with torch.no_grad():
        for images in batches:
            mean, log_variance = model.encoder(images)
            spread = torch.exp(0.5 * log_variance)
            size = images[0].numel()
            each, likelihoods = [], []
            for one in noise.to(images.device):
                codes = mean + spread * one
                error = (images - model.decoder(codes)).double().square().flatten(1).sum(dim=1)
                likelihood = -0.5 * (error / variance + size * math.log(2 * math.pi * variance))
                prior = -0.5 * codes.double().square().sum(dim=1)
                posterior = -0.5 * (one.double().square().sum() + log_variance.double().sum(dim=1))
                likelihoods.append(likelihood)
                each.append(likelihood + prior - posterior)
            lower.append(torch.stack(likelihoods).mean(dim=0) - kl_divergence(mean, log_variance).double())
            weighted.append(torch.logsumexp(torch.stack(each), dim=0) - math.log(draws))
    return torch.cat(lower).cpu().numpy(), torch.cat(weighted).cpu().numpy()
