"""From scores to evidence: who notices which shift, whose refusals are right, and what a trivial cue would have said.

One set of resampled patients serves every cell (method x task), every cue and both questions, so that all comparisons
are paired. Seeds are resampled with the patients: an interval says what another training would have changed too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from medaudit.audits.ood.design import NOVEL, UNKNOWN, Design, ShiftSet, match_task, matched
from medaudit.audits.ood.scores import Scores
from medaudit.audits.ood.settings import Settings
from medaudit.metrics.ranking_draws import ranking_draws
from medaudit.metrics.selective import augrc, scod_loss
from medaudit.statistics.patients import patient_weights

DETECTION = ("auroc", "fpr95_ood_pos", "fpr95_id_pos", "aupr_out", "aupr_in")
ABSTENTION = ("augrc", "aurc", "risk_at_80", "failure_auroc")


@dataclass(frozen=True, eq=False)
class Gate:
    """How well each cell's score gates one task's prediction: metrics by name, ``point`` and ``draws``.

    ``point`` (M, T, S), ``draws`` (B, M, T). ``loss`` (S, n) is what is lost by accepting a case, NaN where its class
    is not known. ``novel``: the shifted cases have classes that no model knows, so accepting one is a failure (SCOD).
    """

    task: str
    novel: bool
    point: Mapping[str, np.ndarray]
    draws: Mapping[str, np.ndarray]
    loss: np.ndarray
    accuracy_in: np.ndarray
    """Of the gated predictor on test cases, (S,)."""
    accuracy_out: np.ndarray
    """On shifted cases; NaN where their classes are novel."""
    own_accuracy: np.ndarray
    """Of each method's own predictions of this task on test cases, (M, S)."""
    own_augrc: np.ndarray
    """Of each method's own predictions, gated by its own score, (M, S): methods at unequal accuracy."""


@dataclass(frozen=True, eq=False)
class SetResult:
    """One set against the test cases: ``point`` (M, T, S) and ``draws`` (B, M, T) of each detection metric."""

    part: ShiftSet
    rows_in: np.ndarray
    rows_out: np.ndarray
    patients_in: int
    patients_out: int
    match: str
    point: Mapping[str, np.ndarray]
    draws: Mapping[str, np.ndarray]
    others: Mapping[str, np.ndarray]
    """AUROC of every further score, ``method.score`` to (T, S)."""
    cue_point: np.ndarray
    """AUROC of each trivial cue in its better direction, (C,)."""
    cue_draws: np.ndarray
    """(B, C)."""
    cues: tuple[str, ...]
    gates: tuple[Gate, ...]

    @cached_property
    def rows(self) -> np.ndarray:
        """Test cases, then shifted cases."""
        return np.concatenate([self.rows_in, self.rows_out])

    def mean(self, metric: str) -> np.ndarray:
        """Return a detection metric averaged over seeds, (M, T)."""
        return self.point[metric].mean(axis=2)

    def seed_sd(self, metric: str) -> np.ndarray:
        """Return its SD between seeds, (M, T); NaN for one seed."""
        values = self.point[metric]
        return values.std(axis=2, ddof=1) if values.shape[2] > 1 else np.full(values.shape[:2], np.nan)


@dataclass(frozen=True, eq=False)
class Study:
    """All that the findings and the page are made from."""

    design: Design
    scores: Scores
    settings: Settings
    results: tuple[SetResult, ...]


def study(
    design: Design,
    scores: Scores,
    cues: tuple[tuple[str, ...], np.ndarray],
    settings: Settings,
    predict: tuple[str, ...],
) -> Study:
    """Return the study of ``scores``; ``cues``: names (C) and values (N, C) in the order of ``scores.rows``.

    ``predict`` names the tasks whose predictions are to be gated.
    """
    results = tuple(_set(design, scores, part, cues, settings, predict) for part in design.sets)
    return Study(design, scores, settings, results)


def error_of(scores: Scores, design: Design, task: str, places: np.ndarray, method: int = 0) -> np.ndarray:
    """Return the error (S, n) of a task's predictions on cases; 1 where the class is novel, NaN where unknown.

    The predictions of the first method are the ones that are gated.
    """
    codes = design.task(task).codes[scores.rows[places]]
    predicted = scores.predicted[method, scores.tasks.index(task)][:, places]
    wrong = (predicted != codes).astype(np.float64)
    wrong[:, codes == UNKNOWN] = np.nan
    return wrong


