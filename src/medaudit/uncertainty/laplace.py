"""Last-layer Laplace approximation: a Gaussian over the weights of the last layer, from cached features.

The posterior's precision is the generalised Gauss-Newton matrix of the training cases plus tau I:

    sum_n (phi_n phi_n^T) (x) Lambda_n + tau I,   Lambda_n = diag(p_n) - p_n p_n^T,   phi_n = [features_n, 1]

in full, or as one Kronecker product A (x) B with A = sum_n phi_n phi_n^T and B = mean_n Lambda_n (KFAC), which is exact
where all p_n are equal, or N = 1 (Ritter et al., ICLR 2018; Daxberger et al., NeurIPS 2021). The bias is one more
weight, of the feature 1. laplace-torch 0.3 does the same in full; its Kronecker form keeps the bias apart from the
weights, so that it agrees where the feature 1 is added by hand and the layer has no bias.

Adding a constant to all logits changes no probability, so that the logits' covariance along (1, ..., 1) is the prior's.
The probit link reads it all the same (as laplace-torch's does); the bridge and the sampled link do not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logsumexp, softmax

from medaudit.errors import DataError, UsageError
from medaudit.uncertainty.distances import checked_features, checked_head
from medaudit.uncertainty.softmax import checked_labels, log_softmax, negative_log_likelihood

LARGEST_FULL = 4096
"""Weights, biases included, up to which the full precision is built: its eigenvectors take 128 MB."""

VALIDATION_GRID = np.logspace(-1, 2, 31)
"""The prior precisions tau that ``prior="validation"`` tries."""

_BLOCK_CELLS = 8_000_000
_NEWTON_STEPS = 200


@dataclass(frozen=True, eq=False)
class LastLayerLaplace:
    """The posterior of a last layer's ``weight`` (C, D) and ``bias`` (C,), of prior precision ``tau``.

    ``vectors`` and ``eigenvalues`` are those of the Gauss-Newton matrix without the prior: for ``full`` one matrix
    (P, P), P = C (D + 1), class by class, and (P,); for ``kron`` those of A (D + 1, D + 1) and B (C, C), and their
    products (D + 1, C). ``log_likelihood`` of the training labels: NaN where none were given. ``notes`` for a reader.
    """

    weight: np.ndarray
    bias: np.ndarray
    structure: str
    tau: float
    eigenvalues: np.ndarray
    vectors: tuple[np.ndarray, ...]
    log_likelihood: float
    notes: tuple[str, ...] = ()

    @classmethod
    def fit(
        cls,
        features: ArrayLike,
        weight: ArrayLike,
        bias: ArrayLike,
        *,
        structure: Literal["full", "kron"] | str = "kron",
        prior: Literal["marginal", "validation"] | str | float = "marginal",
        validation: tuple[ArrayLike, ArrayLike] | None = None,
        labels: ArrayLike | None = None,
    ) -> LastLayerLaplace:
        """Fit to the training features (N, D) of a trained last layer.

        ``prior``: a precision tau > 0; ``marginal``, the one of largest marginal likelihood; or ``validation``, the one
        of :data:`VALIDATION_GRID` whose probit predictions are likeliest on ``validation``, (features (n, D), labels
        (n,)), cases from the training distribution and never the shifted ones. Training ``labels`` (N,) enter
        :meth:`log_marginal_likelihood` alone. UsageError on an unknown option or where ``full`` would be too large;
        DataError on data that do not fit each other.
        """
        x = checked_features(features)
        w, b = checked_head(weight, bias, x.shape[1])
        classes, size = len(w), x.shape[1] + 1
        if structure not in ("full", "kron"):
            raise UsageError(f"structure {structure!r}; expected 'full' or 'kron'")
        if structure == "full" and classes * size > LARGEST_FULL:
            raise UsageError(
                f"a full Laplace approximation of {classes} x {size} = {classes * size:,} weights is too large "
                f"(at most {LARGEST_FULL:,}); use structure='kron'"
            )
        phi = _with_one(x)
        logs = log_softmax(x @ w.T + b)
        likelihood = math.nan
        if labels is not None:
            y = checked_labels(labels, len(x), classes)
            likelihood = float(logs[np.arange(len(y)), y].sum())
        eigenvalues, vectors = (_full if structure == "full" else _kron)(phi, np.exp(logs))
        fitted = cls(w, b, structure, math.nan, eigenvalues, vectors, likelihood)
        if prior == "marginal":
            return fitted._with(fitted._likeliest_tau())
        if prior == "validation":
            if validation is None:
                raise UsageError("prior='validation' needs validation=(features, labels) of in-distribution cases")
            return fitted._validated(*validation)
        if isinstance(prior, int | float) and 0 < prior < math.inf:
            return fitted._with(float(prior))
        raise UsageError(f"prior {prior!r}; expected 'marginal', 'validation' or a precision above 0")

    def log_marginal_likelihood(self, tau: float | None = None) -> float:
        """Return Laplace's approximation of ln p(training labels) at prior precision ``tau`` (its own by default).

        ln p(labels | weights) - tau ||weights||^2 / 2 + (P ln tau - ln det(precision)) / 2, in nats.
        UsageError where the fit was given no labels, or where tau is not above 0.
        """
        if math.isnan(self.log_likelihood):
            raise UsageError("the marginal likelihood needs the training labels; pass labels=... to fit")
        value = self.tau if tau is None else tau
        if not value > 0:
            raise UsageError(f"tau {value}; expected a number above 0")
        return self.log_likelihood - value * self._square_norm / 2 - float(np.log1p(self.eigenvalues / value).sum()) / 2

    def logit_covariance(self, features: ArrayLike) -> np.ndarray:
        """Return the posterior covariance (n, C, C) of the logits of features (n, D), in blocks of cases.

        Kronecker: sum_ij (q_Ai^T phi)^2 / (a_i b_j + tau) q_Bj q_Bj^T. Full: phi^T Sigma_cd phi from the blocks of
        Sigma. The Jacobian (n, C, P) is never built.
        """
        x = checked_features(features, self.weight.shape[1])
        classes = len(self.weight)
        if self.structure == "kron":
            within = self.vectors[1]
            return (within * self._variances(x)[:, None, :]) @ within.T
        size = x.shape[1] + 1
        sigma = self._sigma
        covariance = np.empty((len(x), classes, classes))
        for rows in _blocks(len(x), size):
            phi = _with_one(x[rows])
            for c in range(classes):
                for d in range(c, classes):
                    part = sigma[c * size : (c + 1) * size, d * size : (d + 1) * size]
                    covariance[rows, c, d] = covariance[rows, d, c] = np.einsum("np,np->n", phi @ part, phi)
        return covariance

    def logit_variance(self, features: ArrayLike) -> np.ndarray:
        """Return the posterior variance (n, C) of each logit of features (n, D)."""
        x = checked_features(features, self.weight.shape[1])
        if self.structure == "kron":
            return self._variances(x) @ (self.vectors[1] ** 2).T
        classes, size = len(self.weight), x.shape[1] + 1
        sigma = self._sigma.reshape(classes, size, classes, size)
        variance = np.empty((len(x), classes))
        for rows in _blocks(len(x), size):
            phi = _with_one(x[rows])
            for c in range(classes):
                variance[rows, c] = np.einsum("np,np->n", phi @ sigma[c, :, c], phi)
        return variance

    def predict(
        self, features: ArrayLike, link: Literal["probit", "bridge", "mc"] | str = "probit", samples: int = 100,
        seed: int = 0,
    ) -> np.ndarray:  # fmt: skip
        """Return the predictive probabilities (n, C) of features (n, D).

        ``probit``: softmax(z / sqrt(1 + pi/8 variance)) (MacKay 1992; Kristiadi et al., ICML 2020). ``bridge``: the
        Laplace bridge to a Dirichlet (Hobbhahn et al., UAI 2022), on logits conditioned to sum to 0. ``mc``: the mean
        of :meth:`draws`. UsageError on another link.
        """
        if link == "probit":
            z = self._logits(features)
            return softmax(z / np.sqrt(1 + math.pi / 8 * self.logit_variance(features)), axis=1)
        if link == "bridge":
            return self._bridge(self._logits(features), self.logit_covariance(features))
        if link == "mc":
            return self.draws(features, samples, seed).mean(axis=0)
        raise UsageError(f"link {link!r}; expected 'probit', 'bridge' or 'mc'")

    def draws(self, features: ArrayLike, samples: int = 100, seed: int = 0) -> np.ndarray:
        """Return softmax(z + S^(1/2) e_t) (samples, n, C) for e_t ~ N(0, I): give them to ``decompose`` for TU, AU, EU.

        S^(1/2) is the symmetric root, and e_t is the same for all cases: a case's draws do not depend on its company,
        and two cases differ by their logits and covariances, not by luck. UsageError unless ``samples`` >= 2.
        """
        if samples < 2:
            raise UsageError(f"{samples} samples; expected 2 or more")
        z = self._logits(features)
        values, vectors = np.linalg.eigh(self.logit_covariance(features))
        root = (vectors * np.sqrt(np.maximum(values, 0))[:, None, :]) @ vectors.transpose(0, 2, 1)
        noise = np.random.default_rng(seed).standard_normal((samples, z.shape[1]))
        return softmax(z + np.einsum("ncd,td->tnc", root, noise), axis=2)

    @property
    def _square_norm(self) -> float:
        return float((self.weight**2).sum() + (self.bias**2).sum())

    @property
    def _sigma(self) -> np.ndarray:
        return (self.vectors[0] / (self.eigenvalues + self.tau)) @ self.vectors[0].T

    def _logits(self, features: ArrayLike) -> np.ndarray:
        return checked_features(features, self.weight.shape[1]) @ self.weight.T + self.bias

    def _variances(self, x: np.ndarray) -> np.ndarray:
        """Return the logits' variances (n, C) along the eigenvectors of B."""
        inverse = 1 / (self.eigenvalues + self.tau)
        variances = np.empty((len(x), len(self.weight)))
        for rows in _blocks(len(x), x.shape[1]):
            variances[rows] = (_with_one(x[rows]) @ self.vectors[0]) ** 2 @ inverse
        return variances

    def _variances_at(self, x: np.ndarray, taus: np.ndarray) -> np.ndarray:
        """Return the logits' variances (T, n, C) at T prior precisions, for one product with the eigenvectors."""
        classes, size = len(self.weight), x.shape[1] + 1
        inverses = 1 / (self.eigenvalues + taus.reshape(-1, *np.ones(self.eigenvalues.ndim, dtype=int)))
        variances = np.empty((len(taus), len(x), classes))
        for rows in _blocks(len(x), len(self.vectors[0])):
            phi = _with_one(x[rows])
            if self.structure == "kron":
                variances[:, rows] = ((phi @ self.vectors[0]) ** 2 @ inverses) @ (self.vectors[1] ** 2).T
                continue
            for c in range(classes):
                along = (phi @ self.vectors[0][c * size : (c + 1) * size]) ** 2
                variances[:, rows, c] = (along @ inverses.T).T
        return variances

    def _with(self, tau: float, notes: tuple[str, ...] = ()) -> LastLayerLaplace:
        return LastLayerLaplace(
            self.weight, self.bias, self.structure, tau, self.eigenvalues, self.vectors, self.log_likelihood, notes
        )

    def _likeliest_tau(self) -> float:
        """Return the root of the marginal likelihood's slope in t = ln tau, by Newton's steps kept inside a bracket.

        The slope, (sum_i e_i / (e_i + tau) - tau ||weights||^2) / 2, falls in tau: there is one root.
        """
        e, norm = self.eigenvalues[self.eigenvalues > 0], self._square_norm
        if e.size == 0 or norm == 0:
            raise DataError(
                "the marginal likelihood has no largest point: every training probability is exactly 0 or 1, or all "
                "weights are 0; give the prior a number"
            )
        # At the upper end each term of the sum is below 1; at the lower, e / (e + tau) >= min(e / tau, 1) / 2.
        low, high = math.log(min(math.sqrt(float(e.max()) / (2 * norm)), 1 / (2 * norm))), math.log(e.size / norm)
        t = high
        for _ in range(_NEWTON_STEPS):
            tau = math.exp(t)
            share = e / (e + tau)
            slope = float(share.sum()) - tau * norm
            low, high = (t, high) if slope > 0 else (low, t)
            step = t + slope / (float((share * (1 - share)).sum()) + tau * norm)
            following = step if low < step < high else (low + high) / 2
            if abs(following - t) < 1e-13 * max(1.0, abs(t)):
                break
            t = following
        return math.exp(t)

    def _validated(self, features: ArrayLike, labels: ArrayLike) -> LastLayerLaplace:
        z, losses = self._logits(features), []
        y = checked_labels(labels, len(z), z.shape[1])
        for variance in self._variances_at(checked_features(features), VALIDATION_GRID):
            losses.append(negative_log_likelihood(z / np.sqrt(1 + math.pi / 8 * variance), y))
        best = int(np.argmin(losses))
        edge = best in (0, len(losses) - 1)
        note = (f"the likeliest prior precision, {VALIDATION_GRID[best]:g}, is at the edge of those tried",)
        return self._with(float(VALIDATION_GRID[best]), note if edge else ())

    def _bridge(self, z: np.ndarray, covariance: np.ndarray) -> np.ndarray:
        classes = z.shape[1]
        rows, total = covariance.sum(axis=2), covariance.sum(axis=(1, 2))
        z = z - rows * (z.sum(axis=1) / total)[:, None]
        variance = np.einsum("ncc->nc", covariance) - rows**2 / total[:, None]
        # In logarithms: e^z_c times the sum of e^-z overflows for confident cases.
        with np.errstate(divide="ignore"):
            spread = z - 2 * math.log(classes) + logsumexp(-z, axis=1, keepdims=True)
            alpha = np.logaddexp(np.log(1 - 2 / classes), spread) - np.log(np.maximum(variance, np.finfo(float).tiny))
        return softmax(alpha, axis=1)


