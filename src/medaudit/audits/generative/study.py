"""The statistics: gaps by share, what representation does, what each uncertainty says, with both kinds of chance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from medaudit.audits.generative.design import Design
from medaudit.audits.generative.settings import Settings
from medaudit.errors import DataError
from medaudit.metrics.ranking_draws import ranking_draws
from medaudit.statistics import (
    Estimate,
    Standardised,
    compare,
    patient_weights,
    spearman_draws,
    standardised,
    two_level,
)

WORST = 0.1
"""The share of reconstructions that count as the worst."""
AUROC: Any = {"null": 0.5, "bounds": (0.0, 1.0)}
FORETOLD = "squared_error"
"""The error that uncertainties are judged by: all of them but rho are in its units, or bounds on its likelihood."""


@dataclass(frozen=True, eq=False)
class Measured:
    """What the models of K shares and S seeds do with n test cases: errors and uncertainties by name, (K, S, n)."""

    rows: np.ndarray
    errors: Mapping[str, np.ndarray]
    scores: Mapping[str, np.ndarray]
    luminance: np.ndarray
    """Mean of each image, (n,)."""


@dataclass(frozen=True, eq=False)
class Ratio:
    """How many times the minority's error is the majority's, and both means: a share and a metric."""

    estimate: Estimate
    """Of the logarithm of the ratio."""
    means: tuple[float, float]
    seeds: np.ndarray
    """The ratio in each training."""


@dataclass(frozen=True, eq=False)
class Judged:
    """What one uncertainty says, by share: AUROC for the minority, for the worst reconstructions, and correlations."""

    for_group: tuple[Estimate, ...]
    for_worst: tuple[Estimate, ...]
    with_error: tuple[Estimate, ...]
    """Spearman with the squared error, all test cases."""
    within: tuple[tuple[Estimate, Estimate], ...]
    """The same within the majority and within the minority."""
    with_luminance: tuple[Estimate, ...]
    follows_brightness: tuple[Estimate, ...]
    """|correlation with luminance| - correlation with error: above 0 it says more of brightness than of error."""


@dataclass(frozen=True, eq=False)
class Study:
    """All that the findings and the page are made from."""

    design: Design
    settings: Settings
    measured: Measured
    ratios: Mapping[str, tuple[Ratio, ...]]
    representation: Mapping[str, tuple[Estimate, Estimate]]
    """By metric: the logarithm of error without over error with the group alone, of the majority and the minority."""
    crossing: Mapping[str, Estimate]
    """By metric: the share at which both groups have one error."""
    mix: Mapping[str, Standardised]
    judged: Mapping[str, Judged]
    beats: Mapping[str, Estimate]
    """By uncertainty: its correlation with error minus that of the encoder's variance, at the balanced share."""
    patients: tuple[int, int]

    @property
    def minority(self) -> np.ndarray:
        """Which test cases are of the minority, (n,) bool."""
        return self.design.code[self.measured.rows] == 1


def study(design: Design, measured: Measured, settings: Settings, baseline: str = "encoder_variance") -> Study:
    """Return the study of what was measured; ``baseline`` is the uncertainty that others are compared with.

    Another metric than the main one that is not a number of some image is left out; DataError where the main one is.
    """
    for name in (settings.metric, FORETOLD):
        lost = int((~np.isfinite(measured.errors[name]).all(axis=(0, 1))).sum())
        if lost:
            raise DataError(f"{name} of {lost} test image{'s' * (lost > 1)} is not a number; drop them")
    minority = design.code[measured.rows] == 1
    clusters, weights = patient_weights(
        design.clusters[measured.rows], settings.resamples, settings.seed, minority.astype(int)
    )
    patients = tuple(len(np.unique(clusters[minority == g])) for g in (False, True))
    known = {name: values for name, values in measured.errors.items() if np.isfinite(values).all()}
    logs = {name: _group_logs(values, minority, clusters, weights) for name, values in known.items()}
    n, people = len(minority), min(patients)
    ratios = {}
    for name, (point, drawn) in logs.items():
        entries = []
        for k in range(len(settings.shares)):
            estimate = two_level(
                "log ratio of errors", point[1, k] - point[0, k], drawn[:, 1, k] - drawn[:, 0, k], n=n, patients=people
            )
            means = tuple(float(np.exp(point[g, k]).mean()) for g in (0, 1))
            entries.append(Ratio(estimate, (means[0], means[1]), np.exp(point[1, k] - point[0, k])))
        ratios[name] = tuple(entries)
    error = measured.errors[FORETOLD]
    judges = {
        name: judged(values, error, measured.luminance, minority, clusters, weights)
        for name, values in measured.scores.items()
    }
    return Study(
        design,
        settings,
        measured,
        ratios,
        {name: _representation(*both, n=n, patients=people) for name, both in logs.items()},
        {name: _crossing(*both, shares=settings.shares, n=n) for name, both in logs.items()},
        _mix(design, measured, settings, minority),
        judges,
        _beats(measured, settings, baseline, clusters, weights),
        (patients[0], patients[1]),
    )


