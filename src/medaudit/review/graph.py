"""The typed graph around a record, and where to draw it: the same graph is always drawn the same."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, or_, select

from medaudit.review import tables as t
from medaudit.review import vocabulary

VERBS = ("PRODUCE", "INTRODUCE", "EXTEND", "USE", "SOURCE", *vocabulary.LINKS, *vocabulary.BETWEEN_ARTIFACTS)
"""Edges that are drawn; a citation is not."""
MOST = 120
_SECTORS = {
    "documentation": 270.0, "bias": 340.0, "shortcut": 10.0, "label_issue": 40.0, "data_issue": 70.0,
    "computed_audit": 90.0, "annotation": 150.0, "derived_dataset": 180.0, "benchmark": 190.0,
    "access_change": 110.0, "dataset": 210.0, "work": 240.0,
}  # fmt: skip
"""Where on the circle (degrees, clockwise from the right) the neighbours of each type lie."""


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
    """Put each type in its sector of a circle, one ring a hop.

    Places depend only on types and slugs: a new record moves its neighbours in the sector a little, and nothing else.
    """
    kept = {node.id for node in graph.nodes}
    places: dict[int, tuple[float, float]] = {graph.root: (0.0, 0.0)}
    ring_of: dict[int, list[Node]] = {}
    for node in graph.nodes:
        ring_of.setdefault(hops[node.id], []).append(node)
    for hop, ring in ring_of.items():
        if hop == 0:
            continue
        # In order of the sectors, evenly on the ring: no two lie on each other, and a type stays together.
        ordered = sorted(ring, key=lambda node: (_SECTORS.get(node.type, 0.0), node.slug))
        rings = max(1, math.ceil(len(ordered) / 26))
        for n, node in enumerate(ordered):
            angle = math.radians(270.0 + 360.0 * n / len(ordered) + 180.0 / max(len(ordered), 1))
            radius = 1.0 * hop + 0.42 * (n % rings)
            places[node.id] = (radius * math.cos(angle), radius * math.sin(angle))
    nodes = tuple(
        Node(n.id, n.kind, n.slug, n.title, n.type, n.box, round(places[n.id][0], 4), round(places[n.id][1], 4))
        for n in graph.nodes
    )
    edges = tuple(edge for edge in graph.edges if edge.subject in kept and edge.object in kept)
    return Graph(graph.root, nodes, edges, graph.more)
