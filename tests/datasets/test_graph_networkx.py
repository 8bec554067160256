"""Graphs go to networkx and come back."""

import numpy as np
import pytest

from medaudit.cohort.graphs import Graph, Graphs
from medaudit.datasets.graphs.networkx_graphs import from_networkx, to_networkx
from medaudit.errors import DataError, UsageError

networkx = pytest.importorskip("networkx")


def test_what_goes_to_networkx_comes_back():
    graphs = Graphs(
        "set",
        (
            Graph.of("a", [0, 1, 1], [(0, 1), (1, 2)], [1, 0], weights=[0.5, -2], features=np.eye(3)),
            Graph.of("b", [1], [], []),
        ),
        np.array([1, 0]),
        ("ill", "well"),
        ("C", "N"),
        ("double", "single"),
    )
    moved = [to_networkx(graph, graphs) for graph in graphs]
    assert moved[0].nodes[0]["kind"] == "C"
    assert moved[0].edges[0, 1] == {"kind": "single", "weight": 0.5}
    assert moved[0].nodes[2]["features"].tolist() == [0, 0, 1]
    back = from_networkx(moved, ["well", "ill"])
    assert (back.classes, back.y.tolist()) == (graphs.classes, graphs.y.tolist())
    assert (back.node_kinds, back.edge_kinds) == (graphs.node_kinds, graphs.edge_kinds)
    for one, two in zip(back, graphs, strict=True):
        assert one.id == two.id
        assert one.nodes.tolist() == two.nodes.tolist()
        assert one.edges.tolist() == two.edges.tolist()
        assert one.edge_kinds.tolist() == two.edge_kinds.tolist()
    assert back.graphs[0].weights.tolist() == [0.5, -2]
    assert to_networkx(graphs.graphs[0]).nodes[1]["kind"] == 1


def test_plain_graphs_have_one_kind_and_loops_are_noted():
    graph = networkx.path_graph(3)
    graph.add_edge(1, 1)
    graphs = from_networkx([graph, networkx.cycle_graph(4)])
    assert (graphs.node_kinds, graphs.edge_kinds) == (("node",), ("edge",))
    assert graphs.y.tolist() == [-1, -1]
    assert graphs.graphs[0].edges.tolist() == [[0, 1], [1, 2]]
    assert graphs.graphs[0].weights is None
    assert graphs.notes == ("1 edges from a node to itself are left out.",)
    assert [graph.id for graph in graphs] == ["networkx_1", "networkx_2"]


def test_kinds_that_are_numbers_stay_in_their_order():
    graph = networkx.Graph()
    graph.add_node("x", kind=10)
    graph.add_node("y", kind=9)
    assert from_networkx([graph]).node_kinds == ("9", "10")


def test_matched_nodes_are_in_the_order_of_the_first():
    one, two = networkx.Graph([("a", "b"), ("b", "c")]), networkx.Graph([("c", "b")])
    two.add_node("a")
    graphs = from_networkx([one, two], [0, 1], matched=True)
    assert graphs.graphs[1].edges.tolist() == [[1, 2]]
    assert graphs.matched
    with pytest.raises(DataError, match="graph networkx_2 has other nodes"):
        from_networkx([one, networkx.Graph([("c", "d")])], matched=True)


def test_what_is_no_plain_graph_is_said():
    with pytest.raises(UsageError, match="graph networkx_1 is directed"):
        from_networkx([networkx.DiGraph([(0, 1)])])
    with pytest.raises(UsageError, match="is a multigraph"):
        from_networkx([networkx.MultiGraph([(0, 1)])])
    with pytest.raises(DataError, match="has no nodes"):
        from_networkx([networkx.Graph()])
    with pytest.raises(UsageError, match="no graphs were given"):
        from_networkx([])
    with pytest.raises(UsageError, match="1 graphs, 2 labels"):
        from_networkx([networkx.path_graph(2)], [0, 1])
    half = networkx.path_graph(2)
    half.nodes[0]["kind"] = "C"
    with pytest.raises(DataError, match="has a node without a kind"):
        from_networkx([half])
