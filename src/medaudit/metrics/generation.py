"""How far generated images are from real ones, as sets of features: Frechet and kernel distance.

Features are (N, D), of any extractor, whose name goes with every number: distances in features of two extractors do not
compare, and none of these is the FID, which is of one Inception net's weights and one way of resizing. Nor do distances
from different numbers of images compare: the Frechet distance of 1,000 images from 1,000 others of the same kind is not
0, and falls like 1 / N. Images are cut into blocks, patients whole; every interval is from block to block.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import eigh, svdvals
from scipy.special import stdtrit

from medaudit.errors import DataError, UsageError

_ROWS = 8_192
"""Features taken to double precision at once."""
_SHARES = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True)
class GenerationScore:
    """A number with its 95 % interval (t, from ``blocks`` blocks of images), and what it was measured on."""

    name: str
    extractor: str
    value: float
    low: float
    high: float
    se: float
    n_real: int
    n_generated: int
    dimensions: int
    blocks: int

    def __str__(self) -> str:
        return (
            f"{self.name} {self.value:.4g} ({self.low:.4g} to {self.high:.4g}) in features of {self.extractor} "
            f"({self.dimensions} numbers), {self.n_real:,} real and {self.n_generated:,} generated images"
        )


@dataclass(frozen=True, eq=False)
class Moments:
    """What a Frechet distance needs of ``n`` images: ``mean`` (D,), and ``scatter`` (D, D) about it. float64."""

    n: int
    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    def of(cls, features: ArrayLike) -> Moments:
        """Return the moments of features (N, D). Raises DataError for a value that is not finite."""
        rows = _checked(features, "features", least=1)
        mean = rows.mean(axis=0, dtype=np.float64)
        scatter = np.zeros((rows.shape[1],) * 2)
        for start in range(0, len(rows), _ROWS):
            centred = rows[start : start + _ROWS] - mean
            scatter += centred.T @ centred
        return cls(len(rows), mean, scatter)

    @classmethod
    def merged(cls, parts: Iterable[Moments]) -> Moments:
        """Return the moments of all images of one or more parts together (Chan, Golub & LeVeque 1979)."""
        known = list(parts)
        n = sum(part.n for part in known)
        mean = sum((part.n / n * part.mean for part in known), np.zeros_like(known[0].mean))
        away = np.stack([part.n**0.5 * (part.mean - mean) for part in known])
        scatter = away.T @ away
        for part in known:
            scatter += part.scatter
        return cls(n, mean, scatter)

    @property
    def covariance(self) -> np.ndarray:
        """(D, D), divided by n - 1."""
        return self.scatter / (self.n - 1)


@dataclass(frozen=True, eq=False)
class Extrapolation:
    """A Frechet distance at infinitely many images, ``score``; the measured ``distances`` (P,) at ``shares`` (P,).

    ``slope``: what the finite number of images adds to the distance of all of them.
    """

    score: GenerationScore
    slope: float
    shares: np.ndarray
    distances: np.ndarray


def block_moments(
    features: ArrayLike, *, blocks: int = 20, patients: ArrayLike | None = None, seed: int = 0
) -> list[Moments]:
    """Return the moments of ``blocks`` random parts of features (N, D); all images of one of ``patients`` in one part.

    For more images than memory holds: one Moments a batch, merged into 20 of them in turn, is the same thing.
    """
    rows = _checked(features, "features")
    return [Moments.of(rows[part]) for part in _parts(len(rows), patients, blocks, seed)]


def frechet(first: Moments, second: Moments) -> float:
    """Return the squared Frechet distance of two normal distributions (Dowson & Landau 1982; Heusel et al. 2017).

    |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2). The last trace is the sum of the singular values of
    S1^(1/2) S2^(1/2): symmetric roots, so that no complex numbers and no ridge are needed where there are fewer images
    than dimensions. Raises DataError for other dimensions, or fewer than 2 images.
    """
    _check_pair([first], [second])
    return _between(_Normal.of(first), _Normal.of(second))


def frechet_distance(real: Sequence[Moments], generated: Sequence[Moments], *, extractor: str) -> GenerationScore:
    """Return the Frechet distance of two sets of images, each as blocks (:func:`block_moments`).

    It is biased upwards, by about a number over N: the interval is of the distance at these numbers of images, to be
    compared with that of real images from real ones at the same. By leaving blocks out in turn (jackknife): a third too
    wide where the two are alike. Two or more blocks of each; 20 are good.
    """
    _check_pair(real, generated)
    value, se = _left_out(real, generated)
    return _score("Frechet distance", extractor, value, se, real, generated)


def extrapolated_frechet(real: Sequence[Moments], generated: Sequence[Moments], *, extractor: str) -> Extrapolation:
    """Return the Frechet distance at infinitely many images of both kinds (after Chong & Forsyth, CVPR 2020).

    The intercept of a regression of the distance on 1 / share, where a share of the blocks of both sets is used, 40 %
    to all. They keep the real images as they are, whose bias then stays; we take both. May be below 0, as an unbiased
    estimate of 0 must. The interval is that of the distance itself, moved. Raises DataError where a set has
    less than three images a dimension: there the bias is not 1 / N, and a line through it is wrong.
    """
    _check_pair(real, generated)
    least = min(sum(part.n for part in some) for some in (real, generated))
    d = len(real[0].mean)
    if least < 3 * d:
        raise DataError(
            f"{least:,} images in {d} dimensions; expected 3 a dimension to extrapolate: reduce the features"
        )
    value, se = _left_out(real, generated)
    shares, distances = [1.0], [value]
    for share in _SHARES[:-1]:
        for turn in range(4):
            some = [_some(blocks, share, turn / 4) for blocks in (real, generated)]
            shares.append(sum(part.n for part in some[0]) / sum(part.n for part in real))
            distances.append(frechet(Moments.merged(some[0]), Moments.merged(some[1])))
    slope, intercept = np.polyfit(1 / np.array(shares), distances, 1)
    score = _score("Frechet distance at infinity", extractor, float(intercept), se, real, generated, least=-math.inf)
    return Extrapolation(score, float(slope), np.array(shares), np.array(distances))


def kernel_distance(
    real: ArrayLike, generated: ArrayLike, *, extractor: str, block: int = 1_000,
    real_patients: ArrayLike | None = None, generated_patients: ArrayLike | None = None, seed: int = 0,
) -> GenerationScore:  # fmt: skip
    """Return the squared maximum mean discrepancy under KID's kernel, (x.y / D + 1)^3 (Binkowski et al., ICLR 2018).

    The mean over ten blocks, or as many as make them of at most ``block`` images, of the unbiased estimate within each
    (Zaremba et al., NIPS 2013): no image is in two, so the standard error is one; KID is usually printed with the SD of
    overlapping random subsets, which is none. Unbiased at any N, so it may be below 0. The cube has heavy
    tails: with a few hundred images in few dimensions the interval holds nearer 90 % than 95 %. Raises DataError for
    features that do not fit, and too few images.
    """
    x, y = both_checked(real, generated)
    count = max(10, math.ceil(max(len(x), len(y)) / block))
    for _ in range(2):  # where one set has fewer patients than blocks the other has as many blocks as it has patients
        parts = [_parts(len(x), real_patients, count, seed), _parts(len(y), generated_patients, count, seed + 1)]
        count = min(map(len, parts))
    smallest = min(len(part) for side in parts for part in side)
    if smallest < 2:
        raise DataError(
            f"{len(x)} real, {len(y)} generated images in {count} blocks; expected 2 or more a block of both"
        )
    values = np.array([_discrepancy(x[a], y[b]) for a, b in zip(*parts, strict=True)])
    se = float(values.std(ddof=1)) / count**0.5
    name = "Kernel distance (MMD^2, degree 3)"
    return with_interval(name, extractor, float(values.mean()), se, (len(x), len(y), x.shape[1], count))


@dataclass(frozen=True, eq=False)
class _Normal:
    mean: np.ndarray
    root: np.ndarray

    @classmethod
    def of(cls, moments: Moments) -> _Normal:
        values, vectors = eigh(moments.covariance)
        # What rounding leaves of an eigenvalue of 0 would have a root a million times larger.
        values[values < len(values) * np.finfo(np.float64).eps * values[-1]] = 0.0
        return cls(moments.mean, (vectors * np.sqrt(values)) @ vectors.T)


def _between(first: _Normal, second: _Normal) -> float:
    shift = first.mean - second.mean
    size = np.square(first.root).sum() + np.square(second.root).sum()
    return max(0.0, float(shift @ shift + size - 2 * svdvals(first.root @ second.root).sum()))


def _left_out(real: Sequence[Moments], generated: Sequence[Moments]) -> tuple[float, float]:
    """Return the distance, and its standard error by leaving out each block of either set in turn."""
    sides, variance = (list(real), list(generated)), 0.0
    whole = [_Normal.of(Moments.merged(side)) for side in sides]
    for s, side in enumerate(sides):
        less = (Moments.merged(side[:g] + side[g + 1 :]) for g in range(len(side)))
        values = np.array([_between(_Normal.of(part), whole[1 - s]) for part in less])
        variance += (len(side) - 1) / len(side) * float(((values - values.mean()) ** 2).sum())
    return _between(*whole), variance**0.5


def _some(blocks: Sequence[Moments], share: float, start: float) -> list[Moments]:
    count, first = max(1, round(share * len(blocks))), round(start * len(blocks))
    return [blocks[(first + i) % len(blocks)] for i in range(count)]


def _discrepancy(x: np.ndarray, y: np.ndarray) -> float:
    m, n, d = len(x), len(y), x.shape[1]
    inside = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in ((a @ a.T / d + 1) ** 3 for a in (x, y))]
    return float(sum(inside) - 2 * ((x @ y.T / d + 1) ** 3).sum() / (m * n))


def blocks_of(n: int, patients: ArrayLike | None, count: int, seed: int) -> np.ndarray:
    """Return a random block, 0 to at most ``count`` - 1, of each of n images; all of one of ``patients`` in one.

    Fewer where there are fewer patients. Raises DataError for patients of another length, or of one patient alone.
    """
    if count < 2:
        raise UsageError(f"{count} blocks; expected 2 or more")
    who = np.arange(n) if patients is None else np.asarray(patients)
    if who.shape != (n,):
        raise DataError(f"patients have shape {who.shape}; expected one for each of {n} images")
    _, code, sizes = np.unique(who, return_inverse=True, return_counts=True)
    if len(sizes) < 2:
        raise DataError("all images are of one patient; expected 2 or more, to see how they differ")
    order = np.random.default_rng(seed).permutation(len(sizes))
    order = order[
        np.argsort(-sizes[order], kind="stable")
    ]  # patients of most images first, so that blocks come out even
    block, held = np.empty(len(sizes), dtype=np.int64), np.zeros(min(count, len(sizes)), dtype=np.int64)
    if sizes.max() == sizes.min():
        block[order] = np.arange(len(sizes)) % len(held)
        return block[code]
    for one in order:
        block[one] = np.argmin(held)
        held[block[one]] += sizes[one]
    return block[code]


def both_checked(real: ArrayLike, generated: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return the features in double precision; raises DataError for other shapes."""
    x, y = _checked(real, "real features"), _checked(generated, "generated features")
    if x.shape[1] != y.shape[1]:
        raise DataError(
            f"real features are {x.shape}, generated {y.shape}; expected one extractor's, of equal dimensions"
        )
    return x.astype(np.float64), y.astype(np.float64)


