"""The edits that an assignment of nodes induces: what they are, what they cost, and the graph they make."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from medaudit.cohort.graphs import Graph
from medaudit.errors import UsageError
from medaudit.metrics.graph_edit.costs import EditCosts


@dataclass(frozen=True)
class EditPath:
    """The edits that make the second graph of the first; nodes and edges are named by their graph's own numbers."""

    assignment: tuple[int, ...]
    """For each node of the first graph its node of the second, or -1 where it is deleted."""
    cost: float
    node_deletions: tuple[int, ...] = field(default=())
    """Nodes of the first graph."""
    node_insertions: tuple[int, ...] = field(default=())
    """Nodes of the second graph."""
    node_substitutions: tuple[tuple[int, int], ...] = field(default=())
    """A node of the first graph and the one of the second whose kind or features it takes."""
    edge_deletions: tuple[tuple[int, int], ...] = field(default=())
    """Edges of the first graph, those of its deleted nodes among them."""
    edge_insertions: tuple[tuple[int, int], ...] = field(default=())
    """Edges of the second graph, those of its inserted nodes among them."""
    edge_substitutions: tuple[tuple[tuple[int, int], tuple[int, int]], ...] = field(default=())
    """An edge of the first graph and the one of the second whose kind or weight it takes."""

    def __len__(self) -> int:
        return (
            len(self.node_deletions) + len(self.node_insertions) + len(self.node_substitutions)
            + len(self.edge_deletions) + len(self.edge_insertions) + len(self.edge_substitutions)
        )  # fmt: skip


def edit_path(g: Graph, h: Graph, assignment: ArrayLike, costs: EditCosts | None = None) -> EditPath:
    """Return the edits from ``g`` to ``h`` that an assignment of nodes induces, and their cost.

    ``assignment`` is (n,) integers: for each node of ``g`` a node of ``h``, each at most once, or -1 for deletion.
    Nodes of ``h`` that no node takes are inserted. An edge is kept where its ends' images have an edge (Riesen & Bunke,
    Image and Vision Computing 2009).

    Raises UsageError where it is no such assignment, DataError where a cost asks for weights or features that are not
    there.
    """
    costs = costs or EditCosts()
    costs.check(g, h)
    f = np.asarray(assignment, dtype=np.int64)
    if f.shape != (g.n,) or (g.n and (f.min() < -1 or f.max() >= h.n)):
        raise UsageError(f"an assignment of shape {f.shape}; expected a node of {h.id} or -1 for each of {g.n} nodes")
    kept = np.flatnonzero(f >= 0)
    taken = f[kept]
    if len(np.unique(taken)) < len(taken):
        raise UsageError(f"an assignment gives two nodes of {g.id} the same node of {h.id}")
    back = np.full(h.n, -1, dtype=np.int64)
    back[taken] = kept
    deleted, inserted = np.flatnonzero(f < 0).tolist(), np.flatnonzero(back < 0).tolist()
    price = costs.nodes(g, h)[kept, taken]
    other = g.nodes[kept] != h.nodes[taken]
    if costs.feature:
        other |= price > 0
    changed = list(zip(kept[other].tolist(), taken[other].tolist(), strict=True))

    theirs = {pair: e for e, pair in enumerate(map(tuple, h.edges.tolist()))}
    image = f.tolist()
    both = costs.edge_deletion + costs.edge_insertion
    kinds, their_kinds = g.edge_kinds.tolist(), h.edge_kinds.tolist()
    cut, rebound, total = [], [], 0.0
    for e, (i, k) in enumerate(g.edges.tolist()):
        j, m = image[i], image[k]
        to = theirs.pop((j, m) if j < m else (m, j), -1)
        if to < 0:
            cut.append((i, k))
            continue
        change = costs.edge_substitution if kinds[e] != their_kinds[to] else 0.0
        if costs.weight and g.weights is not None and h.weights is not None:
            change += costs.weight * abs(float(g.weights[e] - h.weights[to]))
        if change > 0 or kinds[e] != their_kinds[to]:
            rebound.append(((i, k), (j, m) if j < m else (m, j)))
            total += min(change, both)
    added = list(theirs)
    total += costs.node_deletion * len(deleted) + costs.node_insertion * len(inserted) + float(price.sum())
    total += costs.edge_deletion * len(cut) + costs.edge_insertion * len(added)
    return EditPath(
        tuple(image), total, tuple(deleted), tuple(inserted), tuple(changed), tuple(cut), tuple(added), tuple(rebound)
    )


def apply(path: EditPath, g: Graph, h: Graph, id_: str | None = None) -> Graph:
    """Return the graph that the edits make of ``g``, with what is inserted or substituted as it is in ``h``.

    Its nodes are those of ``g`` that are kept, in their order, then the inserted ones in theirs. Weights and features
    come with an edit only: where they have no cost and nothing else changes, the first graph's stay, and the graph has
    them where both graphs do. Otherwise it equals ``h`` renumbered by the path.

    Raises UsageError where an edit is of something that is not there.
    """
    f = path.assignment
    gone = set(path.node_deletions)
    kept = [i for i in range(g.n) if i not in gone]
    if len(f) != g.n or any(f[i] < 0 for i in kept):
        raise UsageError(f"an edit path of {len(f)} nodes does not fit graph {g.id} of {g.n}")
    place = {i: at for at, i in enumerate(kept)}
    their_place = {f[i]: at for at, i in enumerate(kept)}
    their_place |= {j: len(kept) + at for at, j in enumerate(path.node_insertions)}

    numbers = g.features is not None and h.features is not None
    source: list[tuple[Graph, int]] = [(g, i) for i in kept] + [(h, j) for j in path.node_insertions]
    for i, j in path.node_substitutions:
        source[place[i]] = (h, j)
    mine = {(i, k): e for e, (i, k) in enumerate(g.edges.tolist())}
    theirs = {(i, k): e for e, (i, k) in enumerate(h.edges.tolist())}
    edges: dict[tuple[int, int], tuple[Graph, int]] = {pair: (g, e) for pair, e in mine.items()}
    try:
        for pair in path.edge_deletions:
            del edges[pair]
        for pair, to in path.edge_substitutions:
            edges[pair] = (h, theirs[to])
        ends = [(place[i], place[k]) for i, k in edges]
        ends += [(their_place[j], their_place[m]) for j, m in path.edge_insertions]
        made = [*edges.values(), *((h, theirs[pair]) for pair in path.edge_insertions)]
    except KeyError as missing:
        raise UsageError(f"an edit path does not fit graphs {g.id} and {h.id}: there is no {missing}") from None
    weights = None
    if g.weights is not None and h.weights is not None:
        weights = np.array([of.weights[e] for of, e in made if of.weights is not None], dtype=np.float64)
    return Graph.of(
        id_ or h.id, np.array([of.nodes[i] for of, i in source]), np.array(ends, dtype=np.int64).reshape(-1, 2),
        np.array([of.edge_kinds[e] for of, e in made], dtype=np.int64), weights=weights,
        features=np.array([of.features[i] for of, i in source if of.features is not None]) if numbers else None,
    )  # fmt: skip
