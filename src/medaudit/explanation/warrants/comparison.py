"""How far two maps are apart, one number an image, and whether that is more than their own noise.

Maps are (N, ...), arrays or tensors, in the same units and raw: signed, not normalised. All functions return (N,)
float64. They raise DataError for shapes that differ and for numbers that are not finite. NaN where a measure is not
defined, as is a correlation with a map that is the same everywhere.

Most of a medical map can be one value (background), so ties are the rule: ranks are mid-ranks, Kendall's tau is tau-b,
and a pair of features that ties in one map and not in the other is no agreement. Measures of the k features that count
most are those of Krishna et al. (arXiv 2202.01602); a feature of attribution 0 is never among them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, islice
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

from medaudit.errors import DataError, UsageError
from medaudit.explanation.warrants.maps import RESAMPLES, in_blocks, mean_estimate, numbers, pair
from medaudit.statistics import Estimate, compare

FEWEST = 10
"""Patients below which no verdict is given (our choice)."""
_SPLITS = 200
"""Ways to deal out runs that are tried at most for each patient."""


def mid_ranks(values: np.ndarray) -> np.ndarray:
    """Return the ranks 1..M of ``values`` (..., M) along the last axis, equal values sharing the mean of theirs."""
    order = np.argsort(values, axis=-1)
    ordered = np.take_along_axis(values, order, axis=-1)
    if (ordered[..., 1:] == ordered[..., :-1]).any():
        first, last = _runs(ordered)
        ranks = (first + last) / 2 + 1
    else:
        ranks = np.broadcast_to(np.arange(1.0, values.shape[-1] + 1), values.shape)
    found = np.empty(values.shape)
    np.put_along_axis(found, order, ranks, axis=-1)
    return found


def spearman(a: Any, b: Any, *, absolute: bool = False, support: bool = False) -> np.ndarray:
    """Return Spearman's correlation with mid-ranks, of absolute values if ``absolute``.

    With ``support``, over the units that are not 0 in both maps at once: common background says nothing.
    """

    def block(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        kept = (x != 0) | (y != 0) if support else None
        if absolute:
            x, y = np.abs(x), np.abs(y)
        if kept is not None:
            # What is left out ranks after all that is kept, and so does not touch its ranks.
            x, y = np.where(kept, x, np.inf), np.where(kept, y, np.inf)
        return _correlation(mid_ranks(x), mid_ranks(y), kept)

    return in_blocks(block, *pair(a, b))


def pearson(a: Any, b: Any) -> np.ndarray:
    """Return Pearson's correlation."""
    return in_blocks(_correlation, *pair(a, b))


