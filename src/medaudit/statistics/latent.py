"""Does a model's latent space know the groups? How well its clusters match them, and whether a line can read them.

A picture (t-SNE) is no evidence: these are the numbers that go with it. That a group can be read from features does
not make the model unfair to it: encoding is not disparity.

Clusters see only the largest directions of a latent space; the linear probe finds a group in any direction. Its
p-value comes from exchanging labels among patients and repeating the whole cross-validated probe (Ojala & Garriga
2010). The test is exact because nothing but the readout looks at labels: the folds are dealt to patients at random,
*not* stratified by group, since a fold plan that fits the observed labels fits exchanged ones less well.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.cluster.vq import kmeans2
from scipy.linalg import solve
from scipy.spatial.distance import cdist
from scipy.special import xlogy
from scipy.stats import rankdata

from medaudit.errors import DataError, UsageError
from medaudit.statistics.comparison import Comparison, compare
from medaudit.statistics.exchange import exchange_units, exchanged_labels

_STARTS = 10
_ITERATIONS = 100
"""How often k-means starts anew, and its steps a start: far more than it needs on cohorts of some thousand cases."""

_CHUNK_CELLS = 1_000_000
"""Scores or distances held at once: with their ranks about 50 MB, whatever the number of permutations."""

_ROUNDING = 1e-6
"""A column that varies by less than this share of its size is constant: the rest is a network's single precision."""

_DECIMALS = 10
"""Readout scores are rounded to this (they are of the order of 1), so that rounding errors do not break ties."""


@dataclass(frozen=True)
class ClusterAgreement:
    """How a latent space's clusters match the groups; all NaN with one group, or no more distinct cases than groups.

    ``silhouette`` in [-1, 1] is that of the groups themselves. ``purity``, ``ari`` and ``nmi`` compare the groups with
    as many k-means clusters. ``chance_purity`` is the purity of a single cluster (the largest group's share); clusters
    drawn at random are a little purer still in small cohorts. ARI is 0 on average by chance, NMI only in large cohorts.
    """

    silhouette: float
    purity: float
    ari: float
    nmi: float
    chance_purity: float


