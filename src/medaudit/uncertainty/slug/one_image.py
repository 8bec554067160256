"""Estimators that need vectors of an image's own: backward passes of its outputs, and what those span."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from medaudit.uncertainty.slug import traces
from medaudit.uncertainty.slug.krylov import generator_of
from medaudit.uncertainty.slug.posterior import covariance, square_root
from medaudit.uncertainty.slug.sketch import Sketch
from medaudit.uncertainty.slug.state import SlugState

_NAN = float("nan")


class Draws(Protocol):
    """Probes by number."""

    def __call__(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Return probes ``start`` to ``stop``: standard normal rows (b, P), and Σ^(1/2) times them."""
        ...


@dataclass(frozen=True)
class Wish:
    """How well an image is to be known: to ``tolerance``, by ``least`` to ``most`` probes; its map; the seed."""

    tolerance: float | None
    least: int
    most: int
    pixel_map: bool
    seed: int


@dataclass(frozen=True, eq=False)
class Answer:
    """What one estimator says of one image; ``each`` (S,) is each probe's own estimate, maps are (O,)."""

    score: float
    error: float
    probes: int
    each: np.ndarray
    rho: float = _NAN
    rho_error: float = _NAN
    jacobian: float = _NAN
    pixels: np.ndarray | None = None
    pixel_error: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class OneImage:
    """An image ``x`` (1, C, H, W) with the posterior: products with its Jacobian and with A = J Σ J^T."""

    state: SlugState
    x: Tensor

    @property
    def size(self) -> int:
        """O."""
        return self.state.model.outputs

    @property
    def alpha(self) -> float:
        """The prior precision."""
        return self.state.fitted.prior_precision

    def back(self, rows: Tensor) -> Tensor:
        """Return J^T y for rows (m, O), (m, P)."""
        return self.state.model.pull(self.x, rows.view(-1, 1, *self.state.model.image_shape).to(self.x))

    def ahead(self, rows: Tensor) -> Tensor:
        """Return J v for rows (m, P), (m, O)."""
        return self.state.model.push(self.x, rows).flatten(1)

    def root(self, rows: Tensor) -> Tensor:
        """Return Σ^(1/2) v for rows (m, P)."""
        return square_root(rows, self._vectors(), self.state.removed.to(rows.device), self.alpha)

    def posterior(self, rows: Tensor) -> Tensor:
        """Return Σ v for rows (m, P)."""
        return covariance(rows, self._vectors(), self.state.removed.to(rows.device), self.alpha)

    def product(self, rows: Tensor) -> Tensor:
        """Return A y for rows (m, O), (m, O)."""
        return self.ahead(self.posterior(self.back(rows)))

    def variance(self, rows: Tensor) -> np.ndarray:
        """Return v^T Σ v for rows (m, P); by the sketch where there is one."""
        if self.state.sketch is not None and self.state.basis is not None:
            return (self._outside(rows, self.state.sketch, self.state.basis) / self.alpha).cpu().numpy()
        along = rows @ self._vectors().T
        removed = along.double().square() @ self.state.removed.to(along.device).double()
        return ((rows.double().square().sum(dim=1) - removed) / self.alpha).cpu().numpy()

    def _outside(self, rows: Tensor, sketch: Sketch, basis: Tensor) -> Tensor:
        """Return the squared length of rows (m, P) outside of the sketched space: never negative.

        Of the sketched vector itself, not of its true length minus the part inside, which the sketch's distortion can
        make negative. A vector of s numbers loses k of them to the basis by chance alone: that is given back.
        """
        short = sketch(rows)
        left = (short - (short @ basis.T) @ basis).double().square().sum(dim=1)
        s, k, p = basis.shape[1], len(basis), self.state.model.size
        # The share that is left is a Beta((s - k) / 2, (p - s) / 2) for a random projection, whose lengths are p / s.
        return left / (p * (s - k) / (s * (p - k))) if k < s < p else left

    def _vectors(self) -> Tensor:
        assert self.state.vectors is not None
        return self.state.vectors


def exact(image: OneImage, wish: Wish, draws: Draws) -> Answer:
    """Take a backward pass an output."""
    total, prior = np.zeros(image.size), 0.0
    for start in range(0, image.size, 64):
        rows = torch.zeros(min(64, image.size - start), image.size, dtype=image.x.dtype)
        rows[torch.arange(len(rows)), start + torch.arange(len(rows))] = 1
        v = image.back(rows)
        total[start : start + len(rows)] = image.variance(v)
        prior += float(v.double().square().sum()) / image.alpha
    value = float(total.sum())
    return Answer(
        value,
        0.0,
        image.size,
        np.full(wish.most, _NAN),
        value / prior if prior else _NAN,
        0.0,
        prior,
        total,
        np.zeros(image.size),
    )


