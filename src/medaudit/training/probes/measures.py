"""How good a classifier's probabilities are, by case, by class and on average, and over resampled patients.

The numbers are those of scikit-learn, macro averages over the classes that have a case. Over resamples everything but
the AUROC follows from one confusion matrix a patient: a resample is then a row of a matrix product.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from medaudit.errors import DataError
from medaudit.metrics.ranking_draws import ranking_draws

MACRO = ("accuracy", "macro_precision", "macro_recall", "macro_f1", "macro_auroc")
BY_CLASS = ("precision", "recall", "f1", "auroc")


def case_outcomes(probabilities: ArrayLike, codes: ArrayLike) -> dict[str, np.ndarray]:
    """Return (N,) each: ``correct`` (0 or 1), ``confidence``, ``true_probability``, ``nll`` (nats) and ``brier``.

    Means of these, by group and with intervals, are what ``statistics.bootstrap_means`` is for.
    """
    p, y = _checked(probabilities, codes)
    own = p[np.arange(len(y)), y]
    with np.errstate(divide="ignore"):
        nll = -np.log(own)
    return {
        "correct": (p.argmax(axis=1) == y).astype(np.float64),
        "confidence": p.max(axis=1),
        "true_probability": own,
        "nll": nll,
        "brier": (p**2).sum(axis=1) - 2 * own + 1,
    }


def measures(probabilities: ArrayLike, codes: ArrayLike) -> dict[str, np.ndarray]:
    """Return the measures of all cases: those of :data:`MACRO` as scalars, of :data:`BY_CLASS` as (C,)."""
    p, y = _checked(probabilities, codes)
    drawn = measure_draws(p, y, np.zeros(len(y), dtype=np.int64), np.ones((1, 1), dtype=np.int32))
    return {name: values[0] for name, values in drawn.items()}


def measure_draws(
    probabilities: ArrayLike, codes: ArrayLike, cluster: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Return each measure in each of B resamples: (B,) for :data:`MACRO`, (B, C) for :data:`BY_CLASS`.

    ``probabilities`` (N, C), ``codes`` (N,); ``cluster`` (N,) is the patient of each case, 0 to P - 1, ``weights``
    (B, P) how often each was drawn: both from ``statistics.patients.patient_weights``. The same weights for two
    probes make their difference a paired one. A class without a case in a resample is NaN there, and is left out of
    that resample's averages; so is, of the AUROC alone, a class that all cases have.
    Raises DataError for probabilities that are none, codes that are no class, weights that do not fit.
    """
    p, y = _checked(probabilities, codes)
    classes = p.shape[1]
    drawn = scores_of(confusions(p.argmax(axis=1), y, classes, cluster, weights))
    by_class = [ranking_draws(p[:, c][None], y == c, None, cluster, weights)["auroc"][:, 0] for c in range(classes)]
    drawn["auroc"] = np.stack(by_class, axis=1)
    drawn["macro_auroc"] = _mean_of_known(drawn["auroc"])
    return {name: drawn[name] for name in (*MACRO, *BY_CLASS)}


def confusions(
    found: np.ndarray, codes: np.ndarray, classes: int, cluster: np.ndarray | None = None,
    weights: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """Return how many cases of class i were called j, (C, C), or in each resample, (B, C, C), by ``weights`` (B, P)."""
    pair = np.asarray(codes) * classes + np.asarray(found)
    if cluster is None or weights is None:
        return np.bincount(pair, minlength=classes**2).reshape(classes, classes)
    patients = weights.shape[1]
    by_patient = np.bincount(cluster * classes**2 + pair, minlength=patients * classes**2).reshape(patients, -1)
    return (weights.astype(np.float64) @ by_patient).reshape(-1, classes, classes)


def scores_of(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Return ``accuracy``, ``macro_*`` (...,) and ``precision``, ``recall``, ``f1`` (..., C) of (..., C, C).

    A class that is never called has precision and F1 0, as in scikit-learn; one without a case has NaN.
    """
    counts = np.asarray(confusion, dtype=np.float64)
    right, true, called = np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(-1), counts.sum(-2)
    with np.errstate(invalid="ignore", divide="ignore"):
        made = {
            "precision": np.where(called > 0, right / called, 0.0),
            "recall": right / true,
            "f1": 2 * right / (true + called),
        }
        made = {name: np.where(true > 0, values, np.nan) for name, values in made.items()}
        macro = {f"macro_{name}": _mean_of_known(values) for name, values in made.items()}
        return {"accuracy": right.sum(-1) / true.sum(-1), **macro, **made}


def _mean_of_known(values: np.ndarray) -> np.ndarray:
    known = np.isfinite(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(known, values, 0.0).sum(-1) / known.sum(-1)


def _checked(probabilities: ArrayLike, codes: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(codes)
    if p.ndim != 2 or y.shape != (len(p),) or not len(p):
        raise DataError(f"probabilities {p.shape}, codes {y.shape}; expected (N, C) and (N,), N above 0")
    bad = np.flatnonzero(~(np.isfinite(p).all(axis=1) & (np.abs(p.sum(axis=1) - 1) < 1e-4)))
    if bad.size:
        raise DataError(f"row {bad[0]} (and {bad.size - 1} more) is no distribution: {p[bad[0]]}; pass probabilities")
    if y.min() < 0 or y.max() >= p.shape[1]:
        raise DataError(f"codes run from {y.min()} to {y.max()}; expected 0 to {p.shape[1] - 1}")
    return p, y.astype(np.int64)
