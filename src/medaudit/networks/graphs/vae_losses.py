"""What an autoencoder of graphs is trained on: the four reconstruction terms, and the divergence from the prior."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional as F

from medaudit.networks.graphs.batch import GraphBatch
from medaudit.networks.graphs.vae import GraphLogits


@dataclass(frozen=True, eq=False)
class ReconstructionLoss:
    """Nats that each part of a graph costs, summed over the graph, mean over the batch."""

    exists: Tensor
    nodes: Tensor
    adjacency: Tensor
    edges: Tensor
    features: Tensor
    weights: Tensor

    @property
    def total(self) -> Tensor:
        """The sum of all parts."""
        return torch.stack([getattr(self, part.name) for part in fields(self)]).sum()


def reconstruction(batch: GraphBatch, logits: GraphLogits, *, paper: bool = False) -> ReconstructionLoss:
    """Return the cost of true graphs under logits that were given the parts before (spec 1.5).

    A node's existence costs a binary cross-entropy in every slot, its kind a cross-entropy where it exists; an edge a
    binary one where both ends exist, its kind a cross-entropy where it is. Numbers cost a Gaussian's, with the
    variances of ``logits``. Each pair counts once: a likelihood. ``paper`` counts as the released code does: both
    (i, j) and (j, i), and no edge from a node to itself.
    """
    count, n = len(batch), batch.size
    kinds, bonds = batch.kinds.shape[1], batch.edges.shape[1]
    pairs = batch.exists.unsqueeze(-1) * batch.exists.unsqueeze(-2)
    counted = torch.ones(n, n, dtype=pairs.dtype, device=pairs.device)
    counted = counted if paper else counted.tril(-1)
    exists = F.binary_cross_entropy_with_logits(logits.exists, batch.exists, reduction="sum")
    nodes = -(batch.kinds * logits.nodes[:, :kinds].log_softmax(1)).sum()
    adjacency = F.binary_cross_entropy_with_logits(logits.adjacency, batch.adjacency, pairs * counted, reduction="sum")
    edges = -(batch.edges * logits.edges[:, :bonds].log_softmax(1) * counted).sum()
    features = _gaussian(
        batch.numbers, logits.nodes[:, kinds:], logits.log_variances[: batch.features, None], batch.exists
    )
    weights = torch.zeros_like(exists)
    if batch.weights is not None:
        spread = logits.log_variances[batch.features :, None, None]
        weights = _gaussian(batch.weights, logits.edges[:, bonds:], spread, batch.adjacency * counted)
    return ReconstructionLoss(*(term / count for term in (exists, nodes, adjacency, edges, features, weights)))


def kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the divergence of N(mean, exp(log_variance)) from N(0, 1): summed over a graph, mean over the batch."""
    return -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum() / len(mean)


def paper_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return what the released code has for it, which takes log sigma for the log-variance.

    Least at the same place, but of another size: at mean 0 and sigma 0.1 it is 0.70 nats instead of 1.81.
    """
    return kl(mean, log_variance / 2)


def beta(step: int, flat: int = 24_000, start: float = 1e-4, rise: float = 1e-4, top: float = 0.5) -> float:
    """Return the weight of the divergence at a step, counted from 0: ``start``, then up by ``rise`` a step to ``top``.

    The paper's code stays flat for 24,000 steps on AIDS, 12,000 on Mutagenicity and NCI1 (spec 1.5).
    """
    return min(top, start + rise * max(0, step - flat + 1))


def _gaussian(values: Tensor, mean: Tensor, log_variance: Tensor, where: Tensor) -> Tensor:
    log_variance = log_variance.clamp(-10.0, 10.0)
    nats = 0.5 * (log_variance + (values - mean).square() * (-log_variance).exp() + math.log(2 * math.pi))
    return (nats * where).sum()
