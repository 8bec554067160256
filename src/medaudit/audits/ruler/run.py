"""From the cases to a finished run of the ruler study: ask, measure by each ruler, audit, write; resumable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl

from medaudit.audits.judging import outcomes
from medaudit.audits.measuring import one_case as compare
from medaudit.audits.measuring.all_cases import measure
from medaudit.audits.ruler import page
from medaudit.audits.ruler.study import RulerAudit, Settings, audit_ruler
from medaudit.cohort import Cohort, Grouping, fingerprint, numeric
from medaudit.errors import DataError, UsageError
from medaudit.report import Run

RULERS: Mapping[str, tuple[str, str]] = {
    "silver": ("silver", "prediction"),
    "gold": ("gold", "prediction"),
    "quality": ("gold", "silver"),
}
"""Each score's name in the study, with its reference and what is measured against it."""


def audit_rulers(cohort: Cohort, settings: Settings, *, out: Path, jobs: int = -1, progress: bool = True) -> RulerAudit:
    """Return the study of a cohort's ``prediction`` masks on its ``gold`` and ``silver`` ones, and write its report.

    Where a case has no gold file it is measured on silver alone. A run that was killed goes on where it was.
    """
    cohort = with_the_datasets_masks(cohort, settings)
    definitions = {
        name: compare.Ruler(
            reference=reference,
            prediction=prediction,
            tolerances_mm=settings.tolerances_mm,
            surface=settings.surface,
            hd95=settings.hd95,
            empty=settings.empty,
        )
        for name, (reference, prediction) in RULERS.items()
        if "gold" in cohort.roles or name == "silver"
    }
    ask(cohort, settings, compare.names(definitions["silver"]))
    kept = {name: value for name, value in asdict(settings).items() if name != "skip_bad"}
    with Run.open(out, verb="ruler", settings=kept, inputs={"cases": fingerprint(cohort)}) as run:
        rows: dict[str, pl.DataFrame] = {}
        bad: dict[str, str] = {}
        for name, ruler in definitions.items():
            some = cohort if name == "silver" else cohort.select(has_file(cohort, "gold"))
            rows[name], excluded = measure(
                some, ruler, run, jobs=jobs, progress=progress, skip_bad=settings.skip_bad, name=f"{name}-measurements"
            )
            bad |= excluded
        run.write_measurements(pl.concat(list(rows.values()), how="diagonal_relaxed"))
        refuse_twins(rows)
        measured = cohort.select(~pl.col("case_id").is_in(list(bad)))
        result = audit_ruler(measured, joined(measured, rows, settings), settings, excluded=bad)
        page.write(result, run)
        run.finish()
    return result


def audit_ruler_scores(
    cohort: Cohort, settings: Settings, *, silver: str, gold: str | None = None, quality: str | None = None
) -> RulerAudit:
    """Return the study of a table that has the scores already; ``silver``, ``gold`` and ``quality`` name its columns.

    ``silver`` holds prediction-vs-silver, ``gold`` prediction-vs-gold (empty where not known), ``quality``
    silver-vs-gold.
    """
    named = {"silver": silver, "gold": gold, "quality": quality, "silver_iou": settings.silver_iou}
    columns = {name: numeric(cohort, column) for name, column in named.items() if column is not None}
    for name, values in columns.items():
        is_iou = name == "silver_iou"
        outcomes.check_range("iou" if is_iou else settings.measure, values, cohort.case_ids, settings.lower_is_better)
    return audit_ruler(cohort, pl.DataFrame({"case_id": cohort.case_ids, **columns}), settings)


def with_the_datasets_masks(cohort: Cohort, settings: Settings) -> Cohort:
    """Return the cohort with its dataset's expert masks as gold and automated ones as silver, where none were named."""
    usual = {"silver": "labels", **({} if settings.silver_iou is not None else {"gold": "reference"})}
    for role, theirs in usual.items():
        if role not in cohort.roles and theirs in cohort.roles:
            cohort = cohort.with_role(role, cohort.roles[theirs])
    return cohort


