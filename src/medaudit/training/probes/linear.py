"""Linear probing as DINOv2 does it: a grid of heads on frozen features, the best one chosen on validation cases.

All learning rates of one kind of features are one product: their weights lie side by side in a (d, H * C) matrix, the
gradient of softmax cross-entropy is known in closed form, and each head's columns move with a rate of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from medaudit.errors import DataError, UsageError
from medaudit.training.probes.measures import confusions, scores_of
from medaudit.training.sampling import places
from medaudit.training.schedules import rate_factor

RATES = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 1e-1)
"""DINOv2's 13 (``eval/linear.py``)."""


class CachedFeatures(Protocol):
    """Features of frozen blocks: ``layers`` (N, L, d), class tokens, last block last; ``mean_patch`` (N, d)."""

    @property
    def layers(self) -> np.ndarray:
        """Class tokens of the last L blocks."""

    @property
    def mean_patch(self) -> np.ndarray:
        """The mean patch token of the last block."""


@dataclass(frozen=True)
class LinearSettings:
    """How the grid is trained: SGD with momentum 0.9, no weight decay, cosine to 0."""

    epochs: int
    warmup_epochs: int
    rescale: bool
    """Rates times batch_size / 256, as DINOv2 means them."""
    batch_size: int = 128
    rates: tuple[float, ...] = RATES
    blocks: tuple[int, ...] = (1, 4)
    """Class tokens of how many last blocks, side by side."""
    avgpool: tuple[bool, ...] = (False, True)
    """With the mean patch token beside them, or without."""
    standardise: bool = False
    """Features to mean 0 and SD 1 of the training cases; neither protocol does."""
    select: str = "accuracy"
    """What chooses the head on validation cases; or ``macro_f1``."""
    momentum: float = 0.9
    seed: int = 0

    def __post_init__(self) -> None:
        if self.select not in ("accuracy", "macro_f1"):
            raise UsageError(f"select is '{self.select}'; expected accuracy or macro_f1")
        if min(self.epochs, self.batch_size, len(self.rates), len(self.blocks), len(self.avgpool), *self.blocks) < 1:
            raise UsageError("a linear grid needs one or more epochs, cases a batch, rates, blocks and avgpool choices")


LINEAR: dict[str, LinearSettings] = {
    "paper": LinearSettings(epochs=10, warmup_epochs=5, rescale=False),
    "fixed": LinearSettings(epochs=100, warmup_epochs=0, rescale=True),
}
"""``paper``: UltraDINO's released code, less its augmentation and mixing, which frozen features cannot have. ``fixed``:
DINOv2's rescaled rates and no warm-up; 100 epochs of 5,000 cases are a third of DINOv2's 12,500 steps (our choice)."""


@dataclass(frozen=True)
class Head:
    """One place of the grid and what it reached on validation cases."""

    rate: float
    """As named in the grid, before rescaling."""
    blocks: int
    avgpool: bool
    accuracy: float
    macro_f1: float


@dataclass(frozen=True, eq=False)
class LinearProbe:
    """The chosen head, logits = ((x - mean) / scale) @ weight (d, C) + bias (C,), and the whole grid's ``table``."""

    chosen: Head
    weight: np.ndarray
    bias: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    table: tuple[Head, ...]


def linear_probe(
    train: CachedFeatures, codes: np.ndarray, validation: CachedFeatures, validation_codes: np.ndarray, classes: int,
    settings: LinearSettings,
) -> LinearProbe:  # fmt: skip
    """Return the head of the grid that is best on validation cases, trained on training cases alone.

    Equally good heads: the one of fewer features, then of the smaller rate. Raises DataError for codes that are no
    class or features that are not finite, UsageError for more blocks than were kept.
    """
    y, wanted = _codes(codes, classes, len(train.layers)), np.asarray(validation_codes)
    _codes(wanted, classes, len(validation.layers))
    table: list[Head] = []
    best: LinearProbe | None = None
    for blocks in settings.blocks:
        for avgpool in settings.avgpool:
            x = variant(train, blocks, avgpool)
            mean, scale = standard(x) if settings.standardise else (np.zeros(x.shape[1]), np.ones(x.shape[1]))
            weight, bias = sgd_heads(_tensor(x, mean, scale), y, classes, settings)
            logits = _tensor(variant(validation, blocks, avgpool), mean, scale) @ weight + bias
            found = logits.view(len(wanted), -1, classes).argmax(dim=2).numpy()
            for h, rate in enumerate(settings.rates):
                score = scores_of(confusions(found[:, h], wanted, classes))
                head = Head(rate, blocks, avgpool, float(score["accuracy"]), float(score["macro_f1"]))
                table.append(head)
                if best is None or getattr(head, settings.select) > getattr(best.chosen, settings.select):
                    own = slice(h * classes, (h + 1) * classes)
                    best = LinearProbe(head, weight[:, own].numpy(), bias[own].numpy(), mean, scale, ())
    assert best is not None
    return LinearProbe(best.chosen, best.weight, best.bias, best.mean, best.scale, tuple(table))


