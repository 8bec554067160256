"""The lower bound of the graph edit distance: BRANCH and its ascent in the dual, by assignment problems.

What is compiled here calls nothing of other files: numba's cache would not see them change.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def _potentials(cost, n, m, u, v, row, low, way, used):  # type: ignore[no-untyped-def]
    """Solve ``cost[:n, :m]``, n <= m, for its least sum over assignments of all rows; return the sum.

    Column j has row ``row[j + 1] - 1``, -1 for none; ``u[1 : n + 1]`` and ``v[1 : m + 1]`` are the dual: nowhere more
    than the cost, equal where assigned, v at most 0 and 0 in columns without a row. The other arrays are room to work
    in, of m + 1 or more. Shortest augmenting paths (Jonker & Volgenant, Computing 1987).
    """
    u[: n + 1] = 0.0
    v[: m + 1] = 0.0
    row[: m + 1] = 0
    for i in range(1, n + 1):
        row[0] = i
        j0 = 0
        low[: m + 1] = np.inf
        used[: m + 1] = False
        while True:
            used[j0] = True
            i0 = row[j0]
            step = np.inf
            j1 = 0
            for j in range(1, m + 1):
                if not used[j]:
                    reduced = cost[i0 - 1, j - 1] - u[i0] - v[j]
                    if reduced < low[j]:
                        low[j] = reduced
                        way[j] = j0
                    if low[j] < step:
                        step = low[j]
                        j1 = j
            for j in range(m + 1):
                if used[j]:
                    u[row[j]] += step
                    v[j] -= step
                else:
                    low[j] -= step
            j0 = j1
            if row[j0] == 0:
                break
        while j0:
            j1 = way[j0]
            row[j0] = row[j1]
            j0 = j1
    total = 0.0
    for j in range(1, m + 1):
        if row[j]:
            total += cost[row[j] - 1, j - 1]
    return total


@njit(cache=True, nogil=True)
def least_assignment(cost, f):  # type: ignore[no-untyped-def]
    """Return the least sum of (n, m) costs, n <= m, over assignments of all rows; ``f`` takes each row's column."""
    n, m = cost.shape
    row = np.zeros(m + 1, dtype=np.int64)
    total = _potentials(
        cost, n, m, np.empty(n + 1), np.empty(m + 1), row, np.empty(m + 1), np.empty(m + 1, dtype=np.int64),
        np.empty(m + 1, dtype=np.bool_),
    )  # fmt: skip
    for j in range(m):
        if row[j + 1]:
            f[row[j + 1] - 1] = j
    return total


@njit(cache=True, nogil=True)
def _stars(value, slack, share, nodes, begins, to_begins, small, u, v, row, low, way, used):  # type: ignore[no-untyped-def]
    """Fill ``value`` (n, m): each substitution's cost with its part of the edges', each edge put where that is least.

    ``share`` (a, b) is what edge a of a node saves by becoming edge b of the other, as this end of both sees it;
    ``slack`` takes how much more that could save and change nothing.
    """
    n, m = nodes.shape
    for i in range(n):
        first, d = begins[i], begins[i + 1] - begins[i]
        for j in range(m):
            to, d_to = to_begins[j], to_begins[j + 1] - to_begins[j]
            value[i, j] = nodes[i, j]
            rows, columns = min(d, d_to), max(d, d_to)
            if rows == 0:
                continue
            for p in range(rows):
                for q in range(columns):
                    saves = share[first + p, to + q] if d <= d_to else share[first + q, to + p]
                    small[p, q] = min(saves, 0.0)
                # One column more than rows, so that one is free and no row's dual is above 0.
                small[p, columns] = 0.0
            value[i, j] += _potentials(small, rows, max(columns, rows + 1), u, v, row, low, way, used)
            for p in range(rows):
                for q in range(columns):
                    if d <= d_to:
                        slack[first + p, to + q] = share[first + p, to + q] - u[p + 1] - v[q + 1]
                    else:
                        slack[first + q, to + p] = share[first + q, to + p] - u[p + 1] - v[q + 1]


@njit(cache=True, nogil=True)
def ascend(  # type: ignore[no-untyped-def]
    nodes, rates, begins, ends, back, kinds, weights, to_begins, to_back, to_kinds, to_weights, rounds, goal
):
    """Return a lower bound, what edge sets cost (n, m), and the last round's assignment (n,).

    The first round is BRANCH: a substitution costs its nodes and half of what it costs to make the one's edges the
    other's, wherever they lead. Each further round lets a substitution that is not among the cheapest take over, from
    the substitutions at the other ends of its edges, as much of what these edges save as leaves it no cheaper than
    needed; those get dearer, and the bound never falls. This is dual ascent on the first-level linearization, in the
    manner of Hahn & Grant (Operations Research 1998), here over edges only, so that a round is quick where degrees are
    small. It climbs most of the way to the relaxation of the integer programme in ``exact``, and may stop short of it.
    It ends after ``rounds``, or where it reaches ``goal``.
    """
    n, m = nodes.shape
    a, b = kinds.shape[0], to_kinds.shape[0]
    both = rates[2] + rates[3]
    share, slack = np.empty((a, b)), np.empty((a, b))
    for p in range(a):
        for q in range(b):
            change = rates[5] * abs(weights[p] - to_weights[q])
            if kinds[p] != to_kinds[q]:
                change += rates[4]
            share[p, q] = 0.5 * (min(change, both) - both)
    width = 1
    for i in range(n):
        width = max(width, begins[i + 1] - begins[i])
    for j in range(m):
        width = max(width, to_begins[j + 1] - to_begins[j])
    small = np.empty((width, width + 1))
    room = max(m, width + 1) + 1
    u, v, low = np.empty(room), np.empty(room), np.empty(room)
    row, way, used = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int64), np.empty(room, dtype=np.bool_)

    # What is charged in any case: spare nodes and all edges, of which substitutions then save their share.
    constant = rates[1] * (m - n) + 0.5 * (rates[2] * a + rates[3] * b)
    value, sets = np.empty((n, m)), np.empty((n, m))
    f = np.empty(n, dtype=np.int64)
    best = 0.0
    for r in range(max(rounds, 1)):
        _stars(value, slack, share, nodes, begins, to_begins, small, u, v, row, low, way, used)
        if r == 0:
            for i in range(n):
                for j in range(m):
                    sets[i, j] = 2 * (value[i, j] - nodes[i, j])
                    sets[i, j] += rates[2] * (begins[i + 1] - begins[i])
                    sets[i, j] += rates[3] * (to_begins[j + 1] - to_begins[j])
        best = max(best, _potentials(value, n, m, u, v, row, low, way, used) + constant)
        for j in range(m):
            if row[j + 1]:
                f[row[j + 1] - 1] = j
        reached = np.ceil(best - 1e3 * rates[7]) if rates[6] else best
        if reached >= goal - rates[7] or r >= rounds - 1:
            break
        for i in range(n):
            for j in range(m):
                fewer = min(begins[i + 1] - begins[i], to_begins[j + 1] - to_begins[j])
                if fewer:
                    spare = (value[i, j] - u[i + 1] - v[j + 1]) / fewer
                    for p in range(begins[i], begins[i + 1]):
                        for q in range(to_begins[j], to_begins[j + 1]):
                            # Not all of it: both ends give at once, and would only change places.
                            slack[p, q] = 0.9 * (slack[p, q] + spare)
        for p in range(a):
            for q in range(b):
                share[p, q] += slack[back[p], to_back[q]] - slack[p, q]
    return (np.ceil(best - 1e3 * rates[7]) if rates[6] else best), sets, f
