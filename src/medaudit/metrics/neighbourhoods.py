"""Where generated images lie among real ones, by the distance to the k-th neighbour in features of a named
extractor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from medaudit.errors import UsageError
from medaudit.metrics.generation import GenerationScore, blocks_of, both_checked, with_interval

_CELLS = 20_000_000
"""Distances held at once: 160 MB."""


@dataclass(frozen=True)
class Neighbourhoods:
    """Shares of images within the others' ``k``-neighbourhoods; ``ideal_coverage``: of a generator that is right."""

    precision: GenerationScore
    recall: GenerationScore
    density: GenerationScore
    coverage: GenerationScore
    ideal_coverage: float
    k: int


def neighbourhoods(
    real: ArrayLike, generated: ArrayLike, *, extractor: str, k: int = 5, blocks: int = 10,
    real_patients: ArrayLike | None = None, generated_patients: ArrayLike | None = None, seed: int = 0,
) -> Neighbourhoods:  # fmt: skip
    """Return how generated images lie among real ones, and real ones among them, by balls to the ``k``-th neighbour.

    Precision: the share of generated images within the ball of any real one; recall: the same the other way around
    (Kynkaanniemi et al., NeurIPS 2019; their k is 3). Density: the mean number of real balls that a generated
    image lies in, over k, which one outlier among the real ones does not lift; coverage: the share of real balls with
    a generated image in them (Naeem et al., ICML 2020). All change with N: compare at equal numbers. A right
    generator has density 1 and ``ideal_coverage``. Intervals leave blocks of images out in turn, which makes them too
    wide rather than too narrow (Efron & Stein 1981): by a third, twice for a coverage near 1. Time grows with
    n_real times n_generated, memory does not. Raises DataError for features that do not fit, UsageError for k.
    """
    x, y = both_checked(real, generated)
    x, y = x - x.mean(axis=0), y - x.mean(axis=0)  # large means would cost the distances their last digits
    sides = [blocks_of(len(x), real_patients, blocks, seed), blocks_of(len(y), generated_patients, blocks, seed + 1)]
    if not 1 <= k < min(len(x), len(y)) * (1 - 1 / min(s.max() + 1 for s in sides)):
        raise UsageError(f"k is {k}, with {len(x)} real and {len(y)} generated images; expected 1 or more, and fewer")
    inner = [_radii(rows, k, codes) for rows, codes in zip((x, y), sides, strict=True)]
    values = _shares(x, y, inner, sides, k)
    squares = sum((len(v) - 1) / len(v) * ((v - v.mean(0)) ** 2).sum(0) for v in values[1:])
    about = (len(x), len(y), x.shape[1], min(len(v) for v in values[1:]))
    scores = [
        with_interval(name, extractor, float(v), float(s) ** 0.5, about, (0.0, math.inf if name == "Density" else 1.0))
        for name, v, s in zip(("Precision", "Recall", "Density", "Coverage"), values[0][0], squares, strict=True)
    ]
    missed = math.prod((len(x) - 1 - i) / (len(x) + len(y) - 1 - i) for i in range(k))
    precision, recall, density, coverage = scores
    return Neighbourhoods(precision, recall, density, coverage, 1 - missed, k)


def _squared(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    both = (some**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2 * some @ others.T
    return np.maximum(both, 0.0, out=both)


def _radii(rows: np.ndarray, k: int, codes: np.ndarray) -> np.ndarray:
    """Return (1 + G, n) squared distances to the k-th neighbour: among all, and among those outside of each block."""
    found = np.empty((codes.max() + 2, len(rows)))
    step = max(1, _CELLS // len(rows))
    for start in range(0, len(rows), step):
        distances = _squared(rows[start : start + step], rows)
        at = np.arange(len(distances))
        distances[at, start + at] = np.inf
        found[0, start + at] = np.partition(distances, k - 1, axis=1)[:, k - 1]
        for g in range(codes.max() + 1):
            found[g + 1, start + at] = np.partition(distances[:, codes != g], k - 1, axis=1)[:, k - 1]
    return found


def _shares(
    x: np.ndarray, y: np.ndarray, inner: list[np.ndarray], sides: list[np.ndarray], k: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return precision, recall, density, coverage (., 4): of all, without each real block, without each generated."""
    left_out: list[tuple[int | None, int | None]] = [(None, None), *((g, None) for g in range(sides[0].max() + 1))]
    left_out += [(None, g) for g in range(sides[1].max() + 1)]
    inside = np.zeros((len(left_out), len(y)))
    held, covered = (np.zeros((len(left_out), len(x)), dtype=bool) for _ in range(2))
    step = max(1, _CELLS // len(y))
    for start in range(0, len(x), step):
        rows = slice(start, start + step)
        distances = _squared(x[rows], y)
        for i, (a, b) in enumerate(left_out):
            of_real, of_generated = inner[0][0 if a is None else a + 1, rows], inner[1][0 if b is None else b + 1]
            keep = np.ones(len(y), dtype=bool) if b is None else sides[1] != b
            real = np.ones(len(distances), dtype=bool) if a is None else sides[0][rows] != a
            within = (distances <= of_real[:, None]) & keep
            inside[i] += within[real].sum(axis=0)
            covered[i, rows] = within.any(axis=1)
            held[i, rows] = ((distances <= of_generated) & keep).any(axis=1)
    found = []
    for i, (a, b) in enumerate(left_out):
        real, generated = (slice(None) if g is None else side != g for g, side in zip((a, b), sides, strict=True))
        there = inside[i, generated]
        found.append(((there > 0).mean(), held[i, real].mean(), there.mean() / k, covered[i, real].mean()))
    values, first = np.array(found), sides[0].max() + 2
    return values[:1], values[1:first], values[first:]
