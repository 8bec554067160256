"""The graph edit distance between bounds that are certain, of one pair of graphs or of many."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from medaudit.cohort.graphs import Graph
from medaudit.errors import UsageError
from medaudit.metrics.graph_edit.assignment import EditPath, edit_path
from medaudit.metrics.graph_edit.bounds import bounds, drawn
from medaudit.metrics.graph_edit.costs import EditCosts
from medaudit.metrics.graph_edit.exact import solve
from medaudit.metrics.graph_edit.tables import Problem, Rows

_CHUNK = 64


@dataclass(frozen=True)
class Distance:
    """Where the edit distance of two graphs lies, and edits that cost ``upper``."""

    lower: float
    """In the costs' unit; the distance is certainly no less."""
    upper: float
    """What ``path`` costs; the distance is certainly no more."""
    exact: bool
    """Whether the two are equal: then ``path`` is a cheapest one."""
    path: EditPath
    seconds: float = field(compare=False)
    """What it took, by the clock."""


def edit_distance(
    g: Graph, h: Graph, *, costs: EditCosts | None = None, budget: float = 0.0, matched: bool = False,
    starts: Sequence[str | ArrayLike] = (), effort: int = 100, seed: int = 0,
) -> Distance:  # fmt: skip
    """Return the edit distance from ``g`` to ``h`` between its bounds, and the edits that cost the upper one.

    ``budget`` is the seconds that an integer programme may take to close what is open between the bounds; with 0 there
    is none, and the result depends on nothing but the arguments. Where costs are not whole numbers, what a programme
    proves it proves to a millionth. ``effort`` is how many times the search moves a
    fragment and goes on from there, each a few microseconds, and five times the rounds of the lower bound's ascent; it
    is taken tenfold where there is a budget. ``starts`` are
    more assignments to search from, beside those of the bounds: "identity" (node i becomes node i: the slots of a
    decoder), "random", or an assignment itself, (n,) nodes of ``h`` or -1. The path found costs no more than any start.

    ``matched`` says that node i is the same thing in both graphs, as in connectomes. Then nothing is searched: the
    distance is that of the identity, and exact; nodes that only one graph has are deleted or inserted. With unit costs
    and without kinds this is sum |A - B| / 2 and the difference of the numbers of nodes.

    Raises UsageError for a budget or an effort below 0 and for a start that is none; DataError where a cost asks for
    weights or features that are not there.
    """
    return edit_distances(
        [(g, h)], costs=costs, budget=budget, matched=matched, starts=starts, effort=effort, seed=seed
    )[0]


def edit_distances(
    pairs: Sequence[tuple[Graph, Graph]], *, costs: EditCosts | None = None, budget: float = 0.0,
    matched: bool = False, starts: Sequence[str | ArrayLike] = (), effort: int = 100, seed: int = 0, jobs: int = 1,
) -> list[Distance]:  # fmt: skip
    """Return the :func:`edit_distance` of each pair, in their order; ``budget`` is in seconds a pair.

    ``jobs`` processes share the work; what they find does not depend on how many there are, except where a budget ends.
    A script that asks for more than one must guard its entry by ``if __name__ == "__main__"``. Raises what
    :func:`edit_distance` raises, and UsageError for fewer jobs than 1.
    """
    costs = costs or EditCosts()
    if not (budget >= 0 and effort >= 0):
        raise UsageError(f"a budget of {budget} s and an effort of {effort}; expected 0 or more of each")
    if jobs < 1:
        raise UsageError(f"{jobs} jobs; expected 1 or more")
    for start in starts:
        if isinstance(start, str) and start not in ("identity", "random"):
            raise UsageError(f'no start is called "{start}"; expected identity, random or an assignment')
    run = partial(
        _some, costs=costs, budget=budget, matched=matched, starts=tuple(starts), effort=effort, seed=seed
    )  # fmt: skip
    chunks = [pairs[at : at + _CHUNK] for at in range(0, len(pairs), _CHUNK)]
    if jobs == 1 or len(chunks) < 2:
        return [found for chunk in chunks for found in run(chunk)]
    with ProcessPoolExecutor(min(jobs, len(chunks)), multiprocessing.get_context("spawn")) as pool:
        return [found for some in pool.map(run, chunks) for found in some]


def _some(
    pairs: Sequence[tuple[Graph, Graph]], *, costs: EditCosts, budget: float, matched: bool,
    starts: tuple[str | ArrayLike, ...], effort: int, seed: int,
) -> list[Distance]:  # fmt: skip
    # What the programme need not search is worth more than these milliseconds.
    draws = drawn(10 * effort if budget else effort, seed)
    rows: dict[int, Rows] = {}
    found = []
    for g, h in pairs:
        begin = time.perf_counter()
        if matched:
            path = edit_path(g, h, np.where(np.arange(g.n) < h.n, np.arange(g.n), -1), costs)
            found.append(Distance(path.cost, path.cost, True, path, time.perf_counter() - begin))
            continue
        for graph in (g, h):
            if id(graph) not in rows:
                rows[id(graph)] = Rows.of(graph)
        problem = Problem.of(g, h, costs, (rows[id(g)], rows[id(h)]))
        known = bounds(problem, _starts(problem, g, h, starts, seed), draws, len(draws) // 5)
        known = solve(problem, known, budget)
        path = edit_path(g, h, problem.from_small(known.assignment, g.n), costs)
        # The path's own sum is what is given; it differs from the searches' by rounding of floats at most.
        exact = known.lower >= known.upper - 1e-9 * known.upper
        found.append(Distance(path.cost if exact else known.lower, path.cost, exact, path, time.perf_counter() - begin))
    return found


def _starts(problem: Problem, g: Graph, h: Graph, starts: tuple[str | ArrayLike, ...], seed: int) -> np.ndarray:
    """Return (k, n) assignments of the smaller graph's nodes."""
    n, m = problem.nodes.shape
    found = np.empty((len(starts), n), dtype=np.int64)
    for row, start in zip(found, starts, strict=True):
        if isinstance(start, str):
            row[:] = np.arange(n) if start == "identity" else np.random.default_rng(seed).permutation(m)[:n]
            continue
        # The path's making checks the assignment; here deletions are given the places that are left.
        f = np.array(edit_path(g, h, start).assignment, dtype=np.int64)
        if problem.turned:
            f, forward = np.full(h.n, -1, dtype=np.int64), f
            f[forward[forward >= 0]] = np.flatnonzero(forward >= 0)
        f[f < 0] = np.setdiff1d(np.arange(m), f)[: (f < 0).sum()]
        row[:] = f
    return found
