"""From the cases to a finished run of the label audit: ask, measure, audit, write; a killed run goes on."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path

import polars as pl

from medaudit.audits.judging import outcomes
from medaudit.audits.labels import page, quality
from medaudit.audits.labels.study import Audit, Settings, audit, usable_scores
from medaudit.audits.measuring import one_case as compare
from medaudit.audits.measuring.all_cases import measure
from medaudit.cohort import Cohort, Grouping, fingerprint, numeric
from medaudit.errors import UsageError
from medaudit.report import Run


def audit_masks(cohort: Cohort, settings: Settings, *, out: Path, jobs: int = -1, progress: bool = True) -> Audit:
    """Return the audit of a cohort's automated masks (role ``labels``) against its expert masks (``reference``).

    Measures every case, goes on where an earlier run of the same folder was stopped, and writes the report to ``out``.
    """
    for role in ("reference", "labels"):
        if role not in cohort.roles:
            raise UsageError(f"{cohort.name}: say where the {role} masks are with --{role} COLUMN or TEMPLATE")
    ask(cohort, settings, compare.names(settings.ruler))
    kept = {name: value for name, value in asdict(settings).items() if name != "skip_bad"}
    with Run.open(out, verb="labels", settings=kept, inputs={"cases": fingerprint(cohort)}) as run:
        rows, bad = measure(cohort, settings.ruler, run, jobs=jobs, progress=progress, skip_bad=settings.skip_bad)
        measured = cohort.select(~pl.col("case_id").is_in(list(bad)))
        result = audit(measured, rows, settings, excluded=bad, progress=progress)
        page.write(result, run)
        run.finish()
    return result


def audit_scores(cohort: Cohort, settings: Settings, *, out: Path | None, progress: bool = True) -> Audit:
    """Return the audit of a table of per-case scores; writes the report to ``out`` if one is given."""
    scores = pl.DataFrame({"case_id": cohort.case_ids, **{m: numeric(cohort, m) for m in settings.measures}})
    ask(cohort, settings, scores.columns)
    usable_scores(scores, settings)
    if out is None:
        return audit(cohort, scores, settings, progress=progress)
    with Run.open(out, verb="scores", settings=asdict(settings), inputs={"cases": fingerprint(cohort)}) as run:
        result = audit(cohort, scores, settings, progress=progress)
        run.write_measurements(scores.with_columns(ruler=pl.lit("as given")))
        page.write(result, run)
        run.finish()
    return result


def ask(cohort: Cohort, settings: Settings, known: Collection[str]) -> None:
    """Raise UsageError or DataError for a question that cannot be asked of this cohort, before anything is measured.

    ``known`` are the names of the numbers that there will be. A question that fails only after the measurement would
    have taken the folder for itself, and the mended one would have to measure anew.
    """
    if not settings.by:
        raise UsageError("say which groups to compare with --by ATTRIBUTE, as --by age:40,55")
    names = [Grouping.parse(text).name for text in settings.by]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UsageError(f"--by {twice} is given twice; findings are named by their attribute, so run them one by one")
    for text in (*settings.by, *([settings.within] if settings.within else [])):
        Grouping.parse(text).apply(cohort)
    outcomes.check(
        settings.measures, settings.outcomes, settings.margins, settings.lower_is_better, settings.cap_mm, known
    )
    if settings.challenge or settings.challenge_compat:
        nothing = [0.0] * len(cohort)
        blank = pl.DataFrame({"dice": nothing, "hd95_mm": nothing, "hd95_voxels": nothing})
        quality.challenge(cohort, blank, compat=settings.challenge_compat)
