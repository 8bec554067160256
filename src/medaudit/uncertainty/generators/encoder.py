"""What the encoder says of its own code: the variance that is most often taken for a VAE's uncertainty."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from medaudit.uncertainty.generators.spread import Spread, pieces, spread_of
from medaudit.uncertainty.outputs import device_of, evaluating

ENCODER_SCORES = {
    "encoder_variance": "sum of the code's variances",
    "encoder_log_variance": "mean of the code's log-variances",
    "encoder_entropy": "entropy of the code's Gaussian, nats",
}


class Autoencoder(Protocol):
    """Anything with these two parts; :class:`medaudit.networks.vae.Vae` is one."""

    @property
    def encoder(self) -> Any:
        """Images (N, C, H, W) to the mean and the log-variance of their codes, (N, latent) each."""

    @property
    def decoder(self) -> Any:
        """Codes (N, latent) to images (N, C, H, W)."""


@contextmanager
def at_rest(model: Autoencoder) -> Iterator[torch.device]:
    """Put both parts into eval mode, without gradients, and return their device; modes are given back."""
    with ExitStack() as stack:
        for part in parts_of(model):
            stack.enter_context(evaluating(part))
        stack.enter_context(torch.no_grad())
        yield next((device_of(part) for part in parts_of(model)), torch.device("cpu"))


def parts_of(model: Autoencoder) -> list[nn.Module]:
    """Return the parts that are torch modules."""
    return [part for part in (model.encoder, model.decoder) if isinstance(part, nn.Module)]


def encoder_scores(model: Autoencoder, batches: Iterable[Tensor]) -> dict[str, np.ndarray]:
    """Return the three scores of :data:`ENCODER_SCORES` of images (N, C, H, W), (N,) each.

    The sum is ruled by the widest numbers of the code and the mean of logarithms by the narrowest, so one alone would
    be a straw man.
    """
    found = []
    with at_rest(model) as device:
        for images in batches:
            log_variance = model.encoder(images.to(device))[1].double()
            size = log_variance.shape[1]
            found.append(
                torch.stack(
                    [
                        log_variance.exp().sum(dim=1),
                        log_variance.mean(dim=1),
                        0.5 * (log_variance.sum(dim=1) + size * math.log(2 * math.pi * math.e)),
                    ]
                ).cpu()
            )
    return dict(zip(ENCODER_SCORES, torch.cat(found, dim=1).numpy(), strict=True))


def latent_spread(model: Autoencoder, batches: Iterable[Tensor], draws: int, seed: int) -> Spread:
    """Return the variance of the decoded image over ``draws`` codes from the encoder: sum, its standard error, map.

    The noise is the same for all images, so that their order owes nothing to luck. Raises UsageError below two draws.
    """

    def made() -> Iterator[Tensor]:
        for images in pieces(batches, draws):
            mean, log_variance = model.encoder(images.to(device))
            noise = code_noise(mean, draws, seed)
            spread = torch.exp(0.5 * log_variance)
            yield torch.stack([model.decoder(mean + spread * one) for one in noise])

    with at_rest(model) as device:
        return spread_of(made(), draws)


def latent_monte_carlo(
    model: Autoencoder, batches: Iterable[Tensor], draws: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the sum (N,) and the map (N, C, H, W) float32 of :func:`latent_spread`, without its standard error."""
    found = latent_spread(model, batches, draws, seed)
    return found.score, found.pixels


def code_noise(mean: Tensor, draws: int, seed: int) -> Tensor:
    """Return standard normal numbers (draws, latent) that are the same for every image, batch, device and type."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(draws, mean.shape[1], generator=generator, dtype=torch.float32).to(mean)
