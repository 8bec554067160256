"""What a walk is compared with: the paper's three baselines, and the nearest real graph by edit distance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from medaudit.cohort.graphs import Graph
from medaudit.errors import DataError
from medaudit.explanation.counterfactuals.slots import EMPTY, Slots
from medaudit.explanation.counterfactuals.traversal import in_slots, nodes_of
from medaudit.metrics.graph_edit import Distance, edit_distances
from medaudit.networks.graphs.decoding import decode_discrete
from medaudit.networks.graphs.vae import GraphVAE
from medaudit.training.graphs.vae import latents, seed_of

_NEAREST = 10
"""Of the decoded mean (paper)."""


def drawn(
    vae: GraphVAE, graphs: Sequence[Graph], size: int, *, tau: float = 1.0, seed: int = 0, keep_nodes: bool = False
) -> list[Slots]:  # fmt: skip
    """Return a graph decoded from z ~ N(0, 1) for each graph (the paper's Random)."""
    draws = [torch.Generator().manual_seed(seed_of(graph.id, seed + 2)) for graph in graphs]
    z = torch.stack([torch.randn(vae.latent, size, generator=one) for one in draws])
    with torch.no_grad():
        return in_slots(decode_discrete(vae, z, tau, draws, nodes_of(graphs, size) if keep_nodes else None))


def nearest_latent(
    vae: GraphVAE, graphs: Sequence[Graph], targets: Sequence[int], known: Sequence[Graph], y: np.ndarray, size: int, *,
    seed: int = 0,
) -> list[Slots]:  # fmt: skip
    """Return the known graph of the target's true class whose latents are nearest, slot by slot (the paper's).

    Slots of two graphs have nothing to do with each other, so that this is near in no sense that a graph knows.
    """
    order = _by_latent(vae, graphs, targets, known, y, size, seed)
    return [Slots.of(known[rows[0]], size) for rows in order]


def decoded_mean(
    vae: GraphVAE, graphs: Sequence[Graph], targets: Sequence[int], known: Sequence[Graph], y: np.ndarray, size: int, *,
    tau: float = 1.0, seed: int = 0, keep_nodes: bool = False,
) -> list[Slots]:  # fmt: skip
    """Return the decoded mean of the latents of the ten such graphs (the paper's)."""
    codes = latents(vae, known, size, seed=seed)
    order = _by_latent(vae, graphs, targets, known, y, size, seed)
    z = torch.stack([codes[rows[:_NEAREST]].mean(0) for rows in order])
    draws = [torch.Generator().manual_seed(seed_of(graph.id, seed + 3)) for graph in graphs]
    with torch.no_grad():
        return in_slots(decode_discrete(vae, z, tau, draws, nodes_of(graphs, size) if keep_nodes else None))


def nearest_graphs(
    graph: Graph, known: Sequence[Graph], *, most: int, matched: bool, looked_at: int = 64
) -> list[tuple[Slots, Slots, Distance]]:  # fmt: skip
    """Return the known graphs that are nearest by edit distance: both in the same slots, aligned by the edits found.

    Of those nearest in numbers of nodes and edges, ``looked_at`` are measured, by the upper bound.
    """
    size = np.array([abs(one.n - graph.n) + abs(len(one.edges) - len(graph.edges)) for one in known])
    rows = np.argsort(size, kind="stable")[:looked_at]
    found = edit_distances([(graph, known[k]) for k in rows], matched=matched, effort=20)
    order = np.argsort([distance.upper for distance in found], kind="stable")[:most]
    return [(*aligned(graph, known[rows[k]], found[k]), found[k]) for k in order]


def aligned(graph: Graph, other: Graph, distance: Distance) -> tuple[Slots, Slots]:
    """Return two graphs in the same slots: a node and what the edit path makes of it share one."""
    where = np.asarray(distance.path.assignment)
    new = np.setdiff1d(np.arange(other.n), where[where >= 0])
    size = graph.n + len(new)
    place = np.empty(other.n, dtype=np.int64)
    place[where[where >= 0]] = np.flatnonzero(where >= 0)
    place[new] = graph.n + np.arange(len(new))
    own, theirs = Slots.of(graph, size), Slots.of(other)
    kinds, bonds = np.full(size, EMPTY, dtype=np.int64), np.zeros((size, size), dtype=np.int64)
    kinds[place], bonds[np.ix_(place, place)] = theirs.kinds, theirs.bonds
    weights = features = None
    if theirs.weights is not None:
        weights = np.zeros((size, size))
        weights[np.ix_(place, place)] = theirs.weights
    if theirs.features is not None:
        features = np.zeros((size, theirs.features.shape[1]))
        features[place] = theirs.features
    return own, Slots(kinds, bonds, weights, features)


def _by_latent(
    vae: GraphVAE, graphs: Sequence[Graph], targets: Sequence[int], known: Sequence[Graph], y: np.ndarray, size: int,
    seed: int,
) -> list[np.ndarray]:  # fmt: skip
    """Return for each graph the rows of known graphs of its target class, nearest latents first."""
    ours = latents(vae, graphs, size, seed=seed).flatten(1)
    theirs = latents(vae, known, size, seed=seed).flatten(1)
    for target in sorted(set(targets)):
        if not (y == target).any():
            raise DataError(
                f"no training graph is of the class that graphs are led to, number {target}; ask for --baseline none"
            )
    far = torch.cdist(ours, theirs).numpy()
    return [np.flatnonzero(y == t)[np.argsort(row[y == t], kind="stable")] for row, t in zip(far, targets, strict=True)]
