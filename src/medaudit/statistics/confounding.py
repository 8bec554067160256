"""Is a pooled gap made by the source? The gap and its best-worst contrast before and after adjusting for it.

The adjusted means come from the additive model y ~ group + source. Because both are categorical, the model needs only
the counts and sums of the group x source table; so each bootstrap resample is one row of a matrix product and one
system of G equations (the sources are eliminated first), and 10,000 clustered refits take a fraction of a second.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from medaudit.statistics.bootstrap import range_interval
from medaudit.statistics.comparison import Comparison, as_columns
from medaudit.statistics.disparity import gap
from medaudit.statistics.estimate import Estimate
from medaudit.statistics.regression import FTest, added_factor
from medaudit.statistics.resampling import cluster_weights


@dataclass(frozen=True)
class Attenuation:
    """How much of a pooled disparity goes away when the source is adjusted for.

    ``best`` and ``worst`` are the codes of the groups with the highest and lowest pooled mean; ``raw`` and
    ``adjusted`` their contrast (highest - lowest, so raw is never negative), ``attenuation`` = 1 - adjusted /
    raw: 0 if the source explains nothing, 1 if everything, negative if it hid part of the gap. The pair was
    chosen because it is extreme, so raw is somewhat too large. Each contrast's ``extra`` holds its 90 % limits,
    for equivalence. ``gap_*`` are max-min of raw and adjusted means, ``eta2_*`` eta^2 and partial eta^2 (type
    II) of the group; the ``*_attenuation`` are their relative losses. Papers print these with the sign turned
    ("-6 %").
    """

    best: int
    worst: int
    raw: Estimate
    adjusted: Estimate
    attenuation: Estimate
    gap_raw: float
    gap_adjusted: float
    gap_attenuation: float
    eta2_raw: float
    eta2_adjusted: float
    eta2_attenuation: float
    group_test: FTest
    adjusted_group_test: FTest
    source_test: FTest
    means_raw: np.ndarray
    means_adjusted: np.ndarray
    reason: str = ""


def attenuation(
    values: ArrayLike,
    comparison: Comparison,
    sources: ArrayLike,
    *,
    level: float = 0.95,
    n_resamples: int = 10_000,
    seed: int | np.random.Generator = 0,
) -> Attenuation:
    """Return the :class:`Attenuation` of group differences in ``values`` (n,) by ``sources`` (n,) codes, -1 unknown.

    Raw and adjusted use the same cases (those with a known source and a value). The intervals are percentile
    intervals of the clustered bootstrap for the fixed pair of groups; the attenuation has one only where the raw
    gap excludes 0, since a share of nothing has no bounds. arXiv 2510.27421 leaves its "effect size"
    undefined: the three variants are our choice.
    """
    y = as_columns(values, comparison)[:, 0]
    codes = np.asarray(sources, dtype=np.int64)
    chosen = comparison.subset(comparison.known & np.isfinite(y) & (codes >= 0))
    n = chosen.n_cases
    counts, sums = _cells(y, chosen, codes)
    centre = sums.sum() / max(n, 1)
    sums = sums - centre * counts
    table_counts, table_sums = counts.sum(0), sums.sum(0)
    raw_means, adjusted_means = _raw_means(table_counts, table_sums), _adjusted_means(table_counts, table_sums)
    if np.isfinite(raw_means).sum() < 2:
        return _nothing(comparison, n, "fewer than two groups have a score and a source")
    best, worst = int(np.nanargmax(raw_means)), int(np.nanargmin(raw_means))
    mean_draws = np.empty((n_resamples, 1, chosen.n_groups))
    adjusted_draws = np.empty(n_resamples)
    shape = counts.shape
    flat = np.concatenate([counts.reshape(shape[0], -1), sums.reshape(shape[0], -1)], axis=1).astype(np.float32)
    for rows, weights in cluster_weights(chosen, n_resamples, seed):
        tables = (weights @ flat).astype(np.float64).reshape(len(weights), 2, *shape[1:])
        mean_draws[rows, 0] = _raw_means(tables[:, 0], tables[:, 1])
        means = _adjusted_means(tables[:, 0], tables[:, 1])
        adjusted_draws[rows] = means[:, best] - means[:, worst]
    raw_draws = mean_draws[:, 0, best] - mean_draws[:, 0, worst]
    lonely = chosen.clusters_per_group == 1
    thin = bool(lonely[[best, worst]].any())
    # The pair was picked as the extreme one, so its own interval excludes 0 too easily; the gap's does not.
    evident = bool(range_interval(raw_means[None], mean_draws, lonely[None], level)[0][0] > 0)
    raw = _contrast("contrast", raw_means[best] - raw_means[worst], raw_draws, n, level, thin)
    adjusted = _contrast(
        "contrast within source", adjusted_means[best] - adjusted_means[worst], adjusted_draws, n, level, thin
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        lost = 1 - adjusted_draws / raw_draws
    share = _contrast("attenuation", _loss(raw.value, adjusted.value), lost, n, level, thin or not evident)
    reason = ""
    if math.isnan(adjusted.value):
        reason = "the groups are not connected through shared sources, so source and group cannot be told apart"
    elif not evident:
        reason = "the pooled gap itself is not distinguishable from 0"

    who = chosen.clusters if chosen.n_clusters < n else None
    plain = added_factor(y, chosen.groups, clusters=who)
    within = added_factor(y, chosen.groups, [codes], clusters=who)
    gap_raw, gap_adjusted = float(gap(raw_means)), float(gap(adjusted_means))
    return Attenuation(
        best=best,
        worst=worst,
        raw=raw,
        adjusted=adjusted,
        attenuation=share,
        gap_raw=gap_raw,
        gap_adjusted=gap_adjusted,
        gap_attenuation=_loss(gap_raw, gap_adjusted),
        eta2_raw=plain.partial_eta2,
        eta2_adjusted=within.partial_eta2,
        eta2_attenuation=_loss(plain.partial_eta2, within.partial_eta2),
        group_test=plain,
        adjusted_group_test=within,
        source_test=added_factor(y, codes, [chosen.groups], clusters=who),
        means_raw=raw_means + centre,
        means_adjusted=adjusted_means + centre,
        reason=reason,
    )


def _cells(y: np.ndarray, comparison: Comparison, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each cluster's counts and sums in the group x source table, both (C, G, S)."""
    known = comparison.known
    shape = (comparison.n_clusters, comparison.n_groups, int(codes.max(initial=0)) + 1)
    counts, sums = np.zeros(shape), np.zeros(shape)
    where = (comparison.clusters[known], comparison.groups[known], codes[known])
    np.add.at(counts, where, 1.0)
    np.add.at(sums, where, y[known])
    return counts, sums


