"""Does a map lie where annotators marked the finding, beside how well annotators agree among themselves?

A map that misses the mask may be right about a model that looks elsewhere: this asks whether it may be *read* as a
localisation (the truth is the annotation). So each number comes against each annotator, and beside the ceiling: the
same number for the other annotators' masks in the map's place.

Maps are (N, *spatial), raw; masks (N, *spatial) or, of A annotators, (A, N, *spatial). Where units tie, what is hit is
the mean over all orders of the tied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from medaudit.errors import DataError
from medaudit.explanation.warrants.comparison import _mass, _over, _runs, mid_ranks
from medaudit.explanation.warrants.maps import RESAMPLES, mean_estimate, numbers
from medaudit.statistics import Estimate


def pointing(maps: Any, masks: Any, *, spacing: Sequence[float] | float = 1.0, tolerance: float = 0.0) -> np.ndarray:
    """Return whether the largest value lies in the mask, or within ``tolerance`` mm of it, (N,) (Zhang et al. 2018).

    ``spacing`` is in mm a pixel. Where several places have the largest value: which share of them does. NaN for an
    empty mask, as in all functions here.
    """
    x, inside = _checked(maps, masks)
    axes = tuple(range(1, x.ndim))
    top: np.ndarray = np.equal(x, x.max(axis=axes, keepdims=True))
    tied = top.sum(axis=axes)
    hit = (top & inside).sum(axis=axes) / tied
    if tolerance > 0:
        size = np.broadcast_to(np.asarray(spacing, dtype=np.float64), (x.ndim - 1,))
        bound = tolerance * (1 + 1e-9)
        single = np.flatnonzero(tied == 1)
        place = np.unravel_index(top.reshape(len(x), -1)[single].argmax(axis=1), x.shape[1:])
        far = np.zeros((single.size, *x.shape[1:]))
        for axis, (at, step) in enumerate(zip(place, size, strict=True), start=1):
            along = (np.arange(x.shape[axis]) - at[:, None]) * step
            far += np.square(along).reshape(single.size, *(x.shape[k] if k == axis else 1 for k in axes))
        hit[single] = (inside[single] & (far <= bound**2)).any(axis=axes)
        for k in np.flatnonzero((tied > 1) & inside.any(axis=axes)):  # hardly any
            near = ndimage.distance_transform_edt(~inside[k], sampling=size) <= bound
            hit[k] = (top[k] & near).sum() / tied[k]
    return _there(inside, hit)


def mass_accuracy(maps: Any, masks: Any, *, kind: str = "positive") -> np.ndarray:
    """Return which share of the mass lies in the mask, (N,): relevance mass accuracy (Arras et al. 2022).

    NaN too for a map without mass.
    """
    x, inside = _checked(maps, masks)
    mass = _mass(x, kind)
    axes = tuple(range(1, x.ndim))
    return _there(inside, _over((mass * inside).sum(axes), mass.sum(axes)))


def rank_accuracy(maps: Any, masks: Any) -> np.ndarray:
    """Return which share of the K largest values lies in the mask of K pixels, (N,): relevance rank accuracy."""
    x, inside = _flat(*_checked(maps, masks))
    size = inside.sum(1)
    return _there(inside, _hits(x, inside) / np.maximum(size, 1))


def iou_at_area(maps: Any, masks: Any) -> np.ndarray:
    """Return the IoU of the mask of K pixels and the K largest values, (N,): no threshold is chosen."""
    x, inside = _flat(*_checked(maps, masks))
    hit = _hits(x, inside)
    return _there(inside, _over(hit, 2 * inside.sum(1) - hit))


def mask_auroc(maps: Any, masks: Any) -> np.ndarray:
    """Return the chance that a pixel of the mask has a larger value than one outside, ties half, (N,)."""
    x, inside = _flat(*_checked(maps, masks))
    ones, zeros = inside.sum(1), (~inside).sum(1)
    above = (mid_ranks(x) * inside).sum(1) - ones * (ones + 1) / 2
    return _over(above, (ones * zeros).astype(np.float64))


def mask_auprc(maps: Any, masks: Any) -> np.ndarray:
    """Return the average precision of values as scores of being in the mask, (N,). By chance it is the mask's share."""
    x, inside = _flat(*_checked(maps, masks))
    order = np.argsort(-x, axis=1, kind="stable")
    ordered, hit = np.take_along_axis(x, order, axis=1), np.take_along_axis(inside, order, axis=1)
    _, last = _runs(ordered)
    found = np.cumsum(hit, axis=1)
    # Equal values are retrieved together.
    precision = np.take_along_axis(found, last, axis=1) / (last + 1)
    return _over((precision * hit).sum(1), inside.sum(1).astype(np.float64))


