"""Graphs of different sizes as tensors of one size, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from torch import Tensor

from medaudit.cohort.graphs import Graph, Graphs
from medaudit.errors import DataError, UsageError


@dataclass(frozen=True)
class GraphChannels:
    """What is told of nodes and of edges: how many kinds, how many numbers."""

    node_kinds: int = 1
    edge_kinds: int = 1
    features: int = 0
    """Numbers a node has beside its kind."""
    weighted: bool = False
    """Whether an edge has a number beside its kind."""

    def __post_init__(self) -> None:
        if min(self.node_kinds, self.edge_kinds) < 1 or self.features < 0:
            raise UsageError(
                f"{self.node_kinds} kinds of nodes, {self.edge_kinds} of edges, {self.features} features; expected "
                "one kind or more of each"
            )

    @classmethod
    def of(cls, graphs: Graphs) -> GraphChannels:
        """Return the channels of a set, whose first graph says whether nodes and edges have numbers."""
        first = graphs.graphs[0]
        features = 0 if first.features is None else first.features.shape[1]
        return cls(len(graphs.node_kinds), len(graphs.edge_kinds), features, first.weights is not None)

    @property
    def nodes(self) -> int:
        """Channels of a node: kinds, then features."""
        return self.node_kinds + self.features

    @property
    def edges(self) -> int:
        """Channels of an edge: kinds, then the weight if there is one."""
        return self.edge_kinds + self.weighted

    def as_dict(self) -> dict[str, int]:
        """Return the fields, to be kept beside the weights of a net."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class GraphBatch:
    """N graphs in n slots each (arXiv 2501.08850; spec 1.2): a slot without a node is zero in every tensor."""

    exists: Tensor
    """(N, 1, n): B, whether the slot has a node."""
    nodes: Tensor
    """(N, node kinds + features, n): V, the kind one-hot, then numbers."""
    adjacency: Tensor
    """(N, 1, n, n): A, symmetric, nothing on the diagonal."""
    edges: Tensor
    """(N, edge kinds, n, n): E, the kind one-hot; the same as A where there is one kind."""
    weights: Tensor | None = None
    """(N, 1, n, n): a number of each edge, 0 where there is none."""
    features: int = 0
    """How many of the last channels of nodes are numbers."""

    def __len__(self) -> int:
        return len(self.exists)

    def __getitem__(self, rows: slice | Sequence[int] | Tensor | np.ndarray) -> GraphBatch:
        """Return the graphs of some rows: a slice, numbers or a mask. One number would lose the axis: give a list."""
        if isinstance(rows, int | np.integer):
            raise UsageError(f"row {rows} of a batch of graphs; expected a slice or a list, as [{rows}]")
        index = rows if isinstance(rows, slice) else torch.as_tensor(rows, device=self.exists.device)
        return self._each(lambda values: values[index])

    @property
    def size(self) -> int:
        """How many slots a graph has, n."""
        return self.exists.shape[-1]

    @property
    def channels(self) -> GraphChannels:
        """What is told of nodes and of edges."""
        return GraphChannels(
            self.nodes.shape[1] - self.features, self.edges.shape[1], self.features, self.weights is not None
        )

    @property
    def kinds(self) -> Tensor:
        """(N, node kinds, n): the kinds alone."""
        return self.nodes[:, : self.nodes.shape[1] - self.features]

    @property
    def numbers(self) -> Tensor:
        """(N, features, n): the numbers of nodes alone."""
        return self.nodes[:, self.nodes.shape[1] - self.features :]

    @property
    def valued_edges(self) -> Tensor:
        """(N, edge kinds [+ 1], n, n): the kinds, then the weight if there is one."""
        return self.edges if self.weights is None else torch.cat([self.edges, self.weights], dim=1)

    @property
    def counts(self) -> Tensor:
        """(N,): how many nodes each graph has."""
        return self.exists.sum((1, 2))

    def to(self, *to: torch.device | torch.dtype | str) -> GraphBatch:
        """Return the batch on a device, in a dtype, or both."""

        def moved(values: Tensor) -> Tensor:
            for where in to:
                values = values.to(where)
            return values

        return self._each(moved)

    def detach(self) -> GraphBatch:
        """Return the batch without its history of gradients."""
        return self._each(Tensor.detach)

    def padded(self, size: int) -> GraphBatch:
        """Return the batch with empty slots behind, ``size`` in all. UsageError where that is fewer than there are."""
        more = size - self.size
        if more < 0:
            raise UsageError(f"{size} slots for graphs of {self.size}; expected as many or more")

        def grown(values: Tensor) -> Tensor:
            return torch.nn.functional.pad(values, (0, more) * (values.ndim - 2))

        return self._each(grown)

    def permuted(self, order: Tensor) -> GraphBatch:
        """Return the graphs with slot ``order[k]`` as the k-th, in all rows alike."""

        def moved(values: Tensor) -> Tensor:
            values = values[..., order]
            return values[..., order, :] if values.ndim == 4 else values

        return self._each(moved)

    def _each(self, change: Callable[[Tensor], Tensor]) -> GraphBatch:
        return replace(
            self, exists=change(self.exists), nodes=change(self.nodes), adjacency=change(self.adjacency),
            edges=change(self.edges), weights=None if self.weights is None else change(self.weights),
        )  # fmt: skip


