"""What latent codes know of attributes: the AUROC of each code for each attribute, TAD, and a linear readout of all.

``codes`` are (n, m), m numbers an image. ``attributes`` are (n, K): 1 has it, 0 has it not, NaN is not known
(CheXpert's -1, "uncertain", is for the caller to decide). All raise DataError for other values, and for shapes that do
not fit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import xlogy

from medaudit.errors import DataError, UsageError
from medaudit.metrics.ranking_draws import ranking_draws

CAPTURED, SHARED = 0.75, 0.2
"""TAD's thresholds: the least AUROC of a captured attribute, and the most that another may tell of it."""
FOLDS, FIRST = 5, 10_000
"""Of the published protocol: five folds, seed 0, over the first 10,000 images."""


@dataclass(frozen=True, eq=False)
class AurocMatrix:
    """``auroc`` (K, m) of each code for each attribute, not flipped; NaN in the rows of ``one_class`` attributes."""

    auroc: np.ndarray
    positives: np.ndarray
    negatives: np.ndarray

    @property
    def one_class(self) -> int:
        """How many attributes all images have, or none: nothing can be said of these."""
        return int((np.minimum(self.positives, self.negatives) == 0).sum())


@dataclass(frozen=True, eq=False)
class Tad:
    """Total AUROC difference by fold: ``values`` (F,); ``captured`` and ``gaps`` (F, K), ``shared`` (F, K).

    ``auroc`` (F, K, m) are 0.5 or more. A gap is the best code's AUROC less the second best's.
    """

    values: np.ndarray
    captured: np.ndarray
    gaps: np.ndarray
    shared: np.ndarray
    """The largest share of an attribute's entropy that another attribute tells."""
    auroc: np.ndarray

    @property
    def mean(self) -> float:
        """TAD: the mean over folds."""
        return float(self.values.mean())

    @property
    def sd(self) -> float:
        """The SD over folds, divided by F. No standard error: each two folds share most of their images."""
        return float(self.values.std())

    @property
    def attributes(self) -> float:
        """#Attr: the mean number of captured attributes."""
        return float(self.captured.sum(axis=1).mean())


@dataclass(frozen=True, eq=False)
class LatentAuroc:
    """How well all codes together tell each attribute in images not fitted: ``folds`` (F, K); NaN where not to be told.

    ``low``, ``high`` (K,) are 95 % limits of the mean over folds, and ``mean_low``, ``mean_high`` of the mean over
    attributes too, by patients drawn anew with the fitted readouts kept; NaN in the published protocol, which has none.
    """

    folds: np.ndarray
    low: np.ndarray
    high: np.ndarray
    mean_low: float
    mean_high: float
    draws: np.ndarray
    """(B, K): the mean over folds at each draw of patients, for differences of two codes of the same images; (0, K)
    in the published protocol."""

    @property
    def by_attribute(self) -> np.ndarray:
        """(K,): the mean over the folds that could tell."""
        return _mean(self.folds, 0)

    @property
    def mean(self) -> float:
        """The mean over the attributes that could be told."""
        return float(_mean(self.by_attribute, 0))


def auroc_matrix(codes: ArrayLike, attributes: ArrayLike) -> AurocMatrix:
    """Return the AUROC of every code for every attribute: one sort a code, then one matrix product. Ties count half."""
    x, y = _checked(codes, attributes)
    order = np.argsort(np.ascontiguousarray(x.T), axis=1)
    return _aurocs(x, y, order, np.ones(len(x), dtype=bool))


def tad(
    codes: ArrayLike, attributes: ArrayLike, *, folds: int = FOLDS, seed: int = 0, first: int | None = FIRST
) -> Tad:
    """Return the total AUROC difference (NashAE, Yeats et al., ECCV 2022; as Patronus, arXiv 2503.22782, reports it).

    On the training part of each of ``folds`` folds (KFold, shuffled by ``seed``, of the ``first`` images): an attribute
    is captured where one code has an AUROC, or one less it, of 0.75 or more, and no other attribute tells
    more than a fifth of its entropy; TAD is the sum over captured attributes of the best code's less the second best's.
    An attribute of one class is not captured. Raises DataError for fewer than 2 codes, or fewer images than folds.
    """
    x, y = _checked(codes, attributes)
    x, y = x[:first], y[:first]
    if x.shape[1] < 2:
        raise DataError("there is 1 code; expected 2 or more, to take the second best from the best")
    order = np.argsort(np.ascontiguousarray(x.T), axis=1)
    found = []
    for rows, _ in _folds(len(x), folds, seed):
        keep = np.zeros(len(x), dtype=bool)
        keep[rows] = True
        found.append((_aurocs(x, y, order, keep).auroc, shared_information(y[keep])))
    signed, shared = (np.stack(part) for part in zip(*found, strict=True))
    auroc = np.maximum(signed, 1 - signed)
    second, best = np.moveaxis(np.sort(auroc, axis=2)[..., -2:], 2, 0)  # NaN sorts last, and is neither captured
    with np.errstate(invalid="ignore"):
        captured = (best >= CAPTURED) & (shared <= SHARED)
    gaps = best - second
    return Tad(np.where(captured, gaps, 0.0).sum(axis=1), captured, gaps, shared, auroc)


