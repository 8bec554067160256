"""The trust score: is the predicted class also the nearest one? (Jiang et al., NeurIPS 2018.)"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from medaudit.errors import DataError, UsageError
from medaudit.uncertainty.distances import checked_features, labelled
from medaudit.uncertainty.softmax import checked_labels

_BLOCK_CELLS = 8_000_000
"""Distances held at once: 64 MB."""


@dataclass(frozen=True, eq=False)
class TrustScore:
    """Training features by class, outliers left out: ``classes`` (C,) and as many arrays (n_c, D)."""

    classes: np.ndarray
    features: tuple[np.ndarray, ...]

    @classmethod
    def fit(cls, features: ArrayLike, labels: ArrayLike, alpha: float = 0.0, k: int = 10) -> TrustScore:
        """Keep the features (N, D) of each class but for the share ``alpha`` that lies loneliest.

        Lonely: far from its k-th nearest case of the class, itself counted (the paper's alpha-high-density set).
        UsageError unless 0 <= alpha < 1 and k >= 1; DataError where there is one class, or a class of one case.
        """
        if not 0 <= alpha < 1 or k < 1:
            raise UsageError(f"alpha {alpha} and k {k}; expected alpha from 0 to below 1, and k of 1 or more")
        x, classes, codes = labelled(features, labels)
        if len(classes) < 2:
            raise DataError(f"all training cases are of class {classes[0]}; the trust score needs two classes or more")
        kept = []
        for c in range(len(classes)):
            inside = x[codes == c]
            if alpha > 0:
                radius = _nearest(inside, inside, min(k, len(inside)))
                inside = inside[radius <= np.quantile(radius, 1 - alpha)]
            kept.append(inside)
        return cls(classes, tuple(kept))

    def distances(self, features: ArrayLike) -> np.ndarray:
        """Return the Euclidean distances (n, C) of features (n, D) to the nearest kept case of each class."""
        x = checked_features(features, self.features[0].shape[1])
        return np.stack([_nearest(x, inside, 1) for inside in self.features], axis=1)

    def trust(self, features: ArrayLike, predictions: ArrayLike) -> np.ndarray:
        """Return the paper's score (n,): distance to the nearest other class over that to the predicted one.

        Infinite where the case lies on one of the predicted class. ``predictions`` (n,) are labels of training cases.
        """
        predicted, other = self._both(features, predictions)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where((predicted == 0) & (other == 0), 1.0, other / predicted)

    def score(self, features: ArrayLike, predictions: ArrayLike) -> np.ndarray:
        """Return 1 / (1 + trust) (n,), the predicted class's share of the two distances: larger is more uncertain.

        In [0, 1], 0.5 where both classes are equally near; it ranks as the trust score does, backwards.
        DataError where a prediction is a class without training cases.
        """
        predicted, other = self._both(features, predictions)
        both = predicted + other
        return np.divide(predicted, both, out=np.full(len(both), 0.5), where=both > 0)

    def _both(self, features: ArrayLike, predictions: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        distances = self.distances(features)
        y = checked_labels(predictions, len(distances))
        unknown = np.flatnonzero(~np.isin(y, self.classes))
        if unknown.size:
            raise DataError(
                f"row {unknown[0]} is predicted as class {y[unknown[0]]}, of which there was no training case; "
                f"expected one of {', '.join(map(str, self.classes))}"
            )
        rows, column = np.arange(len(y)), np.searchsorted(self.classes, y)
        predicted = distances[rows, column]
        distances[rows, column] = np.inf
        return predicted, distances.min(axis=1)


def _nearest(points: np.ndarray, others: np.ndarray, k: int) -> np.ndarray:
    """Return the distance (n,) of points (n, D) to the k-th nearest of others (m, D), by brute force in blocks."""
    # Centred on the others: differences of large squares would drop digits.
    centre = others.mean(axis=0)
    others = others - centre
    squares = (others**2).sum(axis=1) / 2
    distance = np.empty(len(points))
    block = max(1, _BLOCK_CELLS // max(len(others), points.shape[1]))
    for start in range(0, len(points), block):
        some = points[start : start + block] - centre
        farness = squares - some @ others.T
        kth = farness.argmin(axis=1) if k == 1 else np.argpartition(farness, k - 1, axis=1)[:, k - 1]
        distance[start : start + block] = np.linalg.norm(some - others[kth], axis=1)
    return distance
