"""Abstention: what is lost on the cases that are accepted, over every share that may be refused.

``uncertainty`` (n,) and ``loss`` (n,), 0 to 1: cases are accepted from the least uncertain on. Equal scores are
accepted together, so nothing here depends on the order of the rows: a softmax that saturates makes thousands of ties.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from medaudit.errors import DataError, UsageError
from medaudit.metrics.ranking import auroc

ESTIMATORS = ("harmonic", "trapz", "exact")


@dataclass(frozen=True, eq=False)
class RiskCoverage:
    """The curve at the ends of ties: ``coverage``, ``risk`` of the accepted, ``generalised_risk`` (loss over all)."""

    coverage: np.ndarray
    risk: np.ndarray
    generalised_risk: np.ndarray
    threshold: np.ndarray


def risk_coverage(uncertainty: ArrayLike, loss: ArrayLike) -> RiskCoverage:
    """Return the risk-coverage curve (El-Yaniv & Wiener 2010), a point for each distinct uncertainty."""
    values, lost, n = _ends(uncertainty, loss)
    ends, total = lost
    return RiskCoverage(ends / n, total / ends, total / n, values)


def augrc(uncertainty: ArrayLike, loss: ArrayLike) -> float:
    """Return the area under the generalised risk-coverage curve (Traub et al., NeurIPS 2024), trapezoids from (0, 0).

    For an error rate p and the AUROC of failures a it is exactly p (1 - p) (1 - a) + p² / 2.
    """
    _, (ends, total), n = _ends(uncertainty, loss)
    coverage, risk = np.append(0.0, ends / n), np.append(0.0, total / n)
    return float(np.trapezoid(risk, coverage))


def aurc(uncertainty: ArrayLike, loss: ArrayLike, estimator: str = "harmonic") -> float:
    """Return the area under the risk-coverage curve, by one of three finite-sample estimators in use.

    ``harmonic``: the mean over k of the risk of the k most certain, in expectation over the order of ties; without ties
    sum of loss_i (H_n - H_(rank_i - 1)) / n (Zhou et al., ICML 2025). ``trapz``: trapezoids over the ends of ties, the
    first risk extended to coverage 0 (fd-shifts since 2024). ``exact``: the integral of E(c) / c with the accepted loss
    E linear between ends of ties.
    """
    _, (ends, total), n = _ends(uncertainty, loss)
    if estimator == "trapz":
        coverage, risk = np.append(0.0, ends / n), total / ends
        return float(np.trapezoid(np.append(risk[0], risk), coverage))
    starts, before = np.append(0.0, ends[:-1]), np.append(0.0, total[:-1])
    slope = (total - before) / (ends - starts)
    level = before - slope * starts
    if estimator == "harmonic":
        harmonic = np.append(0.0, np.cumsum(1 / np.arange(1, n + 1)))
        steps = harmonic[ends.astype(int)] - harmonic[starts.astype(int)]
        return float((level * steps + slope * (ends - starts)).sum() / n)
    if estimator == "exact":
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.where(starts > 0, np.log(ends / starts), 0.0)  # before is 0 where it starts at 0
        return float((level * logs + slope * (ends - starts)).sum() / n)
    raise UsageError(f"estimator is '{estimator}'; expected one of {', '.join(ESTIMATORS)}")


def excess_aurc(uncertainty: ArrayLike, loss: ArrayLike, estimator: str = "harmonic") -> float:
    """Return the AURC minus that of the best order (losses rising), by the same estimator for both: 0 for the best.

    ``trapz`` draws a straight line over a group of ties, where the curve of the best order bends above it: a perfect
    ranking in two ties has a value below 0. The other two estimators cannot.
    """
    lost = np.asarray(loss, dtype=np.float64)
    return aurc(uncertainty, loss, estimator) - aurc(_ranked(lost), lost, estimator)


def auarc(uncertainty: ArrayLike, loss: ArrayLike) -> float:
    """Return the area under the accuracy-rejection curve, 1 - AURC by the harmonic estimator."""
    return 1 - aurc(uncertainty, loss)


def risk_at_coverage(uncertainty: ArrayLike, loss: ArrayLike, coverage: float = 0.8) -> float:
    """Return the risk at the smallest end of ties that covers at least ``coverage``, above 0 and at most 1."""
    if not 0 < coverage <= 1:
        raise UsageError(f"coverage is {coverage}; expected above 0, at most 1, as in 0.8")
    curve = risk_coverage(uncertainty, loss)
    return float(curve.risk[np.argmax(curve.coverage >= coverage - 1e-12)])


def coverage_at_risk(uncertainty: ArrayLike, loss: ArrayLike, risk: float = 0.05) -> float:
    """Return the largest coverage whose risk is at most ``risk``; 0 where there is none."""
    curve = risk_coverage(uncertainty, loss)
    fine = curve.risk <= risk + 1e-12
    return float(curve.coverage[fine].max()) if fine.any() else 0.0


def failure_auroc(uncertainty: ArrayLike, loss: ArrayLike) -> float:
    """Return the AUROC of the uncertainty for failures, cases with a loss above 0; NaN where all or none are."""
    scores, lost = _checked(uncertainty, loss)
    failed = lost > 0
    return auroc(scores[~failed], scores[failed]) if 0 < failed.sum() < len(failed) else float("nan")


def scod_loss(error: ArrayLike, is_ood: ArrayLike, ood_cost: float = 0.5) -> np.ndarray:
    """Return the loss of selective classification where OOD cases may come: (1 - c) error in distribution, c outside.

    Accepting an OOD case is a failure whatever is predicted (Xia & Bouganis 2022; Narasimhan et al. 2024). (n,).
    """
    wrong, outside = np.asarray(error, dtype=np.float64), np.asarray(is_ood, dtype=bool)
    if not 0 <= ood_cost <= 1:
        raise UsageError(f"ood_cost is {ood_cost}; expected 0 to 1")
    return np.where(outside, ood_cost, (1 - ood_cost) * wrong)


def _ranked(lost: np.ndarray) -> np.ndarray:
    """Return scores that order cases by rising loss without a tie."""
    places = np.empty(len(lost))
    places[np.argsort(lost, kind="stable")] = np.arange(len(lost))
    return places


def _ends(uncertainty: ArrayLike, loss: ArrayLike) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray], int]:
    """Return the distinct uncertainties, how many cases each ends at with the loss up to there, and n."""
    scores, lost = _checked(uncertainty, loss)
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    return ordered[last], ((last + 1).astype(np.float64), np.cumsum(lost[order])[last]), len(lost)


def _checked(uncertainty: ArrayLike, loss: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    scores, lost = np.asarray(uncertainty, dtype=np.float64), np.asarray(loss, dtype=np.float64)
    if scores.ndim != 1 or scores.shape != lost.shape or not scores.size:
        raise DataError(f"uncertainty has shape {scores.shape}, loss {lost.shape}; expected (n,) for both, n above 0")
    for name, values in (("uncertainty", scores), ("loss", lost)):
        bad = np.flatnonzero(np.isnan(values))
        if bad.size:
            raise DataError(f"{bad.size} of {len(values)} values of {name} are NaN, the first at place {bad[0]}")
    if lost.min() < 0 or lost.max() > 1:
        raise DataError(f"losses range from {lost.min():g} to {lost.max():g}; expected 0 to 1, 1 the worst")
    return scores, lost
