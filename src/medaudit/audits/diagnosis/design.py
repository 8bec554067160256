"""The design: six trainings that differ in one thing each, on the same folds and for the same number of cases a group.

After arXiv 2511.00477, section 3 and Table 1:

- ``baseline``: expert labels, every group with the same number of cases;
- ``swap-<group>``: the same, but the easy cases of that group have their automated labels instead;
- ``difficulty-balanced``: expert labels, every group with the same number of easy and of hard cases;
- ``silver-trained``: the baseline's cases, all with automated labels.

Ours: folds keep patients together, all cases are predicted (by a model that has not seen their patient), and all
trainings have the same number of cases a group, whatever difficulty needs. What a cohort lacks reduces the design.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medaudit.cohort import Cohort, Groups, folds
from medaudit.errors import DataError, UsageError

GOLD, SILVER = "reference", "labels"
"""The roles of the expert and of the automated masks."""

BASELINE, BALANCED, BIASED = "baseline", "difficulty-balanced", "silver-trained"

LEAST_SHARE = 0.5
"""Balancing difficulty may cost half of the cases; if it would cost more, that training is left out (our choice)."""


@dataclass(frozen=True, eq=False)
class Training:
    """One model of the design: ``rows`` of the cohort it may be trained on, and each case's mask role, (n,) texts.

    ``swapped`` are the rows among them whose label is not the baseline's.
    """

    name: str
    question: str
    rows: np.ndarray
    labels: np.ndarray
    swapped: np.ndarray

    @property
    def slug(self) -> str:
        """The name as a folder's name."""
        text = self.name.replace("<=", "le").replace(">=", "ge").replace("<", "lt").replace(">", "gt")
        return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-")