def with_interval(
    name: str, extractor: str, value: float, se: float, about: tuple[int, int, int, int],
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> GenerationScore:  # fmt: skip
    """Return the score with Student's interval; ``about``: n_real, n_generated, dimensions, blocks."""
    if not extractor.strip() or extractor.strip().lower() == "fid":
        raise UsageError(f"extractor is '{extractor}'; expected the name of what made the features")
    half = float(stdtrit(about[3] - 1, 0.975)) * se
    low, high = (min(max(limit, bounds[0]), bounds[1]) for limit in (value - half, value + half))
    return GenerationScore(name, extractor, value, low, high, se, *about)


def _score(
    name: str, extractor: str, value: float, se: float, real: Sequence[Moments], generated: Sequence[Moments],
    least: float = 0.0,
) -> GenerationScore:  # fmt: skip
    n, m = (sum(part.n for part in side) for side in (real, generated))
    about = (n, m, len(real[0].mean), min(len(real), len(generated)))
    return with_interval(name, extractor, value, se, about, (least, math.inf))


def _parts(n: int, patients: ArrayLike | None, count: int, seed: int) -> list[np.ndarray]:
    codes = blocks_of(n, patients, count, seed)
    return [np.flatnonzero(codes == g) for g in range(codes.max() + 1)]


def _checked(features: ArrayLike, what: str, least: int = 2) -> np.ndarray:
    rows = np.asarray(features)
    if rows.ndim != 2 or len(rows) < least or not rows.shape[1]:
        raise DataError(f"{what} have shape {rows.shape}; expected (N, D), {least} images or more")
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if bad.size:
        raise DataError(f"{what} of {bad.size} images are not finite, the first in row {bad[0]}; leave such images out")
    return rows


def _check_pair(real: Sequence[Moments], generated: Sequence[Moments]) -> None:
    for name, side in (("real", real), ("generated", generated)):
        if sum(part.n for part in side) < 2:
            raise DataError(f"the {name} images are fewer than 2; expected moments of 2 or more")
    d = {len(part.mean) for side in (real, generated) for part in side}
    if len(d) > 1:
        raise DataError(f"features have {sorted(d)} dimensions; expected one extractor's, of equal dimensions")
