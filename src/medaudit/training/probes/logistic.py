"""Multinomial logistic regression on frozen features, its penalty chosen on validation cases, as in DINOv2.

scikit-learn's L-BFGS, started at each penalty from the weights of the one before: a path over 45 penalties then costs
little more than its slowest few.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from medaudit.errors import DataError, UsageError
from medaudit.training.probes.linear import standard
from medaudit.training.probes.measures import confusions, scores_of

PENALTIES = tuple(float(c) for c in 10 ** np.linspace(-6, 5, 45))
"""DINOv2's values of C: the smaller, the more the weights are held back."""


@dataclass(frozen=True, eq=False)
class LogisticProbe:
    """Logits = ((x - mean) / scale) @ weight (d, C) + bias (C,), float64; ``c`` is the penalty it was fitted with.

    ``table``: of each C tried its accuracy and macro-F1 on validation cases; empty where none was chosen.
    """

    c: float
    weight: np.ndarray
    bias: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    table: tuple[tuple[float, float, float], ...] = ()
    notes: tuple[str, ...] = ()


def logistic_probe(
    train: np.ndarray, codes: np.ndarray, validation: np.ndarray, validation_codes: np.ndarray, classes: int, *,
    penalties: Sequence[float] = PENALTIES, select: str = "accuracy", refit: bool = False,
) -> LogisticProbe:  # fmt: skip
    """Return the regression on ``train`` (n, d) whose C is best on validation cases, the smallest of equally good ones.

    ``select``: ``accuracy`` or ``macro_f1``. ``refit``: the chosen C once more on training and validation cases
    together. Features are standardised by the cases that are fitted. The path is searched in single precision, to
    scikit-learn's tolerance; the chosen C is fitted in double precision, to 1e-8. Raises DataError and UsageError as
    :func:`fit_logistic`.
    """
    if select not in ("accuracy", "macro_f1"):
        raise UsageError(f"select is '{select}'; expected accuracy or macro_f1")
    if not len(penalties) or min(penalties) <= 0:
        raise UsageError(f"penalties are {tuple(penalties)}; expected one or more above 0")
    _check(train, codes, classes)
    _check(validation, validation_codes, classes)
    mean, scale = standard(train)
    x, unseen = (((some - mean) / scale).astype(np.float32) for some in (train, validation))
    model = LogisticRegression(warm_start=True, max_iter=1000, tol=1e-4)
    table = []
    for c in sorted(penalties):
        model.C = c
        _fit(model, x, codes)
        found = scores_of(confusions(model.predict(unseen), validation_codes, classes))
        table.append((c, float(found["accuracy"]), float(found["macro_f1"])))
    best = max(table, key=lambda row: row[1 if select == "accuracy" else 2])[0]
    both = [train, validation] if refit else [train]
    wanted = [codes, validation_codes] if refit else [codes]
    chosen = fit_logistic(np.concatenate(both), np.concatenate(wanted), classes, best)
    notes = list(chosen.notes)
    if len(table) > 1 and best in (table[0][0], table[-1][0]):
        notes.append(f"the chosen C, {best:.3g}, is the last one tried on its side: a better one may lie beyond")
    return LogisticProbe(best, chosen.weight, chosen.bias, chosen.mean, chosen.scale, tuple(table), tuple(notes))


def fit_logistic(
    features: np.ndarray, codes: np.ndarray, classes: int, c: float = 1.0, *, standardise: bool = True,
    tolerance: float = 1e-8,
) -> LogisticProbe:  # fmt: skip
    """Return the regression on ``features`` (n, d) with one C. A class without a case has the probability 0.

    Raises DataError for features that are not finite, codes that are no class, or cases of one class only.
    """
    _check(features, codes, classes)
    d = features.shape[1]
    mean, scale = standard(features) if standardise else (np.zeros(d), np.ones(d))
    model = LogisticRegression(C=c, max_iter=10_000, tol=tolerance)
    said = _fit(model, (features.astype(np.float64) - mean) / scale, codes)
    weight, bias = np.zeros((d, classes)), np.full(classes, -np.inf)
    known = model.classes_
    # Of two classes scikit-learn keeps one logit: the other's is its negative, halved to stay a softmax.
    coefficients = model.coef_ if len(known) > 2 else np.concatenate([-model.coef_, model.coef_]) / 2
    intercepts = model.intercept_ if len(known) > 2 else np.concatenate([-model.intercept_, model.intercept_]) / 2
    weight[:, known], bias[known] = coefficients.T, intercepts
    missing = sorted(set(range(classes)) - set(known.tolist()))
    notes = [f"no training case of class {one}: its probability is 0" for one in missing] + said
    return LogisticProbe(c, weight, bias, mean, scale, (), tuple(notes))


def logistic_probabilities(probe: LogisticProbe, features: np.ndarray) -> np.ndarray:
    """Return the probabilities (N, C), float64."""
    logits = ((features - probe.mean) / probe.scale) @ probe.weight + probe.bias
    grown = np.exp(logits - logits.max(axis=1, keepdims=True))
    return grown / grown.sum(axis=1, keepdims=True)


def _fit(model: LogisticRegression, x: np.ndarray, codes: np.ndarray) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(x, codes)
    stopped = any(issubclass(one.category, ConvergenceWarning) for one in caught)
    return [f"stopped before it converged, after {model.max_iter} steps, at C = {model.C:.3g}"] if stopped else []


def _check(features: np.ndarray, codes: np.ndarray, classes: int) -> None:
    y = np.asarray(codes)
    if features.ndim != 2 or y.shape != (len(features),) or not len(y):
        raise DataError(f"features have shape {features.shape}, codes {y.shape}; expected (n, d) and (n,), n above 0")
    if y.min() < 0 or y.max() >= classes:
        raise DataError(f"codes run from {y.min()} to {y.max()}; expected 0 to {classes - 1}")
    if len(np.unique(y)) < 2:
        raise DataError(f"all {len(y)} cases are of class {y[0]}; a regression needs two or more classes")
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if bad.size:
        raise DataError(f"the features of case {bad[0]} (and {bad.size - 1} more) are not finite")