def _with_one(x: np.ndarray) -> np.ndarray:
    return np.concatenate([x, np.ones((len(x), 1))], axis=1)


def _blocks(cases: int, width: int) -> list[slice]:
    block = max(1, _BLOCK_CELLS // width)
    return [slice(start, start + block) for start in range(0, cases, block)]


def _kron(phi: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Return the eigenvalues a_i b_j (D + 1, C) and the eigenvectors of A and B."""
    # Rows of Lambda sum to 0: p (1 - p) as the sum of the products with the other classes keeps its digits where p is
    # nearly 1, as an overfitted net's training probabilities are.
    among = p.T @ p / -len(p)
    np.fill_diagonal(among, 0)
    np.fill_diagonal(among, -among.sum(axis=1))
    a, q_a = np.linalg.eigh(phi.T @ phi)
    b, q_b = np.linalg.eigh(among)
    return np.outer(_not_negative(a), _not_negative(b)), (q_a, q_b)


def _full(phi: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Return the eigenvalues (P,) and eigenvectors (P, P) of the Gauss-Newton matrix, class by class."""
    classes, size = p.shape[1], phi.shape[1]
    matrix = np.empty((classes, size, classes, size))
    for c in range(classes):
        # p_c (1 - p_c) without the cancellation, as in _kron.
        weights = -p[:, c, None] * p
        weights[:, c] = 0
        weights[:, c] = -weights.sum(axis=1)
        for d in range(c, classes):
            matrix[c, :, d] = (phi * weights[:, d, None]).T @ phi
            matrix[d, :, c] = matrix[c, :, d]
    values, vectors = np.linalg.eigh(matrix.reshape(classes * size, classes * size))
    return _not_negative(values), (vectors,)


def _not_negative(values: np.ndarray) -> np.ndarray:
    """Return the eigenvalues of a matrix that has none below 0, without the rounding errors that are."""
    return np.where(values > values.max() * np.finfo(float).eps * len(values), values, 0.0)
