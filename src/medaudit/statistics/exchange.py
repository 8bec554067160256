"""Which labels may trade places under the null hypothesis, and random exchanges of them.

The unit of exchange follows the design:

- Clusters nested in groups (each patient in one group): whole patients swap labels. Pooled: among all patients.
  With strata: among patients seen in the same strata.
- Clusters across groups (a woman measured in three trimesters): whole label vectors swap between clusters of
  equal size and equal strata, and labels swap within a cluster's cases of one stratum. This assumes that cases of
  one cluster are exchangeable under the null (equal correlation), as multi-level block permutation does (Winkler
  et al. 2015). A cluster of a unique size can only swap inside itself.
- A cluster that spans strata keeps its pattern of strata: it swaps only with clusters of the same pattern, so
  that no label ever crosses a stratum.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from medaudit.statistics.comparison import Comparison

_CHUNK_CELLS = 4_000_000
"""Labels held at once, whatever the number of permutations."""

Blocks = list[tuple[np.ndarray, list[slice]]]
"""Sets of interchangeable blocks: unit positions (K, s), and the runs inside a block that may shuffle."""


def exchange_units(comparison: Comparison) -> tuple[np.ndarray, np.ndarray]:
    """Return each compared case's unit of exchange, and each unit's label: clusters if nested, else cases."""
    if comparison.nested:
        return comparison.clusters[comparison.known], comparison.group_of_cluster.astype(np.int16)
    return np.arange(comparison.n_cases), comparison.groups[comparison.known].astype(np.int16)


def exchanged_labels(
    comparison: Comparison, n_permutations: int, seed: int | np.random.Generator
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield (rows, labels): which permutations, and the units' exchanged labels in them, (b, U) int16."""
    rng = np.random.default_rng(seed)
    _, labels = exchange_units(comparison)
    blocks = _blocks(comparison)
    chunk = max(1, _CHUNK_CELLS // max(labels.size, 1))
    for start in range(0, n_permutations, chunk):
        size = min(chunk, n_permutations - start)
        yield slice(start, start + size), _exchange(labels, blocks, size, rng)


def movable_share(comparison: Comparison) -> float:
    """Return the share of units whose label could have been another: near 0, a permutation test has no power."""
    _, labels = exchange_units(comparison)
    moving = 0
    for positions, runs in _blocks(comparison):
        seen = labels[positions]
        between = bool((seen != seen[:1]).any())
        within = any((seen[:, run] != seen[:, run.start : run.start + 1]).any() for run in runs)
        moving += positions.size if between or within else 0
    return moving / max(labels.size, 1)


def _blocks(comparison: Comparison) -> Blocks:
    """Return sets of interchangeable blocks: unit positions (K, s) and the runs in a block that may shuffle."""
    clusters = comparison.clusters[comparison.known]
    strata = (
        np.zeros(comparison.n_cases, dtype=np.int64)
        if comparison.strata is None
        else comparison.strata[comparison.known]
    )
    order = np.lexsort((strata, clusters))
    starts = np.flatnonzero(np.diff(clusters[order], prepend=-1))
    members_by_cluster = np.split(order, starts[1:]) if order.size else []
    classes: dict[tuple[int, ...], list[np.ndarray]] = {}
    for code, members in enumerate(members_by_cluster):
        pattern = tuple(strata[members].tolist())
        if comparison.nested:
            classes.setdefault(tuple(sorted(set(pattern))), []).append(np.array([code]))
        else:
            classes.setdefault(pattern, []).append(members)
    blocks = []
    for pattern, members_of in classes.items():
        runs = [] if comparison.nested else _runs(pattern)
        blocks.append((np.stack(members_of), runs))
    return blocks


def _runs(pattern: tuple[int, ...]) -> list[slice]:
    edges = [0, *(k for k in range(1, len(pattern)) if pattern[k] != pattern[k - 1]), len(pattern)]
    return [slice(a, b) for a, b in pairwise(edges) if b - a > 1]


def _exchange(labels: np.ndarray, blocks: Blocks, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return ``size`` random exchanges of ``labels``, (size, U)."""
    result = np.empty((size, labels.size), dtype=labels.dtype)
    for positions, runs in blocks:
        count, width = positions.shape
        if width == 1:
            tiled = np.tile(labels[positions[:, 0]], (size, 1))
            result[:, positions[:, 0]] = rng.permuted(tiled, axis=1, out=tiled)
            continue
        tiled = np.tile(np.arange(count, dtype=np.int32), (size, 1))
        moved = labels[positions][rng.permuted(tiled, axis=1, out=tiled)]
        for run in runs:
            moved[..., run] = rng.permuted(moved[..., run], axis=-1)
        result[:, positions.ravel()] = moved.reshape(size, -1)
    return result
