"""Take away, or give back, what a map says matters most, and see what becomes of the score.

Deletion and insertion (Petsiuk et al., BMVC 2018), pixel flipping (Bach et al. 2015) and ROAD (Rong et al., ICML 2022).
Each judges the order of a map alone, not its numbers, and each shares an assumption with some maps: deletion to black
rewards a map made with black as absence. So every curve comes beside those of a random order and of an edge detector
(Sobel), which knows nothing of the model, and the value that stands for absence is the caller's to say.

``f`` maps images (B, ...) to scores (B,). If it depends on which image a row is (its target), it must take ``rows``
(B,) int64 by name. Images are (N, C, *spatial) or tables (N, d); a map is (N, *spatial) or (N, d), or (N, U) for units
that ``labels`` (N or 1, *spatial) int64 paint. All images and steps go through the model together, ``at_once`` rows.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medaudit.errors import DataError, UsageError
from medaudit.explanation.warrants.imputation import impute
from medaudit.explanation.warrants.maps import slices

Score = Callable[..., Tensor]
CONTROLS = ("random", "edges")
ROAD_SHARES = tuple(k / 10 for k in range(10))


@dataclass(frozen=True, eq=False)
class Curves:
    """Scores of N images while units go or come, and those of orders that know nothing of the model."""

    share: np.ndarray
    """(K + 1,): which share of the units has gone (come), from 0."""
    scores: np.ndarray
    """(N, K + 1)."""
    controls: dict[str, np.ndarray]
    """(N, K + 1) by name: ``random``, the mean of several orders, and ``edges``."""
    falls: bool
    """Whether a good map's curve is the lower one."""

    @property
    def area(self) -> np.ndarray:
        """(N,): the area under each curve, by trapezoids, over the range of the shares: a mean score."""
        return area(self.share, self.scores)

    def gain(self, control: str = "random") -> np.ndarray:
        """Return by how much the area is better than a control's, (N,): above 0 is better."""
        if control not in self.controls:
            raise UsageError(f"there is no control '{control}'; expected one of {', '.join(self.controls) or 'none'}")
        ahead = area(self.share, self.controls[control]) - self.area
        return ahead if self.falls else -ahead


