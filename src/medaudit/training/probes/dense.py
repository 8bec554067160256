"""Segmentation with a dense head on frozen patches, or on a backbone that learns too, by the house's one loop.

Patches of a frozen backbone are computed once and kept as float16, so a frozen head sees no augmentation; the released
protocol, which fine-tunes everything, augments.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from medaudit.errors import DataError
from medaudit.networks.dense_heads import Segmenter, patch_maps
from medaudit.networks.vit import ViT
from medaudit.training.checkpoint import load_weights
from medaudit.training.classification import turned
from medaudit.training.loop import Trained, train
from medaudit.training.probes.areas import SUMMED, areas, overlap
from medaudit.training.sampling import TrainingData
from medaudit.training.settings import TrainingSettings
from medaudit.training.steering import PLAIN, Steering


@dataclass(frozen=True)
class DenseRecipe:
    """How a dense head, or a whole segmenter, is trained: AdamW, warm-up, then ``schedule`` to 0."""

    steps: int
    batch_size: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    warmup_steps: int = 0
    schedule: str = "cosine"
    epochs: int = 5
    """Into how many parts the steps are divided: validation and a checkpoint follow each."""
    augment: bool = False
    """Images turned by up to 30 degrees, scaled by up to 20 %, mirrored, each by a chance of a half; never for maps."""

    def settings(self, seed: int, device: str) -> TrainingSettings:
        """Return the loop's settings; the best epoch is that of the largest mean Dice of summed areas."""
        return TrainingSettings(
            epochs=self.epochs,
            epoch_steps=max(1, self.steps // self.epochs),
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
            warmup_steps=self.warmup_steps,
            seed=seed,
            monitor="mean_dice",
            higher_is_better=True,
            accelerator=device,
        )


DENSE: dict[str, DenseRecipe] = {
    "fast": DenseRecipe(200),
    "frozen": DenseRecipe(2_000),
    "paper": DenseRecipe(
        45_000, batch_size=64, learning_rate=1e-4, weight_decay=0.01, warmup_steps=1_500, schedule="poly", epochs=100,
        augment=True,
    ),
}  # fmt: skip
"""``paper``: UltraDINO's released fine-tuning of FASS. The house's ``poly`` has the power 0.9, theirs 1; their shear,
brightness, gamma, noise and grid distortion are not here. The others are our choice, for heads on frozen maps."""


def fit_dense(
    model: nn.Module, inputs: np.ndarray, masks: np.ndarray, rows: Sequence[int], classes: int, recipe: DenseRecipe,
    folder: Path, *, seed: int, validation_rows: Sequence[int] = (), device: str = "cpu", steering: Steering = PLAIN,
) -> Trained:  # fmt: skip
    """Train ``model`` on the cases ``rows`` of ``inputs`` and of label maps ``masks`` (n, H, W), in place.

    A head learns from frozen maps (n, K, d, rows, columns), a :class:`~medaudit.networks.dense_heads.Segmenter` from
    normalised images (n, C, H, W). With ``validation_rows`` the epoch with the best mean Dice of summed areas (of
    all classes with a pixel, background too) is what ``model`` has in the end, else the last one. Goes on where
    ``folder`` was stopped. Raises DataError for maps of another number and labels that are no class, and as the loop.
    """
    if len(masks) != len(inputs):
        raise DataError(f"{len(masks)} label maps for {len(inputs)} cases; expected one each")
    if masks.size and (masks.min() < 0 or masks.max() >= classes):
        raise DataError(f"labels run from {masks.min()} to {masks.max()}; expected 0 to {classes - 1}")

    def load(index: int, rng: np.random.Generator) -> dict[str, Tensor]:
        i = rows[index]
        by_chance = rng.random(3) < 0.5 if recipe.augment else np.zeros(3, dtype=bool)
        angle, scale = rng.uniform(-30, 30), rng.uniform(0.8, 1.2)
        view = np.where(by_chance, [angle, scale, -1.0], [0.0, 1.0, 1.0]).astype(np.float32)
        return {
            "seen": torch.from_numpy(np.asarray(inputs[i], dtype=np.float32)),
            "label": torch.from_numpy(masks[i].astype(np.int64)),
            "view": torch.from_numpy(view),
        }

    def loss_of(net: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        seen, label = batch["seen"], batch["label"]
        if recipe.augment:
            seen = turned(seen, batch["view"])
            # Beyond the border no class is the largest: argmax then says 0, the background.
            label = turned(one_hot(label, classes).movedim(-1, 1).float(), batch["view"]).argmax(dim=1)
        return dense_loss(net(seen), label)

    def validate(net: nn.Module) -> dict[str, float]:
        scores = overlap(dense_areas(net, inputs, masks, validation_rows, classes))
        return {"mean_dice": float(np.nanmean(scores[SUMMED]))}

    data = TrainingData([str(i) for i in rows], load)
    trained = train(
        model, loss_of, data, recipe.settings(seed, device), folder=folder, steering=steering, progress=False,
        validate=validate if len(validation_rows) else None,
    )  # fmt: skip
    if trained.best is not None:
        load_weights(model, trained.best)
    return trained


def dense_loss(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return cross-entropy + 1 - soft Dice of logits (N, C, *S) and labels (N, *S), a mean over cases.

    Dice of each case and class, background too, squares nowhere, 1 added above and below (MONAI's DiceLoss with
    ``softmax``, smooth 1).
    """
    found, axes = torch.softmax(logits, dim=1), tuple(range(2, logits.ndim))
    wanted = one_hot(labels, logits.shape[1]).movedim(-1, 1).to(found.dtype)
    dice = (2 * (found * wanted).sum(axes) + 1) / (found.sum(axes) + wanted.sum(axes) + 1)
    dice_loss, entropy = 1 - dice.mean(), cross_entropy(logits, labels)
    return {"loss": dice_loss + entropy, "dice_loss": dice_loss, "cross_entropy": entropy}


@torch.no_grad()
def predict_dense(
    model: nn.Module, inputs: np.ndarray, rows: Sequence[int], batch_size: int = 32
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Yield rows, a batch at a time, and their label maps (b, H, W) int64, on the model's device, in evaluation."""
    model.eval()
    device = next(model.parameters()).device
    for start in range(0, len(rows), batch_size):
        some = list(rows[start : start + batch_size])
        seen = torch.from_numpy(np.asarray(inputs[some], dtype=np.float32)).to(device)
        yield some, model(seen).argmax(dim=1).cpu().numpy()


def dense_areas(
    model: nn.Module, inputs: np.ndarray, masks: np.ndarray, rows: Sequence[int], classes: int, batch_size: int = 32
) -> np.ndarray:
    """Return the areas (N, classes, 3) of each of ``rows``, what every overlap follows from (:mod:`areas`)."""
    parts = [areas(found, masks[some], classes) for some, found in predict_dense(model, inputs, rows, batch_size)]
    return np.concatenate(parts) if parts else np.zeros((0, classes, 3), dtype=np.int64)


@torch.no_grad()
def cached_maps(vit: ViT, images: np.ndarray, blocks: Sequence[int], batch_size: int = 64) -> np.ndarray:
    """Return the frozen maps of ``blocks`` of normalised ``images`` (n, C, H, W): (n, K, d, rows, columns) float16.

    On the backbone's device. Raises DataError where a value is too large for float16.
    """
    vit.eval()
    device, parts = next(vit.parameters()).device, []
    for start in range(0, len(images), batch_size):
        seen = torch.from_numpy(np.asarray(images[start : start + batch_size], dtype=np.float32)).to(device)
        with np.errstate(over="ignore"):
            parts.append(patch_maps(vit, seen, blocks).cpu().numpy().astype(np.float16))
        bad = np.flatnonzero(~np.isfinite(parts[-1]).reshape(len(seen), -1).all(axis=1))
        if bad.size:
            raise DataError(f"the patches of image {start + bad[0]} are not finite as float16")
    return np.concatenate(parts)


def fine_tuned_segmenter(vit: ViT, head: nn.Module, blocks: Sequence[int], *, drop_path: float = 0.4) -> Segmenter:
    """Return a segmenter whose backbone learns too; ``drop_path`` is UltraDINO's released 0.4."""
    for block in vit.blocks:
        block.drop_path = drop_path  # type: ignore[assignment]
    vit.mask_token.requires_grad_(False)
    return Segmenter(vit, head, blocks)
