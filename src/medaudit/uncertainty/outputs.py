"""What one pass of a classifier gives, and what a method says of it: the two shapes that this room speaks in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medaudit.errors import DataError, UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Outputs:
    """One forward pass over N cases: ``logits`` (N, C), ``features`` (N, D) that the head saw, ``labels`` (N,) or None.

    All float64 (labels int64, -1 where unknown): scores are computed after the forward pass, where float32 would make
    ties of saturated probabilities.
    """

    logits: np.ndarray
    features: np.ndarray | None = None
    labels: np.ndarray | None = None

    def __post_init__(self) -> None:
        logits = np.asarray(self.logits, dtype=np.float64)
        if logits.ndim != 2 or logits.shape[1] < 2:
            raise DataError(f"logits have shape {logits.shape}; expected (cases, classes) with 2 classes or more")
        bad = np.flatnonzero(~np.isfinite(logits).all(axis=1))
        if bad.size:
            raise DataError(
                f"the logits of {bad.size} of {len(logits)} cases are not finite, the first is row {bad[0]}; "
                "look at that case's image, or at a training that diverged"
            )
        object.__setattr__(self, "logits", logits)
        if self.features is not None:
            features = np.asarray(self.features, dtype=np.float64)
            if features.ndim != 2 or len(features) != len(logits):
                raise DataError(f"features have shape {features.shape}; expected ({len(logits)}, D), a row a case")
            bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
            if bad.size:
                raise DataError(f"the features of {bad.size} cases are not finite, the first is row {bad[0]}")
            object.__setattr__(self, "features", features)
        if self.labels is not None:
            labels = np.asarray(self.labels, dtype=np.int64)
            if labels.shape != (len(logits),):
                raise DataError(f"{labels.shape} labels for {len(logits)} cases")
            object.__setattr__(self, "labels", labels)

    def __len__(self) -> int:
        return len(self.logits)

    @property
    def probabilities(self) -> np.ndarray:
        """The softmax of the logits, (N, C)."""
        shifted = np.exp(self.logits - self.logits.max(axis=1, keepdims=True))
        return shifted / shifted.sum(axis=1, keepdims=True)

    def take(self, rows: np.ndarray) -> Outputs:
        """Return the outputs of some cases."""
        some = lambda array: None if array is None else array[rows]
        return Outputs(self.logits[rows], some(self.features), some(self.labels))

    def known(self) -> Outputs:
        """Return the cases with a label; DataError where there is none."""
        if self.labels is None or not (self.labels >= 0).any():
            raise DataError("no case has a label; expected the labels of the training or validation cases")
        return self.take(self.labels >= 0)


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """What a method says of N cases: its ``scores`` by name, (N,) each, and its predictive ``probabilities`` (N, C).

    Larger scores are more uncertain, or less like the training data. ``passes`` is what it cost, in forward passes of
    the whole net. ``notes``: what a reader of the numbers must know.
    """

    scores: Mapping[str, np.ndarray]
    probabilities: np.ndarray
    passes: float
    notes: tuple[str, ...] = ()


def collect(
    model: nn.Module, batches: Iterable[Tensor], *, head: nn.Module | None = None, labels: Sequence[int] | None = None
) -> Outputs:
    """Return the outputs of one pass of the user's own ``model`` over ``batches`` of images (n, C, H, W).

    ``features`` are what enters ``head``: by default the last ``nn.Linear``. The model is put into eval mode for the
    pass and its modes are given back after it. Raises UsageError where the model has no linear layer and no head is
    named, or where the head is not part of the model.
    """
    import torch

    last = head if head is not None else last_linear(model)
    logits: list[np.ndarray] = []
    with evaluating(model), head_inputs(model, last) as features, torch.no_grad():
        device = device_of(model)
        for images in batches:
            logits.append(model(images.to(device)).double().cpu().numpy())
    if not logits:
        raise DataError("no batch of images was given")
    found = None if labels is None else np.asarray(labels)
    return Outputs(np.concatenate(logits), np.concatenate(features), found)


def last_linear(model: nn.Module) -> nn.Linear:
    """Return the last linear layer of a classifier; UsageError where it has none."""
    from torch import nn

    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise UsageError(f"{type(model).__name__} has no linear layer; name the module whose input are the features")
    return layers[-1]


def device_of(model: nn.Module) -> Any:
    """Return the device of a model's weights; the CPU for a model without any."""
    import torch

    first = next(model.parameters(), None)
    return torch.device("cpu") if first is None else first.device


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode; each module gets its own mode back, whatever happens."""
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in before:
            module.training = mode


@contextmanager
def head_inputs(model: nn.Module, head: nn.Module) -> Iterator[list[np.ndarray]]:
    """Return a list that grows by one (n, D) float64 array a forward pass: what enters ``head``, flattened."""
    if all(module is not head for module in model.modules()):
        raise UsageError(f"the head, a {type(head).__name__}, is not part of the model, a {type(model).__name__}")
    seen: list[np.ndarray] = []

    def keep(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        seen.append(inputs[0].detach().double().flatten(1).cpu().numpy())

    handle = head.register_forward_pre_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()
