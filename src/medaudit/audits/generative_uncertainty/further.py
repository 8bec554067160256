"""Scores that need a training of their own beside each VAE: SWAG, online Laplace, Monte-Carlo dropout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor

from medaudit.audits.generative.judge import perceptual_of
from medaudit.audits.generative.settings import Settings as VaeSettings
from medaudit.networks.vae import Vae
from medaudit.training.vae import VAES, VaeRecipe, fit_vae
from medaudit.uncertainty import generators

Ask = Callable[[Sequence[Tensor]], tuple[np.ndarray, np.ndarray]]
"""Batches of images to a score (N,) and a map (N, C, H, W)."""

DROPOUT = 0.1
"""Of the channels after each block of the decoder; our choice."""


def further(
    model: Vae, names: Sequence[str], vae: VaeSettings, images: np.ndarray, rows: np.ndarray, draws: int, seed: int,
    folder: Path,
) -> dict[str, Ask]:  # fmt: skip
    """Return what asks each of ``names`` about images, trained on the cases ``rows`` of ``images`` as the VAE was.

    Each goes on where its part of ``folder`` was stopped.
    """
    recipe = replace(VAES[vae.preset], shape=model.shape, beta=vae.beta, perceptual=vae.perceptual, flip=vae.flip)
    trained = {"swag": _swag, "online_laplace": _online_laplace, "dropout": _dropout}
    return {name: trained[name](model, recipe, vae, images, rows, draws, seed, folder / name) for name in names}


def _swag(
    model: Vae, recipe: VaeRecipe, vae: VaeSettings, images: np.ndarray, rows: np.ndarray, draws: int, seed: int,
    folder: Path,
) -> Ask:  # fmt: skip
    distance = perceptual_of(vae) if vae.perceptual else None
    posterior = generators.fit_swag_vae(
        model, images, rows.tolist(), generators.SwagRecipe.after(recipe), folder, seed=seed, distance=distance
    )
    return partial(generators.swag_variance, model, posterior, samples=draws, seed=seed)


def _online_laplace(
    model: Vae, recipe: VaeRecipe, vae: VaeSettings, images: np.ndarray, rows: np.ndarray, draws: int, seed: int,
    folder: Path,
) -> Ask:  # fmt: skip
    fresh = Vae(model.shape, seed=seed)
    fitted = generators.fit_online_laplace(
        fresh, images, rows.tolist(), replace(recipe, perceptual=0.0), folder, seed=seed
    )
    return partial(generators.online_laplace_variance, fitted, samples=draws, seed=seed)


def _dropout(
    model: Vae, recipe: VaeRecipe, vae: VaeSettings, images: np.ndarray, rows: np.ndarray, draws: int, seed: int,
    folder: Path,
) -> Ask:  # fmt: skip
    changed = replace(recipe, shape=replace(model.shape, dropout=DROPOUT))
    distance = perceptual_of(vae) if vae.perceptual else None
    net = fit_vae(Vae(changed.shape, seed=seed), images, rows.tolist(), changed, folder, seed=seed, distance=distance)
    return partial(generators.dropout_variance, net.eval(), passes=draws, seed=seed)