def hutchinson(image: OneImage, wish: Wish, draws: Draws) -> Answer:
    """Take a backward pass a probe; its map (Bekas et al. 2007) is for comparison."""
    generator = _signs_of(wish.seed)
    each, free, diagonal = np.full(wish.most, _NAN), np.full(wish.most, _NAN), []
    taken = 0
    while taken < wish.most:
        signs = traces.signs(min(8, wish.most - taken), image.size, generator, image.x.dtype).to(image.x.device)
        v = image.back(signs)
        each[taken : taken + len(v)] = image.variance(v)
        free[taken : taken + len(v)] = v.double().square().sum(dim=1).cpu().numpy() / image.alpha
        if wish.pixel_map:
            diagonal.append((signs * image.ahead(image.posterior(v))).double().cpu().numpy())
        taken += len(v)
        some = each[:taken]
        enough = wish.tolerance is not None and taken >= wish.least
        if enough and some.std(ddof=1) / taken**0.5 <= (wish.tolerance or 0.0) * some.mean():
            break
    (value,), (error,) = mean_of(each[:, None])
    (ratio,), (ratio_error,) = ratio_of(each[:, None], free[:, None])
    pixels = spread = None
    if wish.pixel_map:
        rows = np.concatenate(diagonal)
        pixels, spread = rows.mean(axis=0), rows.std(axis=0, ddof=1) / len(rows) ** 0.5
    return Answer(value, error, taken, each, ratio, ratio_error, float(np.nanmean(free)), pixels, spread)


def row_norms(image: OneImage, wish: Wish, draws: Draws) -> Answer:
    """Let half of the probes span what the image depends on most; the others see what is left."""
    half = wish.most // 2
    plain, drawn = draws(0, wish.most - half)
    signs = traces.signs(half, image.size, _signs_of(wish.seed), image.x.dtype).to(image.x.device)
    basis = torch.linalg.qr(image.root(image.back(signs)).T).Q.T
    known, pushed = image.ahead(image.root(basis)), image.ahead(drawn)
    pixels, spread = traces.row_norms(pushed, plain, basis, known)
    rest = (pushed - (plain @ basis.T) @ known).double().square().sum(dim=1)
    each = np.full(wish.most, _NAN)
    each[: len(rest)] = (float(known.double().square().sum()) + rest).cpu().numpy()
    (value,), (error,) = mean_of(each[:, None])
    return Answer(value, error, wish.most, each, pixels=pixels.cpu().numpy(), pixel_error=spread.cpu().numpy())


def hutch_pp(image: OneImage, wish: Wish, draws: Draws) -> Answer:
    """Hutch++ on A."""
    omega = traces.signs(wish.most, image.size, _signs_of(wish.seed), image.x.dtype).to(image.x.device)
    return Answer(*traces.hutch_pp(image.product, omega), wish.most, np.full(wish.most, _NAN))


def xtrace(image: OneImage, wish: Wish, draws: Draws) -> Answer:
    """XTrace on A; its probes are half of ``most``, for it multiplies twice."""
    count = min(wish.most // 2, image.size - 1)
    omega = traces.signs(count, image.size, _signs_of(wish.seed), image.x.dtype).to(image.x.device)
    return Answer(*traces.xtrace(image.product, omega), wish.most, np.full(wish.most, _NAN))


ESTIMATORS: dict[str, Callable[[OneImage, Wish, Draws], Answer]] = {
    "vjp": hutchinson,
    "row_norms": row_norms,
    "hutch++": hutch_pp,
    "xtrace": xtrace,
    "exact": exact,
}
"""By the name that ``score(estimator=...)`` takes, beside ``jvp``, which takes all images at once."""


def mean_of(each: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return means and standard errors over the finite rows of (S, N)."""
    count = np.isfinite(each).sum(axis=0)
    mean = np.where(count > 0, np.nansum(each, axis=0) / np.maximum(count, 1), np.nan)
    variance = np.nansum((each - mean) ** 2, axis=0) / np.maximum(count - 1, 1)
    return mean, np.where(count > 1, (variance / np.maximum(count, 1)) ** 0.5, np.nan)


def ratio_of(above: np.ndarray, below: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ratio of means over probes, and its standard error by the delta method."""
    top, bottom = mean_of(above)[0], mean_of(below)[0]
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = top / bottom
        _, error = mean_of(above - ratio * below)
        return ratio, error / bottom


def _signs_of(seed: int) -> torch.Generator:
    return generator_of(seed, "signs")
