"""The exponential moving average of a model's parameters, beside the model and of its shape."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@torch.no_grad()
def start_average(model: nn.Module) -> list[Tensor]:
    """Return a copy of the parameters as they are: the average of nothing else yet."""
    return [parameter.detach().clone() for parameter in model.parameters()]


@torch.no_grad()
def update_average(average: list[Tensor], model: nn.Module, decay: float) -> None:
    """Move ``average`` in place: ``decay`` of itself and ``1 - decay`` of the parameters.

    After steps 1 ... T it is ``decay^T w_0 + (1 - decay) sum_t decay^(T - t) w_t``. There is no correction for the
    start, whose weight is gone after a few times ``1 / (1 - decay)`` steps.
    """
    torch._foreach_lerp_(average, [parameter.detach() for parameter in model.parameters()], 1 - decay)


@contextmanager
def averaged(model: nn.Module, average: list[Tensor] | None) -> Iterator[nn.Module]:
    """Return the model with the average as its parameters, for the time of the ``with``; ``None`` changes nothing.

    Values are exchanged in place, so that it also holds for a model whose parameters are sharded.
    """
    _exchange(model, average)
    try:
        yield model
    finally:
        _exchange(model, average)


@torch.no_grad()
def _exchange(model: nn.Module, average: list[Tensor] | None) -> None:
    for parameter, other in zip(model.parameters(), average or (), strict=average is not None):
        held = parameter.detach().clone()
        parameter.copy_(other)
        other.copy_(held)
