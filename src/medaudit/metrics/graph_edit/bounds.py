"""Bounds of the graph edit distance that are certain, and an assignment that attains the upper one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from medaudit.metrics.graph_edit.lower import ascend, least_assignment
from medaudit.metrics.graph_edit.tables import Problem
from medaudit.metrics.graph_edit.upper import improve


class Bounds(NamedTuple):
    """What is certain of an edit distance."""

    lower: float
    upper: float
    assignment: np.ndarray
    """(n,) int64, of the smaller graph's nodes; its edit path costs ``upper``."""


def drawn(count: int, seed: int) -> np.ndarray:
    """Return the random numbers of ``count`` moved fragments, (count, 4); the same serve every pair of graphs."""
    return np.random.default_rng(seed).random((count, 4))


def bounds(problem: Problem, starts: np.ndarray, draws: np.ndarray, rounds: int) -> Bounds:
    """Return bounds of the edit distance.

    The lower bound is BRANCH (Zheng et al., TKDE 2015; Blumenthal & Gamper, TKDE 2018) where ``rounds`` is 1 or less,
    and with more a dual ascent from there; it is rounded up where every cost is whole. The upper bound is the best of
    local searches from BRANCH's assignment, from the bipartite one (Riesen & Bunke, Image and Vision Computing 2009),
    from ``starts`` (k, n) and from the ascent's last assignment, each an exchange of two nodes at a time (REFINE: Zeng
    et al., VLDB 2009), and then of one more a row of ``draws``, after a fragment was moved.
    """
    nodes, rates, a, b = problem.nodes, problem.rates, problem.small, problem.large
    equal = rates[7]
    edges = len(b.ends) / 2

    def raised(most: int, goal: float) -> tuple[float, np.ndarray, np.ndarray]:
        return ascend(
            nodes, rates, a.begins, a.ends, a.back, a.kinds, a.weights, b.begins, b.back, b.kinds, b.weights, most, goal
        )

    def lowered(f: np.ndarray, some: np.ndarray) -> float:
        return improve(
            f, lower, some, nodes, sets, rates, a.begins, a.ends, a.kinds, a.weights, a.matrix, a.weight_matrix,
            b.matrix, b.weight_matrix, edges,
        )  # fmt: skip

    lower, sets, best = raised(1, np.inf)
    upper = lowered(best, draws[:0])
    # An edge counted whole at both of its ends is no bound, yet often the better start.
    bipartite = np.empty_like(best)
    least_assignment(nodes + sets - rates[1] - rates[3] * np.diff(b.begins), bipartite)
    for start in (bipartite, *starts):
        if upper > lower + equal and (found := lowered(f := start.copy(), draws[:0])) < upper:
            upper, best = found, f
    if rounds > 1 and upper > lower + equal:
        lower, _, last = raised(rounds, upper)
        if (found := lowered(last, draws[:0])) < upper:
            upper, best = found, last
    if upper > lower + equal:
        upper = lowered(best, draws)
    # Two sums of the same costs may differ in their last digit.
    return Bounds(float(min(lower, upper)) + 0.0, float(upper), best)
