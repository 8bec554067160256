"""The paper's autoencoder of graphs, of linear equivariant layers (PEGVAE, arXiv 2501.08850; layers of its code)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medaudit.errors import UsageError
from medaudit.networks.graphs.batch import GraphBatch, GraphChannels
from medaudit.networks.graphs.equivariant import MODES, Mix, NodeToNode, NodeToPair, PairToNode, PairToPair
from medaudit.networks.graphs.symmetry import SymmetryBreaking
from medaudit.networks.graphs.vae import GraphVAE


@dataclass(frozen=True)
class PegShape:
    """Defaults: the paper's, on all its sets (spec 1.4). ``masked`` is ours: nothing depends on empty slots."""

    width: int = 20
    latent: int = 1
    mode: str = "paper"
    symmetry: str = "none"
    """``none``, ``noise`` or ``sympe``."""
    noise: int = 8
    """Channels of that at the input."""

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise UsageError(f"no mode '{self.mode}' of the autoencoder; expected one of {', '.join(MODES)}")
        if self.width < 1:
            raise UsageError(f"a width of {self.width}; expected 1 or more")

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, to be kept beside the weights."""
        return asdict(self)


def instance_norm(x: Tensor, who: Tensor, eps: float = 1e-5) -> Tensor:
    """Return each channel of each graph at mean 0 and variance 1 over who counts, and 0 elsewhere.

    x is (N, c, ...), ``who`` (N, 1, ...) 0 or 1. No affine map, as in the paper.
    """
    axes = tuple(range(2, x.ndim))
    share = 1 / who.sum(axes, keepdim=True).clamp(min=1)
    centred = (x - (x * who).sum(axes, keepdim=True) * share) * who
    return centred * (centred.square().sum(axes, keepdim=True) * share + eps).rsqrt()


class Block(nn.Module):
    """An equivariant layer, LeakyReLU, then twice a product of channels, LeakyReLU and instance norm (spec 1.4)."""

    def __init__(self, layer: nn.Module, width: int, pairs: bool) -> None:
        super().__init__()
        self.layer, self.pairs = layer, pairs
        self.mixes = nn.ModuleList([Mix(width, width), Mix(width, width)])

    def forward(self, x: Tensor, exists: Tensor) -> Tensor:
        """Return (N, width, n) or (N, width, n, n); ``exists`` (N, 1, n)."""
        h = F.leaky_relu(self.layer(x, exists))
        who = torch.ones_like(exists) if self.layer.mode == "paper" else exists
        who = who.unsqueeze(-1) * who.unsqueeze(-2) if self.pairs else who
        for mix in self.mixes:
            h = instance_norm(F.leaky_relu(mix(h)), who)
        return h


class PairHead(nn.Module):
    """A graph's pairs to a number for every node: 2 -> 1, LeakyReLU, a product of channels."""

    def __init__(self, width: int, after: int, mode: str) -> None:
        super().__init__()
        self.layer, self.last = PairToNode(width, width, mode), Mix(width, after)

    def forward(self, x: Tensor, exists: Tensor) -> Tensor:
        """Return (N, after, n)."""
        return self.last(F.leaky_relu(self.layer(x, exists)))


class PegVAE(GraphVAE):
    """Graphs to a latent for every slot, and back: B, then V, A and E in turn.

    Of one latent a node, a pair has one number, z_i z_j + B_i B_j, as in the paper. Of more (ours), it has the products
    of each and B_i B_j, side by side. In ``masked`` mode a node's existence is told by its latent alone: an
    equivariant layer would need to know who exists.
    """

    def __init__(self, channels: GraphChannels, shape: PegShape | None = None) -> None:
        shape = shape or PegShape()
        super().__init__(channels, shape.latent, SymmetryBreaking(shape.symmetry, shape.noise))
        self.shape = shape
        w, d, mode = shape.width, shape.latent, shape.mode
        pair = 1 if d == 1 else d + 1
        self.first = Block(NodeToPair(channels.nodes + 1 + self.breaking.channels, w, mode), w, pairs=True)
        self.second = Block(PairToPair(w + channels.edges, w, mode), w, pairs=True)
        self.third = Block(PairToPair(w, w, mode), w, pairs=True)
        self.mean, self.log_variance = PairHead(w, d, mode), PairHead(w, d, mode)
        self.node: nn.Module
        if mode == "paper":
            self.node = Block(NodeToNode(d, w, mode), w, pairs=False)
        else:
            mixes = [Mix(before, w) for before in (d, w, w)]
            self.node = nn.Sequential(*[part for mix in mixes for part in (mix, nn.LeakyReLU())])
        self.node_last = Mix(w, 1)
        self.kind = Block(NodeToNode(d + 1, w, mode), w, pairs=False)
        self.kind_last = Mix(w, channels.nodes)
        self.pair = nn.ModuleList(
            [Block(PairToPair(pair, w, mode), w, pairs=True), Block(PairToPair(w, w, mode), w, pairs=True)]
        )
        self.pair_last = Mix(w, 1)
        self.bond = nn.ModuleList(
            [Block(PairToPair(pair + 1, w, mode), w, pairs=True), Block(PairToPair(w, w, mode), w, pairs=True)]
        )
        self.bond_last = Mix(w, channels.edges)

    def encode(self, batch: GraphBatch, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance (N, latent, n). The adjacency comes in by the edges alone, as in the paper."""
        exists = batch.exists
        h = self.first(self._with_noise(torch.cat([batch.nodes, exists], dim=1), noise), exists)
        h = self.second(torch.cat([h, batch.valued_edges], dim=1), exists)
        h = self.third(h, exists)
        return self.mean(h, exists), self.log_variance(h, exists)

    def decode_exists(self, z: Tensor) -> Tensor:
        """Return logits (N, 1, n)."""
        h = self.node(z, torch.ones_like(z[:, :1])) if isinstance(self.node, Block) else self.node(z)
        return self.node_last(h)

    def decode_nodes(self, z: Tensor, exists: Tensor) -> Tensor:
        """Return logits of kinds and means of numbers (N, node kinds + features, n)."""
        return self.kind_last(self.kind(torch.cat([z, exists], dim=1), exists))

    def decode_adjacency(self, z: Tensor, exists: Tensor) -> Tensor:
        """Return symmetric logits (N, 1, n, n)."""
        h = self._products(z, exists)
        for block in self.pair:
            h = block(h, exists)
        return _symmetric(self.pair_last(h))

    def decode_edges(self, z: Tensor, exists: Tensor, adjacency: Tensor) -> Tensor:
        """Return symmetric logits of kinds and means of weights (N, edge kinds [+ 1], n, n)."""
        h = torch.cat([self._products(z, exists), adjacency], dim=1)
        for block in self.bond:
            h = block(h, exists)
        return _symmetric(self.bond_last(h))

    def _products(self, z: Tensor, exists: Tensor) -> Tensor:
        """Return (N, 1, n, n) of one latent a node, (N, latent + 1, n, n) of more."""
        told = torch.cat([z, exists], dim=1)
        products = told.unsqueeze(3) * told.unsqueeze(2)
        return products.sum(1, keepdim=True) if self.latent == 1 else products


def _symmetric(values: Tensor) -> Tensor:
    return (values + values.transpose(2, 3)) / 2
