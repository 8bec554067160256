"""Autoencoders of graphs: numbering and padding change nothing, symmetry is broken only by what is drawn."""

from __future__ import annotations

import math

import pytest
import torch
from random_graphs import CHANNELS, RICH, generators, random_graphs, ring
from torch import Tensor
from torch.nn import functional as F

from medaudit.errors import UsageError
from medaudit.networks.graphs.batch import GraphBatch, GraphChannels, dense, sparse
from medaudit.networks.graphs.decoding import decode_most_likely
from medaudit.networks.graphs.pegvae import PegShape, PegVAE, instance_norm
from medaudit.networks.graphs.strong import StrongShape, StrongVAE
from medaudit.networks.graphs.symmetry import SymmetryBreaking, normal, uniform
from medaudit.networks.graphs.vae import GraphVAE
from medaudit.networks.graphs.vae_losses import kl, reconstruction

SHAPES = {
    "paper": PegShape(),
    "paper, wide latent": PegShape(width=12, latent=3),
    "masked": PegShape(mode="masked"),
    "masked, noise": PegShape(width=12, latent=4, mode="masked", symmetry="noise", noise=3),
    "strong": StrongShape(width=24, layers=2, latent=4),
    "strong, wide": StrongShape(layers=3, symmetry="sympe"),
    "strong, wide, none": StrongShape(layers=3, symmetry="none"),
    "strong, sympe": StrongShape(width=24, layers=2, latent=4, symmetry="sympe", noise=4),
    "strong, none": StrongShape(width=24, layers=3, latent=4, symmetry="none"),
}
MASKED = [name for name, shape in SHAPES.items() if getattr(shape, "mode", "masked") == "masked"]


def net(name: str, channels: GraphChannels = CHANNELS, dtype: torch.dtype = torch.float64) -> GraphVAE:
    shape = SHAPES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        made = PegVAE(channels, shape) if isinstance(shape, PegShape) else StrongVAE(channels, shape)
    return made.to(dtype)


def batch(channels: GraphChannels = CHANNELS, size: int = 11, count: int = 5) -> GraphBatch:
    return dense(random_graphs(count, channels), channels, size, dtype=torch.float64)


def moved(values: Tensor, order: Tensor) -> Tensor:
    values = values[..., order]
    return values[..., order, :] if values.ndim == 4 else values


@pytest.mark.parametrize("channels", [CHANNELS, RICH])
@pytest.mark.parametrize("size", [9, 14])
@pytest.mark.parametrize("name", list(SHAPES))
@torch.no_grad()
def test_renumbering_the_nodes_renumbers_latents_and_graphs(name: str, size: int, channels: GraphChannels) -> None:
    made, given = net(name, channels), batch(channels, size)
    order = torch.randperm(size, generator=torch.Generator().manual_seed(size))
    noise = made.noise(given, generators(5))
    latents, other = made.encode(given, noise), made.encode(given.permuted(order), noise[..., order])
    for a, b in zip(latents, other, strict=True):
        assert float((moved(a, order) - b).abs().max()) < 1e-12
    z = made.sample(*latents, generators(5))
    exists = given.exists
    for decode, conditions in (
        (made.decode_exists, ()), (made.decode_nodes, (exists,)), (made.decode_adjacency, (exists,)),
        (made.decode_edges, (exists, given.adjacency)),
    ):  # fmt: skip
        a, b = decode(z, *conditions), decode(moved(z, order), *[moved(c, order) for c in conditions])
        assert float(a.abs().max()) > 0
        assert float((moved(a, order) - b).abs().max()) < 1e-12
        if a.ndim == 4:
            assert torch.equal(a, a.mT)


@pytest.mark.parametrize("name", MASKED)
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@torch.no_grad()
def test_empty_slots_change_no_number_of_a_node(name: str, dtype: torch.dtype, near: float) -> None:
    made = net(name, RICH, dtype)
    small = dense(random_graphs(6, RICH), RICH, 30, dtype=dtype)
    large = small.padded(50)
    found = {}
    for given in (small, large):
        mean, log_variance = made.encode(given, made.noise(given, generators(6)))
        z = made.sample(mean, log_variance, generators(6, 100))
        logits = made.logits(z, given)
        pairs = given.exists.unsqueeze(3) * given.exists.unsqueeze(2)
        apart = 1 - torch.eye(given.size, dtype=dtype)
        found[given.size] = [
            (mean * given.exists)[..., :30], (log_variance * given.exists)[..., :30], logits.exists[..., :30],
            (logits.nodes * given.exists)[..., :30], (logits.adjacency * pairs * apart)[..., :30, :30],
            (logits.edges * given.adjacency)[..., :30, :30],
        ]  # fmt: skip
    for a, b in zip(found[30], found[50], strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=near)


@torch.no_grad()
def test_empty_slots_do_change_the_papers_latents() -> None:
    made = net("paper")
    small = dense(random_graphs(6), CHANNELS, 30, dtype=torch.float64)
    means = [made.encode(given)[0][..., :30] * small.exists for given in (small, small.padded(50))]
    assert float((means[0] - means[1]).abs().max()) > 0.05


