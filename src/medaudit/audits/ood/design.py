"""From a cohort and a question to a design: tasks, who is trained on, who is tested, and who is out of distribution.

Patients are dealt once, to training, validation or test; every task and seed shares the deal. A case that is out of
distribution is tested only if no model has seen its patient: otherwise a familiar patient would be taken for a familiar
distribution.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from medaudit.audits.ood.settings import Settings
from medaudit.cohort import Cohort, Grouping, columns_of, describe_values, matches, split
from medaudit.errors import DataError, UsageError

_SAID = {"==": "", "!=": "not", "<=": "up-to", ">=": "from", "<": "below", ">": "above"}

NOVEL, UNKNOWN = -2, -1
"""Codes of a case whose class no model was trained on, and of one whose class is not known."""


@dataclass(frozen=True, eq=False)
class Task:
    """What a model is trained to tell: ``codes`` (n,) index ``classes``; NOVEL or UNKNOWN where there is none."""

    name: str
    slug: str
    classes: tuple[str, ...]
    codes: np.ndarray


@dataclass(frozen=True, eq=False)
class ShiftSet:
    """One set of cases out of distribution: its name, the kind of shift, and the rows of the cohort."""

    name: str
    shift: str
    rows: np.ndarray
    paired: bool = False
    """The rows are the test cases themselves, acquired anew."""

    @property
    def slug(self) -> str:
        """The set's name as it stands in a finding's id; operators are said, since ``<`` and ``>`` must not be one."""
        said = self.name
        for sign, word in _SAID.items():
            said = said.replace(sign, f" {word} ")
        return _slug(said)


@dataclass(frozen=True, eq=False)
class Design:
    """The study's plan; rows index the cohort's table. ``notes`` say what a reader must know of it."""

    tasks: tuple[Task, ...]
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    sets: tuple[ShiftSet, ...]
    clusters: np.ndarray
    """The patient of each case, (n,) codes."""
    notes: tuple[str, ...] = ()

    @property
    def scored(self) -> np.ndarray:
        """The rows that every model scores: the test cases, then each set's, each row once."""
        rows = [self.test, *(part.rows for part in self.sets)]
        return np.asarray(list(dict.fromkeys(np.concatenate(rows).tolist())), dtype=np.int64)

    def task(self, name: str) -> Task:
        """Return the task of that name."""
        return next(task for task in self.tasks if task.name == name)


def plan(cohort: Cohort, settings: Settings) -> Design:
    """Return the design of a study of ``cohort``, without the sets that are yet to be acquired.

    Raises UsageError or DataError for what cannot be asked: an expression that matches nothing or everything, a class
    that is too small to be trained, validated and tested.
    """
    outside, decided, notes = _outside(cohort, settings)
    inside = decided & ~outside.any(axis=0)
    if not inside.any():
        raise DataError("every case is out of distribution; expected some that are not, to train on")
    groups = [Grouping.parse(text).apply(cohort) for text in settings.tasks]
    usable = inside & np.any([g.codes >= 0 for g in groups], axis=0)
    if not usable.any():
        raise DataError("no case in distribution has a known class of any task")
    clusters = np.unique([str(patient) for patient in cohort.clusters], return_inverse=True)[1]
    rows = np.flatnonzero(usable)
    crossed = ["/".join(str(int(g.codes[i])) for g in groups) for i in rows]
    part = split(clusters[rows].tolist(), crossed, settings.split, settings.seed)
    train, validation, test = (rows[part == k] for k in range(3))
    tasks = tuple(_task(g.name, g.rule, g.labels, g.codes, (train, validation, test), clusters) for g in groups)
    _separate_slugs(tasks)
    seen = np.isin(clusters, clusters[np.concatenate([train, validation])])
    sets = []
    for where, expression, shift in zip(outside, settings.ood, settings.shifts, strict=True):
        alone = where & (outside.sum(axis=0) == 1)
        several, familiar = int((where & ~alone).sum()), int((alone & seen).sum())
        kept = np.flatnonzero(alone & ~seen)
        if several:
            notes.append(f"{several} cases of {expression} fit another criterion as well and are left out of both.")
        if familiar:
            notes.append(f"{familiar} cases of {expression} are of patients that models were trained on: left out.")
        if not alone.any():
            raise DataError(
                f"all cases of {expression} fit another --ood as well; expected some that fit this one alone"
            )
        if not len(kept):
            raise DataError(
                f"all cases of {expression} belong to patients in distribution too, whom models have seen; "
                "there is none left to test on"
            )
        sets.append(ShiftSet(expression, shift, kept))
    separate(sets)
    return Design(tasks, train, validation, test, tuple(sets), clusters, tuple(notes))


