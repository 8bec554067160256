"""All ranking and abstention metrics of many scores over many resamples: one sort a score, one pass a resample.

A resample is a weight for each patient: a case of weight w counts as w copies of itself. With all weights 1 the numbers
are those of :mod:`ranking` and :mod:`selective`.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np

from medaudit.errors import DataError

NAMES = (
    "auroc", "fpr95_ood_pos", "fpr95_id_pos", "aupr_out", "aupr_in", "augrc", "aurc", "risk_at_80", "failure_auroc",
)  # fmt: skip
"""The first five ask who is out of distribution, the others what is lost on accepted cases."""
LEVEL, COVERAGE = 0.95, 0.8


def ranking_draws(
    scores: np.ndarray, is_ood: np.ndarray, loss: np.ndarray | None, cluster: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Return each metric of :data:`NAMES` as (B, M): M ``scores`` rows (M, n), B resamples.

    ``is_ood`` (n,) bool; ``loss`` (M, n), NaN where a case is no part of the question of abstention, or None;
    ``cluster`` (n,) the patient of each case, 0 to P - 1; ``weights`` (B, P) how often each was drawn. A resample
    without a case of either kind gives NaN. ``aurc`` is the harmonic estimator, a failure is a loss above 0. Raises
    DataError for NaN scores, and for shapes, patients or weights that do not fit.
    """
    scores = np.ascontiguousarray(scores, dtype=np.float64)
    _check(scores, is_ood, loss, cluster, weights)
    bad = np.argwhere(np.isnan(scores))
    if bad.size:
        raise DataError(f"score row {bad[0][0]} is NaN for case {bad[0][1]}; expected a number for every case")
    rows = len(scores)
    lost = np.full(scores.shape, np.nan) if loss is None else np.ascontiguousarray(loss, dtype=np.float64)
    cluster = np.ascontiguousarray(cluster, dtype=np.int64)
    outside = np.ascontiguousarray(is_ood, dtype=np.bool_)
    drawn = np.ascontiguousarray(weights, dtype=np.int32)
    most = int((drawn @ np.bincount(cluster, minlength=drawn.shape[1])).max())
    harmonic = np.append(0.0, np.cumsum(1 / np.arange(1, most + 1)))
    found = np.empty((rows, len(drawn), len(NAMES)))

    def one(m: int) -> None:
        order = np.argsort(scores[m], kind="stable")
        ordered = scores[m][order]
        last = np.append(ordered[1:] != ordered[:-1], True)
        _one_row(last, outside[order], lost[m][order], cluster[order], drawn, harmonic, found[m])

    # The kernel holds no lock, and each row has its own place: threads change nothing but the time.
    with ThreadPoolExecutor(min(rows, os.cpu_count() or 1)) as pool:
        list(pool.map(one, range(rows)))
    return {name: np.ascontiguousarray(found[:, :, k].T) for k, name in enumerate(NAMES)}


def _check(
    scores: np.ndarray, is_ood: np.ndarray, loss: np.ndarray | None, cluster: np.ndarray, weights: np.ndarray
) -> None:
    """The kernel looks at no bounds: a patient without a weight would be read from beside the array."""
    if scores.ndim != 2 or not scores.size or np.ndim(weights) != 2 or not np.size(weights):
        shapes = f"scores have shape {scores.shape}, weights {np.shape(weights)}"
        raise DataError(f"{shapes}; expected (M, n) and (B, P), none of them 0")
    n = scores.shape[1]
    wanted = {"is_ood": (is_ood, (n,)), "cluster": (cluster, (n,)), "loss": (loss, scores.shape)}
    for name, (array, shape) in wanted.items():
        if array is not None and np.shape(array) != shape:
            raise DataError(f"{name} has shape {np.shape(array)}; expected {shape} for scores of shape {scores.shape}")
    if np.min(cluster) < 0 or np.max(cluster) >= np.shape(weights)[1]:
        found = f"cluster runs from {np.min(cluster)} to {np.max(cluster)}"
        raise DataError(f"{found}; expected 0 to {np.shape(weights)[1] - 1}, a column of weights each")
    if np.min(weights) < 0:
        raise DataError(f"a weight is {np.min(weights)}; expected how often a patient was drawn, 0 or more")


@numba.njit(cache=True, nogil=True)
def _one_row(
    last: np.ndarray, outside: np.ndarray, lost: np.ndarray, cluster: np.ndarray, weights: np.ndarray,
    harmonic: np.ndarray, found: np.ndarray,
) -> None:  # fmt: skip
    """Fill ``found`` (B, metrics) for one row of scores, its cases sorted; ``last`` marks the ends of ties."""
    n = len(last)
    for b in range(len(weights)):
        w = weights[b]
        total_in, total_out, total = 0, 0, 0
        for i in range(n):
            k = w[cluster[i]]
            if outside[i]:
                total_out += k
            else:
                total_in += k
            if not np.isnan(lost[i]):
                total += k
        need_out, need_in = np.ceil(LEVEL * total_out - 1e-9), np.ceil(LEVEL * total_in - 1e-9)
        need = COVERAGE * total - 1e-9
        below_in, below_out, tie_in, tie_out = 0, 0, 0, 0
        accepted, tie, tie_failed, failed, fine = 0, 0, 0, 0, 0
        spent, tie_spent = 0.0, 0.0
        pairs, by_out, by_in, area, aurc, failures = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        fpr_out, fpr_in, risk = np.nan, np.nan, np.nan
        for i in range(n):
            k = w[cluster[i]]
            if k:
                if outside[i]:
                    tie_out += k
                else:
                    tie_in += k
                if not np.isnan(lost[i]):
                    tie += k
                    tie_spent += k * lost[i]
                    if lost[i] > 0:
                        tie_failed += k
            if not last[i] or (tie_in + tie_out) == 0:
                continue
            pairs += tie_out * (below_in + 0.5 * tie_in)
            left_out, left_in = total_out - below_out, total_in - below_in
            if tie_out:
                by_out += tie_out * left_out / (left_out + left_in)
                if left_out >= need_out:
                    fpr_out = left_in
            below_in += tie_in
            below_out += tie_out
            if tie_in:
                by_in += tie_in * below_in / (below_in + below_out)
                if np.isnan(fpr_in) and below_in >= need_in:
                    fpr_in = below_out
            tie_in, tie_out = 0, 0
            if tie:
                after = accepted + tie
                area += tie * (spent + 0.5 * tie_spent)
                slope = tie_spent / tie
                aurc += (spent - slope * accepted) * (harmonic[after] - harmonic[accepted]) + tie_spent
                failures += tie_failed * (fine + 0.5 * (tie - tie_failed))
                fine += tie - tie_failed
                failed += tie_failed
                accepted, spent = after, spent + tie_spent
                if np.isnan(risk) and accepted >= need:
                    risk = spent / accepted
                tie, tie_failed, tie_spent = 0, 0, 0.0
        if total_in and total_out:
            found[b, 0] = pairs / (float(total_in) * total_out)
            found[b, 1] = fpr_out / total_in
            found[b, 2] = fpr_in / total_out
            found[b, 3] = by_out / total_out
            found[b, 4] = by_in / total_in
        else:
            found[b, :5] = np.nan
        if total:
            found[b, 5] = area / (float(total) * total)
            found[b, 6] = aurc / total
            found[b, 7] = risk
            found[b, 8] = failures / (float(failed) * fine) if failed and fine else np.nan
        else:
            found[b, 5:] = np.nan
