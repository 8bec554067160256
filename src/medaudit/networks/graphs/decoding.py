"""From latents to graphs: a drawn one or the likeliest, hard, and yet with gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from medaudit.errors import UsageError
from medaudit.networks.graphs.batch import GraphBatch
from medaudit.networks.graphs.symmetry import uniform
from medaudit.networks.graphs.vae import GraphVAE


def decode_discrete(
    net: GraphVAE, z: Tensor, tau: float, generators: Sequence[torch.Generator], exists: Tensor | None = None
) -> GraphBatch:
    """Return a graph drawn from p(G|z) for each latent (N, latent, n): B, then V, A and E, each given those before.

    Every part is a Gumbel-softmax with a straight-through gradient (arXiv 1611.01144): values are exactly 0 or 1,
    gradients those of the softmax at temperature ``tau``. A is drawn below the diagonal, mirrored and multiplied by
    BᵀB; E likewise, and multiplied by A. Numbers are their means. ``exists`` (N, 1, n) is taken in place of a drawn B.

    There is a generator for each graph: what it draws does not depend on the others in the batch.
    """
    if tau <= 0:
        raise UsageError(f"a temperature of {tau}; expected more than 0")
    return _decoded(net, z, tau, _Drawn(z, generators, net), exists, (0.0, 0.0))


def decode_most_likely(
    net: GraphVAE, z: Tensor, exists: Tensor | None = None, *, tau: float = 1.0, node_threshold: float = 0.5,
    edge_threshold: float = 0.5,
) -> GraphBatch:  # fmt: skip
    """Return the graph of the likeliest choice at every step, with the gradients of the softmax at ``tau``.

    A node or an edge is there where its probability is above its threshold. Nothing is drawn.
    """
    if tau <= 0 or not (0 < node_threshold < 1 and 0 < edge_threshold < 1):
        raise UsageError(
            f"a temperature of {tau}, thresholds {node_threshold} and {edge_threshold}; expected more than 0, and "
            "thresholds between 0 and 1"
        )
    cuts = torch.logit(torch.tensor([node_threshold, edge_threshold], dtype=torch.float64)).tolist()
    return _decoded(net, z, tau, None, exists, (cuts[0], cuts[1]))


def gumbel(like: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Return standard Gumbel numbers of the shape (N, c, ...) of ``like``, each row from its own generator."""
    return -torch.log(-torch.log(uniform(like.double(), generators).clamp(2**-53, 1 - 2**-53))).to(like.dtype)


def hard_binary(logits: Tensor, tau: float) -> Tensor:
    """Return 1 where logits are above 0, else 0, with the gradient of sigmoid(logits / tau)."""
    return _straight_through((logits / tau).sigmoid(), (logits > 0).to(logits.dtype))


def hard_one_hot(logits: Tensor, tau: float) -> Tensor:
    """Return a one-hot of the largest of logits (N, c, ...), with the gradient of softmax(logits / tau)."""
    hard = torch.zeros_like(logits).scatter_(1, logits.argmax(1, keepdim=True), 1.0)
    return _straight_through((logits / tau).softmax(1), hard)


class _StraightThrough(torch.autograd.Function):
    """The hard value forward, exactly; the soft one's gradient backward."""

    @staticmethod
    def forward(ctx: Any, soft: Tensor, hard: Tensor) -> Tensor:
        return hard.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def _straight_through(soft: Tensor, hard: Tensor) -> Tensor:
    return _StraightThrough.apply(soft, hard)


class _Drawn:
    """The Gumbel numbers of one decode; pairs have theirs below the diagonal."""

    def __init__(self, z: Tensor, generators: Sequence[torch.Generator], net: GraphVAE) -> None:
        count, _, n = z.shape
        kinds = net.channels.node_kinds
        nodes = gumbel(z.new_empty(count, 2 + kinds, n), generators)
        pairs = gumbel(z.new_empty(count, 2 + net.channels.edge_kinds, n * (n - 1) // 2), generators)
        # A difference of two Gumbels decides between the logits 0 and b.
        self.exists, self.kinds = nodes[:, 1:2] - nodes[:, :1], nodes[:, 2:]
        self.adjacency, self.bonds = pairs[:, 1:2] - pairs[:, :1], pairs[:, 2:]


def _decoded(
    net: GraphVAE, z: Tensor, tau: float, drawn: _Drawn | None, exists: Tensor | None, cuts: tuple[float, float]
) -> GraphBatch:
    channels, n = net.channels, z.shape[-1]
    i, j = torch.tril_indices(n, n, -1, device=z.device)
    if exists is None:
        logits = net.decode_exists(z)
        exists = hard_binary(logits - cuts[0] if drawn is None else logits + drawn.exists, tau)
    said = net.decode_nodes(z, exists)
    kinds, numbers = said[:, : channels.node_kinds], said[:, channels.node_kinds :]
    nodes = hard_one_hot(kinds if drawn is None else kinds + drawn.kinds, tau)
    logits = net.decode_adjacency(z, exists)[:, :, i, j]
    below = hard_binary(logits - cuts[1] if drawn is None else logits + drawn.adjacency, tau)
    adjacency = _mirrored(below, n) * (exists.unsqueeze(-1) * exists.unsqueeze(-2))
    said = net.decode_edges(z, exists, adjacency)
    kinds, weights = said[:, : channels.edge_kinds, i, j], said[:, channels.edge_kinds :]
    edges = _mirrored(hard_one_hot(kinds if drawn is None else kinds + drawn.bonds, tau), n) * adjacency
    return GraphBatch(
        exists, torch.cat([nodes, numbers], dim=1) * exists, adjacency, edges,
        weights * adjacency if channels.weighted else None, channels.features,
    )  # fmt: skip


def _mirrored(below: Tensor, n: int) -> Tensor:
    """Return (N, c, n, n), symmetric with a zero diagonal, of (N, c, n (n - 1) / 2) in the order of tril_indices."""
    i, j = torch.tril_indices(n, n, -1, device=below.device)
    full = below.new_zeros(*below.shape[:2], n * n)
    both = torch.cat([i * n + j, j * n + i])
    return full.index_copy(2, both, torch.cat([below, below], dim=2)).unflatten(2, (n, n))
