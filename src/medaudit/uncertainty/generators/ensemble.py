"""Variance over members: a deep ensemble's, or any nets that were drawn.

Lakshminarayanan et al., NeurIPS 2017, for the ensemble of trainings; here the members are VAEs, and what varies is the
reconstruction of the mean code.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from medaudit.errors import DataError
from medaudit.uncertainty.generators.encoder import Autoencoder, at_rest
from medaudit.uncertainty.generators.spread import Spread, pieces, spread_of


class Members(Protocol):
    """Nets that can be gone through again and again: a list of trained ones, or draws that are made anew each time."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Autoencoder]: ...


@dataclass(frozen=True, eq=False)
class WeightDraws:
    """``count`` copies of ``model`` with weights from ``sample``: the same in every pass, and one at a time.

    Only one copy exists, so a net must be used before the next is asked for. ``model`` itself is not changed.
    """

    model: nn.Module
    sample: Callable[[torch.Generator], Mapping[str, Tensor]]
    count: int
    seed: int

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Autoencoder]:
        net = copy.deepcopy(self.model)
        names = {name: value.shape for name, value in net.state_dict().items()}
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(self.count):
            weights = self.sample(generator)
            if wrong := [name for name, value in weights.items() if names.get(name) != value.shape]:
                raise DataError(
                    f"the posterior is of another net than this {type(net).__name__}: it has a '{wrong[0]}' of shape "
                    f"{tuple(weights[wrong[0]].shape)}"
                )
            net.load_state_dict(weights, strict=False)
            yield net


def members_spread(models: Members, batches: Iterable[Tensor]) -> Spread:
    """Return the variance of the mean reconstructions over ``models``, over their number - 1: sum, error, map.

    Raises UsageError for fewer than two members.
    """

    def made() -> Iterator[Tensor]:
        for images in pieces(batches, len(models)):
            yield torch.stack([reconstruct(model, images).cpu() for model in models])

    return spread_of(made(), len(models))


def members_variance(models: Members, batches: Iterable[Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Return the sum (N,) and the map (N, C, H, W) float32 of :func:`members_spread`, without its standard error."""
    found = members_spread(models, batches)
    return found.score, found.pixels


def reconstruct(model: Autoencoder, images: Tensor) -> Tensor:
    """Return the reconstruction of ``images`` (N, C, H, W) from their mean codes."""
    with at_rest(model) as device:
        return model.decoder(model.encoder(images.to(device))[0])
