"""Searches and walks against optima in closed form, and walks that do not depend on who walks beside."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from medaudit.cohort.graphs import Graph, Graphs
from medaudit.datasets.graphs import connectomes, simulate
from medaudit.errors import DataError, UsageError
from medaudit.explanation.counterfactuals.black_box import DenseBox, EdgeScoreBox, RuleBox
from medaudit.explanation.counterfactuals.explain import How, explain, targets_of
from medaudit.explanation.counterfactuals.search import Search
from medaudit.explanation.counterfactuals.slots import Constraints
from medaudit.explanation.counterfactuals.traversal import Walk, published_walk, walk
from medaudit.networks.graphs.batch import GraphChannels
from medaudit.networks.graphs.classifiers import GIN, MessageShape
from medaudit.networks.graphs.strong import StrongShape, StrongVAE

SHARED = Path(os.environ.get("MEDAUDIT_SHARED", Path(__file__).parents[3] / "shared" / "data"))


def rule_of_asd():
    weights = np.zeros((116, 116))
    constant, td, asd = connectomes.ASD_RULE_WEIGHTS
    for regions, weight in ((connectomes.ASD_RULE_TD, td), (connectomes.ASD_RULE_ASD, asd)):
        weights[np.ix_(list(regions), list(regions))] += weight
    np.fill_diagonal(weights, 0)
    return EdgeScoreBox(constant, weights)


@pytest.mark.skipif(not (SHARED / "abide_connectomes").is_dir(), reason="needs ABIDE's connectomes")
def test_the_optima_of_the_rule_on_connectomes_are_reached():
    graphs = connectomes.read_matrices(SHARED / "abide_connectomes")
    box = rule_of_asd()
    assert all(box.scores([g])[0] == pytest.approx(connectomes.asd_score(g)) for g in graphs.graphs[:5])
    some = graphs.graphs[::20]
    targets = targets_of(box.probabilities(some).argmax(1), 2)
    found = explain(some, targets, box, None, graphs, 116, How("search", search=Search(edits=60, tried=8)))
    assert [one.edits for one in found] == [connectomes.asd_rule_optimum(graph) for graph in some]
    assert all(one.flips and one.minimal for one in found)


def test_cycles_are_opened_by_as_many_edges_as_there_are_of_them():
    world = simulate.tree_cycles(40, seed=0, nodes=(8, 11), cycles=(1, 2))
    box = RuleBox(world.oracle)
    some = world.graphs.graphs[:10]
    targets = targets_of(box.probabilities(some).argmax(1), 2)
    found = explain(some, targets, box, None, world.graphs, 11, How("instance", instances=3))
    assert all(one.flips and one.minimal for one in found)
    assert all(world.oracle(one.found) == one.target for one in found)
    assert all(one.edits >= world.optimum(one.graph) for one in found)
    # What is minimal of single edits need not be the least; most are, or nearly.
    extra = [one.edits - world.optimum(one.graph) for one in found]
    assert np.median(extra) <= 2


def test_a_planted_edge_is_the_counterfactual():
    weights = np.zeros((10, 10))
    weights[3, 7] = weights[7, 3] = 2.0
    box = EdgeScoreBox(-1.0, weights)
    rng = np.random.default_rng(0)
    matrix = np.triu(rng.random((10, 10)) < 0.3, 1)
    matrix[3, 7] = False
    graph = Graph.from_matrix("g", np.zeros(10), (matrix + matrix.T).astype(int))
    known = Graphs("set", (graph,), np.array([0]), ("a", "b"), matched=True)
    (found,) = explain([graph], [1], box, None, known, 10, How("search"))
    added = {tuple(e) for e in found.found.edges.tolist()} - {tuple(e) for e in graph.edges.tolist()}
    assert added == {(3, 7)}
    assert (found.edits, found.minimal, found.by) == (1, True, "search")


def nets(seed=0):
    channels = GraphChannels(2, 2)
    torch.manual_seed(seed)
    vae = StrongVAE(channels, StrongShape(width=16, layers=2, latent=4, noise=2)).eval()
    net = GIN(channels, MessageShape(width=8)).eval()
    return vae, DenseBox(net, channels)


def some_graphs(count, seed=0):
    rng = np.random.default_rng(seed)
    found = []
    for k in range(count):
        n = int(rng.integers(4, 8))
        matrix = np.triu((rng.random((n, n)) < 0.4) * rng.integers(1, 3, (n, n)), 1)
        found.append(Graph.from_matrix(f"g{k}", rng.integers(0, 2, n), matrix + matrix.T))
    return found


@pytest.mark.parametrize("of", [walk, published_walk])
def test_a_walk_does_not_depend_on_the_others(of):
    vae, box = nets()
    graphs = some_graphs(5)
    how = (Walk(steps=12, decodes=2),) if of is walk else ()
    more = {} if of is walk else {"steps": 12}
    together = of(vae, box, graphs, [1, 0, 1, 0, 1], 8, *how, **more)
    alone = of(vae, box, graphs[2:3], [1], 8, *how, **more)
    np.testing.assert_allclose(alone[0].z, together[2].z, atol=1e-4)
    assert alone[0].flipped == together[2].flipped
    assert len(alone[0].proposals) == len(together[2].proposals) == (6 if of is walk else 1)
    for one, other in zip(alone[0].proposals, together[2].proposals, strict=True):
        assert one.key() == other.key()


def test_a_flip_is_the_word_of_the_classifier_on_the_hard_graph():
    vae, box = nets(1)
    graphs = some_graphs(8, seed=1)
    known = Graphs("set", tuple(graphs), np.arange(8) % 2, ("a", "b"), ("x", "y"), ("s", "d"))
    predicted = box.probabilities(graphs).argmax(1)
    targets = targets_of(predicted, 2)
    for method in ("both", "paper", "random", "nearest", "mean"):
        found = explain(graphs, targets, box, vae, known, 8, How(method, walk=Walk(steps=10), published_steps=5))
        assert [one.source for one in found] == predicted.tolist()
        for one in found:
            if one.found is not None:
                told = box.probabilities([one.found])[0]
                assert one.flips == (told.argmax() == one.target)
                assert one.probability == pytest.approx(told[one.target])
            else:
                assert not one.flips


def test_a_classifier_without_gradients_leads_no_walk():
    vae, _ = nets()
    graphs = some_graphs(2)
    box = RuleBox(lambda graph: int(graph.n > 5))
    with pytest.raises(UsageError, match="no gradients"):
        walk(vae, box, graphs, [0, 1], 8, Walk(steps=2))
    known = Graphs("set", tuple(graphs), np.zeros(2), ("a", "b"), ("x", "y"), ("s", "d"))
    with pytest.raises(UsageError, match="needs an autoencoder"):
        explain(graphs, [0, 1], box, None, known, 8, How("walk"))
    with pytest.raises(UsageError, match="3 classes; say which"):
        targets_of(np.zeros(2, dtype=int), 3)


class FirstThenSecond:
    """Says class 0 when it is asked first, then class 1, never class 2."""

    def __init__(self):
        self.asked = 0

    def logits(self, batch):
        lead = 0 * batch.adjacency.sum((1, 2, 3)) + 0 * batch.exists.sum((1, 2))
        self.asked += 1
        return torch.stack([lead + (self.asked == 1), lead + 0.5, lead], dim=1)


def test_what_a_graph_draws_at_its_end_does_not_depend_on_who_still_walks():
    # The first is at its target at the second step, when numbers are drawn; the second too, or never: were they drawn
    # for who is done as well, the first's decodes at the end would be others.
    vae, _ = nets()
    graphs = some_graphs(2)
    how = Walk(steps=6, decodes=8, tau=5.0)
    one, other = (walk(vae, FirstThenSecond(), graphs, [1, aim], 8, how) for aim in (1, 2))
    assert (one[0].steps, one[1].steps, other[0].steps, other[1].steps) == (1, 1, 1, 6)
    assert [slots.key() for slots in one[0].proposals] == [slots.key() for slots in other[0].proposals]


def test_frozen_nodes_take_no_place_of_edits_that_may_be():
    # All gains but one are between frozen nodes, and more than are tried.
    rng = np.random.default_rng(0)
    weights = np.zeros((12, 12))
    weights[:10, :10] = 5 + rng.random((10, 10))
    weights[10, 11] = weights[11, 10] = 2.0
    weights = np.triu(weights, 1) + np.triu(weights, 1).T
    graph = Graph.of("g", np.zeros(12), [])
    known = Graphs("set", (graph,), np.array([0]), ("a", "b"), matched=True)
    how = How("search", search=Search(tried=4), rules=Constraints(freeze=tuple(range(10))))
    (found,) = explain([graph], [1], EdgeScoreBox(-1.0, weights), None, known, 12, how)
    assert found.found.edges.tolist() == [[10, 11]]


def test_a_graph_without_an_edit_is_no_counterfactual_whatever_a_decoder_says_of_its_numbers():
    channels = GraphChannels(1, 1, 1)
    torch.manual_seed(0)
    vae = StrongVAE(channels, StrongShape(width=16, layers=2, latent=4, noise=2)).eval()
    graphs = [Graph.of(f"g{k}", [0] * 4, [(0, 1), (1, 2)], features=np.full((4, 1), 50.0)) for k in range(3)]
    known = Graphs("set", tuple(graphs), np.array([0, 1, 0]), ("a", "b"))

    class Mean:
        """Class 1 where the numbers of nodes are small, as a decoder's are."""

        def probabilities(self, some):
            low = np.array([graph.features.mean() < 25 for graph in some], dtype=float)
            return np.stack([1 - low, low], axis=1)

        def logits(self, batch):
            low = 25 - batch.numbers.sum((1, 2)) / batch.counts.clamp(min=1)
            return torch.stack([-low, low], dim=1)

    found = explain(graphs, [1, 1, 1], Mean(), vae, known, 4, How("walk", walk=Walk(steps=3)))
    for one in found:
        assert not one.flips or one.edits > 0


