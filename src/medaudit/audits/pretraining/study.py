"""The comparison: every contender's probe on the same training cases, judged on the same test patients."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from medaudit.audits.pretraining.contenders import Contender, features_of, identity, patches_of
from medaudit.audits.pretraining.design import Plan
from medaudit.audits.pretraining.settings import ProbeSettings
from medaudit.networks.backbones import Backbone
from medaudit.networks.dense_heads import build_dense_head
from medaudit.statistics import Estimate, two_level
from medaudit.statistics.patients import patient_weights
from medaudit.training.probes.areas import dice_of_images, overlap
from medaudit.training.probes.dense import DENSE, dense_areas, fit_dense
from medaudit.training.probes.episodes import Episodes, episodes, few_shot
from medaudit.training.probes.knn import knn
from medaudit.training.probes.logistic import logistic_probabilities, logistic_probe
from medaudit.training.probes.measures import measure_draws, measures

MEASURES = ("macro_f1", "accuracy", "macro_auroc")
_NEIGHBOURS = (5, 10, 20, 100)
_PENALTIES = tuple(10.0**k for k in range(-5, 4))


@dataclass(frozen=True, eq=False)
class Judged:
    """A contender's numbers: ``values`` and ``draws`` by measure, (S,) and (B, S); ``case`` (S, N) of each test case.

    ``knn`` (S,) is macro-F1 of neighbours, ``shots`` maps a number of labelled cases to (S, draws) macro-F1.
    """

    contender: Contender
    values: Mapping[str, np.ndarray]
    draws: Mapping[str, np.ndarray]
    case: np.ndarray
    knn: np.ndarray
    shots: Mapping[int, np.ndarray] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    probabilities: np.ndarray | None = None
    """(S, N, C) of classification."""
    summed: np.ndarray | None = None
    """(S,) Dice of the areas of all images summed, of masks: another number than the mean of images."""


@dataclass(frozen=True, eq=False)
class Study:
    """All that findings and page are made of."""

    settings: ProbeSettings
    plan: Plan
    judged: tuple[Judged, ...]
    test: np.ndarray
    patients: int
    """Of the test cases."""

    def level(self, one: Judged, measure: str) -> Estimate:
        """Return a contender's measure with its interval."""
        return two_level(
            measure, one.values[measure], one.draws[measure], n=len(self.test), patients=self.patients, bounds=(0, 1)
        )

    def gain(self, own: Judged, other: Judged, measure: str) -> Estimate:
        """Return own minus other: paired by patient, and by seed where both have as many.

        Where they have not, the one of fewer seeds is its mean, and what another seed of it would give is left out.
        """
        a, b = (one.values[measure] for one in (own, other))
        draws_a, draws_b = (one.draws[measure] for one in (own, other))
        if len(a) != len(b):
            b, draws_b = np.full(len(a), b.mean()), np.repeat(draws_b.mean(1, keepdims=True), len(a), axis=1)
        return two_level(
            f"{measure}, own minus {other.contender.name}", a - b, draws_a - draws_b, n=len(self.test),
            patients=self.patients, bounds=(-1, 1),
        )  # fmt: skip

    @property
    def own(self) -> list[Judged]:
        """The user's own, the one of most frames last."""
        mine = [one for one in self.judged if one.contender.own]
        return sorted(mine, key=lambda one: one.contender.frames or 0)

    @property
    def others(self) -> list[Judged]:
        """What it has to beat."""
        return [one for one in self.judged if not one.contender.own]


def study_of(plan: Plan, settings: ProbeSettings, judged: list[Judged]) -> Study:
    """Return the study of what was judged."""
    test = plan.rows(2)
    return Study(settings, plan, tuple(judged), test, len(set(plan.patients[test])))


def resamples(plan: Plan, settings: ProbeSettings) -> tuple[np.ndarray, np.ndarray]:
    """Return the test cases' patients as codes, and how often each is drawn: the same for every contender."""
    return patient_weights(plan.patients[plan.rows(2)], settings.resamples, settings.seed)


def classified(
    contender: Contender, plan: Plan, settings: ProbeSettings, images: np.ndarray, folder: Path, mark: str
) -> Judged:
    """Return a contender's :class:`Judged` of a classification."""
    train, validation, test = (plan.rows(p) for p in range(3))
    classes, codes = len(plan.classes), plan.codes
    probabilities, near, notes = [], [], []  # type: list, list, list
    shots: dict[int, list[np.ndarray]] = {s: [] for s in settings.shots}
    drawn = {
        s: episodes(codes[train], plan.patients[train], s, settings.draws, settings.seed,
                    test_patients=plan.patients[test])
        for s in settings.shots
    }  # fmt: skip
    for k, backbone in enumerate(contender.backbones):
        made = features_of(backbone, settings.seed + k, images, folder, mark)
        x = made.vector
        probe = logistic_probe(
            x[train], codes[train], x[validation], codes[validation], classes, penalties=_PENALTIES, select="macro_f1"
        )
        probabilities.append(logistic_probabilities(probe, x[test]))
        near.append(_neighbours(x, plan, classes))
        for s, some in drawn.items():
            found = few_shot(x[train], codes[train], x[test], codes[test], classes, s, some)
            shots[s].append(found.values["macro_f1"])
        notes += [note for note in probe.notes if note not in notes]
    return of_probabilities(
        contender, plan, settings, np.stack(probabilities), np.array(near),
        {s: np.stack(values) for s, values in shots.items()}, (*notes, *_short_of(drawn)),
    )  # fmt: skip


