"""What an ensemble's likelihoods say together: WAIC, and how few of its members speak for an image.

Both are from log p(x | θ_m) of members or draws m = 1..M. They are known to us from the papers' formulas, not from
their code:

- WAIC(x) = E_m log p - Var_m log p (Choi, Jang & Alemi, arXiv 1810.01392): a mean, minus a penalty for disagreement.
- D(x) = 1 / Σ_m w_m² with w_m = p(x | θ_m) / Σ p(x | θ_m) (Daxberger & Hernández-Lobato, arXiv 1912.05651): the
  effective number of members, M where all agree and 1 where one alone speaks for the image.

p(x | θ) is bounded by importance weighting; that the bound stands for it is our choice, as is M - 1 in the variance.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.special import logsumexp
from torch import Tensor

from medaudit.errors import DataError, UsageError
from medaudit.uncertainty.generators.ensemble import Members
from medaudit.uncertainty.generators.likelihood import negative_iwae


def log_likelihoods(models: Members, batches: Iterable[Tensor], variance: float, draws: int, seed: int) -> np.ndarray:
    """Return the importance-weighted bound of log p(x | θ_m) of each member, nats an image, (M, N) float64.

    ``variance`` is s², one for all members, so that they differ by what they draw; ``draws`` codes by common noise.
    """
    parts = [
        np.stack([-negative_iwae(model, [images], variance, draws, seed) for model in models]) for images in batches
    ]
    if not parts:
        raise DataError("no batch of images was given")
    return np.concatenate(parts, axis=1)


def negative_waic(log_likelihood: np.ndarray) -> np.ndarray:
    """Return Var_m - E_m of log-likelihoods (M, N), nats, (N,).

    The variance is in nats squared: over thousands of pixels it rules the sum.
    """
    found = _checked(log_likelihood)
    return found.var(axis=0, ddof=1) - found.mean(axis=0)


def effective_members(log_likelihood: np.ndarray) -> np.ndarray:
    """Return D = 1 / Σ w² of log-likelihoods (M, N), from 1 to M, (N,): the lower, the more the members disagree."""
    return 1 / disagreement_score(log_likelihood)


def disagreement_score(log_likelihood: np.ndarray) -> np.ndarray:
    """Return Σ w² = 1 / D of log-likelihoods (M, N), from 1 / M to 1, (N,): the higher, the more they disagree.

    Images whose members differ by more than about 36 nats are all 1 to the last bit, and tie; whole images of many
    pixels often do.
    """
    found = _checked(log_likelihood)
    return np.exp(2 * (found - logsumexp(found, axis=0))).sum(axis=0)


def _checked(log_likelihood: np.ndarray) -> np.ndarray:
    found = np.asarray(log_likelihood, dtype=np.float64)
    if found.ndim != 2 or len(found) < 2:
        raise UsageError(f"log-likelihoods have shape {found.shape}; expected (members, images) with 2 members or more")
    bad = np.flatnonzero(~np.isfinite(found).all(axis=0))
    if bad.size:
        raise DataError(f"the log-likelihoods of {bad.size} images are not finite, the first is image {bad[0]}")
    return found
