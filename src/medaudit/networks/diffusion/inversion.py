"""The noise of an image: DDIM run backwards so that running it forwards gives the image again."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from medaudit.errors import UsageError
from medaudit.networks.diffusion.samplers import Denoise, slerp, times_of
from medaudit.networks.diffusion.schedule import NoiseSchedule

__all__ = ["Inversion", "invert", "slerp"]


@dataclass(frozen=True, eq=False)
class Inversion:
    """``noise`` (N, C, H, W), and how well it was found."""

    noise: Tensor
    residual: Tensor
    """(N,): the largest root mean square, over all steps, by which the last refinement still moved an image."""
    evaluations: int
    """Of the net, for each image."""
    spread: Tensor
    """(N,): the SD of the noise; far from 1 it is no noise that the net was trained with."""


@torch.no_grad()
def invert(
    denoise: Denoise, images: Tensor, schedule: NoiseSchedule, *, steps: int = 50, refinements: int = 3,
    tolerance: float | None = None, predicts: str,
) -> Inversion:  # fmt: skip
    """Return the noise from which DDIM with the same ``steps`` gives ``images`` (N, C, H, W).

    A step of DDIM from the noisier x is linear in x and in what the net says at x and its time. The published code and
    others ask the net at the less noisy end instead. Here the step is solved: the net is asked at the noisier time, at
    the last guess of x, ``refinements`` times more; that converges where the net is smooth in x. ``tolerance`` ends a
    step's refinements once no image moves by more (root mean square). Raises UsageError for half precision, which
    cannot hold the differences.
    """
    if images.dtype == torch.float16:
        raise UsageError("images are float16; an inversion needs float32 or float64")
    x, evaluations = images, 0
    residual = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    before = -1
    for time in reversed(times_of(schedule, steps)):
        now, less = schedule.signal_at(time), schedule.signal_at(before)
        at = torch.full((len(x),), time, dtype=torch.int64, device=x.device)
        guess, moved = x, residual
        for k in range(refinements + 1):
            _, made = schedule.split(denoise(guess, at).to(x.dtype), guess, at, predicts)
            evaluations += 1
            # x_less = sqrt(less / now) x - (sqrt(less (1 - now) / now) - sqrt(1 - less)) noise, solved for x.
            bend = math.sqrt(less * (1 - now) / now) - math.sqrt(1 - less)
            better = math.sqrt(now / less) * (x + bend * made)
            moved = (better - guess).square().flatten(1).mean(1).sqrt()
            guess = better
            if k and tolerance is not None and float(moved.max()) <= tolerance:
                break
        residual = torch.maximum(residual, moved)
        x, before = guess, time
    return Inversion(x, residual, evaluations, x.flatten(1).std(1))