def linear_probabilities(probe: LinearProbe, features: CachedFeatures) -> np.ndarray:
    """Return the chosen head's probabilities (N, C), float64."""
    x = _tensor(variant(features, probe.chosen.blocks, probe.chosen.avgpool), probe.mean, probe.scale)
    logits = x @ torch.from_numpy(probe.weight) + torch.from_numpy(probe.bias)
    return torch.softmax(logits.double(), dim=1).numpy()


def variant(features: CachedFeatures, blocks: int, avgpool: bool) -> np.ndarray:
    """Return the class tokens of the last ``blocks`` blocks side by side, (N, blocks * d [+ d]), as DINOv2 orders them.

    Raises UsageError where fewer were kept.
    """
    n, kept, _ = features.layers.shape
    if blocks > kept:
        raise UsageError(f"a head on {blocks} blocks, but features of {kept} were kept; keep the last {blocks}")
    tokens = features.layers[:, kept - blocks :].reshape(n, -1)
    return np.concatenate([tokens, features.mean_patch], axis=1) if avgpool else tokens


def sgd_heads(features: Tensor, codes: Tensor, classes: int, settings: LinearSettings) -> tuple[Tensor, Tensor]:
    """Return weights (d, H * C) and biases (H * C,) of H heads, one a rate, trained on ``features`` (n, d) float32.

    The step is torch's SGD with momentum and no dampening. Batches are full, of the house's order
    (``training.sampling``). Weights start from N(0, 0.01^2), biases from 0.
    """
    n, d = features.shape
    heads, batch = len(settings.rates), settings.batch_size
    weight, bias = started(d, heads, classes, settings.seed)
    pushed, pushed_bias = torch.zeros_like(weight), torch.zeros_like(bias)
    factor = batch / 256 if settings.rescale else 1.0
    rates = torch.tensor(settings.rates, dtype=torch.float32).mul(factor).repeat_interleave(classes)
    epoch_steps = max(1, n // batch)
    steps, warmup = settings.epochs * epoch_steps, settings.warmup_epochs * epoch_steps
    for step, some in enumerate(places(n, batch, settings.seed, range(steps), 0, 1)):
        rows = torch.tensor([index for index, _ in some])
        x = features[rows]
        gradient = torch.addmm(bias, x, weight).view(batch, heads, classes).softmax(dim=2)
        gradient.scatter_add_(2, codes[rows].view(batch, 1, 1).expand(-1, heads, -1), _minus_one(batch, heads))
        gradient = gradient.view(batch, heads * classes).div_(batch)
        torch.addmm(pushed, x.T, gradient, beta=settings.momentum, out=pushed)
        pushed_bias.mul_(settings.momentum).add_(gradient.sum(dim=0))
        now = rate_factor("cosine", step, steps, warmup)
        weight.addcmul_(pushed, rates, value=-now)
        bias.addcmul_(pushed_bias, rates, value=-now)
    return weight, bias


def started(d: int, heads: int, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return the first weights (d, H * C) and biases (H * C,)."""
    generator = torch.Generator().manual_seed(seed)
    return 0.01 * torch.randn(d, heads * classes, generator=generator), torch.zeros(heads * classes)


def _minus_one(batch: int, heads: int) -> Tensor:
    return torch.full((1, 1, 1), -1.0).expand(batch, heads, 1)


def standard(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and SD (d,) of features (n, d); an SD of 0 is 1, so that a constant stays finite."""
    scale = x.std(axis=0, dtype=np.float64)
    return x.mean(axis=0, dtype=np.float64), np.where(scale > 0, scale, 1.0)


def _tensor(x: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> Tensor:
    ready = torch.from_numpy(((x - mean) / scale).astype(np.float32))
    if not bool(torch.isfinite(ready).all()):
        bad = torch.nonzero(~torch.isfinite(ready).all(dim=1))
        raise DataError(f"the features of case {int(bad[0])} (and {len(bad) - 1} more) are not finite")
    return ready


def _codes(codes: Sequence[int] | np.ndarray, classes: int, n: int) -> Tensor:
    y = np.asarray(codes)
    if y.shape != (n,) or not n or y.min() < 0 or y.max() >= classes:
        raise DataError(f"codes have shape {y.shape}; expected {n} whole numbers from 0 to {classes - 1}")
    return torch.from_numpy(y.astype(np.int64))
