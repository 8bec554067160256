"""Monte-Carlo dropout for a VAE that was trained with it (Gal & Ghahramani, ICML 2016)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from medaudit.errors import UsageError
from medaudit.uncertainty.generators.encoder import Autoencoder, parts_of
from medaudit.uncertainty.generators.ensemble import members_variance

_WHOLE_CHANNELS = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
_KINDS = (nn.Dropout, *_WHOLE_CHANNELS)


@dataclass(frozen=True, eq=False)
class DropoutDraws:
    """``model`` itself, ``passes`` times, each time with one mask for all images; everything else is in eval mode.

    A mask follows from (``seed``, pass, layer): a pass is one net, whatever images and codes it is shown. Raises
    UsageError where the model has no dropout with a rate above 0, or a kind of dropout that shifts what it keeps.
    """

    model: Autoencoder
    passes: int
    seed: int

    def __post_init__(self) -> None:
        _layers(self.model)

    def __len__(self) -> int:
        return self.passes

    def __iter__(self) -> Iterator[Autoencoder]:
        layers = _layers(self.model)
        for t in range(self.passes):
            with _masked(layers, self.seed, t):
                yield self.model


def dropout_variance(
    model: Autoencoder, batches: Iterable[Tensor], passes: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the variance of the reconstruction over masks: its sum (N,) and its map (N, C, H, W) float32.

    Raises UsageError for fewer than two passes, and for a model without dropout: its passes could not differ.
    """
    return members_variance(DropoutDraws(model, passes, seed), batches)


def _layers(model: Autoencoder) -> list[Any]:
    found = [module for part in parts_of(model) for module in part.modules() if isinstance(module, _DropoutNd)]
    dropping = [layer for layer in found if layer.p > 0]
    if not dropping:
        raise UsageError(
            "the model has no dropout layer with a rate above 0, so all passes would be the same; train one with it, "
            "as VaeShape(dropout=0.1)"
        )
    for layer in dropping:
        if not isinstance(layer, _KINDS):
            raise UsageError(f"the model has {layer}; expected Dropout, or Dropout1d to Dropout3d")
    return dropping


@contextmanager
def _masked(layers: list[Any], seed: int, t: int) -> Iterator[None]:
    def hook(number: int) -> Any:
        def drop(layer: Any, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
            shape = output.shape[1:]
            if isinstance(layer, _WHOLE_CHANNELS):
                shape = torch.Size([shape[0], *(1,) * (len(shape) - 1)])
            generator = torch.Generator().manual_seed(_key(seed, t, number))
            kept = torch.rand(shape, generator=generator) >= layer.p
            return output * kept.to(output) / max(1 - layer.p, 1e-12)

        return drop

    # In eval mode a dropout layer gives back what it was given, and the hook drops from that.
    handles = [layer.register_forward_hook(hook(number)) for number, layer in enumerate(layers)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _key(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))
