"""Simulated graphs with a rule that tells their classes, and the fewest edits that make it say the other class.

An explanation by counterfactuals can be measured against the optimum: none is shorter. Each simulator returns
:class:`Simulated`; case i is the same whatever ``n`` is. They show mechanisms, and say nothing of magnitudes in
patients. Sources: trees with cycles as in GRETEL (Prado-Romero & Stilo 2022), BA-2motifs of Luo et al. 2020
(PGExplainer), space colonisation of Runions et al. 2007.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import Delaunay

from medaudit.cohort.graphs import Graph, Graphs
from medaudit.datasets.graphs.facts import components, parts
from medaudit.errors import UsageError

NOTE = "Simulated: it shows mechanisms, and says nothing of magnitudes in patients."


@dataclass(frozen=True, eq=False)
class Simulated:
    """Graphs, the rule behind their classes, and its optimum: the fewest edits after which it says the other class."""

    graphs: Graphs
    oracle: Callable[[Graph], int]
    """The class of any graph: of each of ``graphs`` its own."""
    optimum: Callable[[Graph], int]
    """Of any graph the fewest ``edits``, each counted once, UsageError where they are not known."""
    edits: str
    """What is counted: ``edges`` added or deleted, or these ``and added nodes``. Nodes keep their kinds."""


def tree_cycles(n: int, *, seed: int, nodes: tuple[int, int] = (12, 20), cycles: tuple[int, int] = (1, 3)) -> Simulated:
    """Return ``n`` graphs, in turn a random tree (0) and a random tree with cycles hung to it (1).

    Both have ``nodes`` from the same range. :func:`has_cycle` is the rule, :func:`cycle_optimum` its optimum: each
    independent cycle costs an edge, one edge makes one. Raises UsageError for ranges in which these do not fit.
    """
    _check_range("nodes", nodes, 3)
    _check_range("cycles", cycles, 1)
    if nodes[0] < 3 * cycles[1] + 1:
        raise UsageError(
            f"cannot hang {cycles[1]} cycles of 3 nodes to a tree with {nodes[0]} nodes in all; expected "
            f"{3 * cycles[1] + 1} or more"
        )

    def one(rng: np.random.Generator, y: int, id_: str) -> Graph:
        size = _between(rng, nodes)
        rings: list[int] = []
        if y:
            left = size - 1
            for more in range(_between(rng, cycles), 0, -1):
                rings.append(_between(rng, (3, min(6, left // more))))
                left -= rings[-1]
        edges = _tree(rng, size - sum(rings))
        first = size - sum(rings)
        for ring in rings:
            edges += [(first + k, first + (k + 1) % ring) for k in range(ring)]
            edges.append((int(rng.integers(0, first)), first + int(rng.integers(0, ring))))
            first += ring
        return _shuffled(rng, Graph.of(id_, np.zeros(size), edges))

    made = _cases("tree-cycles", n, seed, ("tree", "cycle"), ("node",), one)
    return Simulated(made, has_cycle, cycle_optimum, "edges")


def ba_2motifs(n: int, *, seed: int, nodes: int = 20) -> Simulated:
    """Return ``n`` preferential-attachment trees of ``nodes``, in turn with a ring of five (0) and with a house (1).

    A house is a ring of five with a chord. :func:`has_house` is the rule; its optimum is an edge for each of these
    graphs, and UsageError for a graph that needs more. Raises UsageError for fewer than 2 nodes.
    """
    if nodes < 2:
        raise UsageError(f"cannot grow a tree of {nodes} nodes; expected 2 or more")

    def one(rng: np.random.Generator, y: int, id_: str) -> Graph:
        edges, ends = [(0, 1)], [0, 1]
        for node in range(2, nodes):
            other = int(rng.choice(ends))
            edges.append((other, node))
            ends += [other, node]
        edges += [(nodes + k, nodes + (k + 1) % 5) for k in range(5)]
        edges += [(nodes, nodes + 2)] * y
        edges.append((int(rng.integers(0, nodes)), nodes + int(rng.integers(0, 5))))
        return _shuffled(rng, Graph.of(id_, np.zeros(nodes + 5), edges))

    made = _cases("ba-2motifs", n, seed, ("ring", "house"), ("node",), one)
    return Simulated(made, has_house, house_optimum, "edges")


def vessels(n: int, *, seed: int, sources: int = 40, step: float = 0.16, loops: tuple[int, int] = (1, 2)) -> Simulated:
    """Return ``n`` trees like a retina's vessels, in turn without (0) and with collaterals that close loops (1).

    They grow in a disc of radius 1 from its rim, a ``step`` at a time, towards ``sources`` that are scattered evenly:
    space colonisation. Features are (nodes, 2) positions. A collateral joins the end of a branch to the nearest place
    that is no near relative. The rule and its optimum are those of :func:`tree_cycles`. Raises UsageError for what
    cannot grow.
    """
    _check_range("loops", loops, 1)
    if sources < 8 or not 0.05 <= step <= 0.5:
        raise UsageError(f"cannot grow vessels to {sources} sources by {step:g}; expected 8 or more, by 0.05 to 0.5")

    def one(rng: np.random.Generator, y: int, id_: str) -> Graph:
        wanted = _between(rng, loops)  # drawn for both classes, so that they grow alike
        places, edges = _colonised(rng, sources, step)
        if y:
            edges = edges + _collaterals(places, edges, wanted)
        return _shuffled(rng, Graph.of(id_, np.zeros(len(places)), edges, features=places))

    made = _cases("vessels", n, seed, ("tree", "loop"), ("vessel",), one)
    return Simulated(made, has_cycle, cycle_optimum, "edges")


CELLS = ("tumour", "immune", "stroma")
MIXED_FROM = 10
"""So many edges between tumour and immune cells make a neighbourhood mixed."""


def cells(n: int, *, seed: int, nodes: int = 40, clustered: float = 0.5) -> Simulated:
    """Return ``n`` neighbourhoods of cells, in turn with immune cells kept out of the tumour (0) and mixed in (1).

    Edges are those of Delaunay's triangulation of the cells' places, which are features, (nodes, 2). Places are a
    Poisson process, or with probability ``clustered``, whatever the class, heaps. :func:`is_mixed` is the rule: 10
    edges or more between tumour and immune cells; its optimum counts edges and leaves the cells what they are.
    Raises UsageError for fewer than 24 cells or what is no probability.
    """
    if nodes < 24 or not 0 <= clustered <= 1:
        raise UsageError(
            f"cannot place {nodes} cells, clustered with {clustered:g}; expected 24 or more, and a probability"
        )

    def one(rng: np.random.Generator, y: int, id_: str) -> Graph:
        # Few triangulations are on the wrong side of the threshold: they are drawn again.
        while True:
            places = rng.random((nodes, 2))
            if rng.random() < clustered:
                heaps = rng.random((4, 2))
                places = heaps[rng.integers(0, 4, nodes)] + rng.normal(0, 0.07, (nodes, 2))
            corners = Delaunay(places).simplices
            edges = np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [0, 2]]])
            tumour = immune = round(0.35 * nodes)
            kinds = np.repeat([0, 2, 1], [tumour, nodes - tumour - immune, immune])
            if y:
                kinds = rng.permutation(kinds)
            else:  # a nest of tumour, stroma around it, immune cells outside
                distance = ((places - places[rng.integers(0, nodes)]) ** 2).sum(axis=1)
                kinds = kinds[np.argsort(np.argsort(distance))]
            graph = Graph.of(id_, kinds, edges, features=places)
            if is_mixed(graph) == y:
                return graph

    made = _cases("cells", n, seed, ("kept out", "mixed"), CELLS, one)
    return Simulated(made, is_mixed, mixed_optimum, "edges")


LEVELS = ("trachea", "main", "lobar", "segmental", "subsegmental")
LOBES = (3, 2, 5, 5, 5)
"""How many segments the lobes have: right upper, middle and lower, left upper with lingula, left lower."""


def airways(n: int, *, seed: int, lobes: Sequence[int] = LOBES, missing: tuple[int, int] = (1, 3)) -> Simulated:
    """Return ``n`` airway trees, in turn complete (0) and with ``missing`` segmental branches (1).

    A node's kind is its level, :data:`LEVELS`. Segments bear subsegmental branches at random, and where segments are
    missing so many more of these that size does not tell. The rule counts segmental branches at lobar ones: all that
    ``lobes`` have, or some missing. Its optimum counts edges and added nodes and leaves the kinds. Raises UsageError
    for lobes that cannot miss so many.
    """
    whole = sum(lobes)
    _check_range("missing", missing, 1)
    if len(lobes) < 2 or min(lobes) < 1 or whole <= missing[1]:
        raise UsageError(f"cannot miss {missing[1]} segments of {list(lobes)}; expected two lobes or more, and fewer")

    def oracle(graph: Graph) -> int:
        return int((_lobar_links(graph) > 0).sum() < whole)

    def optimum(graph: Graph) -> int:
        links = _lobar_links(graph)
        there = int((links > 0).sum())
        if there >= whole:  # the segments with the fewest edges to lobar branches are cut off
            return int(np.sort(links[links > 0])[: there - whole + 1].sum())
        if not (graph.nodes == LEVELS.index("lobar")).any():
            raise UsageError(f"graph {graph.id} has no lobar branch to which a segment could be added")
        loose = int((graph.nodes == LEVELS.index("segmental")).sum()) - there
        return 2 * (whole - there) - min(loose, whole - there)  # a loose segment needs an edge, a new one itself too

    def one(rng: np.random.Generator, y: int, id_: str) -> Graph:
        gone = _between(rng, missing)
        kinds = [0, 1, 1]
        edges = [(0, 1), (0, 2)]
        segments = []
        for lobe, count in enumerate(lobes):
            kinds.append(2)
            edges.append((1 if lobe < (len(lobes) + 1) // 2 else 2, lobar := len(kinds) - 1))
            for _ in range(count):
                kinds.append(3)
                edges.append((lobar, len(kinds) - 1))
                segments.append(len(kinds) - 1)
        cut = rng.choice(segments, size=gone if y else 0, replace=False)
        keep = [i for i in range(len(kinds)) if i not in cut]
        place = {i: k for k, i in enumerate(keep)}
        edges = [(place[i], place[j]) for i, j in edges if i in place and j in place]
        kinds = [kinds[i] for i in keep]
        bearers = [k for k, kind in enumerate(kinds) if kind == 3]
        for bearer in rng.choice(bearers, size=int(rng.binomial(4 * whole, 0.35)) + (gone if y else 0)):
            kinds.append(4)
            edges.append((int(bearer), len(kinds) - 1))
        return _shuffled(rng, Graph.of(id_, kinds, edges))

    made = _cases("airways", n, seed, ("complete", "missing"), LEVELS, one)
    return Simulated(made, oracle, optimum, "edges and added nodes")


SMALL, LARGE = (8, 12), (16, 22)
"""Sizes in nodes that go with the classes of :func:`size_shortcut`; they do not overlap."""


def size_shortcut(n: int, *, seed: int, strength: float = 0.9) -> Simulated:
    """Return ``n`` trees, in turn without (0) and with a ring of four (1), of which size tells the class as well.

    ``strength`` is the correlation phi of class and size, -1 to 1: a rule on the number of nodes is right in (1 +
    strength) / 2. At 0 size says nothing. The ring is what the class means: rule and optimum are those of
    :func:`tree_cycles`. Raises UsageError for what is no correlation.
    """
    if not -1 <= strength <= 1:  # NaN too
        raise UsageError(f"cannot plant a shortcut with a strength of {strength:g}; it is a correlation, from -1 to 1")

    def one(rng: np.random.Generator, y: int, id_: str) -> Graph:
        alike = bool(rng.random() < (1 + strength) / 2)
        size = _between(rng, LARGE if alike == bool(y) else SMALL)
        edges = _tree(rng, size - 4)
        first, edges = size - 4, [*edges, (int(rng.integers(0, size - 4)), size - 4)]
        edges += [(first, first + 1), (first + 1, first + 2), (first + 2, first + 3)]
        edges += [(first, first + 3)] * y
        return _shuffled(rng, Graph.of(id_, np.zeros(size), edges))

    made = _cases("size-shortcut", n, seed, ("tree", "ring"), ("node",), one)
    return Simulated(made, has_cycle, cycle_optimum, "edges")


SIMULATORS: dict[str, Callable[..., Simulated]] = {
    "tree-cycles": tree_cycles,
    "ba-2motifs": ba_2motifs,
    "vessels": vessels,
    "cells": cells,
    "airways": airways,
    "size-shortcut": size_shortcut,
}
"""All of them, by name; each takes ``n`` and ``seed``, and settings of its own."""


def cycles_of(graph: Graph) -> int:
    """Return the number of independent cycles, edges - nodes + connected parts."""
    return len(graph.edges) - graph.n + components(graph)


def has_cycle(graph: Graph) -> int:
    """Return 1 where the graph has a cycle, else 0."""
    return int(cycles_of(graph) > 0)


def cycle_optimum(graph: Graph) -> int:
    """Return the fewest edges to delete until no cycle is left, or to add until there is one.

    To break all takes one edge for each independent cycle; to close one takes an edge, or more where no connected part
    has three nodes. Raises UsageError for a graph of one or two nodes, which has no cycle whatever its edges.
    """
    if found := cycles_of(graph):
        return found
    if graph.n < 3:
        raise UsageError(f"graph {graph.id} has {graph.n} nodes; a cycle needs three")
    most = int(np.bincount(parts(graph)).max())
    return max(1, 4 - most)  # no three that hang together: a triangle lacks two edges, or three


def has_house(graph: Graph) -> int:
    """Return 1 where some nodes make a house, a ring of five with a chord (other edges may be there), else 0."""
    near = [set[int]() for _ in range(graph.n)]
    for i, j in graph.edges.tolist():
        near[i].add(j)
        near[j].add(i)
    for b, c in graph.edges.tolist():  # the beam: a roof above it, two walls and a floor below
        roofs = near[b] & near[c]
        if roofs and any(
            e != d and e in near[d] and roofs - {d, e} for e in near[b] - {c} for d in near[c] - {b}
        ):  # fmt: skip
            return 1
    return 0


def house_optimum(graph: Graph) -> int:
    """Return 1 where one edge, added or deleted, makes :func:`has_house` say the other; UsageError where none does."""
    now, there = has_house(graph), {tuple(edge) for edge in graph.edges.tolist()}
    every = [(i, j) for i in range(graph.n) for j in range(i + 1, graph.n)]
    for edge in every:
        # To lose a house an edge has to go, to gain one an edge has to come.
        if (edge in there) == bool(now):
            edges = [e for e in every if (e in there) != (e == edge)]
            if has_house(Graph.of(graph.id, graph.nodes, edges)) != now:
                return 1
    raise UsageError(f"graph {graph.id} needs more than one edge; how many is not known in closed form")


def mixed_edges(graph: Graph) -> int:
    """Return how many edges join a tumour and an immune cell."""
    return int((graph.nodes[graph.edges].sum(axis=1) == 1).sum())  # kinds 0 and 1


def is_mixed(graph: Graph) -> int:
    """Return 1 where :data:`MIXED_FROM` edges or more join tumour and immune cells, else 0."""
    return int(mixed_edges(graph) >= MIXED_FROM)


def mixed_optimum(graph: Graph) -> int:
    """Return the fewest edges to add or delete, cells staying what they are, that make :func:`is_mixed` say the other.

    Raises UsageError where there are too few cells for so many edges.
    """
    found = mixed_edges(graph)
    if found >= MIXED_FROM:
        return found - MIXED_FROM + 1
    if int((graph.nodes == 0).sum()) * int((graph.nodes == 1).sum()) < MIXED_FROM:
        raise UsageError(f"graph {graph.id} has too few tumour and immune cells for {MIXED_FROM} edges between them")
    return MIXED_FROM - found


def _lobar_links(graph: Graph) -> np.ndarray:
    """Return (n,) int: how many edges each segmental branch has to lobar ones; 0 for what is none."""
    i, j = np.concatenate([graph.edges, graph.edges[:, ::-1]]).T
    linked = (graph.nodes[i] == LEVELS.index("segmental")) & (graph.nodes[j] == LEVELS.index("lobar"))
    return np.bincount(i[linked], minlength=graph.n)


def _cases(
    name: str, n: int, seed: int, classes: tuple[str, ...], kinds: tuple[str, ...],
    one: Callable[[np.random.Generator, int, str], Graph],
) -> Graphs:  # fmt: skip
    """Return ``n`` cases, classes in turn, each out of random numbers of its own."""
    if n < 1:
        raise UsageError(f"cannot simulate {n} graphs; expected 1 or more")
    y = np.arange(n) % len(classes)
    graphs = tuple(one(np.random.default_rng((seed, i)), int(y[i]), f"{name}_{i + 1:05d}") for i in range(n))
    return Graphs(name, graphs, y, classes, kinds, notes=(NOTE,))


def _check_range(what: str, values: tuple[int, int], least: int) -> None:
    if not least <= values[0] <= values[1]:
        raise UsageError(f"cannot draw {what} from {values[0]} to {values[1]}; expected {least} or more, in order")


def _between(rng: np.random.Generator, ends: tuple[int, int]) -> int:
    return int(rng.integers(ends[0], ends[1] + 1))


def _tree(rng: np.random.Generator, n: int) -> list[tuple[int, int]]:
    return [(int(rng.integers(0, node)), node) for node in range(1, n)]


def _shuffled(rng: np.random.Generator, graph: Graph) -> Graph:
    """Return the graph with its nodes in random order, which then says nothing."""
    return graph.renumbered(rng.permutation(graph.n))


def _colonised(rng: np.random.Generator, sources: int, step: float) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Return places (n, 2) and edges of a tree grown towards sources scattered in a disc."""
    turn, far = rng.random(sources) * 2 * np.pi, np.sqrt(rng.random(sources))
    left = np.stack([far * np.cos(turn), far * np.sin(turn)], axis=1)
    places, edges = [np.array([-1.0, 0.0])], list[tuple[int, int]]()
    for _round in range(200):
        grown = np.stack(places)
        gaps = left[:, None] - grown[None]
        distance = np.sqrt((gaps**2).sum(axis=2))
        far_ones = distance.min(axis=1) > 1.2 * step  # nearer ones are reached, and call no more
        left, gaps, distance = left[far_ones], gaps[far_ones], distance[far_ones]
        if not len(left):
            break
        nearest = distance.argmin(axis=1)
        for node in np.unique(nearest):
            calling = nearest == node
            pull = (gaps[calling, node] / distance[calling, node][:, None]).sum(axis=0)
            if np.linalg.norm(pull) < 0.1:  # from both sides alike: it would not move
                pull = gaps[calling, node][0]
            place = grown[node] + step * pull / np.linalg.norm(pull)
            if ((np.stack(places) - place) ** 2).sum(axis=1).min() < (0.3 * step) ** 2:
                place = left[np.flatnonzero(calling)[0]]  # something is there: straight to a source
            places.append(place)
            edges.append((int(node), len(places) - 1))
    return np.stack(places), edges


def _collaterals(places: np.ndarray, edges: list[tuple[int, int]], wanted: int) -> list[tuple[int, int]]:
    """Return the edges that close loops: of ends of branches to the nearest place that is no near relative."""
    n = len(places)
    near = np.full((n, n), np.inf)
    i, j = np.array(edges).T
    near[i, j] = near[j, i] = 1
    np.fill_diagonal(near, 0)
    for k in range(n):
        near = np.minimum(near, near[:, [k]] + near[[k]])
    gaps = np.sqrt(((places[:, None] - places[None]) ** 2).sum(axis=2))
    ends = np.bincount(np.array(edges).ravel(), minlength=n) == 1
    gaps[(near < min(4, near.max())) | ~ends[:, None]] = np.inf
    found = list[tuple[int, int]]()
    for _ in range(wanted):
        a, b = np.unravel_index(int(gaps.argmin()), gaps.shape)
        if not np.isfinite(gaps[a, b]):
            break
        found.append((int(a), int(b)))
        gaps[[a, b]] = np.inf
        gaps[:, [a, b]] = np.inf
    return found
