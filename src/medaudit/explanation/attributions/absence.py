"""What "not there" means: references that an image is compared with, and pictures of what a part would be without.

Random ones draw for each image by its number (``rows``) and the seed: not by the batch that it comes in.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from medaudit.errors import DataError, UsageError
from medaudit.explanation.attributions.batching import every, generator
from medaudit.explanation.attributions.intensity import Intensity


@dataclass(frozen=True, eq=False)
class Absence:
    """Either references, which know the image only, or a painter, which knows what of it is left."""

    name: str
    count: int = 1
    """K: over how many an effect is averaged."""
    references: Callable[[Tensor, Tensor], Tensor] | None = None
    """(x (n, ...), rows (n,)) to (K, n, ...)."""
    paint: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
    """(x (n, C, *spatial), keep (n, *spatial) bool, rows (n,)) to (K, n, C, *spatial); of tables (n, d) likewise."""

    def __call__(self, x: Tensor, rows: Tensor | None = None) -> Tensor:
        """Return references (K, N, ...) of inputs ``x`` (N, ...).

        Raises UsageError where what is absent depends on what is left, and DataError for references of another shape.
        """
        if self.references is None:
            raise UsageError(f"absence by {self.name} depends on which parts are left, and has no reference image; "
                             "expected a method that removes parts")  # fmt: skip
        found = self.references(x, every(x) if rows is None else rows)
        return self._checked(found, x)

    def filled(self, x: Tensor, keep: Tensor, rows: Tensor) -> Tensor:
        """Return (K, n, ...): inputs of which only ``keep``, (n, *spatial) or of tables (n, d), is left as it is."""
        there = keep if x.ndim == 2 else keep.unsqueeze(1)
        if self.paint is None:
            return torch.where(there, x, self(x, rows))
        painted = self._checked(self.paint(x, keep, rows), x)
        return torch.where(there, x, painted)

    def _checked(self, found: Tensor, x: Tensor) -> Tensor:
        if not isinstance(found, Tensor) or found.shape != (self.count, *x.shape):
            what = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
            raise DataError(f"absence by {self.name} returns {what}; expected {(self.count, *x.shape)}")
        if not torch.isfinite(found).all():
            raise DataError(f"absence by {self.name} is not finite; expected finite numbers")
        return found


def constant(value: float | str | Sequence[float], intensity: Intensity) -> Absence:
    """Return one intensity everywhere: a number in its unit (one for each channel), ``black``, ``grey``, ``white``.

    Raises UsageError for one that no image can have: normalised 0 is asked for as the mean.
    """
    intensity.of(value)
    name = f"constant {value}"
    return Absence(name, references=lambda x, rows: intensity.reference(value, x).expand(1, *x.shape))


def mean_image(pool: Tensor) -> Absence:
    """Return the mean, pixel by pixel, of images (n, C, *spatial), or of a table's rows."""
    mean = _pool(pool).mean(0)
    return Absence("mean-image", references=lambda x, rows: mean.to(x).expand(1, *x.shape))


def mean_colour(pool: Tensor | None = None) -> Absence:
    """Return the mean of each channel everywhere: of images (n, C, *spatial), or without any, of each image itself."""
    if pool is None:
        return Absence("own mean-colour", references=lambda x, rows: _colour(x).expand(1, *x.shape))
    mean = _colour(_pool(pool)).mean(0)
    return Absence("mean-colour", references=lambda x, rows: mean.to(x).expand(1, *x.shape))


def blur(sigma: float) -> Absence:
    """Return each image blurred by a Gaussian of ``sigma`` pixels; borders repeat."""
    if not sigma > 0:
        raise UsageError(f"the blur's sigma is {sigma}; expected more than 0 pixels")
    return Absence(f"blur {sigma:g}", references=lambda x, rows: blurred(x, sigma)[None])


def noise(
    sd: float, count: int, intensity: Intensity, *, around: str = "grey", seed: int = 0
) -> Absence:  # fmt: skip
    """Return ``count`` images of noise, of ``sd`` in the unit of intensities, cut at black and white.

    ``around`` what: ``grey``, or another name or number of an intensity, or ``image``.
    """
    if not sd > 0:
        raise UsageError(f"the noise's sd is {sd}; expected more than 0, in the unit of intensities")
    if around != "image":
        intensity.of(around)

    def draw(x: Tensor, rows: Tensor) -> Tensor:
        found = x.new_empty(count, *x.shape)
        for k, row in enumerate(rows.tolist()):
            own = generator(seed, row, x.device)
            found[:, k] = torch.randn(count, *x.shape[1:], generator=own, device=x.device, dtype=x.dtype)
        middle = x if around == "image" else intensity.reference(around, x)
        scale = intensity.scaled(sd, x)
        return torch.stack([intensity.clipped(middle + scale * one) for one in found])

    return Absence(f"noise {sd:g}", _many(count), draw)


