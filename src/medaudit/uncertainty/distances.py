"""How far a case's features lie from those of the training cases: Mahalanobis, its relative form, neighbours, ViM.

Each ``fit`` takes training features (N, D), the input of the last layer, and returns a frozen object whose ``score``
gives (n,) float64 for features (n, D); larger is farther. Everything is float64, and nothing looks at the test cases
as a set: a case's score does not depend on the others. Features of a ReLU layer seldom have full rank, so that a
covariance is shrunk towards a multiple of the identity by Ledoit and Wolf's amount unless another is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import LinAlgError, cholesky, solve_triangular
from scipy.linalg.lapack import dpocon
from scipy.special import logsumexp

from medaudit.errors import DataError, UsageError
from medaudit.uncertainty.softmax import checked_labels, checked_logits

Shrinkage = float | Literal["ledoit-wolf"]

_ILL_CONDITIONED = 1e10
"""Above this condition number a distance keeps fewer than some six digits: it is noted."""

_ROUNDING = 1e-13
"""Features that vary by less than this share of their size are constant: a sum in another order gives as much."""

_SINGLE = 1e-6
"""A singular value below this share of the largest is rounding error of weights in single precision."""

_BLOCK_CELLS = 8_000_000
"""Distances held at once: 64 MB."""


@dataclass(frozen=True, eq=False)
class Whitening:
    """The Cholesky factor (D, D) of a covariance: ``factor`` @ ``factor``.T is the covariance.

    ``condition``: its condition number in the 1-norm, as LAPACK estimates it from the factor.
    """

    factor: np.ndarray
    condition: float

    def whiten(self, centred: np.ndarray) -> np.ndarray:
        """Return centred features (n, D) in coordinates (n, D) where the covariance is the identity."""
        # A C-ordered (n, D) array is a Fortran-ordered (D, n) one: LAPACK copies nothing.
        return solve_triangular(self.factor, centred.T, lower=True, check_finite=False).T

    @property
    def log_determinant(self) -> float:
        """The logarithm of the covariance's determinant."""
        return 2 * float(np.log(np.diagonal(self.factor)).sum())


@dataclass(frozen=True, eq=False)
class Mahalanobis:
    """Squared Mahalanobis distances to the class means under one covariance (Lee et al., NeurIPS 2018, eq. 2).

    ``classes`` (C,) the labels seen, in the order of the columns of :meth:`per_class`; ``centre`` (D,) the mean of all
    training cases; ``means`` (C, D) the class means, centred and whitened; ``shrinkage`` what was used;
    ``condition`` the condition number of the shrunk covariance; ``notes`` what a reader of the scores must know.
    """

    classes: np.ndarray
    centre: np.ndarray
    means: np.ndarray
    whitening: Whitening
    shrinkage: float
    notes: tuple[str, ...] = ()

    @classmethod
    def fit(cls, features: ArrayLike, labels: ArrayLike, shrinkage: Shrinkage = "ledoit-wolf") -> Mahalanobis:
        """Fit to features (N, D) with labels (N,) int.

        The covariance is sum_c sum_{i in c} (x - mu_c)(x - mu_c)^T / N, shrunk. With ``shrinkage=0`` scores do not
        change under any invertible affine map of the features, and the covariance must have full rank. DataError where
        a class has one case, where all features are constant, or where the covariance is singular.
        """
        x, classes, codes = labelled(features, labels)
        centre = x.mean(axis=0)
        means = class_means(x, codes, len(classes))
        residuals = means[codes]
        np.subtract(x, residuals, out=residuals)
        covariance, used = shrunk_covariance(varying(residuals, x, "any class"), shrinkage)
        whitening, notes = whitened(covariance, used, cases=len(x))
        return cls(classes, centre, whitening.whiten(means - centre), whitening, used, notes)

    @property
    def condition(self) -> float:
        """The condition number of the covariance."""
        return self.whitening.condition

    def per_class(self, features: ArrayLike) -> np.ndarray:
        """Return the squared distances (n, C) of features (n, D) to the classes."""
        x = self.whitening.whiten(checked_features(features, len(self.centre)) - self.centre)
        return squared_distances(x, self.means)

    def score(self, features: ArrayLike) -> np.ndarray:
        """Return the squared distance (n,) of features (n, D) to the nearest class mean."""
        return self.per_class(features).min(axis=1)


