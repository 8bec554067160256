"""What is plain about a set of graphs before anybody trains: sizes and kinds, ready for a classifier that cheats.

A class that a tree finds in these tables needs no graph network: of AIDS in TUDataset the number of nodes alone tells
99 % of the graphs.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from medaudit.cohort.graphs import Graph, Graphs

SIZES = ("nodes", "edges", "density", "components")
"""The columns of :func:`size_features`."""


def size_features(graphs: Graphs) -> np.ndarray:
    """Return (N, 4) float64: each graph's nodes, edges, density and connected components, :data:`SIZES`."""
    rows = [(graph.n, len(graph.edges), density(graph), components(graph)) for graph in graphs]
    return np.array(rows, dtype=np.float64).reshape(-1, len(SIZES))


def kind_counts(graphs: Graphs) -> np.ndarray:
    """Return (N, K) int64: how many nodes of each kind each graph has, columns as ``graphs.node_kinds``."""
    return _counted([graph.nodes for graph in graphs], len(graphs.node_kinds))


def edge_kind_counts(graphs: Graphs) -> np.ndarray:
    """Return (N, K) int64: how many edges of each kind each graph has, columns as ``graphs.edge_kinds``."""
    return _counted([graph.edge_kinds for graph in graphs], len(graphs.edge_kinds))


def components(graph: Graph) -> int:
    """Return how many connected parts a graph has."""
    return int(parts(graph).max()) + 1


def parts(graph: Graph) -> np.ndarray:
    """Return (n,) int: the connected part of each node, counted from 0."""
    i, j = graph.edges.T
    return connected_components(coo_array((np.ones(len(i)), (i, j)), shape=(graph.n, graph.n)), directed=False)[1]


def density(graph: Graph) -> float:
    """Return which part of all possible edges are there, 0 to 1; of a single node 0."""
    return len(graph.edges) / (graph.n * (graph.n - 1) / 2) if graph.n > 1 else 0.0


def _counted(kinds: list[np.ndarray], names: int) -> np.ndarray:
    rows = np.repeat(np.arange(len(kinds)), [len(one) for one in kinds])
    flat = rows * names + np.concatenate([np.zeros(0, dtype=np.int64), *kinds])
    return np.bincount(flat, minlength=len(kinds) * names).reshape(len(kinds), names)
