"""Is it learning? The rank of features, an online kNN, and the two ways in which a training says nothing more."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from medaudit.errors import DataError
from medaudit.training.dinov2.recipe import Recipe

_SEEN = 2_048  # frames that the monitors look at, at most
_BATCH = 128
_LATE = 0.2  # share of the steps after which a loss on the plateau, or one feature for all, is no beginning any more
_SOON = 50  # steps that come before any verdict, however short the training is
_NEIGHBOURS = 20


def rankme(features: Tensor) -> float:
    """Return RankMe of features (n, d): the exponential of the entropy of the singular values (arXiv 2210.02885).

    Between 1, all on one line, and min(n, d). Features are not centred, as there; 1e-7 is added to each share.
    """
    values = torch.linalg.svdvals(features.double())
    p = values / values.sum().clamp(min=1e-300) + 1e-7
    return float(torch.exp(-(p * p.log()).sum()))


@dataclass(frozen=True)
class OnlineProbe:
    """Labels of some frames, which the training does not see: what a kNN makes of the teacher's features is logged.

    ``rows`` are places in the frames, ``codes`` (n,) their classes, ``groups`` (n,) their patients: a neighbour is
    never of the same patient.
    """

    rows: Sequence[int]
    codes: Sequence[int]
    groups: Sequence[str]


def resized(images: np.ndarray, side: int, mean: float, std: float) -> Tensor:
    """Return grey squares (n, S, S) uint8 as (n, 1, side, side), normalised."""
    x = torch.from_numpy(np.asarray(images, dtype=np.float32) / 255)[:, None]
    if x.shape[-1] != side:
        mode = "area" if x.shape[-1] > side else "bicubic"
        x = interpolate(x, size=(side, side), mode=mode)
    return (x - mean) / std


@torch.no_grad()
def features(
    model: nn.Module, channels: int, images: np.ndarray, side: int, mean: float, std: float
) -> tuple[Tensor, Tensor]:
    """Return the teacher's class tokens and mean patch tokens (n, d) of whole frames, float32, on the CPU."""
    device = next(model.parameters()).device
    cls, patches = [], []
    for i in range(0, len(images), _BATCH):
        x = resized(images[i : i + _BATCH], side, mean, std).to(device)
        seen = model(x.expand(-1, channels, -1, -1))
        cls.append(seen["cls"].float().cpu())
        patches.append(seen["patch"].float().cpu())
    return torch.cat(cls), torch.cat(patches)


def watching(
    recipe: Recipe, images: np.ndarray, mean: float, std: float, probe: OnlineProbe | None
) -> Callable[[nn.Module], dict[str, float]]:
    """Return what the loop calls after each epoch: ``rankme``, ``rankme_patch``, ``spread``, and ``knn`` with labels.

    All of the teacher, which is what is kept. ``spread`` is the mean SD of a class token's entries.
    """
    chosen = np.unique(np.linspace(0, len(images) - 1, min(_SEEN, len(images))).round().astype(int))

    def look(model: nn.Module) -> dict[str, float]:
        side = recipe.crops.global_side
        cls, patches = features(model, recipe.shape.channels, images[chosen], side, mean, std)
        found = {"rankme": rankme(cls), "rankme_patch": rankme(patches), "spread": float(cls.std(0).mean())}
        if probe is not None:
            found["knn"] = _knn(
                features(model, recipe.shape.channels, images[list(probe.rows)], side, mean, std)[0], probe
            )
        return found

    return look


def _knn(cls: Tensor, probe: OnlineProbe) -> float:
    """Return the share that the nearest other patients' frames name rightly."""
    z = normalize(cls, dim=1)
    _, groups = np.unique(np.asarray(probe.groups), return_inverse=True)
    group, code = torch.from_numpy(groups), torch.as_tensor(list(probe.codes))
    close = (z @ z.T).masked_fill(group[:, None] == group, -2.0)
    found, at = close.topk(min(_NEIGHBOURS, len(z) - 1), dim=1)
    votes = torch.zeros(len(z), int(code.max()) + 1)
    votes.scatter_add_(1, code[at], torch.where(found > -2, (found / 0.07).exp(), torch.zeros_like(found)))
    return float((votes.argmax(1) == code).float().mean())


def alarm(recipe: Recipe) -> Callable[[Mapping[str, float]], None]:
    """Return what ends a training that has collapsed, or has never begun to learn; it raises DataError."""
    plateau = math.log(recipe.prototypes)
    late, epoch = max(_LATE * recipe.steps, _SOON), recipe.steps // recipe.epochs

    def check(row: Mapping[str, float]) -> None:
        if row["step"] < late:
            return  # with LayerScale near 0 a fresh net's class tokens are all alike, as if they had collapsed
        at = f"at step {int(row['step'])} of {recipe.steps}"
        if row.get("val_rankme", math.inf) < 1.5 or row.get("val_spread", math.inf) < 1e-4:
            raise DataError(
                f"the training has collapsed {at}: all images have one feature (RankMe {row['val_rankme']:.2f}); "
                "lower the learning rate, or raise the weight of KoLeo; the last checkpoint is from before"
            )
        if row["dino"] < 0.01 * plateau:
            raise DataError(
                f"the training has collapsed {at}: all images have one prototype (DINO loss {row['dino']:.3f}); use "
                "Sinkhorn-Knopp, or a lower learning rate; the last checkpoint is from before"
            )
        if row["step"] - epoch >= late and row["dino"] > 0.995 * plateau:  # a mean over the epoch
            raise DataError(
                f"the training does not learn {at}: its DINO loss is {row['dino']:.3f}, and {plateau:.3f} is that of "
                "guessing (ln K); use fewer prototypes, a lower teacher temperature or BatchNorm in the head"
            )

    return check
