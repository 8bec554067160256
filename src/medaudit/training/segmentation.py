"""Train one segmentation net on prepared cases, and predict others with it: what every diagnosis is made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from medaudit.networks.segmentation import bottleneck_features, build
from medaudit.training.checkpoint import load_weights
from medaudit.training.loop import train
from medaudit.training.prepared import Prepared
from medaudit.training.sampling import TrainingData
from medaudit.training.settings import TrainingSettings


@dataclass(frozen=True)
class Recipe:
    """How a segmentation net is trained: its preset (``networks.segmentation``), the grid, and how long."""

    net: str
    longest: int
    """Cells along the longest side of the grid."""
    steps: int
    batch_size: int = 4
    """Small: of as many cases seen, more steps teach a small net more than larger batches do."""
    learning_rate: float = 8e-3
    epochs: int = 5
    """Into how many parts the steps are divided; a checkpoint follows each."""

    def settings(self, seed: int, device: str) -> TrainingSettings:
        """Return the loop's settings; the moving average and the clipping steady a short training."""
        return TrainingSettings(
            epochs=self.epochs,
            epoch_steps=max(1, self.steps // self.epochs),
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=1e-4,
            schedule="cosine",
            warmup_steps=min(10, self.steps // 10),
            clip_norm=12.0,
            seed=seed,
            accelerator=device,
        )


RECIPES: dict[str, dict[int, Recipe]] = {
    "fast": {
        2: Recipe("cpu-2d", longest=64, steps=160),
        3: Recipe("cpu-3d", longest=24, steps=160),
    },
    "cpu": {
        2: Recipe("cpu-2d", longest=96, steps=500),
        3: Recipe("cpu-3d", longest=32, steps=500),
    },
    "gpu": {
        2: Recipe("gpu-2d", longest=512, steps=20_000, batch_size=16, learning_rate=1e-3, epochs=50),
        3: Recipe("gpu-3d", longest=128, steps=20_000, batch_size=2, learning_rate=1e-3, epochs=50),
    },
}
"""By preset and number of axes. All our choice; the papers train nnU-Net, which :mod:`networks.nnunet` exports to."""


def fit(
    prepared: Prepared, rows: Sequence[int], labels: Mapping[int, str], recipe: Recipe, folder: Path, *,
    seed: int, device: str = "cpu",
) -> nn.Module:  # fmt: skip
    """Return a net trained on the cases ``rows``, each with the mask of the role that ``labels`` names.

    Goes on where ``folder`` was stopped, to the same bits. The same ``seed`` gives the same first weights and the same
    order, whatever the labels: two trainings then differ in nothing else. Raises DataError as the loop does.
    """
    model = build(recipe.net, 1, 1, len(prepared.grid), seed=seed)
    data = TrainingData([prepared.case_ids[i] for i in rows], _loader(prepared, rows, labels))
    loss_of = lambda net, batch: dice_and_cross_entropy(net(batch["image"]), batch["label"])
    train(model, loss_of, data, recipe.settings(seed, device), folder=folder, progress=False)
    return model


def restored(recipe: Recipe, axes: int, weights: Path) -> nn.Module:
    """Return the net whose weights a training left in ``weights``."""
    model = build(recipe.net, 1, 1, axes)
    load_weights(model, weights)
    return model


@torch.no_grad()
def predict(
    model: nn.Module, prepared: Prepared, rows: Sequence[int], *, batch_size: int = 8, device: str = "cpu"
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield of each case its row, the logits (*grid) of foreground, and the bottleneck's features (channels,)."""
    model.eval().to(device)
    for start in range(0, len(rows), batch_size):
        some = list(rows[start : start + batch_size])
        images = torch.from_numpy(prepared.images[some].astype(np.float32)).to(device)
        with bottleneck_features(model) as features:
            logits = model(images)[:, 0].float().cpu().numpy()
        known = features[0].cpu().numpy()
        yield from zip(some, logits, known, strict=True)


def dice_and_cross_entropy(logits: Tensor, wanted: Tensor) -> dict[str, Tensor]:
    """Return nnU-Net's loss, 1 - soft Dice + cross-entropy, averaged over cases; both (N, 1, *S), ``wanted`` in [0, 1].

    arXiv 1904.08128; there the Dice is over the batch, here of each case: the mean over cases is then the same for one
    process and for several. One is added above and below, so that an empty case has a Dice too.
    """
    found, axes = torch.sigmoid(logits), tuple(range(1, logits.ndim))
    dice = (2 * (found * wanted).sum(axes) + 1) / (found.sum(axes) + wanted.sum(axes) + 1)
    dice_loss = 1 - dice.mean()
    cross_entropy = binary_cross_entropy_with_logits(logits, wanted)
    return {"loss": dice_loss + cross_entropy, "dice_loss": dice_loss, "cross_entropy": cross_entropy}


def _loader(prepared: Prepared, rows: Sequence[int], labels: Mapping[int, str]) -> Any:
    def load(index: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """Return a case, mirrored along each axis by chance; a little brighter or darker, of more or less contrast."""
        i = rows[index]
        image = prepared.images[i].astype(np.float32)
        mask = prepared.masks[labels[i]][i][None].astype(np.float32) / 255
        axes = tuple(axis for axis in range(1, image.ndim) if rng.random() < 0.5)
        gain, offset = rng.uniform(0.9, 1.1), rng.uniform(-0.1, 0.1)
        image = np.flip(image, axes) * np.float32(gain) + np.float32(offset)
        return {
            "image": torch.from_numpy(np.ascontiguousarray(image)),
            "label": torch.from_numpy(np.ascontiguousarray(np.flip(mask, axes))),
        }

    return load