def area(share: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the area under ``scores`` (..., K + 1) by trapezoids, over the range of ``share`` (K + 1,)."""
    step = np.diff(share)
    return ((scores[..., 1:] + scores[..., :-1]) / 2 * step).sum(axis=-1) / step.sum()


def deletion(f: Score, x: Tensor, maps: Tensor, *, absent: Tensor | float, **how: object) -> Curves:
    """Return the curves while the units of the largest values are set to ``absent``, in units of the model's input.

    ``absent`` is a number or a tensor that broadcasts to ``x`` (a mean image, a blurred one). Options are those of
    :func:`curves`.
    """
    return curves(f, x, maps, absent=absent, way="deletion", **how)  # type: ignore[arg-type]


def insertion(f: Score, x: Tensor, maps: Tensor, *, absent: Tensor | float, **how: object) -> Curves:
    """Return the curves while the units of the largest values come into an image that is ``absent`` throughout."""
    return curves(f, x, maps, absent=absent, way="insertion", **how)  # type: ignore[arg-type]


def road(f: Score, x: Tensor, maps: Tensor, *, shares: Sequence[float] = ROAD_SHARES, **how: object) -> Curves:
    """Return the curves while the units of the largest values are imputed from their neighbours, with a little noise.

    What is removed leaves no black hole whose outline the model might see. ``shares`` stay below 1: from nothing
    nothing can be imputed. ``least_first=True`` removes the least relevant first, where a good map's curve is high.
    Options are those of :func:`curves`.
    """
    return curves(f, x, maps, absent=None, way="road", shares=shares, **how)  # type: ignore[arg-type]


def curves(
    f: Score, x: Tensor, maps: Tensor, *, absent: Tensor | float | None, way: str = "deletion", steps: int = 32,
    shares: Sequence[float] | None = None, least_first: bool = False, labels: Tensor | None = None,
    controls: Sequence[str] = CONTROLS, draws: int = 3, noise: float = 0.01, generator: torch.Generator | None = None,
    at_once: int = 64,
) -> Curves:  # fmt: skip
    """Return the curves of ``x`` (N, ...) under the order of ``maps``.

    ``steps`` equal steps, or ``shares`` from 0 up; ``draws`` random orders; ``noise`` (of ROAD) in standard deviations
    of ``x``; units of equal value go by their place. Raises UsageError for options that are none and DataError for
    shapes that do not fit.
    """
    if way not in ("deletion", "insertion", "road"):
        raise UsageError(f"the way is '{way}'; expected 'deletion', 'insertion' or 'road'")
    if set(controls) - set(CONTROLS):
        raise UsageError(f"controls are {', '.join(controls)}; expected some of {', '.join(CONTROLS)}")
    at = np.linspace(0, 1, steps + 1) if shares is None else np.asarray(shares, dtype=np.float64)
    if at.ndim != 1 or len(at) < 2 or at[0] != 0 or (np.diff(at) <= 0).any() or at[-1] > 1:
        raise UsageError("shares must rise from 0 to at most 1, two or more of them")
    generator = generator or torch.Generator().manual_seed(0)
    if not torch.isfinite(maps).all():
        raise DataError("a map is not finite; expected numbers, to be ordered")
    flat, labels = maps.detach().to(x.device).flatten(1), _labels(x, maps, labels)
    filled = None if absent is None else torch.as_tensor(absent, dtype=x.dtype, device=x.device)
    if way != "road" and filled is None:
        raise UsageError("say what stands for absence; expected a number or a tensor like the images")
    if filled is not None:
        filled = filled.expand_as(x)
    # How many units have gone, exactly as many at each step as the share says.
    counts = torch.from_numpy(np.round(at * flat.shape[1]).astype(np.int64))

    def run(values: Tensor) -> np.ndarray:
        place = _places(values if not least_first else -values)
        return _scores(f, x, filled, drawn, place, labels, counts.to(x.device), way, at_once)

    drawn = None
    if way == "road":
        # One field of noise for each image, the same at all its steps and however many rows are asked at once.
        spread = x.flatten(1).std(1).reshape(-1, *[1] * (x.ndim - 1))
        drawn = noise * spread * torch.randn(x.shape, generator=generator, device=generator.device).to(x)
    found = run(flat)
    beside: dict[str, np.ndarray] = {}
    if "random" in controls:
        orders = [
            torch.rand(flat.shape, generator=generator, device=generator.device).to(x.device) for _ in range(draws)
        ]
        beside["random"] = np.mean([run(order) for order in orders], axis=0)
    if "edges" in controls and x.ndim > 2:
        strength = edges(x)
        beside["edges"] = run(strength.flatten(1) if labels is None else _per_unit(strength, labels, flat.shape[1]))
    return Curves(counts.numpy() / flat.shape[1], found, beside, falls=(way == "insertion") == least_first)


def pixel_flipping(
    f: Score, x: Tensor, maps: Tensor, *, absent: Tensor | float, each: int = 1, at_once: int = 64
) -> np.ndarray:  # fmt: skip
    """Return the scores (N, K) after ``each``, 2 ``each``, ... units of the largest values have gone."""
    size = maps[0].numel()
    shares = np.append(np.arange(0, size, each), size) / size
    return curves(f, x, maps, absent=absent, shares=list(shares), controls=(), at_once=at_once).scores[:, 1:]


def edges(x: Tensor) -> Tensor:
    """Return the magnitude of the Sobel gradient of images (N, C, *spatial), summed over channels, (N, *spatial)."""
    axes = range(2, x.ndim)
    total = torch.zeros_like(x)
    for axis in axes:
        part = x
        for other in axes:
            before, after = _beside(part, other)
            part = after - before if other == axis else before + 2 * part + after
        total += part.square()
    return total.sqrt().sum(1)


def _beside(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Return the values before and after each place along an axis; a border is its own neighbour."""
    first, last = x.narrow(axis, 0, 1), x.narrow(axis, x.shape[axis] - 1, 1)
    return torch.cat([first, x.narrow(axis, 0, x.shape[axis] - 1)], axis), torch.cat(
        [x.narrow(axis, 1, x.shape[axis] - 1), last], axis
    )


def scored(f: Score, x: Tensor, rows: Tensor) -> Tensor:
    """Return ``f`` of ``x`` (B, ...), (B,), telling it which images ``rows`` (B,) come from if it asks."""
    with torch.no_grad():
        told = f(x, rows=rows) if takes_rows(f) else f(x)
    if not isinstance(told, Tensor) or tuple(told.shape) != (len(x),):
        what = f"shape {tuple(told.shape)}" if isinstance(told, Tensor) else type(told).__name__
        raise DataError(f"the score of {len(x)} images is {what}; expected a number each, ({len(x)},)")
    if not torch.isfinite(told).all():
        wrong = int(torch.nonzero(~torch.isfinite(told))[0, 0])
        raise DataError(f"the score is not finite of a version of image {int(rows[wrong])}; expected finite numbers")
    return told


def takes_rows(f: Score) -> bool:
    """Return whether a score asks which image each row is a version of, as explananda do."""
    try:
        return getattr(f, "by_row", False) or "rows" in inspect.signature(f).parameters
    except (TypeError, ValueError):
        return False


def _labels(x: Tensor, maps: Tensor, labels: Tensor | None) -> Tensor | None:
    spatial = x.shape[2:] if x.ndim > 2 else x.shape[1:]
    if labels is None:
        if tuple(maps.shape) != (len(x), *spatial):
            raise DataError(f"maps have shape {tuple(maps.shape)}; expected {(len(x), *spatial)}, a number a place")
        return None
    if maps.ndim != 2 or len(maps) != len(x) or tuple(labels.shape) not in ((len(x), *spatial), (1, *spatial)):
        raise DataError(
            f"units have shape {tuple(maps.shape)} and labels {tuple(labels.shape)}; expected ({len(x)}, units) and "
            f"{(len(x), *spatial)} or {(1, *spatial)}"
        )
    if int(labels.min()) < 0 or int(labels.max()) >= maps.shape[1]:
        raise DataError(f"labels go from {int(labels.min())} to {int(labels.max())}; expected 0 to {maps.shape[1] - 1}")
    return labels.to(x.device).expand(len(x), *spatial)


def _places(values: Tensor) -> Tensor:
    """Return the place (N, U) of each unit in the order of falling values."""
    order = torch.argsort(values, dim=1, descending=True, stable=True)
    place = torch.empty_like(order)
    return place.scatter_(1, order, torch.arange(values.shape[1], device=values.device).expand_as(order))


def _per_unit(values: Tensor, labels: Tensor, count: int) -> Tensor:
    """Return the mean of pixel values (N, *spatial) over each unit, (N, U)."""
    flat, owner = values.flatten(1), labels.flatten(1)
    zero = torch.zeros(len(flat), count, dtype=flat.dtype, device=flat.device)
    return zero.scatter_add(1, owner, flat) / zero.scatter_add(1, owner, torch.ones_like(flat)).clamp(min=1)


def _scores(
    f: Score, x: Tensor, filled: Tensor | None, drawn: Tensor | None, place: Tensor, labels: Tensor | None,
    counts: Tensor, way: str, at_once: int,
) -> np.ndarray:  # fmt: skip
    """Return (N, K + 1) scores, ``at_once`` rows together: as many images as fit, and as many steps of them."""
    n, steps = len(x), len(counts)
    spatial = x.shape[2:] if x.ndim > 2 else x.shape[1:]
    if labels is not None:
        place = place.gather(1, labels.flatten(1))
    # Whether a pixel has gone is asked of each pixel, step and channel: small numbers are compared faster.
    place, counts = (z.to(torch.int16 if place.shape[1] < 2**15 else torch.int32) for z in (place, counts))
    found = torch.empty(n, steps, dtype=torch.float64)
    for part in slices(n, at_once):
        images, own = x[part], torch.arange(part.start, part.stop, device=x.device)
        for some in slices(steps, max(1, at_once // len(own))):
            gone = (place[part] < counts[some, None, None]).reshape(-1, len(own), *spatial)
            rows = own.expand(len(gone), -1).flatten()
            mask = gone.unsqueeze(2) if x.ndim > 2 else gone
            if drawn is not None:
                many = images.expand(len(gone), *images.shape).flatten(0, 1)
                made = impute(many, gone.flatten(0, 1))
                made = made + (mask * drawn[part]).flatten(0, 1)
            else:
                assert filled is not None
                old, new = (filled[part], images) if way == "insertion" else (images, filled[part])
                made = torch.where(mask, new, old).flatten(0, 1)
            found[part, some] = scored(f, made, rows).double().cpu().reshape(len(gone), len(own)).T
    return found.numpy()
