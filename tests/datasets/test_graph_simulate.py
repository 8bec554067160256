"""Simulated graphs: their rule says their class, and no shorter edit than the optimum changes what it says."""

from itertools import combinations

import numpy as np
import pytest

from medaudit.cohort.graphs import Graph
from medaudit.datasets.graphs import facts, simulate
from medaudit.errors import UsageError


def fewest(graph, rule, most, new=()):
    """Return the fewest edges added or deleted, and nodes of the kinds ``new`` added, that change the rule's answer."""
    said, there = rule(graph), {tuple(edge) for edge in graph.edges.tolist()}
    for cost in range(1, most + 1):
        for added in range(min(cost - 1, len(new)) + 1):
            nodes = [*graph.nodes.tolist(), *new[:added]]
            for edits in combinations(combinations(range(len(nodes)), 2), cost - added):
                if rule(Graph.of("edited", nodes, sorted(there ^ set(edits)))) != said:
                    return cost
    return most + 1


def some_graph(rng, n, density, kinds=1):
    pairs = [pair for pair in combinations(range(n), 2) if rng.random() < density]
    return Graph.of("random", rng.integers(0, kinds, n), pairs)


@pytest.mark.parametrize("name", simulate.SIMULATORS)
def test_the_rule_says_each_graphs_class(name):
    made = simulate.SIMULATORS[name](40, seed=3)
    assert np.bincount(made.graphs.y).tolist() == [20, 20]
    assert [made.oracle(graph) for graph in made.graphs] == made.graphs.y.tolist()
    assert all(made.optimum(graph) >= 1 for graph in made.graphs)
    assert "says nothing of magnitudes" in made.graphs.notes[0]
    assert (facts.size_features(made.graphs)[:, 3] == 1).all()  # each hangs together


@pytest.mark.parametrize("name", simulate.SIMULATORS)
def test_a_case_is_the_same_whatever_the_number_and_another_with_another_seed(name):
    few, many = (simulate.SIMULATORS[name](n, seed=5).graphs for n in (3, 8))
    for one, two in zip(few, many.graphs[:3], strict=True):
        assert one.id == two.id
        assert np.array_equal(one.nodes, two.nodes)
        assert np.array_equal(one.edges, two.edges)
    other = simulate.SIMULATORS[name](3, seed=6).graphs
    assert any(not np.array_equal(one.edges, two.edges) for one, two in zip(few, other, strict=True))


@pytest.mark.parametrize("name", ["tree-cycles", "ba-2motifs", "vessels", "cells", "airways"])
def test_the_number_of_nodes_does_not_tell_the_class(name):
    graphs = simulate.SIMULATORS[name](400, seed=1).graphs
    sizes = facts.size_features(graphs)[:, 0]
    one, two = sizes[graphs.y == 0], sizes[graphs.y == 1]
    error = np.sqrt(one.var() / len(one) + two.var() / len(two))
    assert abs(one.mean() - two.mean()) <= 3 * error


def test_the_optimum_of_cycles_is_that_of_all_edits():
    made = simulate.tree_cycles(8, seed=2, nodes=(7, 7), cycles=(1, 2))
    for graph in made.graphs:
        assert made.optimum(graph) == fewest(graph, made.oracle, 2)
    rng = np.random.default_rng(4)
    graphs = [some_graph(rng, 5, density) for density in (0.0, 0.1, 0.2, 0.4, 0.5) for _ in range(4)]
    optima = [simulate.cycle_optimum(graph) for graph in graphs]
    assert {1, 2, 3} <= set(optima)
    for graph, optimum in zip(graphs, optima, strict=True):
        assert min(optimum, 4) == fewest(graph, simulate.has_cycle, 3)
    with pytest.raises(UsageError, match="has 2 nodes; a cycle needs three"):
        simulate.cycle_optimum(Graph.of("pair", [0, 0], [(0, 1)]))


def test_a_house_is_a_ring_of_five_with_a_chord():
    ring = [(k, (k + 1) % 5) for k in range(5)]
    house = Graph.of("house", np.zeros(5), [*ring, (0, 2)])
    assert simulate.has_house(house) == 1
    assert simulate.has_house(Graph.of("ring", np.zeros(5), ring)) == 0
    # A triangle and a square that share a node only, and one hung to the other.
    apart = [(0, 1), (1, 2), (0, 2), (2, 3), (3, 4), (4, 5), (5, 2)]
    assert simulate.has_house(Graph.of("apart", np.zeros(6), apart)) == 0
    assert simulate.has_house(Graph.of("k5", np.zeros(5), list(combinations(range(5), 2)))) == 1
    with pytest.raises(UsageError, match="needs more than one edge"):
        simulate.house_optimum(Graph.of("nothing", np.zeros(5), []))


def test_the_house_is_found_wherever_it_is():
    networkx = pytest.importorskip("networkx")
    ring = networkx.cycle_graph(5)
    ring.add_edge(0, 2)
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(60):
        graph = some_graph(rng, 7, 0.35)
        whole = networkx.Graph(graph.edges.tolist())
        there = networkx.algorithms.isomorphism.GraphMatcher(whole, ring).subgraph_is_monomorphic()
        found += there
        assert simulate.has_house(graph) == there
    assert 5 < found < 55


def test_the_optimum_of_motifs_is_that_of_all_edits():
    made = simulate.ba_2motifs(4, seed=2, nodes=5)
    for graph in made.graphs:
        assert made.optimum(graph) == fewest(graph, made.oracle, 1) == 1
        assert graph.n == 10


