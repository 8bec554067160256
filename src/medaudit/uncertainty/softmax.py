"""Scores from the logits alone, and the temperature that makes them calibrated.

Every score takes logits (N, C) and gives (N,) float64; larger is more uncertain. None of them subtracts a probability
from 1: in a confident case the result would be 0, as it would be in thousands of others, and a score with ties cannot
rank. What is left to the other classes is added up instead, and keeps its 16 digits down to 1e-308.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logsumexp, xlogy

from medaudit.errors import DataError, UsageError

TEMPERATURES = (0.01, 100.0)
"""The range that :func:`temperature` searches. At its edges the likelihood has no optimum inside."""

_STEPS = 200
"""Newton and bisection steps together; some ten are enough."""


def log_softmax(logits: ArrayLike) -> np.ndarray:
    """Return the log-probabilities (N, C) of logits (N, C); the largest is exact where it is nearly 0."""
    z = checked_logits(logits)
    rows, top = np.arange(len(z)), z.argmax(axis=1)
    shifted = z - z[rows, top][:, None]
    others = np.exp(shifted)
    others[rows, top] = 0
    return shifted - np.log1p(others.sum(axis=1))[:, None]


def max_probability(logits: ArrayLike) -> np.ndarray:
    """Return 1 - max_c p_c (N,), in [0, 1 - 1/C] (Hendrycks & Gimpel, ICLR 2017)."""
    return _complements(log_softmax(logits)).min(axis=1)


def entropy(logits: ArrayLike) -> np.ndarray:
    """Return the entropy of the softmax (N,), in nats, in [0, ln C]."""
    logs = log_softmax(logits)
    return -(np.exp(logs) * logs).sum(axis=1)


def margin(logits: ArrayLike) -> np.ndarray:
    """Return 1 - (p_(1) - p_(2)) (N,), with p_(1) and p_(2) the two largest probabilities; in [0, 1]."""
    logs = log_softmax(logits)
    return _complements(logs).min(axis=1) + np.exp(np.partition(logs, -2, axis=1)[:, -2])


def energy(logits: ArrayLike, temperature: float = 1.0) -> np.ndarray:
    """Return -T logsumexp(z / T) (N,) (Liu et al., NeurIPS 2020).

    Unlike softmax scores it changes when a constant is added to a case's logits. UsageError unless T > 0.
    """
    if not (np.isfinite(temperature) and temperature > 0):
        raise UsageError(f"temperature {temperature}; expected a number above 0")
    return -temperature * logsumexp(checked_logits(logits) / temperature, axis=1)


def max_logit(logits: ArrayLike) -> np.ndarray:
    """Return -max_c z_c (N,) (Hendrycks et al., ICML 2022)."""
    return -checked_logits(logits).max(axis=1)


def generalised_entropy(logits: ArrayLike, gamma: float = 0.1, top: int | None = None) -> np.ndarray:
    """Return GEN (N,): the sum of p^gamma (1 - p)^gamma over the ``top`` largest p (Liu et al., CVPR 2023, eq. 5).

    By default over all classes. UsageError unless gamma > 0 and 1 <= top <= C.
    """
    logs = log_softmax(logits)
    if not gamma > 0:
        raise UsageError(f"gamma {gamma}; expected a number above 0 (the paper takes 0.1)")
    if top is not None and not 1 <= top <= logs.shape[1]:
        raise UsageError(f"top {top}; expected 1 to {logs.shape[1]}, the number of classes")
    # In logarithms: a probability of 1e-320 to the power of 0.1 is not 0.
    with np.errstate(divide="ignore"):
        terms = np.exp(gamma * (logs + np.log(_complements(logs))))
    if top is not None:
        terms = np.take_along_axis(terms, np.argsort(-logs, axis=1, kind="stable")[:, :top], axis=1)
    return terms.sum(axis=1)


def doctor(logits: ArrayLike) -> np.ndarray:
    """Return (1 - g) / g (N,) with g = sum_c p_c^2 (DOCTOR, Granese et al., NeurIPS 2021); in [0, C - 1]."""
    logs = log_softmax(logits)
    p = np.exp(logs)
    return (p * _complements(logs)).sum(axis=1) / (p**2).sum(axis=1)


def negative_log_likelihood(logits: ArrayLike, labels: ArrayLike) -> float:
    """Return the mean of -ln p_label over the cases: logits (N, C), labels (N,) int."""
    logs = log_softmax(logits)
    return -float(logs[np.arange(len(logs)), checked_labels(labels, len(logs), logs.shape[1])].mean())


def temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """Return the T that minimises the mean of -ln softmax(z / T)_label over validation cases (Guo et al., ICML 2017).

    The loss is convex in 1/T; Newton's steps in 1/T, halved into the bracket where they leave it, find its minimum to
    machine precision. Labels of a single class are fine. Where every case is classified correctly (or none better than
    by chance) the loss falls all the way to T = 0 (or infinity): the edge of :data:`TEMPERATURES` comes back.
    DataError on logits that are not finite, or on labels outside 0..C-1.
    """
    z = checked_logits(logits)
    y = checked_labels(labels, len(z), z.shape[1])
    # Differences to the label's logit: their mean under softmax is the slope, their variance the curvature.
    z = z - z[np.arange(len(z)), y][:, None]

    def slope(beta: float) -> tuple[float, float]:
        p = np.exp(log_softmax(beta * z))
        mean = (p * z).sum(axis=1)
        return float(mean.mean()), float(((p * (z - mean[:, None]) ** 2).sum(axis=1)).mean())

    low, high = 1 / TEMPERATURES[1], 1 / TEMPERATURES[0]
    if slope(low)[0] >= 0:
        return TEMPERATURES[1]
    if slope(high)[0] <= 0:
        return TEMPERATURES[0]
    beta = 1.0
    for _ in range(_STEPS):
        first, second = slope(beta)
        low, high = (low, beta) if first > 0 else (beta, high)
        step = beta - first / second if second > 0 else np.nan
        following = step if low < step < high else np.sqrt(low * high)
        if abs(following - beta) <= 4 * np.finfo(float).eps * beta:
            break
        beta = float(following)
    return 1 / beta


def checked_logits(logits: ArrayLike) -> np.ndarray:
    """Return logits (N, C) as float64; DataError where they are empty, have one class, or are not finite."""
    z = np.asarray(logits, dtype=np.float64)
    if z.ndim != 2 or z.shape[0] == 0 or z.shape[1] < 2:
        raise DataError(f"logits have shape {z.shape}; expected (cases, classes) with 1 case and 2 classes or more")
    bad = np.flatnonzero(~np.isfinite(z).all(axis=1))
    if bad.size:
        raise DataError(
            f"the logits of {bad.size} of {len(z)} cases are not finite, the first is row {bad[0]}; "
            "look at that case's image, or at a training that diverged"
        )
    return z


def checked_labels(labels: ArrayLike, cases: int, classes: int | None = None) -> np.ndarray:
    """Return labels (N,) as int64; DataError where one is missing, no whole number, or outside 0..classes - 1."""
    found = np.asarray(labels)
    if found.shape != (cases,):
        raise DataError(f"labels have shape {found.shape}; expected ({cases},), one a case")
    if found.dtype.kind not in "iub" and not (found.dtype.kind == "f" and (found == np.round(found)).all()):
        raise DataError(f"labels are of type {found.dtype}; expected whole numbers 0, 1, ... that count the classes")
    y = found.astype(np.int64)
    bad = np.flatnonzero((y < 0) if classes is None else (y < 0) | (y >= classes))
    if bad.size:
        limit = "0 or more" if classes is None else f"0 to {classes - 1}"
        raise DataError(
            f"{bad.size} of {cases} labels are out of range, the first is {y[bad[0]]} in row {bad[0]}; "
            f"expected {limit}; leave out the cases without a label"
        )
    return y


def entropy_of(probabilities: np.ndarray) -> np.ndarray:
    """Return the entropy in nats of probabilities (..., C), with 0 ln 0 = 0: (...,)."""
    return -xlogy(probabilities, probabilities).sum(axis=-1)


def _complements(logs: np.ndarray) -> np.ndarray:
    """Return 1 - p (N, C) from log-probabilities: -expm1 keeps the digits that 1 - exp would lose."""
    return -np.expm1(logs)
