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
from medaudit.uncertainty.slug import traces
from medaudit.uncertainty.slug.ggn import check_shape
from medaudit.uncertainty.slug.model import batches_of, check_images
from medaudit.uncertainty.slug.posterior import covariance, square_root
from medaudit.uncertainty.slug.state import SlugState

ESTIMATORS = ("jvp", "vjp", "row_norms", "hutch++", "xtrace", "exact")
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
    stream = images.split(batch_size) if isinstance(images, Tensor) else batches_of(images)
    for batch in stream:
        check_images(batch, "the images")
        check_shape(state.model, batch)
        x = batch.to(state.model.device, state.model.dtype)
        if estimator == "jvp":
            parts.append(_by_jvp(state, x, probes, relative_error, min_probes, max_probes, pixel_map, rho))
        else:
            parts += [
                _one(state, x[i : i + 1], probes, estimator, relative_error, min_probes, max_probes, pixel_map, seed)
                for i in range(len(x))
            ]
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
        generator = torch.Generator().manual_seed((self.seed << 20) + i)
        plain = torch.randn(model.size, generator=generator, dtype=model.dtype).to(model.device)
        assert state.vectors is not None
        drawn = square_root(plain[None], state.vectors, _on(state.removed, plain), state.fitted.prior_precision)[0]
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
    value, error = _mean(each)
    ratio, ratio_error = _ratio(each, plain)
    found = {"score": value, "error": error, "rho": ratio, "rho_error": ratio_error, "jacobian": _mean(plain)[0],
             "probes": used, "each": each}  # fmt: skip
    if squares is not None and fourth is not None:
        s = torch.from_numpy(used).to(x.device)[:, None, None, None]
        mean = squares / s
        spread = ((fourth / s - mean**2).clamp_min(0) / (s - 1).clamp_min(1)).sqrt()
        found |= {"pixels": mean.float().cpu().numpy(), "pixel_error": spread.float().cpu().numpy()}
    return found


