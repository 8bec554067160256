"""From a graph that flips the prediction to one of which no edit can be spared."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from medaudit.explanation.counterfactuals.black_box import BlackBox
from medaudit.explanation.counterfactuals.slots import Edit, Slots, reversible, taken_back

Allowed = Callable[[Slots], bool]
_AT_ONCE = 256


def judged(box: BlackBox, some: list[Slots]) -> np.ndarray:
    """Return the classifier's probabilities (N, classes) of graphs in slots; NaN where nothing is left of one."""
    graphs = [slots.graph(str(k)) for k, slots in enumerate(some)]
    there = [graph for graph in graphs if graph is not None]
    if not there:
        return np.full((len(some), 1), np.nan)
    told = box.probabilities(there)
    found = np.full((len(some), told.shape[1]), np.nan)
    found[[graph is not None for graph in graphs]] = told
    return found


def minimal(
    box: BlackBox, a: Slots, b: Slots, target: int, *, allowed: Allowed | None = None, most: int = 4_000
) -> tuple[Slots, bool]:  # fmt: skip
    """Return ``b`` with as many edits from ``a`` taken back as leave the class at ``target``; whether it is minimal.

    Minimal (1-minimal): no single edit that is left can be taken back without losing the target. Greedy: of the edits
    that can be spared the one whose loss leaves the target surest goes first; many at once where that holds, which is
    checked. Where scores add over edits this is the cheapest subset of the edits. ``allowed`` says which graphs may be
    passed through. ``most`` bounds how often the classifier is asked; beyond it the answer is not called minimal.
    """
    asked = 0
    while True:
        edits = reversible(a, b)
        if not edits or asked + len(edits) > most:
            return b, not edits
        tried = [taken_back(a, b, edit) for edit in edits]
        sure = margin(np.concatenate([judged(box, tried[k : k + _AT_ONCE]) for k in range(0, len(tried), _AT_ONCE)]),
                       target)  # fmt: skip
        asked += len(edits)
        ok = sure > 0
        if allowed is not None:
            ok &= np.array([allowed(one) for one in tried])
        order = [int(k) for k in np.argsort(-sure, kind="stable") if ok[k]]
        if not order:
            return b, True
        # Halve until taking that many back together holds; one alone is known to.
        count = len(order)
        while count > 1:
            together = _all_back(a, b, [edits[k] for k in order[:count]])
            asked += 1
            if margin(judged(box, [together]), target)[0] > 0 and (allowed is None or allowed(together)):
                break
            count //= 2
        b = _all_back(a, b, [edits[k] for k in order[: max(1, count)]])


def _all_back(a: Slots, b: Slots, edits: list[Edit]) -> Slots:
    for edit in edits:
        b = taken_back(a, b, edit)
    return b


def margin(probabilities: np.ndarray, target: int) -> np.ndarray:
    """Return by how much the target is ahead of the best other class, (N,); -inf where there is no graph."""
    if probabilities.shape[1] <= target:
        return np.full(len(probabilities), -np.inf)
    others = np.delete(probabilities, target, axis=1).max(axis=1)
    return np.nan_to_num(probabilities[:, target] - others, nan=-np.inf)
