"""The plan of a diagnosis: the automated masks are measured first, for they decide which cases are easy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from medaudit.audits.diagnosis import design as designs
from medaudit.audits.diagnosis.design import GOLD, SILVER, Design
from medaudit.audits.diagnosis.difficulty import difficulty_of, easy_labels
from medaudit.audits.diagnosis.settings import Settings
from medaudit.audits.measuring.all_cases import measure
from medaudit.cohort import Cohort, Grouping
from medaudit.errors import DataError
from medaudit.report import Run


@dataclass(frozen=True, eq=False)
class Planned:
    """A cohort with its design, and the audit of its labels that the design rests on (``None`` without silver)."""

    cohort: Cohort
    design: Design
    quality: pl.DataFrame | None
    difficulty_from: str
    excluded: Mapping[str, str]


def plan(cohort: Cohort, settings: Settings, run: Run, *, jobs: int, progress: bool) -> Planned:
    """Return the design of a cohort; its automated masks are measured first, for they decide who is easy."""
    gold = has_file(cohort, GOLD)
    silver = has_file(cohort, SILVER) if SILVER in cohort.roles else np.zeros(len(cohort), dtype=bool)
    excluded: dict[str, str] = {}
    quality = None
    if (gold & silver).any():
        quality, excluded = rows_of(
            cohort, settings, run, SILVER, gold & silver, jobs=jobs, progress=progress, name="labels-measurements"
        )
    elif silver.any():
        raise DataError(
            f"{cohort.name}: no case has both an expert and an automated mask; check that they name the same cases"
        )
    if excluded:
        keep = ~pl.Series(cohort.case_ids).is_in(list(excluded))
        cohort, gold, silver = cohort.select(keep), gold[keep.to_numpy()], silver[keep.to_numpy()]
        quality = None if quality is None else quality.filter(keep)
    codes, levels, source = difficulty_of(quality, cohort, settings.difficulty)
    design = designs.make(
        cohort,
        Grouping.parse(settings.by).apply(cohort),
        gold=gold,
        silver=silver,
        easy=easy_labels(quality, cohort),
        difficulty=codes,
        levels=levels,
        n_folds=settings.folds,
        min_patients=settings.min_patients,
        seed=settings.seed,
        wanted=settings.trainings,
    )
    return Planned(cohort, design, quality, source, excluded)


def rows_of(
    cohort: Cohort,
    settings: Settings,
    run: Run,
    prediction: str,
    who: np.ndarray,
    *,
    jobs: int,
    progress: bool,
    name: str,
    reference: str = GOLD,
) -> tuple[pl.DataFrame, dict[str, str]]:
    """Return a row a case of the cohort, null where it is not among ``who`` or could not be measured."""
    some = cohort.select(pl.Series(who))
    rows, bad = measure(
        some,
        settings.ruler(reference, prediction),
        run,
        jobs=jobs,
        progress=progress,
        skip_bad=settings.skip_bad,
        name=name,
    )
    everyone = pl.DataFrame({"case_id": cohort.case_ids})
    return everyone.join(rows, on="case_id", how="left", maintain_order="left"), bad


def has_file(cohort: Cohort, role: str) -> np.ndarray:
    """Return which cases have a file of the role, (n,) bool."""
    return np.asarray([case.files[role] is not None for case in cohort.cases(role)], dtype=bool)
