"""Two graphs in the same slots, and the edits that lie between them, each of which can be taken back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from medaudit.cohort.graphs import Graph

Edit = tuple[str, int, int]
"""``("node", i, i)``: slot i gains or loses its node; ``("kind", i, i)``; ``("edge", i, j)``, i < j."""
EMPTY = -1


@dataclass(frozen=True, eq=False)
class Slots:
    """A graph whose nodes keep their places: what stands in the same slot of two is the same node."""

    kinds: np.ndarray
    """(n,) int64: the node's kind, -1 where the slot is empty."""
    bonds: np.ndarray
    """(n, n) int64: 0 where there is no edge, else its kind and 1."""
    weights: np.ndarray | None = None
    """(n, n) float64."""
    features: np.ndarray | None = None
    """(n, d) float64."""

    @classmethod
    def of(cls, graph: Graph, size: int | None = None) -> Slots:
        """Return a graph with node k in slot k, and empty slots up to ``size``."""
        n = graph.n if size is None else size
        kinds, bonds = np.full(n, EMPTY, dtype=np.int64), np.zeros((n, n), dtype=np.int64)
        kinds[: graph.n], bonds[: graph.n, : graph.n] = graph.nodes, graph.matrix()
        weights = features = None
        if graph.weights is not None:
            weights = np.zeros((n, n))
            i, j = graph.edges.T
            weights[i, j] = weights[j, i] = graph.weights
        if graph.features is not None:
            features = np.zeros((n, graph.features.shape[1]))
            features[: graph.n] = graph.features
        return cls(kinds, bonds, weights, features)

    @property
    def there(self) -> np.ndarray:
        """(n,) bool: slots that have a node."""
        return self.kinds != EMPTY

    def graph(self, id_: str) -> Graph | None:
        """Return the graph without its empty slots; None where nothing is left."""
        slots = np.flatnonzero(self.there)
        if not len(slots):
            return None
        i, j = pairs(len(slots))
        bonds = self.bonds[slots[i], slots[j]]
        has = np.flatnonzero(bonds)
        i, j = i[has], j[has]
        # In order, once each and without loops as they stand: what Graph.of would look for is not there.
        return Graph(
            id_, self.kinds[slots], np.stack([i, j], axis=1), bonds[has] - 1,
            None if self.weights is None else self.weights[slots[i], slots[j]],
            None if self.features is None else self.features[slots],
        )  # fmt: skip

    def key(self) -> bytes:
        """Return what two equal ones share."""
        return self.kinds.tobytes() + self.bonds.tobytes()


