"""Whether an uncertainty goes where the error is: sparsification, and maps against masks.

Larger uncertainties are meant to mean larger errors. Nothing is flipped: an order worse than chance is a result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from medaudit.errors import DataError, UsageError
from medaudit.metrics.ranking import auroc, average_precision
from medaudit.metrics.selective import excess_aurc, risk_coverage


@dataclass(frozen=True, eq=False)
class Sparsification:
    """Curves over the share of cases taken out, the most uncertain first; both start at 1, the mean error of all.

    ``removed`` (K,), ``error`` and ``oracle`` (K,) for one set of cases; (N, K) and ``ause`` (N,) for N maps.
    """

    removed: np.ndarray
    error: np.ndarray
    """Mean error of what is left over that of all, taken out by uncertainty."""
    oracle: np.ndarray
    """Taken out by the error itself: no order has less."""
    ause: float | np.ndarray
    """The area between the two: 0 for the order of the errors."""


DETECTION: Mapping[str, str] = {
    "auroc": "Area under the ROC curve of the map for the mask's pixels.",
    "average_precision": "Area under the precision-recall curve, as average precision; chance is the prevalence.",
    "best_iou": "Overlap over union at the threshold that suits this mask best: not to be had without knowing it.",
    "iou": "Overlap over union of the pixels above the map's own fixed quantile.",
    "prevalence": "The mask's share of the pixels.",
}
"""What :func:`pixel_detection` returns, by name."""


def sparsification(uncertainty: ArrayLike, error: ArrayLike, points: int = 100) -> Sparsification:
    """Return the sparsification curves of ``uncertainty`` by ``error`` (n,), 0 or more, and AUSE (Ilg et al. 2018).

    At ``points`` shares taken out, 0, 1 / points, ...: errors are divided by their mean, so units cancel. Equal
    uncertainties go together, in expectation over their order. The AUSE does not depend on ``points``: it is the mean
    over all n numbers of cases left, as in :func:`selective.excess_aurc`. Raises DataError for NaN, infinite or
    negative errors, and where all are 0.
    """
    if points < 2:
        raise UsageError(f"{points} points of a curve; expected 2 or more")
    scores, lost = _pair(uncertainty, error, "uncertainty", "error")
    if not (np.isfinite(lost).all() and lost.min() >= 0 and lost.max() > 0):
        found = f"errors range from {lost.min():g} to {lost.max():g}"
        raise DataError(f"{found}; expected finite ones, 0 or more, and at least one above 0")
    removed = np.arange(points) / points
    scaled = lost / lost.max()  # a loss of 0 to 1 is what abstention asks for
    mean = scaled.mean()
    curves = [_remaining(order, scaled, 1 - removed) / mean for order in (scores, scaled)]
    return Sparsification(removed, curves[0], curves[1], excess_aurc(scores, scaled) / mean)


def pixel_sparsification(maps: ArrayLike, errors: ArrayLike, points: int = 100) -> Sparsification:
    """Return the curves and the AUSE of each map of ``maps`` by its ``errors``, both (N, H, W), pixels as cases.

    Raises DataError as :func:`sparsification` does, naming the image.
    """
    x, y = np.asarray(maps, dtype=np.float64), np.asarray(errors, dtype=np.float64)
    if x.ndim != 3 or x.shape != y.shape or not x.size:
        raise DataError(f"maps are {x.shape}, errors {y.shape}; expected (N, H, W) for both, none of them 0")
    found = []
    for k, (one, error) in enumerate(zip(x, y, strict=True)):
        try:
            found.append(sparsification(one.ravel(), error.ravel(), points))
        except DataError as problem:
            raise DataError(f"image {k}: {problem}") from None
    error_curves, oracles = np.array([f.error for f in found]), np.array([f.oracle for f in found])
    return Sparsification(found[0].removed, error_curves, oracles, np.array([f.ause for f in found]))


def pixel_detection(maps: ArrayLike, masks: ArrayLike, quantile: float = 0.95) -> dict[str, np.ndarray]:
    """Return how ``maps`` (N, H, W), larger where something is odd, find ``masks`` (N, H, W; bool, or 0 and 1).

    The numbers named in :data:`DETECTION`, image by image, (N,) each; all but the prevalence are NaN where a mask is
    empty or full. ``iou`` flags the pixels above that ``quantile`` of the same map: fixed before a mask is seen, but
    the same share of every image, whatever the size of what is there. Raises DataError for NaN in a map, masks that are
    not 0 and 1, and shapes that differ; UsageError for a quantile that is not within 0 and 1.
    """
    x, wanted = np.asarray(maps, dtype=np.float64), np.asarray(masks)
    if x.ndim != 3 or x.shape != wanted.shape or not x.size:
        raise DataError(f"maps are {x.shape}, masks {wanted.shape}; expected (N, H, W) for both, none of them 0")
    bad = np.argwhere(np.isnan(x))
    if bad.size:
        raise DataError(f"map {bad[0][0]} is NaN at row {bad[0][1]}, column {bad[0][2]}; expected a number everywhere")
    if not np.isin(wanted, (0, 1)).all():
        raise DataError(f"masks hold {np.unique(wanted)[:5]}; expected 0 and 1 alone")
    if not 0 < quantile < 1:
        raise UsageError(f"quantile is {quantile}; expected above 0 and below 1, as in 0.95")
    rows = [
        _detected(one.ravel(), mask.ravel(), quantile) for one, mask in zip(x, wanted.astype(np.bool_), strict=True)
    ]
    return dict(zip(DETECTION, np.array(rows).T, strict=True))


def _detected(scores: np.ndarray, mask: np.ndarray, quantile: float) -> tuple[float, float, float, float, float]:
    prevalence = float(mask.mean())
    if not 0 < prevalence < 1:
        return (float("nan"),) * 4 + (prevalence,)
    outside, inside = scores[~mask], scores[mask]
    flagged = scores > np.quantile(scores, quantile)
    iou = (flagged & mask).sum() / (flagged | mask).sum()
    return auroc(outside, inside), average_precision(outside, inside), _best_iou(scores, mask), float(iou), prevalence


def _best_iou(scores: np.ndarray, mask: np.ndarray) -> float:
    """Return the largest overlap over union of any threshold, equal scores on the same side of it."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    hit = np.cumsum(mask[order])[ends]
    return float((hit / (ends + 1 + mask.sum() - hit)).max())


def _remaining(order: np.ndarray, loss: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Return the mean loss of each share ``kept`` of the cases of lowest ``order``, ties in expectation."""
    curve = risk_coverage(order, loss)
    total = np.interp(kept, np.append(0.0, curve.coverage), np.append(0.0, curve.generalised_risk))
    return total / kept


def _pair(a: ArrayLike, b: ArrayLike, first: str, second: str) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape or not x.size:
        raise DataError(f"{first} has shape {x.shape}, {second} {y.shape}; expected (n,) for both, n above 0")
    for name, values in ((first, x), (second, y)):
        bad = np.flatnonzero(np.isnan(values))
        if bad.size:
            raise DataError(f"{bad.size} of {len(values)} values of {name} are NaN, the first at place {bad[0]}")
    return x, y
