"""Permutation tests that all groups are treated alike, and what gap chance alone would show.

Labels are exchanged, scores stay; :mod:`~medaudit.statistics.exchange` says which labels may trade places.

With strata, scores are first centred within each stratum: a label exchange cannot change a stratum's mean, so
the test stays exact while differences between sources no longer add noise or a spurious gap.

Which statistic: for a continuous score the default p-value uses the largest Welch t over pairs. Permuting the
raw gap tests that whole *distributions* are equal; with unequal group sizes and unequal SDs it rejects far too
often or too seldom when only the means are equal, whereas a studentised statistic keeps its level (Janssen
1997; Chung & Romano 2013). For a 0/1 outcome equal rates are equal distributions, the raw DPD and DIR tests
are exact, and they are the default.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from medaudit.statistics.comparison import Comparison, as_columns
from medaudit.statistics.disparity import gap, pairs, ratio
from medaudit.statistics.exchange import exchange_units, exchanged_labels, movable_share


@dataclass(frozen=True)
class PermutationTest:
    """The result of :func:`permutation_test` for m measures; every array is (m,) unless said otherwise.

    ``means`` (m, G) are the observed group means (with strata: overall mean + mean deviation from the stratum);
    ``gap`` and ``ratio`` are their max-min and min/max; ``p_gap``, ``p_ratio`` and ``p_studentised`` the
    p-values of the raw gap, the ratio (0/1 measures only) and the largest Welch t. ``null_gap`` and
    ``null_ratio`` (B, m) are what chance shows. ``movable`` is the share of cases whose label could have been
    another.
    """

    means: np.ndarray
    binary: np.ndarray
    gap: np.ndarray
    ratio: np.ndarray
    p_gap: np.ndarray
    p_ratio: np.ndarray
    p_studentised: np.ndarray
    null_gap: np.ndarray
    null_ratio: np.ndarray
    movable: float
    n_permutations: int

    @property
    def p(self) -> np.ndarray:
        """The default p-value of the gap: studentised for scores, of the raw DPD for 0/1 outcomes."""
        return np.where(self.binary, self.p_gap, self.p_studentised)

    @property
    def null_gap_mean(self) -> np.ndarray:
        """E[gap | no difference]: never 0, and large for small groups."""
        return self.null_gap.mean(axis=0)

    @property
    def null_gap_95(self) -> np.ndarray:
        """The gap that chance exceeds in 5 % of cohorts like this one."""
        return np.quantile(self.null_gap, 0.95, axis=0)

    @property
    def bias_corrected_gap(self) -> np.ndarray:
        """The gap minus its null mean, cut at 0.

        A lower estimate: the max-min's upward bias is largest at the null and fades as the true gap grows.
        """
        return np.maximum(self.gap - self.null_gap_mean, 0.0)

    def null_ratio_below(self, threshold: float = 0.8) -> np.ndarray:
        """P(DIR < threshold | no difference): how often the four-fifths rule would accuse a fair system."""
        return np.where(self.binary, (self.null_ratio < threshold).mean(axis=0), np.nan)


def permutation_test(
    values: ArrayLike,
    comparison: Comparison,
    *,
    n_permutations: int = 10_000,
    seed: int | np.random.Generator = 0,
) -> PermutationTest:
    """Return permutation p-values and null distributions of gap and ratio for ``values`` (n,) or (n, m).

    p = (b + 1) / (B + 1), b = permutations at least as extreme (Phipson & Smyth 2010). Within strata if
    the comparison has them. NaN values are left out measure by measure, but their labels take part in the exchange.
    """
    matrix = as_columns(values, comparison)
    known = comparison.known
    rows = matrix[known]
    binary = np.all(np.isnan(rows) | (rows == 0) | (rows == 1), axis=0)
    finite = np.isfinite(rows)
    count = np.maximum(finite.sum(axis=0), 1)
    grand = np.nansum(rows, axis=0) / count
    centred = np.where(finite, rows - _stratum_means(rows, comparison, grand), 0.0)
    scale = np.sqrt((centred**2).sum(axis=0) / count)
    scale = np.where(scale > 0, scale, 1.0)

    standardised = np.where(finite, centred / scale, np.nan)
    (observed_means, observed_t), (null_means, null_t) = _statistics(standardised, comparison, n_permutations, seed)
    factor, offset = scale[:, None].astype(np.float32), grand[:, None].astype(np.float32)
    null_gap = gap(null_means * factor)
    observed_gap = gap(observed_means * factor)
    with np.errstate(invalid="ignore"):
        null_ratio = np.where(binary, ratio(null_means * factor + offset), np.nan)
        observed_ratio = np.where(binary, ratio(observed_means * factor + offset), np.nan)
    valid = np.isfinite(observed_gap) & (np.isfinite(observed_means).sum(axis=-1) >= 2)
    return PermutationTest(
        means=(observed_means * scale[:, None] + grand[:, None]).astype(np.float64),
        binary=binary,
        gap=observed_gap.astype(np.float64),
        ratio=observed_ratio.astype(np.float64),
        p_gap=_p_value(observed_gap, null_gap, valid, scale),
        p_ratio=_p_value(-observed_ratio, -null_ratio, valid & np.isfinite(observed_ratio)),
        p_studentised=_p_value(observed_t, null_t, valid),
        null_gap=null_gap,
        null_ratio=null_ratio,
        movable=movable_share(comparison),
        n_permutations=n_permutations,
    )


def exchanged_means(
    values: np.ndarray, comparison: Comparison, n_permutations: int, seed: int | np.random.Generator
) -> np.ndarray:
    """Return the group means of ``values`` (n,) under exchanged labels, (B, G): a null to build other tests on."""
    rows = as_columns(values, comparison)[comparison.known]
    _, (null_means, _) = _statistics(rows, comparison, n_permutations, seed)
    return null_means[:, 0]


def _statistics(
    rows: np.ndarray, comparison: Comparison, n_permutations: int, seed: int | np.random.Generator
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return (means (m, G), Welch t (m,)) as observed and (means (B, m, G), t (B, m)) under exchange."""
    finite = np.isfinite(rows)
    units, labels = exchange_units(comparison)
    sums, sizes = np.zeros((labels.size, rows.shape[1])), np.zeros((labels.size, rows.shape[1]))
    np.add.at(sums, units, np.where(finite, rows, 0.0))
    np.add.at(sizes, units, finite.astype(np.float64))
    columns = _Columns(sums, sizes)
    means, t = columns.statistics(labels[None], comparison.n_groups)
    null_means = np.empty((n_permutations, rows.shape[1], comparison.n_groups), dtype=np.float32)
    null_t = np.empty((n_permutations, rows.shape[1]), dtype=np.float32)
    for part, exchanged in exchanged_labels(comparison, n_permutations, seed):
        null_means[part], null_t[part] = columns.statistics(exchanged, comparison.n_groups)
    return (means[0], t[0]), (null_means, null_t)


