"""Small random graphs for the tests of graph nets, and rings."""

from __future__ import annotations

import numpy as np
import torch

from medaudit.cohort.graphs import Graph
from medaudit.networks.graphs.batch import GraphChannels

CHANNELS = GraphChannels(4, 3)
RICH = GraphChannels(4, 3, features=2, weighted=True)


def random_graph(seed: int, n: int | None = None, channels: GraphChannels = CHANNELS) -> Graph:
    """Return a graph of 3 to 9 nodes, or n, about a third of whose pairs are edges."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 10)) if n is None else n
    edges = np.argwhere(np.triu(rng.random((n, n)) < 0.35, 1))
    return Graph.of(
        f"g{seed}", rng.integers(0, channels.node_kinds, n), edges, rng.integers(0, channels.edge_kinds, len(edges)),
        weights=rng.normal(size=len(edges)) if channels.weighted else None,
        features=rng.normal(size=(n, channels.features)) if channels.features else None,
    )  # fmt: skip


def random_graphs(count: int, channels: GraphChannels = CHANNELS) -> list[Graph]:
    return [random_graph(seed, channels=channels) for seed in range(count)]


def ring(n: int) -> Graph:
    return Graph.of(f"c{n}", [0] * n, [(i, (i + 1) % n) for i in range(n)], [0] * n)


def generators(count: int, first: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(first + k) for k in range(count)]