def as_ratio(estimate: Estimate, name: str) -> Estimate:
    """Return an estimate of a logarithm as one of the ratio itself; p and n are the same."""
    extra = {
        key: (float(np.exp(value)) if key.endswith(("low", "high", "_90")) else value)
        for key, value in estimate.extra.items()
    }
    low, high = float(np.exp(estimate.low)), float(np.exp(estimate.high))
    return replace(estimate, name=name, value=float(np.exp(estimate.value)), low=low, high=high, extra=extra)


def _group_logs(
    values: np.ndarray, minority: np.ndarray, clusters: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the logarithm of each group's mean error, (2, K, S), and by resample, (B, 2, K, S)."""
    point, drawn = [], []
    for g in (False, True):
        inside = minority == g
        flat = values[..., inside].reshape(-1, inside.sum())
        cases = weights[:, clusters[inside]].astype(np.float64)
        point.append(np.log(flat.mean(axis=1)).reshape(values.shape[:2]))
        drawn.append(np.log(cases @ flat.T / cases.sum(axis=1)[:, None]).reshape(-1, *values.shape[:2]))
    return np.stack(point), np.stack(drawn, axis=1)


def _representation(point: np.ndarray, drawn: np.ndarray, *, n: int, patients: int) -> tuple[Estimate, Estimate]:
    """Return for both groups the logarithm of the error at its lowest share over that at its highest."""
    name = "log ratio of errors, least over most represented"
    ends = ((-1, 0), (0, -1))  # the majority is least represented where the minority's share is highest
    return tuple(
        two_level(
            name, point[g, least] - point[g, most], drawn[:, g, least] - drawn[:, g, most], n=n, patients=patients
        )
        for g, (least, most) in enumerate(ends)
    )  # type: ignore[return-value]


def _crossing(point: np.ndarray, drawn: np.ndarray, *, shares: tuple[float, ...], n: int) -> Estimate:
    """Return the minority's share at which the errors are equal, by straight lines between shares; NaN: none."""

    def where(gap: np.ndarray) -> float:
        change = np.flatnonzero((gap[:-1] > 0) & (gap[1:] <= 0))
        if len(change) != 1:
            return float("nan")
        k = int(change[0])
        return shares[k] + (shares[k + 1] - shares[k]) * float(gap[k] / (gap[k] - gap[k + 1]))

    found = where((point[1] - point[0]).mean(axis=1))
    resampled = np.asarray([where(gap) for gap in (drawn[:, 1] - drawn[:, 0]).mean(axis=2)])
    crossed = resampled[np.isfinite(resampled)]
    low, high = np.quantile(crossed, [0.025, 0.975]) if len(crossed) else (np.nan, np.nan)
    return Estimate("share of equal errors", found, float(low), float(high), n=n, method="bootstrap of patients",
                    extra={"resamples_without": 1 - len(crossed) / max(len(resampled), 1)})  # fmt: skip


def _mix(design: Design, measured: Measured, settings: Settings, minority: np.ndarray) -> dict[str, Standardised]:
    """Return by metric the gap at the balanced share, raw and at one mix of the strata."""
    if design.strata is None:
        return {}
    comparison = compare(minority.astype(np.int64), clusters=design.clusters[measured.rows])
    strata = design.strata[measured.rows]
    found = {}
    for name, values in measured.errors.items():
        if not np.isfinite(values).all():
            continue
        mean = values[settings.balanced].mean(axis=0)
        found[name] = standardised(mean, mean, comparison, strata, n_resamples=settings.resamples, seed=settings.seed)
    return found


def judged(
    values: np.ndarray, error: np.ndarray, luminance: np.ndarray, minority: np.ndarray, clusters: np.ndarray,
    weights: np.ndarray,
) -> Judged:  # fmt: skip
    """Return what an uncertainty ``values`` (K, S, n) says of errors (K, S, n), groups and brightness (n,)."""
    once = np.ones((1, weights.shape[1]), dtype=weights.dtype)
    n, people = len(minority), weights.shape[1]
    group, worst, pooled, within, bright, follows = [], [], [], [], [], []
    for k in range(len(values)):
        args = (np.ascontiguousarray(values[k]), minority, None, clusters)
        point, drawn = (ranking_draws(*args, w)["auroc"] for w in (once, weights))
        group.append(two_level("AUROC", point[0], drawn, n=n, patients=people, **AUROC))
        pairs = [_worst(values[k, s], error[k, s], clusters, once, weights) for s in range(values.shape[1])]
        worst.append(
            two_level(
                "AUROC",
                np.asarray([p for p, _ in pairs]),
                np.stack([d for _, d in pairs], 1),
                n=n,
                patients=people,
                **AUROC,
            )
        )
        pooled.append(_correlation(values[k], error[k], clusters, weights))
        halves = []
        for g in (False, True):
            inside = minority == g
            halves.append(_correlation(values[k][:, inside], error[k][:, inside], clusters[inside], weights))
        within.append((halves[0], halves[1]))
        light = np.broadcast_to(luminance, values[k].shape)
        bright.append(_correlation(values[k], light, clusters, weights))
        with_light, over_light = (spearman_draws(values[k], light, clusters, w) for w in (once, weights))
        # The direction is the trainings' common one: a mean of |rho| grows with noise, and never has a mean of 0.
        direction = np.sign(with_light.mean()) or 1.0
        here = direction * with_light - spearman_draws(values[k], error[k], clusters, once)
        over = direction * over_light - spearman_draws(values[k], error[k], clusters, weights)
        follows.append(two_level("|rho with luminance| - rho with error", here[0], over, n=n, patients=people))
    return Judged(tuple(group), tuple(worst), tuple(pooled), tuple(within), tuple(bright), tuple(follows))


def _worst(
    values: np.ndarray, error: np.ndarray, clusters: np.ndarray, once: np.ndarray, weights: np.ndarray
) -> tuple[float, np.ndarray]:
    worst = error >= np.quantile(error, 1 - WORST)
    args = (np.ascontiguousarray(values[None]), worst, None, clusters)
    point, drawn = (ranking_draws(*args, w)["auroc"] for w in (once, weights))
    return float(point[0, 0]), drawn[:, 0]


def _correlation(values: np.ndarray, error: np.ndarray, clusters: np.ndarray, weights: np.ndarray) -> Estimate:
    """Return Spearman's correlation of (S, n) with (S, n), averaged over seeds."""
    once = np.ones((1, weights.shape[1]))
    point, drawn = (spearman_draws(values, error, clusters, w) for w in (once, weights))
    return two_level(
        "Spearman's rho", point[0], drawn, n=values.shape[1], patients=len(np.unique(clusters)), bounds=(-1.0, 1.0)
    )


def _beats(
    measured: Measured, settings: Settings, baseline: str, clusters: np.ndarray, weights: np.ndarray
) -> dict[str, Estimate]:
    if baseline not in measured.scores:
        return {}
    error = measured.errors[FORETOLD][settings.balanced]
    once = np.ones((1, weights.shape[1]))
    base = [spearman_draws(measured.scores[baseline][settings.balanced], error, clusters, w) for w in (once, weights)]
    found = {}
    for name, values in measured.scores.items():
        if name == baseline:
            continue
        ours = [spearman_draws(values[settings.balanced], error, clusters, w) for w in (once, weights)]
        found[name] = two_level(
            f"rho of {name} - rho of {baseline}", ours[0][0] - base[0][0], ours[1] - base[1],
            n=error.shape[1], patients=weights.shape[1],
        )  # fmt: skip
    return found
