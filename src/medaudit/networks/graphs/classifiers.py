"""Classifiers of dense graphs: the paper's equivariant one, a GCN and a GIN; edges may be soft, for their gradients."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medaudit.errors import UsageError
from medaudit.networks.graphs.batch import GraphBatch, GraphChannels
from medaudit.networks.graphs.equivariant import MODES, Mix, NodeToPair, PairToNode, PairToPair


class GraphClassifier(Protocol):
    """What an explanation asks of a classifier: differentiable, and blind to the order of nodes."""

    def __call__(self, batch: GraphBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Return embeddings of nodes (N, c, n), of graphs (N, c), and logits (N, classes)."""
        ...


class MaskedBatchNorm(nn.Module):
    """Batch normalisation (arXiv 1502.03167) over who counts, and 0 elsewhere; else as torch has it."""

    running_mean: Tensor
    running_variance: Tensor

    def __init__(self, channels: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_variance", torch.ones(channels))

    def forward(self, x: Tensor, who: Tensor) -> Tensor:
        """Return (N, c, ...) of x (N, c, ...) and ``who`` (N, 1, ...), 0 or 1."""
        mean, variance = self.running_mean, self.running_variance
        shape = (1, -1, *[1] * (x.ndim - 2))
        if self.training:
            axes = (0, *range(2, x.ndim))
            count = who.sum().clamp(min=1)
            mean = (x * who).sum(axes) / count
            variance = ((x - mean.view(shape)) * who).square().sum(axes) / count
            with torch.no_grad():
                unbiased = variance * count / (count - 1).clamp(min=1)
                self.running_mean.lerp_(mean.detach(), self.momentum)
                self.running_variance.lerp_(unbiased.detach(), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        return (x * scale.view(shape) + (self.bias - mean * scale).view(shape)) * who


@dataclass(frozen=True)
class DenseShape:
    """Defaults: the paper's (spec 1.6; its net for AIDS has 201 embeddings), but for the mode."""

    classes: int = 2
    width: int = 20
    embedding: int = 200
    mode: str = "masked"
    """``paper`` lets empty slots into means, norms and the maximum, as the released code does."""

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise UsageError(f"no mode '{self.mode}' of the classifier; expected one of {', '.join(MODES)}")

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, to be kept beside the weights."""
        return asdict(self)


class NormedBlock(nn.Module):
    """An equivariant layer, SiLU and batch norm, then twice a product of channels, SiLU and batch norm."""

    def __init__(self, layer: nn.Module, width: int) -> None:
        super().__init__()
        self.layer = layer
        self.mixes = nn.ModuleList([Mix(width, width) for _ in range(2)])
        self.norms = nn.ModuleList([MaskedBatchNorm(width) for _ in range(3)])

    def forward(self, x: Tensor, exists: Tensor, who: Tensor) -> Tensor:
        """Return (N, width, n, n); ``exists`` (N, 1, n), and which pairs the norms count, ``who`` (N, 1, n, n)."""
        h = self.norms[0](F.silu(self.layer(x, exists)), who)
        for mix, norm in zip(self.mixes, list(self.norms)[1:], strict=True):
            h = norm(F.silu(mix(h)), who)
        return h


class DenseClassifier(nn.Module):
    """The paper's classifier, of linear equivariant layers and a maximum over nodes."""

    def __init__(self, channels: GraphChannels, shape: DenseShape | None = None) -> None:
        super().__init__()
        self.shape = shape = shape or DenseShape()
        w, mode = shape.width, shape.mode
        self.first = NormedBlock(NodeToPair(channels.nodes + 1, w, mode), w)
        self.second = NormedBlock(PairToPair(w + 1 + channels.edges, w, mode), w)
        self.third = NormedBlock(PairToPair(w, w, mode), w)
        self.pooled = PairToNode(w, shape.embedding, mode)
        self.norm = MaskedBatchNorm(shape.embedding)
        self.last = nn.Linear(shape.embedding, shape.classes)

    def forward(self, batch: GraphBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Return embeddings of nodes (N, embedding, n), of graphs (N, embedding), and logits (N, classes)."""
        exists = batch.exists
        who = exists if self.shape.mode == "masked" else torch.ones_like(exists)
        pairs = who.unsqueeze(-1) * who.unsqueeze(-2)
        h = self.first(torch.cat([batch.nodes, exists], dim=1), exists, pairs)
        h = self.second(torch.cat([h, batch.adjacency, batch.valued_edges], dim=1), exists, pairs)
        h = self.third(h, exists, pairs)
        nodes = self.norm(F.leaky_relu(self.pooled(h, exists)), who)
        graph = largest(nodes, who)
        return nodes, graph, self.last(graph)


@dataclass(frozen=True)
class MessageShape:
    """Layers of a GCN or a GIN."""

    classes: int = 2
    width: int = 20
    layers: int = 3

    def __post_init__(self) -> None:
        if self.layers < 1 or self.width < 1:
            raise UsageError(f"{self.layers} layers of width {self.width}; expected 1 or more of both")

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, to be kept beside the weights."""
        return asdict(self)


class GCN(nn.Module):
    """Graph convolutions (arXiv 1609.02907) with batch norm and ReLU, a maximum over nodes, a linear map.

    Three layers of 20, as the sparse net the paper compares with (spec 1.6). Sees no kinds of edges and no weights.
    """

    def __init__(self, channels: GraphChannels, shape: MessageShape | None = None) -> None:
        super().__init__()
        self.shape = shape = shape or MessageShape()
        before = [channels.nodes, *[shape.width] * (shape.layers - 1)]
        self.layers = nn.ModuleList([nn.Linear(b, shape.width, bias=False) for b in before])
        self.norms = nn.ModuleList([MaskedBatchNorm(shape.width) for _ in before])
        self.last = nn.Linear(shape.width, shape.classes)

    def forward(self, batch: GraphBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Return embeddings of nodes (N, width, n), of graphs (N, width), and logits (N, classes)."""
        exists, h = batch.exists, batch.nodes
        degrees = batch.adjacency.sum(3) + exists
        scale = exists * torch.where(degrees > 0, degrees, torch.ones_like(degrees)).rsqrt()
        for layer, norm in zip(self.layers, self.norms, strict=True):
            h = layer(h.transpose(1, 2)).transpose(1, 2) * scale
            h = (h + h @ batch.adjacency[:, 0].transpose(1, 2)) * scale
            h = F.relu(norm(h, exists))
        graph = largest(h, exists)
        return h, graph, self.last(graph)


class GIN(nn.Module):
    """Sums of neighbours and a perceptron (arXiv 1810.00826), summed over nodes. Sees no kinds of edges, no weights."""

    def __init__(self, channels: GraphChannels, shape: MessageShape | None = None) -> None:
        super().__init__()
        self.shape = shape = shape or MessageShape()
        before = [channels.nodes, *[shape.width] * (shape.layers - 1)]
        self.own = nn.Parameter(torch.zeros(shape.layers))
        self.inner = nn.ModuleList([nn.Linear(b, shape.width) for b in before])
        self.outer = nn.ModuleList([nn.Linear(shape.width, shape.width) for _ in before])
        self.norms = nn.ModuleList([MaskedBatchNorm(shape.width) for _ in before])
        self.last = nn.Linear(shape.width, shape.classes)

    def forward(self, batch: GraphBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Return embeddings of nodes (N, width, n), of graphs (N, width), and logits (N, classes)."""
        exists, h = batch.exists, batch.nodes.transpose(1, 2)
        for own, inner, outer, norm in zip(self.own, self.inner, self.outer, self.norms, strict=True):
            h = inner((1 + own) * h + batch.adjacency[:, 0] @ h)
            h = F.relu(norm(h.transpose(1, 2), exists)).transpose(1, 2)
            h = F.relu(outer(h)) * exists.transpose(1, 2)
        nodes = h.transpose(1, 2)
        graph = nodes.sum(2)
        return nodes, graph, self.last(graph)


def largest(nodes: Tensor, who: Tensor) -> Tensor:
    """Return the maximum (N, c) over who exists, of nodes (N, c, n); 0 where nobody does."""
    found = nodes.masked_fill(who <= 0, -torch.inf).amax(2)
    return found.masked_fill(who.sum(2) <= 0, 0.0)
