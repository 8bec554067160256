"""Edits between graphs in slots, what may not change, and minimal sets of edits whose optimum is known."""

import numpy as np
import pytest

from medaudit.cohort.graphs import Graph
from medaudit.errors import DataError
from medaudit.explanation.counterfactuals.black_box import CheckedBox, EdgeScoreBox, RuleBox
from medaudit.explanation.counterfactuals.minimal import judged, minimal
from medaudit.explanation.counterfactuals.slots import (
    EMPTY,
    Constraints,
    Slots,
    edits_between,
    reversible,
    taken_back,
    transferred,
    unedited,
)


def random_slots(rng, n=7, kinds=3, bonds=2):
    kind = np.where(rng.random(n) < 0.75, rng.integers(0, kinds, n), EMPTY)
    values = np.triu(rng.integers(0, bonds + 1, (n, n)), 1)
    there = kind != EMPTY
    return Slots(kind, (values + values.T) * there[:, None] * there[None])


def same(a, b):
    return np.array_equal(a.kinds, b.kinds) and np.array_equal(a.bonds, b.bonds)


def test_a_graph_comes_back_from_its_slots():
    graph = Graph.of("g", [2, 0, 1], [(0, 2), (1, 2)], [1, 0], weights=[0.5, 2.0], features=[[1.0], [2.0], [3.0]])
    again = Slots.of(graph, 6).graph("g")
    for part in ("nodes", "edges", "edge_kinds", "weights", "features"):
        np.testing.assert_array_equal(getattr(again, part), getattr(graph, part))
    assert Slots(np.full(3, EMPTY), np.zeros((3, 3), dtype=int)).graph("nothing") is None


@pytest.mark.parametrize("seed", range(20))
def test_all_edits_taken_back_in_any_order_give_the_first_graph(seed):
    rng = np.random.default_rng(seed)
    a, b = random_slots(rng), random_slots(rng)
    while edits := reversible(a, b):
        before = len(edits_between(a, b))
        b = taken_back(a, b, edits[rng.integers(len(edits))])
        assert len(edits_between(a, b)) < before
        there = b.there
        assert not (b.bonds * ~(there[:, None] & there[None])).any()
    assert same(a, b)


def test_an_edit_is_counted_once_and_a_nodes_edges_beside_it():
    a = Slots.of(Graph.of("a", [0, 0, 0], [(0, 1), (1, 2)]), 4)
    b = Slots.of(Graph.of("b", [0, 1, 0, 2], [(0, 1), (2, 3)]))
    assert edits_between(a, b) == [("node", 3, 3), ("kind", 1, 1), ("edge", 1, 2), ("edge", 2, 3)]


def test_what_a_decoder_changed_is_changed_in_the_graph_and_nothing_else():
    graph = Slots.of(Graph.of("g", [0, 1, 2], [(0, 1), (1, 2)]), 4)
    before = Slots.of(Graph.of("d", [0, 1, 1], [(0, 1), (0, 2)]), 4)  # rebuilt wrongly
    after = Slots.of(Graph.of("e", [0, 1, 1, 0], [(0, 2), (2, 3)]), 4)
    found = transferred(graph, before, after)
    assert found.kinds.tolist() == [0, 1, 2, 0]
    assert edits_between(graph, found) == [("node", 3, 3), ("edge", 0, 1), ("edge", 2, 3)]
    assert same(transferred(graph, before, before), graph)


@pytest.mark.parametrize(
    ("rules", "forbidden"),
    [
        (Constraints(), []),
        (Constraints(freeze=(1, 2)), [("kind", 1, 1), ("edge", 1, 2)]),
        (Constraints(add_nodes=False), [("node", 3, 3)]),
        (Constraints(change_kinds=False), [("kind", 1, 1)]),
        (Constraints(delete_edges=False), [("edge", 1, 2)]),
        (Constraints(add_edges=False), [("edge", 0, 2)]),
    ],
)
def test_what_may_not_change_is_taken_back(rules, forbidden):
    a = Slots.of(Graph.of("a", [0, 0, 0], [(0, 1), (1, 2)]), 4)
    b = Slots.of(Graph.of("b", [0, 1, 0, 2], [(0, 1), (0, 2), (2, 3)]))
    assert list(rules.broken(a, b)) == forbidden
    left = edits_between(a, rules.kept(a, b))
    assert not set(left) & set(forbidden)
    assert {edit for edit in edits_between(a, b) if edit[0] != "edge" or 3 not in edit} - set(forbidden) <= set(left)