def _set(
    design: Design, scores: Scores, part: ShiftSet, cues: tuple[tuple[str, ...], np.ndarray], settings: Settings,
    predict: tuple[str, ...],
) -> SetResult:  # fmt: skip
    rows_in, note = matched(design, part, match_task(design, part, settings), settings.seed)
    rows_out = part.rows
    places = np.concatenate([scores.at(rows_in), scores.at(rows_out)])
    shifted = np.repeat([False, True], [len(rows_in), len(rows_out)])
    patients = design.clusters[scores.rows[places]]
    # A paired set shows the same patients on both sides: they are drawn as one.
    strata = None if part.paired else shifted.astype(int)
    clusters, weights = patient_weights(patients, settings.resamples, settings.seed, strata)
    shape = scores.values.shape[:3]
    cells = scores.values[..., places].reshape(-1, len(places))
    names, table = cues
    _none = {"auroc": np.empty((settings.resamples, 0))}
    trivial = table[places].T
    rng = np.random.default_rng((settings.seed, 3))
    seeds = rng.integers(0, shape[2], (settings.resamples, shape[2]))
    once = np.ones((1, weights.shape[1]), dtype=weights.dtype)

    def both(rows: np.ndarray, loss: np.ndarray | None) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        args = (rows, shifted, loss, clusters)
        return ranking_draws(*args, once), ranking_draws(*args, weights)

    point, drawn = both(cells, None)
    cue_point, cue_drawn = both(np.concatenate([trivial, -trivial]), None) if len(names) else (_none, _none)
    upright = cue_point["auroc"][0][: len(names)] >= cue_point["auroc"][0][len(names) :]
    better = np.where(upright, np.arange(len(names)), len(names) + np.arange(len(names)))
    gates = []
    for task in predict:
        loss, novel = _loss(design, scores, task, places, shifted, part.shift, settings)
        if np.isnan(loss).all() or not np.isfinite(loss[:, shifted]).any():
            continue
        repeated = np.broadcast_to(loss[None, None], (*shape, len(places))).reshape(-1, len(places))
        here, over = both(cells, np.ascontiguousarray(repeated))
        gates.append(
            Gate(
                task,
                novel,
                {name: here[name][0].reshape(shape) for name in ABSTENTION},
                {name: _over_seeds(over[name].reshape(-1, *shape), seeds) for name in ABSTENTION},
                loss,
                *_accuracy(design, scores, task, places, shifted, novel),
                *_own(design, scores, task, places, shifted, part.shift, settings),
            )
        )
    others = {}
    for name, values in scores.others.items():
        flat = values[..., places].reshape(-1, len(places))
        others[name] = ranking_draws(flat, shifted, None, clusters, once)["auroc"][0].reshape(shape[1:])
    return SetResult(
        part=part,
        rows_in=rows_in,
        rows_out=rows_out,
        patients_in=len(np.unique(patients[~shifted])),
        patients_out=len(np.unique(patients[shifted])),
        match=note,
        point={name: point[name][0].reshape(shape) for name in DETECTION},
        draws={name: _over_seeds(drawn[name].reshape(-1, *shape), seeds) for name in DETECTION},
        others=others,
        cue_point=cue_point["auroc"][0][better],
        cue_draws=cue_drawn["auroc"][:, better],
        cues=names,
        gates=tuple(gates),
    )


def _loss(
    design: Design, scores: Scores, task: str, places: np.ndarray, shifted: np.ndarray, shift: str, settings: Settings,
    method: int = 0,
) -> tuple[np.ndarray, bool]:  # fmt: skip
    """Return the loss (S, n) of accepting a case, and whether any shifted case's class is novel.

    Where classes hold on both sides it is the error. Where they are novel, or the question has no answer (the trimester
    of a breast: an anatomy shift whose classes are all unknown), SCOD's: an error costs 1 - c among cases in
    distribution, an accepted shifted case costs c (spec 1.5).
    """
    wrong = error_of(scores, design, task, places, method)
    codes = design.task(task).codes[scores.rows[places]]
    pointless = shift == "anatomy" and bool((codes[shifted] == UNKNOWN).all())
    novel = pointless or bool((codes[shifted] == NOVEL).any())
    if not novel:
        return wrong, False
    return np.stack([scod_loss(errors, shifted, settings.ood_cost) for errors in wrong]), True


def _accuracy(
    design: Design, scores: Scores, task: str, places: np.ndarray, shifted: np.ndarray, novel: bool
) -> tuple[np.ndarray, np.ndarray]:
    wrong = error_of(scores, design, task, places)
    inside = 1 - np.nanmean(wrong[:, ~shifted], axis=1)
    outside = np.full(len(wrong), np.nan) if novel else 1 - np.nanmean(wrong[:, shifted], axis=1)
    return inside, outside


def _own(
    design: Design, scores: Scores, task: str, places: np.ndarray, shifted: np.ndarray, shift: str, settings: Settings
) -> tuple[np.ndarray, np.ndarray]:
    """Return accuracy on test cases and AUGRC (M, S) of each method with its own predictions and its own score."""
    t = scores.tasks.index(task)
    accuracy, area = np.empty((2, len(scores.methods), scores.seeds))
    for m in range(len(scores.methods)):
        loss, _ = _loss(design, scores, task, places, shifted, shift, settings, m)
        accuracy[m] = 1 - np.nanmean(error_of(scores, design, task, places, m)[:, ~shifted], axis=1)
        for s in range(scores.seeds):
            known = np.isfinite(loss[s])
            area[m, s] = augrc(scores.values[m, t, s, places][known], loss[s][known])
    return accuracy, area


def _over_seeds(drawn: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Return the mean over resampled seeds, (B, M, T), of draws (B, M, T, S) of numbers from 0 to 1.

    A resample of S trainings varies by (S - 1) / S of what S new trainings would: of three, by two thirds. What the
    resampling of seeds adds is stretched by that much (our choice; the page of truth has what came without it).
    """
    every, n = drawn.mean(axis=3), seeds.shape[1]
    if n == 1:
        return every
    total = np.zeros_like(every)
    resample = np.arange(len(drawn))
    for k in range(n):
        total += drawn[resample, :, :, seeds[:, k]]
    return np.clip(every + math.sqrt(n / (n - 1)) * (total / n - every), 0.0, 1.0)
