"""Classifiers of graphs: blind to numbering and to empty slots, equal to sparse formulas, soft where it is asked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from random_graphs import CHANNELS, RICH, random_graphs
from torch import Tensor, nn

from medaudit.errors import UsageError
from medaudit.networks.graphs.batch import GraphBatch, GraphChannels, dense
from medaudit.networks.graphs.classifiers import (
    GCN,
    GIN,
    DenseClassifier,
    DenseShape,
    GraphClassifier,
    MaskedBatchNorm,
    MessageShape,
    largest,
)

NAMES = ("masked", "paper", "gcn", "gin")


def net(name: str, channels: GraphChannels = CHANNELS, trained: bool = True) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        if name in ("masked", "paper"):
            made: nn.Module = DenseClassifier(channels, DenseShape(3, 8, 12, name))
        else:
            made = (GCN if name == "gcn" else GIN)(channels, MessageShape(classes=3))
        made = made.double()
        for part in made.modules():
            if isinstance(part, MaskedBatchNorm):
                for values in (part.weight, part.bias, part.running_mean, part.running_variance):
                    nn.init.uniform_(values, 0.5, 1.5)
    return made.train(not trained)


def batch(channels: GraphChannels = CHANNELS, size: int = 11) -> GraphBatch:
    return dense(random_graphs(6, channels), channels, size, dtype=torch.float64)


def told(made: GraphClassifier, given: GraphBatch) -> tuple[Tensor, Tensor, Tensor]:
    return made(given)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("channels", [CHANNELS, RICH])
@pytest.mark.parametrize("trained", [True, False])
@torch.no_grad()
def test_renumbering_nodes_changes_no_class(name: str, channels: GraphChannels, trained: bool) -> None:
    given, order = batch(channels), torch.randperm(11, generator=torch.Generator().manual_seed(0))
    nodes, graph, logits = told(net(name, channels, trained), given)
    moved = told(net(name, channels, trained), given.permuted(order))
    assert nodes.shape[0] == graph.shape[0] == logits.shape[0] == 6
    assert logits.shape[1] == 3
    assert len(logits.round(decimals=9).unique()) > 6
    for a, b in zip((nodes[..., order], graph, logits), moved, strict=True):
        assert float((a - b).abs().max()) < 1e-12


@pytest.mark.parametrize("name", ["masked", "gcn", "gin"])
@pytest.mark.parametrize("trained", [True, False])
@torch.no_grad()
def test_empty_slots_change_no_class_while_training_or_after(name: str, trained: bool) -> None:
    small, large = batch(size=30), batch(size=50)
    made = [net(name, trained=trained) for _ in range(2)]
    found = [told(one, given) for one, given in zip(made, (small, large), strict=True)]
    assert float((found[0][0] - found[1][0][..., :30]).abs().max()) < 1e-10
    for a, b in zip(found[0][1:], found[1][1:], strict=True):
        assert float((a - b).abs().max()) < 1e-10
    assert float((found[0][0] * (1 - small.exists)).abs().max()) == 0
    for a, b in zip(made[0].buffers(), made[1].buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@torch.no_grad()
def test_empty_slots_do_change_what_the_papers_says() -> None:
    made = net("paper")
    assert float((made(batch(size=30))[2] - made(batch(size=50))[2]).abs().max()) > 1e-3


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_a_trained_net_says_of_a_graph_what_it_says_of_it_alone(name: str) -> None:
    made, given = net(name), batch()
    torch.testing.assert_close(made(given[[2]])[2][0], made(given)[2][2], rtol=0, atol=1e-12)


@torch.no_grad()
def test_a_gcn_is_its_formula_on_the_sparse_graph() -> None:
    made, graphs = net("gcn"), random_graphs(6)
    logits = made(batch())[2].numpy()
    for row, graph in enumerate(graphs):
        h = np.eye(4)[graph.nodes]
        degrees = graph.degrees + 1
        for layer, norm in zip(made.layers, made.norms, strict=True):
            w, after = layer.weight.numpy(), np.zeros((graph.n, 20))
            for i in range(graph.n):
                after[i] += w @ h[i] / degrees[i]
            for i, j in graph.edges:
                share = 1 / np.sqrt(degrees[i] * degrees[j])
                after[i] += share * (w @ h[j])
                after[j] += share * (w @ h[i])
            h = np.maximum(normed(norm, after), 0)
        wanted = made.last.weight.numpy() @ h.max(0) + made.last.bias.numpy()
        np.testing.assert_allclose(logits[row], wanted, rtol=0, atol=1e-12)


@torch.no_grad()
def test_a_gin_is_its_formula_on_the_sparse_graph() -> None:
    made, graphs = net("gin"), random_graphs(6)
    made.own.copy_(torch.tensor([0.1, -0.2, 0.3]))
    logits = made(batch())[2].numpy()
    for row, graph in enumerate(graphs):
        h = np.eye(4)[graph.nodes]
        for own, inner, outer, norm in zip(made.own.tolist(), made.inner, made.outer, made.norms, strict=True):
            after = (1 + own) * h
            for i, j in graph.edges:
                after[i] += h[j]
                after[j] += h[i]
            after = after @ inner.weight.numpy().T + inner.bias.numpy()
            after = np.maximum(normed(norm, after), 0)
            h = np.maximum(after @ outer.weight.numpy().T + outer.bias.numpy(), 0)
        wanted = made.last.weight.numpy() @ h.sum(0) + made.last.bias.numpy()
        np.testing.assert_allclose(logits[row], wanted, rtol=0, atol=1e-12)


def normed(norm: MaskedBatchNorm, h: np.ndarray) -> np.ndarray:
    mean, variance = norm.running_mean.numpy(), norm.running_variance.numpy()
    return (h - mean) / np.sqrt(variance + 1e-5) * norm.weight.numpy() + norm.bias.numpy()


def test_a_masked_batch_norm_is_torchs_over_the_nodes_that_exist() -> None:
    given, x = batch(), torch.randn(6, 5, 11, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ours, theirs = MaskedBatchNorm(5).double(), nn.BatchNorm1d(5).double()
    with torch.no_grad():
        for values in (ours.weight, ours.bias):
            values.copy_(torch.linspace(0.5, 2, 5))
        theirs.load_state_dict(
            {"weight": ours.weight, "bias": ours.bias, "running_mean": ours.running_mean,
             "running_var": ours.running_variance, "num_batches_tracked": torch.tensor(0)}
        )  # fmt: skip
    here = given.exists[:, 0] > 0
    for _ in range(2):
        for one in (ours, theirs):
            one.train()
        torch.testing.assert_close(ours(x, given.exists).transpose(1, 2)[here], theirs(x.transpose(1, 2)[here]))
        torch.testing.assert_close(ours.running_mean, theirs.running_mean)
        torch.testing.assert_close(ours.running_variance, theirs.running_var)
        for one in (ours, theirs):
            one.eval()
        torch.testing.assert_close(ours(x, given.exists).transpose(1, 2)[here], theirs(x.transpose(1, 2)[here]))


@pytest.mark.parametrize("name", NAMES)
def test_gradients_for_soft_nodes_and_edges_are_those_of_differences(name: str) -> None:
    made = net(name)
    given = dense(
        random_graphs(1), CHANNELS, 10, dtype=torch.float64
    )  # fmt: skip
    drawn = torch.Generator().manual_seed(0)
    soft = 0.2 + 0.6 * torch.rand(given.edges.shape, generator=drawn, dtype=torch.float64)
    pairs = given.exists.unsqueeze(3) * given.exists.unsqueeze(2)
    edges = ((soft + soft.mT) / 2 * pairs).requires_grad_()

    def says(edges: Tensor) -> Tensor:
        return made(replace(given, edges=edges, adjacency=edges.sum(1, keepdim=True)))[2]

    assert torch.autograd.gradcheck(says, (edges,), atol=1e-6)
    assert float(torch.autograd.grad(says(edges).square().sum(), edges)[0].abs().max()) > 0


def test_a_graph_without_nodes_has_a_class_all_the_same() -> None:
    given = batch()
    nothing = replace(
        given, exists=given.exists * 0, nodes=given.nodes * 0, adjacency=given.adjacency * 0, edges=given.edges * 0
    )
    for name in NAMES:
        assert bool(torch.isfinite(net(name)(nothing)[2]).all())
    assert largest(torch.full((1, 2, 3), -5.0), torch.tensor([[[1.0, 0.0, 1.0]]])).tolist() == [[-5.0, -5.0]]
    assert largest(torch.full((1, 2, 3), -5.0), torch.zeros(1, 1, 3)).tolist() == [[0.0, 0.0]]


def test_what_makes_no_classifier_is_refused() -> None:
    for asked in (lambda: DenseShape(mode="soft"), lambda: MessageShape(layers=0)):
        with pytest.raises(UsageError, match="expected"):
            asked()
    assert DenseShape(**DenseShape(4, 5, 6, "paper").as_dict()) == DenseShape(4, 5, 6, "paper")
    assert MessageShape(**MessageShape(4, 5, 6).as_dict()) == MessageShape(4, 5, 6)