def test_the_optimum_of_mixing_is_that_of_all_edits(monkeypatch):
    monkeypatch.setattr(simulate, "MIXED_FROM", 2)
    rng = np.random.default_rng(1)
    graphs = [some_graph(rng, 5, density, kinds=3) for density in (0.1, 0.5, 0.8) for _ in range(6)]
    tried = 0
    for graph in graphs:
        if (graph.nodes == 0).sum() * (graph.nodes == 1).sum() < 2:
            with pytest.raises(UsageError, match="too few tumour and immune cells"):
                simulate.mixed_optimum(graph)
            continue
        tried += 1
        assert min(simulate.mixed_optimum(graph), 4) == fewest(graph, simulate.is_mixed, 3)
    assert tried > 8


def test_mixed_cells_touch_and_others_do_not():
    made = simulate.cells(30, seed=2)
    touching = np.array([simulate.mixed_edges(graph) for graph in made.graphs])
    assert touching[made.graphs.y == 0].max() < simulate.MIXED_FROM <= touching[made.graphs.y == 1].min()
    assert facts.kind_counts(made.graphs).tolist() == [[14, 14, 12]] * 30
    heaps, even = simulate.cells(20, seed=2, clustered=1.0), simulate.cells(20, seed=2, clustered=0.0)

    def spread(graphs):  # of points evenly spread, neighbours' distances differ less
        lengths = [np.linalg.norm(g.features[g.edges[:, 0]] - g.features[g.edges[:, 1]], axis=1) for g in graphs.graphs]
        return np.mean([one.std() / one.mean() for one in lengths])

    assert spread(heaps.graphs) > spread(even.graphs)


def test_the_optimum_of_airways_is_that_of_all_edits():
    made = simulate.airways(6, seed=1, lobes=(1, 2), missing=(1, 1))
    segmental = simulate.LEVELS.index("segmental")
    for graph in made.graphs:
        # Of the subsegmental branches three will do: the rule does not look at them.
        kept = np.flatnonzero(graph.nodes < 4).tolist() + np.flatnonzero(graph.nodes == 4)[:1].tolist()
        place = {node: k for k, node in enumerate(kept)}
        edges = [(place[i], place[j]) for i, j in graph.edges.tolist() if i in place and j in place]
        small = Graph.of(graph.id, graph.nodes[kept], edges)
        assert made.optimum(small) == made.optimum(graph) == fewest(small, made.oracle, 2, new=(segmental,))
    whole = made.graphs.graphs[0]
    lobar, *_ = np.flatnonzero(whole.nodes == 2)
    # A segment that has lost its lobar branch needs an edge, no new node.
    cut = [edge for edge in whole.edges.tolist() if not (lobar in edge and 3 in whole.nodes[edge])]
    loose = Graph.of("loose", whole.nodes, cut)
    assert made.oracle(loose) == 1
    assert made.optimum(loose) == len(whole.edges) - len(cut)


def test_airways_have_the_branches_of_a_lung():
    made = simulate.airways(40, seed=1)
    kinds = facts.kind_counts(made.graphs)
    assert (kinds[:, :3] == [1, 2, 5]).all()
    assert set(kinds[made.graphs.y == 0, 3]) == {20}
    assert set(kinds[made.graphs.y == 1, 3]) == {17, 18, 19}
    assert [made.optimum(g) for g in made.graphs if made.oracle(g)] == (
        2 * (20 - kinds[made.graphs.y == 1, 3])
    ).tolist()


def test_vessels_are_trees_in_a_disc_until_collaterals_close_them():
    made = simulate.vessels(20, seed=1)
    for graph, y in zip(made.graphs, made.graphs.y, strict=True):
        assert graph.features.shape == (graph.n, 2)
        assert np.linalg.norm(graph.features, axis=1).max() < 1.2
        assert simulate.cycles_of(graph) in ((0,) if y == 0 else (1, 2))
        lengths = np.linalg.norm(graph.features[graph.edges[:, 0]] - graph.features[graph.edges[:, 1]], axis=1)
        assert lengths.min() > 1e-9


@pytest.mark.parametrize("strength", [-1.0, 0.0, 0.6, 1.0])
def test_size_tells_the_class_as_often_as_was_asked_for(strength):
    graphs = simulate.size_shortcut(2000, seed=7, strength=strength).graphs
    large = facts.size_features(graphs)[:, 0] >= simulate.LARGE[0]
    assert (large == graphs.y).mean() == pytest.approx((1 + strength) / 2, abs=0.04)


@pytest.mark.parametrize(
    ("name", "settings", "why"),
    [
        ("tree-cycles", {"n": 0}, "cannot simulate 0 graphs"),
        ("tree-cycles", {"nodes": (9, 8)}, "cannot draw nodes from 9 to 8"),
        ("tree-cycles", {"nodes": (6, 8), "cycles": (1, 2)}, "cannot hang 2 cycles of 3 nodes to a tree with 6"),
        ("ba-2motifs", {"nodes": 1}, "cannot grow a tree of 1 nodes"),
        ("vessels", {"step": 0.0}, "cannot grow vessels"),
        ("vessels", {"loops": (0, 1)}, "cannot draw loops from 0"),
        ("cells", {"nodes": 10}, "cannot place 10 cells"),
        ("cells", {"clustered": 1.5}, "a probability"),
        ("airways", {"lobes": (1, 1)}, "cannot miss 3 segments"),
        ("size-shortcut", {"strength": float("nan")}, "it is a correlation, from -1 to 1"),
    ],
)
def test_what_cannot_be_simulated_is_said(name, settings, why):
    with pytest.raises(UsageError, match=why):
        simulate.SIMULATORS[name](**{"n": 2, "seed": 0, **settings})
