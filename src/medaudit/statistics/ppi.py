"""Prediction-powered means: a score known for everybody, mended by the true one that is known for a few.

Many cases have a score against an automated mask (silver), few against an expert's (gold). The silver mean of all
is precise and biased; the mean of gold - silver over the few says by how much. Their sum is unbiased wherever the few
are a random sample of their group.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from medaudit.statistics.bootstrap import range_interval
from medaudit.statistics.comparison import Comparison, as_columns
from medaudit.statistics.disparity import gap


@dataclass(frozen=True)
class PoweredMeans:
    """Group means of the true score: ``means`` (G,), their ``covariance`` (G, G), and what they rest on.

    ``gold_means`` (G,) and ``gold_errors`` (G,) are the means and standard errors that the gold sample gives alone;
    ``gold_sizes`` and ``sizes`` (G,) count the cases of either kind.
    """

    means: np.ndarray
    covariance: np.ndarray
    gold_means: np.ndarray
    gold_errors: np.ndarray
    gold_sizes: np.ndarray
    sizes: np.ndarray

    @property
    def errors(self) -> np.ndarray:
        """The standard errors of the group means, (G,)."""
        return np.sqrt(np.diag(self.covariance))

    def interval(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Return the normal limits of each group mean, two arrays (G,)."""
        half = float(ndtri((1 + level) / 2)) * self.errors
        return self.means - half, self.means + half

    def gap(self, level: float = 0.95, *, n_draws: int = 10_000, seed: int = 0) -> tuple[float, float, float]:
        """Return the largest minus the smallest group mean and its limits.

        The limits are those of ``gap_interval``, with normal draws in the place of a bootstrap's: the lower one is
        simultaneous over pairs of groups.
        """
        drawn = np.random.default_rng(seed).multivariate_normal(self.means, self.covariance, n_draws, method="eigh")
        thin = (np.isnan(self.means) & (self.sizes > 0))[None]
        low, high = range_interval(self.means[None], drawn[:, None], thin, level)
        return float(gap(self.means)), float(low[0]), float(high[0])


def prediction_powered_means(gold: ArrayLike, silver: ArrayLike, comparison: Comparison) -> PoweredMeans:
    """Return :class:`PoweredMeans` of ``gold`` (n,), NaN where not known, with the help of ``silver`` (n,).

    mean_all(silver) + mean_gold(gold - silver), Angelopoulos et al. 2023 (arXiv 2301.09633), with lambda = 1.
    The silver mean runs over all cases, those with gold among them; the covariance is the sandwich over clusters
    (our choice), so that cases in both means and patients in several groups count as what they are. A group without
    two clusters with gold has no mean (NaN). Cases without silver are left out.
    """
    columns = np.column_stack([as_columns(gold, comparison)[:, 0], as_columns(silver, comparison)[:, 0]])
    use = comparison.known & np.isfinite(columns[:, 1])
    groups, clusters = comparison.groups[use], comparison.clusters[use]
    true, proxy = columns[use].T
    has = np.isfinite(true)
    n_groups = comparison.n_groups
    means, only = np.full(n_groups, np.nan), np.full(n_groups, np.nan)
    sizes, gold_sizes = np.bincount(groups, minlength=n_groups), np.bincount(groups[has], minlength=n_groups)
    influence = np.zeros((comparison.n_clusters, n_groups))
    alone = np.zeros((comparison.n_clusters, n_groups))
    for g in range(n_groups):
        of = groups == g
        known = of & has
        if np.unique(clusters[known]).size < 2:
            continue
        difference = true - proxy
        level, shift = proxy[of].mean(), difference[known].mean()
        means[g], only[g] = level + shift, true[known].mean()
        np.add.at(influence[:, g], clusters[of], (proxy[of] - level) / sizes[g])
        np.add.at(influence[:, g], clusters[known], (difference[known] - shift) / gold_sizes[g])
        np.add.at(alone[:, g], clusters[known], (true[known] - only[g]) / gold_sizes[g])
    blank = np.isnan(means)
    errors = np.where(blank, np.nan, np.sqrt((alone**2).sum(axis=0)))
    return PoweredMeans(means, influence.T @ influence, only, errors, gold_sizes, sizes)
