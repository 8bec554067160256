"""Models of PyTorch Geometric as black boxes: the sparse word and the dense gradients are of one function."""

import numpy as np
import pytest
import torch
from torch import nn

from medaudit.cohort.graphs import Graph, Graphs
from medaudit.errors import UsageError
from medaudit.explanation.counterfactuals.black_box import PygBox
from medaudit.explanation.counterfactuals.explain import How, explain
from medaudit.networks.graphs.batch import GraphBatch, GraphChannels, dense

KINDS, BONDS, NUMBERS = 3, 2, 2


class Sums(nn.Module):
    """The signature of PyTorch Geometric without it: sums over weighted edges, then over the nodes of each graph."""

    def __init__(self, inputs, classes=2):
        super().__init__()
        self.inner, self.outer = nn.Linear(inputs, 8), nn.Linear(8, classes)

    def forward(self, x, edge_index, batch, edge_weight):
        h = self.inner(x)
        h = torch.tanh(h + torch.zeros_like(h).index_add(0, edge_index[1], edge_weight[:, None] * h[edge_index[0]]))
        return self.outer(h.new_zeros(int(batch.max()) + 1, h.shape[1]).index_add(0, batch, h))


class Bonds(Sums):
    """The same, and a message knows the kind of its edge."""

    def __init__(self, inputs, classes=2):
        super().__init__(inputs, classes)
        self.of_bond = nn.Linear(BONDS, 8)

    def forward(self, x, edge_index, batch, edge_weight, edge_attr):
        h = self.inner(x)
        message = edge_weight[:, None] * h[edge_index[0]] * self.of_bond(edge_attr)
        h = torch.tanh(h + torch.zeros_like(h).index_add(0, edge_index[1], message))
        return self.outer(h.new_zeros(int(batch.max()) + 1, h.shape[1]).index_add(0, batch, h))


def convolutions(inputs, classes=2):
    """The GCN of PyTorch Geometric, with the weights of edges."""
    package = pytest.importorskip("torch_geometric.nn")

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = package.GCNConv(inputs, 16), package.GCNConv(16, 16)
            self.last = nn.Linear(16, classes)

        def forward(self, x, edge_index, batch, edge_weight=None):
            h = self.first(x, edge_index, edge_weight).relu()
            h = self.second(h, edge_index, edge_weight).relu()
            return self.last(package.global_max_pool(h, batch))

    return Net()


def random_graphs(count=12, *, seed=0, weighted=False):
    rng = np.random.default_rng(seed)
    found = []
    for k in range(count):
        n = int(rng.integers(1, 9))
        upper = np.argwhere(np.triu(rng.random((n, n)) < 0.4, 1))
        found.append(
            Graph.of(
                f"g{k}", rng.integers(0, KINDS, n), upper, rng.integers(0, BONDS, len(upper)),
                weights=rng.random(len(upper)) + 0.1 if weighted else None, features=rng.standard_normal((n, NUMBERS)),
            )
        )  # fmt: skip
    return found


@pytest.fixture(params=[Sums, Bonds, convolutions])
def model(request):
    torch.manual_seed(0)
    return request.param(KINDS + NUMBERS).eval()


@pytest.mark.parametrize("weighted", [False, True])
def test_sparse_probabilities_are_those_of_the_dense_logits(model, weighted):
    channels = GraphChannels(KINDS, BONDS, NUMBERS, weighted)
    graphs = random_graphs(weighted=weighted)
    box = PygBox(model, channels)
    batch = dense(graphs, channels, 11)  # with empty slots, which the model must not see
    found = box.logits(batch)
    np.testing.assert_allclose(found.softmax(1).detach().numpy(), box.probabilities(graphs), atol=1e-5)


def test_the_weights_of_edges_are_told_to_the_model(model):
    channels = GraphChannels(KINDS, BONDS, NUMBERS, True)
    one = Graph.of("one", [0, 1, 2], [(0, 1), (1, 2)], weights=[0.2, 3.0], features=np.ones((3, NUMBERS)))
    other = Graph.of("other", [0, 1, 2], [(0, 1), (1, 2)], weights=[3.0, 0.2], features=np.ones((3, NUMBERS)))
    first, second = PygBox(model, channels).probabilities([one, other])
    assert np.abs(first - second).max() > 1e-6


@pytest.mark.parametrize("weighted", [False, True])
def test_gradients_reach_edges_that_are_there_and_edges_that_are_not(model, weighted):
    channels = GraphChannels(KINDS, BONDS, NUMBERS, weighted)
    batch = dense([graph for graph in random_graphs(seed=1, weighted=weighted) if graph.n > 4], channels)
    adjacency, edges = batch.adjacency.clone().requires_grad_(True), batch.edges.clone().requires_grad_(True)
    made = GraphBatch(batch.exists, batch.nodes, adjacency, edges, batch.weights, batch.features)
    logits = PygBox(model, channels).logits(made)
    (gradient,) = torch.autograd.grad((logits[:, 1] - logits[:, 0]).sum(), adjacency, retain_graph=True)
    both = batch.exists.unsqueeze(-1) * batch.exists.unsqueeze(-2)
    for there in (batch.adjacency > 0, (batch.adjacency == 0) & (both > 0)):
        assert gradient[there].abs().max() > 0
    assert (gradient[both == 0] == 0).all()


def test_a_model_of_the_package_is_explained_by_the_edits_it_confirms(model):
    graphs = [graph for graph in random_graphs(30, seed=2) if graph.n > 3]
    known = Graphs("set", tuple(graphs), np.arange(len(graphs)) % 2, ("a", "b"), ("x", "y", "z"), ("s", "d"))
    box = PygBox(model, GraphChannels.of(known))
    predicted = box.probabilities(graphs).argmax(1)
    found = explain(graphs[:4], 1 - predicted[:4], box, None, known, 9, How("search"))
    for one in found:
        if one.found is not None:
            assert one.flips == (box.probabilities([one.found])[0].argmax() == one.target)


def test_a_model_that_takes_no_weights_of_edges_has_a_word_and_no_gradients():
    class Plain(nn.Module):
        def forward(self, x, edge_index, batch):
            count = x.new_zeros(int(batch.max()) + 1).index_add(0, batch, x.new_ones(len(batch)))
            return torch.stack([5 - count, count - 5], dim=1)

    channels = GraphChannels(KINDS, BONDS, NUMBERS)
    graphs = random_graphs()
    box = PygBox(Plain(), channels)
    assert box.logits(dense(graphs, channels)) is None
    assert (box.probabilities(graphs).argmax(1) == np.array([graph.n > 5 for graph in graphs])).all()


def test_a_model_of_another_signature_is_refused():
    with pytest.raises(UsageError, match="takes no 'batch'"):
        PygBox(_Other(), GraphChannels())


class _Other(nn.Module):
    def forward(self, x, edge_index):
        return x
