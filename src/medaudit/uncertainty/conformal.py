"""Split conformal prediction: sets of classes that hold the true one with a promised probability.

The promise, 1 - alpha on average over calibration and test cases, rests on their being exchangeable: it holds in the
distribution that the calibration cases come from, and nowhere else. Under a shift a set's size, or how badly even the
best class fits (:meth:`Conformal.score`), are scores like any other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from medaudit.errors import DataError, UsageError
from medaudit.uncertainty.decomposition import checked_probabilities
from medaudit.uncertainty.softmax import checked_labels

METHODS = ("lac", "aps", "raps")


@dataclass(frozen=True, eq=False)
class Conformal:
    """Calibrated thresholds. ``calibration``: sorted scores, one array for all classes, or C where ``mondrian``.

    ``thresholds`` (C,): a class is in the set where its score is at most this; infinite where the calibration cases are
    too few for the promise, so that the class is in every set: ``notes`` say so.
    """

    alpha: float
    method: str
    mondrian: bool
    seed: int | None
    penalty: float
    free_ranks: int
    calibration: tuple[np.ndarray, ...]
    thresholds: np.ndarray
    notes: tuple[str, ...] = ()

    @classmethod
    def fit(
        cls,
        probabilities: ArrayLike,
        labels: ArrayLike,
        alpha: float = 0.1,
        method: Literal["lac", "aps", "raps"] | str = "lac",
        mondrian: bool = False,
        seed: int | None = 0,
        *,
        penalty: float = 0.01,
        free_ranks: int = 1,
    ) -> Conformal:
        """Calibrate on probabilities (n, C) and labels (n,) of cases that the model was not trained on.

        ``lac``: score 1 - p_y, the smallest sets on average (Sadinle et al., JASA 2019). ``aps``: the mass of the
        likelier classes plus u p_y, with u uniform (Romano et al., NeurIPS 2020). ``raps``: APS plus ``penalty`` for
        every rank of y beyond ``free_ranks`` (Angelopoulos et al., ICLR 2021: lambda and k_reg). ``seed`` draws u; with
        None, u = 1: no chance, and larger sets. ``mondrian``: the promise holds within each class, each with a
        threshold of its own (Vovk et al. 2005). The threshold is the ceil((n + 1) (1 - alpha))-th smallest score.
        UsageError unless 0 < alpha < 1 and the method is known; DataError on labels or probabilities that are none.
        """
        if not 0 < alpha < 1:
            raise UsageError(f"alpha {alpha}; expected the tolerated share of misses, between 0 and 1")
        if method not in METHODS:
            raise UsageError(f"method {method!r}; expected one of {', '.join(METHODS)}")
        if not (penalty >= 0 and free_ranks >= 0):
            raise UsageError(f"penalty {penalty} and free_ranks {free_ranks}; expected 0 or more of each")
        p = checked_probabilities(probabilities)
        y = checked_labels(labels, len(p), p.shape[1])
        true = _scores(p, method, _uniform(seed, 0, len(p)), penalty, free_ranks)[np.arange(len(p)), y]
        parts = [true[y == c] for c in range(p.shape[1])] if mondrian else [true]
        calibration = tuple(np.sort(part) for part in parts)
        thresholds = np.array([threshold(part, alpha) for part in calibration])
        few = np.flatnonzero(np.isinf(thresholds))
        notes: tuple[str, ...] = ()
        if few.size:
            least = math.ceil(1 / alpha - 1e-9) - 1
            which = f"classes {', '.join(map(str, few))}" if mondrian else "all classes"
            notes = (
                f"{which}: {min(calibration[c].size for c in few)} calibration cases; a promise of {1 - alpha:.3g} "
                f"takes {least} or more, so that they are in every set",
            )
        thresholds = np.broadcast_to(thresholds, p.shape[1]).copy()
        return cls(alpha, method, mondrian, seed, penalty, free_ranks, calibration, thresholds, notes)

    def sets(self, probabilities: ArrayLike) -> np.ndarray:
        """Return which classes are in the sets of cases with probabilities (n, C): bool (n, C). A set may be empty."""
        return self._scores(probabilities) <= self.thresholds

    def size(self, probabilities: ArrayLike) -> np.ndarray:
        """Return the number of classes in each set, (n,) int."""
        return self.sets(probabilities).sum(axis=1)

    def p_value(self, probabilities: ArrayLike) -> np.ndarray:
        """Return each class's p-value (n, C): the share of calibration cases that fit it no better, the case counted.

        A class is in the set where its p-value is above alpha.
        """
        scores = self._scores(probabilities)
        p = np.empty(scores.shape)
        for c in range(scores.shape[1]):
            known = self.calibration[c if self.mondrian else 0]
            p[:, c] = (known.size - np.searchsorted(known, scores[:, c], side="left") + 1) / (known.size + 1)
        return p

    def score(self, probabilities: ArrayLike) -> np.ndarray:
        """Return 1 - the largest p-value of any class (n,), one less the credibility: larger fits no class."""
        return 1 - self.p_value(probabilities).max(axis=1)

    def _scores(self, probabilities: ArrayLike) -> np.ndarray:
        p = checked_probabilities(probabilities)
        if p.shape[1] != len(self.thresholds):
            raise DataError(
                f"probabilities of {p.shape[1]} classes; expected {len(self.thresholds)}, as in calibration"
            )
        return _scores(p, self.method, _uniform(self.seed, 1, len(p)), self.penalty, self.free_ranks)


def threshold(scores: ArrayLike, alpha: float) -> float:
    """Return the ceil((n + 1) (1 - alpha))-th smallest of n calibration scores; infinity where n is too small."""
    known = np.sort(np.asarray(scores, dtype=np.float64))
    # (n + 1) (1 - alpha) is a whole number for many n and alpha, and must not be rounded up because of the last digit.
    rank = math.ceil((known.size + 1) * (1 - alpha) - 1e-9)
    return float(known[rank - 1]) if rank <= known.size else math.inf


def _uniform(seed: int | None, stream: int, cases: int) -> np.ndarray:
    """Return the u of calibration (stream 0) or test cases (stream 1); a case's is the same whatever follows it."""
    return np.ones(cases) if seed is None else np.random.default_rng([seed, stream]).random(cases)


def _scores(p: np.ndarray, method: str, u: np.ndarray, penalty: float, free_ranks: int) -> np.ndarray:
    """Return the nonconformity (n, C) of every class; larger fits less."""
    if method == "lac":
        # The mass of the other classes: 1 - p would make ties of confident cases.
        return np.stack([np.delete(p, c, axis=1).sum(axis=1) for c in range(p.shape[1])], axis=1)
    order = np.argsort(-p, axis=1, kind="stable")
    falling = np.take_along_axis(p, order, axis=1)
    ranked = np.cumsum(falling, axis=1) - falling + u[:, None] * falling
    if method == "raps":
        ranked = ranked + penalty * np.maximum(np.arange(1, p.shape[1] + 1) - free_ranks, 0)
    scores = np.empty(p.shape)
    np.put_along_axis(scores, order, ranked, axis=1)
    return scores
