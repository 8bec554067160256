"""Two factors and their replicates: which of the two makes the numbers differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import f as f_distribution

from medaudit.errors import DataError


@dataclass(frozen=True)
class TwoWay:
    """Shares of the sum of squares (η²) of two factors, their interaction, and what is between replicates.

    F and p of the task, the method and the interaction test against the residual; with one replicate there is no
    residual, the interaction takes its place, and has no test of its own (NaN).
    """

    eta_task: float
    eta_method: float
    eta_interaction: float
    eta_residual: float
    f: tuple[float, float, float]
    p: tuple[float, float, float]


def two_way(values: np.ndarray) -> TwoWay:
    """Return the balanced two-way analysis of variance of ``values`` (tasks, methods, replicates).

    Values that are all equal have shares of 0 and no test (NaN). Raises DataError for another shape or a value that is
    not finite.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 3 or not values.size:
        raise DataError(f"values have shape {values.shape}; expected (tasks, methods, replicates), none of them 0")
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        raise DataError(f"{len(bad)} of {values.size} values are not finite, the first at {tuple(map(int, bad[0]))}")
    values = values - values.flat[0]  # equal values become 0 exactly, and have no share by rounding
    t, m, s = values.shape
    middle = values.mean()
    cell, by_task, by_method = values.mean(axis=2), values.mean(axis=(1, 2)), values.mean(axis=(0, 2))
    task = m * s * float(((by_task - middle) ** 2).sum())
    method = t * s * float(((by_method - middle) ** 2).sum())
    both = s * float(((cell - by_task[:, None] - by_method[None] + middle) ** 2).sum())
    rest = float(((values - cell[..., None]) ** 2).sum())
    total = task + method + both + rest
    freedom = (t - 1, m - 1, (t - 1) * (m - 1))
    left, against = (t * m * (s - 1), rest) if s > 1 else (freedom[2], both)
    sums = (task, method, both if s > 1 else float("nan"))
    error = against / left if left else float("nan")
    with np.errstate(divide="ignore", invalid="ignore"):
        f = [float(np.divide(found / max(k, 1), error)) for found, k in zip(sums, freedom, strict=True)]
    p = [float(f_distribution.sf(one, k, left)) for one, k in zip(f, freedom, strict=True)]
    share = [part / total if total > 0 else 0.0 for part in (task, method, both, rest)]
    return TwoWay(share[0], share[1], share[2], share[3], (f[0], f[1], f[2]), (p[0], p[1], p[2]))
