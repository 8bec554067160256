"""Counterfactuals by single edits: no generator, the edit that helps most first, led by gradients where there are any.

What a generator has to beat on distance: searches of this kind (OBS of Abrate & Bonchi, KDD 2021, is the random one)
are often nearer, and know nothing of what graphs of the kind look like.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from medaudit.explanation.counterfactuals.black_box import BlackBox
from medaudit.explanation.counterfactuals.minimal import judged, margin
from medaudit.explanation.counterfactuals.slots import EMPTY, Constraints, Slots
from medaudit.networks.graphs.batch import GraphChannels, dense


@dataclass(frozen=True)
class Search:
    """How long a search goes on."""

    edits: int = 40
    """The most edits before it gives up."""
    tried: int = 96
    """Edits that are tried at each step, of all there are."""


def search(
    box: BlackBox, start: Slots, target: int, channels: GraphChannels, how: Search, rules: Constraints, *,
    allowed: Callable[[Slots], bool] | None = None, seed: int = 0,
) -> Slots | None:  # fmt: skip
    """Return the graph of ``start`` after the edits that led to ``target``; None where none of them did.

    Edges toggled, kinds of nodes and edges changed, nodes deleted or added with one edge. Of all single edits that the
    rules allow those with the largest gain to first order are tried; without gradients as many are drawn.
    """
    rng = np.random.default_rng(seed)
    now, sure = start, float(margin(judged(box, [start]), target)[0])
    seen = {start.key()}
    for _ in range(how.edits):
        if sure > 0:
            return now
        options = [
            one for one in _options(box, now, start, target, channels, how.tried, rules, rng)
            if one.key() not in seen and not any(True for _ in rules.broken(start, one))
            and (allowed is None or allowed(one))
        ]  # fmt: skip
        if not options:
            return None
        leads = margin(judged(box, options), target)
        best = int(np.argmax(leads))
        now, sure = options[best], float(leads[best])
        seen.add(now.key())
    return now if sure > 0 else None


def _options(
    box: BlackBox, now: Slots, start: Slots, target: int, channels: GraphChannels, most: int, rules: Constraints,
    rng: np.random.Generator,
) -> list[Slots]:  # fmt: skip
    there = np.flatnonzero(now.there)
    pairs = np.array([(i, j) for k, i in enumerate(there) for j in there[k + 1 :]], dtype=int).reshape(-1, 2)
    gain = _gains(box, now, target, channels)
    if gain is None:
        order = rng.permutation(len(pairs))
    else:
        present = now.bonds[pairs[:, 0], pairs[:, 1]] > 0
        signed = np.where(present, -1, 1) * (gain[pairs[:, 0], pairs[:, 1]] + gain[pairs[:, 1], pairs[:, 0]])
        order = np.argsort(-signed, kind="stable")
    found = []
    for i, j in pairs[order[:most]]:
        kinds = [0] if now.bonds[i, j] else list(range(1, channels.edge_kinds + 1))
        if now.bonds[i, j] and channels.edge_kinds > 1 and rules.change_kinds:
            kinds += [k for k in range(1, channels.edge_kinds + 1) if k != now.bonds[i, j]]
        found += [_with_bond(now, i, j, kind) for kind in kinds]
    few = max(8, most // 4)
    if rules.change_kinds and channels.node_kinds > 1:
        for i in rng.permutation(there)[:few]:
            kind = int(rng.integers(channels.node_kinds))
            if kind != now.kinds[i]:
                found.append(_with_kind(now, i, kind))
    if rules.delete_nodes and len(there) > 1:
        found += [_with_kind(now, i, EMPTY) for i in rng.permutation(there)[:few]]
    empty = np.flatnonzero(~now.there)
    if rules.add_nodes and len(empty):
        for i in rng.permutation(there)[:few]:
            grown = _with_kind(now, int(empty[0]), int(rng.integers(channels.node_kinds)))
            found.append(_with_bond(grown, int(empty[0]), i, int(rng.integers(1, channels.edge_kinds + 1))))
    return found


def _gains(box: BlackBox, now: Slots, target: int, channels: GraphChannels) -> np.ndarray | None:
    """Return what an edge more between two nodes would add to the target's lead, (n, n) in slots, to first order."""
    graph = now.graph("now")
    if graph is None:
        return None
    batch = dense([graph], channels)
    adjacency = batch.adjacency.clone().requires_grad_(True)
    share = torch.where(batch.adjacency > 0, batch.edges, torch.full_like(batch.edges, 1 / channels.edge_kinds))
    logits = box.logits(
        type(batch)(batch.exists, batch.nodes, adjacency, share * adjacency, batch.weights, batch.features)
    )
    if logits is None:
        return None
    others = torch.cat([logits[0, :target], logits[0, target + 1 :]]).amax()
    (gradient,) = torch.autograd.grad(logits[0, target] - others, adjacency, allow_unused=True)
    if gradient is None:
        return None
    found = np.zeros((len(now.kinds),) * 2)
    slots = np.flatnonzero(now.there)
    found[np.ix_(slots, slots)] = gradient[0, 0].double().numpy()
    return found


def _with_bond(now: Slots, i: int, j: int, bond: int) -> Slots:
    bonds = now.bonds.copy()
    bonds[i, j] = bonds[j, i] = bond
    weights = now.weights
    if weights is not None:
        weights = weights.copy()
        typical = float(weights[now.bonds > 0].mean()) if (now.bonds > 0).any() else 1.0
        weights[i, j] = weights[j, i] = typical if bond else 0.0
    return Slots(now.kinds, bonds, weights, now.features)


def _with_kind(now: Slots, i: int, kind: int) -> Slots:
    kinds, bonds = now.kinds.copy(), now.bonds.copy()
    kinds[i] = kind
    if kind == EMPTY:
        bonds[i] = bonds[:, i] = 0
    weights = None if now.weights is None else now.weights * (bonds > 0)
    return Slots(kinds, bonds, weights, now.features)
