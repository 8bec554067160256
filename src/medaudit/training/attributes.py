"""Train a judge of attributes on images in which they are made to go with nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from medaudit.errors import DataError
from medaudit.networks.attribute_net import AttributeNet
from medaudit.training.loop import train
from medaudit.training.sampling import TrainingData
from medaudit.training.settings import TrainingSettings

_HEAVIEST = 20.0  # a cell of few images counts at most so much more than a common one


@dataclass(frozen=True)
class JudgeRecipe:
    """How a judge is trained; all our choice."""

    steps: int = 400
    batch_size: int = 64
    learning_rate: float = 3e-3
    epochs: int = 4
    jitter: float = 0.05
    """Images are shifted by up to two pixels and their values scaled by up to this."""

    def settings(self, seed: int, device: str) -> TrainingSettings:
        """Return the loop's settings."""
        return TrainingSettings(
            epochs=self.epochs, epoch_steps=max(1, self.steps // self.epochs), batch_size=self.batch_size,
            learning_rate=self.learning_rate, weight_decay=1e-3, schedule="cosine",
            warmup_steps=min(20, self.steps // 10),
            clip_norm=5.0, seed=seed, accelerator=device,
        )  # fmt: skip


def fit_judge(
    images: np.ndarray, labels: np.ndarray, rows: Sequence[int], folder: Path, *, recipe: JudgeRecipe | None = None,
    seed: int = 0, device: str = "cpu",
) -> AttributeNet:  # fmt: skip
    """Return a judge of the attributes ``labels`` (n, K), 0, 1 or NaN, from images (n, C, H, W) from 0 to 1.

    Images of all combinations of attributes count alike, so that one attribute is no hint of another: a judge that
    learned from confounded images could not say which of two it saw. Goes on where ``folder`` was stopped. Raises
    DataError where an attribute has one value only.
    """
    recipe = recipe or JudgeRecipe()
    chosen = np.asarray(rows)
    values = np.asarray(labels, dtype=np.float64)[chosen]
    for k in range(values.shape[1]):
        if len(np.unique(values[:, k][np.isfinite(values[:, k])])) < 2:
            raise DataError(
                f"attribute {k + 1} has one value among the {len(chosen)} images that the judge learns from"
            )
    weights = balanced_weights(values).astype(np.float32)
    known = np.isfinite(values).astype(np.float32)
    targets = np.nan_to_num(values).astype(np.float32)
    net = AttributeNet(images.shape[1], values.shape[1], seed=seed)

    def load(index: int, rng: np.random.Generator) -> dict[str, Any]:
        image = np.asarray(images[chosen[index]], dtype=np.float32)
        down, right = rng.integers(-2, 3, 2)
        padded = np.pad(image, ((0, 0), (2, 2), (2, 2)), mode="edge")
        image = padded[:, 2 + down : 2 + down + image.shape[1], 2 + right : 2 + right + image.shape[2]]
        image = (image - 0.5) * np.float32(rng.uniform(1 - recipe.jitter, 1 + recipe.jitter)) + 0.5
        return {
            "image": torch.from_numpy(np.ascontiguousarray(image)),
            "target": torch.from_numpy(targets[index]),
            "weight": torch.from_numpy(known[index] * weights[index]),
        }

    def loss_of(model: nn.Module, batch: dict[str, Any]) -> Tensor:
        return binary_cross_entropy_with_logits(model(batch["image"]), batch["target"], weight=batch["weight"])

    data = TrainingData([str(i) for i in chosen], load)
    train(net, loss_of, data, recipe.settings(seed, device), folder=folder, progress=False)
    return net.cpu().eval()


def balanced_weights(labels: np.ndarray) -> np.ndarray:
    """Return a weight an image, mean 1, under which all combinations of attributes (n, K) that occur count alike.

    No image counts more than 20 times the mean of the common ones.
    """
    combinations = np.nan_to_num(labels, nan=-1.0)
    _, which, counts = np.unique(combinations, axis=0, return_inverse=True, return_counts=True)
    weights = (counts.sum() / counts)[which.ravel()]
    weights = np.minimum(weights, _HEAVIEST * np.median(weights))
    return weights / weights.mean()


def judged(net: AttributeNet, images: np.ndarray, batch: int = 256) -> np.ndarray:
    """Return the probabilities (n, K) that a judge gives images (n, C, H, W)."""
    return _over(lambda part: torch.sigmoid(net(part)), images, batch)


def features(net: AttributeNet, images: np.ndarray, batch: int = 256) -> np.ndarray:
    """Return the features (n, D) that a judge tells attributes of images (n, C, H, W) by."""
    return _over(net.features, images, batch)


def _over(look: Callable[[Tensor], Tensor], images: np.ndarray, batch: int) -> np.ndarray:
    found = []
    with torch.no_grad():
        for start in range(0, len(images), batch):
            part = torch.from_numpy(np.ascontiguousarray(images[start : start + batch], dtype=np.float32))
            found.append(look(part).numpy())
    return np.concatenate(found)
