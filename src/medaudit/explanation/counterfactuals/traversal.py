"""Counterfactuals by a walk through the latent space of an autoencoder (CGCF, arXiv 2501.08850), and ours.

The paper's walk minimises minus the logit of the wanted class plus the norm of z, from z of the graph, with one Adam
over all graphs, on a random decode at each step. Ours keeps near z of the graph, asks for a margin, steps each graph by
itself until it has flipped, and decodes several times; what it proposes is checked and made minimal afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medaudit.cohort.graphs import Graph
from medaudit.errors import UsageError
from medaudit.explanation.counterfactuals.black_box import BlackBox
from medaudit.explanation.counterfactuals.slots import EMPTY, Slots, transferred
from medaudit.networks.graphs.batch import GraphBatch
from medaudit.networks.graphs.decoding import decode_discrete, decode_most_likely
from medaudit.networks.graphs.vae import GraphVAE
from medaudit.training.graphs.vae import latents, seed_of


@dataclass(frozen=True)
class Walk:
    """How far and how a walk goes."""

    steps: int = 300
    rate: float = 0.05
    """Of Adam."""
    proximity: float = 0.05
    """Weight of the mean squared distance from z of the graph."""
    margin: float = 0.5
    """Of logits, by which the wanted class should lead."""
    decodes: int = 4
    """Random decodes proposed beside the likeliest, at the end of each walk."""
    tau: float = 1.0

    def __post_init__(self) -> None:
        if min(self.steps, 1 + self.decodes) < 1 or min(self.rate, self.tau) <= 0 or self.proximity < 0:
            raise UsageError("a walk needs a step, a rate and a temperature above 0, and no negative weight")


@dataclass(frozen=True, eq=False)
class Walked:
    """Where a walk ended."""

    proposals: list[Slots]
    """Decodes at its end, and the graph itself with what changed from the decode at its start."""
    start: Slots
    """The decode at its start: how the autoencoder rebuilds the graph."""
    z: np.ndarray
    """(latent, n) at the end."""
    z0: np.ndarray
    """At the start."""
    steps: int
    """Until the likeliest decode flipped; all of them where it did not."""
    flipped: bool
    """Whether it did, as the classifier's logits of the dense graph say."""


def in_slots(batch: GraphBatch) -> list[Slots]:
    """Return hard graphs of a batch in their slots."""
    exists = batch.exists[:, 0].detach().numpy() > 0.5
    kinds = np.where(exists, batch.kinds.detach().argmax(1).numpy(), EMPTY)
    there = batch.adjacency[:, 0].detach().numpy() > 0.5
    bonds = np.where(there, batch.edges.detach().argmax(1).numpy() + 1, 0)
    weights = None if batch.weights is None else batch.weights[:, 0].detach().double().numpy()
    numbers = batch.numbers.detach().double().numpy().transpose(0, 2, 1) if batch.features else None
    return [
        Slots(kinds[k], bonds[k], None if weights is None else weights[k], None if numbers is None else numbers[k])
        for k in range(len(batch))
    ]


def nodes_of(graphs: Sequence[Graph], size: int) -> Tensor:
    """Return (N, 1, size): 1 where a graph has a node."""
    counts = torch.tensor([graph.n for graph in graphs])
    return (torch.arange(size) < counts[:, None, None]).float()


def walk(
    vae: GraphVAE, box: BlackBox, graphs: Sequence[Graph], targets: Sequence[int], size: int, how: Walk, *,
    seed: int = 0, keep_nodes: bool = False, batch: int = 64,
) -> list[Walked]:  # fmt: skip
    """Return our walk of each graph towards its target class.

    ``keep_nodes`` decodes with the graph's own nodes: for graphs whose nodes are matched. A graph's walk depends on
    its id, the seed and nothing else: not on which others are walked with it, beyond rounding. Raises UsageError for a
    classifier without gradients.
    """
    found: list[Walked] = []
    for start in range(0, len(graphs), batch):
        part = slice(start, start + batch)
        found += _walked(vae, box, graphs[part], list(targets[part]), size, how, seed, keep_nodes)
    return found