def cosine(a: Any, b: Any) -> np.ndarray:
    """Return the cosine of the angle between the maps."""

    def block(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        x, y = _unit(x), _unit(y)
        return _over((x * y).sum(1), np.sqrt((x * x).sum(1) * (y * y).sum(1)))

    return in_blocks(block, *pair(a, b))


def kendall(a: Any, b: Any, *, absolute: bool = False) -> np.ndarray:
    """Return Kendall's tau-b, in O(M log M): 50,176 pixels take milliseconds."""

    def block(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        total, tied_x, tied_y, tied, apart = _pairs(x, y)
        return _over(total - tied_x - tied_y + tied - 2 * apart, np.sqrt((total - tied_x) * (total - tied_y)))

    return in_blocks(block, *_of(a, b, absolute))


def pairwise_agreement(a: Any, b: Any, *, absolute: bool = True) -> np.ndarray:
    """Return the share of pairs of units that both maps order alike; both may have them equal.

    Without ties it is (tau + 1) / 2. (The released code of OpenXAI counts a pair that ties in one map and is ordered
    in the other as agreement.)
    """

    def block(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        total, tied_x, tied_y, tied, apart = _pairs(x, y)
        return _over(total - tied_x - tied_y + 2 * tied - apart, total)

    return in_blocks(block, *_of(a, b, absolute))


def feature_agreement(a: Any, b: Any, k: int) -> np.ndarray:
    """Return which share of the ``k`` units of largest absolute value are the same (top-k overlap)."""
    return in_blocks(lambda x, y: _top(x, y, k)[0], *pair(a, b))


def rank_agreement(a: Any, b: Any, k: int) -> np.ndarray:
    """Return for which share of the top ``k`` places the same unit has the place in both."""
    return in_blocks(lambda x, y: _top(x, y, k)[1], *pair(a, b))


def sign_agreement(a: Any, b: Any, k: int) -> np.ndarray:
    """Return which share of the top ``k`` units are the same with the same sign."""
    return in_blocks(lambda x, y: _top(x, y, k)[2], *pair(a, b))


def signed_rank_agreement(a: Any, b: Any, k: int) -> np.ndarray:
    """Return for which share of the top ``k`` places the same unit has the place, with the same sign."""
    return in_blocks(lambda x, y: _top(x, y, k)[3], *pair(a, b))


def top_iou(a: Any, b: Any, share: float = 0.05, *, absolute: bool = False) -> np.ndarray:
    """Return the IoU of the units of the largest values, ``share`` of them in either map.

    Equal values at the border are taken by their place, the same in both maps.
    """

    def block(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        k = max(1, round(share * x.shape[1]))
        inside = np.zeros((2, *x.shape), dtype=bool)
        for one, z in zip(inside, (x, y), strict=True):
            np.put_along_axis(one, np.argsort(-z, axis=1, kind="stable")[:, :k], True, axis=1)
        return (inside[0] & inside[1]).sum(1) / (inside[0] | inside[1]).sum(1)

    return in_blocks(block, *_of(a, b, absolute))


def centre_of_mass(maps: Any, spacing: Sequence[float] | float = 1.0, *, kind: str = "absolute") -> np.ndarray:
    """Return where the mass of maps (N, *spatial) lies, (N, dimensions) in units of ``spacing`` (mm a pixel)."""
    mass = _mass(numbers(maps), kind)
    size = np.broadcast_to(np.asarray(spacing, dtype=np.float64), (mass.ndim - 1,))
    total = mass.reshape(len(mass), -1).sum(1)
    found = []
    for axis, step in enumerate(size, start=1):
        other = tuple(k for k in range(1, mass.ndim) if k != axis)
        found.append(_over(mass.sum(other) @ np.arange(mass.shape[axis]) * step, total))
    return np.stack(found, axis=1)


def centre_shift(a: Any, b: Any, spacing: Sequence[float] | float = 1.0, *, kind: str = "absolute") -> np.ndarray:
    """Return by how much the centre of mass moves, in units of ``spacing`` (mm), of maps (N, *spatial)."""
    pair(a, b)
    apart = centre_of_mass(a, spacing, kind=kind) - centre_of_mass(b, spacing, kind=kind)
    return np.sqrt(np.square(apart).sum(1))


def mass_share(maps: Any, masks: Any, *, kind: str = "absolute") -> np.ndarray:
    """Return which share of the mass of maps (N, ...) lies in ``masks`` (N, ...) or (...): lesion, marker, body.

    Mass is the absolute value, or with ``kind="positive"`` the positive part.
    """
    mass, inside = numbers(maps), np.asarray(masks.cpu() if hasattr(masks, "cpu") else masks, dtype=bool)
    if inside.shape not in (mass.shape, mass.shape[1:]):
        raise DataError(f"masks have shape {inside.shape}; expected {mass.shape} or {mass.shape[1:]}, as the maps")
    mass = _mass(mass, kind)
    axes = tuple(range(1, mass.ndim))
    return _over((mass * inside).sum(axes), mass.sum(axes))


def ssim(a: Any, b: Any, *, window: int = 7, data_range: float | None = None) -> np.ndarray:
    """Return the mean structural similarity of maps (N, *spatial), a uniform window (Wang et al. 2004).

    The range is that of both maps of an image together unless it is given. Half a window of border is left out, as
    scikit-image does.
    """
    x, y = numbers(a, "the first maps"), numbers(b, "the second maps")
    if x.shape != y.shape or x.ndim < 2 or min(x.shape[1:]) < window:
        raise DataError(
            f"maps have shapes {x.shape} and {y.shape}; expected the same, {window} or more along each axis"
        )
    axes = tuple(range(1, x.ndim))
    high, low = np.maximum(x, y).max(axes, keepdims=True), np.minimum(x, y).min(axes, keepdims=True)
    wide = high - low
    wide = wide if data_range is None else np.full_like(wide, data_range)
    one, two = np.square(0.01 * wide), np.square(0.03 * wide)

    def smooth(z: np.ndarray) -> np.ndarray:
        return ndimage.uniform_filter(z, (1, *[window] * len(axes)))

    count = window ** len(axes)
    mean_x, mean_y = smooth(x), smooth(y)
    scale = count / (count - 1)
    vary_x, vary_y = (scale * (smooth(z * z) - m * m) for z, m in ((x, mean_x), (y, mean_y)))
    joint = scale * (smooth(x * y) - mean_x * mean_y)
    found = _over(
        (2 * mean_x * mean_y + one) * (2 * joint + two), (mean_x**2 + mean_y**2 + one) * (vary_x + vary_y + two)
    )
    edge = window // 2
    return found[(slice(None), *[slice(edge, size - edge) for size in x.shape[1:]])].mean(axes)


class Similarity(NamedTuple):
    """A similarity of maps: 1 is the same."""

    function: Callable[[Any, Any], np.ndarray]
    signed: bool
    """Whether below 0 means that one map says the contrary of the other."""
    what: str


SIMILARITIES: Mapping[str, Similarity] = {
    "spearman": Similarity(spearman, True, "Spearman's correlation of signed values"),
    "spearman-absolute": Similarity(
        lambda a, b: spearman(a, b, absolute=True), False, "Spearman's correlation of absolute values"
    ),
    "spearman-support": Similarity(
        lambda a, b: spearman(a, b, support=True), True, "Spearman's correlation where a map is not 0"
    ),
    "pearson": Similarity(pearson, True, "Pearson's correlation"),
    "kendall": Similarity(kendall, True, "Kendall's tau-b"),
    "cosine": Similarity(cosine, True, "cosine"),
    "pairwise": Similarity(pairwise_agreement, False, "share of pairs of units ordered alike"),
    "top-iou": Similarity(top_iou, False, "IoU of the largest 5 %"),
    "ssim": Similarity(ssim, False, "structural similarity"),
}


def similarity_of(name: str) -> Similarity:
    """Return a similarity by its name. Raises UsageError for another."""
    if name not in SIMILARITIES:
        raise UsageError(f"the similarity is '{name}'; expected one of {', '.join(SIMILARITIES)}")
    return SIMILARITIES[name]


def agreement_matrix(maps: Sequence[Any], similarity: str = "spearman") -> np.ndarray:
    """Return the similarity of each two of K arrays of maps (N, ...), (K, K, N): who disagrees with whom."""
    of = similarity_of(similarity).function
    found = np.ones((len(maps), len(maps), len(maps[0])))
    for i in range(len(maps)):
        for j in range(i):
            found[i, j] = found[j, i] = of(maps[i], maps[j])
    return found


def flip_rate(conclusions: Any) -> np.ndarray:
    """Return, for each image, in which share of pairs of configurations the conclusion differs.

    ``conclusions`` (K, N) is what each of K admissible configurations says of each image: labels of any kind.
    """
    told = np.asarray(conclusions)
    if told.ndim != 2 or len(told) < 2:
        raise DataError(f"conclusions have shape {told.shape}; expected (K, N), of two configurations or more")
    i, j = np.triu_indices(len(told), 1)
    return (told[i] != told[j]).mean(axis=0)


@dataclass(frozen=True, eq=False)
class Effect:
    """What a change of configuration does to maps beyond their noise."""

    between: np.ndarray
    """(N,): mean distance (1 - similarity) of a run of A and a run of B."""
    floor: np.ndarray
    """(N,): mean distance within A and within B, the mean of both."""
    beyond: Estimate
    """The mean over images of ``between`` less ``floor``, with its interval over patients."""
    similarity: Estimate
    """The mean similarity of A and B."""
    verdict: str
    """``indistinguishable``, ``differs``, ``reverses`` or ``insufficient``."""
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON, without the images' own numbers."""
        return {
            "beyond": self.beyond.as_dict(), "similarity": self.similarity.as_dict(),
            "floor": float(np.nanmean(self.floor)), "verdict": self.verdict, "reason": self.reason,
        }  # fmt: skip


def effect(
    a_runs: Sequence[Any], b_runs: Sequence[Any], *, similarity: str = "spearman",
    patients: Iterable[Any] | None = None, margin: float = 0.05, floor: np.ndarray | None = None, level: float = 0.95,
    fewest: int = FEWEST, resamples: int = RESAMPLES, seed: int = 0,
) -> Effect:  # fmt: skip
    """Return whether two configurations give other maps than reruns of one do.

    ``a_runs`` and ``b_runs`` are arrays of maps (N, ...), one a seed; a single one is taken to be deterministic, unless
    ``floor`` (N,) says what its noise is. Per image the distance between is the mean over all pairs of a run of A
    and one of B, less half of what is within A and half of what is within B: its expectation is 0 if runs of both are
    drawn alike. ``p`` is of dealing out each patient's runs anew, which is exact where runs draw anew for each image;
    it needs three runs in all, else it is NaN.

    Verdicts: ``indistinguishable`` where the interval ends below ``margin``: what is smaller is taken for none;
    ``differs`` where it lies above 0 and p, if there is one, is not above 1 - ``level`` (intervals of few patients
    alone say so too often); ``reverses`` where besides the similarity, a correlation, lies below 0 with its interval;
    ``insufficient`` else, and with fewer than ``fewest`` patients. Raises UsageError where there is no run.
    """
    kind = similarity_of(similarity)
    if not len(a_runs) or not len(b_runs):
        raise UsageError("a configuration has no run; expected one or more of either")
    owners = None if patients is None else list(patients)
    first = len(a_runs)
    apart = 1 - agreement_matrix([*a_runs, *b_runs], similarity)
    between, within = _split(apart, np.arange(len(apart)) < first)
    within = within if floor is None else np.broadcast_to(np.asarray(floor, dtype=np.float64), between.shape)
    more: dict[str, Any] = {"level": level, "resamples": resamples, "seed": seed}
    beyond = mean_estimate(between - within, owners, name="distance beyond noise", **more)
    alike = mean_estimate(1 - between, owners, name=kind.what, **more)
    if floor is None and len(apart) > 2:
        beyond = replace(beyond, p=_exchanged(apart, first, owners, resamples, seed))
    verdict, reason = _verdict(beyond, alike, kind, margin, fewest, 1 - level)
    return Effect(between, within, beyond, alike, verdict, reason)


def _split(apart: np.ndarray, of_a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean distance between and within two sets of runs, both (N,), from all distances (K, K, N)."""
    within = np.zeros(apart.shape[-1])
    for side in (of_a, ~of_a):
        count = int(side.sum())
        if count > 1:  # what is on the diagonal is 0
            within += apart[side][:, side].sum((0, 1)) / (count * (count - 1)) / 2
    return apart[of_a][:, ~of_a].mean((0, 1)), within


def _exchanged(apart: np.ndarray, first: int, owners: list[Any] | None, draws: int, seed: int) -> float:
    """Return the chance of a mean distance beyond noise as large if each patient's runs were dealt out anew."""
    rng = np.random.default_rng(seed)
    splits = [np.isin(np.arange(len(apart)), one) for one in islice(combinations(range(len(apart)), first), _SPLITS)]
    if math.comb(len(apart), first) > _SPLITS:
        order = np.argsort(rng.random((_SPLITS - 1, len(apart))), axis=1)
        splits = [splits[0], *(order < first)]
    beyond = np.stack([between - within for between, within in (_split(apart, one) for one in splits)])
    known = np.isfinite(beyond).all(axis=0)
    if not known.any():
        return math.nan
    patients = compare(np.where(known, 0, -1), 1, clusters=owners)
    sums = np.zeros((len(splits), patients.n_clusters))
    np.add.at(sums.T, patients.clusters[known], beyond[:, known].T)
    # The first split is the one that was seen.
    dealt = rng.integers(0, len(splits), (draws, sums.shape[1]))
    null = sums[dealt, np.arange(sums.shape[1])].sum(axis=1)
    seen = sums[0].sum()
    return float((1 + (null >= seen - 1e-12 * abs(seen)).sum()) / (1 + draws))


def _verdict(
    beyond: Estimate, alike: Estimate, kind: Similarity, margin: float, fewest: int, alpha: float
) -> tuple[str, str]:
    if beyond.n < fewest:
        return "insufficient", f"{beyond.n} patients; expected {fewest} or more"
    spread = f"{beyond.value:.3g} ({beyond.low:.3g} to {beyond.high:.3g}) beyond noise"
    if beyond.high < margin:
        return "indistinguishable", f"{spread}, inside the margin of {margin:g}"
    if beyond.low > 0 and not beyond.p > alpha:
        if kind.signed and alike.high < 0:
            return "reverses", f"{kind.what} is {alike.value:.3g} ({alike.low:.3g} to {alike.high:.3g}); {spread}"
        return "differs", spread
    if beyond.low > 0:
        return "insufficient", f"{spread}, as runs of one configuration can have (p = {beyond.p:.2g})"
    return "insufficient", f"{spread}: neither above 0 nor inside the margin of {margin:g}"


def _of(a: Any, b: Any, absolute: bool) -> tuple[np.ndarray, np.ndarray]:
    x, y = pair(a, b)
    return (np.abs(x), np.abs(y)) if absolute else (x, y)


def _mass(maps: np.ndarray, kind: str) -> np.ndarray:
    if kind not in ("absolute", "positive"):
        raise UsageError(f"the mass is '{kind}'; expected 'absolute' or 'positive'")
    return np.abs(maps) if kind == "absolute" else np.maximum(maps, 0)


def _over(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(b > 0, a / b, np.nan)


def _unit(x: np.ndarray) -> np.ndarray:
    """Return ``x`` (N, M) with largest absolute values of 1, so that squares of tiny maps are not 0."""
    largest = np.abs(x).max(axis=1, keepdims=True, initial=0.0)
    return x / np.where(largest > 0, largest, 1.0)


def _correlation(x: np.ndarray, y: np.ndarray, kept: np.ndarray | None = None) -> np.ndarray:
    """Return the correlation of the rows of (N, M), over what is ``kept`` (N, M)."""
    both = []
    for z in (x, y):
        inside = np.True_ if kept is None else kept
        # Whether a row is the same everywhere is asked of its values: their deviations need not be 0 to the last bit.
        same = z.max(1, initial=-np.inf, where=inside) <= z.min(1, initial=np.inf, where=inside)
        count = z.shape[1] if kept is None else np.maximum(kept.sum(1), 1)
        middle = z.sum(1, where=inside) / count
        centred = z - middle[:, None] if kept is None else np.where(kept, z - middle[:, None], 0.0)
        centred[same] = 0.0
        both.append(_unit(centred))
    x, y = both
    size = np.einsum("ij,ij->i", x, x) * np.einsum("ij,ij->i", y, y)
    return np.clip(_over(np.einsum("ij,ij->i", x, y), np.sqrt(size)), -1.0, 1.0)


def _runs(ordered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and the last place of the run of equal values each place of ``ordered`` (..., M) is in."""
    size = ordered.shape[-1]
    place = np.arange(size)
    new = np.ones(ordered.shape, dtype=bool)
    new[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    first = np.maximum.accumulate(np.where(new, place, 0), axis=-1)
    ends = np.ones(ordered.shape, dtype=bool)
    ends[..., :-1] = new[..., 1:]
    last = np.minimum.accumulate(np.where(ends, place, size)[..., ::-1], axis=-1)[..., ::-1]
    return first, last


def _pairs(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return numbers of pairs of columns of (N, M), each (N,): all, tied in x, in y, in both, ordered contrarily."""
    n, size = x.shape
    place = np.arange(size)
    order = np.lexsort((y, x), axis=-1)
    x, y = np.take_along_axis(x, order, axis=1), np.take_along_axis(y, order, axis=1)
    first_x = _runs(x)[0]
    # In this order equal pairs stand beside each other; a run ends where either changes.
    same = np.zeros(x.shape, dtype=bool)
    same[:, 1:] = (x[:, 1:] == x[:, :-1]) & (y[:, 1:] == y[:, :-1])
    first_both = np.maximum.accumulate(np.where(same, 0, place), axis=1)
    by_y = np.argsort(y, axis=1, kind="stable")
    first_y = _runs(np.take_along_axis(y, by_y, axis=1))[0]
    rank = np.empty((n, size), dtype=np.int32)
    np.put_along_axis(rank, by_y, np.broadcast_to(place.astype(np.int32), rank.shape), axis=1)
    tied = [(place - first).sum(1, dtype=np.float64) for first in (first_x, first_y, first_both)]
    return np.full(n, size * (size - 1) / 2), *tied, _inversions(rank).astype(np.float64)


def _inversions(order: np.ndarray) -> np.ndarray:
    """Return how many pairs of each row of ``order`` (N, M), permutations of 0..M-1, stand the wrong way round.

    A radix sort from the highest bit: two values that agree above a bit stand in one stretch, which begins at their
    common part; each 0 in it is overtaken by the 1s before it. All rows at once, in O(M log M).
    """
    n, size = order.shape
    place = np.arange(size, dtype=np.int32)
    counted = np.zeros(n, dtype=np.int64)
    now = order
    for bit in range(max(0, size - 1).bit_length() - 1, -1, -1):
        one = (now >> bit) & 1
        before = np.cumsum(one, axis=1, dtype=np.int32) - one
        start = (now >> (bit + 1)) << (bit + 1)
        before -= np.take_along_axis(before, start, axis=1)
        counted += (before * (1 - one)).sum(axis=1, dtype=np.int64)
        goes = np.where(one == 1, start + (1 << bit) + before, place - before)
        after = np.empty_like(now)
        np.put_along_axis(after, goes, now, axis=1)
        now = after
    return counted


def _top(x: np.ndarray, y: np.ndarray, k: int) -> tuple[np.ndarray, ...]:
    """Return agreement of features, ranks, signs and signed ranks of the top ``k`` of rows (N, M), each (N,)."""
    n, size = x.shape
    if not 1 <= k <= size:
        raise UsageError(f"k is {k}; expected 1 to {size}, the number of units")
    ranks, counts = [], []
    for z in (x, y):
        best = np.argsort(-np.abs(z), axis=1, kind="stable")[:, :k]
        rank = np.full((n, size), -1, dtype=np.int64)
        np.put_along_axis(rank, best, np.where(np.take_along_axis(z, best, axis=1) != 0, np.arange(k), -1), axis=1)
        ranks.append(rank)
        counts.append((rank >= 0).sum(1))
    both = (ranks[0] >= 0) & (ranks[1] >= 0)
    place, sign = both & (ranks[0] == ranks[1]), np.sign(x) == np.sign(y)
    most = np.maximum(*counts).astype(np.float64)
    return tuple(_over(hit.sum(1).astype(np.float64), most) for hit in (both, place, both & sign, place & sign))
