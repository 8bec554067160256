"""Graphs as dense batches: there and back, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from random_graphs import CHANNELS, RICH, random_graphs

from medaudit.cohort.graphs import Graph, Graphs
from medaudit.errors import DataError, UsageError
from medaudit.networks.graphs.batch import GraphBatch, GraphChannels, dense, joined, sparse


def same(one: Graph, other: Graph) -> bool:
    parts = ("nodes", "edges", "edge_kinds", "weights", "features")
    pairs = [(getattr(one, part), getattr(other, part)) for part in parts]
    return all((a is None and b is None) or np.array_equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("channels", [CHANNELS, RICH, GraphChannels(2)])
@pytest.mark.parametrize("size", [None, 9, 14])
def test_graphs_come_back_from_a_batch(channels: GraphChannels, size: int | None) -> None:
    graphs = random_graphs(12, channels)
    batch = dense(graphs, channels, size, dtype=torch.float64)
    assert batch.channels == channels
    assert batch.size == (size or 9)
    back = sparse(batch, [graph.id for graph in graphs])
    assert all(same(a, b) and a.id == b.id for a, b in zip(graphs, back, strict=True))


def test_a_batch_is_what_the_spec_says_of_it() -> None:
    graphs = random_graphs(12, RICH)
    batch = dense(graphs, RICH, 11)
    for row, graph in enumerate(graphs):
        assert batch.exists[row, 0].tolist() == [1.0] * graph.n + [0.0] * (11 - graph.n)
        assert batch.kinds[row, :, : graph.n].argmax(0).tolist() == graph.nodes.tolist()
        matrix = torch.zeros(11, 11)
        matrix[: graph.n, : graph.n] = torch.from_numpy(graph.matrix())
        assert torch.equal(batch.adjacency[row, 0], (matrix > 0).float())
        for kind in range(3):
            assert torch.equal(batch.edges[row, kind], (matrix == kind + 1).float())
        for (i, j), weight in zip(graph.edges, graph.weights, strict=True):
            assert float(batch.weights[row, 0, i, j]) == float(batch.weights[row, 0, j, i]) == pytest.approx(weight)
    assert batch.counts.tolist() == [graph.n for graph in graphs]
    assert torch.equal(batch.nodes[..., 9:], torch.zeros(12, 6, 2))
    assert batch.valued_edges.shape == (12, 4, 11, 11)


def test_of_one_kind_of_edge_e_is_a() -> None:
    batch = dense(random_graphs(5, GraphChannels(4)), GraphChannels(4))
    assert torch.equal(batch.edges, batch.adjacency)


def test_empty_slots_are_left_out_wherever_they_are() -> None:
    graphs = random_graphs(6, RICH)
    batch = dense(graphs, RICH, 12, dtype=torch.float64)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    for graph, back in zip(graphs, sparse(batch.permuted(order), "abcdef"), strict=True):
        assert same(back, graph.renumbered([k for k in order.tolist() if k < graph.n]))


def test_rows_types_and_sizes() -> None:
    batch = dense(random_graphs(6, RICH), RICH)
    assert len(batch[2:4]) == len(batch[[1, 5]]) == len(batch[torch.tensor([True] * 2 + [False] * 4)]) == 2
    assert torch.equal(batch[[1, 5]].edges, batch.edges[[1, 5]])
    assert batch.to(torch.float64, "cpu").weights.dtype == torch.float64
    assert torch.equal(batch.padded(15).edges, dense(random_graphs(6, RICH), RICH, 15).edges)
    whole = joined([batch[:2], batch[2:]])
    assert torch.equal(whole.weights, batch.weights)
    assert whole.channels == RICH
    for asked in (
        lambda: batch[3],
        lambda: batch.padded(5),
        lambda: joined([]),
        lambda: joined([batch, batch.padded(12)]),
    ):
        with pytest.raises(UsageError, match="expected"):
            asked()


def test_channels_are_those_of_the_set() -> None:
    graphs = random_graphs(3, RICH)
    made = Graphs("set", tuple(graphs), np.zeros(3, dtype=np.int64), ("a",), tuple("CNOF"), ("1", "2", "ar"))
    assert GraphChannels.of(made) == RICH
    assert GraphChannels(**RICH.as_dict()) == RICH
    with pytest.raises(UsageError, match="one kind or more"):
        GraphChannels(0)


@pytest.mark.parametrize(
    ("graph", "channels", "match"),
    [
        (Graph.of("x", [0] * 6, []), CHANNELS, "x: 6 nodes; expected at most 5"),
        (Graph.of("x", [4], []), CHANNELS, "x: a kind without a channel"),
        (Graph.of("x", [0, 0], [[0, 1]], [3]), CHANNELS, "x: a kind without a channel"),
        (Graph.of("x", [0], [], features=[[1.0]]), CHANNELS, "x: 1 features of nodes; expected 0"),
        (Graph.of("x", [0, 0], [[0, 1]], weights=[1.0]), CHANNELS, "x: weights that have no channel"),
        (Graph.of("x", [0], [], features=[[1.0, 2.0]]), RICH, "x: edges lack weights"),
    ],
)
def test_what_has_no_place_is_refused(graph: Graph, channels: GraphChannels, match: str) -> None:
    with pytest.raises(DataError, match=match):
        dense([graph], channels, 5)


def test_only_hard_graphs_come_back() -> None:
    batch = dense([Graph.of("a", [1, 2, 0], [[0, 1], [1, 2]], [0, 2])], CHANNELS, 4)

    def changed(part: str, at: tuple[int, ...], value: float) -> GraphBatch:
        values = getattr(batch, part).clone()
        values[at] = value
        return replace(batch, **{part: values})

    for odd, match in (
        (changed("exists", (0, 0, 1), 0.9), "graph a: existence is 0.9"),
        (changed("nodes", (0, 2, 1), 0.5), "graph a: a node's kind is 0.5"),
        (changed("adjacency", (0, 0, 0, 1), 1.0000001), "graph a: adjacency is 1"),
        (changed("edges", (0, 0, 0, 1), -1.0), "graph a: an edge's kind is -1"),
        (changed("nodes", (0, 3, 1), 1.0), "no kind or several"),
        (changed("nodes", (0, 3, 3), 1.0), "an empty slot has one"),
        (changed("edges", (0, 1, 0, 1), 1.0), "several"),
        (changed("edges", (0, 0, 0, 2), 1.0), "without an edge"),
        (changed("exists", (0, 0, 1), 0.0), "an empty slot has one"),
        (replace(batch, exists=batch.exists * 0, nodes=batch.nodes * 0), "at an empty slot"),
        (replace(batch, adjacency=batch.adjacency.tril(), edges=batch.edges.tril()), "has a direction"),
    ):
        with pytest.raises(ValueError, match=match):
            sparse(odd, ["a"])
    with pytest.raises(UsageError, match="2 ids for 1"):
        sparse(batch, ["a", "b"])
    with pytest.raises(DataError, match="graph a"):
        sparse(replace(batch, **{p: getattr(batch, p) * 0 for p in ("exists", "nodes", "adjacency", "edges")}), ["a"])
