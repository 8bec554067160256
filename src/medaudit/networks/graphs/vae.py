"""What every variational autoencoder of graphs is asked: latents of nodes, then logits of a graph's four parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medaudit.errors import UsageError
from medaudit.networks.graphs.batch import GraphBatch, GraphChannels
from medaudit.networks.graphs.symmetry import SymmetryBreaking, normal

Generators = torch.Generator | Sequence[torch.Generator] | None
"""One for a whole batch, or one for each graph: then what a graph draws does not depend on the others."""


@dataclass(frozen=True, eq=False)
class GraphLogits:
    """What a decoder says of each part of a graph, before anything is decided."""

    exists: Tensor
    """(N, 1, n): logit of a node in the slot."""
    nodes: Tensor
    """(N, node kinds + features, n): logits of kinds, then means of numbers."""
    adjacency: Tensor
    """(N, 1, n, n): logit of an edge, symmetric."""
    edges: Tensor
    """(N, edge kinds [+ 1], n, n): logits of kinds, then the mean of the weight; symmetric."""
    log_variances: Tensor
    """(features [+ 1],): of the Gaussians of numbers, then of the weight."""


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """A pass through encoder and decoder: q(z|G), a sample of it, and p(G|z) with the true G in every condition."""

    mean: Tensor
    """(N, latent, n)."""
    log_variance: Tensor
    """(N, latent, n)."""
    z: Tensor
    """(N, latent, n)."""
    logits: GraphLogits


class GraphVAE(nn.Module):
    """p(G|z) = p(B|z) p(V|z, B) p(A|z, B) p(E|z, B, A), with a latent for every slot (arXiv 2501.08850)."""

    channels: GraphChannels
    latent: int

    def __init__(self, channels: GraphChannels, latent: int, breaking: SymmetryBreaking) -> None:
        super().__init__()
        if latent < 1:
            raise UsageError(f"{latent} latents a node; expected 1 or more")
        self.channels, self.latent, self.breaking = channels, latent, breaking
        self.log_variances = nn.Parameter(torch.zeros(channels.features + channels.weighted))

    def encode(self, batch: GraphBatch, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance (N, latent, n) of q(z|G); noise as :meth:`noise` draws it, where one is used."""
        raise NotImplementedError

    def decode_exists(self, z: Tensor) -> Tensor:
        """Return logits (N, 1, n) of nodes, of latents (N, latent, n)."""
        raise NotImplementedError

    def decode_nodes(self, z: Tensor, exists: Tensor) -> Tensor:
        """Return logits of kinds and means of numbers (N, node kinds + features, n)."""
        raise NotImplementedError

    def decode_adjacency(self, z: Tensor, exists: Tensor) -> Tensor:
        """Return symmetric logits (N, 1, n, n) of edges."""
        raise NotImplementedError

    def decode_edges(self, z: Tensor, exists: Tensor, adjacency: Tensor) -> Tensor:
        """Return symmetric logits of kinds and means of weights (N, edge kinds [+ 1], n, n)."""
        raise NotImplementedError

    def noise(self, batch: GraphBatch, generators: Generators = None) -> Tensor:
        """Return what breaks the symmetry of a batch (N, noise channels, n); no channels where nothing does."""
        return self.breaking.draw(batch.exists, generators)

    def sample(self, mean: Tensor, log_variance: Tensor, generators: Generators = None) -> Tensor:
        """Return mean + sigma * eps (N, latent, n)."""
        return mean + (log_variance / 2).exp() * normal(mean, generators)

    def logits(self, z: Tensor, given: GraphBatch) -> GraphLogits:
        """Return the logits of every part under latents (N, latent, n), each given what is before it in a true graph.

        What cannot be charged (edges at empty slots, kinds where no edge is) may be left at 0.
        """
        return GraphLogits(
            self.decode_exists(z), self.decode_nodes(z, given.exists), self.decode_adjacency(z, given.exists),
            self.decode_edges(z, given.exists, given.adjacency), self.log_variances,
        )  # fmt: skip

    def forward(self, batch: GraphBatch, generators: Generators = None) -> Reconstruction:
        """Return a pass with noise and eps drawn from ``generators``: teacher forcing, as in training."""
        mean, log_variance = self.encode(batch, self.noise(batch, generators))
        z = self.sample(mean, log_variance, generators)
        return Reconstruction(mean, log_variance, z, self.logits(z, batch))

    def _with_noise(self, nodes: Tensor, noise: Tensor | None) -> Tensor:
        """Return (N, channels + noise channels, n)."""
        if self.breaking.channels == 0:
            return nodes
        wanted = (len(nodes), self.breaking.channels, nodes.shape[-1])
        if noise is None or noise.shape != wanted:
            shape = None if noise is None else tuple(noise.shape)
            raise UsageError(f"noise of shape {shape} at the input; expected {wanted}, as .noise(batch) draws it")
        return torch.cat([nodes, noise.to(nodes)], dim=1)
