"""The noise of an image: DDIM run backwards so that running it forwards gives the image again."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from medaudit.errors import UsageError
from medaudit.networks.diffusion.samplers import Denoise, times_of
from medaudit.networks.diffusion.schedule import NoiseSchedule

SETTLED = 1 / 255
"""Root mean square on the scale of images from -1 to 1: half a grey level of 256."""

_HALVES = (torch.float16, torch.bfloat16)


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
    tolerance: float = SETTLED

    @property
    def settled(self) -> Tensor:
        """(N,) bool: the residual is within the tolerance; painting from the noise then gives the image again."""
        return self.residual <= self.tolerance

    @property
    def finding(self) -> str | None:
        """What a reader must know if some noise did not settle, ``None`` if all did."""
        open_ = int((~self.settled).sum())
        if not open_:
            return None
        return (
            f"the noise of {open_} of {len(self.residual)} images did not settle: its last refinement still moved by "
            f"up to {float(self.residual.max()):.2g}, more than {self.tolerance:.2g}; painting from it gives other "
            "images. Ask for more refinements or more steps"
        )


@torch.no_grad()
def invert(
    denoise: Denoise, images: Tensor, schedule: NoiseSchedule, *, steps: int = 50, refinements: int = 3,
    tolerance: float | None = None, predicts: str,
) -> Inversion:  # fmt: skip
    """Return the noise from which DDIM with the same ``steps`` gives ``images`` (N, C, H, W), from -1 to 1.

    A step of DDIM from the noisier x is linear in x and in what the net says at x and its time. The published code and
    others ask the net at the less noisy end instead. Here the step is solved: the net is asked at the noisier time, at
    the last guess of x, and up to ``refinements`` times more; that converges where the net is smooth in x.

    ``tolerance`` (root mean square) leaves an image alone once a step moves it by no more, whatever its batch, and ends
    the step when all are there. Only the times near the image need many refinements: with a tolerance and a bound of
    20 or more the same number of evaluations comes much closer than with a fixed number at every time. Without one,
    noise counts as settled within half a grey level (``SETTLED``).

    Raises UsageError for images or a net in half precision, which cannot hold the differences.
    """
    if images.dtype in _HALVES:
        raise UsageError(f"images are {_short(images)}; an inversion needs float32 or float64")
    x, evaluations, before = images, 0, -1
    residual = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    for time in reversed(times_of(schedule, steps)):
        now, less = schedule.signal_at(time), schedule.signal_at(before)
        at = torch.full((len(x),), time, dtype=torch.int64, device=x.device)
        # x_less = sqrt(less / now) x - bend noise, solved for x.
        bend = math.sqrt(less * (1 - now) / now) - math.sqrt(1 - less)
        guess, moved = x, torch.full_like(residual, math.inf)
        for _ in range(refinements + 1):
            predicted = denoise(guess, at)
            if predicted.dtype in _HALVES:
                raise UsageError(f"the net answers in {_short(predicted)}; an inversion needs float32 or float64")
            evaluations += 1
            _, made = schedule.split(predicted.to(x.dtype), guess, at, predicts)
            better = math.sqrt(now / less) * (x + bend * made)
            moving = ~(moved <= tolerance) if tolerance is not None else torch.ones_like(moved, dtype=torch.bool)
            moved = torch.where(moving, (better - guess).square().flatten(1).mean(1).sqrt(), moved)
            guess = torch.where(moving.view(-1, *(1,) * (x.ndim - 1)), better, guess)
            if tolerance is not None and bool((moved <= tolerance).all()):
                break
        # torch.maximum keeps NaN: what diverged never counts as settled.
        residual = torch.maximum(residual, moved)
        x, before = guess, time
    return Inversion(
        x, residual, evaluations, x.flatten(1).std(1, correction=0), SETTLED if tolerance is None else tolerance
    )


def slerp(first: Tensor, last: Tensor, share: float) -> Tensor:
    """Return noise a ``share`` of the way from ``first`` to ``last`` along the sphere (Shoemake 1985).

    Both are (C, H, W), or (N, C, H, W), then image by image. The line is taken where they are parallel.
    """
    a, b = (x.double().flatten(1 if x.ndim > 3 else 0).view(len(x) if x.ndim > 3 else 1, -1) for x in (first, last))
    cosine = (a * b).sum(1, keepdim=True) / (a.norm(dim=1, keepdim=True) * b.norm(dim=1, keepdim=True)).clamp(
        min=1e-300
    )
    angle = torch.arccos(cosine.clamp(-1, 1))
    parallel = angle.sin() < 1e-7
    safe = torch.where(parallel, 1.0, angle)
    left = torch.where(parallel, 1 - share, torch.sin((1 - share) * safe) / safe.sin())
    right = torch.where(parallel, share, torch.sin(share * safe) / safe.sin())
    return (left * a + right * b).to(first.dtype).view_as(first)


def lerp(first: Tensor, last: Tensor, share: float) -> Tensor:
    """Return activations a ``share`` of the way from ``first`` to ``last`` along the line, exact at both ends."""
    return torch.lerp(first, last, share)


def _short(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
