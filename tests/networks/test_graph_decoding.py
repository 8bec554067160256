"""Decoded graphs: whole and hard, as often as their probabilities say, with the gradients of the soft ones."""

from __future__ import annotations

import pytest
import torch
from random_graphs import CHANNELS, RICH, generators, random_graphs
from scipy.stats import chi2
from torch import Tensor

from medaudit.errors import UsageError
from medaudit.networks.graphs.batch import GraphBatch, GraphChannels, dense, sparse
from medaudit.networks.graphs.decoding import (
    decode_discrete,
    decode_most_likely,
    gumbel,
    hard_binary,
    hard_one_hot,
)
from medaudit.networks.graphs.pegvae import PegShape, PegVAE
from medaudit.networks.graphs.strong import StrongShape, StrongVAE
from medaudit.networks.graphs.symmetry import SymmetryBreaking
from medaudit.networks.graphs.vae import GraphVAE


class Fixed(GraphVAE):
    """The same logits whatever the latents: 3 slots, 3 kinds of nodes, 2 of edges."""

    def __init__(self) -> None:
        super().__init__(GraphChannels(3, 2), 1, SymmetryBreaking())

    def decode_exists(self, z: Tensor) -> Tensor:
        return z.new_tensor([1.5, 0.5, -0.3]).expand(len(z), 1, 3)

    def decode_nodes(self, z: Tensor, exists: Tensor) -> Tensor:
        return z.new_tensor([[0.0, 1.0, -1.0], [1.0, 0.5, 0.0], [-1.0, 0.0, 0.0]]).expand(len(z), 3, 3)

    def decode_adjacency(self, z: Tensor, exists: Tensor) -> Tensor:
        return z.new_tensor([[9.0, -0.4, 0.8], [-0.4, 9.0, 1.2], [0.8, 1.2, 9.0]]).expand(len(z), 1, 3, 3)

    def decode_edges(self, z: Tensor, exists: Tensor, adjacency: Tensor) -> Tensor:
        return torch.stack([self.decode_adjacency(z, exists)[:, 0], torch.zeros_like(adjacency[:, 0])], dim=1)


def nets(channels: GraphChannels = CHANNELS) -> list[GraphVAE]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        made = [
            PegVAE(channels), PegVAE(channels, PegShape(width=8, latent=3, mode="masked")),
            StrongVAE(channels, StrongShape(width=16, layers=1, latent=4)),
        ]  # fmt: skip
    return [one.double() for one in made]


def latents(net: GraphVAE, count: int = 6, n: int = 8, seed: int = 0) -> Tensor:
    drawn = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(count, net.latent, n, generator=drawn, dtype=torch.float64)


def check_whole(found: GraphBatch) -> None:
    a, pairs = found.adjacency, found.exists.unsqueeze(3) * found.exists.unsqueeze(2)
    for hard in (found.exists, found.kinds, a, found.edges):
        assert bool(((hard == 0) | (hard == 1)).all())
    assert torch.equal(a, a.mT)
    assert torch.equal(found.edges, found.edges.mT)
    assert float(a.diagonal(dim1=2, dim2=3).abs().max()) == 0
    assert float((a * (1 - pairs)).abs().max()) == 0
    assert torch.equal(found.edges.sum(1, keepdim=True), a)
    assert torch.equal(found.kinds.sum(1, keepdim=True), found.exists)
    assert float((found.nodes * (1 - found.exists)).abs().max()) == 0
    if found.weights is not None:
        assert torch.equal(found.weights, found.weights.mT)
        assert float((found.weights * (1 - a)).abs().max()) == 0


@pytest.mark.parametrize("channels", [CHANNELS, RICH, GraphChannels(1, 1)])
@pytest.mark.parametrize("which", [0, 1, 2])
@torch.no_grad()
def test_decoded_graphs_are_whole_and_hard(which: int, channels: GraphChannels) -> None:
    net = nets(channels)[which]
    for seed in range(4):
        z = latents(net, seed=seed)
        found = decode_discrete(net, z, 0.7, generators(6, seed))
        check_whole(found)
        assert 0 < float(found.adjacency.sum()) < 6 * 56
        check_whole(decode_most_likely(net, z))
        sparse(found[found.counts > 0], ["x"] * int((found.counts > 0).sum()))


@torch.no_grad()
def test_a_graph_is_drawn_as_often_as_its_logits_say() -> None:
    net, count = Fixed().double(), 3000
    z = torch.zeros(count, 1, 3, dtype=torch.float64)
    found = decode_discrete(net, z, 1.0, generators(count))

    def check(seen: Tensor, probabilities: Tensor) -> None:
        total = float(seen.sum())
        assert total > 400
        statistic = float(((seen - total * probabilities) ** 2 / (total * probabilities)).sum())
        assert statistic < chi2.isf(1e-4, len(seen) - 1)

    def both(there: Tensor) -> Tensor:
        return torch.stack([there.sum(), (1 - there).sum()])

    exists = net.decode_exists(z)[0, 0].sigmoid()
    kinds = net.decode_nodes(z, z)[0].softmax(0)
    edges, bonds = net.decode_adjacency(z, z)[0, 0], net.decode_edges(z, z, found.adjacency)[0].softmax(0)
    for i in range(3):
        check(both(found.exists[:, 0, i]), torch.stack([exists[i], 1 - exists[i]]))
        check(found.kinds[:, :, i].sum(0), kinds[:, i])
    for i, j in ((0, 1), (0, 2), (1, 2)):
        ends = (found.exists[:, 0, i] * found.exists[:, 0, j]) > 0
        there = edges[i, j].sigmoid()
        check(both(found.adjacency[ends, 0, i, j]), torch.stack([there, 1 - there]))
        check(found.edges[:, :, i, j].sum(0), bonds[:, i, j])
    at = found.exists[:, 0, 0], found.exists[:, 0, 1]
    together = float((at[0] * at[1]).mean() - at[0].mean() * at[1].mean())
    assert abs(together) < 4 * 0.25 / count**0.5  # slots are drawn apart


