"""How intensities became a model's inputs: what black is after normalising is not zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medaudit.errors import DataError, UsageError

_NAMES = ("black", "grey", "white")


@dataclass(frozen=True)
class Intensity:
    """A model's input is (intensity - mean) / std, a channel (or a table's column) at a time.

    Intensities lie in [low, high], in any unit (grey levels, HU, dB): ``low`` is black and ``high`` white. Each is a
    number, or one for each channel. Without normalising: mean 0 and std 1. Images that are windowed to [0, 1] first and
    then normalised have low 0 and high 1 here, and mean and std as the normalising has them.

    Raises UsageError for a std that is not above 0, and for a high that is not above low.
    """

    mean: float | tuple[float, ...] = 0.0
    std: float | tuple[float, ...] = 1.0
    low: float | tuple[float, ...] = 0.0
    high: float | tuple[float, ...] = 1.0

    def __post_init__(self) -> None:
        lengths = {len(value) for value in (self.mean, self.std, self.low, self.high) if isinstance(value, tuple)}
        if len(lengths) > 1:
            raise UsageError(f"mean, std, low and high are of {sorted(lengths)} channels; expected as many, or numbers")
        if not all(value > 0 for value in _all(self.std)):
            raise UsageError(f"the std is {self.std}; expected more than 0")
        if not (torch.as_tensor(self.high) > torch.as_tensor(self.low)).all():
            raise UsageError(f"intensities are in [{self.low}, {self.high}]; expected a high above the low")

    def of(self, value: float | str | Sequence[float] | Tensor) -> Tensor:
        """Return the intensity, () or (C,), of a name (black, grey, white) or a number in the unit of intensities.

        Raises UsageError for one that no image can have.
        """
        low, high = (torch.as_tensor(end, dtype=torch.float64) for end in (self.low, self.high))
        if isinstance(value, str):
            if value not in _NAMES:
                raise UsageError(f"the intensity is {value!r}; expected a number, {', '.join(_NAMES)}")
            return low + (high - low) * _NAMES.index(value) / 2
        asked = torch.as_tensor(value, dtype=torch.float64)
        span = 1e-6 * (high - low)
        if not ((asked >= low - span) & (asked <= high + span)).all():
            raise UsageError(f"the reference {value} lies outside what intensities can be, [{self.low}, {self.high}]; "
                             "is it in the unit of intensities, not of the model's input?")  # fmt: skip
        return asked

    def to_input(self, intensity: Tensor) -> Tensor:
        """Return the model's input of intensities (N, C, *spatial) or (N, d)."""
        return (intensity - _beside(self.mean, intensity)) / _beside(self.std, intensity)

    def to_intensity(self, x: Tensor) -> Tensor:
        """Return the intensities of a model's input (N, C, *spatial) or (N, d)."""
        return x * _beside(self.std, x) + _beside(self.mean, x)

    def reference(self, value: float | str | Sequence[float], like: Tensor) -> Tensor:
        """Return the model's input, (1, C or 1, 1 ...) to be broadcast with ``like``, of one intensity everywhere."""
        asked = self.of(value)
        mean, std = (torch.as_tensor(part, dtype=torch.float64) for part in (self.mean, self.std))
        return _beside(tuple(((asked - mean) / std).reshape(-1).tolist()), like)

    def clipped(self, x: Tensor) -> Tensor:
        """Return inputs as far as intensities go."""
        low, high = ((_beside(end, x) - _beside(self.mean, x)) / _beside(self.std, x) for end in (self.low, self.high))
        return torch.maximum(torch.minimum(x, high), low)

    def scaled(self, sd: float, like: Tensor) -> Tensor:
        """Return a spread in the unit of intensities as one of the model's inputs, to be broadcast with ``like``."""
        return sd / _beside(self.std, like)

    def check(self, x: Tensor, what: str = "the images") -> None:
        """Raise DataError where inputs (N, C, *spatial) are not what any intensity becomes."""
        seen = self.to_intensity(x)
        low, high = _beside(self.low, x), _beside(self.high, x)
        span = 1e-3 * (high - low)
        if ((seen < low - span) | (seen > high + span)).any():
            raise DataError(f"{what} have intensities from {float(seen.min()):.4g} to {float(seen.max()):.4g}; expected"
                            f" [{self.low}, {self.high}]: are mean and std those of the model?")  # fmt: skip


def _all(value: float | tuple[float, ...]) -> tuple[float, ...]:
    return value if isinstance(value, tuple) else (value,)


def _beside(value: float | tuple[float, ...], like: Tensor) -> Tensor:
    """Return (1, C or 1, 1 ...) of a value for each channel, on the device and of the type of ``like``."""
    parts = _all(value)
    if len(parts) not in (1, like.shape[1]):
        raise UsageError(f"mean, std, low or high are of {len(parts)} channels; expected {like.shape[1]}, or a number")
    return torch.tensor(parts, dtype=like.dtype, device=like.device).reshape(1, -1, *([1] * (like.ndim - 2)))
