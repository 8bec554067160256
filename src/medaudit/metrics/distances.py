"""From two sets of surface distances to the numbers that papers print: HD, HD95, ASSD, MASD, NSD."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medaudit.metrics.border import Points
from medaudit.metrics.nearest import nearest_distances, tree

HD95 = Literal["pooled", "max"]


@dataclass(frozen=True)
class Directed:
    """The distances in mm from the points of one surface to the other, and what each counts for (``None``: alike)."""

    mm: NDArray[np.float64]
    weight: NDArray[np.float64] | None

    def mean(self) -> float:
        """The mean distance."""
        return float(self.mm.mean() if self.weight is None else np.average(self.mm, weights=self.weight))

    def percentile_95(self) -> float:
        """The distance that 95 % of the surface does not exceed.

        Points that count alike are interpolated linearly. By weight it is the first distance at which the
        cumulated surface reaches 95 %, without interpolation (Nikolov et al., arXiv 1809.04430).
        """
        if self.weight is None:
            return _percentile_95(self.mm)
        order = np.lexsort((self.weight, self.mm))
        reached = np.cumsum(self.weight[order]) / np.sum(self.weight[order])
        # Where exactly 95 % is reached, rounding must not decide which distance that is.
        return float(self.mm[order][min(int(np.searchsorted(reached, 0.95 - 1e-12)), order.size - 1)])

    def within(self, mm: float) -> float:
        """The part of the surface that lies within ``mm`` of the other."""
        near = self.mm <= mm
        return float(near.mean() if self.weight is None else self.weight[near].sum() / self.weight.sum())


def _percentile_95(values: NDArray[np.float64]) -> float:
    # The arithmetic of numpy.percentile without its overhead, which on a small lesion is more than all the rest.
    position = 0.95 * (values.size - 1)
    low = int(position)
    high = min(low + 1, values.size - 1)
    part = np.partition(values, (low, high))
    step = part[high] - part[low]
    fraction = position - low
    return float(part[high] - step * (1 - fraction) if fraction >= 0.5 else part[low] + step * fraction)


def directed(a: Points, b: Points, scale: NDArray[np.float64]) -> tuple[Directed, Directed]:
    """Return the distances from ``a`` to ``b`` and from ``b`` to ``a``, neither empty; ``scale`` is mm a grid step."""
    if a.shared.all() and b.shared.all():
        # Automatic labels that nobody corrected are common, and need no search.
        return Directed(np.zeros(len(a)), a.weight), Directed(np.zeros(len(b)), b.weight)
    trees = tree(a.at, scale), tree(b.at, scale)
    sets = []
    for points, own, other in ((a, *trees), (b, *trees[::-1])):
        mm = nearest_distances(own, points.shared[own.order], other, scale)
        sets.append(Directed(mm, None if points.weight is None else points.weight[own.order]))
    return sets[0], sets[1]


def summarise(to_b: Directed, to_a: Directed, tolerances_mm: Sequence[float], hd95: HD95) -> dict[str, float]:
    """Return ``hd_mm``, ``hd95_mm``, ``assd_mm``, ``masd_mm`` and ``nsd_{tolerance}mm`` of two directed sets."""
    weight = None
    if to_b.weight is not None and to_a.weight is not None:
        weight = np.concatenate((to_b.weight, to_a.weight))
    both = Directed(np.concatenate((to_b.mm, to_a.mm)), weight)
    return {
        "hd_mm": float(both.mm.max()),
        "hd95_mm": both.percentile_95() if hd95 == "pooled" else max(to_b.percentile_95(), to_a.percentile_95()),
        "assd_mm": both.mean(),
        "masd_mm": (to_b.mean() + to_a.mean()) / 2,
        **{nsd_name(tolerance): both.within(tolerance) for tolerance in tolerances_mm},
    }


def nsd_name(tolerance_mm: float) -> str:
    """Return the name of the normalised surface Dice at a tolerance: ``nsd_1mm``, ``nsd_0.5mm``."""
    return f"nsd_{tolerance_mm:g}mm"
