"""Resampling weights: how often each cluster is drawn in each bootstrap resample, as matrices.

A weight matrix (B, C) turns every resampled sum into one matrix product, for all measures and groups at once. Each
resample draws clusters (patients), never single cases, because the cases of one patient are not independent. Where
every cluster lies in one group, clusters are drawn within groups, so that the groups keep their sizes, as the
study's design fixed them; where clusters span groups they can only be drawn overall.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from medaudit.statistics.comparison import Comparison

_CHUNK_CELLS = 3_000_000
"""Weights held at once: with their index arrays about 50 MB, whatever the number of resamples."""


def cluster_weights(
    comparison: Comparison, n_resamples: int, seed: int | np.random.Generator
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield (rows, weights): which resamples, and how often each cluster was drawn in them, (b, C) float32.

    The same seed and comparison yield the same weights, so two calls (two rulers, a threshold sweep) are paired.
    """
    rng = np.random.default_rng(seed)
    blocks = resampling_blocks(comparison)
    chunk = max(1, min(n_resamples, _CHUNK_CELLS // max(comparison.n_clusters, 1)))
    for start in range(0, n_resamples, chunk):
        size = min(chunk, n_resamples - start)
        weights = np.empty((size, comparison.n_clusters), dtype=np.float32)
        for block in blocks:
            weights[:, block] = _draw_counts(rng, size, block.size)
        yield slice(start, start + size), weights


def resampling_blocks(comparison: Comparison) -> list[np.ndarray]:
    """Return the sets of clusters that are drawn from among themselves: one a group, or one for all."""
    everyone = np.arange(comparison.n_clusters)
    if not comparison.nested:
        return [everyone]
    owners = comparison.group_of_cluster
    return [everyone[owners == g] for g in range(comparison.n_groups) if np.any(owners == g)]


def _draw_counts(rng: np.random.Generator, n_resamples: int, n_clusters: int) -> np.ndarray:
    # Counting drawn indices is five times faster than numpy's multinomial, and the same distribution.
    drawn = rng.integers(0, n_clusters, (n_resamples, n_clusters), dtype=np.int32)
    drawn += (np.arange(n_resamples, dtype=np.int32) * n_clusters)[:, None]
    return np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
