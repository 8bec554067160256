"""From counterfactuals and their distances to evidence: do they flip, are they near, do they look like the class?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from medaudit.audits.counterfactuals.settings import CounterfactualSettings
from medaudit.audits.counterfactuals.shortcuts import Deduplicated
from medaudit.cohort.graphs import Graph, Graphs
from medaudit.explanation.counterfactuals.explain import Counterfactual
from medaudit.metrics.graph_edit import Distance
from medaudit.metrics.graph_sets import Discrepancy, discrepancies
from medaudit.statistics import Estimate, patient_weights
from medaudit.training.graphs.vae import Rebuilt

_FLIPS = 10_000


@dataclass(frozen=True, eq=False)
class Made:
    """What one method made of the explained graphs, in their order."""

    found: list[Counterfactual]
    distances: list[Distance | None]
    """None where there is no counterfactual."""

    @property
    def flips(self) -> np.ndarray:
        """(n,) bool."""
        return np.array([one.flips for one in self.found], dtype=bool)

    @property
    def upper(self) -> np.ndarray:
        """(n,): the least upper bound of the edit distance; NaN where there is no counterfactual that flips."""
        return np.array([d.upper if d is not None and one.flips else np.nan
                         for one, d in zip(self.found, self.distances, strict=True)])  # fmt: skip

    @property
    def lower(self) -> np.ndarray:
        """(n,): the lower bound."""
        return np.array([d.lower if d is not None and one.flips else np.nan
                         for one, d in zip(self.found, self.distances, strict=True)])  # fmt: skip


@dataclass(frozen=True, eq=False)
class Material:
    """What a study is made of."""

    graphs: Graphs
    """All that are left after duplicates."""
    deduplicated: Deduplicated
    rows: np.ndarray
    """Rows of the explained graphs."""
    training: np.ndarray
    """Rows of the graphs that classifier and autoencoder were trained on."""
    classifier: Estimate
    """Balanced accuracy on held-out graphs."""
    trivial: Mapping[str, Estimate]
    made: Mapping[str, Made]
    """By method; the first is the one that was asked for."""
    rebuilt: Rebuilt | None
    floor: np.ndarray
    """(n,): the upper bound of the edit distance of each explained graph from its own reconstruction; empty without."""
    predicted: np.ndarray
    """(N,): the classifier's class of every graph."""
    held: np.ndarray | None = None
    """Rows of all held-out graphs; those explained where it is not said."""
    stays: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))
    """(n,): whether the explained graph's reconstruction keeps its predicted class; empty without."""
    users: bool = False
    """Whether the classifier is the user's, who alone knows which graphs it has seen."""

    @property
    def who(self) -> np.ndarray:
        """(n,): patients of the explained graphs."""
        return self.graphs.who[self.rows]


@dataclass(frozen=True, eq=False)
class Study:
    """The evidence."""

    settings: CounterfactualSettings
    material: Material
    flips: dict[str, Estimate]
    """By method: the share of graphs whose counterfactual the classifier gives the target."""
    nearer: dict[str, Estimate]
    """By baseline: its distance less that of the method asked for, where both flip."""
    apart: list[tuple[str, list[Discrepancy]]]
    """Of counterfactuals, and of held-out graphs, from training graphs that the classifier gives the target."""

    @property
    def main(self) -> Made:
        """What the method asked for made."""
        return next(iter(self.material.made.values()))


def study(material: Material, settings: CounterfactualSettings) -> Study:
    """Return the evidence; intervals by patients drawn anew."""
    names = list(material.made)
    main = material.made[names[0]]
    flips = {name: _share(made.flips, material.who, settings) for name, made in material.made.items()}
    nearer = {}
    for name in names[1:]:
        both = np.isfinite(main.upper) & np.isfinite(material.made[name].upper)
        if both.sum() >= 2:
            nearer[name] = _paired((material.made[name].upper - main.upper)[both], material.who[both], settings)
    return Study(settings, material, flips, nearer, _apart(material, main, settings))


def _share(yes: np.ndarray, who: np.ndarray, settings: CounterfactualSettings) -> Estimate:
    code, weights = patient_weights(who, settings.resamples, settings.seed)
    cases = weights[:, code]
    low, high = np.quantile((cases @ yes.astype(float)) / np.maximum(cases.sum(1), 1), (0.025, 0.975))
    if yes.all() or not yes.any():  # draws of one value know no doubt: the exact limits (Clopper & Pearson 1934)
        n = int(code.max() + 1)
        low, high = (0.025 ** (1 / n), 1.0) if yes.all() else (0.0, 1 - 0.025 ** (1 / n))
    return Estimate("share that flips", float(yes.mean()), float(low), float(high), n=int(code.max() + 1),
                    method="patients drawn anew")  # fmt: skip


def _paired(values: np.ndarray, who: np.ndarray, settings: CounterfactualSettings) -> Estimate:
    code, weights = patient_weights(who, settings.resamples, settings.seed)
    cases = weights[:, code]
    low, high = np.quantile((cases @ values) / np.maximum(cases.sum(1), 1), (0.025, 0.975))
    total = np.bincount(code, weights=values)
    signs = np.random.default_rng((settings.seed, 7)).choice([-1.0, 1.0], size=(_FLIPS, len(total)))
    p = (1 + int((np.abs(signs @ total) >= abs(total.sum()) - 1e-12).sum())) / (_FLIPS + 1)
    return Estimate("difference of edit distances", float(values.mean()), float(low), float(high), p=p, n=len(total),
                    method="upper bounds, the same graphs; patients drawn anew; p by exchange")  # fmt: skip


def _apart(material: Material, main: Made, settings: CounterfactualSettings) -> list[tuple[str, list[Discrepancy]]]:
    found = []
    targets = np.array([one.target for one in main.found])
    who, predicted = material.graphs.who, material.predicted
    rows = material.rows if material.held is None else material.held
    for target in np.unique(targets):
        # One of each patient: a permutation of graphs that belong together would see more evidence than there is.
        real = _one_each([(material.graphs.graphs[i], who[i]) for i in material.training if predicted[i] == target])
        made = _one_each([(one.found, w) for one, w in zip(main.found, material.who, strict=True)
                          if one.flips and one.target == target and one.found is not None])  # fmt: skip
        held = _one_each([(material.graphs.graphs[i], who[i]) for i in rows if predicted[i] == target])
        name = material.graphs.classes[int(target)]
        for what, some in ((f"counterfactuals, {name}", made), (f"held-out graphs, {name}", held)):
            if min(len(some), len(real)) >= max(2, settings.min_graphs // 2):
                found.append((what, discrepancies(_fewer(some), _fewer(real), seed=settings.seed)))
    return found


def _one_each(graphs: Sequence[tuple[Graph, str]]) -> list[Graph]:
    first: dict[str, Graph] = {}
    for graph, patient in graphs:
        first.setdefault(patient, graph)
    return list(first.values())


def _fewer(graphs: Sequence[Graph], most: int = 500) -> list[Graph]:
    return [graphs[i] for i in np.unique(np.linspace(0, len(graphs) - 1, min(most, len(graphs))).astype(int))]