def matched(design: Design, part: ShiftSet, by: Task | None, seed: int) -> tuple[np.ndarray, str]:
    """Return the test rows whose classes of ``by`` have the proportions that they have in ``part``, and a note.

    Without it, a set that holds more of one plane would be noticed for its planes. The largest such subset is taken,
    its cases by lot.
    """
    if by is None or part.paired:
        return design.test, ""
    inside, outside = by.codes[design.test], by.codes[part.rows]
    counts = np.bincount(outside[outside >= 0], minlength=len(by.classes)).astype(float)
    there = np.bincount(inside[inside >= 0], minlength=len(by.classes)).astype(float)
    share = counts / counts.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.min(np.where(share > 0, there / share, np.inf))
    wanted = np.floor(share * size).astype(int)
    rng = np.random.default_rng((seed, 11))
    kept = [rng.permutation(design.test[inside == c])[: wanted[c]] for c in range(len(by.classes)) if wanted[c]]
    if not kept:
        return design.test, f"{by.name} could not be matched: no class is on both sides often enough."
    rows = np.sort(np.concatenate(kept))
    note = f"{len(rows)} of {len(design.test)} test cases, in the proportions of {by.name} of the shifted cases."
    return rows, note


def match_task(design: Design, part: ShiftSet, settings: Settings) -> Task | None:
    """Return the task whose class proportions are matched: the first whose classes are all known among the shifted.

    A column of the shift's own expression is not one: its proportions are the shift.
    """
    if settings.match == "none" or part.paired:
        return None
    asked = columns_of(part.name)
    for task in design.tasks:
        if settings.match not in ("auto", task.name):
            continue
        own = any(name in asked for name in task.name.split("*"))
        if not own and (task.codes[part.rows] >= 0).all():
            return task
    if settings.match != "auto":
        raise UsageError(
            f"--match {settings.match}: not a task whose classes are all known for {part.name}; "
            f"tasks are: {', '.join(task.name for task in design.tasks)}"
        )
    return None


def with_sets(design: Design, sets: Sequence[ShiftSet], clusters: np.ndarray, source_rows: np.ndarray) -> Design:
    """Return the design with more sets: rows after the table's old end, each of them made from ``source_rows``."""
    tasks = tuple(replace(task, codes=np.concatenate([task.codes, task.codes[source_rows]])) for task in design.tasks)
    separate([*design.sets, *sets])
    return replace(design, tasks=tasks, sets=(*design.sets, *sets), clusters=clusters)


def separate(sets: Sequence[ShiftSet]) -> None:
    """Raise UsageError where two sets would have one name in the findings' ids."""
    slugs = [part.slug for part in sets]
    for part in sets:
        if slugs.count(part.slug) > 1:
            alike = " and ".join(other.name for other in sets if other.slug == part.slug)
            raise UsageError(f"{alike} would both be called '{part.slug}' in the findings; ask for them in two runs")


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower()


def _outside(cohort: Cohort, settings: Settings) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return which cases each criterion matches (sets, n), of which all is known (n,), and notes."""
    outside = np.zeros((len(settings.ood), len(cohort)), dtype=bool)
    decided = np.ones(len(cohort), dtype=bool)
    notes: list[str] = []
    for k, expression in enumerate(settings.ood):
        true, known = matches(cohort, expression)
        there = "; ".join(f"{name}: {describe_values(cohort.column(name))}" for name in columns_of(expression))
        if not true.any():
            raise DataError(f"--ood {expression}: matches none of {len(cohort)} cases; there is {there}")
        if true[known].all():
            raise DataError(f"--ood {expression}: matches every case; expected some in distribution; there is {there}")
        if (~known).any():
            notes.append(f"{int((~known).sum())} cases are left out: {expression} is not known of them.")
        outside[k], decided = true, decided & known
    return outside, decided, notes


def _task(
    name: str, rule: str, labels: tuple[str, ...], codes: np.ndarray, parts: tuple[np.ndarray, ...],
    clusters: np.ndarray,
) -> Task:  # fmt: skip
    train, validation, test = parts
    inside = np.concatenate(parts)
    present = [g for g in range(len(labels)) if (codes[inside] == g).any()]
    if len(present) < 2:
        only = f"only '{labels[present[0]]}'" if present else "no known class"
        raise DataError(f"task {rule}: {only} among the cases in distribution; expected 2 classes or more")
    for g in present:
        for rows, what in ((train, "train on"), (validation, "validate on"), (test, "test on")):
            if not (codes[rows] == g).any():
                n = len(np.unique(clusters[inside[codes[inside] == g]]))
                raise DataError(
                    f"task {rule}: class '{labels[g]}' has {n} patient{'s' * (n != 1)} in distribution, and none is "
                    f"left to {what}; put rare classes together, or leave them out"
                )
    new = {g: i for i, g in enumerate(present)}
    coded = np.asarray([new.get(int(c), UNKNOWN if c < 0 else NOVEL) for c in codes], dtype=np.int64)
    return Task(name, _slug(rule), tuple(labels[g] for g in present), coded)


def _separate_slugs(tasks: tuple[Task, ...]) -> None:
    for kind in ("name", "slug"):
        names = [getattr(task, kind) for task in tasks]
        if len(set(names)) < len(names):
            raise UsageError(f"two tasks would both be called '{next(n for n in names if names.count(n) > 1)}'")