def test_nodes_of_a_matched_set_are_the_same_in_what_the_papers_methods_propose():
    vae, box = nets(2)
    rng = np.random.default_rng(0)
    graphs = []
    for k in range(6):
        upper = np.triu((rng.random((7, 7)) < 0.4) * rng.integers(1, 3, (7, 7)), 1)
        graphs.append(Graph.from_matrix(f"m{k}", rng.integers(0, 2, 7), upper + upper.T))
    known = Graphs("set", tuple(graphs), np.arange(6) % 2, ("a", "b"), ("x", "y"), ("s", "d"), matched=True)
    targets = targets_of(box.probabilities(graphs).argmax(1), 2)
    for method in ("paper", "random", "nearest", "mean"):
        found = explain(graphs, targets, box, vae, known, 7, How(method, published_steps=4))
        assert all(one.found is not None and one.found.n == 7 for one in found), method


def test_an_edge_that_changes_its_kind_keeps_its_weight():
    # Class 1: the edge is of kind 1 and as heavy as it was.
    def rule(graph):
        return int(len(graph.edges) == 2 and graph.edge_kinds[0] == 1 and graph.weights[0] == 9.0)

    graph = Graph.of("g", [0, 0, 0], [(0, 1), (1, 2)], [0, 0], weights=[9.0, 1.0])
    known = Graphs("set", (graph,), np.array([0]), ("a", "b"), edge_kinds=("s", "d"))
    (found,) = explain([graph], [1], RuleBox(rule), None, known, 3, How("search"))
    assert (found.flips, found.edits) == (True, 1)


def test_without_a_graph_of_the_target_there_is_nothing_near_it():
    vae, box = nets()
    graphs = some_graphs(4)
    known = Graphs("set", tuple(graphs), np.zeros(4, dtype=int), ("a", "b"), ("x", "y"), ("s", "d"))
    for method in ("nearest", "mean"):
        with pytest.raises(DataError, match="no training graph is of the class"):
            explain(graphs, [1] * 4, box, vae, known, 8, How(method))


def test_both_needs_no_autoencoder_where_no_gradient_could_lead_a_walk():
    world = simulate.tree_cycles(20, seed=0, nodes=(8, 11), cycles=(1, 1))
    box = RuleBox(world.oracle)
    some = world.graphs.graphs[:2]
    targets = targets_of(box.probabilities(some).argmax(1), 2)
    found = explain(some, targets, box, None, world.graphs, 11, How("both"))
    assert all(one.flips and one.by in ("search", "instance") for one in found)