def joined(batches: Iterable[GraphBatch]) -> GraphBatch:
    """Return the graphs of several batches of one size and the same channels as one batch."""
    parts = list(batches)
    if len({(part.size, part.channels) for part in parts}) != 1:
        raise UsageError("batches of graphs differ in size or channels, or there are none; expected the same in all")
    weights = [part.weights for part in parts if part.weights is not None]
    return GraphBatch(
        torch.cat([part.exists for part in parts]), torch.cat([part.nodes for part in parts]),
        torch.cat([part.adjacency for part in parts]), torch.cat([part.edges for part in parts]),
        torch.cat(weights) if weights else None, parts[0].features,
    )  # fmt: skip


def dense(
    graphs: Sequence[Graph], channels: GraphChannels, size: int | None = None, *, dtype: torch.dtype = torch.float32
) -> GraphBatch:
    """Return graphs as a batch of ``size`` slots (without it as many as the largest needs); node k is in slot k.

    Raises DataError, naming the graph, where one has more nodes than slots, a kind that has no channel, or numbers
    where the channels have none and the other way round.
    """
    n = max((graph.n for graph in graphs), default=1) if size is None else size
    count = len(graphs)
    exists = np.zeros((count, 1, n))
    nodes = np.zeros((count, channels.nodes, n))
    edges = np.zeros((count, channels.edge_kinds, n, n))
    weights = np.zeros((count, 1, n, n)) if channels.weighted else None
    for row, graph in enumerate(graphs):
        _check(graph, channels, n)
        exists[row, 0, : graph.n] = 1
        nodes[row, graph.nodes, np.arange(graph.n)] = 1
        if graph.features is not None:
            nodes[row, channels.node_kinds :, : graph.n] = graph.features.T
        i, j = graph.edges.T
        edges[row, graph.edge_kinds, i, j] = edges[row, graph.edge_kinds, j, i] = 1
        if weights is not None:
            weights[row, 0, i, j] = weights[row, 0, j, i] = graph.weights
    return GraphBatch(
        _tensor(exists, dtype), _tensor(nodes, dtype), _tensor(edges.sum(1, keepdims=True), dtype),
        _tensor(edges, dtype), None if weights is None else _tensor(weights, dtype), channels.features,
    )  # fmt: skip


def sparse(batch: GraphBatch, ids: Sequence[str]) -> list[Graph]:
    """Return the graphs of a batch; empty slots are left out, so that nodes behind one move up.

    Raises ValueError, naming the graph, where existence, kinds or adjacency are not 0 or 1, where a node or an edge has
    not exactly one kind, or where something is outside of what exists; DataError for a graph without nodes.
    """
    if len(ids) != len(batch):
        raise UsageError(f"{len(ids)} ids for {len(batch)} graphs; expected one each")
    exists = _array(batch.exists)[:, 0]
    kinds, numbers = _array(batch.kinds), _array(batch.numbers)
    adjacency, edges = _array(batch.adjacency)[:, 0], _array(batch.edges)
    weights = None if batch.weights is None else _array(batch.weights)[:, 0]
    found = []
    for row, id_ in enumerate(ids):
        for what, values in (
            ("existence", exists), ("a node's kind", kinds), ("adjacency", adjacency), ("an edge's kind", edges),
        ):  # fmt: skip
            if not np.isin(values[row], (0, 1)).all():
                odd = values[row][~np.isin(values[row], (0, 1))][0]
                raise ValueError(f"graph {id_}: {what} is {odd:.6g}; expected 0 or 1, as a hard decode has")
        if (kinds[row].sum(0) != exists[row]).any():
            raise ValueError(f"graph {id_}: a node has no kind or several, or an empty slot has one")
        if (edges[row].sum(0) != adjacency[row]).any():
            raise ValueError(f"graph {id_}: an edge has no kind or several, or there is a kind without an edge")
        if (adjacency[row] > np.outer(exists[row], exists[row])).any():
            raise ValueError(f"graph {id_}: an edge at an empty slot")
        if (adjacency[row] != adjacency[row].T).any() or np.diagonal(adjacency[row]).any():
            raise ValueError(f"graph {id_}: an edge has a direction, or ends where it starts")
        slots = np.flatnonzero(exists[row])
        inside = np.ix_(slots, slots)
        i, j = np.nonzero(np.triu(adjacency[row][inside]))
        kind = edges[row].argmax(0)[inside][i, j]
        found.append(
            Graph.of(
                id_, kinds[row].argmax(0)[slots], np.stack([i, j], axis=1), kind,
                weights=None if weights is None else weights[row][inside][i, j],
                features=numbers[row][:, slots].T if batch.features else None,
            )
        )  # fmt: skip
    return found


def _check(graph: Graph, channels: GraphChannels, size: int) -> None:
    if graph.n > size:
        raise DataError(f"graph {graph.id}: {graph.n} nodes; expected at most {size}")
    if graph.nodes.max() >= channels.node_kinds or graph.edge_kinds.max(initial=0) >= channels.edge_kinds:
        raise DataError(
            f"graph {graph.id}: a kind without a channel; expected {channels.node_kinds} kinds of nodes and "
            f"{channels.edge_kinds} of edges"
        )
    features = 0 if graph.features is None else graph.features.shape[1]
    if features != channels.features:
        raise DataError(f"graph {graph.id}: {features} features of nodes; expected {channels.features}")
    if (graph.weights is not None) != channels.weighted:
        raise DataError(
            f"graph {graph.id}: {'weights that have no channel' if graph.weights is not None else 'edges lack weights'}"
        )


def _tensor(values: np.ndarray, dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(values).to(dtype)


def _array(values: Tensor) -> np.ndarray:
    return values.detach().double().cpu().numpy()