@dataclass(frozen=True, eq=False)
class RelativeMahalanobis:
    """Mahalanobis distance to the nearest class less that to all training data (Ren et al., arXiv 2106.09022, eq. 2).

    min_c [(x - mu_c)^T Sigma^-1 (x - mu_c) - (x - mu_0)^T Sigma_0^-1 (x - mu_0)], both covariances divided by N. As
    Sigma_0 is Sigma plus the scatter of the C class means (the law of total covariance; shrinkage changes Sigma alone),
    the two distances differ in C directions only: the D - C others cancel here on paper and not in floating point, and
    a case costs D x C multiplications instead of D x D. Attributes as in :class:`Mahalanobis`; ``directions`` (D, C),
    ``offsets`` (C,) and ``correction`` (C, C) are the linear, constant and quadratic parts.
    """

    classes: np.ndarray
    centre: np.ndarray
    directions: np.ndarray
    offsets: np.ndarray
    correction: np.ndarray
    shrinkage: float
    condition: float
    notes: tuple[str, ...] = ()

    @classmethod
    def fit(cls, features: ArrayLike, labels: ArrayLike, shrinkage: Shrinkage = "ledoit-wolf") -> RelativeMahalanobis:
        """Fit to features (N, D) with labels (N,) int; errors as :meth:`Mahalanobis.fit`; DataError on one class."""
        fitted = Mahalanobis.fit(features, labels, shrinkage)
        if len(fitted.classes) < 2:
            raise DataError(
                f"all training cases are of class {fitted.classes[0]}; the relative distance is 0 everywhere: "
                "it needs two classes or more"
            )
        means, sizes = fitted.means, np.unique(np.asarray(labels), return_counts=True)[1]
        weights = sizes / sizes.sum()
        # Woodbury: with U = whitened means x sqrt(weights), (I + U U^T)^-1 = I - U (I + U^T U)^-1 U^T.
        root = np.sqrt(weights)[:, None] * means
        inverse = np.linalg.inv(np.eye(len(means)) + root @ root.T)
        correction = np.sqrt(weights)[:, None] * inverse * np.sqrt(weights)
        directions = solve_triangular(fitted.whitening.factor, means.T, lower=True, trans="T", check_finite=False)
        return cls(
            fitted.classes, fitted.centre, np.ascontiguousarray(directions), (means**2).sum(axis=1), correction,
            fitted.shrinkage, fitted.condition, fitted.notes,
        )  # fmt: skip

    def per_class(self, features: ArrayLike) -> np.ndarray:
        """Return the relative distances (n, C) of features (n, D) to the classes; they may be negative."""
        # What whitened cases and whitened class means have in common, w^T m_c, is all that is needed of a case.
        common = (checked_features(features, len(self.centre)) - self.centre) @ self.directions
        shared = ((common @ self.correction) * common).sum(axis=1)
        return self.offsets - 2 * common + shared[:, None]

    def score(self, features: ArrayLike) -> np.ndarray:
        """Return the relative distance (n,) of features (n, D) to the nearest class."""
        return self.per_class(features).min(axis=1)


