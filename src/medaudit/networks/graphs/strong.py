"""An autoencoder of graphs that rebuilds them: typed messages in, a perceptron on pairs of latents out.

Ours, in the place of the paper's equivariant layers. Trained on 600 small molecules (AIDS, at most 12 nodes, 10.3
edges) for 110 seconds of one processor and asked for 200 others, it left 0.36 wrong edges a graph and rebuilt 79 %
without one; those layers left 8.7 and rebuilt 0.5 %, in as much time, which is far less than the paper trains for.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from medaudit.errors import UsageError
from medaudit.networks.graphs.batch import GraphBatch, GraphChannels
from medaudit.networks.graphs.symmetry import SymmetryBreaking
from medaudit.networks.graphs.vae import GraphLogits, GraphVAE


@dataclass(frozen=True)
class StrongShape:
    """What the net is made of."""

    width: int = 64
    layers: int = 4
    latent: int = 8
    symmetry: str = "noise"
    """``none``, ``noise`` or ``sympe``."""
    noise: int = 8
    """Channels of that at the input."""

    def __post_init__(self) -> None:
        if self.width < 1 or self.layers < 0:
            raise UsageError(f"{self.layers} layers of width {self.width}; expected a width of 1 or more")

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, to be kept beside the weights."""
        return asdict(self)


class Messages(nn.Module):
    """A node hears from its neighbours, by a matrix for each kind of edge, and from the mean of its graph."""

    def __init__(self, width: int, edges: int) -> None:
        super().__init__()
        self.width = width
        self.said = nn.Linear(width, edges * width)
        self.norm = nn.LayerNorm(3 * width)
        self.update = nn.Sequential(nn.Linear(3 * width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, h: Tensor, edges: Tensor, exists: Tensor) -> Tensor:
        """Return nodes (N, n, width), of nodes, edges (N, kinds, n, n) and who exists (N, n, 1)."""
        said = self.said(h).unflatten(2, (-1, self.width)).transpose(1, 2)
        heard = torch.matmul(edges, said).sum(1)
        mean = (h * exists).sum(1, keepdim=True) / exists.sum(1, keepdim=True).clamp(min=1)
        return h + self.update(self.norm(torch.cat([h, heard, mean.expand_as(h)], dim=2)))


class StrongVAE(GraphVAE):
    """Graphs to a latent for every slot, and back.

    An empty slot hears nothing and is heard by nobody: more of them change no number of the others.
    """

    def __init__(self, channels: GraphChannels, shape: StrongShape | None = None) -> None:
        shape = shape or StrongShape()
        super().__init__(channels, shape.latent, SymmetryBreaking(shape.symmetry, shape.noise))
        self.shape = shape
        w, d = shape.width, shape.latent
        self.first = nn.Linear(channels.nodes + 1 + self.breaking.channels, w)
        self.messages = nn.ModuleList([Messages(w, channels.edges) for _ in range(shape.layers)])
        self.norm = nn.LayerNorm(w)
        self.mean, self.log_variance = nn.Linear(w, d), nn.Linear(w, d)
        self.node = _perceptron(d, w, 1)
        self.kind = _perceptron(2 * d, w, channels.nodes)
        self.pair = _perceptron(3 * d, w, 1)
        self.bond = _perceptron(3 * d, w, channels.edges)

    def encode(self, batch: GraphBatch, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance (N, latent, n); the latter is kept within what can be exponentiated."""
        nodes = self._with_noise(torch.cat([batch.nodes, batch.exists], dim=1), noise)
        exists, edges = batch.exists.transpose(1, 2), batch.valued_edges
        h = self.first(nodes.transpose(1, 2))
        for layer in self.messages:
            h = layer(h, edges, exists)
        h = self.norm(h)
        return self.mean(h).transpose(1, 2), self.log_variance(h).clamp(-20.0, 10.0).transpose(1, 2)

    def decode_exists(self, z: Tensor) -> Tensor:
        """Return logits (N, 1, n): of each latent alone, since nothing is known yet of the others."""
        return self.node(z.transpose(1, 2)).transpose(1, 2)

    def decode_nodes(self, z: Tensor, exists: Tensor) -> Tensor:
        """Return logits of kinds and means of numbers (N, node kinds + features, n), of a latent and all's mean."""
        mean = (z * exists).sum(2, keepdim=True) / exists.sum(2, keepdim=True).clamp(min=1)
        return self.kind(torch.cat([z, mean.expand_as(z)], dim=1).transpose(1, 2)).transpose(1, 2)

    def decode_adjacency(self, z: Tensor, exists: Tensor) -> Tensor:
        """Return logits (N, 1, n, n), 0 on the diagonal; of pairs of empty slots too."""
        return self._of_pairs(self.pair, z, None)

    def decode_edges(self, z: Tensor, exists: Tensor, adjacency: Tensor) -> Tensor:
        """Return logits of kinds and means of weights (N, edge kinds [+ 1], n, n), 0 on the diagonal."""
        return self._of_pairs(self.bond, z, None)

    def logits(self, z: Tensor, given: GraphBatch) -> GraphLogits:
        """Return the logits of every part; 0 for edges at empty slots, and for kinds where no edge is.

        Pairs are few beside n² where graphs are small: only those are computed.
        """
        with torch.no_grad():
            pairs = (given.exists.unsqueeze(-1) * given.exists.unsqueeze(-2))[:, 0] > 0
            bonds = given.adjacency[:, 0] > 0
        return GraphLogits(
            self.decode_exists(z), self.decode_nodes(z, given.exists), self._of_pairs(self.pair, z, pairs),
            self._of_pairs(self.bond, z, bonds), self.log_variances,
        )  # fmt: skip

    def _of_pairs(self, perceptron: nn.Sequential, z: Tensor, where: Tensor | None) -> Tensor:
        """Return (N, out, n, n) of the unordered pairs that ``where`` (N, n, n) has, or of all; 0 elsewhere."""
        count, d, n = z.shape
        lower = torch.ones(n, n, dtype=torch.bool, device=z.device).tril(-1)
        row, i, j = (lower.expand(count, -1, -1) if where is None else where & lower).nonzero(as_tuple=True)
        nodes = z.transpose(1, 2).reshape(count * n, d)
        one, other = nodes.index_select(0, row * n + i), nodes.index_select(0, row * n + j)
        told = perceptron(torch.cat([one * other, (one - other).square(), one + other], dim=1))
        made = told.new_zeros(count * n * n, told.shape[1])
        both = torch.cat([(row * n + i) * n + j, (row * n + j) * n + i])
        return made.index_copy(0, both, torch.cat([told, told])).view(count, n, n, -1).permute(0, 3, 1, 2)


def _perceptron(before: int, width: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(before, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, after)
    )
