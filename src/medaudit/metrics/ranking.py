"""How well a score ranks out-of-distribution cases above the others: AUROC, FPR95 in both conventions, AUPR.

Larger scores mean more out of distribution. Nothing is flipped: an AUROC below 0.5 says that the score is surer of the
shifted cases, which is a result.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from medaudit.errors import DataError, UsageError


def auroc(id_scores: ArrayLike, ood_scores: ArrayLike) -> float:
    """Return P(ood > id) + P(ood = id) / 2 (Mann-Whitney). Raises DataError for empty or NaN scores."""
    inside, outside = _checked(id_scores, ood_scores)
    inside, outside = np.sort(inside), np.sort(outside)  # both: a search in order is kinder to the cache
    below, up_to = (np.searchsorted(inside, outside, side) for side in ("left", "right"))
    return float((below.sum() + up_to.sum()) / (2 * len(inside) * len(outside)))


def fpr95(id_scores: ArrayLike, ood_scores: ArrayLike, positive: str = "ood", level: float = 0.95) -> float:
    """Return the false-positive rate at 95 % true positives; two conventions are in use, and differ.

    ``positive="ood"`` (OpenOOD): the threshold flags at least 95 % of the OOD cases; the result is the share of ID
    cases that are flagged. ``positive="id"`` (ODIN; Liang et al., ICLR 2018): the threshold accepts at least 95 % of
    the ID cases; the result is the share of OOD cases that are accepted. A case on the threshold is on the side of the
    true positives in either. Say which one is printed.
    """
    inside, outside = _checked(id_scores, ood_scores)
    if not 0 < level <= 1:
        raise UsageError(f"level is {level}; expected above 0, at most 1, as in 0.95")
    if positive == "ood":
        threshold = np.sort(outside)[::-1][_count(level, len(outside)) - 1]
        return float((inside >= threshold).mean())
    if positive == "id":
        threshold = np.sort(inside)[_count(level, len(inside)) - 1]
        return float((outside <= threshold).mean())
    raise UsageError(f"positive is '{positive}'; expected 'ood' or 'id'")


def average_precision(id_scores: ArrayLike, ood_scores: ArrayLike, positive: str = "ood") -> float:
    """Return the AUPR as average precision, a sum over steps: a trapezoid would interpolate what cannot be had.

    ``positive="ood"`` is AUPR-out, ``"id"`` AUPR-in, where ID cases are retrieved by low scores. Chance is the
    share of positives, not 0.5. Equal scores are retrieved together.
    """
    inside, outside = _checked(id_scores, ood_scores)
    if positive not in ("ood", "id"):
        raise UsageError(f"positive is '{positive}'; expected 'ood' or 'id'")
    wanted, others = (outside, inside) if positive == "ood" else (-inside, -outside)
    values = np.concatenate([wanted, others])
    order = np.argsort(-values, kind="stable")
    hit = np.repeat([1.0, 0.0], [len(wanted), len(others)])[order]
    ordered = values[order]
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))  # a difference of two infinities is NaN
    found = np.cumsum(hit)[ends]
    precision = found / (ends + 1)
    return float((np.diff(found, prepend=0.0) * precision).sum() / len(wanted))


def _count(level: float, n: int) -> int:
    """Return the smallest number of cases that is at least ``level`` of n."""
    return max(1, int(np.ceil(level * n - 1e-9)))


def _checked(id_scores: ArrayLike, ood_scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    both = []
    for name, scores in (("in-distribution", id_scores), ("out-of-distribution", ood_scores)):
        array = np.asarray(scores, dtype=np.float64)
        if array.ndim != 1:
            raise DataError(f"the {name} scores have shape {array.shape}; expected one number a case, (n,)")
        if not array.size:
            raise DataError(f"no {name} scores; expected one or more of both kinds")
        bad = np.flatnonzero(np.isnan(array))
        if bad.size:
            raise DataError(f"{bad.size} of {array.size} {name} scores are NaN, the first at place {bad[0]}")
        both.append(array)
    return both[0], both[1]
