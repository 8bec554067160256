"""Few shots: small training sets, drawn several times from patients who do not meet, and a probe on each.

What varies between draws is which few cases somebody happened to label: the SD over draws says how much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medaudit.cohort.folds import split
from medaudit.errors import DataError, UsageError
from medaudit.training.probes.logistic import fit_logistic, logistic_probabilities
from medaudit.training.probes.measures import measures


@dataclass(frozen=True, eq=False)
class Episodes:
    """The training rows of each draw, ascending; ``notes`` say where a draw is not what was asked for."""

    rows: tuple[np.ndarray, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class FewShot:
    """A probe on each draw: ``probabilities`` (draws, N, C), each measure's ``values`` (draws,), its mean and SD.

    SD is of single draws, not the mean's standard error; NaN for one draw.
    """

    shots: int
    probabilities: np.ndarray
    values: dict[str, np.ndarray]
    mean: dict[str, float]
    sd: dict[str, float]
    notes: tuple[str, ...] = ()


def episodes(
    codes: Sequence[int] | np.ndarray, patients: Sequence[Any], shots: int, draws: int = 5, seed: int = 0, *,
    test_patients: Sequence[Any] = (),
) -> Episodes:  # fmt: skip
    """Return ``draws`` training sets of ``shots`` cases of each class from a pool of cases (n,).

    No case of a ``test_patients`` is drawn. Patients are dealt to the draws first, each class evenly, and a draw takes
    its cases from its own patients, one of each before a second of any. Where those are too few it takes cases of
    other draws' patients, and says so; a class with fewer than ``shots`` cases gives all that it has, and that is said.

    Raises DataError if nothing is left to draw from.
    """
    if shots < 1 or draws < 1:
        raise UsageError(f"{shots} shots, {draws} draws; expected 1 or more of both")
    y, names = np.asarray(codes), np.asarray([str(one) for one in patients])
    if y.shape != names.shape:
        raise DataError(f"{y.size} codes, {names.size} patients; expected one of each a case")
    pool = np.flatnonzero(~np.isin(names, [str(one) for one in test_patients]))
    if not pool.size:
        raise DataError(f"no case to draw: the {y.size} cases are all of test patients")
    notes = [f"{y.size - pool.size} of {y.size} cases are of test patients, and are not drawn"] * (pool.size < y.size)
    classes = np.unique(y)
    for c in classes:
        n = int((y[pool] == c).sum())
        if n < shots:
            notes.append(f"class {c} has {n} cases to draw, fewer than {shots}: every draw has them all")
    part = split(names[pool].tolist(), y[pool].tolist(), (1.0,) * draws, seed)
    made = []
    for draw in range(draws):
        rng = np.random.default_rng((seed, draw))
        chosen: list[int] = []
        for c in classes:
            own = pool[(part == draw) & (y[pool] == c)]
            others = pool[(part != draw) & (y[pool] == c)]
            taken = _spread(own, names, shots, chosen, rng)
            if len(taken) < shots:
                more = _spread(others, names, shots - len(taken), chosen + taken, rng)
                if more:
                    notes.append(f"draw {draw + 1}: {len(more)} cases of class {c} are of other draws' patients")
                taken += more
            chosen += taken
        made.append(np.sort(np.asarray(chosen, dtype=np.int64)))
    return Episodes(tuple(made), tuple(notes))


def image_episodes(
    patients: Sequence[Any], images: int, draws: int = 5, seed: int = 0, *, test_patients: Sequence[Any] = ()
) -> Episodes:
    """Return ``draws`` training sets of so many ``images``, whatever they show: for segmentation."""
    return episodes(np.zeros(len(patients), dtype=np.int64), patients, images, draws, seed, test_patients=test_patients)


def few_shot(
    train: np.ndarray, codes: np.ndarray, test: np.ndarray, test_codes: np.ndarray, classes: int, shots: int,
    drawn: Episodes, c: float = 1.0,
) -> FewShot:  # fmt: skip
    """Return logistic regression with a fixed C on each draw, measured on all ``test`` cases (N, d).

    Features less the mean of all of ``train`` (n, d), then of length 1, as SimpleShot (arXiv 1911.04623, CL2N); C = 1
    as in arXiv 2003.11539. A few cases are too few to choose C by, or to standardise with; the mean takes no labels.
    So strong a penalty makes the probabilities less sure than they could be: judge ranks, not calibration.
    """
    mean = train.mean(axis=0, dtype=np.float64)
    x, unseen = _unit(train - mean), _unit(test - mean)
    made, notes = [], list(drawn.notes)
    for draw, rows in enumerate(drawn.rows):
        probe = fit_logistic(x[rows], np.asarray(codes)[rows], classes, c, standardise=False)
        notes += [f"draw {draw + 1}: {note}" for note in probe.notes]
        made.append(logistic_probabilities(probe, unseen))
    found = [measures(p, test_codes) for p in made]
    values = {
        name: np.asarray([float(one[name]) for one in found]) for name in found[0] if np.ndim(found[0][name]) == 0
    }
    mean_of = {name: float(one.mean()) for name, one in values.items()}
    sd_of = {name: float(one.std(ddof=1)) if len(one) > 1 else float("nan") for name, one in values.items()}
    return FewShot(shots, np.stack(made), values, mean_of, sd_of, tuple(notes))


def _spread(rows: np.ndarray, names: np.ndarray, wanted: int, chosen: list[int], rng: np.random.Generator) -> list[int]:
    """Return up to ``wanted`` of ``rows``: a first case of every patient, by chance, before a second of any."""
    shuffled = rng.permutation(rows)
    seen: dict[str, int] = {}
    for row in chosen:
        seen[names[row]] = seen.get(names[row], 0) + 1
    turns = []
    for row in shuffled:
        turns.append(seen.get(names[row], 0))
        seen[names[row]] = turns[-1] + 1
    return shuffled[np.argsort(turns, kind="stable")][:wanted].tolist()


def _unit(x: np.ndarray) -> np.ndarray:
    size = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(size > 0, size, 1.0)
