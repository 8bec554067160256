"""Searches and walks against optima in closed form, and walks that do not depend on who walks beside."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from medaudit.cohort.graphs import Graph, Graphs
from medaudit.datasets.graphs import connectomes, simulate
from medaudit.errors import UsageError
from medaudit.explanation.counterfactuals.black_box import DenseBox, EdgeScoreBox, RuleBox
from medaudit.explanation.counterfactuals.explain import How, explain, targets_of
from medaudit.explanation.counterfactuals.search import Search
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
