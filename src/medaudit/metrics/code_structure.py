"""What a latent code is made of: the directions it uses, dead codes, twins, matches in another training, and moves."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from medaudit.errors import DataError, UsageError
from medaudit.metrics.latent_codes import finite_codes

DEAD, ALIKE = 0.02, 0.98
"""Ours: a code is dead below this share of the median SD, and two are twins above this absolute correlation."""


@dataclass(frozen=True)
class CodeHealth:
    """``effective_rank`` of m codes; places of those that are ``dead``, and pairs of ``twins``, (i, j, correlation)."""

    effective_rank: float
    dead: tuple[int, ...]
    twins: tuple[tuple[int, int, float], ...]


@dataclass(frozen=True, eq=False)
class CodeMatch:
    """Codes of one training, ``first`` (P,), with those of another that answer alike, ``second`` (P,).

    ``correlation`` (P,) is signed. ``chance``: the mean absolute correlation of the best matching of codes whose images
    were shuffled, to be taken off before anything is concluded from few images.
    """

    first: np.ndarray
    second: np.ndarray
    correlation: np.ndarray
    chance: float

    @property
    def mean(self) -> float:
        """The mean absolute correlation of matched codes: 1 where both trainings found the same."""
        return float(np.abs(self.correlation).mean())


@dataclass(frozen=True, eq=False)
class JointMove:
    """Moved ``codes`` (n, m), and where they were ``held`` (n, m) bool at the ends of what training images have.

    ``asked_beyond``: whether the target itself lies outside; it is set all the same.
    """

    codes: np.ndarray
    held: np.ndarray
    asked_beyond: bool


def effective_rank(codes: ArrayLike) -> float:
    """Return exp of the entropy of the shares of singular values of centred codes (n, m) (Roy & Vetterli 2007).

    From 1, all codes say one thing, to m; 1 too where nothing varies.
    """
    x = finite_codes(codes).astype(np.float64)
    values = np.linalg.svd(x - x.mean(axis=0), compute_uv=False)
    if not values.sum() > 0:
        return 1.0
    shares = values[values > 0] / values.sum()
    return math.exp(-float((shares * np.log(shares)).sum()))


def code_health(codes: ArrayLike, *, dead: float = DEAD, alike: float = ALIKE) -> CodeHealth:
    """Return how many directions codes (n, m) use, which are dead (at most ``dead`` times the median SD), and twins."""
    x = finite_codes(codes).astype(np.float64)
    spread = x.std(axis=0)
    still = spread <= dead * max(float(np.median(spread)), 1e-12)
    r = _correlation(x, x)
    r[still] = r[:, still] = 0.0
    twins = tuple((int(i), int(j), float(r[i, j])) for i, j in np.argwhere(np.triu(np.abs(r) > alike, 1)))
    return CodeHealth(effective_rank(x), tuple(np.flatnonzero(still).tolist()), twins)


def match_codes(first: ArrayLike, second: ArrayLike, *, shuffles: int = 20, seed: int = 0) -> CodeMatch:
    """Return which codes of two trainings, (n, m) and (n, m') of the same n images, answer alike.

    One to one, by the largest sum of absolute correlations (Hungarian method). A code that does not vary correlates 0.
    """
    from scipy.optimize import linear_sum_assignment  # slow to import, and only this asks for it

    x, y = (finite_codes(codes).astype(np.float64) for codes in (first, second))
    if len(x) != len(y):
        raise DataError(f"codes are of {len(x)} and {len(y)} images; expected the same images, in one order")
    r = _correlation(x, y)
    rows, columns = linear_sum_assignment(np.abs(r), maximize=True)
    rng = np.random.default_rng(seed)
    by_chance = []
    for _ in range(shuffles):
        drawn = np.abs(_correlation(x, y[rng.permutation(len(y))]))
        by_chance.append(drawn[linear_sum_assignment(drawn, maximize=True)].mean())
    return CodeMatch(rows, columns, r[rows, columns], float(np.mean(by_chance)) if by_chance else math.nan)


def joint_move(
    codes: ArrayLike, code: int, target: float, *, training: ArrayLike | None = None, shrinkage: float = 0.0
) -> JointMove:
    """Return codes (n, m) with one at ``target`` and the others moved as they go along with it in ``training`` (N, m).

    s' = s + (target - s_j) S_{:,j} / S_jj, S their covariance: for normal codes the expectation of the
    others given s_j = target, each keeping its own distance from it. ``shrinkage`` (0 to 1) draws the covariances
    of different codes to 0; 1 moves the code alone. What that pushes beyond the training images' least or largest
    value is held there, or where it was if that lay beyond, and said. By default ``training`` are the codes themselves.
    Raises UsageError for a code that is not there or another shrinkage, DataError for a code that does not vary.
    """
    before = finite_codes(codes).astype(np.float64)
    known = before if training is None else finite_codes(training, "training codes").astype(np.float64)
    m = before.shape[1]
    if known.shape[1] != m:
        raise DataError(f"codes are {before.shape}, training codes {known.shape}; expected as many codes in both")
    if not 0 <= code < m:
        raise UsageError(f"there is no code {code}; there are {m}, counted from 0")
    if not 0 <= shrinkage <= 1:
        raise UsageError(f"shrinkage is {shrinkage}; expected 0 to 1")
    centred = known - known.mean(axis=0)
    with_it = centred.T @ centred[:, code]
    low, high = known.min(axis=0), known.max(axis=0)
    if high[code] == low[code]:
        raise DataError(f"code {code} has one value in the training images; nothing can be said to go along with it")
    slopes = (1 - shrinkage) * with_it / with_it[code]
    slopes[code] = 1.0
    asked = before + (target - before[:, [code]]) * slopes
    after = np.clip(asked, np.minimum(low, before), np.maximum(high, before))
    after[:, code] = asked[:, code] = target
    return JointMove(after, after != asked, not low[code] <= target <= high[code])


def _correlation(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation of each column of one with each of the other; 0 where one does not vary."""
    a, b = ((z - z.mean(axis=0)) / np.where(np.ptp(z, axis=0) > 0, z.std(axis=0), np.inf) for z in (x, y))
    return a.T @ b / len(x)
