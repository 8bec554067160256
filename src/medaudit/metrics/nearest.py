"""From each point of one surface to the nearest point of another: exact, by a tree of bounding boxes.

The points lie on a grid, and most of them come in runs of neighbours. So a query starts from its predecessor's
answer, which is at most a step worse than the true one, and the tree has little left to open. That makes the
search as fast for surfaces far apart as for near ones, and its memory grows with the surfaces, not with the volume
between them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

_LEAF = 8


@dataclass(frozen=True)
class Tree:
    """Points sorted into a balanced tree: ``at`` in leaf order, ``order`` where they were, boxes by heap index."""

    at: NDArray[np.int32]
    order: NDArray[np.int32]
    boxes: NDArray[np.int32]
    starts: NDArray[np.int32]


@njit(cache=True, nogil=True)
def _build(at, order, scale, depth):  # type: ignore[no-untyped-def]
    n_leaves = 1 << depth
    boxes = np.empty((2 * n_leaves - 1, 6), dtype=np.int32)
    lows = np.zeros(2 * n_leaves, dtype=np.int32)
    lows[0] = 0
    lows[1] = at.shape[0]
    for level in range(depth + 1):
        width = 1 << level
        base = width - 1
        # Backwards and in place: the ranges of the next level are written over those of this one.
        for place in range(width - 1, -1, -1):
            low, high = lows[place], lows[place + 1]
            for axis in range(3):
                smallest = largest = at[low, axis]
                for p in range(low + 1, high):
                    smallest = min(smallest, at[p, axis])
                    largest = max(largest, at[p, axis])
                boxes[base + place, 2 * axis] = smallest
                boxes[base + place, 2 * axis + 1] = largest
            if level < depth:
                axis = 0
                widest = -1.0
                for c in range(3):
                    extent = (boxes[base + place, 2 * c + 1] - boxes[base + place, 2 * c]) * scale[c]
                    if extent > widest:
                        axis, widest = c, extent
                middle = (low + high) // 2
                _split(at, order, low, high, middle, axis)
                lows[2 * place + 2] = high
                lows[2 * place + 1] = middle
    return boxes, lows[: n_leaves + 1]


@njit(cache=True, nogil=True)
def _split(at, order, low, high, middle, axis):  # type: ignore[no-untyped-def]
    """Reorder the points ``low:high`` so that none before ``middle`` lies beyond one after it (quickselect)."""
    low, high = low, high - 1
    while low < high:
        pivot = at[(low + high) // 2, axis]
        i, j = low, high
        while i <= j:
            while at[i, axis] < pivot:
                i += 1
            while at[j, axis] > pivot:
                j -= 1
            if i <= j:
                for c in range(3):
                    at[i, c], at[j, c] = at[j, c], at[i, c]
                order[i], order[j] = order[j], order[i]
                i += 1
                j -= 1
        if middle <= j:
            high = j
        elif middle >= i:
            low = i
        else:
            return


@njit(cache=True, nogil=True, inline="always")
def _to_box(boxes, node, x, y, z, s0, s1, s2):  # type: ignore[no-untyped-def]
    d0 = max(boxes[node, 0] - x, 0, x - boxes[node, 1]) * s0
    d1 = max(boxes[node, 2] - y, 0, y - boxes[node, 3]) * s1
    d2 = max(boxes[node, 4] - z, 0, z - boxes[node, 5]) * s2
    return d0 * d0 + d1 * d1 + d2 * d2


@njit(cache=True, nogil=True)
def _query(queries, skip, at, boxes, starts, scale):  # type: ignore[no-untyped-def]
    """Return each query's squared distance to the nearest point; 0 for those to skip."""
    s0, s1, s2 = scale[0], scale[1], scale[2]
    found = np.zeros(queries.shape[0], dtype=np.float64)
    n_inner = boxes.shape[0] // 2
    stack = np.empty(64, dtype=np.int64)
    bound = np.empty(64, dtype=np.float64)
    nearest = 0
    for q in range(queries.shape[0]):
        if skip[q]:
            continue
        x, y, z = queries[q, 0], queries[q, 1], queries[q, 2]
        d0, d1, d2 = (x - at[nearest, 0]) * s0, (y - at[nearest, 1]) * s1, (z - at[nearest, 2]) * s2
        best = d0 * d0 + d1 * d1 + d2 * d2
        stack[0] = 0
        bound[0] = 0.0
        top = 1
        while top:
            top -= 1
            if bound[top] >= best:
                continue
            node = stack[top]
            if node >= n_inner:
                leaf = node - n_inner
                for p in range(starts[leaf], starts[leaf + 1]):
                    d0, d1, d2 = (x - at[p, 0]) * s0, (y - at[p, 1]) * s1, (z - at[p, 2]) * s2
                    d = d0 * d0 + d1 * d1 + d2 * d2
                    if d < best:
                        best = d
                        nearest = p
                continue
            left = 2 * node + 1
            to_left = _to_box(boxes, left, x, y, z, s0, s1, s2)
            to_right = _to_box(boxes, left + 1, x, y, z, s0, s1, s2)
            # The nearer child goes on top of the stack and is opened first.
            near, far, to_near, to_far = left, left + 1, to_left, to_right
            if to_right < to_left:
                near, far, to_near, to_far = left + 1, left, to_right, to_left
            if to_far < best:
                stack[top], bound[top] = far, to_far
                top += 1
            if to_near < best:
                stack[top], bound[top] = near, to_near
                top += 1
        found[q] = best
    return found


def tree(at: NDArray[np.int32], scale: NDArray[np.float64]) -> Tree:
    """Return the tree of at least one point, ``(n, 3)`` int32 grid positions, ``scale`` mm a step on each axis."""
    n = at.shape[0]
    depth = max(0, int(np.ceil(np.log2(n / _LEAF))))
    sorted_at = at.copy()
    order = np.arange(n, dtype=np.int32)
    boxes, starts = _build(sorted_at, order, scale, depth)
    return Tree(sorted_at, order, boxes, starts)


def nearest_distances(
    queries: Tree, skip: NDArray[np.bool_], targets: Tree, scale: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the distance in mm from each point of ``queries``, in its tree's order, to the nearest of
    ``targets``.

    ``skip``, in the same order, marks the points known to lie on a target: their distance is 0.
    """
    squared = _query(queries.at, skip, targets.at, targets.boxes, targets.starts, scale)
    return np.sqrt(squared, out=squared)