def _raw_means(counts: np.ndarray, sums: np.ndarray) -> np.ndarray:
    size = counts.sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(size > 0, sums.sum(-1) / size, np.nan)


def _adjusted_means(counts: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """Return the group means adjusted for source, (..., G), from tables of counts and sums (..., G, S).

    Their level is that of the cohort's mix of groups. All NaN where no chain of shared sources connects the groups.
    """
    in_source = np.maximum(counts.sum(-2, keepdims=True), 1e-12)
    share = counts / in_source
    size = counts.sum(-1)
    system = np.eye(counts.shape[-2]) * size[..., None] - share @ np.swapaxes(counts, -1, -2)
    target = sums.sum(-1) - (share * sums.sum(-2, keepdims=True)).sum(-1)
    # The system is a graph Laplacian: groups are nodes, shared sources edges. Its kernel is the common level;
    # adding that level back makes it regular exactly if all present groups are connected.
    present = (size > 0).astype(np.float64)
    total = np.maximum(size.sum(-1), 1.0)[..., None, None]
    system = system + present[..., :, None] * present[..., None, :] * total / counts.shape[-2] ** 2
    system = system + np.eye(counts.shape[-2]) * np.where(size > 0, 0.0, total[..., 0])[..., None]
    regular = np.linalg.eigvalsh(system)[..., 0] > 1e-9 * total[..., 0, 0]
    safe = np.where(regular[..., None, None], system, np.eye(counts.shape[-2]))
    effects = np.linalg.solve(safe, target[..., None])[..., 0]
    level = (sums.sum((-2, -1)) - (effects * size).sum(-1)) / total[..., 0, 0]
    return np.where(regular[..., None] & (size > 0), effects + level[..., None], np.nan)


def _contrast(name: str, value: float, draws: np.ndarray, n: int, level: float, blind: bool) -> Estimate:
    known = draws[np.isfinite(draws)]
    method = "clustered bootstrap, percentile"
    if blind or not math.isfinite(value) or known.size < draws.size / 2:
        return Estimate(name, float(value), n=n, method=method)
    low, high, low_90, high_90 = (float(q) for q in np.quantile(known, [(1 - level) / 2, (1 + level) / 2, 0.05, 0.95]))
    return Estimate(name, float(value), low, high, n=n, method=method, extra={"low_90": low_90, "high_90": high_90})


def _loss(before: float, after: float) -> float:
    return 1 - after / before if before > 0 else math.nan


def _nothing(comparison: Comparison, n: int, reason: str) -> Attenuation:
    none = Estimate("contrast", math.nan, n=n)
    test = FTest(math.nan, 0, 0, n, reason=reason)
    means = np.full(comparison.n_groups, np.nan)
    nan = math.nan
    return Attenuation(-1, -1, none, none, none, nan, nan, nan, nan, nan, nan, test, test, test, means, means, reason)