def test_a_hard_choice_has_the_gradient_of_the_soft_one() -> None:
    drawn = torch.Generator().manual_seed(0)
    logits, to = torch.randn(2, 4, 5, 7, generator=drawn, dtype=torch.float64)
    logits.requires_grad_()
    for tau in (0.3, 1.0, 2.5):
        for hard, soft in (
            (hard_one_hot(logits, tau), (logits / tau).softmax(1)),
            (hard_binary(logits, tau), (logits / tau).sigmoid()),
        ):
            assert set(hard.unique().tolist()) == {0.0, 1.0}
            found, wanted = (torch.autograd.grad((of * to).sum(), logits)[0] for of in (hard, soft))
            torch.testing.assert_close(found, wanted, rtol=0, atol=1e-15)
    two = torch.stack([torch.zeros_like(logits), logits], dim=1)
    wanted = torch.autograd.grad(((two / 0.3).softmax(1)[:, 1] * to).sum(), logits)[0]
    found = torch.autograd.grad((hard_binary(logits, 0.3) * to).sum(), logits)[0]
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-14)  # one logit is two, 0 and b


def test_the_softmax_of_a_low_temperature_is_the_hard_choice() -> None:
    logits = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close((logits / 1e-4).softmax(1), hard_one_hot(logits, 1e-4), rtol=0, atol=1e-6)


def test_gumbel_numbers_have_gumbels_moments() -> None:
    drawn = gumbel(torch.zeros(10, 4, 2000, dtype=torch.float64), generators(10))
    assert float(drawn.mean()) == pytest.approx(0.57722, abs=4 * 1.2825 / 80_000**0.5)
    assert float(drawn.var()) == pytest.approx(torch.pi**2 / 6, rel=0.03)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_gradients_reach_every_latent_through_hard_graphs(which: int) -> None:
    net = nets(RICH)[which]
    z = latents(net).requires_grad_()
    drawn = torch.Generator().manual_seed(1)
    for found in (decode_discrete(net, z, 1.0, generators(6)), decode_most_likely(net, z)):
        for part in ("exists", "nodes", "adjacency", "edges", "weights"):
            values = getattr(found, part)
            to = torch.randn(values.shape, generator=drawn, dtype=torch.float64)
            gradient = torch.autograd.grad((values * to).sum(), z, retain_graph=True)[0]
            assert bool(torch.isfinite(gradient).all())
            reached = gradient.abs().amax(1)
            # An edge tells of a slot only where one is drawn.
            assert float(reached.min() if part in ("exists", "nodes") else reached.max()) > 0


@pytest.mark.parametrize("which", [0, 1, 2])
@torch.no_grad()
def test_what_a_graph_draws_does_not_depend_on_its_batch(which: int) -> None:
    net = nets(RICH)[which]
    z = latents(net)
    whole = decode_discrete(net, z, 1.0, generators(6))
    for row in range(6):
        alone = decode_discrete(net, z[row : row + 1], 1.0, generators(1, row))
        for part in ("exists", "kinds", "adjacency", "edges"):
            assert torch.equal(getattr(alone, part)[0], getattr(whole, part)[row])
    turned = decode_discrete(net, z.flip(0), 1.0, generators(6)[::-1])
    assert torch.equal(turned.adjacency.flip(0), whole.adjacency)
    again = generators(6)
    first = [decode_discrete(net, z, 1.0, again).adjacency for _ in range(2)]
    assert torch.equal(first[0], whole.adjacency)
    assert not torch.equal(first[1], whole.adjacency)  # a generator goes on


@torch.no_grad()
def test_existence_may_be_given() -> None:
    given = dense(random_graphs(6), CHANNELS, 9, dtype=torch.float64)
    for net in nets():
        z = latents(net, n=9)
        for found in (
            decode_discrete(net, z, 1.0, generators(6), given.exists),
            decode_most_likely(net, z, given.exists),
        ):
            assert torch.equal(found.exists, given.exists)
            check_whole(found)


@torch.no_grad()
def test_the_likeliest_graph_is_read_off_the_logits() -> None:
    net, z = Fixed().double(), torch.zeros(2, 1, 3, dtype=torch.float64)
    (found, _) = sparse(decode_most_likely(net, z), "ab")
    assert found.nodes.tolist() == [1, 0]
    assert found.edges.tolist() == []
    (found, _) = sparse(decode_most_likely(net, z, node_threshold=0.4, edge_threshold=0.39), "ab")
    assert found.nodes.tolist() == [1, 0, 1]
    assert found.edges.tolist() == [[0, 1], [0, 2], [1, 2]]
    assert found.edge_kinds.tolist() == [1, 0, 0]
    (found, _) = sparse(decode_most_likely(net, z, node_threshold=0.4, edge_threshold=0.7), "ab")
    assert found.edges.tolist() == [[1, 2]]


def test_what_cannot_be_decoded_is_refused() -> None:
    net = nets()[2]
    for asked in (
        lambda: decode_discrete(net, latents(net), 0.0, generators(6)),
        lambda: decode_discrete(net, latents(net), 1.0, generators(5)),
        lambda: decode_most_likely(net, latents(net), edge_threshold=1.0),
    ):
        with pytest.raises(UsageError, match="expected"):
            asked()