def dataset(pool: Tensor, count: int, *, seed: int = 0, name: str = "dataset") -> Absence:
    """Return ``count`` of the pool (n, ...) for each image, drawn without replacement; the whole pool where it is all.

    Raises UsageError where the pool has fewer.
    """
    pool = _pool(pool)
    if not 1 <= count <= len(pool):
        raise UsageError(f"{count} references were asked of a pool of {len(pool)}; expected 1 to {len(pool)}")

    def draw(x: Tensor, rows: Tensor) -> Tensor:
        if count == len(pool):
            return pool.to(x)[:, None].expand(count, *x.shape)
        which = [torch.randperm(len(pool), generator=generator(seed, row))[:count] for row in rows.tolist()]
        return pool[torch.stack(which, 1)].to(x)

    return Absence(f"{name} {count}", count, draw)


def matched(cohort: Tensor, count: int, *, seed: int = 0) -> Absence:
    """Return ``count`` images for each of a cohort (n, ...) that was chosen to be what normal means."""
    return dataset(cohort, count, seed=seed, name="matched")


def given(references: Tensor) -> Absence:
    """Return references that are there already: (K, N, ...), or (K, 1, ...) for all images."""

    def pick(x: Tensor, rows: Tensor) -> Tensor:
        own = references.expand(len(references), *x.shape) if references.shape[1] == 1 else references[:, rows.cpu()]
        return own.to(x)

    return Absence("given", len(references), pick)


def inpaint(*, tolerance: float = 1e-4, empty: Absence | None = None) -> Absence:
    """Return what is removed as the weighted mean of its neighbours, all at once (ROAD's, without its noise).

    Rong et al. (ICML 2022): direct neighbours weigh twice as much as diagonal ones. Solved for all images of a batch
    together, by conjugate gradients, to a relative residual of ``tolerance``; in 1, 2 or 3 dimensions. Where nothing is
    left, ``empty`` counts; without one, the image's own mean colour.
    """
    nothing = empty or mean_colour()

    def paint(x: Tensor, keep: Tensor, rows: Tensor) -> Tensor:
        if x.ndim == 2:
            raise UsageError("a table's columns have no neighbours to be painted from; expected images")
        gone = ~keep.unsqueeze(1)
        some = keep.flatten(1).any(1)
        found = _harmonic(x, gone & _as(some, x), tolerance)
        if not some.all():
            found = torch.where(_as(some, x), found, nothing(x, rows)[0])
        return found[None]

    return Absence("inpaint", paint=paint)


def generative(painter: Callable[[Tensor, Tensor], Tensor], *, count: int = 1, name: str = "generative") -> Absence:
    """Return what a user's model paints: ``painter(x, keep)`` to (n, ...) or (count, n, ...).

    Only what is not in ``keep``, (n, *spatial) bool, is taken from it.
    """

    def paint(x: Tensor, keep: Tensor, rows: Tensor) -> Tensor:
        painted = painter(x, keep)
        return painted[None] if isinstance(painted, Tensor) and painted.shape == x.shape else painted

    return Absence(name, _many(count), paint=paint)


def conditional(table: Tensor, count: int, *, ridge: float = 1e-6, seed: int = 0) -> Absence:
    """Return columns as they are expected to be where the others are known: draws of a Gaussian fitted to a table.

    The table (n, d) gives mean and covariance, whose diagonal is raised by ``ridge`` of itself. Draws come in opposite
    pairs, so that their mean is that of the Gaussian; ``count`` is even, or 1 for the mean itself (enough where the
    model is linear). Only for tables: no Gaussian is the distribution of images.
    """
    data = _pool(table).detach().double().cpu()
    if data.ndim != 2 or len(data) <= data.shape[1]:
        raise UsageError(f"the table has shape {tuple(data.shape)}; expected (n, d) with more rows than columns")
    if count != 1 and count % 2:
        raise UsageError(f"{count} draws in opposite pairs were asked for; expected an even number, or 1")
    centre = data.mean(0)
    return gaussian_conditional(centre, torch.cov(data.T) * (1 + ridge * torch.eye(len(centre))), count, seed=seed)


