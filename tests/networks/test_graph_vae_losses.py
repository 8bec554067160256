"""What autoencoders of graphs are charged: by hand, against torch's distributions, and the released code's way."""

from __future__ import annotations

import math

import pytest
import torch
from random_graphs import RICH, random_graphs
from torch.distributions import Normal, kl_divergence

from medaudit.cohort.graphs import Graph
from medaudit.networks.graphs.batch import GraphChannels, dense
from medaudit.networks.graphs.vae import GraphLogits
from medaudit.networks.graphs.vae_losses import beta, kl, paper_kl, reconstruction


def path() -> tuple[object, GraphLogits]:
    """Return A - B = A in four slots, and logits."""
    given = dense([Graph.of("path", [0, 1, 0], [[0, 1], [1, 2]], [0, 1])], GraphChannels(2, 2), 4, dtype=torch.float64)
    exists = torch.tensor([[[2.0, 1.0, 0.5, -1.0]]], dtype=torch.float64)
    nodes = torch.tensor([[[1.0, 0.0, 3.0, 9.0], [0.0, 2.0, 1.0, -9.0]]], dtype=torch.float64)
    adjacency = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    edges = torch.zeros(1, 2, 4, 4, dtype=torch.float64)
    for (i, j), a, e in (((0, 1), 1.5, 0.5), ((1, 2), -0.5, -2.0), ((0, 2), 0.7, 8.0), ((0, 3), 9.0, 9.0)):
        adjacency[0, 0, i, j] = adjacency[0, 0, j, i] = a
        edges[0, 0, i, j] = edges[0, 0, j, i] = e
    adjacency[0, 0].diagonal().copy_(torch.tensor([0.1, 0.2, 0.3, 4.0], dtype=torch.float64))
    return given, GraphLogits(exists, nodes, adjacency, edges, torch.zeros(0))


def yes(logit: float) -> float:
    """Return the nats of what a logit says is there."""
    return math.log(1 + math.exp(-logit))


def test_a_path_of_three_costs_what_it_does_by_hand() -> None:
    loss = reconstruction(*path())
    exists = yes(2) + yes(1) + yes(0.5) + yes(1)
    nodes = yes(1) + yes(2) + yes(2)
    adjacency, edges = yes(1.5) + yes(-0.5) + yes(-0.7), yes(0.5) + yes(2)
    for part, wanted in (("exists", exists), ("nodes", nodes), ("adjacency", adjacency), ("edges", edges)):
        assert float(getattr(loss, part)) == pytest.approx(wanted, abs=1e-12)
    assert float(loss.features) == float(loss.weights) == 0
    assert float(loss.total) == pytest.approx(exists + nodes + adjacency + edges, abs=1e-12)
    paper = reconstruction(*path(), paper=True)
    diagonal = yes(-0.1) + yes(-0.2) + yes(-0.3)
    assert float(paper.adjacency) == pytest.approx(2 * adjacency + diagonal, abs=1e-12)
    assert float(paper.edges) == pytest.approx(2 * edges, abs=1e-12)
    assert float(paper.exists) == pytest.approx(exists, abs=1e-12)


def test_the_papers_terms_are_those_of_torchs_losses() -> None:
    """As the code has them: a BCE of sigmoid(logit) * BᵀB and cross-entropies of masked logits (spec 1.5)."""
    given, logits = path()
    pairs = given.exists.mT * given.exists
    functional = torch.nn.functional
    adjacency = functional.binary_cross_entropy(logits.adjacency.sigmoid() * pairs, given.adjacency, reduction="sum")
    edges = functional.cross_entropy(logits.edges * given.adjacency, given.edges, reduction="sum")
    nodes = functional.cross_entropy(logits.nodes * given.exists, given.kinds, reduction="sum")
    loss = reconstruction(given, logits, paper=True)
    for found, wanted in ((loss.adjacency, adjacency), (loss.edges, edges), (loss.nodes, nodes)):
        assert float(found) == pytest.approx(float(wanted), abs=1e-12)


def test_numbers_cost_a_gaussians_nats() -> None:
    graphs = random_graphs(4, RICH)
    given = dense(graphs, RICH, 10, dtype=torch.float64)
    drawn = torch.Generator().manual_seed(0)
    nodes = torch.randn(4, 6, 10, generator=drawn, dtype=torch.float64)
    edges = torch.randn(4, 4, 10, 10, generator=drawn, dtype=torch.float64)
    spread = torch.tensor([0.3, -1.0, 0.8], dtype=torch.float64)
    loss = reconstruction(given, GraphLogits(given.exists, nodes, given.adjacency, edges + edges.mT, spread))
    features = weights = 0.0
    for row, graph in enumerate(graphs):
        for k in range(2):
            gaussian = Normal(nodes[row, 4 + k, : graph.n], (spread[k] / 2).exp())
            features -= float(gaussian.log_prob(torch.from_numpy(graph.features[:, k])).sum()) / 4
        i, j = torch.from_numpy(graph.edges).T
        gaussian = Normal((edges + edges.mT)[row, 3, i, j], (spread[2] / 2).exp())
        weights -= float(gaussian.log_prob(torch.from_numpy(graph.weights)).sum()) / 4
    assert float(loss.features) == pytest.approx(features, abs=1e-10)
    assert float(loss.weights) == pytest.approx(weights, abs=1e-10)


def test_the_divergence_is_torchs() -> None:
    drawn = torch.Generator().manual_seed(0)
    mean, log_variance = torch.randn(2, 7, 3, 5, generator=drawn, dtype=torch.float64)
    wanted = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).sum() / 7
    assert float(kl(mean, log_variance)) == pytest.approx(float(wanted), rel=1e-12)
    q, draws = Normal(mean, (log_variance / 2).exp()), 4000
    torch.manual_seed(0)
    z = q.sample((draws,))
    found = (q.log_prob(z) - Normal(0.0, 1.0).log_prob(z)).sum((1, 2, 3)) / 7
    assert abs(float(found.mean() - wanted)) < 3 * float(found.std()) / draws**0.5


def test_the_papers_divergence_takes_log_sigma_for_the_log_variance() -> None:
    mean = torch.zeros(1, 1, 1, dtype=torch.float64)
    log_variance = torch.full_like(mean, 2 * math.log(0.1))
    assert float(kl(mean, log_variance)) == pytest.approx(1.81, abs=5e-3)
    assert float(paper_kl(mean, log_variance)) == pytest.approx(0.70, abs=5e-3)
    assert float(paper_kl(mean, log_variance)) == pytest.approx(-0.5 * (1 + math.log(0.1) - 0.1), rel=1e-12)
    at = torch.zeros(2, 1, 1, dtype=torch.float64, requires_grad=True)
    assert paper_kl(at[:1], at[1:]).item() == 0
    assert torch.autograd.grad(paper_kl(at[:1], at[1:]), at)[0].abs().max() == 0  # least at the same place


def test_beta_stays_then_rises_then_stays() -> None:
    assert beta(0) == beta(23_999) == 1e-4
    assert beta(24_000) == pytest.approx(2e-4)
    assert beta(24_000 + 4_000) == pytest.approx(0.4002)
    assert beta(10**6) == 0.5
    assert beta(12_000, flat=12_000) == pytest.approx(2e-4)
