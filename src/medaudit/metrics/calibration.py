"""Calibration: whether a stated probability comes true as often as it says."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from medaudit.errors import DataError, UsageError

SCHEMES, NORMS = ("width", "mass"), ("l1", "l2", "max")


def expected_calibration_error(
    probabilities: ArrayLike, labels: ArrayLike, bins: int = 15, scheme: str = "width", norm: str = "l1",
    debiased: bool = False,
) -> float:  # fmt: skip
    """Return the calibration error of the top class of ``probabilities`` (N, C), in bins of its confidence.

    ``scheme``: bins of equal ``width`` (Guo et al. 2017) or equal ``mass``. ``norm``: mean absolute gap (``l1``,
    the usual ECE), root mean square (``l2``), largest (``max``). All are biased upward: a perfectly calibrated model
    has an error above 0, the more so the fewer cases a bin has. ``debiased`` (``l2`` only) takes the expected part of
    each bin's squared gap off (Kumar et al., NeurIPS 2019); the result may be 0 where the model is well calibrated.
    """
    p, y = _checked(probabilities, labels)
    return _binned(p.max(axis=1), (p.argmax(axis=1) == y).astype(np.float64), bins, scheme, norm, debiased)


def classwise_ece(probabilities: ArrayLike, labels: ArrayLike, bins: int = 15, scheme: str = "width") -> float:
    """Return the ECE of each class's own probability against all others, averaged over classes (Kull et al. 2019)."""
    p, y = _checked(probabilities, labels)
    errors = [_binned(p[:, c], (y == c).astype(np.float64), bins, scheme, "l1", False) for c in range(p.shape[1])]
    return float(np.mean(errors))


def brier(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Return the multi-class Brier score, the mean of sum_c (p_c - y_c)^2: 0 at best, 2 at worst."""
    p, y = _checked(probabilities, labels)
    wanted = np.zeros_like(p)
    wanted[np.arange(len(y)), y] = 1
    return float(((p - wanted) ** 2).sum(axis=1).mean())


def nll(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Return the mean negative log-likelihood, in nats; infinite where a true class has probability 0."""
    p, y = _checked(probabilities, labels)
    with np.errstate(divide="ignore"):
        return float(-np.log(p[np.arange(len(y)), y]).mean())


def _binned(stated: np.ndarray, came_true: np.ndarray, bins: int, scheme: str, norm: str, debiased: bool) -> float:
    if scheme not in SCHEMES or norm not in NORMS:
        raise UsageError(f"scheme '{scheme}', norm '{norm}'; expected {' or '.join(SCHEMES)}, {', '.join(NORMS)}")
    if debiased and norm != "l2":
        raise UsageError(f"only the l2 norm has a debiased estimator; norm is '{norm}'")
    if bins < 1:
        raise UsageError(f"{bins} bins; expected 1 or more")
    if scheme == "width":
        place = np.minimum((stated * bins).astype(int), bins - 1)
    else:
        # Equal values stay together: thousands are exactly 1, and the order of the rows must not matter.
        place = np.searchsorted(np.sort(stated), stated) * bins // len(stated)
    n = np.bincount(place, minlength=bins)
    some = n > 0
    mean = lambda values: np.bincount(place, weights=values, minlength=bins)[some] / n[some]
    said, happened, count = mean(stated), mean(came_true), n[some]
    gap, share = np.abs(said - happened), count / len(stated)
    if norm == "l1":
        return float((share * gap).sum())
    if norm == "max":
        return float(gap.max())
    square = gap**2
    if debiased:
        # One case alone tells nothing of its own spread: it is left out, as in the authors' code.
        square = np.where(count > 1, square - happened * (1 - happened) / np.maximum(count - 1, 1), 0.0)
    return float(np.sqrt(max((share * square).sum(), 0.0)))


def _checked(probabilities: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
    if p.ndim != 2 or y.shape != (len(p),) or not len(p):
        raise DataError(f"probabilities {p.shape}, labels {y.shape}; expected (N, C) and (N,), N above 0")
    bad = np.flatnonzero(~(np.isfinite(p).all(axis=1) & (p >= 0).all(axis=1) & (np.abs(p.sum(axis=1) - 1) < 1e-4)))
    if bad.size:
        raise DataError(f"row {bad[0]} (and {bad.size - 1} more) is no distribution: {p[bad[0]]}; pass probabilities")
    if not np.issubdtype(y.dtype, np.integer) or y.min() < 0 or y.max() >= p.shape[1]:
        found = f"labels are {y.dtype}, from {min(y.tolist())} to {max(y.tolist())}"
        raise DataError(f"{found}; expected whole numbers from 0 to {p.shape[1] - 1}, the columns of the probabilities")
    return p, y.astype(np.int64)
