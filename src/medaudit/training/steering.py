"""What a training does beyond its settings: rates of its own for some weights, parts cut alone, a teacher."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn


def _all_alike(model: nn.Module) -> list[dict[str, Any]]:
    return [{"params": [parameter for parameter in model.parameters() if parameter.requires_grad]}]


def _one_rate(groups: Sequence[dict[str, Any]], rate: float, step: int, steps: int) -> float:
    for group in groups:
        group["lr"] = rate
    return rate


def _together(model: nn.Module) -> None:
    return None


def _nothing(model: nn.Module, step: int, steps: int) -> None:
    return None


def _anything(row: Mapping[str, float]) -> None:
    return None


@dataclass(frozen=True)
class Steering:
    """Five functions that the loop asks; each default is what a plain training does.

    ``after_step`` may change weights that do not learn by gradients; they must be part of the model, so that a
    checkpoint holds them.
    """

    groups: Callable[[nn.Module], list[dict[str, Any]]] = _all_alike
    """The optimiser's groups of weights."""
    rates: Callable[[Sequence[dict[str, Any]], float, int, int], float] = _one_rate
    """(groups, rate of the settings' schedule, step, steps): sets each group's rate; returns what is logged."""
    parts: Callable[[nn.Module], Sequence[nn.Module] | None] = _together
    """The modules whose gradients are cut each by itself; None: all together. Not for ``16-mixed``."""
    after_step: Callable[[nn.Module, int, int], None] = _nothing
    """(model, step, steps), after the weights moved."""
    check: Callable[[Mapping[str, float]], None] = _anything
    """Sees each epoch's row before it is kept, the same in every process; what it raises ends the training."""


PLAIN = Steering()