def _walked(
    vae: GraphVAE, box: BlackBox, graphs: Sequence[Graph], targets: Sequence[int], size: int, how: Walk, seed: int,
    keep_nodes: bool,
) -> list[Walked]:  # fmt: skip
    z0 = latents(vae, graphs, size, seed=seed)
    wanted = torch.as_tensor(targets)
    given = nodes_of(graphs, size) if keep_nodes else None
    draws = [torch.Generator().manual_seed(seed_of(graph.id, seed + 1)) for graph in graphs]
    z, ends, steps = z0.clone(), z0.clone(), np.full(len(graphs), how.steps)
    moment, square = torch.zeros_like(z), torch.zeros_like(z)
    flipped = torch.zeros(len(graphs), dtype=torch.bool)
    active = torch.arange(len(graphs))
    for step in range(1, how.steps + 1):
        here = z[active].requires_grad_(True)
        nodes = None if given is None else given[active]
        made = decode_most_likely(vae, here, nodes, tau=how.tau)
        logits = box.logits(made)
        if logits is None:
            raise UsageError("the classifier has no gradients to lead a walk; ask for --method search")
        lead = _lead(logits, wanted[active])
        done = lead.detach() > 0
        rows = active[done]
        ends[rows], flipped[rows] = z[rows], True
        steps[rows.numpy()] = step - 1
        if bool(done.all()):
            break
        left = ~done
        active, lead = active[left], lead[left]
        # Every other step on a random decode: a hard decode stays the same over long ways, and its gradient with it.
        # Only who still walks draws: else what a graph draws at its end would depend on who walks beside it.
        if step % 2 == 0:
            nodes = None if nodes is None else nodes[left]
            logits = box.logits(decode_discrete(vae, here[left], how.tau, [draws[k] for k in active.tolist()], nodes))
            assert logits is not None
            lead = _lead(logits, wanted[active])
        far = (here[left] - z0[active]).square().mean((1, 2)).sum()
        (gradient,) = torch.autograd.grad((how.margin - lead).clamp(min=0).sum() + how.proximity * far, here)
        gradient = gradient[left]
        moment[active] = 0.9 * moment[active] + 0.1 * gradient
        square[active] = 0.99 * square[active] + 0.01 * gradient.square()
        ahead = (moment[active] / (1 - 0.9**step)) / ((square[active] / (1 - 0.99**step)).sqrt() + 1e-8)
        z[active] = z[active] - how.rate * ahead
    rows = (~flipped).nonzero()[:, 0]
    ends[rows] = z[rows]
    with torch.no_grad():
        begins = in_slots(decode_most_likely(vae, z0, given))
        likeliest = in_slots(decode_most_likely(vae, ends, given))
        more = [in_slots(decode_discrete(vae, ends, how.tau, draws, given)) for _ in range(how.decodes)]
    found = []
    for k, graph in enumerate(graphs):
        own = Slots.of(graph, size)
        decodes = [likeliest[k], *[one[k] for one in more]]
        proposals = [transferred(own, begins[k], decodes[0]), *decodes]
        proposals += [transferred(own, begins[k], one) for one in decodes[1:]]
        found.append(
            Walked(
                proposals, begins[k], ends[k].double().numpy(), z0[k].double().numpy(), int(steps[k]), bool(flipped[k])
            )
        )
    return found


def published_walk(
    vae: GraphVAE, box: BlackBox, graphs: Sequence[Graph], targets: Sequence[int], size: int, *, steps: int = 1_000,
    rate: float = 0.05, weight: float = 1.0, tau: float = 1.0, seed: int = 0, keep_nodes: bool = False,
) -> list[Walked]:  # fmt: skip
    """Return the paper's walk, as its released code has it (spec 1.7): one decode a graph is proposed.

    Minus the raw logit of the target, plus ``weight`` times the norm of z itself; a graph whose random decode is at the
    target costs nothing at that step, though Adam's momentum still moves it; the result is one more random decode.
    ``keep_nodes`` as in :func:`walk`.
    """
    draws = [torch.Generator().manual_seed(seed_of(graph.id, seed + 1)) for graph in graphs]
    z0 = latents(vae, graphs, size, seed=seed)
    z = z0.clone().requires_grad_(True)
    wanted = torch.as_tensor(list(targets))
    optimizer = torch.optim.Adam([z], lr=rate)
    first = np.full(len(graphs), steps)
    given = nodes_of(graphs, size) if keep_nodes else None
    for step in range(steps):
        logits = box.logits(decode_discrete(vae, z, tau, draws, given))
        if logits is None:
            raise UsageError("the classifier has no gradients; the paper's walk needs them")
        at = logits.argmax(1) == wanted
        first[(at.numpy()) & (first == steps)] = step
        cost = -logits.gather(1, wanted[:, None])[:, 0] + weight * z.flatten(1).norm(dim=1)
        loss = torch.where(at, torch.zeros_like(cost), cost).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        begins = in_slots(decode_most_likely(vae, z0, given))
        made = decode_discrete(vae, z, tau, draws, given)
        logits = box.logits(made)
        assert logits is not None
        flips = (logits.argmax(1) == wanted).numpy()
        ends = in_slots(made)
    return [
        Walked(
            [ends[k]], begins[k], z[k].detach().double().numpy(), z0[k].double().numpy(), int(first[k]), bool(flips[k])
        )
        for k in range(len(graphs))
    ]


def _lead(logits: Tensor, wanted: Tensor) -> Tensor:
    """Return by how much the wanted class is ahead of the best other, (N,)."""
    own = logits.gather(1, wanted[:, None])[:, 0]
    others = logits.scatter(1, wanted[:, None], -torch.inf).amax(1)
    return own - others
