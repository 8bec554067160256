"""Isomorphism against networkx, graphs that colours cannot tell, and planted duplicates."""

from itertools import combinations

import networkx as nx
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from networkx.algorithms.isomorphism import categorical_edge_match, categorical_node_match

from medaudit.cohort.graphs import Graph
from medaudit.metrics.graph_edit import duplicates, isomorphic, wl_hash

NODES, EDGES = categorical_node_match("kind", 0), categorical_edge_match("kind", 0)


def drawn(rng, n, density=0.5, kinds=2) -> Graph:
    edges = [pair for pair in combinations(range(n), 2) if rng.random() < density]
    return Graph.of(
        "g",
        rng.integers(kinds, size=n),
        np.array(edges, dtype=int).reshape(-1, 2),
        rng.integers(kinds, size=len(edges)),
    )


def of_networkx(graph: Graph) -> nx.Graph:
    made = nx.Graph()
    made.add_nodes_from((i, {"kind": kind}) for i, kind in enumerate(graph.nodes.tolist()))
    made.add_edges_from((*pair, {"kind": k}) for pair, k in zip(graph.edges.tolist(), graph.edge_kinds, strict=True))
    return made


def plain(graph: nx.Graph) -> Graph:
    return Graph.of("g", np.zeros(len(graph), dtype=int), np.array(graph.edges, dtype=int))


def carries_over(f, g: Graph, h: Graph) -> bool:
    return (
        sorted(f.tolist()) == list(range(g.n))
        and np.array_equal(g.nodes, h.nodes[f])
        and np.array_equal(g.matrix(), h.matrix()[np.ix_(f, f)])
    )


@given(st.integers(0, 100_000), st.integers(1, 6), st.integers(1, 2))
@settings(max_examples=150, deadline=None)
def test_small_graphs_are_isomorphic_where_networkx_says_so(seed, n, kinds):
    rng = np.random.default_rng(seed)
    g, h = drawn(rng, n, kinds=kinds), drawn(rng, n, kinds=kinds)
    if rng.random() < 0.5:  # else hardly any pair would be
        h = g.renumbered(rng.permutation(n))
        if len(g.edges) and rng.random() < 0.5:
            kinds_now = h.edge_kinds.copy()
            kinds_now[rng.integers(len(kinds_now))] ^= 1
            h = Graph.of("h", h.nodes, h.edges, kinds_now)
    theirs = nx.is_isomorphic(of_networkx(g), of_networkx(h), node_match=NODES, edge_match=EDGES)
    found = isomorphic(g, h)
    assert (found is not None) == theirs
    if found is not None:
        assert carries_over(found, g, h)
        assert wl_hash(g) == wl_hash(h)


def test_regular_graphs_that_colours_cannot_tell():
    rng = np.random.default_rng(1)
    ring, triangles = plain(nx.cycle_graph(6)), plain(nx.disjoint_union(nx.cycle_graph(3), nx.cycle_graph(3)))
    assert wl_hash(ring) == wl_hash(triangles)
    assert isomorphic(ring, triangles) is None
    # 4x4 rook's graph and Shrikhande's: strongly regular with the same parameters.
    rook = plain(nx.convert_node_labels_to_integers(nx.line_graph(nx.complete_bipartite_graph(4, 4))))
    steps = [(1, 0), (0, 1), (1, 1)]
    pairs = {
        tuple(sorted((4 * a + b, 4 * ((a + x) % 4) + (b + y) % 4)))
        for a in range(4)
        for b in range(4)
        for x, y in steps
    }
    shrikhande = Graph.of("s", np.zeros(16, dtype=int), np.array(sorted(pairs)))
    assert len(rook.edges) == len(shrikhande.edges) == 48
    assert isomorphic(rook, shrikhande) is None
    for graph in (rook, shrikhande, plain(nx.petersen_graph()), ring):
        other = graph.renumbered(rng.permutation(graph.n))
        assert carries_over(isomorphic(graph, other), graph, other)


def test_planted_duplicates_are_found_and_no_others():
    rng = np.random.default_rng(2)
    graphs = [drawn(rng, n, density=0.3, kinds=3) for n in range(10, 18)]
    ring, triangles = plain(nx.cycle_graph(6)), plain(nx.disjoint_union(nx.cycle_graph(3), nx.cycle_graph(3)))
    graphs += [
        ring,
        triangles,
        graphs[3].renumbered(rng.permutation(graphs[3].n)),
        triangles.renumbered([5, 3, 1, 0, 2, 4]),
    ]
    graphs += [graphs[3].renumbered(rng.permutation(graphs[3].n))]
    assert duplicates(graphs) == ((3, 10, 12), (9, 11))
    assert duplicates(graphs[:8]) == ()


def test_hash_is_the_same_in_every_run_and_knows_kinds():
    path = Graph.of("p", [0, 1, 0], [[0, 1], [1, 2]])
    assert wl_hash(path) == "5be7b7f2db3db06fa11f73aa92ac897a"
    assert wl_hash(path) != wl_hash(Graph.of("p", [0, 1, 0], [[0, 1], [1, 2]], [0, 1]))
    assert wl_hash(path) != wl_hash(Graph.of("p", [0, 0, 1], [[0, 1], [1, 2]]))