@dataclass(frozen=True, eq=False)
class KNN:
    """The distance to the k-th nearest training case, all features scaled to length 1 (Sun et al., ICML 2022).

    ``train`` (N, D) are the scaled training features. A training case is its own first neighbour.
    """

    train: np.ndarray
    k: int

    @classmethod
    def fit(cls, features: ArrayLike, k: int = 50) -> KNN:
        """Keep features (N, D), scaled; UsageError unless 1 <= k <= N. A case of zeros stays where it is, at 0."""
        x = checked_features(features)
        if not 1 <= k <= len(x):
            raise UsageError(f"k = {k} nearest of {len(x)} training cases; expected 1 to {len(x)}")
        return cls(unit_length(x), int(k))

    def score(self, features: ArrayLike) -> np.ndarray:
        """Return the Euclidean distance (n,) of features (n, D) to the k-th nearest training case; in [0, 2]."""
        x = unit_length(checked_features(features, self.train.shape[1]))
        squares = (self.train**2).sum(axis=1) / 2
        score = np.empty(len(x))
        block = max(1, _BLOCK_CELLS // len(self.train))
        for start in range(0, len(x), block):
            some = x[start : start + block]
            # Half the squared distance less the case's own part, which does not change the order.
            nearness = some @ self.train.T
            np.subtract(squares, nearness, out=nearness)
            kth = np.argpartition(nearness, self.k - 1, axis=1)[:, self.k - 1]
            # Once more, without the cancellation that would leave equal cases 1e-8 apart.
            score[start : start + block] = np.linalg.norm(some - self.train[kth], axis=1)
        return score


@dataclass(frozen=True, eq=False)
class ViM:
    """Virtual-logit matching (Wang et al., CVPR 2022): alpha ||features outside the principal space|| - logsumexp z.

    ``origin`` (D,) = -pinv(W) b; ``residual_space`` (D, D - dimension): the eigenvectors of the smallest eigenvalues;
    ``alpha``: mean largest logit over mean residual of the training cases; ``weight`` (C, D) and ``bias`` (C,).
    """

    origin: np.ndarray
    residual_space: np.ndarray
    alpha: float
    weight: np.ndarray
    bias: np.ndarray

    @classmethod
    def fit(
        cls, features: ArrayLike, logits: ArrayLike, weight: ArrayLike, bias: ArrayLike, dimension: int | None = None
    ) -> ViM:
        """Fit to features (N, D), logits (N, C) and the last layer's weight (C, D) and bias (C,).

        ``dimension`` of the principal space: D // 2 by default (the paper: 1,000 of 2,048, 512 of 768).
        UsageError unless 1 <= dimension < D. DataError where logits are not weight @ features + bias, where the
        features have nothing outside the principal space, or where the mean largest logit is not above 0.
        """
        x = checked_features(features)
        z = checked_logits(logits)
        w, b = checked_head(weight, bias, x.shape[1])
        if z.shape != (len(x), len(w)):
            raise DataError(
                f"logits have shape {z.shape}; expected ({len(x)}, {len(w)}), as the features and the weight"
            )
        gap = np.abs(x @ w.T + b - z).max(axis=1)
        worst = int(gap.argmax())
        if gap[worst] > 0.02 * max(1.0, float(np.abs(z).max())):
            raise DataError(
                f"the logits are not weight x features + bias: row {worst} differs by {gap[worst]:.3g}; "
                "pass the features that enter the last layer, and that layer's weight and bias"
            )
        size = x.shape[1] // 2 if dimension is None else dimension
        if not 1 <= size < x.shape[1]:
            raise UsageError(f"dimension {size} of the principal space; expected 1 to {x.shape[1] - 1}, below D")
        # Weight decay takes from W what softmax cannot see, its mean over classes: what single precision leaves of it
        # must not be inverted, or the origin goes to infinity.
        origin = -np.linalg.pinv(w, rcond=_SINGLE) @ b
        centred = x - origin
        # eigh sorts eigenvalues upwards: the first columns are the directions that the training data use least.
        residual_space = np.linalg.eigh(centred.T @ centred / len(x))[1][:, : x.shape[1] - size]
        residual = float(np.linalg.norm(centred @ residual_space, axis=1).mean())
        if residual <= 1e-10 * float(np.linalg.norm(centred, axis=1).mean()):
            raise DataError(
                f"the training features lie in a space of {size} dimensions or fewer: nothing is left outside the "
                f"principal space; ask for a smaller dimension than {size}"
            )
        largest = float(z.max(axis=1).mean())
        if largest <= 0:
            raise DataError(
                f"the largest logit is {largest:.3g} on average; ViM scales its virtual logit by it and needs it "
                "above 0: a net whose logits are all negative has no such score"
            )
        return cls(origin, residual_space, largest / residual, w, b)

    def score(self, features: ArrayLike, logits: ArrayLike | None = None) -> np.ndarray:
        """Return the score (n,) of features (n, D); logits (n, C) are computed from them where they are not given."""
        x = checked_features(features, len(self.origin))
        z = x @ self.weight.T + self.bias if logits is None else checked_logits(logits)
        if len(z) != len(x):
            raise DataError(f"logits of {len(z)} cases and features of {len(x)}; expected as many")
        return self.alpha * np.linalg.norm((x - self.origin) @ self.residual_space, axis=1) - logsumexp(z, axis=1)


def shrunk_covariance(residuals: np.ndarray, shrinkage: Shrinkage = "ledoit-wolf") -> tuple[np.ndarray, float]:
    """Return (1 - s) S + s tr(S) / D I (D, D) of residuals (N, D) with mean 0, and s.

    S = residuals^T residuals / N. ``ledoit-wolf``: the s of least expected squared error (Ledoit & Wolf, J Multivar
    Anal 2004, section 3.3). UsageError unless s is in [0, 1].
    """
    cases, size = residuals.shape
    covariance = residuals.T @ residuals
    covariance /= cases
    scale = float(np.trace(covariance)) / size
    if shrinkage == "ledoit-wolf":
        squares = float(np.vdot(covariance, covariance))
        # ||S - mu I||^2, and the squared error of S estimated from the spread of its N terms x x^T.
        distance = squares - size * scale**2
        fourth = float((np.einsum("nd,nd->n", residuals, residuals) ** 2).mean())
        error = max((fourth - squares) / cases, 0.0)
        used = min(error / distance, 1.0) if distance > 0 else 1.0
    elif isinstance(shrinkage, int | float) and 0 <= shrinkage <= 1:
        used = float(shrinkage)
    else:
        raise UsageError(f"shrinkage {shrinkage!r}; expected 'ledoit-wolf' or a number from 0 to 1")
    covariance *= 1 - used
    covariance[np.diag_indices(size)] += used * scale
    return covariance, used


def whitened(covariance: np.ndarray, shrinkage: float, cases: int, of: str = "") -> tuple[Whitening, tuple[str, ...]]:
    """Return the whitening of a covariance (D, D), which is used up, and notes on how far to trust it.

    ``of``: whose covariance it is, for the messages. DataError where it is singular.
    """
    size = len(covariance)
    norm = float(np.abs(covariance).sum(axis=0).max())
    try:
        factor = cholesky(covariance, lower=True, overwrite_a=True, check_finite=False)
    except LinAlgError:
        raise DataError(
            f"the covariance{of} of {size} features from {cases} cases is singular with shrinkage {shrinkage:.3g}; "
            "use shrinkage='ledoit-wolf' or a larger number, or drop features that repeat others"
        ) from None
    reciprocal = float(dpocon(factor, norm, uplo="L")[0])
    condition = 1 / reciprocal if reciprocal > 0 else np.inf
    notes = []
    if cases <= size:
        notes.append(
            f"the covariance{of} has {size} features and {cases} cases: {max(size - cases, 0)} directions or more are "
            f"known by shrinkage ({shrinkage:.3g}) alone"
        )
    if condition > _ILL_CONDITIONED:
        notes.append(
            f"the covariance{of} is ill-conditioned ({condition:.1e}, shrinkage {shrinkage:.3g}): distances along "
            "directions that the training data hardly use decide the score"
        )
    return Whitening(factor, condition), tuple(notes)


def varying(residuals: np.ndarray, features: np.ndarray, of: str) -> np.ndarray:
    """Return the residuals of features (N, D) about their class means; DataError where they are rounding errors."""
    if _largest(residuals) <= _ROUNDING * _largest(features):
        raise DataError(f"the features do not vary within {of}; pass the features that enter the last layer")
    return residuals


def squared_distances(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return the squared Euclidean distances (n, C) of points (n, D) to a few centres (C, D), without cancellation."""
    squares = np.empty((len(points), len(centres)))
    block = max(1, _BLOCK_CELLS // (8 * points.shape[1]))
    for start in range(0, len(points), block):
        some = points[start : start + block]
        for c, centre in enumerate(centres):
            offset = some - centre
            squares[start : start + block, c] = np.einsum("nd,nd->n", offset, offset)
    return squares


def unit_length(features: np.ndarray) -> np.ndarray:
    """Return features (n, D) divided by their lengths; a row of zeros stays zeros."""
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.maximum(length, np.finfo(float).tiny)


def class_means(features: np.ndarray, codes: np.ndarray, classes: int) -> np.ndarray:
    """Return the means (C, D) of features (N, D) by class code (N,)."""
    members = (codes == np.arange(classes)[:, None]).astype(np.float64)
    return (members @ features) / members.sum(axis=1, keepdims=True)


def _largest(array: np.ndarray) -> float:
    return max(float(array.max()), -float(array.min()))


def checked_features(features: ArrayLike, size: int | None = None) -> np.ndarray:
    """Return features (N, D) as float64; DataError where they are empty, not finite, or not ``size`` wide."""
    x = np.ascontiguousarray(features, dtype=np.float64)
    if x.ndim != 2 or 0 in x.shape:
        raise DataError(f"features have shape {x.shape}; expected (cases, D) with 1 case and 1 feature or more")
    if size is not None and x.shape[1] != size:
        raise DataError(f"{x.shape[1]} features a case; expected {size}, as in the training cases")
    bad = np.flatnonzero(~np.isfinite(x).all(axis=1))
    if bad.size:
        raise DataError(
            f"the features of {bad.size} of {len(x)} cases are not finite, the first is row {bad[0]}; "
            "look at that case's image, or at a training that diverged"
        )
    return x


def labelled(features: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features (N, D), the classes seen (C,) and each case's code (N,) among them.

    DataError where all features are constant, or where a class has one case: its mean is that case, and its distances
    to it are 0.
    """
    x = checked_features(features)
    y = checked_labels(labels, len(x))
    classes, codes, sizes = np.unique(y, return_inverse=True, return_counts=True)
    if (x == x[0]).all():
        raise DataError(f"all {len(x)} training cases have the same features; pass the input of the last layer")
    if sizes.min() < 2:
        raise DataError(
            f"class {classes[sizes.argmin()]} has one training case; expected 2 or more in each class: "
            "add cases, or leave the class out"
        )
    return x, classes, codes


def checked_head(weight: ArrayLike, bias: ArrayLike, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a last layer's weight (C, D) and bias (C,) as float64; DataError unless they fit ``size`` features."""
    w, b = np.asarray(weight, dtype=np.float64), np.asarray(bias, dtype=np.float64)
    if w.ndim != 2 or w.shape[0] < 2 or w.shape[1] != size or b.shape != w.shape[:1]:
        raise DataError(
            f"the last layer's weight has shape {w.shape} and its bias {b.shape}; expected (C, {size}) and (C,), "
            "with 2 classes or more"
        )
    if not (np.isfinite(w).all() and np.isfinite(b).all()):
        raise DataError("the last layer's weight or bias is not finite; the training diverged")
    return w, b
