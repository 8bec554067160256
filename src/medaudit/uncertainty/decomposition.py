"""Total, aleatoric and epistemic uncertainty of a prediction that is an average.

TU, the entropy of the mean prediction, is AU, the mean entropy of the predictions, plus EU, what the predictions
disagree on (the mutual information of label and model). The three are not interchangeable: the mean of the members'
entropies is AU, however often it is called the ensemble's entropy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import digamma, rel_entr

from medaudit.errors import DataError
from medaudit.uncertainty.softmax import entropy_of

_ROUNDING = 1e-4
"""By how much probabilities may miss a sum of 1: those of a network in half precision do by 1e-5 or so."""


@dataclass(frozen=True, eq=False)
class Decomposition:
    """The parts of the uncertainty of N cases, (N,) each, in nats but for the last two.

    ``total`` TU = H(mean_t p_t); ``aleatoric`` AU = mean_t H(p_t); ``epistemic`` EU = TU - AU = mean_t KL(p_t || mean),
    in [0, min(ln T, ln C)]. ``variation_ratio``: the share of draws that do not vote for the most voted class.
    ``variance``: the variance over draws (divided by T) of a class's probability, averaged over classes.
    """

    total: np.ndarray
    aleatoric: np.ndarray
    epistemic: np.ndarray
    variation_ratio: np.ndarray
    variance: np.ndarray


@dataclass(frozen=True, eq=False)
class DirichletDecomposition:
    """The parts of the uncertainty of N Dirichlet distributions, (N,) each, in nats but for ``vacuity`` = C / S."""

    total: np.ndarray
    aleatoric: np.ndarray
    epistemic: np.ndarray
    vacuity: np.ndarray


def decompose(probabilities: ArrayLike) -> Decomposition:
    """Return TU, AU and EU of T predictions (T, N, C) of N cases: ensemble members, dropout masks, views, samples.

    EU is computed as a mean divergence, not as the difference TU - AU, which would be rounding error where the draws
    agree (Depeweg et al., ICML 2018; Gal 2016, section 3.3.1 for the variation ratio). DataError where there are fewer
    than two draws, or where a prediction is not a probability distribution.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 3 or p.shape[0] < 2:
        raise DataError(f"predictions have shape {p.shape}; expected (draws, cases, classes) with 2 draws or more")
    checked_probabilities(p.reshape(-1, p.shape[2]), p.shape[1])
    mean = p.mean(axis=0)
    votes = np.zeros(mean.shape)
    rows = np.arange(p.shape[1])
    for draw in p:
        votes[rows, draw.argmax(axis=1)] += 1
    return Decomposition(
        total=entropy_of(mean),
        aleatoric=entropy_of(p).mean(axis=0),
        epistemic=np.maximum(rel_entr(p, mean).sum(axis=2).mean(axis=0), 0.0),
        variation_ratio=1 - votes.max(axis=1) / len(p),
        variance=p.var(axis=0).mean(axis=1),
    )


def dirichlet_decomposition(alpha: ArrayLike) -> DirichletDecomposition:
    """Return TU, AU and EU of Dirichlet concentrations (N, C), as of an infinite ensemble drawn from each.

    With S = sum_c alpha_c: TU = H(alpha / S), AU = sum_c (alpha_c / S) (psi(S + 1) - psi(alpha_c + 1)), EU = TU - AU
    (Malinin & Gales, NeurIPS 2018, appendix C); vacuity C / S (Sensoy et al., NeurIPS 2018).
    DataError where a concentration is not finite and above 0.
    """
    a = np.asarray(alpha, dtype=np.float64)
    if a.ndim != 2 or a.shape[0] == 0 or a.shape[1] < 2:
        raise DataError(f"concentrations have shape {a.shape}; expected (cases, classes) with 2 classes or more")
    bad = np.flatnonzero(~(np.isfinite(a) & (a > 0)).all(axis=1))
    if bad.size:
        raise DataError(
            f"{bad.size} of {len(a)} cases have a concentration that is not a finite number above 0, the first is row "
            f"{bad[0]}; pass alpha = 1 + evidence, not logits"
        )
    strength = a.sum(axis=1, keepdims=True)
    mean = a / strength
    total = entropy_of(mean)
    aleatoric = (mean * (digamma(strength + 1) - digamma(a + 1))).sum(axis=1)
    return DirichletDecomposition(total, aleatoric, np.maximum(total - aleatoric, 0.0), a.shape[1] / strength[:, 0])


def checked_probabilities(probabilities: ArrayLike, cases: int | None = None) -> np.ndarray:
    """Return probabilities (N, C) as float64; DataError where a row is not finite, is negative or does not sum to 1.

    ``cases``: how many rows make one draw, to name the case where several draws are stacked.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 2 or p.shape[0] == 0 or p.shape[1] < 2:
        raise DataError(
            f"probabilities have shape {p.shape}; expected (cases, classes) with 1 case and 2 classes or more"
        )
    with np.errstate(invalid="ignore"):
        bad = np.flatnonzero(~((p >= 0).all(axis=1) & (np.abs(p.sum(axis=1) - 1) <= _ROUNDING)))
    if bad.size:
        where = f"row {bad[0]}" if cases is None else f"case {bad[0] % cases} of draw {bad[0] // cases}"
        raise DataError(
            f"{bad.size} of {len(p)} predictions are no probabilities (0 or more, with sum 1), the first is {where}, "
            f"with sum {p[bad[0]].sum():.6g}; pass probabilities, not logits"
        )
    return p
