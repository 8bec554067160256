"""Counterfactuals by single edits: no generator, the edit that helps most first, led by gradients where there are any.

What a generator has to beat on distance: searches of this kind (OBS of Abrate & Bonchi, KDD 2021, is the random one)
are often nearer, and know nothing of what graphs of the kind look like.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch

from medaudit.explanation.counterfactuals.black_box import BlackBox
from medaudit.explanation.counterfactuals.minimal import judged, margin
from medaudit.explanation.counterfactuals.slots import EMPTY, Constraints, Slots
from medaudit.networks.graphs.batch import GraphBatch, GraphChannels, dense

_LOOKED_AT = 16
"""Edits that are looked at for each that is tried."""


@dataclass(frozen=True)
class Search:
    """How long a search goes on."""

    edits: int = 30
    """The most edits before it gives up."""
    tried: int = 32
    """Edits that are tried at each step, of all there are."""
    blocks: int = 24
    """Where a classifier has no gradients and no single edit makes it surer: how often blocks of edits are drawn."""


def search(
    box: BlackBox, start: Slots, target: int, channels: GraphChannels, how: Search, rules: Constraints, *,
    allowed: Callable[[Slots], bool] | None = None, seed: int = 0,
) -> Slots | None:  # fmt: skip
    """Return the graph of ``start`` after the edits that led to ``target``; None where none of them did.

    Edges toggled, kinds of nodes and edges changed, nodes deleted or added with one edge. Of all single edits that the
    rules allow those with the largest gain to first order are tried; without gradients as many are drawn, and where
    none of them makes the target surer, whole blocks of edits (:func:`_blocks`).
    """
    rng = np.random.default_rng(seed)
    now, sure = start, float(margin(judged(box, [start]), target)[0])
    seen = {start.key()}

    def may(one: Slots) -> bool:
        return one.key() not in seen and rules.allow(start, one) and (allowed is None or allowed(one))

    for _ in range(how.edits):
        if sure > 0:
            return now
        gains = _gains(box, now, target, channels)
        options = _options(gains, now, channels, how.tried, rules, rng, may)
        if not options:
            return None
        leads = margin(judged(box, options), target)
        best = int(np.argmax(leads))
        if leads[best] <= sure and not gains[0].any() and not gains[1].any():
            return _blocks(box, start, target, channels, how, rules, rng, allowed)
        now, sure = options[best], float(leads[best])
        seen.add(now.key())
    return now if sure > 0 else None


def _blocks(
    box: BlackBox, start: Slots, target: int, channels: GraphChannels, how: Search, rules: Constraints,
    rng: np.random.Generator, allowed: Callable[[Slots], bool] | None,
) -> Slots | None:  # fmt: skip
    """Return the first graph of ``start`` that flips after ever more edits by lot; None where none does.

    A rule that says only its class tells nothing of the way there: what flips has more edits than it needs, which are
    taken back afterwards (Abrate & Bonchi's search goes forward and back likewise). Half of the edits take edges away,
    so that a graph may become sparser as well as denser.
    """
    there = np.flatnonzero(start.there)
    i, j = (there[part] for part in np.triu_indices(len(there), 1))
    has = start.bonds[i, j] > 0
    frozen = np.isin(i, rules.freeze) & np.isin(j, rules.freeze)
    gone, new = np.flatnonzero(has & ~frozen & rules.delete_edges), np.flatnonzero(~has & ~frozen & rules.add_edges)
    loose = there[~np.isin(there, rules.freeze)] if rules.change_kinds and channels.node_kinds > 1 else there[:0]
    for step in range(how.blocks):
        size = 1 << (step // 2)
        made = []
        for _ in range(how.tried):
            one = start
            few = rng.integers(0, size + 1)
            for k in rng.permutation(gone)[:few]:
                one = _with_bond(one, i[k], j[k], 0)
            for k in rng.permutation(new)[: size - few]:
                one = _with_bond(one, i[k], j[k], int(rng.integers(1, channels.edge_kinds + 1)))
            for node in rng.permutation(loose)[: rng.integers(0, size + 1)]:
                one = _with_kind(one, int(node), int(rng.integers(channels.node_kinds)))
            if rules.allow(start, one) and (allowed is None or allowed(one)):
                made.append(one)
        if made and (leads := margin(judged(box, made), target)).max() > 0:
            return made[int(np.argmax(leads))]
        if size > len(i):
            break
    return None


def _options(
    gains: tuple[np.ndarray, np.ndarray], now: Slots, channels: GraphChannels, most: int, rules: Constraints,
    rng: np.random.Generator, may: Callable[[Slots], bool],
) -> list[Slots]:  # fmt: skip
    """Return the graphs of up to ``most`` single edits, those of the largest gain, and of some edits of whole nodes.

    Only those that ``may`` be: what is not allowed takes no place of what is.
    """
    there = np.flatnonzero(now.there)
    one, other = (there[part] for part in np.triu_indices(len(there), 1))
    bonds = now.bonds[one, other]
    edges, kinds = gains
    # (pairs, edge kinds + 1): what the pair would add to the lead if its bond were that; less what its own bond adds.
    worth = edges[one, other]
    worth = worth - np.take_along_axis(worth, bonds[:, None], axis=1)
    if not edges.any():
        worth = rng.random(worth.shape)
    worth[np.arange(len(bonds)), bonds] = -np.inf
    if not rules.change_kinds:
        worth[bonds > 0, 1:] = -np.inf
    if not rules.delete_edges:
        worth[bonds > 0, 0] = -np.inf
    if not rules.add_edges:
        worth[bonds == 0] = -np.inf
    frozen = np.isin(one, rules.freeze) & np.isin(other, rules.freeze)
    worth[frozen] = -np.inf
    best = (k for k in np.argsort(-worth, axis=None, kind="stable") if np.isfinite(worth.flat[k]))
    found = _first((_with_bond(now, one[k // worth.shape[1]], other[k // worth.shape[1]], k % worth.shape[1])
                    for k in best), may, most)  # fmt: skip
    few = max(4, most // 4)
    loose = there[~np.isin(there, rules.freeze)]
    if rules.change_kinds and channels.node_kinds > 1:
        gain = kinds[there] - kinds[there, now.kinds[there]][:, None]
        gain = gain if kinds.any() else rng.random(gain.shape)
        gain[np.arange(len(there)), now.kinds[there]] = -np.inf
        gain[np.isin(there, rules.freeze)] = -np.inf
        best = (k for k in np.argsort(-gain, axis=None, kind="stable") if np.isfinite(gain.flat[k]))
        found += _first((_with_kind(now, there[k // gain.shape[1]], int(k % gain.shape[1])) for k in best), may, few)
    if rules.delete_nodes and len(there) > 1:
        found += _first((_with_kind(now, i, EMPTY) for i in rng.permutation(loose)), may, few)
    empty = np.setdiff1d(np.flatnonzero(~now.there), rules.freeze)
    if rules.add_nodes and len(empty):
        for i in rng.permutation(there)[:few]:
            grown = _with_kind(now, int(empty[0]), int(rng.integers(channels.node_kinds)))
            found += _first(
                [_with_bond(grown, int(empty[0]), i, int(rng.integers(1, channels.edge_kinds + 1)))], may, 1
            )
    return found


def _first(some: Iterable[Slots], may: Callable[[Slots], bool], most: int) -> list[Slots]:
    """Return the first ``most`` that may be, of so many looked at: with strict rules most may not."""
    return list(islice((one for one in islice(some, _LOOKED_AT * most) if may(one)), most))


def _gains(box: BlackBox, now: Slots, target: int, channels: GraphChannels) -> tuple[np.ndarray, np.ndarray]:
    """Return the gradient of the target's lead, in slots: (n, n, edge kinds + 1) of each bond a pair may have, the
    first of none, and (n, node kinds) of each kind. Zeros where there are no gradients.
    """
    n = len(now.kinds)
    edges, kinds = np.zeros((n, n, channels.edge_kinds + 1)), np.zeros((n, channels.node_kinds))
    graph = now.graph("now")
    if graph is None:
        return edges, kinds
    batch = dense([graph], channels)
    parts = [values.clone().requires_grad_(True) for values in (batch.nodes, batch.adjacency, batch.edges)]
    nodes, adjacency, bonds = parts
    logits = box.logits(GraphBatch(batch.exists, nodes, adjacency, bonds, batch.weights, batch.features))
    if logits is None:
        return edges, kinds
    others = torch.cat([logits[0, :target], logits[0, target + 1 :]]).amax()
    of_nodes, of_pairs, of_edges = torch.autograd.grad(
        logits[0, target] - others, parts, allow_unused=True, materialize_grads=True
    )
    slots = np.flatnonzero(now.there)
    both = (of_pairs + of_edges)[0]
    edges[slots[:, None], slots, 1:] = (both + both.transpose(1, 2)).permute(1, 2, 0).double().numpy()
    kinds[slots] = of_nodes[0, : channels.node_kinds].T.double().numpy()
    return edges, kinds


def _with_bond(now: Slots, i: int, j: int, bond: int) -> Slots:
    bonds = now.bonds.copy()
    bonds[i, j] = bonds[j, i] = bond
    weights = now.weights
    if weights is not None:
        weights = weights.copy()
        typical = float(weights[now.bonds > 0].mean()) if (now.bonds > 0).any() else 1.0
        # An edge that only changes its kind keeps its weight.
        weights[i, j] = weights[j, i] = 0.0 if not bond else weights[i, j] if now.bonds[i, j] else typical
    return Slots(now.kinds, bonds, weights, now.features)


def _with_kind(now: Slots, i: int, kind: int) -> Slots:
    kinds, bonds = now.kinds.copy(), now.bonds.copy()
    kinds[i] = kind
    if kind == EMPTY:
        bonds[i] = bonds[:, i] = 0
    weights = None if now.weights is None else now.weights * (bonds > 0)
    return Slots(kinds, bonds, weights, now.features)
