"""Clustered bootstrap of group means: one set of draws from which every disparity's interval follows.

The draws of group means (B, m, G) are made once, as matrix products. A gap, a DPD, a DIR, an equity-scaled
mean, or a difference between two measures' gaps is then a function of those draws, and paired comparisons are
paired because all m measures share the resampled patients.

The interval of a max-min gap needs care. The gap is biased upward (noise alone makes groups differ), so its
percentile interval sits too high when the true gap is small. :func:`gap_interval` inverts the question
instead: the lower limit comes from simultaneous max-t bounds over all pairs, so that it exceeds 0 only if the
pair survives the multiplicity; the upper limit is the largest upper limit of any pair. Both limits are honest
whichever pair is the true extreme (our choice; ``benchmarks/calibration.py`` measures the coverage).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri

from medaudit.statistics.comparison import Comparison, as_columns
from medaudit.statistics.disparity import gap, group_means, pairs, pairwise_differences, ratio
from medaudit.statistics.resampling import cluster_weights, resampling_blocks

Statistic = Callable[[np.ndarray], np.ndarray]
"""Maps group means (..., m, G) to (..., k): :func:`~medaudit.statistics.gap`, or a function of several measures."""

Interval = tuple[np.ndarray, np.ndarray]

_SUMMED_CELLS = 1 << 24
"""Sums of clusters that are held at once, in double precision: 128 MB."""


@dataclass(frozen=True, eq=False)
class Draws:
    """Bootstrap draws of group means: ``means`` (B, m, G), the ``observed`` means and the case ``sizes``, both (m, G).

    ``centre`` (m, G) is what the draws scatter around: the observed means, but for unanimous 0/1 groups.
    ``jackknife`` (C, m, G) are the means without each cluster, None where they were not asked for, and ``block`` (C,)
    the set each cluster was drawn from: what BCa needs. ``thin`` (m, G) marks groups with a value but fewer than two
    clusters with one: nothing can be said about their uncertainty, their draws are NaN and any interval that depends
    on them is NaN.
    """

    observed: np.ndarray
    sizes: np.ndarray
    means: np.ndarray
    centre: np.ndarray
    jackknife: np.ndarray | None
    block: np.ndarray
    thin: np.ndarray

    def interval(
        self, statistic: Statistic, level: float = 0.95, method: Literal["bca", "percentile"] = "bca"
    ) -> Interval:
        """Return the low and high limits of ``statistic``, two arrays of its shape (k,).

        ``bca`` corrects the percentile interval for bias and skew (Efron 1987), the acceleration from a jackknife
        over clusters, within the sets they were drawn from.

        Raises:
            ValueError: BCa is asked of draws without a jackknife.
        """
        if method == "bca" and self.jackknife is None:
            raise ValueError("BCa needs the jackknife: draw with jackknife=True")
        observed = statistic(self.observed)
        draws = statistic(self.means)
        tail = np.array([(1 - level) / 2, (1 + level) / 2])
        share = np.broadcast_to(tail[:, None], (2, observed.size))
        if method == "bca":
            share = self._bca_shares(statistic(self.centre).ravel(), draws.reshape(len(draws), -1), statistic, tail)
        limits = _quantiles(draws.reshape(len(draws), -1), share).reshape(2, *observed.shape)
        # An estimate that rests on a group that cannot be resampled would look certain: it gets no interval.
        blind = statistic(np.where(self.thin, np.nan, self.observed))
        limits[:, ~np.isclose(observed, blind, rtol=1e-12, atol=0.0)] = np.nan
        return limits[0], limits[1]

    def _bca_shares(self, centre: np.ndarray, draws: np.ndarray, statistic: Statistic, tail: np.ndarray) -> np.ndarray:
        finite = np.isfinite(draws)
        below = ((draws < centre) & finite).sum(0) + 0.5 * ((draws == centre) & finite).sum(0)
        count = np.maximum(finite.sum(0), 1)
        # Half a draw at either end keeps the bias finite when every draw lies on one side.
        bias = ndtri(np.clip(below / count, 0.5 / count, 1 - 0.5 / count))
        assert self.jackknife is not None  # interval has asked
        left_out = statistic(self.jackknife).reshape(len(self.jackknife), centre.size)
        cubes, squares = np.zeros_like(centre), np.zeros_like(centre)
        for code in np.unique(self.block):
            part = left_out[self.block == code]
            influence = (_mean(part) - part) * (len(part) - 1) / len(part)
            cubes += np.nansum(influence**3, axis=0)
            squares += np.nansum(influence**2, axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            acceleration = np.nan_to_num(cubes / (6.0 * squares**1.5))
            shifted = bias + ndtri(tail)[:, None]
            return ndtr(bias + shifted / (1.0 - acceleration * shifted))


def bootstrap_means(
    values: ArrayLike,
    comparison: Comparison,
    *,
    n_resamples: int = 10_000,
    seed: int | np.random.Generator = 0,
    jackknife: bool = True,
) -> Draws:
    """Return bootstrap :class:`Draws` of the group means of ``values`` (n,) or (n, m), NaN = missing.

    The unit is the cluster; the same resampled clusters serve all m measures. A 0/1 measure on which a whole group
    agrees cannot be resampled into anything else (0 successes in 30 is not certainty): that group's rates are
    drawn from the Jeffreys posterior Beta(successes + 1/2, failures + 1/2) with the clusters as its n (our
    choice).
    """
    matrix = as_columns(values, comparison)
    rng = np.random.default_rng(seed)
    n_measures, n_groups, n_clusters = matrix.shape[1], comparison.n_groups, comparison.n_clusters
    observed, sizes = group_means(matrix, comparison)
    finite = np.isfinite(matrix)
    # Centred values keep single precision exact to 1e-6 of a standard deviation.
    middle = np.nan_to_num(_mean(matrix[comparison.known]))
    uniform = bool((finite | ~comparison.known[:, None]).all())
    sums = np.empty((n_clusters, n_measures, n_groups), dtype=np.float32)
    counts = np.empty((n_clusters, 1 if uniform else n_measures, n_groups), dtype=np.float32)
    without = np.empty((n_clusters, n_measures, n_groups)) if jackknife else None
    with_value = np.empty((n_measures, n_groups), dtype=np.int64)
    # A million patients at fifty thresholds are a gigabyte in double precision: measures are summed a few at a time.
    width = max(1, _SUMMED_CELLS // max(n_clusters * n_groups, 1))
    for part in (slice(start, start + width) for start in range(0, n_measures, width)):
        here = finite[:, part]
        total = _per_cluster(np.where(here, matrix[:, part] - middle[part], 0.0), comparison)
        number = _per_cluster(here.astype(np.float64), comparison)
        sums[:, part] = total
        if not uniform or part.start == 0:
            counts[:, slice(0, 1) if uniform else part] = number[:, :1] if uniform else number
        with_value[part] = (number > 0).sum(0)
        if without is not None:
            without[:, part] = _ratio(total.sum(0) - total, number.sum(0) - number) + middle[part][:, None]
    flat_sums = sums.reshape(n_clusters, n_measures * n_groups)
    flat_counts = counts.reshape(n_clusters, counts.shape[1] * n_groups)

    means = np.empty((n_resamples, n_measures, n_groups), dtype=np.float32)
    for rows, weights in cluster_weights(comparison, n_resamples, rng):
        total = (weights @ flat_sums).reshape(-1, n_measures, n_groups)
        number = (weights @ flat_counts).reshape(len(weights), counts.shape[1], n_groups)
        means[rows] = _ratio(total, number)
    means += middle[:, None].astype(np.float32)

    thin = (with_value == 1) & (sizes > 0)
    means[:, thin] = np.nan
    centre = observed.copy()
    for j, g in _unanimous(matrix, observed, comparison):
        successes = observed[j, g] * with_value[j, g]
        means[:, j, g] = rng.beta(successes + 0.5, with_value[j, g] - successes + 0.5, n_resamples)
        centre[j, g] = np.median(means[:, j, g])

    block = np.empty(n_clusters, dtype=np.int64)
    for code, members in enumerate(resampling_blocks(comparison)):
        block[members] = code
    return Draws(observed, sizes, means, centre, without, block, thin)


def gap_interval(draws: Draws, level: float = 0.95) -> Interval:
    """Return the interval of each measure's max-min gap (DPD for a 0/1 measure), two arrays (m,).

    See the file's head for the construction; for two groups it is the interval of abs(mean_1 - mean_2), cut at 0.
    """
    return range_interval(draws.centre, draws.means, draws.thin, level)


def ratio_interval(draws: Draws, level: float = 0.95) -> Interval:
    """Return the interval of each 0/1 measure's DIR (smallest over largest rate), two arrays (m,).

    The construction of :func:`gap_interval` on log rates, with half a success added to every group, so that a
    resample without a success stays finite (as Haldane's correction does for Katz intervals). The upper limit is a
    percentile corrected for the number of pairs (Bonferroni), because the log of a small rate is too skewed for a
    multiple of its SD: 3 successes in 69 against 48 in 150 would otherwise reach a ratio of 1.
    """

    def smooth(rates: np.ndarray) -> np.ndarray:
        return np.log((rates * draws.sizes + 0.5) / (draws.sizes + 1.0))

    centres, drawn = smooth(draws.centre), smooth(draws.means)
    _, high = range_interval(centres, drawn, draws.thin, level)
    i, j = pairs(centres.shape[-1])
    apart = centres[:, i] - centres[:, j]
    oriented = np.sign(apart) * (drawn[..., i] - drawn[..., j])
    tail = np.full((1, apart.size), (1 - level) / (2 * i.size))
    bound = _quantiles(oriented.reshape(len(oriented), -1), tail).reshape(apart.shape)
    low = np.maximum(np.fmax.reduce(np.where(np.isfinite(apart), bound, np.nan), axis=-1, initial=np.nan), 0.0)
    # A group without a success has the ratio 0, which half a success more would put outside of its own interval.
    return np.minimum(np.exp(-high), ratio(draws.observed)), np.where(np.isnan(high), np.nan, np.exp(-low))


def gap_difference_interval(draws: Draws, a: int, b: int, level: float = 0.95) -> tuple[float, float, float]:
    """Return gap_a - gap_b of two measures (columns ``a`` and ``b``, e.g. two rulers) and its low and high limits.

    Paired, since both measures share the resampled patients. Either gap is biased upward, the more so the closer its
    groups: the true difference may be lower by gap a's bias and higher by gap b's, so a normal interval is lengthened
    by the one below and by the other above. The bias is the one at the smallest gap that :func:`gap_interval` allows,
    since at the observed gap, itself too large, it would be underestimated. No gap can change by more than the
    difference between some two groups does, so the interval ends there (our choice; where no gap is and one score is
    quiet, a percentile interval covers 5 % of the time, this one 98 %: ``benchmarks/calibration.py``).
    """
    observed = gap(draws.observed)
    difference = float(observed[a] - observed[b])
    if draws.thin[[a, b]].any():
        return difference, math.nan, math.nan
    centre, drawn = draws.centre[[a, b]], draws.means[:, [a, b]]
    gaps = gap(drawn)
    half = float(ndtri((1 + level) / 2)) * float(spread(gaps[:, 0] - gaps[:, 1]))
    above, below = _largest_bias(centre, drawn, level)
    change = centre[:1] - centre[1:], drawn[:, :1] - drawn[:, 1:]
    reach = float(range_interval(*change, draws.thin[[a]], level)[1][0])
    low, high = np.maximum(difference - half - above, -reach), np.minimum(difference + half + below, reach)
    return difference, float(low), float(high)


def _largest_bias(centre: np.ndarray, drawn: np.ndarray, level: float) -> np.ndarray:
    """Return how much too large each gap of ``centre`` (m, G) may be on average: the bias at its lower limit, (m,)."""
    low, _ = range_interval(centre, drawn, np.zeros(centre.shape, dtype=bool), level)
    middle = _mean(centre.T)[:, None]
    least = middle + _ratio(low, gap(centre))[:, None] * (centre - middle)
    least = np.where(np.isfinite(centre) & ~np.isfinite(least), centre, least)
    return np.maximum(_mean(gap(drawn - centre + least)) - gap(least), 0.0)


def pairwise_intervals(
    draws: Draws, level: float = 0.95, method: Literal["bca", "percentile"] = "bca"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the differences mean_i - mean_j of all pairs and their low and high limits, three arrays (m, P)."""
    low, high = draws.interval(pairwise_differences, level, method)
    return pairwise_differences(draws.observed), low, high


def standard_errors(draws: Draws) -> np.ndarray:
    """Return the standard errors of the group means (clusters respected), (m, G)."""
    return spread(draws.means)


def spread(drawn: np.ndarray) -> np.ndarray:
    """Return the SD over the first axis of bootstrap draws (B, ...), of those that are finite."""
    count = np.isfinite(drawn).sum(axis=0)
    squares = np.nansum((drawn - _mean(drawn)) ** 2, axis=0, dtype=np.float64)
    return np.sqrt(_ratio(squares, np.maximum(count - 1, 0)))


def range_interval(centres: np.ndarray, draws: np.ndarray, thin: np.ndarray, level: float) -> Interval:
    """Return the interval of max - min of ``centres`` (m, G) from their ``draws`` (B, m, G), two arrays (m,).

    NaN for a measure with a ``thin`` (m, G) group.
    """
    i, j = pairs(centres.shape[-1])
    compared = np.isfinite(centres[:, i]) & np.isfinite(centres[:, j])
    difference = centres[:, i] - centres[:, j]
    drawn = draws[..., i] - draws[..., j]
    error = spread(drawn)
    with np.errstate(divide="ignore", invalid="ignore"):
        deviation = np.abs(drawn - difference) / error
    largest = np.fmax.reduce(np.nan_to_num(deviation, nan=0.0, posinf=0.0), axis=-1, initial=0.0)
    critical = np.quantile(largest, level, axis=0)
    bound = np.abs(difference) - critical[:, None] * error
    low = np.maximum(np.fmax.reduce(np.where(compared, bound, np.nan), axis=-1, initial=np.nan), 0.0)
    tail = (1 - level) / 2
    upper = _quantiles(drawn.reshape(len(drawn), -1), np.full((1, difference.size), 1 - tail))
    lower = _quantiles(drawn.reshape(len(drawn), -1), np.full((1, difference.size), tail))
    reach = np.maximum(upper, -lower).reshape(difference.shape)
    high = np.fmax.reduce(np.where(compared, reach, np.nan), axis=-1, initial=np.nan)
    unknown = thin.any(axis=-1)
    return np.where(unknown, np.nan, low), np.where(unknown, np.nan, high)


def _per_cluster(matrix: np.ndarray, comparison: Comparison) -> np.ndarray:
    """Sum (n, m) over the cases of each cluster and group: (C, m, G)."""
    total = np.zeros((comparison.n_clusters, comparison.n_groups, matrix.shape[1]))
    known = comparison.known
    np.add.at(total, (comparison.clusters[known], comparison.groups[known]), matrix[known])
    return total.transpose(0, 2, 1)


def _unanimous(matrix: np.ndarray, observed: np.ndarray, comparison: Comparison) -> list[tuple[int, int]]:
    known = matrix[comparison.known]
    binary = np.all(np.isnan(known) | (known == 0) | (known == 1), axis=0)
    enough = comparison.clusters_per_group >= 2
    agreed = binary[:, None] & enough & ((observed == 0) | (observed == 1))
    return [(int(j), int(g)) for j, g in np.argwhere(agreed)]


def _quantiles(draws: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return the quantiles at ``shares`` (q, k) of each column of ``draws`` (B, k), ignoring NaN."""
    ordered = np.sort(draws, axis=0)
    last = np.isfinite(ordered).sum(axis=0) - 1
    position = np.clip(shares, 0.0, 1.0) * last
    floor = np.clip(np.floor(position), 0, np.maximum(last, 0)).astype(np.int64)
    ceil = np.minimum(floor + 1, np.maximum(last, 0))
    columns = np.arange(draws.shape[1])
    below, above = ordered[floor, columns], ordered[ceil, columns]
    result = below + (position - floor) * (above - below)
    return np.where(last >= 1, result, np.nan).astype(np.float64)


def _ratio(total: np.ndarray | np.floating, number: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(number > 0, total / number, np.nan)


def _mean(draws: np.ndarray) -> np.ndarray:
    """Return the mean over the first axis of what is finite, NaN where nothing is."""
    return _ratio(np.nansum(draws, axis=0, dtype=np.float64), np.isfinite(draws).sum(axis=0))