@dataclass(frozen=True, eq=False)
class Design:
    """The trainings, the fold of each case (n,) and how many cases of each group a training has over all folds.

    ``predicted`` (n,) bool: the cases that are predicted, those with an expert mask. ``difficulty`` (n,) codes of
    ``levels``, -1 unknown; no levels where difficulty is not known. ``notes`` say what is missing, and why.
    """

    groups: Groups
    large: np.ndarray
    fold: np.ndarray
    per_group: int
    predicted: np.ndarray
    difficulty: np.ndarray
    levels: tuple[str, ...]
    trainings: tuple[Training, ...]
    notes: tuple[str, ...]

    def training(self, name: str) -> Training | None:
        """Return the training of that name, ``None`` if the design has none."""
        return next((training for training in self.trainings if training.name == name), None)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the trainings."""
        return tuple(training.name for training in self.trainings)


def make(
    cohort: Cohort,
    groups: Groups,
    *,
    gold: np.ndarray,
    silver: np.ndarray,
    easy: np.ndarray,
    difficulty: np.ndarray,
    levels: Sequence[str],
    n_folds: int,
    min_patients: int,
    seed: int,
    wanted: Sequence[str] = (),
) -> Design:
    """Return the design for a cohort's ``groups``.

    ``gold`` and ``silver`` (n,) bool say who has which mask, ``easy`` (n,) bool whose automated mask a swap may use
    (tier 1), ``difficulty`` (n,) codes of ``levels``. ``wanted`` names the trainings to make; none named: all.
    Raises DataError where fewer than two groups have ``min_patients`` patients with expert masks or a group has fewer
    patients than there are folds, UsageError for a training that no cohort has.
    """
    clusters = np.asarray(cohort.clusters.to_list(), dtype=object)
    usable = (groups.codes >= 0) & gold
    patients = [len(set(clusters[usable & (groups.codes == g)])) for g in range(len(groups.labels))]
    large = np.asarray([n >= min_patients for n in patients])
    if large.sum() < 2:
        sizes = ", ".join(f"{label} {n}" for label, n in zip(groups.labels, patients, strict=True))
        raise DataError(
            f"{cohort.name}: a diagnosis needs two {groups.name} groups of {min_patients} patients with expert masks "
            f"(patients: {sizes}); cut the groups otherwise, or lower --min-patients"
        )
    judged = usable & large[groups.codes]
    # Groups that are too small to be judged are dealt to the folds like any case, and are never trained on.
    strata = np.where(judged, groups.codes, -1)
    fold = folds(clusters.tolist(), strata.tolist(), n_folds, seed)
    notes: list[str] = []
    rng = np.random.default_rng((seed, 1))
    members = [np.flatnonzero(judged & (groups.codes == g)) for g in np.flatnonzero(large)]
    per_group = min(len(rows) for rows in members)

    balanced: np.ndarray | None = None
    if not levels:
        notes.append("No difficulty-balanced training: nothing says which cases are hard (ratings, or --difficulty).")
    else:
        known = [rows[difficulty[rows] >= 0] for rows in members]
        counts = np.asarray([np.bincount(difficulty[rows], minlength=len(levels)) for rows in known])
        least = counts.min(axis=0)
        if least.sum() < max(LEAST_SHARE * per_group, 2 * n_folds):
            shares = "; ".join(
                f"{groups.labels[g]}: " + ", ".join(f"{n} {level}" for n, level in zip(row, levels, strict=True))
                for g, row in zip(np.flatnonzero(large), counts, strict=True)
            )
            notes.append(
                f"No difficulty-balanced training: the groups share too few cases of each difficulty ({shares})."
            )
        else:
            per_group = min(per_group, int(least.sum()))
            balanced = np.sort(
                np.concatenate(
                    [
                        rng.permutation(rows[difficulty[rows] == level])[: least[level]]
                        for rows in known
                        for level in range(len(levels))
                    ]
                )
            )
    chosen = np.sort(np.concatenate([rng.permutation(rows)[:per_group] for rows in members]))
    all_gold = np.full(len(cohort), GOLD)
    nobody = np.empty(0, dtype=np.int64)
    made = [Training(BASELINE, "expert labels, equal numbers", chosen, all_gold, nobody)]
    if silver[chosen].mean() < 1 and silver.any():
        notes.append(
            f"{int((~silver[chosen]).sum())} of the {len(chosen)} cases that are trained on have no automated mask; "
            "they keep their expert one in the trainings with automated labels."
        )
    if silver.any():
        for g in np.flatnonzero(large):
            label = groups.labels[g]
            swap = chosen[(groups.codes[chosen] == g) & easy[chosen] & silver[chosen]]
            if not len(swap):
                notes.append(f"No training swap-{label}: no case of that group has an automated mask of tier 1.")
                continue
            mixed = all_gold.copy()
            mixed[swap] = SILVER
            made.append(
                Training(f"swap-{label}", f"automated labels for the easy cases of {label}", chosen, mixed, swap)
            )
    else:
        notes.append("No trainings with automated labels: the cohort has no automated masks (--labels).")
    if balanced is not None:
        made.append(Training(BALANCED, "equal numbers of easy and of hard cases", balanced, all_gold, nobody))
    if silver.any():
        mixed = np.where(silver, SILVER, GOLD)
        made.append(Training(BIASED, "automated labels for everybody", chosen, mixed, chosen[silver[chosen]]))
    return Design(
        groups=groups,
        large=large,
        fold=fold,
        per_group=per_group,
        predicted=gold,
        difficulty=difficulty,
        levels=tuple(levels),
        trainings=_wanted(made, wanted, notes),
        notes=tuple(notes),
    )


def _wanted(made: Sequence[Training], wanted: Sequence[str], notes: list[str]) -> tuple[Training, ...]:
    """Return the trainings that were asked for; the baseline is always one of them."""
    if not wanted:
        return tuple(made)
    known = [training.name for training in made]
    for name in wanted:
        if name not in (BASELINE, BALANCED, BIASED, "swap") and name not in known and not name.startswith("swap-"):
            raise UsageError(f"no training is called '{name}'; there are: {', '.join(known)}, and 'swap' for all swaps")
        if name not in known and name != "swap":
            notes.append(f"The training '{name}' was asked for, and cannot be made here.")
    left = [t for t in made if t.name in (BASELINE, *wanted) or ("swap" in wanted and t.name.startswith("swap-"))]
    dropped = [name for name in known if name not in [t.name for t in left]]
    if dropped:
        notes.append(f"Not trained, as asked: {', '.join(dropped)}.")
    return tuple(left)
