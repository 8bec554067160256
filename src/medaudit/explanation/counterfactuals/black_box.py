"""The classifier that is asked: its word counts on whole, hard graphs; its gradients, where it has any, only lead."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from medaudit.cohort.graphs import Graph
from medaudit.errors import DataError, UsageError
from medaudit.networks.graphs.batch import GraphBatch, GraphChannels, dense
from medaudit.training.graphs.classifier import probabilities


class BlackBox(Protocol):
    """What an explanation asks of a classifier."""

    def probabilities(self, graphs: Sequence[Graph]) -> np.ndarray:
        """Return (N, classes) of graphs as they are: no empty slots, no fraction of an edge. This decides."""
        ...

    def logits(self, batch: GraphBatch) -> Tensor | None:
        """Return (N, classes) with gradients to nodes and edges of a dense batch; None where there are none."""
        ...


@dataclass(frozen=True, eq=False)
class DenseBox:
    """A net of ours, or any that takes a :class:`GraphBatch` and returns (nodes, graph, logits)."""

    net: nn.Module
    channels: GraphChannels

    def probabilities(self, graphs: Sequence[Graph]) -> np.ndarray:
        """Return (N, classes), each graph without empty slots."""
        return probabilities(self.net, graphs, self.channels)

    def logits(self, batch: GraphBatch) -> Tensor | None:
        """Return (N, classes)."""
        return self.net(batch)[2]


@dataclass(frozen=True, eq=False)
class RuleBox:
    """A function of a graph that returns its class, and no gradients: an oracle, a service, a set of rules."""

    rule: Callable[[Graph], int]
    classes: int = 2

    def probabilities(self, graphs: Sequence[Graph]) -> np.ndarray:
        """Return (N, classes) of 0 and 1."""
        found = np.zeros((len(graphs), self.classes))
        for row, graph in zip(found, graphs, strict=True):
            told = self.rule(graph)
            # A bool as an index would be a mask, and a negative number count from the end.
            if not isinstance(told, bool | int | np.bool_ | np.integer) or not 0 <= int(told) < self.classes:
                raise DataError(
                    f"the rule says {told!r} of graph {graph.id}; expected a class, 0 to {self.classes - 1}"
                )
            row[int(told)] = 1
        return found

    def logits(self, batch: GraphBatch) -> Tensor | None:
        """Return None."""
        return None


@dataclass(frozen=True, eq=False)
class EdgeScoreBox:
    """Class 1 where ``constant`` plus a weight for each edge that is there is above 0; nodes are matched.

    The rule of Abrate & Bonchi (KDD 2021) on connectomes is one: what is optimal is known in closed form.
    """

    constant: float
    weights: np.ndarray
    """(n, n), symmetric: what the edge between two nodes adds."""

    def scores(self, graphs: Sequence[Graph]) -> np.ndarray:
        """Return (N,)."""
        return np.array([self.constant + self.weights[tuple(graph.edges.T)].sum() for graph in graphs])

    def probabilities(self, graphs: Sequence[Graph]) -> np.ndarray:
        """Return (N, 2): the logistic function of the score."""
        one = 1 / (1 + np.exp(-self.scores(graphs)))
        return np.stack([1 - one, one], axis=1)

    def logits(self, batch: GraphBatch) -> Tensor | None:
        """Return (N, 2), of which the first is 0."""
        score = (
            self.constant + (batch.adjacency[:, 0] * torch.from_numpy(self.weights).to(batch.adjacency)).sum((1, 2)) / 2
        )
        return torch.stack([torch.zeros_like(score), score], dim=1)


@dataclass(frozen=True, eq=False)
class PygBox:
    """A model of PyTorch Geometric: ``forward(x, edge_index, batch)``, ``edge_weight``, ``edge_attr`` if it likes.

    Gradients to edges exist where it takes ``edge_weight``: an edge of weight 0 must then mean none, as it does in its
    graph convolutions. ``x`` is the kind of each node, one-hot, then its features; ``edge_attr`` the kind of each edge,
    one-hot; ``edge_weight`` is the weight of each edge, 1 where graphs have none. Needs no PyTorch Geometric here: the
    user's model brings it.
    """

    model: nn.Module
    channels: GraphChannels

    def __post_init__(self) -> None:
        wanted = {"x", "edge_index", "batch"}
        if missing := sorted(wanted - set(self._takes)):
            raise UsageError(
                f"the model's forward takes no '{missing[0]}'; expected forward(x, edge_index, batch, ...)"
            )

    @property
    def _takes(self) -> tuple[str, ...]:
        return tuple(inspect.signature(self.model.forward).parameters)

    @torch.no_grad()
    def probabilities(self, graphs: Sequence[Graph]) -> np.ndarray:
        """Return (N, classes), graphs of any sizes in one sparse batch."""
        parts = [self._call(graphs[start : start + 256]) for start in range(0, len(graphs), 256)]
        return torch.cat(parts).double().softmax(1).numpy() if parts else np.zeros((0, 0))

    def logits(self, batch: GraphBatch) -> Tensor | None:
        """Return (N, classes), or None where the model takes no weights of edges."""
        if "edge_weight" not in self._takes:
            return None
        n = batch.size
        row, i, j = torch.nonzero(
            (batch.exists.unsqueeze(-1) * batch.exists.unsqueeze(-2))[:, 0].detach() * (1 - torch.eye(n)), as_tuple=True
        )
        rows, slots = torch.nonzero(batch.exists[:, 0].detach(), as_tuple=True)
        number = torch.full((len(batch), n), -1, dtype=torch.int64)
        number[rows, slots] = torch.arange(len(rows))
        there = batch.adjacency
        if batch.weights is not None:
            # An edge that is not there would come with the graph's mean weight: else none could be led to come.
            typical = batch.weights.sum((2, 3), keepdim=True) / there.sum((2, 3), keepdim=True).clamp(min=1)
            there = there * torch.where(there > 0, batch.weights, typical.detach())
        more: dict[str, Any] = {"edge_weight": there[row, 0, i, j]}
        if "edge_attr" in self._takes:
            more["edge_attr"] = batch.edges[row, :, i, j]
        return self.model(
            x=batch.nodes[rows, :, slots], edge_index=torch.stack([number[row, i], number[row, j]]), batch=rows, **more
        )

    def _call(self, graphs: Sequence[Graph]) -> Tensor:
        x, index, kinds, heavy, who, start = [], [], [], [], [], 0
        for k, graph in enumerate(graphs):
            kind = np.eye(self.channels.node_kinds)[graph.nodes]
            x.append(kind if graph.features is None else np.concatenate([kind, graph.features], axis=1))
            index.append(np.concatenate([graph.edges, graph.edges[:, ::-1]]) + start)
            kinds.append(np.tile(graph.edge_kinds, 2))
            heavy.append(np.tile(np.ones(len(graph.edges)) if graph.weights is None else graph.weights, 2))
            who.append(np.full(graph.n, k))
            start += graph.n
        more: dict[str, Any] = {}
        edges = torch.from_numpy(np.concatenate(index).T.copy())
        if "edge_weight" in self._takes:
            more["edge_weight"] = torch.from_numpy(np.concatenate(heavy)).float()
        if "edge_attr" in self._takes:
            more["edge_attr"] = torch.from_numpy(np.eye(self.channels.edge_kinds)[np.concatenate(kinds)]).float()
        return self.model(
            x=torch.from_numpy(np.concatenate(x)).float(), edge_index=edges,
            batch=torch.from_numpy(np.concatenate(who)), **more,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class CheckedBox:
    """A user's classifier, whose failures and odd answers are an error in one line that says what it did."""

    box: BlackBox
    name: str
    classes: int

    def probabilities(self, graphs: Sequence[Graph]) -> np.ndarray:
        """Return (N, classes); DataError where it fails, or says anything but finite numbers of this shape."""
        told = np.asarray(self._asked(lambda: self.box.probabilities(graphs)))
        wanted = (len(graphs), self.classes)
        if len(graphs) and (told.shape != wanted or told.dtype.kind not in "fiub" or not np.isfinite(told).all()):
            raise DataError(f"{self.name} says {told.dtype} of shape {told.shape} of {len(graphs)} graphs; expected "
                            f"finite numbers of shape {wanted}, a column for each class")  # fmt: skip
        return told

    def logits(self, batch: GraphBatch) -> Tensor | None:
        """Return (N, classes) or None; DataError where it fails, or returns another shape."""
        told = self._asked(lambda: self.box.logits(batch))
        wanted = (len(batch), self.classes)
        if told is not None and (not isinstance(told, Tensor) or tuple(told.shape) != wanted):
            what = f"shape {tuple(told.shape)}" if isinstance(told, Tensor) else type(told).__name__
            raise DataError(f"{self.name} returns logits of {what}; expected a tensor of shape {wanted}")
        return told

    def _asked(self, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except (DataError, UsageError):
            raise
        except Exception as error:
            raise DataError(f"{self.name} failed on these graphs: {type(error).__name__}: {error}") from error


def leads(box: BlackBox, graph: Graph, channels: GraphChannels) -> bool:
    """Return whether a classifier has gradients that could lead a walk."""
    return box.logits(dense([graph], channels)) is not None
