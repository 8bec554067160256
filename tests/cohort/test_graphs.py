"""A graph: one form for every way of writing it down, and a clear error for what is none."""

import numpy as np
import pytest

from medaudit.cohort.graphs import Graph, Graphs
from medaudit.errors import DataError


def test_a_graph_is_the_same_however_its_edges_are_given():
    one = Graph.of("a", [0, 1, 2], [(0, 1), (1, 2)], [3, 4])
    other = Graph.of("a", [0, 1, 2], [(2, 1), (1, 0), (0, 1), (1, 2)], [4, 3, 3, 4])
    np.testing.assert_array_equal(one.edges, [[0, 1], [1, 2]])
    np.testing.assert_array_equal(one.matrix(), other.matrix())
    np.testing.assert_array_equal(one.matrix(), [[0, 4, 0], [4, 0, 5], [0, 5, 0]])
    np.testing.assert_array_equal(Graph.from_matrix("a", one.nodes, one.matrix()).edge_kinds, [3, 4])
    np.testing.assert_array_equal(one.degrees, [1, 2, 1])


def test_renumbering_moves_rows_and_columns():
    rng = np.random.default_rng(0)
    matrix = np.triu(rng.integers(0, 3, (6, 6)), 1)
    graph = Graph.from_matrix("a", rng.integers(0, 4, 6), matrix + matrix.T, features=rng.random((6, 2)))
    order = rng.permutation(6)
    moved = graph.renumbered(order)
    np.testing.assert_array_equal(moved.matrix(), graph.matrix()[np.ix_(order, order)])
    np.testing.assert_array_equal(moved.nodes, graph.nodes[order])
    np.testing.assert_array_equal(moved.features, graph.features[order])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Graph.of("m1", [0, 0], [(1, 1)]), "graph m1: node 1 has an edge to itself"),
        (lambda: Graph.of("m1", [0, 0], [(0, 2)]), "graph m1: edge 0-2 of 2 nodes"),
        (lambda: Graph.of("m1", [0, 0], [(0, 1), (1, 0)], [1, 2]), "edge 0-1 is given twice, with another kind"),
        (lambda: Graph.of("m1", [0, 0], [(0, 1)], weights=[np.nan]), "a weight is not finite"),
        (lambda: Graph.of("m1", [], []), "expected a kind for each of one or more"),
        (lambda: Graph.of("m1", [0, -1], [(0, 1)]), "counted from 0"),
        (lambda: Graph.of("m1", [0, 0], [(0, 1)], [1, 2]), "edge kinds have shape"),
        (lambda: Graph.of("m1", [0, 0], [(0, 1)], features=[[1.0]]), "features have shape"),
        (lambda: Graph.from_matrix("m1", [0, 0], [[0, 1], [0, 0]]), "0 to 1 is 1, back it is 0; expected no direction"),
        (lambda: Graph.from_matrix("m1", [0, 0], [[1, 0], [0, 0]]), "node 0 has an edge to itself"),
        (lambda: Graphs("set", (Graph.of("m1", [3], []),), np.zeros(1), ("a",)), "graph m1 has a node of kind 3"),
        (lambda: Graphs("set", (Graph.of("m1", [0], []),), np.zeros(2), ("a",)), "1 graphs, 2 classes"),
        (
            lambda: Graphs("set", tuple(Graph.of("m", [0] * k, []) for k in (1, 2)), np.zeros(2), ("a",), matched=True),
            "nodes are matched, yet",
        ),
    ],
)
def test_what_is_no_graph_is_named(make, message):
    with pytest.raises(DataError, match=message):
        make()


def test_some_graphs_keep_their_classes_and_patients():
    graphs = Graphs("set", tuple(Graph.of(str(k), [0] * (k + 1), []) for k in range(4)), np.array([0, 1, 0, 1]),
                    ("a", "b"), patients=np.array([7, 7, 8, 9]))  # fmt: skip
    some = graphs.some([3, 1], "a note")
    assert [g.id for g in some] == ["3", "1"]
    assert some.y.tolist() == [1, 1]
    assert some.who.tolist() == [9, 7]
    assert (some.largest, some.notes) == (4, ("a note",))
