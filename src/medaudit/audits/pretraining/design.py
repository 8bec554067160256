"""From a cohort and settings to a plan: what is predicted, for whom, and who trains, validates and tests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medaudit.audits.pretraining.settings import ProbeSettings
from medaudit.cohort import Cohort, Grouping, split
from medaudit.errors import DataError, UsageError

_PARTS = {"train": 0, "training": 0, "val": 1, "valid": 1, "validation": 1, "test": 2}


@dataclass(frozen=True, eq=False)
class Plan:
    """``codes`` (n,) of the cases' classes (0 where masks are predicted), -1: not used; ``part`` (n,): 0, 1, 2."""

    task: str
    classes: tuple[str, ...]
    codes: np.ndarray
    part: np.ndarray
    patients: np.ndarray
    notes: tuple[str, ...]

    def rows(self, part: int) -> np.ndarray:
        """Return the cases of a part: 0 training, 1 validation, 2 test."""
        return np.flatnonzero((self.part == part) & (self.codes >= 0))


def plan(cohort: Cohort, settings: ProbeSettings) -> Plan:
    """Return the plan; UsageError for what the cohort has not, DataError where a part lacks a class."""
    if "image" not in cohort.roles:
        raise UsageError(f"{cohort.name}: there are no images; put them into the dataset's folder, or give --image")
    patients = np.asarray(cohort.clusters.cast(str).to_list())
    notes: list[str] = []
    if settings.segments:
        if settings.role not in cohort.roles:
            raise UsageError(f"{cohort.name}: there are no masks '{settings.role}'; give --reference")
        there = [case.files[settings.role] is not None for case in cohort.cases(settings.role)]
        codes = np.where(there, 0, -1)
        classes: tuple[str, ...] = ("foreground",)
    else:
        groups = Grouping.parse(settings.task).apply(cohort)
        codes, classes = groups.codes, groups.labels
        if len(classes) < 2:
            raise UsageError(f"--task {settings.task} has one class, {classes[0]}; expected two or more")
    left_out = int((codes < 0).sum())
    if left_out:
        notes.append(f"{left_out:,} cases without a known {settings.task} are not used.")
    part = _dealt(cohort, patients, codes, settings)
    return complete(Plan(settings.task, classes, codes, part, patients, tuple(notes)))


def complete(found: Plan) -> Plan:
    """Return the plan; DataError where a part has no case of a class."""
    for p, name in enumerate(("training", "validation", "test")):
        missing = sorted(set(range(len(found.classes))) - set(found.codes[found.rows(p)].tolist()))
        if missing:
            raise DataError(
                f"no {name} case of {found.task} '{found.classes[missing[0]]}'; give another --seed or --split"
            )
    return found


def _dealt(cohort: Cohort, patients: np.ndarray, codes: np.ndarray, settings: ProbeSettings) -> np.ndarray:
    if settings.split_column is None:
        return split(patients.tolist(), [None if c < 0 else str(c) for c in codes], settings.shares, settings.seed)
    found = [_PARTS.get(str(value).lower(), -1) for value in cohort.column(settings.split_column)]
    part = np.asarray(found)
    if (part < 0).any():
        row = int(np.flatnonzero(part < 0)[0])
        raise DataError(
            f"case {cohort.case_ids[row]}: {settings.split_column} is '{cohort.column(settings.split_column)[row]}'; "
            "expected train, val or test"
        )
    who, code = np.unique(patients, return_inverse=True)
    parts = np.bincount(np.unique(code * 3 + part) // 3)
    if (parts > 1).any():
        p = who[int((parts > 1).argmax())]
        raise DataError(f"patient {p} is in several parts of {settings.split_column}; a test would not be one")
    return part
