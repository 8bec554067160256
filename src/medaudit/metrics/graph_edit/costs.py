"""What each edit of a graph costs."""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields

import numpy as np

from medaudit.cohort.graphs import Graph
from medaudit.errors import DataError, UsageError


@dataclass(frozen=True)
class EditCosts:
    """The cost of each edit, in whatever unit the user counts; by default every edit costs 1.

    To substitute a node costs ``node_substitution`` where the kinds differ, plus ``feature`` times the Euclidean
    distance of the features; an edge ``edge_substitution`` where the kinds differ, plus ``weight`` times |w - w'|. A
    substitution never costs more than a deletion and an insertion together: kinds that would are refused here, and
    weights and features that would are capped there. Then the costs obey the triangle inequality, the least cost over
    node assignments is the least cost over all sequences of edits (Bougleux et al., Pattern Recognition Letters 2017),
    and the smaller graph's nodes need never be deleted.

    Raises UsageError for a cost that is negative or not finite, and for a substitution dearer than both.
    """

    node_deletion: float = 1.0
    node_insertion: float = 1.0
    node_substitution: float = 1.0
    edge_deletion: float = 1.0
    edge_insertion: float = 1.0
    edge_substitution: float = 1.0
    weight: float = 0.0
    feature: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (np.isfinite(value) and value >= 0):
                raise UsageError(f"the cost {field.name} is {value}; expected a finite number, 0 or more")
        for what in ("node", "edge"):
            both = getattr(self, f"{what}_deletion") + getattr(self, f"{what}_insertion")
            if (change := getattr(self, f"{what}_substitution")) > both:
                raise UsageError(
                    f"the cost {what}_substitution is {change}; expected at most a deletion and an insertion, {both:g}"
                )

    @property
    def whole(self) -> bool:
        """Whether every possible distance is a whole number, so that a lower bound may be rounded up.

        Costs above 1000 are not taken as whole: a solver's tolerance would no longer be small beside 1.
        """
        whole = all(float(value).is_integer() and value <= 1_000 for value in astuple(self))
        return whole and self.weight == 0 and self.feature == 0

    def turned(self) -> EditCosts:
        """Return the costs of the way back: insertions for deletions."""
        return EditCosts(
            self.node_insertion, self.node_deletion, self.node_substitution, self.edge_insertion, self.edge_deletion,
            self.edge_substitution, self.weight, self.feature,
        )  # fmt: skip

    def check(self, g: Graph, h: Graph) -> None:
        """Raise DataError, naming both graphs, where a cost is asked of weights or features that they have not."""
        if self.weight and (g.weights is None or h.weights is None):
            raise DataError(f"graphs {g.id} and {h.id}: weights have a cost, and one of them has no weights")
        if self.feature:
            if g.features is None or h.features is None:
                raise DataError(f"graphs {g.id} and {h.id}: features have a cost, and one of them has no features")
            if g.features.shape[1] != h.features.shape[1]:
                raise DataError(
                    f"graphs {g.id} and {h.id}: {g.features.shape[1]} and {h.features.shape[1]} features a node; "
                    "expected as many"
                )

    def nodes(self, g: Graph, h: Graph) -> np.ndarray:
        """Return (n, m) float64: what it costs to substitute each node of ``g`` by each node of ``h``."""
        found = np.where(g.nodes[:, None] != h.nodes[None, :], float(self.node_substitution), 0.0)
        if self.feature and g.features is not None and h.features is not None:
            found += self.feature * np.linalg.norm(g.features[:, None] - h.features[None], axis=2)
            np.minimum(found, self.node_deletion + self.node_insertion, out=found)
        return found
