"""Fill in removed pixels from their neighbours: each the weighted mean of those around it (Rong et al., ICML 2022)."""

from __future__ import annotations

import torch
from torch import Tensor

from medaudit.errors import DataError


def impute(x: Tensor, removed: Tensor, *, tolerance: float = 1e-5, most: int = 2_000) -> Tensor:
    """Return images ``x`` (N, C, *spatial) whose ``removed`` (N, *spatial) pixels solve the mean equations.

    A removed pixel is the mean of its neighbours, removed ones among them; in two dimensions those beside it weigh 2,
    those across a corner 1, and at a border those that there are (three dimensions: 4, 2, 1). All images and channels
    are solved together by conjugate gradients, from a coarse-to-fine start, until each residual is ``tolerance`` of
    what it was to be, or after ``most`` steps. An image of which nothing is left gets the mean it had. Raises DataError
    where shapes do not fit.
    """
    if x.ndim < 3 or tuple(removed.shape) != (len(x), *x.shape[2:]):
        raise DataError(
            f"images have shape {tuple(x.shape)} and removed pixels {tuple(removed.shape)}; expected (N, C, *spatial) "
            "and (N, *spatial)"
        )
    axes = tuple(range(2, x.ndim))
    unknown = removed.unsqueeze(1).to(x.dtype)
    kept = 1 - unknown
    weight = _around(torch.ones_like(unknown[:1]))  # with a pixel's own weight, which cancels below
    there = kept.sum(axes, keepdim=True)
    middle = torch.where(there > 0, (x * kept).sum(axes, keepdim=True) / there.clamp(min=1), x.mean(axes, keepdim=True))
    # About the mean of what is known: a constant then costs no step, and single precision is enough.
    known = (x - middle) * kept

    def operator(v: Tensor) -> Tensor:
        return unknown * (weight * v - _around(v))

    goal = unknown * _around(known)
    guess = unknown * _coarse(known, kept)
    residual = goal - operator(guess)
    # A neighbour's own weight is in both terms: the diagonal is the weight of the others alone.
    diagonal = weight - 2.0 ** len(axes)
    bound = tolerance**2 * goal.square().sum(axes, keepdim=True)
    scaled = residual / diagonal
    direction, power = scaled, (residual * scaled).sum(axes, keepdim=True)
    for _ in range(most):
        if not bool((residual.square().sum(axes, keepdim=True) > bound).any()):
            break
        image = operator(direction)
        bend = (direction * image).sum(axes, keepdim=True)
        step = torch.where(bend > 0, power / bend.clamp(min=torch.finfo(x.dtype).tiny), torch.zeros_like(bend))
        guess = guess + step * direction
        residual = residual - step * image
        scaled = residual / diagonal
        new = (residual * scaled).sum(axes, keepdim=True)
        ratio = torch.where(power > 0, new / power.clamp(min=torch.finfo(x.dtype).tiny), torch.zeros_like(power))
        direction, power = scaled + ratio * direction, new
    return torch.where(unknown > 0, guess + middle, x)


def _around(v: Tensor) -> Tensor:
    """Return the sum over each pixel's surroundings, (1, 2, 1) along every axis, nothing beyond the border."""
    for axis in range(2, v.ndim):
        summed = 2 * v
        size = v.shape[axis] - 1
        summed.narrow(axis, 1, size).add_(v.narrow(axis, 0, size))
        summed.narrow(axis, 0, size).add_(v.narrow(axis, 1, size))
        v = summed
    return v


def _coarse(known: Tensor, kept: Tensor) -> Tensor:
    """Return a first guess of every pixel: the mean of what is known near it, as near as it is known."""
    if min(known.shape[2:]) < 2 or bool((kept > 0).all()):
        return known / kept.clamp(min=1e-6)
    sums, counts = known, kept
    for axis in range(2, known.ndim):
        sums, counts = _halved(sums, axis), _halved(counts, axis)
    coarse = (
        _coarse(sums, counts) if min(sums.shape[2:]) > 1 else torch.where(counts > 0, sums / counts.clamp(min=1e-6), 0)
    )
    mean = torch.where(counts > 0, sums / counts.clamp(min=1e-6), coarse)
    for axis in range(2, known.ndim):
        mean = mean.repeat_interleave(2, axis).narrow(axis, 0, known.shape[axis])
    return torch.where(kept > 0, known / kept.clamp(min=1e-6), mean)


def _halved(v: Tensor, axis: int) -> Tensor:
    if v.shape[axis] % 2:
        v = torch.cat([v, torch.zeros_like(v.narrow(axis, 0, 1))], axis)
    return v.unflatten(axis, (-1, 2)).sum(axis + 1)
