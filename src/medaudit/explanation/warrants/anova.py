"""Which assumption moves an explanation most: a functional analysis of variance over admissible choices.

Maps of every combination of choices are (levels of the first atom, of the second, ..., N, M...). Per image the variance
over combinations, summed over units, is shared out (Hoeffding 1948; Sobol 1993; summed over outputs as by Gamboa et
al. 2014): an atom's first-order share is what its choice alone does, its total-order share all that would vanish if it
were fixed at random, interactions with the others among it. Every level of an atom weighs the same: the shares are of
this list of admissible choices and of no other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from medaudit.errors import DataError, UsageError
from medaudit.explanation.warrants.comparison import mid_ranks
from medaudit.explanation.warrants.maps import RESAMPLES, mean_estimate, slices
from medaudit.statistics import Estimate

NORMALISATIONS = ("unit", "largest", "ranks", "none")


@dataclass(frozen=True, eq=False)
class Profile:
    """The assumption sensitivity profile of an explanation."""

    atoms: tuple[str, ...]
    first: np.ndarray
    """(A, N): first-order shares; NaN for an image whose maps are all the same."""
    total: np.ndarray
    """(A, N): total-order shares."""
    first_order: dict[str, Estimate]
    """Means over images with intervals over patients."""
    total_order: dict[str, Estimate]
    pairs: dict[tuple[str, str], Estimate]
    """What two atoms do together beyond what each does alone; empty unless asked for."""
    interactions: Estimate
    """What is left after all first-order shares."""
    largest: str
    """The atom of the largest total-order share."""
    leads: bool
    """Whether it is larger than every other's with the whole interval of the difference, corrected for their number."""
    filled: int
    """Combinations that cannot be had, filled in as if atoms only added."""
    same: int
    """Images left out because all their maps are the same."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON, without the images' own numbers."""
        return {
            "first_order": {name: one.as_dict() for name, one in self.first_order.items()},
            "total_order": {name: one.as_dict() for name, one in self.total_order.items()},
            "pairs": {" x ".join(names): one.as_dict() for names, one in self.pairs.items()},
            "interactions": self.interactions.as_dict(), "largest": self.largest, "leads": self.leads,
            "filled": self.filled, "same": self.same,
        }  # fmt: skip


def sensitivity_profile(
    maps: Any, atoms: Sequence[str], *, normalise: str = "unit", patients: Iterable[Any] | None = None,
    pairs: bool = False, at_once: int = 16, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0,
) -> Profile:  # fmt: skip
    """Return which of ``atoms`` moves ``maps`` (levels..., N, M...) most.

    ``normalise`` makes maps comparable whose units differ: each to Euclidean length 1 (``unit``), to a largest absolute
    value of 1 (``largest``), to its ranks less their mean and to length 1 (``ranks``), or not at all (``none``). A map
    of zeros stays zeros.
    A combination that cannot be had is NaN throughout, for all images: it is filled in by least squares as if atoms
    added, which is exact if they do; interactions it would have had count as none. ``at_once`` images are worked on
    together. Raises UsageError for names that do not fit the axes, an atom of one level; DataError for other numbers
    that are not finite, and where so many combinations are missing that atoms cannot be told apart.
    """
    a = len(atoms)
    # Not float64 here: all maps of a factorial at once can be large.
    array = maps.detach().cpu().numpy() if hasattr(maps, "detach") else np.asarray(maps)
    if normalise not in NORMALISATIONS:
        raise UsageError(f"normalise is '{normalise}'; expected one of {', '.join(NORMALISATIONS)}")
    if a < 1 or len(set(atoms)) < a or array.ndim < a + 2 or min(array.shape[:a]) < 2:
        raise UsageError(
            f"maps have shape {array.shape} for the atoms {', '.join(atoms)}; expected two levels or more "
            "of each atom, a name each, then images and units"
        )
    levels = array.shape[:a]
    array = array.reshape(*levels, array.shape[a], -1)
    n = array.shape[a]
    known = np.isfinite(array).all(axis=(-2, -1))
    if not np.isnan(array[~known]).all():
        raise DataError("a map is not finite; expected numbers, or NaN throughout for a combination that cannot be had")
    fill = None if known.all() else _filling(known, atoms)
    two = list(combinations(range(a), 2)) if pairs else []
    first, total, joint = np.full((a, n), np.nan), np.full((a, n), np.nan), np.full((len(two), n), np.nan)
    for part in slices(n, at_once):
        block = _normalised(array[..., part, :].astype(np.float64), normalise)
        if fill is not None:
            flat = block.reshape(known.size, -1)
            block = np.where(known[..., None, None], block, (fill @ flat[known.ravel()]).reshape(block.shape))
        first[:, part], total[:, part], joint[:, part] = _shares(block, a, two)
    more: dict[str, Any] = {"level": level, "resamples": resamples, "seed": seed}
    owners = None if patients is None else list(patients)
    firsts = {
        name: mean_estimate(one, owners, name="first-order share", **more)
        for name, one in zip(atoms, first, strict=True)
    }
    totals = {
        name: mean_estimate(one, owners, name="total-order share", **more)
        for name, one in zip(atoms, total, strict=True)
    }
    together = {
        (atoms[i], atoms[j]): mean_estimate(one, owners, name="share of an interaction", **more)
        for (i, j), one in zip(two, joint, strict=True)
    }
    rest = mean_estimate(1 - first.sum(0), owners, name="share of all interactions", **more)
    same = int(np.isnan(first[0]).sum())
    if same == n:
        raise DataError("the maps of every image are the same under all combinations; there is nothing to share out")
    order = np.argsort([-totals[name].value for name in atoms], kind="stable")
    best = int(order[0])
    more["level"] = 1 - (1 - level) / max(1, a - 1)
    ahead = [mean_estimate(total[best] - total[k], owners, **more).low > 0 for k in order[1:]]
    return Profile(
        tuple(atoms),
        first,
        total,
        firsts,
        totals,
        together,
        rest,
        atoms[best],
        bool(all(ahead)),
        int((~known).sum()),
        same,
    )