def gaussian_conditional(mean: Tensor, covariance: Tensor, count: int = 1, *, seed: int = 0) -> Absence:
    """Return the same where mean (d,) and covariance (d, d) are known."""
    mean, covariance = (torch.as_tensor(part).double() for part in (mean, covariance))
    root = torch.linalg.cholesky(covariance)

    def paint(x: Tensor, keep: Tensor, rows: Tensor) -> Tensor:
        if x.ndim != 2 or x.shape[1] != len(mean):
            raise UsageError(f"the Gaussian has {len(mean)} columns; expected a table of as many, not {tuple(x.shape)}")
        at, there = x.double().cpu(), keep.double().cpu()
        half = max(count // 2, 1)
        drawn = torch.zeros(half, *at.shape, dtype=torch.float64)
        if count > 1:
            for k, row in enumerate(rows.tolist()):
                own = torch.randn(half, len(mean), generator=generator(seed, row), dtype=torch.float64)
                drawn[:, k] = own @ root.T
        drawn = torch.cat([drawn, -drawn]) if count > 1 else drawn
        # Matheron's rule: a draw of all, moved by what the kept columns say that it is off.
        matrix = there[:, :, None] * covariance * there[:, None, :] + torch.diag_embed(1 - there)
        off = there * (at - mean - drawn)
        weight = torch.linalg.solve(matrix, off.movedim(0, -1)).movedim(-1, 0)
        return (mean + drawn + (there * weight) @ covariance).to(x)

    return Absence(f"conditional {count}", _many(count), paint=paint)


def blurred(x: Tensor, sigma: float) -> Tensor:
    """Return images (N, C, *spatial) blurred along each axis by a Gaussian of ``sigma`` pixels."""
    for axis in range(2, x.ndim):
        kernel = gaussian_filter1d(np.eye(x.shape[axis]), sigma, axis=0, mode="nearest")
        x = torch.tensordot(x, torch.from_numpy(kernel).to(x), dims=([axis], [1])).movedim(-1, axis)
    return x


def _harmonic(x: Tensor, gone: Tensor, tolerance: float) -> Tensor:
    """Return ``x`` with what is ``gone`` (n, 1, *spatial) the mean of its neighbours: (D - W) v = 0 there."""

    def around(v: Tensor) -> Tensor:
        out = torch.zeros_like(v)
        for offset in itertools.product((-1, 0, 1), repeat=v.ndim - 2):
            if any(offset):
                to = tuple(slice(max(-o, 0), size - max(o, 0)) for o, size in zip(offset, v.shape[2:], strict=True))
                at = tuple(slice(max(o, 0), size - max(-o, 0)) for o, size in zip(offset, v.shape[2:], strict=True))
                out[_inner(to)] += v[_inner(at)] * 0.5 ** (sum(map(abs, offset)) - 1)
        return out

    hole = gone.to(x.dtype)
    weight = around(torch.ones_like(x[:1, :1]))
    known = x * (1 - hole)
    inner = tuple(range(2, x.ndim))
    start = (known.sum(inner, keepdim=True) / (1 - hole).sum(inner, keepdim=True).clamp(min=1)) * hole
    residual = hole * (around(known + start) - weight * start)
    found, direction = start, residual
    size = (residual**2).sum(inner, keepdim=True)
    first = size.clamp(min=torch.finfo(x.dtype).tiny)
    for _ in range(10 * sum(x.shape[2:])):
        if bool((size <= tolerance**2 * first).all()):
            break
        image = hole * (weight * direction - around(direction))
        step = size / (direction * image).sum(inner, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)
        found, residual = found + step * direction, residual - step * image
        new = (residual**2).sum(inner, keepdim=True)
        direction, size = residual + new / size.clamp(min=torch.finfo(x.dtype).tiny) * direction, new
    return known + found


def _inner(where: tuple[slice, ...]) -> tuple[slice, ...]:
    return (slice(None), slice(None), *where)


def _colour(x: Tensor) -> Tensor:
    return x if x.ndim == 2 else x.mean(tuple(range(2, x.ndim)), keepdim=True)


def _pool(pool: Tensor) -> Tensor:
    if len(pool) == 0 or not torch.isfinite(pool).all():
        raise DataError(f"the images that absence is taken from, {len(pool)}, are none or not finite; expected some")
    return pool


def _many(count: int) -> int:
    if count < 1:
        raise UsageError(f"{count} references were asked for; expected 1 or more")
    return count


def _as(which: Tensor, like: Tensor) -> Tensor:
    return which.reshape(-1, *([1] * (like.ndim - 1)))