@lru_cache(maxsize=256)
def pairs(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return both ends of every pair of ``n`` slots, the lower first, in order."""
    return np.triu_indices(n, 1)


def edits_between(a: Slots, b: Slots) -> list[Edit]:
    """Return the edits from ``a`` to ``b``: nodes, kinds, then edges. Their number is the cost at unit costs."""
    found: list[Edit] = [("node", int(i), int(i)) for i in np.flatnonzero(a.there != b.there)]
    found += [("kind", int(i), int(i)) for i in np.flatnonzero((a.kinds != b.kinds) & a.there & b.there)]
    return found + [("edge", int(i), int(j)) for i, j in np.argwhere(np.triu(a.bonds != b.bonds))]


def reversible(a: Slots, b: Slots) -> list[Edit]:
    """Return the edits that can be taken back by themselves: the edges of a node that went come back with it only."""
    return [(what, i, j) for what, i, j in edits_between(a, b) if what != "edge" or b.there[[i, j]].all()]


def taken_back(a: Slots, b: Slots, edit: Edit) -> Slots:
    """Return ``b`` with one of its edits from ``a`` undone.

    To undo a node that came is to lose its edges too; to undo one that went is to have its edges in ``a`` again, with
    those neighbours that are there.
    """
    what, i, j = edit
    kinds, bonds = b.kinds.copy(), b.bonds.copy()
    weights = None if b.weights is None else b.weights.copy()
    features = None if b.features is None else b.features.copy()

    def edge(x: int, y: int, there: bool) -> None:
        bonds[x, y] = bonds[y, x] = a.bonds[x, y] if there else 0
        if weights is not None and a.weights is not None:
            weights[x, y] = weights[y, x] = a.weights[x, y] if there else 0.0

    if what == "edge":
        edge(i, j, bool(kinds[i] != EMPTY and kinds[j] != EMPTY))
        return Slots(kinds, bonds, weights, features)
    kinds[i] = a.kinds[i]
    if features is not None and a.features is not None:
        features[i] = a.features[i]
    if what == "node":
        for other in range(len(kinds)):
            if other != i:
                edge(i, other, bool(kinds[i] != EMPTY and kinds[other] != EMPTY))
    return Slots(kinds, bonds, weights, features)


def transferred(graph: Slots, before: Slots, after: Slots) -> Slots:
    """Return ``graph`` with what changed from ``before`` to ``after``, and nothing else.

    Where a decoder does not give the graph itself back, its changes still say what to change.
    """
    kinds = np.where(before.kinds != after.kinds, after.kinds, graph.kinds)
    there = kinds != EMPTY
    changed = (before.bonds != after.bonds) & there[:, None] & there[None, :]
    # An edge of the graph goes with its node.
    bonds = np.where(changed, after.bonds, graph.bonds) * (there[:, None] & there[None, :])
    weights = graph.weights
    if weights is not None and after.weights is not None:
        weights = np.where(changed, after.weights, weights) * (bonds > 0)
    features = graph.features
    if features is not None and after.features is not None:
        features = np.where((before.kinds != after.kinds)[:, None], after.features, features)
    return Slots(kinds, bonds, weights, features)


def unedited(a: Slots, b: Slots) -> Slots:
    """Return ``b`` with the numbers of ``a`` wherever no edit lies between them: at the same nodes, the same edges.

    A decoder gives every number anew. Were they left, a graph without a single edit could flip.
    """
    weights, features = b.weights, b.features
    if weights is not None and a.weights is not None:
        weights = np.where((a.bonds == b.bonds) & (a.bonds > 0), a.weights, weights)
    if features is not None and a.features is not None:
        features = np.where(((a.kinds == b.kinds) & a.there)[:, None], a.features, features)
    return Slots(b.kinds, b.bonds, weights, features)


@dataclass(frozen=True)
class Constraints:
    """What may not be changed."""

    freeze: tuple[int, ...] = ()
    """Nodes that stay as they are, with the edges between two of them."""
    add_nodes: bool = True
    delete_nodes: bool = True
    change_kinds: bool = True
    add_edges: bool = True
    delete_edges: bool = True

    def allow(self, a: Slots, b: Slots) -> bool:
        """Return whether every edit from ``a`` to ``b`` is allowed: what :meth:`broken` yields none for, at once."""
        came, went, stays = b.there & ~a.there, a.there & ~b.there, a.there & b.there
        if (not self.add_nodes and came.any()) or (not self.delete_nodes and went.any()):
            return False
        kinds = stays & (a.kinds != b.kinds)
        frozen = np.zeros(len(a.kinds), dtype=bool)
        frozen[[i for i in self.freeze if i < len(frozen)]] = True
        if (not self.change_kinds and kinds.any()) or (frozen & (came | went | kinds)).any():
            return False
        if self.add_edges and self.delete_edges and self.change_kinds and not self.freeze:
            return True
        i, j = pairs(len(a.kinds))
        before, after = a.bonds[i, j], b.bonds[i, j]
        other = np.flatnonzero(before != after)
        i, j, before, after = i[other], j[other], before[other], after[other]
        free = np.where(before == 0, self.add_edges, np.where(after == 0, self.delete_edges, self.change_kinds))
        return not ((frozen[i] & frozen[j]) | (stays[i] & stays[j] & ~free)).any()

    def broken(self, a: Slots, b: Slots) -> Iterator[Edit]:
        """Yield the edits from ``a`` to ``b`` that are not allowed."""
        frozen = set(self.freeze)
        for what, i, j in edits_between(a, b):
            if what == "node":
                bad = i in frozen or not (self.add_nodes if b.kinds[i] != EMPTY else self.delete_nodes)
            elif what == "kind":
                bad = i in frozen or not self.change_kinds
            else:
                came, went = a.bonds[i, j] == 0, b.bonds[i, j] == 0
                free = self.add_edges if came else self.delete_edges if went else self.change_kinds
                # The edge of a node that comes or goes comes or goes with it.
                both = bool(a.there[[i, j]].all() and b.there[[i, j]].all())
                bad = {i, j} <= frozen or (both and not free)
            if bad:
                yield what, i, j

    def kept(self, a: Slots, b: Slots) -> Slots:
        """Return ``b`` with all edits that are not allowed taken back."""
        for _ in range(3):  # to take a node's edit back brings edges with it
            broken = list(self.broken(a, b))
            if not broken:
                return b
            for edit in broken:
                b = taken_back(a, b, edit)
        return b
