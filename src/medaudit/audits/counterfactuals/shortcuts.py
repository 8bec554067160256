"""Before any explanation: do trivial facts of a graph tell its class, and is the same graph there twice?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medaudit.cohort import split
from medaudit.cohort.graphs import Graphs
from medaudit.datasets.graphs.facts import kind_counts, size_features
from medaudit.metrics.graph_edit import duplicates
from medaudit.statistics import Estimate, patient_weights

_FOLDS = 5


@dataclass(frozen=True, eq=False)
class Deduplicated:
    """A set in which no graph is there twice, and what was left out."""

    graphs: Graphs
    groups: int
    """Groups of graphs that are the same."""
    dropped: int
    conflicting: int
    """Groups whose graphs have different classes."""


def deduplicated(graphs: Graphs) -> Deduplicated:
    """Return the first of each group of graphs that are the same up to the order of nodes.

    The same graph in training and test makes any held-out number too good (Ivanov et al., arXiv 1910.12091). Nodes of a
    matched set are not exchanged: there the matrices are compared. Other weights make another graph; numbers of nodes
    do not, unless nodes are matched: the same molecule drawn anew is the same molecule.
    """
    groups = _equal(graphs) if graphs.matched else _of_weights(graphs, duplicates(graphs.graphs))
    later = {i for group in groups for i in group[1:]}
    conflicting = sum(len({int(graphs.y[i]) for i in group}) > 1 for group in groups)
    rows = [i for i in range(len(graphs)) if i not in later]
    note = f"{len(later)} graphs that are there already were left out" if later else ""
    return Deduplicated(graphs.some(rows, note), len(groups), len(later), conflicting)


def trivially(graphs: Graphs, *, resamples: int, seed: int) -> dict[str, Estimate]:
    """Return the balanced accuracy of trees that know sizes alone, and counts of kinds alone, on held-out patients.

    ``size``: numbers of nodes, edges, density, components. ``nodes``: the number of nodes alone. ``kinds``: how many
    nodes of each kind. Depth 3, classes weighted alike, five folds by patient; intervals by patients drawn anew.
    """
    from sklearn.tree import DecisionTreeClassifier  # slow to import, and only this asks for it

    size = size_features(graphs)
    facts = {"nodes": size[:, :1], "size": size}
    if len(graphs.node_kinds) > 1:
        facts["kinds"] = kind_counts(graphs)
    who, y = graphs.who, graphs.y
    fold = split(who.tolist(), [str(c) for c in y], (1.0,) * _FOLDS, seed)
    found = {}
    for name, x in facts.items():
        told = np.full(len(y), -1)
        for k in range(_FOLDS):
            train, test = (fold != k) & (y >= 0), fold == k
            if len(np.unique(y[train])) < 2 or not test.any():
                continue
            tree = DecisionTreeClassifier(max_depth=3, class_weight="balanced", random_state=0)
            told[test] = tree.fit(x[train], y[train]).predict(x[test])
        found[name] = balanced(told, y, who, resamples=resamples, seed=seed)
    return found


def balanced(told: np.ndarray, y: np.ndarray, who: np.ndarray, *, resamples: int, seed: int) -> Estimate:
    """Return the balanced accuracy of predictions of classes ``y`` (-1: not known), with an interval by patients."""
    known = (y >= 0) & (told >= 0)
    if not known.any():
        return Estimate("balanced accuracy", float("nan"), n=0)
    right, classes = (told == y)[known], y[known]
    code, weights = patient_weights(who[known], resamples, seed)
    cases = weights[:, code]

    def of(weight: np.ndarray) -> np.ndarray:
        per = []
        for c in np.unique(classes):
            inside = classes == c
            total = weight[:, inside].sum(1)
            per.append(np.divide((weight[:, inside] * right[inside]).sum(1), total, out=np.full(len(weight), np.nan),
                                 where=total > 0))  # fmt: skip
        return np.mean(per, axis=0)

    low, high = np.nanquantile(of(cases), (0.025, 0.975))
    value = float(of(np.ones((1, len(classes))))[0])
    return Estimate("balanced accuracy", value, float(low), float(high), n=len(np.unique(code)),
                    method="held-out patients, drawn anew")  # fmt: skip


def _equal(graphs: Graphs) -> tuple[tuple[int, ...], ...]:
    by: dict[tuple[bytes, ...], list[int]] = {}
    for k, graph in enumerate(graphs):
        parts = (graph.nodes, graph.edges, graph.edge_kinds, graph.weights, graph.features)
        by.setdefault(tuple(b"" if part is None else part.tobytes() for part in parts), []).append(k)
    return tuple(tuple(group) for group in by.values() if len(group) > 1)


def _of_weights(graphs: Graphs, groups: Sequence[tuple[int, ...]]) -> tuple[tuple[int, ...], ...]:
    """Return the groups of isomorphic graphs, divided where their weights, in order of size, are others."""
    found: dict[tuple[int, bytes], list[int]] = {}
    for k, group in enumerate(groups):
        for i in group:
            weights = graphs.graphs[i].weights
            found.setdefault((k, b"" if weights is None else np.sort(weights).tobytes()), []).append(i)
    return tuple(tuple(group) for group in found.values() if len(group) > 1)
