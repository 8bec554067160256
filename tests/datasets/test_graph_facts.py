"""Sizes and kinds of graphs, against what networkx counts."""

import numpy as np
import pytest

from medaudit.cohort.graphs import Graph, Graphs
from medaudit.datasets.graphs import facts, tudataset


def some_graphs(seed=0, count=40):
    rng = np.random.default_rng(seed)
    graphs = []
    for k in range(count):
        n = int(rng.integers(1, 12))
        pairs = [(i, j) for i in range(n) for j in range(i) if rng.random() < 0.2]
        graphs.append(Graph.of(str(k), rng.integers(0, 3, n), pairs, rng.integers(0, 2, len(pairs))))
    return Graphs("set", tuple(graphs), np.zeros(count, int), ("a",), ("A", "B", "C", "D"), ("x", "y"))


def test_sizes_are_those_of_networkx():
    networkx = pytest.importorskip("networkx")
    graphs = some_graphs()
    table = facts.size_features(graphs)
    assert table.shape == (40, len(facts.SIZES))
    for row, graph in zip(table, graphs, strict=True):
        other = networkx.Graph(graph.edges.tolist())
        other.add_nodes_from(range(graph.n))
        assert row.tolist() == [
            graph.n, len(graph.edges), networkx.density(other), networkx.number_connected_components(other),
        ]  # fmt: skip
        parts = facts.parts(graph)
        assert len({frozenset(np.flatnonzero(parts == k).tolist()) for k in parts}) == row[3]
        assert all(parts[i] == parts[j] for i, j in graph.edges)


def test_kinds_are_counted_graph_by_graph():
    graphs = some_graphs(1)
    nodes, edges = facts.kind_counts(graphs), facts.edge_kind_counts(graphs)
    assert (nodes.shape, edges.shape) == ((40, 4), (40, 2))
    for k, graph in enumerate(graphs):
        assert nodes[k].tolist() == [int((graph.nodes == kind).sum()) for kind in range(4)]
        assert edges[k].tolist() == [int((graph.edge_kinds == kind).sum()) for kind in range(2)]


@pytest.mark.realdata
def test_the_size_of_a_molecule_of_aids_tells_its_class(public_data):
    graphs = tudataset.filtered(tudataset.read(public_data / "tudataset" / "AIDS"), 30)
    nodes = facts.size_features(graphs)[:, 0]
    said = np.where(nodes > 12, 0, 1)
    assert (said == graphs.y).mean() == pytest.approx(0.9988, abs=5e-5)
    assert int((said != graphs.y)[graphs.y == 0].sum()) == 2
    assert facts.kind_counts(graphs).sum() == nodes.sum()


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "apart"), [("AIDS", 0.095), ("NCI1", 0.14), ("MUTAG", 0.0)])
def test_so_many_molecules_are_in_several_parts(public_data, name, apart):
    parts = facts.size_features(tudataset.read(public_data / "tudataset" / name))[:, 3]
    assert (parts > 1).mean() == pytest.approx(apart, abs=0.002)