_NOTHING = ClusterAgreement(math.nan, math.nan, math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Probe:
    """How well a linear readout tells the groups in cases it has not seen.

    ``auroc`` is one-against-the-rest, averaged over groups; ``p`` the share of label exchanges that do as well (the
    observed labels count as one); ``null_mean`` and ``null_95`` the AUROC's mean and 95th percentile under exchange;
    ``n`` the cases scored. NaN where no block has two groups and two patients.
    """

    auroc: float
    p: float
    null_mean: float
    null_95: float
    n: int


@dataclass(frozen=True, eq=False)
class _Block:
    """The cases of one model: their positions (k,), groups to read, and (train, held out, matrix) of every fold.

    A fold's matrix (held out, train) turns training labels into scores of the cases held out.
    """

    members: np.ndarray
    groups: np.ndarray
    readouts: list[tuple[np.ndarray, np.ndarray, np.ndarray]]


def cluster_agreement(
    features: ArrayLike, groups: ArrayLike, *, seed: int | np.random.Generator = 0
) -> ClusterAgreement:
    """Return how the clusters of ``features`` (n, d) agree with ``groups`` (n,) int codes, -1 = left out.

    Columns are standardised, constant ones dropped; k-means (k-means++, the best of 10 starts) makes as many clusters
    as there are groups present. Silhouette: Rousseeuw (1987); ARI: Hubert & Arabie (1985); NMI: mutual information over
    the mean entropy. Features of different models are not comparable: call this model by model.
    Raises :class:`DataError` where a feature is not finite, :class:`UsageError` where lengths differ.
    """
    codes = np.asarray(groups, dtype=np.int64)
    rows = _finite_rows(features, codes >= 0)
    found, labels, sizes = np.unique(codes[codes >= 0], return_inverse=True, return_counts=True)
    if found.size < 2:
        return _NOTHING
    rows = _standardised(rows, len(rows))
    if len(np.unique(rows, axis=0)) <= found.size:
        return _NOTHING
    clusters = _k_means(rows, found.size, np.random.default_rng(seed))
    table = np.zeros((found.size, found.size))
    np.add.at(table, (labels, clusters), 1.0)
    return ClusterAgreement(
        silhouette=_silhouette(rows, labels),
        purity=float(table.max(axis=0).sum() / table.sum()),
        ari=_adjusted_rand(table),
        nmi=_normalised_information(table),
        chance_purity=float(sizes.max() / sizes.sum()),
    )


def linear_probe(
    features: ArrayLike,
    comparison: Comparison,
    *,
    blocks: ArrayLike | None = None,
    folds: int = 5,
    n_permutations: int = 1000,
    seed: int | np.random.Generator = 0,
) -> Probe:
    """Return how well a cross-validated linear readout of ``features`` (n, d) tells the groups of ``comparison``.

    ``blocks`` (n,) int codes, -1 = left out, name the model that made each case's features: readouts are fitted and
    scored within blocks, labels exchanged within blocks (and the comparison's strata), and AUROCs averaged over
    blocks, weighted by cases. By default one model made all.

    A readout is a ridge regression of each group's 0/1 label, its penalty d: on d standardised features that expects
    signal and noise of equal variance, and it fades as cases grow (our choice, fixed in advance: tuning it would look
    at labels). It has no intercept, because one that follows the training labels runs against those held out. Classes
    need no weights: scaling a group's label leaves its AUROC as it is. An AUROC ranks the scores of all of a block's
    folds together.

    p = (b + 1) / (B + 1). Memory grows with the square of a block's cases (1,000 cases: 8 MB).
    Raises :class:`DataError` where a feature is not finite, :class:`UsageError` where lengths differ or folds < 2.
    """
    if folds < 2:
        raise UsageError(f"a readout is tested on cases it has not seen: it needs 2 folds or more, not {folds}")
    rng = np.random.default_rng(seed)
    design, models = _within_blocks(comparison, blocks)
    rows = _finite_rows(features, design.known)
    parts = _blocks(rows, design, models, folds, rng)
    n = sum(part.members.size for part in parts)
    if n == 0:
        return Probe(math.nan, math.nan, math.nan, math.nan, 0)
    units, labels = exchange_units(design)
    observed = float(_mean_auroc(parts, labels[None, units])[0])
    null = np.empty(n_permutations)
    chunk = max(1, _CHUNK_CELLS // units.size)
    for part, exchanged in exchanged_labels(design, n_permutations, rng):
        for start in range(0, len(exchanged), chunk):
            some = exchanged[start : start + chunk]
            null[part.start + start : part.start + start + len(some)] = _mean_auroc(parts, some[:, units])
    extreme = int((null >= observed - 1e-9).sum())
    p = (extreme + 1) / (n_permutations + 1)
    return Probe(observed, p, float(null.mean()), float(np.quantile(null, 0.95)), n)


def _finite_rows(features: ArrayLike, known: np.ndarray) -> np.ndarray:
    matrix = np.asarray(features, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != known.size:
        raise UsageError(f"features must have one row a case: shape {matrix.shape}, {known.size} cases")
    wrong = np.flatnonzero(known & ~np.isfinite(matrix).all(axis=1))
    if wrong.size:
        raise DataError(f"features of row {wrong[0]} are not all finite ({wrong.size} such rows): leave such cases out")
    return matrix[known]


def _standardised(rows: np.ndarray, n_train: int) -> np.ndarray:
    """Return ``rows`` centred and scaled by their first ``n_train``; a column constant in those becomes 0."""
    train = rows[:n_train]
    varies = np.ptp(train, axis=0) > _ROUNDING * np.abs(train).max(axis=0)
    return (rows - train.mean(axis=0)) / np.where(varies, train.std(axis=0), np.inf)


def _k_means(rows: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """Return the cluster of each row, (n,) int, in the best of several starts."""
    best, least = np.zeros(len(rows), dtype=np.int64), math.inf
    for _ in range(_STARTS):
        with warnings.catch_warnings():
            # A start that loses a cluster is a poor one: its sum of squares says so.
            warnings.simplefilter("ignore", UserWarning)
            centres, labels = kmeans2(rows, k, iter=_ITERATIONS, minit="++", seed=rng)
        squares = float(((rows - centres[labels]) ** 2).sum())
        if squares < least:
            best, least = labels, squares
    return best


def _silhouette(rows: np.ndarray, labels: np.ndarray) -> float:
    sizes = np.bincount(labels).astype(np.float64)
    member = np.eye(sizes.size)[labels]
    total = 0.0
    chunk = max(1, _CHUNK_CELLS // len(rows))
    for start in range(0, len(rows), chunk):
        own = labels[start : start + chunk]
        sums = cdist(rows[start : start + chunk], rows) @ member
        index = np.arange(own.size)
        inside = sums[index, own] / np.maximum(sizes[own] - 1, 1.0)
        means = sums / sizes
        means[index, own] = np.inf
        outside = means.min(axis=1)
        larger = np.maximum(inside, outside)
        # A group of one case has no inside, and counts 0.
        counts = (sizes[own] > 1) & (larger > 0)
        total += float(((outside - inside)[counts] / larger[counts]).sum())
    return total / len(rows)


def _adjusted_rand(table: np.ndarray) -> float:
    pairs = lambda counts: float((counts * (counts - 1) / 2).sum())
    by_row, by_column = pairs(table.sum(axis=1)), pairs(table.sum(axis=0))
    expected = by_row * by_column / pairs(table.sum())
    return (pairs(table) - expected) / ((by_row + by_column) / 2 - expected)


def _normalised_information(table: np.ndarray) -> float:
    share = table / table.sum()
    entropy = lambda part: -float(xlogy(part, part).sum())
    by_row, by_column = entropy(share.sum(axis=1)), entropy(share.sum(axis=0))
    return max(0.0, by_row + by_column - entropy(share)) / ((by_row + by_column) / 2)


def _within_blocks(comparison: Comparison, blocks: ArrayLike | None) -> tuple[Comparison, np.ndarray]:
    """Return the comparison with labels held inside blocks and strata, and the block of each compared case."""
    if blocks is None:
        return comparison, np.zeros(comparison.n_cases, dtype=np.int64)
    models = np.asarray(blocks, dtype=np.int64)
    if models.shape != comparison.groups.shape:
        raise UsageError(f"blocks must have one entry a case: {models.size} entries, {comparison.groups.size} cases")
    strata = np.zeros_like(models) if comparison.strata is None else comparison.strata
    both = np.where((models < 0) | (strata < 0), -1, models * (strata.max(initial=0) + 1) + strata)
    clusters = comparison.clusters.tolist()
    design = compare(comparison.groups, comparison.n_groups, clusters=clusters, strata=both)
    return design, models[design.known]


def _blocks(
    rows: np.ndarray, design: Comparison, models: np.ndarray, folds: int, rng: np.random.Generator
) -> list[_Block]:
    """Return the blocks that can be read: with two groups or more, and two patients or more."""
    groups, clusters = design.groups[design.known], design.clusters[design.known]
    result = []
    for model in np.unique(models):
        members = np.flatnonzero(models == model)
        present = np.unique(groups[members])
        patients, patient = np.unique(clusters[members], return_inverse=True)
        if present.size < 2 or patients.size < 2:
            continue
        fold = (rng.permutation(patients.size) % folds)[patient]
        readouts = []
        for k in range(min(folds, patients.size)):
            train, held_out = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
            readouts.append((train, held_out, _readout(rows[members[train]], rows[members[held_out]])))
        result.append(_Block(members, present, readouts))
    return result


def _readout(train: np.ndarray, held_out: np.ndarray) -> np.ndarray:
    """Return the ridge regression as a matrix (held out, train): scores = matrix @ labels.

    The training features are centred, so the labels' mean drops out and need not be taken off.
    """
    n, d = train.shape
    both = _standardised(np.concatenate([train, held_out]), n)
    x, new = both[:n], both[n:]
    if d <= n:
        return new @ solve(x.T @ x + d * np.eye(d), x.T, assume_a="pos")
    return solve(x @ x.T + d * np.eye(n), x @ new.T, assume_a="pos").T


def _mean_auroc(parts: list[_Block], labels: np.ndarray) -> np.ndarray:
    """Return the AUROC under each row of ``labels`` (b, n): the mean over groups, then over blocks by cases, (b,)."""
    sizes = np.array([part.members.size for part in parts], dtype=np.float64)
    aurocs = np.stack([_macro_auroc(part, labels[:, part.members]) for part in parts], axis=1)
    return aurocs @ (sizes / sizes.sum())


def _macro_auroc(block: _Block, labels: np.ndarray) -> np.ndarray:
    total = np.zeros(len(labels))
    for group in block.groups:
        truth = (labels == group).astype(np.float64)
        scores = np.empty_like(truth)
        for train, held_out, matrix in block.readouts:
            scores[:, held_out] = truth[:, train] @ matrix.T
        ranks = rankdata(np.round(scores, _DECIMALS), axis=1)
        # An exchange keeps each block's labels, if not their numbers of cases: no group is empty, none is everyone.
        inside = truth.sum(axis=1)
        wins = (ranks * truth).sum(axis=1) - inside * (inside + 1) / 2
        total += wins / (inside * (truth.shape[1] - inside))
    return total / len(block.groups)
