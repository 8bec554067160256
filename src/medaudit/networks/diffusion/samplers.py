"""From noise to images: DDIM, ancestral DDPM, and a solver of second order that needs fewer steps."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from medaudit.errors import UsageError
from medaudit.networks.diffusion.schedule import NoiseSchedule

Denoise = Callable[[Tensor, Tensor], Tensor]
"""Noisy images (N, C, H, W) and their times (N,), int64, to a prediction of the images' shape."""

METHODS = ("ddim", "ddpm", "dpm-solver++")


def times_of(schedule: NoiseSchedule, steps: int) -> list[int]:
    """Return the times that are asked for, latest first: ``steps`` of them, from T - 1 down, evenly (``trailing``).

    The last step leads from the last of them to the image itself.
    """
    if not 1 <= steps <= schedule.steps:
        raise UsageError(f"{steps} steps; expected from 1 to the schedule's {schedule.steps}")
    return [round(schedule.steps * (1 - k / steps)) - 1 for k in range(steps)]


@torch.no_grad()
def sample(
    denoise: Denoise, noise: Tensor, schedule: NoiseSchedule, *, steps: int = 50, method: str = "ddim",
    eta: float = 0.0, predicts: str, generator: torch.Generator | None = None,
    seen: Callable[[int, Tensor, Tensor], None] | None = None,
) -> Tensor:  # fmt: skip
    """Return the images (N, C, H, W) that ``denoise`` makes of ``noise``; nothing is cut to a range.

    ``ddim`` (arXiv 2010.02502, eq. 12) is deterministic at ``eta`` 0; ``ddpm`` is its ``eta`` 1, ancestral sampling;
    ``dpm-solver++`` is the multistep solver of second order of arXiv 2211.01095 (algorithm 2), deterministic.
    ``seen(time, noisy, image)`` is called after each evaluation with what the net expects the clean image to be.
    """
    if method not in METHODS:
        raise UsageError(f"no sampler '{method}'; expected one of {', '.join(METHODS)}")
    eta = 1.0 if method == "ddpm" else eta
    times = times_of(schedule, steps)
    x, before = noise, None
    for k, time in enumerate(times):
        at = torch.full((len(x),), time, dtype=torch.int64, device=x.device)
        image, made = schedule.split(denoise(x, at).to(x.dtype), x, at, predicts)
        if seen is not None:
            seen(time, x, image)
        after = times[k + 1] if k + 1 < len(times) else -1
        if method == "dpm-solver++":
            x, before = _second_order(schedule, x, image, times, k, before), image
            continue
        now, next_ = schedule.signal_at(time), schedule.signal_at(after)
        variance = eta**2 * (1 - next_) / (1 - now) * (1 - now / next_)
        x = math.sqrt(next_) * image + math.sqrt(max(0.0, 1 - next_ - variance)) * made
        if variance > 0:
            x = x + math.sqrt(variance) * torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)
    return x


def _second_order(
    schedule: NoiseSchedule, x: Tensor, image: Tensor, times: list[int], k: int, before: Tensor | None
) -> Tensor:
    """Return x one step on, by the images expected now and before; of first order at both ends."""
    after = times[k + 1] if k + 1 < len(times) else -1
    if after < 0:
        return image
    here, there = (_half_log_snr(schedule, t) for t in (times[k], after))
    step = there - here
    expected = image
    if before is not None:
        ratio = (here - _half_log_snr(schedule, times[k - 1])) / step
        expected = (1 + 1 / (2 * ratio)) * image - 1 / (2 * ratio) * before
    signal_now, signal_next = schedule.signal_at(times[k]), schedule.signal_at(after)
    return math.sqrt((1 - signal_next) / (1 - signal_now)) * x - math.sqrt(signal_next) * math.expm1(-step) * expected


def _half_log_snr(schedule: NoiseSchedule, time: int) -> float:
    signal = schedule.signal_at(time)
    return 0.5 * (math.log(signal) - math.log1p(-signal))


def slerp(first: Tensor, last: Tensor, share: float) -> Tensor:
    """Return noise a ``share`` of the way from ``first`` to ``last`` along the sphere; the line where they are
    parallel.
    """
    a, b = first.flatten().double(), last.flatten().double()
    angle = float(torch.arccos((a @ b / (a.norm() * b.norm())).clamp(-1, 1)))
    if share in (0, 1) or math.sin(angle) < 1e-7:
        return first + (last - first) * share if share not in (0, 1) else (last if share else first).clone()
    weights = np.sin([(1 - share) * angle, share * angle]) / math.sin(angle)
    return (weights[0] * a + weights[1] * b).to(first.dtype).view_as(first)