def _normalised(maps: np.ndarray, how: str) -> np.ndarray:
    if how == "none":
        return maps
    if how == "ranks":
        known = np.isfinite(maps)
        maps = np.where(known, mid_ranks(np.where(known, maps, 0.0)) - (maps.shape[-1] + 1) / 2, np.nan)
    largest = np.abs(maps).max(axis=-1, keepdims=True)
    maps = maps / np.where(largest > 0, largest, 1.0)
    if how == "largest":
        return maps
    length = np.sqrt(np.square(maps).sum(axis=-1, keepdims=True))
    return maps / np.where(length > 0, length, 1.0)


def _shares(block: np.ndarray, a: int, two: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return first-order, total-order (A, n) and interaction shares (P, n) of a full factorial (levels..., n, M)."""
    cells = tuple(range(a))
    grand = block.mean(axis=cells, keepdims=True)
    scale = np.square(block).sum(axis=-1).mean(axis=cells)

    def explained(kept: Sequence[int]) -> np.ndarray:
        """Return the variance of the mean given the atoms kept, summed over units, (n,)."""
        means = block.mean(axis=tuple(k for k in cells if k not in kept), keepdims=True) - grand
        return np.square(means).sum(axis=-1).mean(axis=cells)

    variance = explained(cells)
    # Maps that are the same differ from their mean by rounding.
    variance = np.where(variance > 1e-20 * scale, variance, np.nan)
    alone = np.stack([explained([k]) for k in cells])
    total = np.stack([variance - explained([j for j in cells if j != k]) for k in cells])
    joint = np.array([explained(pair) - alone[pair[0]] - alone[pair[1]] for pair in two]).reshape(
        len(two), len(variance)
    )
    return alone / variance, np.maximum(total, 0.0) / variance, joint / variance


def _filling(known: np.ndarray, atoms: Sequence[str]) -> np.ndarray:
    """Return the matrix that turns the known combinations into all of an additive fit, (cells, known)."""
    design = [np.ones((known.size, 1))]
    for axis, size in enumerate(known.shape):
        level = np.indices(known.shape)[axis].ravel()
        design.append(np.eye(size)[level][:, 1:])
    x = np.concatenate(design, axis=1)
    there = x[known.ravel()]
    if np.linalg.matrix_rank(there) < x.shape[1]:
        raise DataError(
            f"{int((~known).sum())} of {known.size} combinations are missing: the choices of {', '.join(atoms)} "
            "cannot be told apart; leave out a level or an atom"
        )
    return x @ np.linalg.pinv(there)
