"""Maps as rows of numbers, and the mean of one number an image with its interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from scipy.special import ndtr, stdtrit

from medaudit.errors import DataError
from medaudit.statistics import Estimate, bootstrap_means, compare

_CELLS = 2_000_000
"""Numbers of one map array that are worked on at once: with what is made of them some 300 MB."""
RESAMPLES = 2_000


def numbers(maps: Any, what: str = "the maps") -> np.ndarray:
    """Return ``maps`` (N, ...), an array or a tensor anywhere, as float64. Raises DataError for NaN or infinity."""
    if hasattr(maps, "detach"):
        maps = maps.detach().cpu()
        maps = maps.double().numpy() if maps.is_floating_point() else maps.numpy()
    found = np.asarray(maps, dtype=np.float64)
    if found.ndim < 2:
        raise DataError(f"{what} have shape {found.shape}; expected (N, ...), an image a row")
    bad = np.flatnonzero(~np.isfinite(found.reshape(len(found), -1)).all(axis=1))
    if bad.size:
        raise DataError(f"{what} of {bad.size} of {len(found)} images are not finite, the first of image {bad[0]}")
    return found


def rows(maps: Any, what: str = "the maps") -> np.ndarray:
    """Return ``maps`` (N, ...) as (N, M) float64."""
    found = numbers(maps, what)
    return found.reshape(len(found), -1)


def pair(a: Any, b: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return two arrays of maps of one shape as (N, M) float64. Raises DataError where the shapes differ."""
    first, second = numbers(a, "the first maps"), numbers(b, "the second maps")
    if first.shape != second.shape:
        raise DataError(f"maps have shapes {first.shape} and {second.shape}; expected the same units in both")
    return first.reshape(len(first), -1), second.reshape(len(second), -1)


def in_blocks(function: Callable[..., np.ndarray], *arrays: np.ndarray) -> np.ndarray:
    """Return ``function`` of arrays (N, ...), (N,), a few images at a time, so that memory is bounded."""
    n = len(arrays[0])
    each = max(1, _CELLS // max(1, arrays[0][:1].size))
    parts = [function(*(array[k : k + each] for array in arrays)) for k in range(0, n, each)]
    return np.concatenate(parts) if parts else np.zeros(0)


def slices(total: int, at_once: int) -> Iterator[slice]:
    """Yield slices of ``at_once`` that cover ``total``."""
    for start in range(0, total, max(1, at_once)):
        yield slice(start, min(start + at_once, total))


def mean_estimate(
    values: Any, patients: Iterable[Any] | None = None, *, name: str = "mean", unit: str = "", level: float = 0.95,
    resamples: int = RESAMPLES, seed: int = 0, share: bool = False,
) -> Estimate:  # fmt: skip
    """Return the mean of ``values`` (N,), NaN left out, with its BCa bootstrap interval over ``patients`` (N,).

    The interval is widened as a normal interval is by Student's t and by n - 1 (the expanded percentiles of Hesterberg,
    The American Statistician 2015): of ten normal numbers the bootstrap's own misses the mean in 12 % of samples, this
    in 8 %.
    ``n`` is of patients; ``extra`` has ``images`` and ``left_out``. No interval (NaN) where one patient or none is
    left. Values that are all the same have an interval of no width, but for a ``share`` (values 0 or 1), which gets
    Jeffreys' interval. Raises DataError where lengths differ.
    """
    numbers_ = np.asarray(values, dtype=np.float64).ravel()
    owners = list(range(len(numbers_))) if patients is None else list(patients)
    if len(owners) != len(numbers_):
        raise DataError(f"there are {len(owners)} patients for {len(numbers_)} images; expected one for each")
    there = np.isfinite(numbers_)
    known = numbers_[there]
    extra = {"images": float(known.size), "left_out": float(numbers_.size - known.size)}
    comparison = compare(np.zeros(known.size, dtype=np.int64), 1,
                         clusters=[owner for owner, kept in zip(owners, there, strict=True) if kept])  # fmt: skip
    n, method = comparison.n_clusters, f"BCa bootstrap over patients, {resamples} resamples, widened for few patients"
    if not known.size:
        return Estimate(name, math.nan, n=0, method=method, unit=unit, extra=extra)
    value = float(known.mean())
    if n < 2:
        return Estimate(name, value, n=n, method=method, unit=unit, extra=extra)
    if not share and np.ptp(known) == 0:
        return Estimate(name, value, value, value, n=n, method="all images are alike", unit=unit, extra=extra)
    # Values of 0 and 1 that are no share must not be taken for one: moved, they are not.
    moved = 0.0 if share else -value
    draws = bootstrap_means(known + moved, comparison, n_resamples=resamples, seed=seed)
    limits = draws.interval(lambda means: means[..., 0], _widened(level, n))
    low, high = (float(limit.item()) - moved for limit in limits)
    return Estimate(name, value, low, high, n=n, method=method, unit=unit, extra=extra)


def _widened(level: float, n: int) -> float:
    """Return the level of bootstrap interval that holds ``level`` for a mean of ``n`` (2 or more)."""
    reach = math.sqrt(n / (n - 1)) * float(stdtrit(n - 1, (1 + level) / 2))
    return 1 - max(2 * float(ndtr(-reach)), 1e-12)  # of two patients: from the least draw to the largest
