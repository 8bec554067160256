"""Which part of an answer is shown: each step changes what a map says, and is a step of its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from medaudit.errors import UsageError
from medaudit.explanation.attributions.absence import blurred


def over_channels(attribution: Tensor) -> Tensor:
    """Return (N, *spatial) float32, signed: the sum over channels of (N, C, *spatial); a table (N, d) as it is."""
    return (attribution if attribution.ndim == 2 else attribution.sum(1)).float()


def shown(maps: Tensor, how: str) -> Tensor:
    """Return maps as ``signed``, ``absolute``, ``positive`` or ``squared``."""
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "signed": lambda m: m,
        "absolute": torch.abs,
        "positive": lambda m: m.clamp(min=0),
        "squared": torch.square,
    }
    if how not in ways:
        raise UsageError(f"maps are shown {how!r}; expected one of {', '.join(ways)}")
    return ways[how](maps)


def clipped(maps: Tensor, percentile: float) -> Tensor:
    """Return maps (N, ...) cut where that percentile of each one's absolute values lies."""
    if not 0 < percentile <= 100:
        raise UsageError(f"the percentile is {percentile}; expected more than 0, at most 100")
    size = maps.flatten(1).abs()
    # torch.quantile takes 16 million numbers at most
    limit = size.kthvalue(max(1, round(percentile / 100 * size.shape[1])), dim=1).values
    limit = limit.reshape(-1, *([1] * (maps.ndim - 1)))
    return torch.maximum(torch.minimum(maps, limit), -limit)


def smoothed(maps: Tensor, sigma: float) -> Tensor:
    """Return maps (N, *spatial) blurred by a Gaussian of ``sigma`` pixels."""
    if not sigma > 0:
        raise UsageError(f"the sigma is {sigma}; expected more than 0 pixels")
    return blurred(maps[:, None], sigma)[:, 0]