@pytest.mark.parametrize("name", ["paper", "paper, wide latent", "masked", "strong, none"])
@pytest.mark.parametrize("size", [6, 10])
@torch.no_grad()
def test_a_ring_cannot_be_rebuilt_from_its_latents(name: str, size: int) -> None:
    made, given = net(name), dense([ring(6)], CHANNELS, size, dtype=torch.float64)
    mean, _ = made.encode(given)
    inside = mean[..., :6]
    assert float((inside - inside[..., :1]).abs().max()) < 1e-12
    logits = made.decode_adjacency(mean, given.exists)[0, 0, :6, :6]
    apart = logits[~torch.eye(6, dtype=torch.bool)]
    assert float((apart - apart[0]).abs().max()) < 1e-11


@pytest.mark.parametrize("name", ["masked, noise", "strong", "strong, sympe"])
@torch.no_grad()
def test_what_is_drawn_tells_the_nodes_of_a_ring_apart(name: str) -> None:
    made, given = net(name), dense([ring(6)], CHANNELS, 8, dtype=torch.float64)
    mean, _ = made.encode(given, made.noise(given, generators(1)))
    between = (mean[..., :6, None] - mean[..., None, :6]).abs().amax((0, 1))
    assert float(between[~torch.eye(6, dtype=torch.bool)].min()) > 1e-4
    logits = made.decode_adjacency(mean, given.exists)[0, 0, :6, :6]
    assert len(logits[torch.ones(6, 6).tril(-1) > 0].unique()) == 15


def test_the_papers_net_has_as_many_parameters_as_was_counted() -> None:
    """38.8k for AIDS (spec 1.4); the biases that are never added are 220 more."""
    made = PegVAE(GraphChannels(9, 3))
    unused = sum(p.numel() for name, p in made.named_parameters() if name.endswith("layer.bias"))
    assert sum(p.numel() for p in made.parameters()) - unused == 38_816
    assert unused == 220
    done = made(dense(random_graphs(3), GraphChannels(9, 3)))
    reconstruction(dense(random_graphs(3), GraphChannels(9, 3)), done.logits).total.backward()
    assert {name for name, p in made.named_parameters() if p.grad is None and p.numel()} <= {
        name for name, _ in made.named_parameters() if name.endswith("layer.bias")
    }


@pytest.mark.parametrize("name", list(SHAPES))
def test_a_graphs_numbers_know_no_other_graph_of_the_batch(name: str) -> None:
    made, given = net(name, RICH), batch(RICH)
    whole = made(given, generators(5))
    alone = made(given[[3]], generators(1, 3)).logits
    for part in ("exists", "nodes", "adjacency", "edges"):
        torch.testing.assert_close(getattr(alone, part)[0], getattr(whole.logits, part)[3], rtol=0, atol=1e-12)
    first = made(given, torch.Generator().manual_seed(0)).z
    assert torch.equal(first, made(given, torch.Generator().manual_seed(0)).z)


@torch.no_grad()
def test_training_computes_only_what_is_charged() -> None:
    made, given = net("strong", RICH), batch(RICH)
    z = made(given, generators(5)).z
    logits, full = made.logits(z, given), made.decode_adjacency(z, given.exists)
    pairs = given.exists.unsqueeze(3) * given.exists.unsqueeze(2)
    torch.testing.assert_close(logits.adjacency, full * pairs, rtol=0, atol=1e-13)
    bonds = made.decode_edges(z, given.exists, given.adjacency) * given.adjacency
    torch.testing.assert_close(logits.edges, bonds, rtol=0, atol=1e-13)
    assert float(full[..., -1, -2].abs().min()) > 0