class _Columns:
    """Sums over units that give every group's mean and cluster-robust variance by one matrix product a group."""

    def __init__(self, sums: np.ndarray, sizes: np.ndarray) -> None:
        self.m = sums.shape[1]
        self.complete = bool((sizes == 1).all())
        parts = [sums, sums**2]
        if self.complete:
            parts.append(np.ones((len(sums), 1)))
        else:
            parts += [sizes, sums * sizes, sizes**2, (sizes > 0).astype(np.float64)]
        self.matrix = np.concatenate(parts, axis=1).astype(np.float32)

    def statistics(self, labels: np.ndarray, n_groups: int) -> tuple[np.ndarray, np.ndarray]:
        """Return group means (b, m, G) and the largest Welch t over pairs (b, m) under ``labels`` (b, U)."""
        means = np.empty((len(labels), self.m, n_groups), dtype=np.float32)
        variances = np.empty_like(means)
        for g in range(n_groups):
            group = (labels == g).astype(np.float32) @ self.matrix
            means[..., g], variances[..., g] = self._moments(group)
        i, j = pairs(n_groups)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = np.abs(means[..., i] - means[..., j]) / np.sqrt(variances[..., i] + variances[..., j])
        return means, np.fmax.reduce(np.nan_to_num(t, nan=0.0, posinf=np.inf), axis=-1, initial=0.0)

    def _moments(self, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        m = self.m
        sums, squares = group[:, :m], group[:, m : 2 * m]
        if self.complete:
            sizes = crossed = squared = clusters = group[:, 2 * m :]
            crossed = sums
        else:
            sizes, crossed, squared, clusters = (group[:, k * m : (k + 1) * m] for k in range(2, 6))
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = np.where(sizes > 0.5, sums / sizes, np.nan)
            spread = squares - 2 * mean * crossed + mean**2 * squared
            variance = np.maximum(spread, 0.0) / sizes**2 * (clusters / (clusters - 1.0))
        return mean, np.where(clusters > 1.5, variance, np.nan)


def _stratum_means(rows: np.ndarray, comparison: Comparison, grand: np.ndarray) -> np.ndarray:
    if comparison.strata is None:
        return grand[None, :]
    codes = comparison.strata[comparison.known]
    finite = np.isfinite(rows)
    shape = (int(codes.max(initial=-1)) + 1, rows.shape[1])
    sums, sizes = np.zeros(shape), np.zeros(shape)
    np.add.at(sums, codes, np.where(finite, rows, 0.0))
    np.add.at(sizes, codes, finite.astype(np.float64))
    return (sums / np.maximum(sizes, 1.0))[codes]


def _p_value(observed: np.ndarray, null: np.ndarray, valid: np.ndarray, scale: np.ndarray | float = 1.0) -> np.ndarray:
    # A permutation that ties with the observed labels must count, whatever single precision did to its sums.
    tolerance = np.where(np.isfinite(observed), 1e-5 * np.abs(observed) + 1e-6 * scale, 0.0)
    extreme = (null >= observed - tolerance).sum(axis=0)
    return np.where(valid, (extreme + 1) / (len(null) + 1), np.nan)