def _one(
    state: SlugState, x: Tensor, probes: _Probes, estimator: str, tolerance: float | None, least: int, most: int,
    pixel_map: bool, seed: int,
) -> dict[str, np.ndarray]:  # fmt: skip
    """One image (1, C, H, W), by an estimator that needs vectors of its own."""
    alpha, size = state.fitted.prior_precision, state.model.outputs
    generator = torch.Generator().manual_seed((seed << 20) + 2**19)
    shape = (-1, 1, *state.model.image_shape)

    def back(rows: Tensor) -> Tensor:
        return state.model.pull(x, rows.view(shape).to(x))

    def posterior(rows: Tensor) -> Tensor:
        assert state.vectors is not None
        return covariance(rows, state.vectors, _on(state.removed, rows), alpha)

    def product(rows: Tensor) -> Tensor:
        return state.model.push(x, posterior(back(rows))).flatten(1)

    each = np.full(most, np.nan)
    free = np.full(most, np.nan)
    pixels = error_map = None
    if estimator == "exact":
        total, prior = np.zeros(size), 0.0
        for start in range(0, size, 64):
            rows = _unit(start, size, x.dtype)
            v = back(rows)
            total[start : start + len(rows)] = _variance(state, v)
            prior += float(v.double().square().sum()) / alpha
        pixels, error_map = total, np.zeros(size)
        value, error, used = float(total.sum()), 0.0, size
        jacobian, ratio, ratio_error = prior, value / prior, 0.0
    elif estimator == "vjp":
        diagonal = []
        taken = 0
        while taken < most:
            signs = traces.signs(min(8, most - taken), size, generator, x.dtype).to(x.device)
            v = back(signs)
            each[taken : taken + len(v)] = _variance(state, v)
            free[taken : taken + len(v)] = v.double().square().sum(dim=1).cpu().numpy() / alpha
            if pixel_map:
                diagonal.append((signs * state.model.push(x, posterior(v)).flatten(1)).double().cpu().numpy())
            taken += len(v)
            some = each[:taken]
            if tolerance is not None and taken >= least and some.std(ddof=1) / taken**0.5 <= tolerance * some.mean():
                break
        if pixel_map:
            rows_ = np.concatenate(diagonal)
            pixels, error_map = rows_.mean(axis=0), rows_.std(axis=0, ddof=1) / len(rows_) ** 0.5
        (value,), (error,) = _mean(each[:, None])
        (ratio,), (ratio_error,) = _ratio(each[:, None], free[:, None])
        jacobian, used = float(np.nanmean(free)), taken
    else:
        jacobian = ratio = ratio_error = float("nan")
        used = most
        if estimator == "row_norms":
            half = most // 2
            plain, drawn = probes(0, most - half)
            signs = traces.signs(half, size, generator, x.dtype).to(x.device)
            assert state.vectors is not None
            towards = square_root(back(signs), state.vectors, _on(state.removed, signs), alpha)
            basis = torch.linalg.qr(towards.T).Q.T
            pushed_basis = state.model.push(x, square_root(basis, state.vectors, _on(state.removed, basis), alpha))
            pushed = state.model.push(x, drawn).flatten(1)
            mean, spread = traces.row_norms(pushed, plain, basis, pushed_basis.flatten(1))
            rest = (pushed - (plain @ basis.T) @ pushed_basis.flatten(1)).double().square().sum(dim=1).cpu().numpy()
            known = float(pushed_basis.double().square().sum())
            each[: len(rest)] = known + rest
            (value,), (error,) = _mean(each[:, None])
            pixels, error_map = mean.cpu().numpy(), spread.cpu().numpy()
        else:
            vectors = min(most // 2, size - 1) if estimator == "xtrace" else most
            omega = traces.signs(vectors, size, generator, x.dtype).to(x.device)
            value, error = (traces.xtrace if estimator == "xtrace" else traces.hutch_pp)(product, omega)
    found = {"score": value, "error": error, "rho": ratio, "rho_error": ratio_error, "jacobian": jacobian}
    out = {name: np.asarray([number]) for name, number in found.items()}
    out |= {"probes": np.asarray([used]), "each": each[:, None]}
    if pixel_map and pixels is not None and error_map is not None:
        image = (1, *state.model.image_shape)
        out |= {"pixels": pixels.reshape(image).astype(np.float32),
                "pixel_error": error_map.reshape(image).astype(np.float32)}  # fmt: skip
    return out


def _variance(state: SlugState, rows: Tensor) -> np.ndarray:
    """Return v^T Σ v for rows (b, P); by the sketch where there is one."""
    whole = rows.double().square().sum(dim=1)
    if state.sketch is not None and state.basis is not None:
        along = state.sketch(rows) @ state.basis.T
        removed = along.double().square().sum(dim=1)
    else:
        assert state.vectors is not None
        along = rows @ state.vectors.T
        removed = along.double().square() @ _on(state.removed, along).double()
    return ((whole - removed) / state.fitted.prior_precision).cpu().numpy()


def _unit(start: int, size: int, dtype: torch.dtype) -> Tensor:
    rows = torch.zeros(min(64, size - start), size, dtype=dtype)
    rows[torch.arange(len(rows)), start + torch.arange(len(rows))] = 1
    return rows


def _on(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like.device)


def _mean(each: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return means and standard errors over the finite rows of (S, N)."""
    count = np.isfinite(each).sum(axis=0)
    mean = np.where(count > 0, np.nansum(each, axis=0) / np.maximum(count, 1), np.nan)
    variance = np.nansum((each - mean) ** 2, axis=0) / np.maximum(count - 1, 1)
    return mean, np.where(count > 1, (variance / np.maximum(count, 1)) ** 0.5, np.nan)


def _ratio(above: np.ndarray, below: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ratio of means over probes, and its standard error by the delta method."""
    top, bottom = _mean(above)[0], _mean(below)[0]
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = top / bottom
        _, error = _mean(above - ratio * below)
        return ratio, error / bottom


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
