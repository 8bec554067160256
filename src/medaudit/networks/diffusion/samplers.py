"""From noise to images: DDIM, ancestral DDPM, and a solver of second order that needs fewer steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise

import torch
from torch import Tensor

from medaudit.errors import UsageError
from medaudit.networks.diffusion.schedule import NoiseSchedule

Denoise = Callable[[Tensor, Tensor], Tensor]
"""Noisy images (N, C, H, W) and their times (N,), int64, to a prediction of the images' shape."""

METHODS = ("ddim", "ddpm", "dpm-solver++")


def times_of(schedule: NoiseSchedule, steps: int) -> list[int]:
    """Return the times that are asked for, latest first: ``steps`` of them, from T - 1 down, evenly.

    The last step leads from the last of them to the image itself. This is what diffusers calls ``trailing`` (arXiv
    2305.08891, table 2): the first time is always the noisiest. Raises UsageError for fewer than 1 or more than T.
    """
    if not 1 <= steps <= schedule.steps:
        raise UsageError(f"{steps} steps; expected from 1 to the schedule's {schedule.steps}")
    return [round(Fraction(schedule.steps * (steps - k), steps)) - 1 for k in range(steps)]


@torch.no_grad()
def sample(
    denoise: Denoise, noise: Tensor, schedule: NoiseSchedule, *, steps: int = 50, method: str = "ddim",
    eta: float = 0.0, predicts: str, generator: torch.Generator | Sequence[torch.Generator] | None = None,
    seen: Callable[[int, Tensor, Tensor], None] | None = None,
) -> Tensor:  # fmt: skip
    """Return the images (N, C, H, W) that ``denoise`` makes of ``noise``; nothing is cut to a range.

    ``ddim`` (arXiv 2010.02502, eq. 12) is deterministic at ``eta`` 0; ``ddpm`` is its ``eta`` 1, ancestral sampling;
    ``dpm-solver++`` is the multistep solver of second order of arXiv 2211.01095 (algorithm 2), deterministic. It solves
    what ``ddim`` at ``eta`` 0 solves, with an error that falls with the square of the steps: take it to paint from
    fresh noise in 20 to 50 steps, and ``ddim`` to paint from the noise that :func:`invert` found with it.

    ``generator`` draws the fresh noise of ``ddpm`` and of ``eta`` above 0; one for each image makes an image's draws
    independent of its batch. ``seen(time, noisy, image)`` is called after each evaluation with what the net expects the
    clean image to be. Raises UsageError for a method that is not there, and for an ``eta`` that means nothing.
    """
    eta = _eta(method, eta)
    times = [*times_of(schedule, steps), -1]
    x, before = noise, None
    for k, (time, after) in enumerate(pairwise(times)):
        at = torch.full((len(x),), time, dtype=torch.int64, device=x.device)
        image, made = schedule.split(denoise(x, at).to(x.dtype), x, at, predicts)
        if seen is not None:
            seen(time, x, image)
        if method == "dpm-solver++":
            x, before = _second_order(schedule, x, image, before, times[max(0, k - 1) : k + 2]), image
            continue
        now, next_ = schedule.signal_at(time), schedule.signal_at(after)
        variance = eta**2 * (1 - next_) / (1 - now) * (1 - now / next_)
        x = math.sqrt(next_) * image + math.sqrt(max(0.0, 1 - next_ - variance)) * made
        if variance > 0:
            x = x + math.sqrt(variance) * _fresh(x, generator)
    return x


def _eta(method: str, eta: float) -> float:
    if method not in METHODS:
        raise UsageError(f"no sampler '{method}'; expected one of {', '.join(METHODS)}")
    if not 0 <= eta <= 1 or (eta and method == "dpm-solver++"):
        raise UsageError(f"eta is {eta} for the sampler '{method}'; expected 0 to 1 for ddim, and 0 for dpm-solver++")
    return 1.0 if method == "ddpm" else eta


def _fresh(x: Tensor, generator: torch.Generator | Sequence[torch.Generator] | None) -> Tensor:
    """Return noise like ``x``, drawn where the generators are: on the CPU it is the same for every device."""
    if generator is None:
        raise ValueError("this sampler draws noise; expected a generator, or one for each image")
    if isinstance(generator, torch.Generator):
        return torch.randn(x.shape, generator=generator, dtype=x.dtype, device=generator.device).to(x.device)
    if len(generator) != len(x):
        raise ValueError(f"{len(generator)} generators for {len(x)} images; expected one for each")
    drawn = [
        torch.randn(x.shape[1:], generator=one, dtype=x.dtype, device=one.device).to(x.device) for one in generator
    ]
    return torch.stack(drawn)


def _second_order(
    schedule: NoiseSchedule, x: Tensor, image: Tensor, before: Tensor | None, times: Sequence[int]
) -> Tensor:
    """Return x at the last of ``times``, by the images expected now and one step before; of first order at both
    ends.
    """
    now, after = times[-2:]
    if after < 0:
        return image
    half = [0.5 * float(value) for value in schedule.log_snr(times)]
    step = half[-1] - half[-2]
    expected = image
    if before is not None:
        weight = step / (2 * (half[1] - half[0]))
        expected = (1 + weight) * image - weight * before
    signal_now, signal_next = schedule.signal_at(now), schedule.signal_at(after)
    kept = math.sqrt((1 - signal_next) / (1 - signal_now))
    return kept * x - math.sqrt(signal_next) * math.expm1(-step) * expected
