"""The Laplace posterior over the parameters: prior precision α, and the k eigenpairs of the GGN that were found.

Λ = Σ λ_i u_i u_i^T + α I and its inverse by Woodbury, exact for these k pairs (spec 1.2):
Σ = (I - U diag(w) U^T) / α with w = λ / (λ + α). The ``projector`` takes w = 1: what training saw is certain, and α is
a mere scale ("local ensembles" of the SLU code).
"""

from __future__ import annotations

import math

import torch
from scipy.optimize import brentq
from torch import Tensor

from medaudit.errors import UsageError

WEIGHTS = ("eigenvalue", "projector")


def retained(values: Tensor, prior_precision: float, weights: str) -> Tensor:
    """Return w (k,): the part of the prior's variance that training takes away along each eigenvector."""
    if weights not in WEIGHTS:
        raise UsageError(f"weights is '{weights}'; expected one of {', '.join(WEIGHTS)}")
    return torch.ones_like(values) if weights == "projector" else values / (values + prior_precision)


def square_root(rows: Tensor, vectors: Tensor, removed: Tensor, prior_precision: float) -> Tensor:
    """Return Σ^(1/2) v for rows (b, P): (I - U diag(1 - sqrt(1 - w)) U^T) v / sqrt(α)."""
    along = rows @ vectors.T
    shrunk = along * (1 - (1 - removed).clamp_min(0).sqrt()).to(rows.dtype)
    return (rows - shrunk @ vectors) / prior_precision**0.5


def covariance(rows: Tensor, vectors: Tensor, removed: Tensor, prior_precision: float) -> Tensor:
    """Return Σ v for rows (b, P)."""
    return (rows - ((rows @ vectors.T) * removed.to(rows.dtype)) @ vectors) / prior_precision


def marginal_precision(values: Tensor, squared_norm: float) -> float:
    """Return the α that maximises the marginal likelihood of the low-rank posterior.

    MacKay's condition α |θ|² = γ(α) with γ = Σ λ_i / (λ_i + α), the number of well-determined parameters: there the
    derivative of log det Λ / 2 - P log α / 2 + α |θ|² / 2 is 0. The left side rises and the right side falls, so there
    is one root, found between bounds; repeating α <- γ / |θ|² can turn around it without end. Raises UsageError where
    all parameters or all eigenvalues are 0.
    """
    if not squared_norm > 0 or not float(values.max()) > 0:
        raise UsageError(
            "the marginal likelihood has no maximum: all parameters or eigenvalues are 0; give prior_precision"
        )
    known = values.double()

    def excess(log_alpha: float) -> float:
        alpha = math.exp(log_alpha)
        return float((known / (known + alpha)).sum()) - alpha * squared_norm

    high = math.log(len(values) / squared_norm) + 1e-9  # γ is at most the number of eigenvalues
    low = high
    while excess(low) <= 0:
        low -= 5.0
    return math.exp(brentq(excess, low, high + 1e-6, xtol=1e-12))
