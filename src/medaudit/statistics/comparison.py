"""Comparison: which groups are compared, who repeats (clusters), and within what (strata)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from medaudit.errors import DataError, UsageError


@dataclass(frozen=True, eq=False)
class Comparison:
    """The design of a comparison between groups; every test and interval of this room starts from one.

    ``groups`` (n,) holds group codes, -1 where a case is not compared. ``clusters`` (n,) holds codes 0..C-1 of the
    units that repeat (patients), -1 where a case is not compared. ``strata`` (n,) holds codes of the strata within
    which groups are compared (sources), or is ``None`` for a pooled comparison. Build it with :func:`compare`.
    """

    groups: np.ndarray
    n_groups: int
    clusters: np.ndarray
    n_clusters: int
    strata: np.ndarray | None = None

    @cached_property
    def known(self) -> np.ndarray:
        """Which cases are compared, (n,) bool."""
        return self.groups >= 0

    @cached_property
    def n_cases(self) -> int:
        """How many cases are compared."""
        return int(self.known.sum())

    @cached_property
    def group_of_cluster(self) -> np.ndarray:
        """The group of each cluster, (C,) int64, -2 where a cluster's cases belong to several groups."""
        low = np.full(self.n_clusters, self.n_groups, dtype=np.int64)
        high = np.full(self.n_clusters, -1, dtype=np.int64)
        np.minimum.at(low, self.clusters[self.known], self.groups[self.known])
        np.maximum.at(high, self.clusters[self.known], self.groups[self.known])
        return np.where(low == high, low, -2)

    @cached_property
    def nested(self) -> bool:
        """Whether every cluster lies in one group (a patient's sex), not across groups (her trimester)."""
        return bool(np.all(self.group_of_cluster >= 0))

    @cached_property
    def cases_per_group(self) -> np.ndarray:
        """Number of cases in each group, (G,)."""
        return np.bincount(self.groups[self.known], minlength=self.n_groups)

    @cached_property
    def clusters_per_group(self) -> np.ndarray:
        """Number of clusters with a case in each group, (G,): the sample size that counts."""
        pairs = np.unique(self.clusters[self.known] * self.n_groups + self.groups[self.known])
        return np.bincount(pairs % self.n_groups, minlength=self.n_groups)

    def subset(self, keep: np.ndarray) -> Comparison:
        """Return the comparison of the cases in ``keep`` (n,) bool; the others stay in place, not compared."""
        groups = np.where(keep, self.groups, -1)
        clusters, n_clusters = _dense(self.clusters, groups >= 0)
        return replace(self, groups=groups, clusters=clusters, n_clusters=n_clusters)

    def at_least(self, min_clusters: int) -> Comparison:
        """Return the comparison without the groups that have fewer than ``min_clusters`` clusters."""
        large = self.clusters_per_group >= min_clusters
        return self.subset(self.known & large[self.groups])


def compare(
    groups: ArrayLike,
    n_groups: int | None = None,
    *,
    clusters: Iterable[Any] | None = None,
    strata: ArrayLike | None = None,
) -> Comparison:
    """Return the :class:`Comparison` of the cases' ``groups``.

    ``groups`` (n,) int codes, -1 = unknown; ``clusters`` (n,) of anything hashable, by default every case is its own,
    and so is a case whose cluster is ``None`` or NaN; ``strata`` (n,) int codes, -1 = unknown. A case of unknown group
    or stratum is not compared.
    Raises :class:`UsageError` where lengths differ or a code is out of range.
    """
    codes = np.asarray(groups, dtype=np.int64)
    count = int(n_groups) if n_groups is not None else int(codes.max(initial=-1)) + 1
    if codes.ndim != 1 or codes.max(initial=-1) >= count:
        raise UsageError(f"group codes must be a list of integers from -1 to {count - 1}")
    if strata is not None:
        strata = np.asarray(strata, dtype=np.int64)
        _same_length("strata", strata, codes)
        codes = np.where(strata < 0, -1, codes)
    if clusters is None:
        raw: np.ndarray = np.arange(codes.size)
    else:
        raw = _codes_of(clusters)
        _same_length("clusters", raw, codes)
    dense, n_clusters = _dense(raw, codes >= 0)
    return Comparison(codes, count, dense, n_clusters, strata)


def as_columns(values: ArrayLike, comparison: Comparison) -> np.ndarray:
    """Return ``values`` (n,) or (n, m) as (n, m) float64, NaN = missing.

    Raises :class:`DataError` if an infinite value would enter a mean: the policy for empty masks comes first.
    """
    matrix = np.asarray(values, dtype=np.float64)
    matrix = matrix[:, None] if matrix.ndim == 1 else matrix
    _same_length("values", matrix, comparison.groups)
    if np.isinf(matrix[comparison.known]).any():
        raise DataError(
            "an infinite value (distance to an empty mask) cannot enter a mean: "
            "choose how empty masks count, or use a success rate or a rank test"
        )
    return matrix


def _codes_of(clusters: Iterable[Any]) -> np.ndarray:
    index: dict[object, int] = {}
    # NaN is not equal to itself; a new object is a key of its own.
    keys = (object() if item is None or item != item else item for item in clusters)
    return np.fromiter((index.setdefault(key, len(index)) for key in keys), dtype=np.int64)


def _dense(codes: np.ndarray, keep: np.ndarray) -> tuple[np.ndarray, int]:
    found, dense = np.unique(codes[keep], return_inverse=True)
    result = np.full(codes.shape, -1, dtype=np.int64)
    result[keep] = dense
    return result, int(found.size)


def _same_length(what: str, given: np.ndarray, groups: np.ndarray) -> None:
    if given.shape[0] != groups.shape[0]:
        raise UsageError(f"{what} must have one entry a case: {given.shape[0]} entries, {groups.shape[0]} cases")
