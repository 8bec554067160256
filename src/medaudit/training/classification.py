"""Train one classifier on prepared images, and predict others with it: what every study of uncertainty is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, cross_entropy, grid_sample

from medaudit.training.loop import train
from medaudit.training.sampling import TrainingData
from medaudit.training.settings import TrainingSettings

ClassLoss = Callable[[nn.Module, Tensor, Tensor, float], Tensor]
"""(model, images (N, 1, H, W), codes (N,), share of the training that is done) to a scalar."""


class Rows(Protocol):
    """Images by their number: an array, or what reads one when it is asked."""

    def __getitem__(self, row: int, /) -> np.ndarray:
        """Return the image (C, H, W) of a case."""
        ...


@dataclass(frozen=True)
class ClassifierRecipe:
    """How a classifier is trained: its preset (``networks.classification``), its images' side, and how long."""

    net: str
    side: int
    """Pixels of the square that images are letterboxed into."""
    steps: int
    batch_size: int = 32
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    epochs: int = 5
    """Into how many parts the steps are divided; a checkpoint follows each."""
    flip: bool = True
    """Mirror images left to right by chance; off where a label says which side."""

    def settings(self, seed: int, device: str) -> TrainingSettings:
        """Return the loop's settings."""
        return TrainingSettings(
            epochs=self.epochs,
            epoch_steps=max(1, self.steps // self.epochs),
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            schedule="cosine",
            warmup_steps=min(20, self.steps // 10),
            clip_norm=5.0,
            seed=seed,
            accelerator=device,
        )


CLASSIFIERS: dict[str, ClassifierRecipe] = {
    "fast": ClassifierRecipe("cpu", side=64, steps=250),
    "cpu": ClassifierRecipe("cpu", side=64, steps=500),
    "gpu": ClassifierRecipe("gpu", side=224, steps=6_000, batch_size=64, learning_rate=1e-4, epochs=30),
}
"""By preset. All our choice; the paper's nets and their training are not known to us."""


def fit_classifier(
    model: nn.Module, images: Rows, codes: Sequence[int], rows: Sequence[int], recipe: ClassifierRecipe, folder: Path,
    *, seed: int, device: str = "cpu", loss: ClassLoss | None = None,
    settings: TrainingSettings | None = None,
    after_epoch: Callable[[nn.Module], Mapping[str, float]] | None = None,
) -> nn.Module:  # fmt: skip
    """Return ``model`` trained on the cases ``rows`` of ``images`` (n, 1, H, W), whose classes are ``codes`` (n,).

    Goes on where ``folder`` was stopped, to the same bits. ``loss`` defaults to the cross-entropy. Images are mirrored,
    turned by up to 10 degrees and scaled by up to 10 %; brightness, contrast and sharpness stay, because they are what
    tells one scanner from another. Raises DataError as the loop does.
    """
    chosen = settings or recipe.settings(seed, device)

    def load(index: int, rng: np.random.Generator) -> dict[str, Tensor]:
        i = rows[index]
        # Drawn here and not in the batch: what a case looks like follows from its place in the sequence alone.
        flip = recipe.flip and rng.random() < 0.5
        view = np.asarray([rng.uniform(-10, 10), rng.uniform(0.9, 1.1), -1.0 if flip else 1.0], dtype=np.float32)
        return {
            "image": torch.from_numpy(images[i].astype(np.float32)),
            "view": torch.from_numpy(view),
            "code": torch.tensor(int(codes[i])),
        }

    def loss_of(net: nn.Module, batch: dict[str, Any]) -> Tensor:
        seen = turned(batch["image"], batch["view"])
        if loss is not None:
            return loss(net, seen, batch["code"], batch["progress"])
        return cross_entropy(net(seen), batch["code"])

    data = TrainingData([str(i) for i in rows], load)
    train(model, loss_of, data, chosen, folder=folder, validate=after_epoch, progress=False)
    return model


def turned(images: Tensor, view: Tensor) -> Tensor:
    """Return images (N, 1, H, W) turned and scaled by ``view`` (N, 3): degrees, scale, and -1 where mirrored."""
    angle, scale, mirror = torch.deg2rad(view[:, 0]), view[:, 1], view[:, 2]
    zero = torch.zeros_like(angle)
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    matrix = torch.stack([torch.stack([cos * mirror, -sin, zero], 1), torch.stack([sin * mirror, cos, zero], 1)], 1)
    grid = affine_grid(matrix, list(images.shape), align_corners=False)
    return grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def image_batches(images: np.ndarray, rows: Sequence[int], batch_size: int = 128) -> Iterator[Tensor]:
    """Yield the images of ``rows`` as float32 batches (n, 1, H, W)."""
    for start in range(0, len(rows), batch_size):
        some = list(rows[start : start + batch_size])
        yield torch.from_numpy(np.stack([images[i] for i in some]).astype(np.float32))
