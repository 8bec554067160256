"""Scores: how much the reconstruction of an image, and of each of its pixels, would change under the posterior.

A(x) = J Σ J^T is the covariance of the linearised model's output. The global score is Tr A, the map is diag A, and
ρ = Tr A / (|J|²_F / α) is the part of the prior's variance that training has not taken away: it has no unit and does
not grow with the Jacobian. No estimate loops over pixels, and each has a standard error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medaudit.errors import DataError, UsageError
from medaudit.uncertainty.slug.ggn import check_shape
from medaudit.uncertainty.slug.krylov import generator_of
from medaudit.uncertainty.slug.model import batches_of
from medaudit.uncertainty.slug.one_image import ESTIMATORS as ALONE
from medaudit.uncertainty.slug.one_image import OneImage, Wish, mean_of, ratio_of
from medaudit.uncertainty.slug.posterior import square_root
from medaudit.uncertainty.slug.state import SlugState

ESTIMATORS = ("jvp", *ALONE)
_HELD = 2**28  # numbers of probes that are kept instead of drawn again for each batch of images: 1 GiB


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of N images, in the images' units squared but for ``rho``, which has none.

    ``error`` and ``rho_error`` are standard errors over probes. ``each`` (S, N) is each probe's own estimate, NaN where
    an image had enough before: probes are shared by all images, so a difference of images is known better than either.
    """

    score: np.ndarray
    error: np.ndarray
    rho: np.ndarray
    rho_error: np.ndarray
    jacobian: np.ndarray
    """|J|²_F / α, (N,): the prior's own variance, without data."""
    probes: np.ndarray
    """How many each image took, (N,)."""
    each: np.ndarray
    pixels: np.ndarray | None = None
    """diag A, (N, C, H, W) float32."""
    pixel_error: np.ndarray | None = None

    def contrast(self, first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
        """Return the mean score of images ``first`` minus that of ``second`` (masks or places), and its standard error.

        By probes that all of them took, the error from the differences probe by probe. It says how well the estimate
        is known for these images, not for a population of images.
        """
        both = np.concatenate([np.arange(len(self.score))[first], np.arange(len(self.score))[second]])
        whole = self.each[np.isfinite(self.each[:, both]).all(axis=1)]
        if not len(whole):
            # An estimator without probes of its own to pair: exact, Hutch++, XTrace.
            values = [float(self.score[part].mean()) for part in (first, second)]
            errors = [
                float(np.square(self.error[part]).sum()) ** 0.5 / len(self.score[part]) for part in (first, second)
            ]
            return values[0] - values[1], float(np.hypot(*errors))
        difference = whole[:, first].mean(axis=1) - whole[:, second].mean(axis=1)
        error = difference.std(ddof=1) / len(difference) ** 0.5 if len(difference) > 1 else float("nan")
        return float(difference.mean()), float(error)


def score(
    state: SlugState,
    images: Tensor | Iterable[Any],
    *,
    relative_error: float | None = 0.05,
    min_probes: int = 16,
    max_probes: int = 256,
    estimator: str = "jvp",
    pixel_map: bool = False,
    rho: bool = True,
    batch_size: int = 64,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Scores:
    """Return the scores of ``images`` (N, C, H, W), or of a loader's, under a fitted posterior.

    Probes are added, eight at a time, until the standard error of an image's score is below ``relative_error`` of it,
    between ``min_probes`` and ``max_probes``; ``None`` takes ``max_probes`` for all. ``rho`` doubles the cost of
    ``jvp``. Estimators:

    - ``jvp``: draws from the posterior pushed through the Jacobian, all images at once; the map is a mean of squares,
      so not negative, and each pixel's is χ² with S degrees of freedom, over S.
    - ``vjp``: Hutchinson over the outputs, a backward pass an image and probe; with a sketched state the only one. Its
      map (Bekas et al. 2007) is for comparison: its noise grows with the other pixels, and it can be negative.
    - ``row_norms``: half of the probes span what an image depends on most, the rest sees what is left.
    - ``hutch++``, ``xtrace``: for images whose covariance has few directions; the score only.
    - ``exact``: a backward pass a pixel, for small images and tests.

    Raises DataError for images that are not finite or have another shape, UsageError for options that mean nothing.
    """
    _check(state, estimator, relative_error, min_probes, max_probes, pixel_map)
    probes = _Probes(state, seed, max_probes)
    parts: list[dict[str, np.ndarray]] = []
    if batch_size < 1:
        raise UsageError(f"batch_size is {batch_size}; expected 1 or more")
    for batch in batches_of(images, batch_size):
        check_shape(state.model, batch)
        x = batch.to(state.model.device, state.model.dtype)
        if estimator == "jvp":
            parts.append(_by_jvp(state, x, probes, relative_error, min_probes, max_probes, pixel_map, rho))
        else:
            wish = Wish(relative_error, min_probes, max_probes, pixel_map, seed)
            parts += [_alone(state, x[i : i + 1], estimator, wish, probes) for i in range(len(x))]
        if progress is not None:
            progress(len(x))
    if not parts:
        raise DataError("there are no images to score")
    joined = {name: np.concatenate([part[name] for part in parts], axis=-1 if name == "each" else 0)
              for name in parts[0]}  # fmt: skip
    return Scores(**joined)


class _Probes:
    """Standard normal rows by number, and Σ^(1/2) times them; the same whatever the batch that asks."""

    def __init__(self, state: SlugState, seed: int, most: int) -> None:
        self.state, self.seed = state, seed
        self.keep = 2 * most * state.model.size <= _HELD
        self.kept: dict[int, tuple[Tensor, Tensor]] = {}

    def __call__(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Return probes ``start`` to ``stop``: plain (b, P) and drawn from the posterior (b, P)."""
        found = [self._one(i) for i in range(start, stop)]
        plain, drawn = zip(*found, strict=True)
        return torch.stack(plain), torch.stack(drawn)

    def _one(self, i: int) -> tuple[Tensor, Tensor]:
        if i in self.kept:
            return self.kept[i]
        model, state = self.state.model, self.state
        generator = generator_of(self.seed, "probe", i)
        plain = torch.randn(model.size, generator=generator, dtype=model.dtype).to(model.device)
        assert state.vectors is not None
        removed = state.removed.to(model.device)
        drawn = square_root(plain[None], state.vectors, removed, state.fitted.prior_precision)[0]
        if self.keep:
            self.kept[i] = plain, drawn
        return plain, drawn


def _by_jvp(
    state: SlugState, x: Tensor, probes: _Probes, tolerance: float | None, least: int, most: int, pixel_map: bool,
    rho: bool,
) -> dict[str, np.ndarray]:  # fmt: skip
    """All images of a batch at once; an image that is known well enough drops out."""
    n, alpha = len(x), state.fitted.prior_precision
    each = np.full((most, n), np.nan)
    plain = np.full((most, n), np.nan)
    squares = torch.zeros(x.shape, dtype=torch.float64, device=x.device) if pixel_map else None
    fourth = torch.zeros_like(squares) if squares is not None else None
    active = np.arange(n)
    taken = 0
    while taken < most and len(active):
        count = min(8, most - taken)
        unprojected, drawn = probes(taken, taken + count)
        here = x[torch.from_numpy(active).to(x.device)]
        pushed = state.model.push(here, drawn)
        each[taken : taken + count, active] = pushed.flatten(2).double().square().sum(dim=2).cpu().numpy()
        if rho:
            free = state.model.push(here, unprojected)
            plain[taken : taken + count, active] = free.flatten(2).double().square().sum(dim=2).cpu().numpy() / alpha
        if squares is not None and fourth is not None:
            index = torch.from_numpy(active).to(x.device)
            squares.index_add_(0, index, pushed.double().square().sum(dim=0))
            fourth.index_add_(0, index, pushed.double().square().square().sum(dim=0))
        taken += count
        if tolerance is not None and taken >= least:
            some = each[:taken, active]
            error = some.std(axis=0, ddof=1) / taken**0.5
            active = active[error > tolerance * some.mean(axis=0)]
    used = np.isfinite(each).sum(axis=0)
    value, error = mean_of(each)
    ratio, ratio_error = ratio_of(each, plain)
    found = {"score": value, "error": error, "rho": ratio, "rho_error": ratio_error, "jacobian": mean_of(plain)[0],
             "probes": used, "each": each}  # fmt: skip
    if squares is not None and fourth is not None:
        s = torch.from_numpy(used).to(x.device)[:, None, None, None]
        mean = squares / s
        spread = ((fourth / s - mean**2).clamp_min(0) / (s - 1).clamp_min(1)).sqrt()
        found |= {"pixels": mean.float().cpu().numpy(), "pixel_error": spread.float().cpu().numpy()}
    return found


def _alone(state: SlugState, x: Tensor, estimator: str, wish: Wish, probes: _Probes) -> dict[str, np.ndarray]:
    """One image (1, C, H, W), by an estimator that needs vectors of its own."""
    answer = ALONE[estimator](OneImage(state, x), wish, probes)
    names = ("score", "error", "rho", "rho_error", "jacobian", "probes")
    found = {name: np.asarray([getattr(answer, name)]) for name in names} | {"each": answer.each[:, None]}
    if wish.pixel_map and answer.pixels is not None and answer.pixel_error is not None:
        shape = (1, *state.model.image_shape)
        found |= {
            "pixels": answer.pixels.reshape(shape).astype(np.float32),
            "pixel_error": answer.pixel_error.reshape(shape).astype(np.float32),
        }
    return found


def _check(state: SlugState, estimator: str, tolerance: float | None, least: int, most: int, pixel_map: bool) -> None:
    if estimator not in ESTIMATORS:
        raise UsageError(f"estimator is '{estimator}'; expected one of {', '.join(ESTIMATORS)}")
    if state.sketch is not None and (estimator != "vjp" or pixel_map):
        raise UsageError("a sketched state gives the global score by estimator='vjp' only; fit without sketch for more")
    if not 2 <= least <= most:
        raise UsageError(f"min_probes is {least} and max_probes {most}; expected 2 or more, and min <= max")
    if tolerance is not None and not tolerance > 0:
        raise UsageError(f"relative_error is {tolerance}; expected more than 0, or None for max_probes everywhere")
    if pixel_map and estimator in ("hutch++", "xtrace"):
        raise UsageError(f"{estimator} gives no pixel map; use 'jvp' or 'row_norms'")
