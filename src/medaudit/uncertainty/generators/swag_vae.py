"""SWAG for a VAE: a Gaussian over weights from the path of a constant-rate SGD (Maddox et al., NeurIPS 2019)."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from medaudit.errors import UsageError
from medaudit.networks.vae import Vae
from medaudit.training import checkpoint
from medaudit.training.settings import TrainingSettings
from medaudit.training.vae import Distance, VaeRecipe, fit_vae
from medaudit.uncertainty.generators.ensemble import WeightDraws, members_variance
from medaudit.uncertainty.swag import Swag


@dataclass(frozen=True)
class SwagRecipe(VaeRecipe):
    """A VAE's recipe, gone on with: ``epochs`` snapshots, at ``learning_rate`` of a plain SGD that stays.

    ``steps`` are those of all epochs together. The defaults of :meth:`after` are ours, for short trainings.
    """

    @classmethod
    def after(cls, recipe: VaeRecipe, snapshots: int = 20, steps: int = 20, learning_rate: float = 5e-3) -> SwagRecipe:
        """Return the recipe that goes on from ``recipe``: a snapshot every ``steps`` steps."""
        kept = {field.name: getattr(recipe, field.name) for field in fields(recipe)}
        changed = {"steps": snapshots * steps, "epochs": snapshots, "learning_rate": learning_rate}
        return cls(**{**kept, **changed})

    def settings(self, seed: int, device: str) -> TrainingSettings:
        """Return the loop's settings."""
        return TrainingSettings(
            epochs=self.epochs,
            epoch_steps=max(1, self.steps // self.epochs),
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            optimizer="sgd",
            schedule="constant",
            clip_norm=5.0,
            seed=seed,
            accelerator=device,
        )


def fit_swag_vae(
    model: Vae, images: np.ndarray, rows: Sequence[int], recipe: SwagRecipe, folder: Path, *, seed: int,
    device: str = "cpu", distance: Distance | None = None, rank: int = 20,
) -> Swag:  # fmt: skip
    """Return the posterior around a trained VAE: its training goes on, with a snapshot after each epoch.

    Of the cases ``rows`` of ``images`` (n, C, H, W), from 0 to 1, that it was trained on. ``model`` is not changed.
    Goes on where ``folder`` was stopped, to the same bits. Raises UsageError for fewer than two snapshots and for
    BatchNorm, whose statistics would not fit the drawn weights.
    """
    if recipe.epochs < 2:
        raise UsageError(f"{recipe.epochs} snapshots; expected 2 or more")
    if any(isinstance(module, _BatchNorm) for module in model.modules()):
        raise UsageError("the VAE has BatchNorm, whose statistics do not fit drawn weights; use GroupNorm")
    folder.mkdir(parents=True, exist_ok=True)

    def keep(net: nn.Module) -> dict[str, float]:
        # Named by its epoch: one that was taken just before a kill is taken again, and takes its own place.
        done = sum(line[:1].isdigit() for line in (folder / "log.csv").read_text().splitlines())
        state = {name: value.detach().cpu().clone() for name, value in net.state_dict().items()}
        checkpoint.write(folder / _snapshot(done), state)
        return {"loss": 0.0}

    net = copy.deepcopy(model).requires_grad_(True)
    fit_vae(net, images, rows, recipe, folder, seed=seed, device=device, distance=distance, after_epoch=keep)
    snapshots = (torch.load(folder / _snapshot(k), weights_only=True) for k in range(recipe.epochs))
    return Swag.of(snapshots, rank=rank)


def swag_draws(model: nn.Module, posterior: Swag, samples: int, seed: int) -> WeightDraws:
    """Return ``samples`` nets drawn from the posterior, as members; drawn anew in every pass, the same each time."""
    return WeightDraws(model, posterior.sample, samples, seed)


def swag_variance(
    model: nn.Module, posterior: Swag, batches: Iterable[Tensor], samples: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the variance of the reconstruction over drawn weights: its sum (N,) and its map (N, C, H, W) float32.

    Raises UsageError for fewer than two samples, DataError where the posterior is of another net.
    """
    return members_variance(swag_draws(model, posterior, samples, seed), batches)


def _snapshot(epoch: int) -> str:
    return f"snapshot-{epoch:03d}.pt"
