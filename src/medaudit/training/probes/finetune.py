"""Fine-tuning a whole backbone as a classifier: what the released UltraDINO code does, and what it says it does.

``paper``: the layer-wise decay of rates never reaches the optimiser, weight decay is AdamW's default 0.01, and the last
epoch is kept, because the best one was chosen upside down. ``fixed``: rates fall with depth, weight decay is as given
(none on biases, norms and tokens), and the epoch that is best on validation cases is kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, one_hot

from medaudit.errors import DataError, UsageError
from medaudit.networks.vit import ViT, layer_of
from medaudit.training.checkpoint import load_weights
from medaudit.training.classification import image_batches, turned
from medaudit.training.loop import Trained, train
from medaudit.training.probes.measures import confusions, scores_of
from medaudit.training.sampling import TrainingData
from medaudit.training.settings import TrainingSettings
from medaudit.training.steering import PLAIN, Steering


@dataclass(frozen=True)
class FineTuning:
    """How a classifier is fine-tuned. The defaults are the released code's settings, but for the augmentation's kinds.

    Images are mirrored, brightened (+-0.3 SD) and changed in contrast (+-30 %) by a chance of a half each; gamma, noise
    and grid distortion are not here.
    """

    fidelity: str = "fixed"
    """Or ``paper``."""
    epochs: int = 200
    warmup_epochs: int = 5
    batch_size: int = 128
    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    """0.01 in ``paper``, whatever is given."""
    layer_decay: float = 0.65
    """A block's rate is this of the next one's; without effect in ``paper``."""
    smoothing: float = 0.1
    mixup: float = 0.8
    """The parameter of Beta; 0: none."""
    cutmix: float = 1.0
    """The same; where both are above 0 each batch takes one of them, by a chance of a half."""
    drop_path: float = 0.0
    augment: bool = True
    precision: str = "32-true"

    def __post_init__(self) -> None:
        if self.fidelity not in ("paper", "fixed"):
            raise UsageError(f"fidelity is '{self.fidelity}'; expected paper or fixed")
        if not 0 < self.layer_decay <= 1:
            raise UsageError(f"layer_decay is {self.layer_decay}; expected above 0, at most 1")
        if not 0 <= self.smoothing < 1 or self.mixup < 0 or self.cutmix < 0:
            raise UsageError("expected smoothing from 0 to less than 1, mixup and cutmix 0 or more")


@dataclass(frozen=True, eq=False)
class FineTuned:
    """The model, in evaluation; the ``kept`` epoch, counted from 1; how it was trained; notes for a reader."""

    model: nn.Module
    kept: int
    trained: Trained
    notes: tuple[str, ...]


class ViTClassifier(nn.Module):
    """Normalised images (N, C, H, W) to logits (N, classes): batch norm without weights and a linear layer on cls."""

    def __init__(self, vit: ViT, classes: int, seed: int = 0) -> None:
        super().__init__()
        self.vit = vit
        self.norm = nn.BatchNorm1d(vit.shape.dim, eps=1e-6, affine=False)
        self.head = nn.Linear(vit.shape.dim, classes)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            self.head.weight.normal_(0, 0.01, generator=generator)
            self.head.bias.zero_()

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        return self.head(self.norm(self.vit(images).cls))


def fine_tune_classifier(
    vit: ViT, images: np.ndarray, codes: np.ndarray, rows: Sequence[int], validation_rows: Sequence[int], classes: int,
    how: FineTuning, folder: Path, *, seed: int, device: str = "cpu",
) -> FineTuned:  # fmt: skip
    """Return ``vit`` with a head, both trained on the cases ``rows`` of normalised ``images`` (n, C, H, W).

    ``codes`` (n,) are the classes. The weights of ``vit`` change in place. Goes on where ``folder`` was stopped, to the
    same bits: give each way of fine-tuning a folder of its own. Raises DataError for codes that are no class, without
    a validation case, and as the loop does.
    """
    y = np.asarray(codes)
    if y.shape != (len(images),) or y.min() < 0 or y.max() >= classes:
        raise DataError(f"codes have shape {y.shape}; expected {len(images)} whole numbers from 0 to {classes - 1}")
    if not len(validation_rows):
        raise DataError("no validation case; the epoch that is kept, or looked at, is judged on them")
    model = ViTClassifier(vit, classes, seed)
    for block in vit.blocks:
        block.drop_path = how.drop_path  # type: ignore[assignment]
    # No gradient reaches it without masks; several processes would wait for one.
    vit.mask_token.requires_grad_(False)

    def load(index: int, rng: np.random.Generator) -> dict[str, Tensor]:
        i = rows[index]
        chance, drawn = rng.random(3) < 0.5, rng.uniform(-0.3, 0.3, 2)
        image = np.asarray(images[i], dtype=np.float32)
        if how.augment:
            image = image * np.float32(1 + chance[0] * drawn[0]) + np.float32(chance[1] * drawn[1])
        view = np.asarray([0.0, 1.0, -1.0 if how.augment and chance[2] else 1.0], dtype=np.float32)
        return {"image": torch.from_numpy(image), "view": torch.from_numpy(view), "code": torch.tensor(int(y[i]))}

    def loss_of(net: nn.Module, batch: dict[str, Any]) -> Tensor:
        seen = turned(batch["image"], batch["view"]) if how.augment else batch["image"]
        seen, wanted = mixed(seen, smoothed(batch["code"], classes, how.smoothing), how.mixup, how.cutmix)
        return -(wanted * log_softmax(net(seen), dim=1)).sum(dim=1).mean()

    def validate(net: nn.Module) -> dict[str, float]:
        found = _probabilities(net, images, validation_rows).argmax(axis=1)
        score = scores_of(confusions(found, y[list(validation_rows)], classes))
        return {"accuracy": float(score["accuracy"]), "macro_f1": float(score["macro_f1"])}

    trained = train(
        model, loss_of, TrainingData([str(i) for i in rows], load), _settings(how, len(rows), seed, device),
        folder=folder, validate=validate, steering=steering_of(how), progress=False,
    )  # fmt: skip
    kept, notes = trained.epochs, ["augmented by mirroring, brightness and contrast alone"] * how.augment
    if how.fidelity == "paper":
        notes.append("as released: one rate for all layers, weight decay 0.01, the last epoch kept")
    elif trained.best is not None and trained.best_epoch is not None:
        load_weights(model, trained.best)
        kept = trained.best_epoch
    return FineTuned(model.eval(), kept, trained, tuple(notes))


def fine_tuned_probabilities(tuned: FineTuned, images: np.ndarray, rows: Sequence[int]) -> np.ndarray:
    """Return the probabilities (N, C) of the cases ``rows``, float64, computed on the model's device."""
    return _probabilities(tuned.model, images, rows)