def _short_of(drawn: Mapping[int, Episodes]) -> list[str]:
    """Return one sentence where few-shot draws are not what was asked for."""
    said = [note for one in drawn.values() for note in one.notes]
    return [f"{len(said)} few-shot draws had to do with less, the first: {said[0]}"] if said else []


def of_probabilities(
    contender: Contender, plan: Plan, settings: ProbeSettings, probabilities: np.ndarray, near: np.ndarray,
    shots: Mapping[int, np.ndarray], notes: tuple[str, ...],
) -> Judged:  # fmt: skip
    """Return a contender's :class:`Judged` from its probabilities (S, N, C) of the test cases."""
    wanted = plan.codes[plan.rows(2)]
    cluster, weights = resamples(plan, settings)
    values, draws = {}, {}
    each = [measure_draws(p, wanted, cluster, weights) for p in probabilities]
    point = [measures(p, wanted) for p in probabilities]
    for name in MEASURES:
        values[name] = np.array([float(one[name]) for one in point])
        draws[name] = np.stack([one[name] for one in each], axis=1)
    right = (probabilities.argmax(-1) == wanted).astype(np.float64)
    return Judged(contender, values, draws, right, near, shots, tuple(dict.fromkeys(notes)), probabilities)


def _neighbours(x: np.ndarray, plan: Plan, classes: int) -> float:
    """Return macro-F1 of the neighbours on test cases, their number chosen on validation cases."""
    train, validation, test = (plan.rows(p) for p in range(3))
    size = np.linalg.norm(x, axis=1)
    if (size == 0).any():  # a black image of raw pixels has no direction
        x = x + 1e-6
    k = tuple(k for k in _NEIGHBOURS if k <= len(train)) or (len(train),)
    found = knn(x[train], plan.codes[train], x[np.concatenate([validation, test])], k, classes=classes)
    scores = [
        float(measures(_shares(p[: len(validation)]), plan.codes[validation])["macro_f1"]) for p in found.probabilities
    ]
    best = found.probabilities[int(np.argmax(scores))][len(validation) :]
    return float(measures(_shares(best), plan.codes[test])["macro_f1"])


def _shares(votes: np.ndarray) -> np.ndarray:
    return votes / votes.sum(-1, keepdims=True)


def segmented(
    contender: Contender, plan: Plan, settings: ProbeSettings, images: np.ndarray, masks: np.ndarray, folder: Path,
    mark: str,
) -> Judged | None:  # fmt: skip
    """Return a contender's :class:`Judged` of masks (n, S, S), 0 and 1; None for what has no patches."""
    train, validation, test = (plan.rows(p) for p in range(3))
    dice, summed = [], []
    backbones = list(contender.backbones)
    while len(backbones) < settings.seeds:  # one backbone: the head's own chance is tried as often
        backbones.append(backbones[0])
    recipe = DENSE["fast"]
    recipe = replace(recipe, steps=settings.head_steps)
    for k, backbone in enumerate(backbones):
        maps = patches_of(backbone, settings.seed + k % len(contender.backbones), images, folder, mark)
        if maps is None:
            return None
        head = build_dense_head(
            settings.head, maps.shape[1], 1, 2, masks.shape[1:],
            patch=max(1, masks.shape[1] // maps.shape[2]), seed=settings.seed + k,
        )  # fmt: skip
        fit_dense(
            head, maps[:, None], masks, train.tolist(), 2, recipe, folder / _head(backbone, masks, mark, k),
            seed=settings.seed + k, validation_rows=validation.tolist(), device=settings.device,
        )  # fmt: skip
        counted = dense_areas(head, maps[:, None], masks, test.tolist(), 2)
        dice.append(dice_of_images(counted)[:, 1])
        summed.append(float(overlap(counted)["Dice of summed areas"][1]))
    case = np.stack(dice)
    cluster, weights = resamples(plan, settings)
    known = np.isfinite(case)
    filled = np.where(known, case, 0.0)
    top = np.stack([weights @ np.bincount(cluster, row, weights.shape[1]) for row in filled], 1)
    bottom = np.stack([weights @ np.bincount(cluster, row, weights.shape[1]) for row in known.astype(float)], 1)
    return Judged(
        contender, {"dice": np.nanmean(case, axis=1)}, {"dice": top / bottom}, case, np.full(len(case), np.nan),
        summed=np.array(summed),
    )  # fmt: skip


def _head(backbone: Backbone, masks: np.ndarray, mark: str, k: int) -> str:
    """Return the folder of a head: another one for other weights, images or masks."""
    told = f"{identity(backbone)}|{mark}|{hashlib.sha256(np.ascontiguousarray(masks).data).hexdigest()}"
    return f"head-{hashlib.sha256(told.encode()).hexdigest()[:16]}-{k}"
