"""Which graphs are the same but for the numbering of their nodes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

from medaudit.cohort.graphs import Graph

Neighbours = list[list[tuple[int, int]]]
"""For each node its edges: their kind and their other end."""


def wl_hash(graph: Graph) -> str:
    """Return 32 hexadecimal digits that are the same for all graphs that are isomorphic to this one.

    Colours of nodes, at first their kinds, are refined by those of their neighbours and the kinds of the edges until
    no colour splits (Weisfeiler & Leman 1968). Graphs with one hash are mostly, not always, isomorphic:
    :func:`isomorphic` decides. Weights and features are not looked at. The same in every process.
    """
    near = _neighbours(graph)
    colours = [_digest(f"{kind}") for kind in graph.nodes.tolist()]
    while True:
        finer = [
            _digest(colours[i] + "".join(sorted(f"|{kind}:{colours[k]}" for kind, k in near[i])))
            for i in range(graph.n)
        ]
        done = len(set(finer)) == len(set(colours))
        colours = finer
        if done:
            return _digest(",".join(sorted(colours)))


def isomorphic(g: Graph, h: Graph) -> np.ndarray | None:
    """Return for each node of ``g`` its node in ``h``, (n,) int64, under an isomorphism; None where there is none.

    Node and edge kinds must agree; weights and features are not looked at. A node of ``g`` is told from those of its
    colour, each of that colour in ``h`` in turn is tried for it, and colours are refined again (McKay & Piperno,
    Journal of Symbolic Computation 2014, without their search of automorphisms: strongly regular graphs take long).
    """
    if g.n != h.n or len(g.edges) != len(h.edges):
        return None
    near = (_neighbours(g), _neighbours(h))
    found = _match(near, (g.nodes.tolist(), h.nodes.tolist()))
    return None if found is None else np.array(found, dtype=np.int64)


def duplicates(graphs: Sequence[Graph]) -> tuple[tuple[int, ...], ...]:
    """Return the groups of two or more isomorphic graphs, as rows in order, by each group's first.

    A random split of data with duplicates puts the same graph on both sides (Ivanov et al., arXiv 1910.12091): keep the
    first of each group, or the group together.
    """
    alike: dict[tuple[int, int, str], list[list[int]]] = defaultdict(list)
    for row, graph in enumerate(graphs):
        groups = alike[graph.n, len(graph.edges), wl_hash(graph)]
        for group in groups:
            if isomorphic(graphs[group[0]], graph) is not None:
                group.append(row)
                break
        else:
            groups.append([row])
    return tuple(sorted(tuple(group) for groups in alike.values() for group in groups if len(group) > 1))


def _digest(words: str) -> str:
    return blake2b(words.encode(), digest_size=16).hexdigest()


def _neighbours(graph: Graph) -> Neighbours:
    near: Neighbours = [[] for _ in range(graph.n)]
    for (i, k), kind in zip(graph.edges.tolist(), graph.edge_kinds.tolist(), strict=True):
        near[i].append((kind, k))
        near[k].append((kind, i))
    return near


def _match(near: tuple[Neighbours, Neighbours], colours: tuple[list[int], list[int]]) -> list[int] | None:
    """Return an isomorphism that keeps colours, or None."""
    count = len(set(colours[0]))
    while True:
        # Both graphs are coloured from one box, so that colours can be compared.
        box: dict[tuple[int, tuple[tuple[int, int], ...]], int] = {}
        finer: list[list[int]] = []
        for edges, old in zip(near, colours, strict=True):
            signs = [(old[i], tuple(sorted((kind, old[k]) for kind, k in edges[i]))) for i in range(len(edges))]
            finer.append([box.setdefault(sign, len(box)) for sign in signs])
        sizes = Counter(finer[0])
        if sizes != Counter(finer[1]):
            return None
        colours = (finer[0], finer[1])
        if len(sizes) == count:
            break
        count = len(sizes)
    if count == len(near[0]):
        where = {colour: j for j, colour in enumerate(colours[1])}
        # A stable colouring of single nodes, equal in both, is an isomorphism.
        return [where[colour] for colour in colours[0]]
    split = min((colour for colour in sizes if sizes[colour] > 1), key=lambda colour: (sizes[colour], colour))
    i = colours[0].index(split)
    own = [*colours[0]]
    own[i] = count
    for j in (j for j, colour in enumerate(colours[1]) if colour == split):
        other = [*colours[1]]
        other[j] = count
        if (found := _match(near, (own, other))) is not None:
            return found
    return None