def shared_information(attributes: ArrayLike) -> np.ndarray:
    """Return for each attribute of (n, K) the largest MI(y_k, y_l) / H(y_k) over the others, (K,): 0 to 1.

    From the images that know both; NaN where an attribute has one class, 0 where it is alone.
    """
    y = np.asarray(attributes, dtype=np.float64)
    has, lacks = (y == 1).astype(np.float64), (y == 0).astype(np.float64)
    cells = np.stack([a.T @ b for a in (has, lacks) for b in (has, lacks)]).reshape(2, 2, y.shape[1], y.shape[1])
    with np.errstate(invalid="ignore", divide="ignore"):
        share = cells / cells.sum(axis=(0, 1))
        of_row, of_column = (-xlogy(part, part).sum(axis=0) for part in (share.sum(axis=1), share.sum(axis=0)))
        of_both = -xlogy(share, share).sum(axis=(0, 1))
        told = np.clip((of_row + of_column - of_both) / of_row, 0.0, 1.0)
    diagonal = np.eye(y.shape[1], dtype=bool)
    one_class = np.diagonal(~(of_row > 0))
    told[diagonal | np.isnan(told)] = 0.0
    return np.where(one_class, np.nan, told.max(axis=1, initial=0.0))


def latent_auroc(
    codes: ArrayLike, attributes: ArrayLike, *, patients: ArrayLike | None = None, folds: int = FOLDS, seed: int = 0,
    first: int | None = None, resamples: int = 1_000,
) -> LatentAuroc:  # fmt: skip
    """Return the AUROC of a logistic regression on all codes for each attribute, cross-validated.

    Without ``patients`` it is the published protocol (scikit-learn's default penalty on standardised codes;
    KFold shuffled by seed 0; of the first 10,000 images), for comparison with printed numbers. With them all of a
    patient's images are in one fold, all images take part unless ``first`` says otherwise, and there are intervals,
    by ``resamples`` draws of patients. A fold without both classes on both sides tells nothing of an attribute.
    """
    from sklearn.linear_model import LogisticRegression  # a second to import, and only this asks for it
    from sklearn.preprocessing import StandardScaler

    x, y = _checked(codes, attributes)
    first = FIRST if patients is None and first is None else first
    who = np.arange(len(x)) if patients is None else np.asarray(patients)
    if who.shape != (len(x),):
        raise DataError(f"patients have shape {who.shape}; expected one for each of {len(x)} images")
    x, y = x[:first], y[:first]
    known, code = np.unique(who[:first], return_inverse=True)
    weights = np.random.default_rng(seed).multinomial(len(known), np.full(len(known), 1 / len(known)), resamples)
    found = np.full((folds, y.shape[1]), np.nan)
    draws = np.full((resamples, folds, y.shape[1]), np.nan)
    for f, (fitted, asked) in enumerate(_folds(len(known), folds, seed)):
        train, held_out = (np.flatnonzero(np.isin(code, some)) for some in (fitted, asked))
        scaler = StandardScaler().fit(x[train])
        for k in range(y.shape[1]):
            a, b = (rows[np.isfinite(y[rows, k])] for rows in (train, held_out))
            if min(len(np.unique(y[rows, k])) for rows in (a, b)) < 2:
                continue
            model = LogisticRegression(max_iter=1_000).fit(scaler.transform(x[a]), y[a, k])
            scores = model.decision_function(scaler.transform(x[b]))
            found[f, k] = auroc_matrix(scores[:, None], y[b, k : k + 1]).auroc[0, 0]
            if patients is not None:
                drawn = ranking_draws(scores[None], y[b, k] == 1, None, code[b], weights)
                draws[:, f, k] = drawn["auroc"][:, 0]
    if patients is None:
        none = np.full(y.shape[1], np.nan)
        return LatentAuroc(found, none, none, math.nan, math.nan, np.zeros((0, y.shape[1])))
    by_attribute = _mean(draws, 1)
    low, high = np.array([_limits(draws) for draws in by_attribute.T]).T
    return LatentAuroc(found, low, high, *_limits(_mean(by_attribute, 1)), by_attribute)