def linear(rng, n=9):
    weights = rng.standard_normal((n, n))
    return EdgeScoreBox(float(rng.normal()), np.triu(weights, 1) + np.triu(weights, 1).T)


@pytest.mark.parametrize("seed", range(10))
def test_where_gains_add_the_fewest_of_the_edits_are_kept(seed):
    # Reverting the smallest gains first is the cheapest subset: the largest gains that reach the threshold.
    rng = np.random.default_rng(seed)
    box, n = linear(rng), 9
    graphs = [_random(rng, n) for _ in range(40)]
    scores = box.scores(graphs)
    a, b = graphs[int(scores.argmin())], graphs[int(scores.argmax())]
    assert scores.min() < 0 < scores.max()
    end, least = minimal(box, Slots.of(a), Slots.of(b), 1)
    gains = np.sort([box.scores([taken_back(Slots.of(a), Slots.of(b), e).graph("x")])[0] - scores.max()
                     for e in edits_between(Slots.of(a), Slots.of(b))])  # fmt: skip
    fewest = int(np.searchsorted(np.cumsum(-gains), -scores.min(), side="right")) + 1
    assert least
    assert len(edits_between(Slots.of(a), end)) == fewest
    assert box.scores([end.graph("end")])[0] > 0


def _random(rng, n):
    matrix = np.triu(rng.random((n, n)) < 0.4, 1)
    return Graph.from_matrix("r", np.zeros(n), (matrix + matrix.T).astype(int))


def test_minimal_means_that_no_single_edit_can_be_spared():
    # Class 1: both of two edges are there. One more edge that comes along is spared, the two are not.
    def rule(graph):
        there = {tuple(edge) for edge in graph.edges.tolist()}
        return int({(0, 1), (2, 3)} <= there)

    box = RuleBox(rule)
    a = Slots.of(Graph.of("a", [0] * 5, [(1, 2)]))
    b = Slots.of(Graph.of("b", [0] * 5, [(0, 1), (2, 3), (0, 4), (3, 4)]))
    end, least = minimal(box, a, b, 1)
    assert least
    assert edits_between(a, end) == [("edge", 0, 1), ("edge", 2, 3)]
    _, least = minimal(box, a, b, 1, most=1)
    assert not least


def test_numbers_that_no_edit_touches_stay_as_they_are():
    a = Slots.of(Graph.of("a", [0, 1, 0], [(0, 1), (1, 2)], weights=[1.0, 2.0], features=[[1.0], [2.0], [3.0]]))
    b = Slots.of(Graph.of("b", [0, 0, 0], [(0, 1), (0, 2)], weights=[7.0, 8.0], features=[[4.0], [5.0], [6.0]]))
    found = unedited(a, b)
    assert edits_between(b, found) == []
    assert found.features.ravel().tolist() == [1.0, 5.0, 3.0]  # the node of another kind has its own
    assert (found.weights[0, 1], found.weights[0, 2], found.weights[1, 2]) == (1.0, 8.0, 0.0)


def test_a_rule_that_says_true_or_false_says_a_class():
    box = RuleBox(lambda graph: graph.n > 2)
    graphs = [Graph.of("small", [0, 0], []), Graph.of("large", [0, 0, 0], [])]
    assert box.probabilities(graphs).tolist() == [[1, 0], [0, 1]]
    for odd in (2, -1, "tree", 0.0):
        with pytest.raises(DataError, match="of graph small; expected a class, 0 to 1"):
            RuleBox(lambda graph, odd=odd: odd).probabilities(graphs)


class Odd:
    def __init__(self, told):
        self.told = told

    def probabilities(self, graphs):
        return self.told

    def logits(self, batch):
        return self.told


@pytest.mark.parametrize("told", [np.zeros(1), np.zeros((1, 3)), np.array([[np.nan, 1.0]]), np.array([["a", "b"]])])
def test_what_a_users_classifier_may_not_say_is_one_clear_error(told):
    box = CheckedBox(Odd(told), "model.py:load", 2)
    with pytest.raises(DataError, match=r"load says .* a column for each class"):
        box.probabilities([Graph.of("g", [0], [])])


def test_of_nothing_a_classifier_is_not_asked():
    nothing = Slots(np.full(2, EMPTY), np.zeros((2, 2), dtype=int))
    assert np.isnan(judged(Odd(None), [nothing])).all()
