"""Gradients, and what is left of them where the image is jittered: all of one pass."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medaudit.errors import UsageError
from medaudit.explanation.attributions.batching import (
    Scalar,
    every,
    finite,
    generator,
    in_batches,
    rows_at_once,
    slopes,
)  # fmt: skip

LAWS = ("gaussian", "ball")


def gradient(f: Scalar, x: Tensor, *, rows: Tensor | None = None, at_once: int | None = None) -> Tensor:
    """Return the derivative of what is explained at ``x`` (N, ...), of its shape."""
    which = every(x) if rows is None else rows
    found = torch.empty_like(x)

    def ask(start: int, stop: int) -> None:
        found[start:stop] = slopes(f, x[start:stop], which[start:stop])

    in_batches(ask, len(x), at_once or rows_at_once(f, x, which, gradients=True))
    return finite(found, "the gradient")


def input_times_gradient(f: Scalar, x: Tensor, *, rows: Tensor | None = None, at_once: int | None = None) -> Tensor:
    """Return the gradient times the model's input: zero, the mean where inputs were normalised, is absence."""
    return x * gradient(f, x, rows=rows, at_once=at_once)


@dataclass(frozen=True, eq=False)
class GradientBank:
    """Moments of the gradient over ``draws`` points near each image, each of the shape of ``x``, in float64."""

    draws: int
    mean: Tensor
    second: Tensor
    """The sum of squared deviations; likewise the third and fourth."""
    third: Tensor
    fourth: Tensor

    @property
    def smooth(self) -> Tensor:
        """SmoothGrad: the mean gradient (Smilkov et al. 2017)."""
        return self.mean.float()

    @property
    def squared(self) -> Tensor:
        """SmoothGrad-squared: the mean of squares (Hooker et al. 2019)."""
        return (self.mean**2 + self.second / self.draws).float()

    @property
    def variance(self) -> Tensor:
        """VarGrad: the variance (Adebayo et al. 2018), divided by ``draws`` - 1."""
        return (self.second / (self.draws - 1)).float()

    @property
    def smooth_error(self) -> Tensor:
        """The standard error of SmoothGrad."""
        return (self.second / (self.draws - 1) / self.draws).sqrt().float()

    @property
    def squared_error(self) -> Tensor:
        """The standard error of SmoothGrad-squared."""
        n, mean = self.draws, self.mean
        square = mean**2 + self.second / n
        fourth = self.fourth / n + 4 * mean * self.third / n + 6 * mean**2 * self.second / n + mean**4
        return ((fourth - square**2).clamp(min=0) / (n - 1)).sqrt().float()

    @property
    def variance_error(self) -> Tensor:
        """The standard error of VarGrad, for many draws."""
        n = self.draws
        return ((self.fourth / n - (self.second / n) ** 2).clamp(min=0) / n).sqrt().float()


def gradient_bank(
    f: Scalar, x: Tensor, sigma: float | Tensor, draws: int = 25, *, law: str = "gaussian", seed: int = 0,
    rows: Tensor | None = None, at_once: int | None = None,
) -> GradientBank:  # fmt: skip
    """Return moments of gradients at ``draws`` points about each of ``x`` (N, ...).

    Points are ``x`` plus Gaussian noise of standard deviation ``sigma``, or uniform in a Euclidean ball of radius
    ``sigma`` (law ``ball``), in the unit of the model's input (``Intensity.scaled`` brings one there); a tensor is
    broadcast. An image's draws depend on the seed and its number alone. Needs two draws or more.
    """
    if draws < 2:
        raise UsageError(f"{draws} draws were asked for; expected 2 or more")
    if law not in LAWS:
        raise UsageError(f"draws are {law!r}; expected one of {', '.join(LAWS)}")
    spread = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
    if not (spread >= 0).all():
        raise UsageError(f"sigma is {sigma}; expected 0 or more")
    which = every(x) if rows is None else rows
    step = at_once or rows_at_once(f, x, which, gradients=True)
    wide = torch.float32 if x.device.type == "mps" else torch.float64
    sums = [torch.zeros(x.shape, dtype=wide, device=x.device) for _ in range(4)]
    streams = [generator(seed, row, x.device) for row in which.tolist()]
    per = max(1, min(draws, step // max(min(len(x), step), 1)))
    done = 0
    while done < draws:
        many = min(per, draws - done)
        shake = torch.stack([_shake(x[0], law, stream) for stream in streams for _ in range(many)])
        shake = shake.reshape(len(x), many, *x.shape[1:])
        found = torch.empty_like(shake).flatten(0, 1)
        points = (x[:, None] + _of(spread, x)[:, None] * shake).flatten(0, 1)
        whose = which.repeat_interleave(many)

        def ask(
            start: int, stop: int, found: Tensor = found, points: Tensor = points, whose: Tensor = whose
        ) -> None:  # fmt: skip
            found[start:stop] = slopes(f, points[start:stop], whose[start:stop])

        in_batches(ask, len(points), step)
        _merge(sums, done, finite(found, "the gradient").reshape(shake.shape).to(wide))
        done += many
    return GradientBank(draws, *sums)


def _shake(one: Tensor, law: str, stream: torch.Generator) -> Tensor:
    drawn = torch.randn(one.shape, generator=stream, device=one.device, dtype=one.dtype)
    if law == "gaussian":
        return drawn
    radius = torch.rand((), generator=stream, device=one.device, dtype=one.dtype) ** (1 / one.numel())
    return drawn / drawn.norm() * radius


def _of(spread: Tensor, x: Tensor) -> Tensor:
    return spread.expand(x.shape) if spread.ndim else spread.expand(1, *x.shape[1:])


def _merge(sums: list[Tensor], before: int, found: Tensor) -> None:
    """Add draws (N, k, ...) to mean and central sums of ``before`` (Pébay, Sandia report 2008-6212)."""
    k = found.shape[1]
    mean = found.mean(1)
    off = found - mean[:, None]
    second, third, fourth = ((off**p).sum(1) for p in (2, 3, 4))
    if before == 0:
        for total, new in zip(sums, (mean, second, third, fourth), strict=True):
            total.copy_(new)
        return
    n, gap = before + k, mean - sums[0]
    m, s2, s3, s4 = (total.clone() for total in sums)
    sums[0].copy_(m + gap * k / n)
    sums[1].copy_(s2 + second + gap**2 * before * k / n)
    sums[2].copy_(s3 + third + gap**3 * before * k * (before - k) / n**2 + 3 * gap * (before * second - k * s2) / n)
    sums[3].copy_(
        s4 + fourth + gap**4 * before * k * (before**2 - before * k + k**2) / n**3
        + 6 * gap**2 * (before**2 * second + k**2 * s2) / n**2 + 4 * gap * (before * third - k * s3) / n
    )  # fmt: skip
