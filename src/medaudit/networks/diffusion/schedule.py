"""How much of an image is left at each time, and what follows: noised images, velocities, and back."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from medaudit.errors import UsageError

PREDICTED = ("noise", "velocity")


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """``signal`` (T,) float64, the products of 1 - beta that papers call alpha-bar: time 0 is the least noisy one.

    A noised image is sqrt(signal) x + sqrt(1 - signal) noise. Times are real ones from 0 to T - 1, all of them noisy
    and all of them to be trained; -1 means the image itself, whose signal is 1. Raises UsageError for a signal that
    does not fall within 0 to 1.
    """

    signal: np.ndarray

    def __post_init__(self) -> None:
        if self.signal.ndim != 1 or not len(self.signal) or not (np.diff(self.signal, prepend=1.0) < 0).all():
            raise UsageError(
                "the signal of a noise schedule does not fall from 1; expected one that falls at every time"
            )
        if not self.signal[-1] > 0:
            raise UsageError(f"the last signal of a noise schedule is {self.signal[-1]:.3g}; expected more than 0")

    @property
    def steps(self) -> int:
        """T."""
        return len(self.signal)

    def signal_at(self, time: int) -> float:
        """Return the signal at a time; 1 before time 0."""
        return 1.0 if time < 0 else float(self.signal[time])

    def noised(self, images: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """Return images (N, C, H, W) with noise at ``times`` (N,) (DDPM, arXiv 2006.11239, eq. 4)."""
        a, b = self._factors(times, images)
        return a * images + b * noise

    def velocity(self, images: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """Return v = sqrt(signal) noise - sqrt(1 - signal) x (arXiv 2202.00512, appendix D)."""
        a, b = self._factors(times, images)
        return a * noise - b * images

    def split(self, prediction: Tensor, noisy: Tensor, times: Tensor, predicts: str) -> tuple[Tensor, Tensor]:
        """Return the clean image and the noise that a prediction means. ``predicts``: ``noise`` or ``velocity``."""
        a, b = self._factors(times, noisy)
        if predicts == "velocity":
            return a * noisy - b * prediction, b * noisy + a * prediction
        if predicts != "noise":
            raise ValueError(f"predicts is '{predicts}'; expected one of {', '.join(PREDICTED)}")
        return (noisy - b * prediction) / a, prediction

    def log_snr(self, times: ArrayLike) -> np.ndarray:
        """Return log(signal / (1 - signal)) at times from 0 to T - 1."""
        signal = self.signal[np.asarray(times, dtype=int)]
        return np.log(signal) - np.log1p(-signal)

    def _factors(self, times: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        where = times.cpu().long() + 1
        if len(where) and int(where.min()) < 0:
            raise ValueError(f"time {int(where.min()) - 1}; expected -1, the image itself, to {self.steps - 1}")
        signal = torch.from_numpy(np.concatenate([[1.0], self.signal]))[where]
        shape = (-1,) + (1,) * (like.ndim - 1)
        # In float64 first: near time 0 the part of the noise is the root of a small difference.
        return tuple(x.to(like.dtype).to(like.device).view(shape) for x in (signal.sqrt(), (1 - signal).sqrt()))  # type: ignore[return-value]


def linear_schedule(steps: int = 1_000) -> NoiseSchedule:
    """Return DDPM's: beta from 1e-4 to 0.02 over 1,000 steps, scaled by 1,000 / T for other T (paper, 3.1).

    Raises UsageError for fewer than 21 steps, where beta would pass 1.
    """
    if steps < 21:
        raise UsageError(f"a linear noise schedule of {steps} steps; expected 21 or more, as 1,000")
    scale = 1_000 / steps
    return NoiseSchedule(np.cumprod(1 - np.linspace(scale * 1e-4, scale * 0.02, steps)))


def cosine_schedule(steps: int = 1_000, offset: float = 0.008) -> NoiseSchedule:
    """Return the one of arXiv 2102.09672, eq. 17, with its bound of 0.999 on beta."""

    def left(t: float) -> float:
        return math.cos((t / steps + offset) / (1 + offset) * math.pi / 2) ** 2

    beta = [min(0.999, 1 - left(t + 1) / left(t)) for t in range(steps)]
    return NoiseSchedule(np.cumprod(1 - np.array(beta)))
