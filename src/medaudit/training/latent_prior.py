"""Train a diffusion model of activations, and draw from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from medaudit.errors import DataError
from medaudit.networks.diffusion.latent import LatentNet, LatentShape
from medaudit.networks.diffusion.samplers import sample
from medaudit.networks.diffusion.schedule import linear_schedule
from medaudit.training.loop import train
from medaudit.training.sampling import TrainingData
from medaudit.training.settings import TrainingSettings

_SMALLEST = 1e-4  # an activation of 0, as of a patch infinitely far away, has a logarithm then


@dataclass(frozen=True)
class PriorRecipe:
    """How it is trained; all our choice."""

    steps: int = 3_000
    batch_size: int = 256
    learning_rate: float = 1e-3
    epochs: int = 3
    width: int = 256
    layers: int = 5

    def settings(self, seed: int) -> TrainingSettings:
        """Return the loop's settings."""
        return TrainingSettings(
            epochs=self.epochs, epoch_steps=max(1, self.steps // self.epochs), batch_size=self.batch_size,
            learning_rate=self.learning_rate, optimizer="adamw", weight_decay=1e-4, schedule="cosine", warmup_steps=50,
            clip_norm=1.0, ema_decay=0.995, seed=seed,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Prior:
    """A trained one. ``negative``: activations are below 0, as those of the linear similarity are."""

    net: LatentNet
    negative: bool


def fit_prior(activations: np.ndarray, folder: Path, *, recipe: PriorRecipe | None = None, seed: int = 0) -> Prior:
    """Return a diffusion model of activations (N, m) > 0, or all < 0, trained in ``folder``, resumable.

    What is modelled are their logarithms at mean 0 and SD 1, so that what is drawn has the sign of activations. Raises
    DataError for fewer than two rows, or values of both signs.
    """
    recipe = recipe or PriorRecipe()
    values = np.asarray(activations, dtype=np.float64)
    if len(values) < 2 or not np.isfinite(values).all():
        raise DataError(f"{len(values)} activations; expected two or more, all of them numbers")
    negative = bool((values <= 0).all())
    if not negative and (values < 0).any():
        raise DataError("activations have both signs; expected those of one similarity")
    logs = np.log(np.maximum(np.abs(values), _SMALLEST))
    centre, spread = logs.mean(0), np.maximum(logs.std(0), 1e-6)
    codes = ((logs - centre) / spread).astype(np.float32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = LatentNet(LatentShape(codes.shape[1], recipe.width, recipe.layers))
    net.centre.copy_(torch.from_numpy(centre))
    net.spread.copy_(torch.from_numpy(spread))
    schedule = linear_schedule()

    def load(index: int, rng: np.random.Generator) -> dict[str, Any]:
        return {
            "code": torch.from_numpy(codes[index]),
            "noise": torch.from_numpy(rng.standard_normal(codes.shape[1], dtype=np.float32)),
            "time": torch.tensor(int(rng.integers(schedule.steps))),
        }

    def loss_of(model: nn.Module, batch: dict[str, Any]) -> Tensor:
        code, noise, time = batch["code"], batch["noise"], batch["time"]
        return mse_loss(model(schedule.noised(code, noise, time), time), schedule.velocity(code, noise, time))

    data = TrainingData([str(i) for i in range(len(codes))], load)
    train(net, loss_of, data, recipe.settings(seed), folder=folder, progress=False)
    return Prior(net.eval(), negative)


def draw(prior: Prior, n: int, *, seed: int, steps: int = 100) -> np.ndarray:
    """Return ``n`` drawn activations (n, m) float32; the first ones do not depend on ``n``. True DDIM: no fresh
    noise.
    """
    m = prior.net.shape.activations
    noise = np.stack([np.random.default_rng((seed, i, 7)).standard_normal(m, dtype=np.float32) for i in range(n)])
    with torch.no_grad():
        codes = sample(prior.net, torch.from_numpy(noise), linear_schedule(), steps=steps, predicts="velocity")
        values = (codes * prior.net.spread + prior.net.centre).exp().numpy()
    return (-values if prior.negative else values).astype(np.float32)
