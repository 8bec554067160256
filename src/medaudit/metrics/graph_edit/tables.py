"""Two graphs and the costs of their edits as arrays for compiled code, the smaller graph first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medaudit.cohort.graphs import Graph
from medaudit.metrics.graph_edit.costs import EditCosts


@dataclass(frozen=True, eq=False)
class Rows:
    """A graph by rows: the edges of node i are ``begins[i]:begins[i + 1]``."""

    begins: np.ndarray
    """(n + 1,) int64."""
    ends: np.ndarray
    """(2 e,) int64: the other node of each edge, from low to high."""
    back: np.ndarray
    """(2 e,) int64: where the same edge stands at its other node."""
    kinds: np.ndarray
    """(2 e,) int64: the edge's kind and 1."""
    weights: np.ndarray
    """(2 e,) float64: 0 where the graph has none."""
    matrix: np.ndarray
    """(n, n) int64: the edge's kind and 1, or 0."""
    weight_matrix: np.ndarray
    """(n, n) float64."""

    @classmethod
    def of(cls, graph: Graph) -> Rows:
        """Return the rows of a graph."""
        n = graph.n
        i, j = graph.edges.T
        near, far = np.concatenate([i, j]), np.concatenate([j, i])
        kinds = np.concatenate([graph.edge_kinds, graph.edge_kinds]) + 1
        weights = np.zeros(len(kinds)) if graph.weights is None else np.concatenate([graph.weights, graph.weights])
        heavy = np.zeros((n, n))
        heavy[near, far] = weights
        order = np.lexsort((far, near))
        near, far = near[order], far[order]
        begins = np.zeros(n + 1, dtype=np.int64)
        np.cumsum(np.bincount(near, minlength=n), out=begins[1:])
        back = np.empty(len(near), dtype=np.int64)
        back[np.lexsort((near, far))] = np.arange(len(near))
        return cls(begins, far, back, kinds[order], weights[order], graph.matrix(), heavy)


@dataclass(frozen=True, eq=False)
class Problem:
    """What an assignment of the smaller graph's nodes to the larger graph's costs.

    Costs obey the triangle inequality, so some best assignment gives every node of the smaller graph a node of the
    larger: to delete one node and insert another is never cheaper than to substitute them.
    """

    nodes: np.ndarray
    """(n, m) float64, n <= m: the cost of each substitution."""
    rates: np.ndarray
    """(8,) float64: node deletion and insertion, edge deletion, insertion and substitution, weight, 1 if whole, and the
    difference up to which costs are taken as equal."""
    small: Rows
    large: Rows
    turned: bool
    """Whether the first graph is the larger, so that what is inserted here is deleted there."""

    @classmethod
    def of(cls, g: Graph, h: Graph, costs: EditCosts, rows: tuple[Rows, Rows] | None = None) -> Problem:
        """Return the problem of two graphs; ``rows`` where they are known. Raises what ``costs.check`` does."""
        costs.check(g, h)
        first, second = rows if rows is not None else (Rows.of(g), Rows.of(h))
        nodes = costs.nodes(g, h)
        turned = g.n > h.n
        if turned:
            first, second, nodes = second, first, np.ascontiguousarray(nodes.T)
        c = costs.turned() if turned else costs
        rates = [c.node_deletion, c.node_insertion, c.edge_deletion, c.edge_insertion, c.edge_substitution, c.weight]
        equal = 1e-9 * max(rates)
        return cls(nodes, np.array([*rates, costs.whole, equal], dtype=np.float64), first, second, turned)

    @property
    def whole(self) -> bool:
        """Whether every possible cost is a whole number."""
        return bool(self.rates[6])

    @property
    def largest(self) -> float:
        """The largest cost."""
        return float(self.rates[:6].max())

    def from_small(self, assignment: np.ndarray, n: int) -> np.ndarray:
        """Return, for each of the first graph's ``n`` nodes, its node of the second or -1."""
        if not self.turned:
            return assignment.copy()
        found = np.full(n, -1, dtype=np.int64)
        found[assignment] = np.arange(len(assignment))
        return found
