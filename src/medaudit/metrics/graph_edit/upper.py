"""The upper bound of the graph edit distance: what an assignment of nodes costs, and a search for cheaper ones.

What is compiled here calls nothing of other files: numba's cache would not see them change.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def _price(kind, heavy, to_kind, to_heavy, rates):  # type: ignore[no-untyped-def]
    """Return what an edge costs beside one, or none (kind 0), of the other graph, less what inserting that costs."""
    if to_kind == 0:
        return rates[2]
    change = rates[5] * abs(heavy - to_heavy)
    if kind != to_kind:
        change += rates[4]
    return min(change, rates[2] + rates[3]) - rates[3]


@njit(cache=True, nogil=True)
def induced_cost(f, nodes, rates, begins, ends, kinds, weights, matrix, heavy, large_edges):  # type: ignore[no-untyped-def]
    """Return the cost of the edit path of an assignment ``f`` of all the smaller graph's nodes.

    Only the smaller graph's edges are visited: all of the larger graph's are charged as inserted, and refunded where
    an edge takes their place.
    """
    n, m = nodes.shape
    total = rates[1] * (m - n) + rates[3] * large_edges
    for i in range(n):
        total += nodes[i, f[i]]
        for e in range(begins[i], begins[i + 1]):
            k = ends[e]
            if i < k:
                total += _price(kinds[e], weights[e], matrix[f[i], f[k]], heavy[f[i], f[k]], rates)
    return total


@njit(cache=True, nogil=True)
def _move(i, to, table, f, rates, begins, ends, kinds, weights, matrix, heavy):  # type: ignore[no-untyped-def]
    """Assign node ``i`` anew, and keep the table of what each node would cost at each place."""
    old = f[i]
    for e in range(begins[i], begins[i + 1]):
        p, kind, weight = ends[e], kinds[e], weights[e]
        for q in range(table.shape[1]):
            if matrix[to, q] or matrix[old, q]:
                table[p, q] += _price(kind, weight, matrix[to, q], heavy[to, q], rates) - _price(
                    kind, weight, matrix[old, q], heavy[old, q], rates
                )
    f[i] = to


@njit(cache=True, nogil=True)
def _descend(table, f, free, rates, begins, ends, kinds, weights, own, own_heavy, matrix, heavy):  # type: ignore[no-untyped-def]
    """Exchange nodes' places, and take free ones, until nothing gets cheaper.

    ``free`` lists the places that no node has, whose nodes are inserted.
    """
    n = table.shape[0]
    better = True
    while better:
        better = False
        for i in range(n):
            for k in range(i + 1, n):
                j, m = f[i], f[k]
                step = table[i, m] - table[i, j] + table[k, j] - table[k, m]
                if own[i, k]:
                    # The edge between them stays where it is, and the table has it at a node beside itself: deleted.
                    step += 2 * (_price(own[i, k], own_heavy[i, k], matrix[j, m], heavy[j, m], rates) - rates[2])
                if step < -rates[7]:
                    _move(i, m, table, f, rates, begins, ends, kinds, weights, matrix, heavy)
                    _move(k, j, table, f, rates, begins, ends, kinds, weights, matrix, heavy)
                    better = True
            for s in range(free.shape[0]):
                j = f[i]
                step = table[i, free[s]] - table[i, j]
                if step < -rates[7]:
                    _move(i, free[s], table, f, rates, begins, ends, kinds, weights, matrix, heavy)
                    free[s] = j
                    better = True


# Loops in place of numpy's own words, here and below: they compile in a third of the time.
@njit(cache=True, nogil=True)
def _list(open_, free):  # type: ignore[no-untyped-def]
    """List the places that are open."""
    count = 0
    for j in range(open_.shape[0]):
        if open_[j]:
            free[count] = j
            count += 1


@njit(cache=True, nogil=True)
def _copy(f, table, free, to_f, to_table, to_free):  # type: ignore[no-untyped-def]
    for i in range(table.shape[0]):
        to_f[i] = f[i]
        for j in range(table.shape[1]):
            to_table[i, j] = table[i, j]
    for s in range(free.shape[0]):
        to_free[s] = free[s]


@njit(cache=True, nogil=True)
def _regrow(draw, table, f, free, sets, rates, begins, ends, kinds, weights, matrix, heavy):  # type: ignore[no-untyped-def]
    """Take a random node and those around it from their places, put it at a random one, and let them follow.

    The next to follow is the node, and the place, where costs as they stand and half of the edges, wherever these
    lead, are least. So a fragment moves as one, which no exchange of two nodes can do without getting dearer.
    """
    n, m = sets.shape
    ball = np.empty(n, dtype=np.int64)
    waits = np.zeros(n, dtype=np.bool_)
    open_ = np.zeros(m, dtype=np.bool_)
    size = min(n, 2 + int(draw[0] * (n - 1)))
    ball[0] = int(draw[1] * n)
    waits[ball[0]] = True
    count, at = 1, 0
    while count < size:
        if at < count:
            for e in range(begins[ball[at]], begins[ball[at] + 1]):
                if not waits[ends[e]] and count < size:
                    waits[ends[e]] = True
                    ball[count] = ends[e]
                    count += 1
            at += 1
        else:
            i = int(draw[2] * n)
            while waits[i]:
                i = (i + 1) % n
            waits[i] = True
            ball[count] = i
            count += 1
    for s in range(free.shape[0]):
        open_[free[s]] = True
    for s in range(count):
        open_[f[ball[s]]] = True
        _move(ball[s], m, table, f, rates, begins, ends, kinds, weights, matrix, heavy)
    places = count + free.shape[0]
    i, j, which = ball[0], 0, int(draw[3] * places)
    for q in range(m):
        if open_[q]:
            if which == 0:
                j = q
            which -= 1
    for s in range(count):
        if s:
            least = np.inf
            for at in range(count):
                p = ball[at]
                if waits[p]:
                    for q in range(m):
                        if open_[q] and table[p, q] + 0.5 * sets[p, q] < least:
                            least = table[p, q] + 0.5 * sets[p, q]
                            i, j = p, q
        _move(i, j, table, f, rates, begins, ends, kinds, weights, matrix, heavy)
        waits[i] = open_[j] = False
    _list(open_, free)


@njit(cache=True, nogil=True)
def improve(f, goal, draws, nodes, sets, rates, begins, ends, kinds, weights, own, own_heavy, to, to_heavy, edges):  # type: ignore[no-untyped-def]
    """Improve an assignment ``f`` in place by iterated local search until ``goal`` or the draws end; return its cost.

    Each row of draws moves a fragment. What is no worse than before it is kept.
    """
    n, m = nodes.shape
    # The last place is none, where a node has no edges.
    matrix, heavy = np.zeros((m + 1, m + 1), dtype=np.int64), np.zeros((m + 1, m + 1))
    for j in range(m):
        for q in range(m):
            matrix[j, q], heavy[j, q] = to[j, q], to_heavy[j, q]
    table = np.zeros((n, m + 1))
    for i in range(n):
        for q in range(m):
            table[i, q] = nodes[i, q] - rates[1]
        for e in range(begins[i], begins[i + 1]):
            for q in range(m + 1):
                table[i, q] += _price(kinds[e], weights[e], matrix[f[ends[e]], q], heavy[f[ends[e]], q], rates)
    open_ = np.ones(m, dtype=np.bool_)
    for i in range(n):
        open_[f[i]] = False
    free = np.empty(m - n, dtype=np.int64)
    _list(open_, free)
    _descend(table, f, free, rates, begins, ends, kinds, weights, own, own_heavy, matrix, heavy)
    cost = induced_cost(f, nodes, rates, begins, ends, kinds, weights, matrix, heavy, edges)
    kept, kept_table, kept_free = f.copy(), table.copy(), free.copy()
    for r in range(draws.shape[0]):
        if cost <= goal + rates[7] or m == 1:
            break
        _regrow(draws[r], table, f, free, sets, rates, begins, ends, kinds, weights, matrix, heavy)
        _descend(table, f, free, rates, begins, ends, kinds, weights, own, own_heavy, matrix, heavy)
        new = induced_cost(f, nodes, rates, begins, ends, kinds, weights, matrix, heavy, edges)
        if new <= cost + rates[7]:
            cost = new
            _copy(f, table, free, kept, kept_table, kept_free)
        else:
            _copy(kept, kept_table, kept_free, f, table, free)
    _copy(kept, kept_table, kept_free, f, table, free)
    return cost
