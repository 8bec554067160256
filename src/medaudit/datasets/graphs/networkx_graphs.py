"""Graphs from and to networkx."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from medaudit.cohort.graphs import Graph, Graphs
from medaudit.errors import DataError, UsageError

if TYPE_CHECKING:
    import networkx


def from_networkx(
    graphs: Sequence[networkx.Graph], labels: Sequence[Any] | ArrayLike | None = None, *, name: str = "networkx",
    ids: Sequence[str] | None = None, kind: str = "kind", edge_kind: str = "kind", weight: str = "weight",
    matched: bool = False,
) -> Graphs:  # fmt: skip
    """Return networkx's graphs as Graphs; without labels no class is known.

    ``kind``, ``edge_kind`` and ``weight`` name attributes: what no graph has is left out, what some nodes have all
    must have. Kinds and classes are sorted. Nodes come in each graph's own order, or, where ``matched``, in that of the
    first for all. Loops are left out, with a note. A graph's id is its ``name`` in networkx, or its number.

    Raises UsageError for a directed graph, for one with several edges between two nodes and for another number of
    labels or ids than graphs; DataError for a graph without nodes, for nodes without a kind where others have one, and
    for matched graphs of different nodes.
    """
    if not len(graphs):
        raise UsageError("no graphs were given; expected one or more of networkx")
    called = [str(g.name) or f"{name}_{k + 1}" for k, g in enumerate(graphs)] if ids is None else [str(i) for i in ids]
    given = None if labels is None else [str(one) for one in np.asarray(labels).tolist()]
    for what, some in (("ids", called), ("labels", given)):
        if some is not None and len(some) != len(graphs):
            raise UsageError(f"{len(graphs)} graphs, {len(some)} {what}; expected one each")
    for id_, graph in zip(called, graphs, strict=True):
        if graph.is_directed() or graph.is_multigraph():
            what = "directed" if graph.is_directed() else "a multigraph"
            raise UsageError(f"graph {id_} is {what}; expected networkx.Graph (networkx.Graph(graph) makes one)")
        if not len(graph):
            raise DataError(f"graph {id_} has no nodes")
    orders = [list(graph) for graph in graphs]
    if matched:
        for id_, order in zip(called, orders, strict=True):
            if set(order) != set(orders[0]):
                raise DataError(f"graph {id_} has other nodes than graph {called[0]}, but nodes are matched")
        orders = [orders[0]] * len(graphs)
    lines = [[(a, b) for a, b in graph.edges if a != b] for graph in graphs]
    loops = sum(graph.number_of_edges() for graph in graphs) - sum(map(len, lines))
    node_kinds, nodes = _kinds(
        called, [[g.nodes[v].get(kind) for v in order] for g, order in zip(graphs, orders, strict=True)], "node"
    )
    edge_kinds, bonds = _kinds(
        called, [[g.edges[e].get(edge_kind) for e in line] for g, line in zip(graphs, lines, strict=True)], "edge"
    )
    weighted = any(weight in g.edges[e] for g, line in zip(graphs, lines, strict=True) for e in line)
    made = []
    for k, (graph, order, line) in enumerate(zip(graphs, orders, lines, strict=True)):
        place = {node: i for i, node in enumerate(order)}
        ends = np.array([(place[a], place[b]) for a, b in line], dtype=np.int64).reshape(-1, 2)
        heavy = [graph.edges[e].get(weight, 1.0) for e in line] if weighted else None
        made.append(Graph.of(called[k], nodes[k], ends, bonds[k], weights=heavy))
    classes, y = np.unique(np.array(given or []), return_inverse=True)
    return Graphs(
        name, tuple(made), np.full(len(made), -1) if given is None else y.ravel(), tuple(classes.tolist()),
        node_kinds, edge_kinds, matched=matched,
        notes=(f"{loops:,} edges from a node to itself are left out.",) if loops else (),
    )  # fmt: skip


def to_networkx(graph: Graph, graphs: Graphs | None = None) -> networkx.Graph:
    """Return a graph of networkx with ``kind`` of nodes and edges, ``weight`` and ``features`` where there are any.

    Kinds are numbers, or with ``graphs`` their names, which :func:`from_networkx` reads back. Raises UsageError where
    networkx is not installed.
    """
    try:
        import networkx
    except ImportError:
        raise UsageError("networkx is not installed; pip install networkx") from None
    made = networkx.Graph(name=graph.id)
    node_name = (lambda k: int(k)) if graphs is None else (lambda k: graphs.node_kinds[k])
    edge_name = (lambda k: int(k)) if graphs is None else (lambda k: graphs.edge_kinds[k])
    for i, kind in enumerate(graph.nodes):
        made.add_node(i, kind=node_name(kind))
        if graph.features is not None:
            made.nodes[i]["features"] = graph.features[i]
    for k, ((i, j), kind) in enumerate(zip(graph.edges.tolist(), graph.edge_kinds, strict=True)):
        made.add_edge(i, j, kind=edge_name(kind))
        if graph.weights is not None:
            made.edges[i, j]["weight"] = float(graph.weights[k])
    return made


def _kinds(ids: Sequence[str], values: Sequence[Sequence[Any]], what: str) -> tuple[tuple[str, ...], list[np.ndarray]]:
    """Return the kinds' names, sorted, and each graph's kinds; all 0 where nothing has a kind."""
    if all(value is None for some in values for value in some):
        return (what,), [np.zeros(len(some), dtype=np.int64) for some in values]
    for id_, some in zip(ids, values, strict=True):
        if any(value is None for value in some):
            raise DataError(f"graph {id_} has a {what} without a kind, but others have one; give one to each")
    # Numbers in order of their size, words in that of the alphabet.
    different = {value for some in values for value in some}
    order = sorted(different, key=lambda v: (isinstance(v, str), v if not isinstance(v, str) else 0, str(v)))
    place = {value: k for k, value in enumerate(order)}
    return tuple(map(str, order)), [np.array([place[v] for v in some], dtype=np.int64) for some in values]
