"""An estimate from several trainings judged on the same cases: chance of the cases and chance of the training."""

from __future__ import annotations

import numpy as np
from scipy.stats import t as student

from medaudit.errors import DataError
from medaudit.statistics.estimate import Estimate


def two_level(
    name: str, point: np.ndarray, draws: np.ndarray, *, n: int, patients: int, unit: str = "", null: float = 0.0,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> Estimate:  # fmt: skip
    """Return the mean of ``point`` (S,), a value for each training, with an interval for both kinds of chance.

    ``draws`` (B, S) are the values under resampled patients, the same patients for all trainings. Its variance is that
    of the resampled mean, plus the variance between trainings over S; the degrees of freedom are Satterthwaite's from
    ``patients`` - 1 and S - 1, because a normal interval from three seeds is a third too narrow. ``extra`` holds the
    interval of each kind of chance alone (``image_low``, ``seed_low`` ...), the 90 % limits of both, and the standard
    errors. p is of the value being ``null``, two-sided; limits are cut to ``bounds``, which no value can leave. One
    training has no seed part: both limits are then those of the cases (``trainings`` 1 says so).
    Raises DataError for other shapes.
    """
    point, draws = np.asarray(point, dtype=np.float64), np.asarray(draws, dtype=np.float64)
    if point.ndim != 1 or draws.ndim != 2 or draws.shape[1] != len(point) or not len(point):
        raise DataError(f"points have shape {point.shape}, draws {draws.shape}; expected (S,) and (B, S)")
    value, seeds = float(point.mean()), len(point)
    mean = draws.mean(axis=1)
    by_case = float(np.nanvar(mean, ddof=1))
    by_seed = float(point.var(ddof=1)) / seeds if seeds > 1 else 0.0
    total = by_case + by_seed
    case_freedom, seed_freedom = max(patients - 1, 1), max(seeds - 1, 1)
    bottom = by_case**2 / case_freedom + (by_seed**2 / seed_freedom if seeds > 1 else 0.0)
    freedom = total**2 / bottom if bottom > 0 else float(case_freedom)
    error = total**0.5
    half = error * float(student.ppf(0.975, freedom))
    half_90 = error * float(student.ppf(0.95, freedom))
    low, high = np.nanquantile(mean, [0.025, 0.975]) if np.isfinite(mean).any() else (np.nan, np.nan)
    of_seed = float(student.ppf(0.975, seed_freedom)) * by_seed**0.5 if seeds > 1 else float("nan")
    p = 2 * float(student.sf(abs(value - null) / error, freedom)) if error > 0 else float("nan")

    def cut(limit: float) -> float:
        return float(np.clip(limit, *bounds))

    return Estimate(
        name=name,
        value=value,
        low=cut(value - half),
        high=cut(value + half),
        p=p,
        n=n,
        method="bootstrap of patients and variance between trainings, Satterthwaite's t",
        unit=unit,
        extra={
            "image_low": float(low),
            "image_high": float(high),
            "seed_low": cut(value - of_seed),
            "seed_high": cut(value + of_seed),
            "low_90": cut(value - half_90),
            "high_90": cut(value + half_90),
            "se_image": by_case**0.5,
            "se_seed": by_seed**0.5,
            "trainings": float(seeds),
        },
    )
