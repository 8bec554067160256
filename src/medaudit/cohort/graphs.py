"""A graph and a set of graphs: molecules, connectomes, vessel trees, neighbourhoods of cells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike

from medaudit.cohort.cohort import Source
from medaudit.errors import DataError


@dataclass(frozen=True, eq=False)
class Graph:
    """An undirected graph without loops or repeated edges; made by :meth:`of`, which checks that.

    A node has a kind (an atom's element, a cell's type), and may have numbers; an edge has a kind (a bond's order), and
    may have a weight. What has no kinds has kind 0 everywhere.
    """

    id: str
    nodes: np.ndarray
    """(n,) int64: each node's kind."""
    edges: np.ndarray
    """(e, 2) int64: the lower node first, in order."""
    edge_kinds: np.ndarray
    """(e,) int64."""
    weights: np.ndarray | None = None
    """(e,) float64."""
    features: np.ndarray | None = None
    """(n, d) float64."""

    @classmethod
    def of(
        cls, id_: str, nodes: ArrayLike, edges: ArrayLike, edge_kinds: ArrayLike | None = None, *,
        weights: ArrayLike | None = None, features: ArrayLike | None = None,
    ) -> Graph:  # fmt: skip
        """Return the graph of edges in any order, each given once or in both directions.

        Raises DataError, naming the graph and the edge, for loops, for edges between nodes that are not there, for an
        edge that is given twice with different kinds or weights, and for values that are not finite.
        """
        kinds = np.asarray(nodes, dtype=np.int64)
        pairs = np.asarray(edges, dtype=np.int64).reshape(-1, 2)
        n, e = len(kinds), len(pairs)
        if kinds.ndim != 1 or n == 0:
            raise DataError(f"graph {id_}: nodes have shape {kinds.shape}; expected a kind for each of one or more")
        bonds = np.zeros(e, dtype=np.int64) if edge_kinds is None else np.asarray(edge_kinds, dtype=np.int64)
        heavy = None if weights is None else np.asarray(weights, dtype=np.float64)
        for what, values in (("edge kinds", bonds), ("weights", heavy)):
            if values is not None and values.shape != (e,):
                raise DataError(f"graph {id_}: {what} have shape {values.shape}; expected one for each of {e} edges")
        if min(kinds.min(initial=0), bonds.min(initial=0)) < 0:
            raise DataError(f"graph {id_}: kinds are counted from 0")
        if e and (pairs.min() < 0 or pairs.max() >= n):
            raise DataError(f"graph {id_}: edge {_named(pairs[((pairs < 0) | (pairs >= n)).any(1)][0])} of {n} nodes")
        if (loops := pairs[:, 0] == pairs[:, 1]).any():
            raise DataError(f"graph {id_}: node {pairs[loops][0, 0]} has an edge to itself; leave loops out")
        if heavy is not None and not np.isfinite(heavy).all():
            raise DataError(f"graph {id_}: a weight is not finite")
        numbers = None if features is None else np.asarray(features, dtype=np.float64)
        if numbers is not None and (numbers.ndim != 2 or len(numbers) != n or not np.isfinite(numbers).all()):
            raise DataError(f"graph {id_}: features have shape {numbers.shape}; expected ({n}, d) finite numbers")
        pairs = np.sort(pairs, axis=1)
        once, first, which = np.unique(pairs, axis=0, return_index=True, return_inverse=True)
        for what, values in (("kind", bonds), ("weight", heavy)):
            if values is not None and (odd := values != values[first][which.ravel()]).any():
                raise DataError(f"graph {id_}: edge {_named(pairs[odd][0])} is given twice, with another {what}")
        return cls(id_, kinds, once, bonds[first], None if heavy is None else heavy[first], numbers)

    @property
    def n(self) -> int:
        """How many nodes there are."""
        return len(self.nodes)

    @property
    def degrees(self) -> np.ndarray:
        """(n,): how many edges each node has."""
        return np.bincount(self.edges.ravel(), minlength=self.n)

    def matrix(self) -> np.ndarray:
        """Return (n, n) int64, symmetric: 0 where there is no edge, else its kind and 1."""
        found = np.zeros((self.n, self.n), dtype=np.int64)
        i, j = self.edges.T
        found[i, j] = found[j, i] = self.edge_kinds + 1
        return found

    @classmethod
    def from_matrix(cls, id_: str, nodes: ArrayLike, matrix: ArrayLike, *, features: ArrayLike | None = None) -> Graph:
        """Return the graph of a matrix as :meth:`matrix` gives it; DataError where it is not symmetric."""
        values = np.asarray(matrix)
        if values.ndim != 2 or values.shape[0] != values.shape[1]:
            raise DataError(f"graph {id_}: a matrix of {values.shape}; expected a square")
        if not np.array_equal(values, values.T):
            i, j = np.argwhere(values != values.T)[0]
            raise DataError(
                f"graph {id_}: {i} to {j} is {values[i, j]}, back it is {values[j, i]}; expected no direction"
            )
        if np.diagonal(values).any():
            raise DataError(f"graph {id_}: node {np.flatnonzero(np.diagonal(values))[0]} has an edge to itself")
        i, j = np.nonzero(np.triu(values))
        return cls.of(id_, nodes, np.stack([i, j], axis=1), values[i, j].astype(np.int64) - 1, features=features)

    def renumbered(self, order: ArrayLike, id_: str | None = None) -> Graph:
        """Return the same graph with node ``order[k]`` as its k-th; ``order`` is a permutation of all nodes."""
        order = np.asarray(order)
        place = np.empty(self.n, dtype=np.int64)
        place[order] = np.arange(self.n)
        return Graph.of(
            id_ or self.id, self.nodes[order], place[self.edges], self.edge_kinds, weights=self.weights,
            features=None if self.features is None else self.features[order],
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Graphs:
    """Graphs of one kind with the class of each, and what their numbers mean."""

    name: str
    graphs: tuple[Graph, ...]
    y: np.ndarray
    """(N,) int64: each graph's class, -1 where it is not known."""
    classes: tuple[str, ...]
    node_kinds: tuple[str, ...] = ("node",)
    edge_kinds: tuple[str, ...] = ("edge",)
    matched: bool = False
    """Whether node i is the same thing in every graph (a region of the brain): then nodes cannot be exchanged."""
    patients: np.ndarray | None = None
    """(N,): of whom each graph is; without it each is of its own."""
    notes: tuple[str, ...] = field(default=())
    source: Source | None = None

    def __post_init__(self) -> None:
        if len(self.y) != len(self.graphs):
            raise DataError(f"{self.name}: {len(self.graphs)} graphs, {len(self.y)} classes; expected one each")
        for graph in self.graphs:
            if graph.nodes.max() >= len(self.node_kinds):
                raise DataError(
                    f"{self.name}: graph {graph.id} has a node of kind {graph.nodes.max()}, which has no name"
                )
            if graph.edge_kinds.max(initial=0) >= len(self.edge_kinds):
                raise DataError(f"{self.name}: graph {graph.id} has an edge of a kind that has no name")
        if self.matched and len({graph.n for graph in self.graphs}) > 1:
            raise DataError(f"{self.name}: nodes are matched, yet graphs have different numbers of them")

    def __len__(self) -> int:
        return len(self.graphs)

    def __iter__(self) -> Iterator[Graph]:
        return iter(self.graphs)

    @property
    def who(self) -> np.ndarray:
        """(N,): the patient of each graph, or the graph itself."""
        return np.array([g.id for g in self.graphs]) if self.patients is None else self.patients

    @property
    def largest(self) -> int:
        """The most nodes that a graph has."""
        return max(graph.n for graph in self.graphs)

    def without_features(self) -> Graphs:
        """Return the graphs without the numbers of their nodes."""
        bare = tuple(replace(graph, features=None) for graph in self.graphs)
        return replace(self, graphs=bare, notes=(*self.notes, "numbers of nodes were left out"))

    def some(self, rows: Sequence[int] | np.ndarray, note: str = "") -> Graphs:
        """Return the graphs of these rows, with a note of why."""
        rows = np.asarray(rows, dtype=int)
        return Graphs(
            self.name, tuple(self.graphs[i] for i in rows), self.y[rows], self.classes, self.node_kinds,
            self.edge_kinds, self.matched, None if self.patients is None else self.patients[rows],
            (*self.notes, *([note] if note else [])), self.source,
        )  # fmt: skip


def _named(pair: np.ndarray) -> str:
    return f"{pair[0]}-{pair[1]}"