MEASURES: dict[str, Callable[..., np.ndarray]] = {
    "pointing": pointing, "mass": mass_accuracy, "rank": rank_accuracy, "iou": iou_at_area, "auroc": mask_auroc,
    "auprc": mask_auprc,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Localisation:
    """Maps against each of A annotators, and annotators against each other."""

    values: dict[str, np.ndarray]
    """(A, N) by measure; NaN where that annotator marked nothing."""
    ceiling: dict[str, np.ndarray]
    """(A, N) by measure: the mean over the other annotators' masks in the map's place; NaN for a single annotator."""
    chance: np.ndarray
    """(A, N): the mask's share of the image."""
    empty: tuple[int, ...]
    """Images in which each annotator marked nothing: left out."""

    def estimates(self, measure: str, patients: Iterable[Any] | None = None, **more: Any) -> list[Estimate]:
        """Return the mean against each annotator with its interval over patients."""
        owners = None if patients is None else list(patients)
        return [mean_estimate(one, owners, name=measure, **more) for one in self.values[measure]]

    def below_ceiling(
        self, measure: str, patients: Iterable[Any] | None = None, *, level: float = 0.95, resamples: int = RESAMPLES,
        seed: int = 0,
    ) -> Estimate:  # fmt: skip
        """Return the map's value less the ceiling, the mean over annotators, with its interval over patients.

        Only images that an annotator and another one marked count.
        """
        apart = self.values[measure] - self.ceiling[measure]
        known = np.isfinite(apart)
        mean = _over(np.where(known, apart, 0.0).sum(0), known.sum(0).astype(np.float64))
        name = f"{measure} less that of annotators"
        return mean_estimate(mean, patients, name=name, level=level, resamples=resamples, seed=seed)


def localise(
    maps: Any, masks: Any, *, spacing: Sequence[float] | float = 1.0, tolerance: float = 0.0, kind: str = "positive",
) -> Localisation:  # fmt: skip
    """Return all measures of ``maps`` (N, *spatial) against ``masks`` (A, N, *spatial) or (N, *spatial).

    ``spacing`` (mm a pixel) and ``tolerance`` (mm) are of the pointing game, ``kind`` of the mass. Raises DataError for
    masks of another size than the maps (resample them first), and where no annotator marked anything.
    """
    x = numbers(maps)
    marked = _bool(masks)
    marked = marked[None] if marked.shape == x.shape else marked
    if marked.ndim != x.ndim + 1 or marked.shape[1:] != x.shape:
        raise DataError(
            f"masks have shape {_bool(masks).shape}, maps {x.shape}; expected {x.shape}, or annotators before that"
        )
    if not marked.any():
        raise DataError(f"all masks of {x.shape[0]} images are empty; expected a marked pixel somewhere")
    options: dict[str, dict[str, Any]] = {
        "pointing": {"spacing": spacing, "tolerance": tolerance},
        "mass": {"kind": kind},
    }
    a = len(marked)
    axes = tuple(range(2, marked.ndim))
    empty = np.logical_not(np.asarray(marked.any(axis=axes)))
    values, ceiling = {}, {}
    for name, measure in MEASURES.items():
        more = options.get(name, {})
        values[name] = np.stack([measure(x, one, **more) for one in marked])
        best = np.full((a, a, len(x)), np.nan)
        for i in range(a):
            for j in range(a):
                if i != j:
                    # Where the other one marked nothing there is no map to compare with.
                    best[i, j] = np.where(empty[j], np.nan, measure(marked[j].astype(np.float64), marked[i], **more))
        known = np.isfinite(best)
        ceiling[name] = _over(np.where(known, best, 0.0).sum(1), known.sum(1).astype(np.float64))
    return Localisation(values, ceiling, marked.mean(axis=axes), tuple(int(k) for k in empty.sum(1)))


def _bool(masks: Any) -> np.ndarray:
    found = np.asarray(masks.detach().cpu() if hasattr(masks, "detach") else masks)
    if found.dtype != bool and not bool(np.isin(found, (0, 1)).all()):
        raise DataError("a mask has values other than 0 and 1; expected what is marked, and what is not")
    return found.astype(bool)


def _checked(maps: Any, masks: Any) -> tuple[np.ndarray, np.ndarray]:
    x, inside = numbers(maps), _bool(masks)
    if x.shape != inside.shape:
        raise DataError(f"masks have shape {inside.shape}, maps {x.shape}; expected the same")
    return x, inside


def _flat(x: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return x.reshape(len(x), -1), inside.reshape(len(x), -1)


def _there(inside: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.where(inside.reshape(len(inside), -1).any(1), values, np.nan)


def _hits(x: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return how many of the K largest values of each row lie in its mask of K, the mean over orders of the tied."""
    size = inside.sum(1)
    ordered = np.sort(x, axis=1)[:, ::-1]
    cut = np.take_along_axis(ordered, np.maximum(size - 1, 0)[:, None], axis=1)
    above, at = np.greater(x, cut), np.equal(x, cut)
    free = (size - above.sum(1)) / np.maximum(at.sum(1), 1)
    return (above & inside).sum(1) + free * (at & inside).sum(1)