def _folds(n: int, folds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    from sklearn.model_selection import KFold

    if not 2 <= folds <= n:
        raise UsageError(f"{folds} folds of {n} images or patients; expected 2 or more, and no more than there are")
    return list(KFold(folds, shuffle=True, random_state=seed).split(np.arange(n)))


def _aurocs(x: np.ndarray, y: np.ndarray, order: np.ndarray, keep: np.ndarray) -> AurocMatrix:
    """Return the matrix over the images to ``keep`` (n,), from the ``order`` (m, n) of each code over all images."""
    k, m = y.shape[1], x.shape[1]
    known = np.isfinite(y) & keep[:, None]
    positives, negatives = ((known & (y == value)).sum(axis=0) for value in (1, 0))
    auroc = np.full((k, m), np.nan)
    alike: dict[bytes, list[int]] = {}  # attributes that are known of the same images share their ranks
    for column in range(k):
        alike.setdefault(known[:, column].tobytes(), []).append(column)
    for columns in alike.values():
        rows = known[:, columns[0]]
        ranks = _ranks(x, order, rows)
        # Whole and half numbers below 2^53: the sums are exact.
        sums = y[rows][:, columns].T @ ranks.T
        up = positives[columns, None].astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            auroc[columns] = (sums - up * (up + 1) / 2) / (up * negatives[columns, None])
    return AurocMatrix(auroc, positives, negatives)


def _ranks(x: np.ndarray, order: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Return the mid-ranks (m, kept) of each code among the images kept, in these images' order."""
    m = len(order)
    new_place = np.cumsum(keep) - 1
    ordered = order[keep[order]].reshape(m, -1)
    values = np.take_along_axis(x.T, ordered, axis=1)
    place = np.arange(1, ordered.shape[1] + 1, dtype=np.float64)
    middle = np.broadcast_to(place, ordered.shape)
    differs = values[:, 1:] != values[:, :-1]
    if not differs.all():
        edge = np.ones((m, 1), dtype=bool)
        first = np.maximum.accumulate(np.where(np.hstack([edge, differs]), place, 0.0), axis=1)
        last = np.where(np.hstack([differs, edge]), place, np.inf)
        last = np.minimum.accumulate(last[:, ::-1], axis=1)[:, ::-1]
        middle = (first + last) / 2
    ranks = np.empty(ordered.shape)
    np.put_along_axis(ranks, new_place[ordered], middle, axis=1)
    return ranks


def _limits(draws: np.ndarray) -> tuple[float, float]:
    known = draws[np.isfinite(draws)]
    low, high = np.quantile(known, (0.025, 0.975)) if len(known) else (math.nan, math.nan)
    return float(low), float(high)


def _mean(values: np.ndarray, axis: int) -> np.ndarray:
    """Return the mean of what is known; NaN where nothing is."""
    known = np.isfinite(values)
    count = known.sum(axis=axis)
    total = np.where(known, values, 0.0).sum(axis=axis)
    return np.divide(total, count, out=np.full(np.shape(total), np.nan), where=count > 0)


def _checked(codes: ArrayLike, attributes: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    x, y = finite_codes(codes), np.asarray(attributes, dtype=np.float64)
    if y.ndim != 2 or len(y) != len(x) or not y.shape[1]:
        raise DataError(f"codes are {x.shape}, attributes {y.shape}; expected (n, m) and (n, K)")
    bad = np.argwhere(~((y == 0) | (y == 1) | np.isnan(y)))
    if bad.size:
        i, k = bad[0]
        raise DataError(f"attribute {k} is {y[i, k]:g} in row {i}; expected 1, 0, or NaN where it is not known")
    return x, y


def finite_codes(codes: ArrayLike, what: str = "codes") -> np.ndarray:
    """Return codes (n, m) in the precision they have; raises DataError for another shape or what is not finite."""
    x = np.asarray(codes)
    x = x if x.dtype == np.float32 else x.astype(np.float64)
    if x.ndim != 2 or not x.size:
        raise DataError(f"{what} have shape {x.shape}; expected (n, m), neither of them 0")
    bad = np.argwhere(~np.isfinite(x))
    if bad.size:
        raise DataError(f"{what} hold {len(bad)} values that are not finite, the first in row {bad[0][0]}")
    return x
