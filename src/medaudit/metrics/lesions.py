"""Lesion by lesion: how many there are, how many were found, how many are false alarms.

A lesion is a connected component of the mask, voxels connected through faces, edges and corners (26 neighbours in
3-D, 8 in 2-D). A reference lesion is detected if at least one of its voxels is in the prediction; a predicted
lesion is a false positive if none of its voxels is in the reference. Both rules are the most lenient in use, and
are our choice: state them beside the numbers.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from medaudit.metrics.runs import Runs


@njit(cache=True, nogil=True, inline="always")
def _root(parent, r):  # type: ignore[no-untyped-def]
    while parent[r] != r:
        parent[r] = parent[parent[r]]
        r = parent[r]
    return r


@njit(cache=True, nogil=True)
def _count(n0, n1, first, start, stop, other):  # type: ignore[no-untyped-def]
    """Return the number of components, and of those that touch the foreground of ``other``."""
    n = start.size
    parent = np.arange(n)
    for i in range(n0):
        for j in range(n1):
            row = i * n1 + j
            if first[row] == first[row + 1]:
                continue
            # The four rows before this one in which a neighbour may lie.
            for di, dj in ((0, -1), (-1, -1), (-1, 0), (-1, 1)):
                if i + di < 0 or not 0 <= j + dj < n1:
                    continue
                p = first[row + di * n1 + dj]
                end = first[row + di * n1 + dj + 1]
                for r in range(first[row], first[row + 1]):
                    while p < end and stop[p] < start[r]:
                        p += 1
                    q = p
                    while q < end and start[q] <= stop[r]:
                        a = _root(parent, r)
                        b = _root(parent, q)
                        parent[max(a, b)] = min(a, b)
                        q += 1
    touched = np.zeros(n, dtype=np.bool_)
    for i in range(n0):
        for j in range(n1):
            for r in range(first[i * n1 + j], first[i * n1 + j + 1]):
                root = _root(parent, r)
                if not touched[root]:
                    for k in range(start[r], stop[r]):
                        if other[i, j, k]:
                            touched[root] = True
                            break
    lesions = 0
    for r in range(n):
        lesions += parent[r] == r
    return lesions, touched.sum()


def count_lesions(runs: Runs, other: NDArray[np.uint8]) -> tuple[int, int]:
    """Return the number of lesions in ``runs``, and how many of them overlap the crop ``other``."""
    n0, n1, _ = runs.shape
    lesions, touched = _count(n0, n1, runs.first, runs.start, runs.stop, other)
    return int(lesions), int(touched)
