"""The MAMA-MIA challenge's score: performance, fairness, and the ranking that weighs them.

``compat=True`` gives what the released scoring script gives, so that its numbers can be understood; the default gives
what it means to. The script (src/challenge of the MAMA-MIA repository, April 2025) differs from its own definition:

a. It writes the scores to new rows of its table, next to the rows that hold the groups. Every group mean is NaN, so the
   fairness and the ranking are NaN. Here: the groups' means.
b. HD95 is measured in voxels and divided by 150 mm. Here: millimetres.
c. HD95 / 150 mm may exceed 1, where a missed lesion counts 1. Here: at most 1.
d. Two empty masks score Dice 0 though their distance counts 0. Here: Dice 1, they agree.
e. It stops at the columns ``menopausal_status`` and ``breast_density``, which the training table lacks. Here:
   ``menopause`` serves too, and a variable that is not there is left out and missing from ``fairness_by``.
f. Patients of unknown menopausal status are a group. Here: they are in none.
g. A group of one patient counts as much as any. Here: groups below ``minimum_n`` patients are left out (our choice).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medaudit.errors import DataError
from medaudit.metrics.segmentation import segmentation

_AGE_EDGES = (0, 40, 50, 60, 70, 100)
_AGE_LABELS = ("0-40", "41-50", "51-60", "61-70", "71+")


@dataclass(frozen=True)
class ChallengeScore:
    """``ranking`` = (1 - alpha) ``performance`` + alpha ``fairness``, each in [0, 1] and better when larger.

    ``fairness_by`` is the fairness for each variable that could be scored, ``group_sizes`` the patients in each group
    behind it.
    """

    performance: float
    fairness: float
    ranking: float
    fairness_by: Mapping[str, float]
    group_sizes: Mapping[str, Mapping[str, int]]


def challenge_score(
    cases: Mapping[str, Sequence[Any]],
    *,
    alpha: float = 0.5,
    hd95_max_mm: float = 150.0,
    minimum_n: int = 10,
    compat: bool = False,
) -> ChallengeScore:
    """Return the score of Task 1, segmentation, over a table of cases.

    Performance = (mean Dice + 1 - mean NormHD) / 2, NormHD = HD95 / ``hd95_max_mm``, 1 if one mask is empty and 0 if
    both are. Fairness = mean over the variables of 1 - (range of the groups' mean Dice + range of their mean NormHD)
    / 2.

    ``cases``: columns by name (a dict, a polars or pandas table): ``dice``, ``hd95_mm`` (infinite: one mask is empty;
    NaN: both are), and of ``age`` in years, ``menopausal_status`` or ``menopause``, ``breast_density`` (a to d) those
    that there are. With ``compat``, ``hd95_voxels`` (:func:`challenge_hd95_voxels`) in place of ``hd95_mm``, and all
    three variables; the module's text says what else changes.

    Raises DataError for a missing column.
    """
    dice = _numbers(cases, "dice")
    hd95 = _numbers(cases, "hd95_voxels" if compat else "hd95_mm")
    norm = np.where(np.isposinf(hd95), 1.0, np.nan_to_num(hd95, nan=0.0, posinf=0.0) / hd95_max_mm)
    if not compat:
        norm = np.minimum(norm, 1.0)
    dice = np.where(np.isnan(dice), 0.0 if compat else 1.0, dice)
    performance = 0.5 * float(np.mean(dice) + 1 - np.mean(norm))
    groups = _groups(cases, minimum_n, compat)
    fairness_by = {}
    for variable, members in groups.items():
        if len(members) < 2 and not compat:
            continue
        means = [
            [math.nan if compat else float(score[rows].mean()) for rows in members.values()] for score in (dice, norm)
        ]
        fairness_by[variable] = 1 - 0.5 * sum(max(m) - min(m) for m in means)
    fairness = sum(fairness_by.values()) / len(fairness_by) if fairness_by else math.nan
    return _ranked(performance, fairness, fairness_by, groups, alpha)


def challenge_response_score(
    cases: Mapping[str, Sequence[Any]], *, alpha: float = 0.5, minimum_n: int = 10, compat: bool = False
) -> ChallengeScore:
    """Return the score of Task 2, prediction of complete response, over a table of cases.

    Performance is the balanced accuracy. Fairness = 1 - the mean over the variables of (range of the groups' true
    positive rates + range of their false positive rates), clipped to [0, 1].

    ``cases``: ``pcr`` (0, 1, or missing), ``pcr_pred`` (0 or 1) and the variables of :func:`challenge_score`. A case
    without ``pcr`` is left out; a group without responders (or without others) has no true (false) positive rate.
    With ``compat`` both count as 0.

    Raises DataError for a missing column and where nobody or everybody responded.
    """
    truth, predicted = _numbers(cases, "pcr"), _numbers(cases, "pcr_pred")
    if compat:
        truth = np.nan_to_num(truth)
    positive, negative = truth == 1, truth == 0
    if not positive.any() or not negative.any():
        raise DataError("challenge score: pcr holds one class only; balanced accuracy needs responders and others")

    def rate(rows: NDArray[np.bool_]) -> float:
        return float((predicted[rows] == 1).mean()) if rows.any() else 0.0 if compat else math.nan

    performance = (rate(positive) + 1 - rate(negative)) / 2
    groups = _groups(cases, minimum_n, compat)
    ranges = {}
    for variable, members in groups.items():
        spreads = []
        for of in (positive, negative):
            rates = [value for rows in members.values() if not math.isnan(value := rate(rows & of))]
            spreads.append(max(rates) - min(rates) if len(rates) > 1 else math.nan)
        if not math.isnan(sum(spreads)):
            ranges[variable] = sum(spreads)
    unfairness = min(max(sum(ranges.values()) / len(ranges), 0.0), 1.0) if ranges else math.nan
    fairness_by = {variable: 1 - spread for variable, spread in ranges.items()}
    return _ranked(performance, 1 - unfairness, fairness_by, groups, alpha)


def challenge_hd95_voxels(reference: ArrayLike, prediction: ArrayLike) -> float:
    """Return HD95 as the released script measures it: in voxels, the larger of the two directed 95th percentiles.

    It is infinite if one mask is empty, NaN if both are. At the edge of the image the script does not see a surface and
    :func:`segmentation` does: the two differ for a mask that is cut off there.
    """
    shape = np.shape(reference)
    result = segmentation(reference, prediction, [1.0] * len(shape), hd95="max", lesions=False, shape=False)
    return result["hd95_mm"]


_Groups = dict[str, dict[str, NDArray[np.bool_]]]


def _ranked(
    performance: float, fairness: float, fairness_by: dict[str, float], groups: _Groups, alpha: float
) -> ChallengeScore:
    ranking = (1 - alpha) * performance + alpha * fairness
    sizes = {v: {name: int(rows.sum()) for name, rows in members.items()} for v, members in groups.items()}
    return ChallengeScore(performance, fairness, ranking, fairness_by, sizes)


def _groups(cases: Mapping[str, Sequence[Any]], minimum_n: int, compat: bool) -> _Groups:
    """Return, for each variable, the rows of each of its groups."""
    names = set(cases.keys() if isinstance(cases, Mapping) else cases.columns)
    labels: dict[str, list[str | None]] = {}
    if "age" in names:
        labels["age"] = [_age_group(age) for age in _numbers(cases, "age")]
    for column in ("menopausal_status",) if compat else ("menopausal_status", "menopause"):
        if column in names and "menopausal_status" not in labels:
            labels["menopausal_status"] = [_menopause(text, compat) for text in cases[column]]
    if "breast_density" in names:
        labels["breast_density"] = [None if _missing(text) else str(text).strip() for text in cases["breast_density"]]
    absent = {"age", "menopausal_status", "breast_density"} - labels.keys()
    if absent and (compat or len(absent) == 3):
        wanted = "all of" if compat else "at least one of"
        raise DataError(
            f"challenge score: the table has no column {', '.join(sorted(absent))}; "
            f"expected {wanted} age, menopausal_status, breast_density"
        )
    groups = {}
    for variable, values in labels.items():
        rows = {
            name: np.asarray([value == name for value in values])
            for name in sorted({value for value in values if value is not None})
        }
        groups[variable] = {name: own for name, own in rows.items() if compat or own.sum() >= minimum_n}
    return groups


def _age_group(age: float) -> str | None:
    group = int(np.searchsorted(_AGE_EDGES, age, side="left")) - 1
    return _AGE_LABELS[group] if 0 <= group < len(_AGE_LABELS) and not math.isnan(age) else None


def _menopause(text: Any, compat: bool) -> str | None:
    status = "unknown" if _missing(text) else str(text).lower()
    if "peri" in status:
        return "pre"
    if "post" in status:
        return "post"
    if "pre" in status:
        return "pre"
    return status if compat else None


def _missing(value: Any) -> bool:
    return value is None or value != value or str(value).strip() == ""


def _numbers(cases: Mapping[str, Sequence[Any]], column: str) -> NDArray[np.float64]:
    names = cases.keys() if isinstance(cases, Mapping) else cases.columns
    if column not in names:
        raise DataError(f"challenge score: the table has no column '{column}'; it has: {', '.join(map(str, names))}")
    return np.asarray([math.nan if _missing(value) else float(value) for value in cases[column]])
