"""What one trained VAE does with images: errors of its reconstructions, and what its uncertainties say of each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medaudit.audits.generative.settings import Settings
from medaudit.metrics import reconstruction
from medaudit.networks.perceptual import PerceptualDistance, perceptual_distance
from medaudit.networks.vae import MeanEncoder, Vae
from medaudit.uncertainty import generators, slug

BATCH = 64

ERRORS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "normalised_error": reconstruction.normalised_error,
    "squared_error": reconstruction.squared_error,
    "absolute_error": reconstruction.mean_absolute_error,
    "dssim": lambda images, made: 1 - reconstruction.ssim(images, made),
    "delta_e": reconstruction.delta_e,
}
"""By name: images and reconstructions (N, H, W, C) from 0 to 1 to an error each, (N,); larger is worse."""


def perceptual_of(settings: Settings) -> PerceptualDistance | None:
    """Return the perceptual distance of the settings, ``None`` where no trained backbone is installed.

    Raises UsageError where it was asked for and cannot be had: never a backbone that was not trained.
    """
    required = settings.perceptual > 0 or settings.metric == "perceptual"
    return perceptual_distance(settings.perceptual_weights, required=required)


def reconstructed(model: Vae, images: np.ndarray) -> np.ndarray:
    """Return the mean reconstructions of images (N, C, H, W), cut to 0 to 1 as a picture is."""
    with torch.no_grad():
        made = [model.reconstruct(batch) for batch in tensors(images)]
    return torch.cat(made).clamp(0, 1).numpy()


def errors_of(model: Vae, images: np.ndarray, distance: PerceptualDistance | None) -> dict[str, np.ndarray]:
    """Return the errors of images (N, C, H, W) by name, (N,); those in colour only where there are colours."""
    made = reconstructed(model, images)
    first, second = (np.moveaxis(array, 1, -1) for array in (np.clip(images, 0, 1), made))
    colour = images.shape[1] == 3
    found = {name: error(first, second) for name, error in ERRORS.items() if colour or name != "delta_e"}
    if distance is not None:
        with torch.no_grad():
            parts = [distance(a, b) for a, b in zip(tensors(images), tensors(made), strict=True)]
        found["perceptual"] = torch.cat(parts).double().numpy()
    return found


def tensors(images: np.ndarray) -> list[Tensor]:
    """Return images as float32 batches (n, C, H, W)."""
    return list(torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32)).split(BATCH))


def fitted(
    model: Vae, images: np.ndarray, rows: np.ndarray, settings: Settings, *, seed: int, folder: Path | None = None,
    params: str = "all",
) -> slug.SlugState:  # fmt: skip
    """Return SLUG's posterior from (at most ``slug_images`` of) the training images; a fit that was killed goes on."""
    chosen = np.random.default_rng((seed, 41)).permutation(rows)[: settings.slug_images]
    training = torch.from_numpy(np.asarray(images[np.sort(chosen)], dtype=np.float32))
    return slug.fit(
        MeanEncoder(model.encoder), model.decoder, list(training.split(BATCH)), rank=settings.rank, params=params,
        training_images=len(rows), seed=seed, checkpoint=None if folder is None else folder / f"krylov-{params}.pt",
    )  # fmt: skip


def uncertainties_of(
    model: Vae, state: slug.SlugState | None, variance: float, test: np.ndarray, settings: Settings, *, seed: int
) -> dict[str, np.ndarray]:
    """Return the scores of ``test`` (N, C, H, W) by name, (N,) each; the last is an oracle: it is the error itself.

    ``variance`` is the residual variance on training images, ``state`` SLUG's posterior; without one it is left out.
    """
    batches = tensors(test)
    found: dict[str, np.ndarray] = {}
    if state is not None:
        said = slug.score(
            state, torch.from_numpy(test), relative_error=None, min_probes=2, max_probes=settings.probes, seed=seed
        )
        found |= {"slug": said.score, "rho": said.rho, "jacobian": said.jacobian, "slug_error": said.error}
    found |= generators.encoder_scores(model, batches)
    found["latent_monte_carlo"] = generators.latent_monte_carlo(model, batches, settings.probes, seed)[0]
    found["negative_elbo"] = generators.negative_elbo(model, batches, variance, 8, seed)
    found["squared_error_oracle"] = generators.squared_errors(model, batches)[0]
    return found


def residual_variance(model: Vae, images: np.ndarray, rows: np.ndarray) -> float:
    """Return the mean squared error of (at most 500 of) the training images ``rows``."""
    # By lot: the rows of a training list one group after the other.
    chosen = np.random.default_rng(43).permutation(rows)[:500]
    some = np.asarray(images[np.sort(chosen)], dtype=np.float32).clip(0, 1)
    pair = np.moveaxis(some, 1, -1), np.moveaxis(reconstructed(model, some), 1, -1)
    return float(np.mean(reconstruction.squared_error(*pair)))
