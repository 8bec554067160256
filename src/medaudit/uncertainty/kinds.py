"""The kinds of models that the methods need: how each is built, trained, and read back.

``classifier`` is the plain net with dropout. ``ddu`` and ``sngp`` keep distances by spectral normalisation, ``sngp``
and ``duq`` have other heads, ``evidential`` another loss. ``swag`` is no net of its own: a posterior around a trained
classifier's weights, from snapshots of an SGD that goes on from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy, one_hot

from medaudit.networks.classification import Classifier, build_classifier, feature_count
from medaudit.networks.heads import RadialBasis, RandomFeatureGP, gradient_penalty
from medaudit.networks.spectral import spectral_normalised
from medaudit.training import checkpoint, load_weights
from medaudit.training.classification import ClassifierRecipe, ClassLoss, fit_classifier, image_batches
from medaudit.uncertainty.evidential import evidential_loss
from medaudit.uncertainty.swag import Swag

KINDS = ("classifier", "ddu", "sngp", "duq", "evidential")

DDU_BOUND, SNGP_BOUND = 3.0, 6.0
"""Bounds of the spectral norm: the published defaults of DDU, and of SNGP in untangle."""
DUQ_PENALTY = 0.5
SWAG_SNAPSHOTS, SWAG_STEPS, SWAG_RATE = 20, 20, 5e-3
"""Snapshots, steps between two of them, and the constant learning rate: our choice for short trainings."""


@dataclass(frozen=True)
class Trainee:
    """One training: a kind of model, of so many classes, from a seed."""

    kind: str
    net: str
    classes: int
    seed: int


def build(of: Trainee) -> nn.Module:
    """Return the untrained model of a training; the same training gives the same first weights."""
    features = feature_count(of.net)
    model = build_classifier(of.net, of.classes, seed=of.seed)
    # The heads draw first weights too, some of them from torch's own generator.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(of.seed)
        if of.kind in ("ddu", "sngp"):
            spectral_normalised(model.trunk, bound=DDU_BOUND if of.kind == "ddu" else SNGP_BOUND)
        if of.kind == "sngp":
            return Classifier(model.trunk, RandomFeatureGP(features, of.classes, seed=of.seed))
        if of.kind == "duq":
            return Classifier(model.trunk, RadialBasis(features, of.classes, size=features, seed=of.seed))
        return model


def fit(
    of: Trainee, images: np.ndarray, codes: Sequence[int], rows: Sequence[int], recipe: ClassifierRecipe, folder: Path,
    *, device: str = "cpu",
) -> nn.Module:  # fmt: skip
    """Return the model of a training, trained on ``rows``; goes on where ``folder`` was stopped."""
    model = build(of)
    fit_classifier(model, images, codes, rows, recipe, folder, seed=of.seed, device=device, loss=_LOSSES.get(of.kind))
    model.eval().cpu()
    if of.kind == "sngp":
        _settle(model, images, rows)
    checkpoint.write(folder / "model.pt", model.state_dict())
    return model


def restored(of: Trainee, folder: Path) -> nn.Module:
    """Return the model that :func:`fit` left in ``folder``."""
    model = build(of)
    load_weights(model, folder / "model.pt")
    return model.eval()


def fit_swag(
    model: nn.Module, of: Trainee, images: np.ndarray, codes: Sequence[int], rows: Sequence[int],
    recipe: ClassifierRecipe, folder: Path, *, device: str = "cpu",
) -> Swag:  # fmt: skip
    """Return the SWAG posterior around a trained classifier: snapshots of an SGD that goes on at a constant rate."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = replace(
        recipe.settings(of.seed, device),
        epochs=SWAG_SNAPSHOTS,
        epoch_steps=SWAG_STEPS,
        optimizer="sgd",
        learning_rate=SWAG_RATE,
        schedule="constant",
        warmup_steps=0,
    )

    def keep(net: nn.Module) -> dict[str, float]:
        # Named by its epoch: one that was taken just before a kill is taken again, and takes its own place.
        done = sum(line[:1].isdigit() for line in (folder / "log.csv").read_text().splitlines())
        state = {name: value.detach().cpu().clone() for name, value in net.state_dict().items()}
        checkpoint.write(folder / _snapshot(done), state)
        return {"loss": 0.0}

    fit_classifier(
        model, images, codes, rows, recipe, folder, seed=of.seed, device=device, settings=settings, after_epoch=keep
    )
    return Swag.of([torch.load(folder / _snapshot(k), weights_only=True) for k in range(SWAG_SNAPSHOTS)])


def _snapshot(epoch: int) -> str:
    return f"snapshot-{epoch:03d}.pt"


def _settle(model: nn.Module, images: np.ndarray, rows: Sequence[int]) -> None:
    """Accumulate SNGP's precision over the training cases, once, exactly, with the last weights."""
    head: Any = model.head
    head.reset_precision()
    with torch.no_grad():
        for batch in image_batches(images, rows):
            head.update_precision(model.trunk(batch))  # type: ignore[operator]


def _duq_loss(model: nn.Module, images: Tensor, codes: Tensor, progress: float) -> Tensor:
    images = images.requires_grad_(True)
    net: Any = getattr(model, "module", model)
    features = net.trunk(images)
    kernels = net.head(features)
    wanted = one_hot(codes, kernels.shape[1]).to(kernels.dtype)
    loss = binary_cross_entropy(kernels.clamp(1e-6, 1 - 1e-6), wanted)
    loss = loss + gradient_penalty(images, kernels, DUQ_PENALTY)
    with torch.no_grad():
        net.head.update_centroids(features.detach(), wanted)
    return loss


def _evidential_loss(model: nn.Module, images: Tensor, codes: Tensor, progress: float) -> Tensor:
    return evidential_loss(model(images), codes, progress)


_LOSSES: dict[str, ClassLoss] = {"duq": _duq_loss, "evidential": _evidential_loss}
