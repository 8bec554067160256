"""The typed graph around a record, and where to draw it: the same graph is always drawn the same."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, or_, select

from medaudit.review import tables as t
from medaudit.review import vocabulary

VERBS = ("PRODUCE", "INTRODUCE", "EXTEND", "USE", "SOURCE", *vocabulary.LINKS, *vocabulary.BETWEEN_ARTIFACTS)
"""Edges that are drawn; a citation is not."""
MOST = 120
_ORDER = {
    type: n
    for n, type in enumerate(
        ("dataset", "documentation", "bias", "shortcut", "label_issue", "data_issue", "computed_audit", "access_change",
         "annotation", "derived_dataset", "benchmark")
    )
}  # fmt: skip
"""From the top down, which types lie where in a column."""
_ROWS, _ROW = 16, 0.23


@dataclass(frozen=True)
class Node:
    """A record in the graph; ``type``: the artifact's, else the kind; ``box``: as the paper's figure calls it."""

    id: int
    kind: str
    slug: str
    title: str
    type: str
    box: str
    x: float = 0.0
    y: float = 0.0


@dataclass(frozen=True)
class Edge:
    """``subject`` does ``verb`` to ``object`` (ids of nodes); ``evidence`` of a use."""

    subject: int
    verb: str
    object: int
    evidence: str = ""


@dataclass(frozen=True)
class Graph:
    """Nodes and edges around ``root``; ``more``: how many neighbours were left out."""

    root: int
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    more: int = 0


def around(
    connection: Connection, kind: str, slug: str, *, hops: int = 1, verbs: Collection[str] = VERBS, limit: int = MOST
) -> Graph | None:
    """Return the graph up to ``hops`` steps around a record, laid out; None where there is no such record."""
    root = connection.scalar(select(t.entity.c.id).where(t.entity.c.kind == kind, t.entity.c.slug == slug))
    if root is None:
        return None
    seen: dict[int, int] = {root: 0}
    edges: dict[tuple[int, str, int], Edge] = {}
    edge_front, more = [root], 0
    for hop in range(1, hops + 1):
        rows = connection.execute(
            select(t.relation.c.subject_id, t.relation.c.verb, t.relation.c.object_id, t.relation.c.evidence)
            .where(
                t.relation.c.verb.in_(list(verbs)),
                or_(t.relation.c.subject_id.in_(edge_front), t.relation.c.object_id.in_(edge_front)),
            )
            .order_by(t.relation.c.id)
        ).all()
        fresh: list[int] = []
        for row in rows:
            for end in (row.subject_id, row.object_id):
                if end not in seen:
                    if len(seen) >= limit:
                        more += 1
                        continue
                    seen[end] = hop
                    fresh.append(end)
            if row.subject_id in seen and row.object_id in seen:
                key = (row.subject_id, row.verb, row.object_id)
                edges.setdefault(key, Edge(*key, row.evidence or ""))
        edge_front = fresh
        if not fresh:
            break
    return _laid_out(Graph(root, _nodes(connection, seen), tuple(edges.values()), more), seen)


def _nodes(connection: Connection, seen: dict[int, int]) -> tuple[Node, ...]:
    rows = connection.execute(
        select(t.entity.c.id, t.entity.c.kind, t.entity.c.slug, t.entity.c.title, t.artifact.c.type)
        .outerjoin(t.artifact, t.artifact.c.entity_id == t.entity.c.id)
        .where(t.entity.c.id.in_(list(seen)), t.entity.c.status == "public")
    ).all()
    nodes = [
        Node(row.id, row.kind, row.slug, row.title, row.type or row.kind,
             vocabulary.PAPER_TYPES.get(row.type or "", (row.type or row.kind).replace("_", " ")))
        for row in rows
    ]  # fmt: skip
    return tuple(sorted(nodes, key=lambda node: (seen[node.id], node.type, node.slug)))


def _laid_out(graph: Graph, hops: dict[int, int]) -> Graph:
    """Put works on the left of the root, artifacts and datasets on its right, in columns, a type together.

    No two records lie on each other, and places depend only on types and slugs: a new record moves those of its side by
    a row, and nothing else.
    """
    kept = {node.id for node in graph.nodes}
    places: dict[int, tuple[float, float]] = {graph.root: (0.0, 0.0)}
    for side, kinds in ((-1, ("work",)), (1, ("artifact", "dataset"))):
        column = 1.3
        for hop in sorted({hops[node.id] for node in graph.nodes} - {0}):
            own = [node for node in graph.nodes if hops[node.id] == hop and node.kind in kinds]
            own.sort(key=lambda node: (_ORDER.get(node.type, 99), node.slug))
            for start in range(0, len(own), _ROWS):
                part = own[start : start + _ROWS]
                for n, node in enumerate(part):
                    places[node.id] = (side * column, (n - (len(part) - 1) / 2) * _ROW)
                column += 0.95
    nodes = tuple(
        Node(n.id, n.kind, n.slug, n.title, n.type, n.box, round(places[n.id][0], 4), round(places[n.id][1], 4))
        for n in graph.nodes
    )
    edges = tuple(edge for edge in graph.edges if edge.subject in kept and edge.object in kept)
    return Graph(graph.root, nodes, edges, graph.more)