def ask(cohort: Cohort, settings: Settings, known: tuple[str, ...]) -> None:
    """Raise UsageError or DataError for what cannot be asked of this cohort, before anything is measured."""
    for role in ("prediction", "silver"):
        if role not in cohort.roles:
            raise UsageError(f"{cohort.name}: say where the {role} masks are with --{role} COLUMN or TEMPLATE")
    if "gold" in cohort.roles and settings.silver_iou is not None:
        raise UsageError("--silver-iou is for a cohort without --gold: where expert masks are, silver is measured")
    if "gold" not in cohort.roles and settings.silver_iou is None:
        raise UsageError(
            "without --gold masks nothing is known of the ruler: give --gold COLUMN (of some cases is enough), or "
            "--silver-iou COLUMN with an estimate of the IoU of silver and gold masks"
        )
    if not settings.by:
        raise UsageError("say which groups to compare with --by ATTRIBUTE, as --by age:40,55")
    names = [Grouping.parse(text).name for text in settings.by]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UsageError(f"--by {twice} is given twice; findings are named by their attribute, so run them one by one")
    for text in settings.by:
        Grouping.parse(text).apply(cohort)
    rules = [settings.outcome] if settings.outcome else []
    outcomes.check([settings.measure], rules, settings.margins, settings.lower_is_better, 150.0, known)
    if settings.silver_iou is not None:
        if settings.measure != "dice":
            raise UsageError(f"--silver-iou bounds overlaps, and --measure is '{settings.measure}'; expected dice")
        outcomes.check_range("iou", numeric(cohort, settings.silver_iou), cohort.case_ids)
    _ask_files(cohort)


def _ask_files(cohort: Cohort) -> None:
    """Raise where two of the three masks are the same files, or no case has gold and silver ones."""
    for one, other in (("prediction", "silver"), ("silver", "gold"), ("prediction", "gold")):
        if one in cohort.roles and other in cohort.roles:
            first, second = cohort.roles[one], cohort.roles[other]
            paths = [(case.files[one], case.files[other]) for case in cohort.cases(one, other)]
            given = [(a, b) for a, b in paths if a is not None and b is not None]
            if given and first.label == second.label and all(a == b for a, b in given):
                raise UsageError(
                    f"--{one} and --{other} name the same files in all {len(given)} cases: a ruler cannot be checked "
                    "against itself; give three sets of masks"
                )
    if "gold" in cohort.roles:
        gold = has_file(cohort, "gold")
        if not gold.any():
            raise DataError(
                f"{cohort.name}: no case has a gold mask ('{cohort.roles['gold'].column}' is empty throughout); give "
                "expert masks of at least some cases, or leave out --gold and give --silver-iou COLUMN"
            )
        if not (gold & has_file(cohort, "silver") & has_file(cohort, "prediction")).any():
            raise DataError(
                f"{cohort.name}: no case has prediction, silver and gold; check that they name the same cases"
            )


def has_file(cohort: Cohort, role: str) -> pl.Series:
    """Return which cases have a file of the role, (n,) bool."""
    return pl.Series([case.files[role] is not None for case in cohort.cases(role)])


def refuse_twins(rows: Mapping[str, pl.DataFrame]) -> None:
    """Raise DataError where two sets of masks turn out to be the same in every case that was measured."""
    for name, (reference, prediction) in RULERS.items():
        if name in rows and bool((rows[name]["dice"] == 1).all()):
            raise DataError(
                f"{prediction} and {reference} masks are the same in all {rows[name].height} cases (Dice 1): a ruler "
                "cannot be checked against itself; give three sets of masks"
            )


def joined(cohort: Cohort, rows: Mapping[str, pl.DataFrame], settings: Settings) -> pl.DataFrame:
    """Return a row a case with a column a ruler, null where a case was not measured by it, in the cohort's order."""
    table = pl.DataFrame({"case_id": cohort.case_ids})
    for name, frame in rows.items():
        score = frame.select("case_id", pl.col(settings.measure).cast(pl.Float64).fill_nan(None).alias(name))
        table = table.join(score, on="case_id", how="left", maintain_order="left")
    if settings.silver_iou is not None:
        values = np.asarray(numeric(cohort, settings.silver_iou), dtype=np.float64)
        table = table.with_columns(silver_iou=pl.Series(values))
    return table