def steering_of(how: FineTuning) -> Steering:
    """Return the groups and rates of a fine-tuning: all alike in ``paper``, by depth in ``fixed``."""
    return PLAIN if how.fidelity == "paper" else layered(how.layer_decay, how.weight_decay)


def layered(layer_decay: float, weight_decay: float) -> Steering:
    """Return rates that fall with depth, decay ** (depth + 1 - layer), for a model whose backbone is named ``vit``.

    A head has the whole rate. Weights of one axis and the tokens of the embedding are not decayed, as in DINOv2.
    """

    def groups(model: nn.Module) -> list[dict[str, Any]]:
        vit = model.get_submodule("vit")
        assert isinstance(vit, ViT)
        made: dict[tuple[float, bool], dict[str, Any]] = {}
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            inside = name.startswith("vit.")
            after = vit.shape.depth + 1 - layer_of(name.removeprefix("vit."), vit.shape.depth) if inside else 0
            decays = parameter.ndim > 1 and not name.endswith(("_token", "_tokens", "pos_embed"))
            start = {"params": [], "scale": layer_decay**after, "weight_decay": weight_decay if decays else 0.0}
            made.setdefault((after, decays), start)["params"].append(parameter)
        return list(made.values())

    def rates(groups: Sequence[dict[str, Any]], rate: float, step: int, steps: int) -> float:
        for group in groups:
            group["lr"] = rate * group["scale"]
        return rate

    return replace(PLAIN, groups=groups, rates=rates)


def smoothed(codes: Tensor, classes: int, smoothing: float) -> Tensor:
    """Return the targets (N, C): 1 - smoothing for the class, and smoothing / C for each, it too."""
    return one_hot(codes, classes).float() * (1 - smoothing) + smoothing / classes


def mixed(images: Tensor, targets: Tensor, mixup: float, cutmix: float) -> tuple[Tensor, Tensor]:
    """Return a batch mixed with itself in reverse order, images (N, C, H, W) and targets (N, C), as timm's batch mode.

    Mixup (arXiv 1710.09412) or cutmix (arXiv 1905.04899), with one share for the batch; after cutmix it is that of the
    pixels really replaced. Draws from torch's own generator, which the loop seeds at each step.
    """
    if not mixup and not cutmix:
        return images, targets
    cut = bool(cutmix) and (not mixup or bool(torch.rand(()) < 0.5))
    alpha = cutmix if cut else mixup
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    if not cut:
        return share * images + (1 - share) * images.flip(0), share * targets + (1 - share) * targets.flip(0)
    h, w = images.shape[-2:]
    half_h, half_w = (int(side * math.sqrt(1 - share)) // 2 for side in (h, w))
    row, column = int(torch.randint(h, ())), int(torch.randint(w, ()))
    rows = slice(max(0, row - half_h), min(h, row + half_h))
    columns = slice(max(0, column - half_w), min(w, column + half_w))
    images = images.clone()
    images[..., rows, columns] = images.flip(0)[..., rows, columns]
    share = 1 - (rows.stop - rows.start) * (columns.stop - columns.start) / (h * w)
    return images, share * targets + (1 - share) * targets.flip(0)


def _settings(how: FineTuning, cases: int, seed: int, device: str) -> TrainingSettings:
    epoch_steps = max(1, cases // how.batch_size)
    return TrainingSettings(
        epochs=how.epochs,
        epoch_steps=epoch_steps,
        batch_size=how.batch_size,
        learning_rate=how.learning_rate,
        weight_decay=0.01 if how.fidelity == "paper" else how.weight_decay,
        schedule="cosine",
        warmup_steps=how.warmup_epochs * epoch_steps,
        seed=seed,
        monitor="accuracy",
        higher_is_better=True,
        precision=how.precision,
        accelerator=device,
    )


@torch.no_grad()
def _probabilities(net: nn.Module, images: np.ndarray, rows: Sequence[int]) -> np.ndarray:
    net.eval()
    device = next(net.parameters()).device
    parts = [torch.softmax(net(some.to(device)).double(), dim=1).cpu() for some in image_batches(images, rows)]
    return torch.cat(parts).numpy()
