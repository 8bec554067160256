"""The density of a case's features under one Gaussian a class.

Mukhoti et al. (CVPR 2023) take its negative logarithm as epistemic uncertainty. They call it DDU where the network's
features are regularised by spectral normalisation; on any other network's features it is a feature density, no more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logsumexp

from medaudit.uncertainty.distances import (
    Shrinkage,
    Whitening,
    checked_features,
    class_means,
    labelled,
    shrunk_covariance,
    varying,
    whitened,
)


@dataclass(frozen=True, eq=False)
class GaussianDensity:
    """A mixture of one Gaussian a class: q(x) = sum_c pi_c N(x; mu_c, Sigma_c).

    ``classes`` (C,) the labels seen; ``priors`` (C,) their shares; ``means`` (C, D); ``whitenings`` of the C shrunk
    covariances (each divided by n_c), ``shrinkages`` and ``conditions`` (C,); ``notes`` for a reader of the scores.
    """

    classes: np.ndarray
    priors: np.ndarray
    means: np.ndarray
    whitenings: tuple[Whitening, ...]
    shrinkages: np.ndarray
    notes: tuple[str, ...] = ()

    @classmethod
    def fit(cls, features: ArrayLike, labels: ArrayLike, shrinkage: Shrinkage = "ledoit-wolf") -> GaussianDensity:
        """Fit to features (N, D) with labels (N,) int; every class's covariance is shrunk by its own amount.

        DataError where a class has one case or does not vary, or where its covariance is singular (``shrinkage=0``).
        """
        x, classes, codes = labelled(features, labels)
        means = class_means(x, codes, len(classes))
        whitenings: list[Whitening] = []
        shrinkages: list[float] = []
        notes: list[str] = []
        for c, label in enumerate(classes):
            inside = codes == c
            covariance, used = shrunk_covariance(varying(x[inside] - means[c], x[inside], f"class {label}"), shrinkage)
            whitening, said = whitened(covariance, used, cases=int(inside.sum()), of=f" of class {label}")
            whitenings.append(whitening)
            shrinkages.append(used)
            notes.extend(said)
        priors = np.bincount(codes) / len(codes)
        return cls(classes, priors, means, tuple(whitenings), np.array(shrinkages), tuple(notes))

    @property
    def conditions(self) -> np.ndarray:
        """The condition numbers (C,) of the classes' covariances."""
        return np.array([whitening.condition for whitening in self.whitenings])

    def per_class(self, features: ArrayLike) -> np.ndarray:
        """Return ln pi_c + ln N(x; mu_c, Sigma_c) (n, C) of features (n, D)."""
        x = checked_features(features, self.means.shape[1])
        logs = np.empty((len(x), len(self.classes)))
        for c, whitening in enumerate(self.whitenings):
            offset = whitening.whiten(x - self.means[c])
            logs[:, c] = np.einsum("nd,nd->n", offset, offset) + whitening.log_determinant
        return np.log(self.priors) - (logs + x.shape[1] * math.log(2 * math.pi)) / 2

    def log_density(self, features: ArrayLike) -> np.ndarray:
        """Return ln q(x) (n,) of features (n, D)."""
        return logsumexp(self.per_class(features), axis=1)

    def score(self, features: ArrayLike) -> np.ndarray:
        """Return -ln q(x) (n,) of features (n, D): larger is less like the training cases."""
        return -self.log_density(features)
