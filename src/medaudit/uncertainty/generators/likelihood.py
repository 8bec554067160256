"""Scores that look at the image itself: the error, which is an oracle, and bounds on its likelihood.

An uncertainty of a sample that was never seen could know none of these: they compare the reconstruction with the image.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from medaudit.errors import DataError, UsageError
from medaudit.networks.vae import kl_divergence
from medaudit.uncertainty.generators.encoder import Autoencoder, at_rest, code_noise
from medaudit.uncertainty.generators.ensemble import reconstruct


def squared_errors(model: Autoencoder, batches: Iterable[Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Return the sum of squared errors (N,) and their map, float32: an oracle, it is what others try to foretell."""
    maps = [(images - reconstruct(model, images).to(images.device)).square().cpu() for images in batches]
    if not maps:
        raise DataError("no batch of images was given")
    pixels = torch.cat(maps)
    return pixels.double().flatten(1).sum(dim=1).numpy(), pixels.float().numpy()


def residual_variance(model: Autoencoder, batches: Iterable[Tensor]) -> float:
    """Return the mean squared residual over all pixels of the training images: the s² that the bounds ask for."""
    return float(squared_errors(model, batches)[1].mean(dtype=np.float64))


def negative_elbo(model: Autoencoder, batches: Iterable[Tensor], variance: float, draws: int, seed: int) -> np.ndarray:
    """Return minus the evidence bound, nats an image (N,): Gaussian noise of ``variance``, codes by common noise.

    The KL is exact, the likelihood a mean over ``draws`` codes. Raises UsageError for a variance that is not positive.
    """
    return -_bounds(model, batches, variance, draws, seed)[0]


def negative_iwae(model: Autoencoder, batches: Iterable[Tensor], variance: float, draws: int, seed: int) -> np.ndarray:
    """Return minus the importance-weighted bound of ``draws`` codes (Burda et al., ICLR 2016), nats an image (N,).

    log (1/K) Σ_k p(x | z_k) p(z_k) / q(z_k | x): in expectation it rises with K, from the evidence bound to log p(x).
    """
    return -_bounds(model, batches, variance, draws, seed)[1]


def _bounds(
    model: Autoencoder, batches: Iterable[Tensor], variance: float, draws: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    if not variance > 0 or draws < 1:
        raise UsageError(f"variance is {variance}, draws {draws}; expected more than 0, and 1 or more")
    lower, weighted = [], []
    with at_rest(model) as device:
        for batch in batches:
            images = batch.to(device)
            mean, log_variance = model.encoder(images)
            spread = torch.exp(0.5 * log_variance)
            size = images[0].numel()
            each, likelihoods = [], []
            for one in code_noise(mean, draws, seed):
                codes = mean + spread * one
                error = (images - model.decoder(codes)).double().square().flatten(1).sum(dim=1)
                likelihood = -0.5 * (error / variance + size * math.log(2 * math.pi * variance))
                # Without log 2π, which the prior and the posterior share.
                prior = -0.5 * codes.double().square().sum(dim=1)
                posterior = -0.5 * (one.double().square().sum() + log_variance.double().sum(dim=1))
                likelihoods.append(likelihood)
                each.append(likelihood + prior - posterior)
            lower.append(torch.stack(likelihoods).mean(dim=0) - kl_divergence(mean, log_variance).double())
            weighted.append(torch.logsumexp(torch.stack(each), dim=0) - math.log(draws))
    if not lower:
        raise DataError("no batch of images was given")
    return torch.cat(lower).cpu().numpy(), torch.cat(weighted).cpu().numpy()