def test_instance_norm_is_torchs_over_the_nodes_that_exist() -> None:
    given, x = batch(), torch.randn(5, 4, 11, 11, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pairs = given.exists.unsqueeze(3) * given.exists.unsqueeze(2)
    found = instance_norm(x, pairs)
    for row, n in enumerate(given.counts.int().tolist()):
        wanted = torch.zeros_like(x[row])
        wanted[:, :n, :n] = F.instance_norm(x[row : row + 1, :, :n, :n])[0]
        torch.testing.assert_close(found[row], wanted, rtol=0, atol=1e-12)
    torch.testing.assert_close(instance_norm(x, torch.ones_like(pairs)), F.instance_norm(x), rtol=0, atol=1e-12)


def test_the_papers_pair_of_one_latent_has_one_number() -> None:
    z = torch.tensor([[[1.0, -2.0, 0.5]]], dtype=torch.float64)
    exists = torch.tensor([[[1.0, 1.0, 0.0]]], dtype=torch.float64)
    found = net("paper")._products(z, exists)
    wanted = [[2.0, -1.0, 0.5], [-1.0, 5.0, -1.0], [0.5, -1.0, 0.25]]
    assert found.tolist() == [[wanted]]
    assert net("paper, wide latent")._products(z.expand(-1, 3, -1), exists).shape == (1, 4, 3, 3)


@pytest.mark.parametrize("way", ["noise", "sympe"])
def test_draws_are_a_graphs_own_and_nothing_where_no_node_is(way: str) -> None:
    breaking, exists = SymmetryBreaking(way, 4), batch().exists
    drawn = breaking.draw(exists, generators(5))
    assert drawn.shape == (5, 4, 11)
    assert float((drawn * (1 - exists)).abs().max()) == 0
    torch.testing.assert_close(breaking.draw(exists[2:3], generators(1, 2)), drawn[2:3])
    more = breaking.draw(F.pad(exists, (0, 7)), generators(5))
    torch.testing.assert_close(more[..., :11], drawn)
    for row, n in enumerate(exists.sum((1, 2)).int().tolist()):  # no two nodes alike
        apart = (drawn[row, :, :n, None] - drawn[row, :, None, :n]).abs().amax(0) + torch.eye(n)
        assert float(apart.min()) > 1e-3
    assert SymmetryBreaking().draw(exists).shape == (5, 0, 11)


def test_sympe_is_a_place_in_an_order_that_is_drawn() -> None:
    exists = torch.tensor([[[1.0, 0.0, 1.0, 1.0]]]).expand(3000, -1, -1)
    drawn = SymmetryBreaking("sympe", 2).draw(exists, torch.Generator().manual_seed(0))
    places = torch.round(torch.atan2(drawn[:, 0], drawn[:, 1]) / (torch.pi / 2)).remainder(4)[:, [0, 2, 3]]
    assert bool((places.sort(1).values == torch.arange(3.0)).all())
    orders = {tuple(row): 0 for row in places.tolist()}
    for row in places.tolist():
        orders[tuple(row)] += 1
    assert len(orders) == 6
    assert sum((seen - 500) ** 2 / 500 for seen in orders.values()) < 20.5  # chi-square of 5, p = 0.001


def test_normal_numbers_are_normal() -> None:
    like = torch.zeros(20, 3, 400, dtype=torch.float64)
    for drawn in (normal(like, generators(20)), normal(like, torch.Generator().manual_seed(0))):
        assert abs(float(drawn.mean())) < 4 / 24_000**0.5
        assert float(drawn.var()) == pytest.approx(1, abs=4 * (2 / 24_000) ** 0.5)
        assert float((drawn**4).mean()) == pytest.approx(3, abs=4 * (96 / 24_000) ** 0.5)
    assert torch.equal(uniform(like, generators(20))[7], uniform(like[:1], generators(1, 7))[0])


def trained(name: str, given: GraphBatch, steps: int, rate: float) -> GraphVAE:
    made, drawn = net(name, dtype=torch.float32), torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(made.parameters(), rate)
    for _ in range(steps):
        done = made(given, drawn)
        loss = reconstruction(given, done.logits).total + 1e-3 * kl(done.mean, done.log_variance)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return made


def test_the_net_can_do_its_work() -> None:
    graphs = random_graphs(6)
    given = dense(graphs, CHANNELS, 9)
    made = trained("strong", given, 300, 4e-3)
    found = decode_most_likely(made, made.encode(given, made.noise(given, generators(6)))[0])
    for graph, back in zip(graphs, sparse(found, "abcdef"), strict=True):
        assert back.nodes.tolist() == graph.nodes.tolist()
        assert back.edges.tolist() == graph.edges.tolist()
        assert back.edge_kinds.tolist() == graph.edge_kinds.tolist()


def test_rings_are_learned_with_places_drawn_and_cannot_be_without() -> None:
    """A ring of six has 6 edges in 15 pairs; whoever cannot tell pairs apart pays at least 10.1 nats for that."""
    rings = dense([ring(6)] * 8, CHANNELS, 6)
    least = -(6 * math.log(6 / 15) + 9 * math.log(9 / 15))
    cost = {}
    for name in ("strong, wide", "strong, wide, none"):
        made = trained(name, rings, 250, 2e-3)
        mean, _ = made.encode(rings, made.noise(rings, generators(8)))
        cost[name] = reconstruction(rings, made.logits(mean, rings)).adjacency.item()
    assert cost["strong, wide, none"] >= least - 1e-4
    assert cost["strong, wide"] < 0.7 * least


def test_what_makes_no_net_is_refused() -> None:
    for asked in (
        lambda: PegShape(mode="sum"), lambda: StrongShape(width=0), lambda: PegShape(width=0),
        lambda: StrongVAE(CHANNELS, StrongShape(latent=0)), lambda: StrongVAE(CHANNELS, StrongShape(symmetry="luck")),
        lambda: SymmetryBreaking("sympe", 3), lambda: net("strong").encode(batch()),
        lambda: net("strong").encode(batch(), torch.zeros(5, 3, 11)), lambda: net("strong")(batch(), generators(4)),
    ):  # fmt: skip
        with pytest.raises(UsageError, match="expected"):
            asked()
    assert PegShape(**SHAPES["masked, noise"].as_dict()) == SHAPES["masked, noise"]
    assert StrongShape(**SHAPES["strong"].as_dict()) == SHAPES["strong"]
