"""Does one move do more than any other would? Effects of chosen prototypes against those of random ones, the placebos.

A judge's number changes a little whatever is moved: an effect that differs from 0, or from the mean of random moves,
only says that there are many images. The question is whether the chosen prototype is out of the ordinary *among
prototypes*, so that these, and not images, are what is exchanged (placebo test: Abadie, Diamond & Hainmueller 2010).
With R placebos no p is below 1 / (R + 1), and with A chosen ones, corrected over all of them, none much below
A / (A + R): a model of 32 prototypes has too few for three.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from medaudit.errors import DataError
from medaudit.statistics.multiplicity import benjamini_hochberg
from medaudit.statistics.patients import patient_weights

_DRAWS = 9_999


@dataclass(frozen=True, eq=False)
class PlaceboTest:
    """Mean effects of A chosen prototypes on q targets; every array is (A, q), NaN where ``tested`` is false.

    ``low``, ``high``: 95 % limits of the mean effect, by patients drawn anew. ``p`` of one cell alone; ``p_max``
    corrected over all tested cells by the largest; ``p_bh``, ``p_by`` by false discovery rate, BY's whatever depends
    on what.
    """

    effect: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    p_max: np.ndarray
    p_bh: np.ndarray
    p_by: np.ndarray
    tested: np.ndarray
    placebo: np.ndarray
    """(R, q): mean effects of the placebos."""
    n: int
    """Patients."""

    @property
    def least_p(self) -> float:
        """The smallest p that so many placebos can give a cell: where it is above 0.05, nothing can be found."""
        return 1 / (len(self.placebo) + 1)


def placebo_test(
    chosen: ArrayLike, placebo: ArrayLike, *, patients: ArrayLike | None = None, tested: ArrayLike | None = None,
    resamples: int = 2_000, seed: int = 0,
) -> PlaceboTest:  # fmt: skip
    """Return whether chosen prototypes change targets more than placebos do, in either direction.

    ``chosen`` (A, n, q) or (n, q), and ``placebo`` (R, n, q), are effects on the same n images: target after less
    before. ``tested`` (A, q) bool leaves cells out: what a prototype was chosen for it changes, of course. Leave out of
    the placebos what was chosen for the same thing.

    The null is that the chosen ones are a random A of all A + R. A cell's p counts the placebos whose absolute mean
    effect is as large. ``p_max`` draws which are chosen anew (all ways, if A is 1) and takes the largest
    tested cell, each target in units of its root mean square over all A + R prototypes, which no exchange changes:
    the chance of any false claim is held where no cell is real, and drawing a real one again costs power,
    not level. Raises DataError for shapes that do not fit, or an effect that is not finite.
    """
    own, other = np.asarray(chosen, dtype=np.float64), np.asarray(placebo, dtype=np.float64)
    own = own[None] if own.ndim == 2 else own
    if own.ndim != 3 or other.ndim != 3 or own.shape[1:] != other.shape[1:] or not own.size or not other.size:
        raise DataError(f"chosen effects are {own.shape}, placebos' {other.shape}; expected (A, n, q) and (R, n, q)")
    if not (np.isfinite(own).all() and np.isfinite(other).all()):
        raise DataError("an effect is not finite; leave such images out of all prototypes")
    a, n, q = own.shape
    asked = np.ones((a, q), dtype=bool) if tested is None else np.asarray(tested, dtype=bool)
    if asked.shape != (a, q):
        raise DataError(f"tested has shape {asked.shape}; expected {(a, q)}, a cell each")
    code, weights = patient_weights(np.arange(n) if patients is None else np.asarray(patients), resamples, seed)
    if len(code) != n:
        raise DataError(f"there are {len(code)} patients' codes for {n} images; expected one for each")
    effect, null = own.mean(axis=1), other.mean(axis=1)
    cases = weights[:, code].astype(np.float64)
    draws = np.einsum("bn,anq->abq", cases, own) / cases.sum(axis=1)[None, :, None]
    low, high = np.quantile(draws, (0.025, 0.975), axis=1)
    p = (1 + _as_large(np.abs(null)[:, None], np.abs(effect)).sum(axis=0)) / (len(null) + 1)
    p_max = _largest(effect, null, asked, np.random.default_rng(seed))
    p, p_max, low, high, shown = (np.where(asked, x, np.nan) for x in (p, p_max, low, high, effect))
    return PlaceboTest(
        shown, low, high, p, p_max, benjamini_hochberg(p.ravel()).reshape(a, q), benjamini_yekutieli(p), asked, null,
        weights.shape[1],
    )  # fmt: skip


def benjamini_yekutieli(p_values: ArrayLike) -> np.ndarray:
    """Return Benjamini-Yekutieli adjusted p-values (2001): as Benjamini & Hochberg's, under any dependence."""
    p = np.asarray(p_values, dtype=np.float64)
    harmonic = (1 / np.arange(1, int(np.isfinite(p).sum()) + 1)).sum()
    return np.minimum(benjamini_hochberg(p.ravel()).reshape(p.shape) * harmonic, 1.0)


def _largest(effect: np.ndarray, null: np.ndarray, asked: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return p of each cell (A, q) against the largest tested cell where which prototypes are chosen is drawn anew."""
    a = len(effect)
    every = np.abs(np.concatenate([effect, null]))
    scale = np.sqrt(np.square(every).mean(axis=0))
    every = every / np.where(scale > 0, scale, 1.0)
    if a == 1:
        orders, counted = np.arange(len(every))[:, None], 0
    else:
        orders = rng.permuted(np.tile(np.arange(len(every)), (_DRAWS, 1)), axis=1)[:, :a]
        counted = 1  # the observed choice is one of them
    largest = np.where(asked, every[orders], 0.0).max(axis=(1, 2))
    extreme = _as_large(largest[:, None, None], every[:a]).sum(axis=0)
    return (counted + extreme) / (counted + len(orders))


def _as_large(null: np.ndarray, observed: np.ndarray) -> np.ndarray:
    return null >= observed * (1 - 1e-12)
