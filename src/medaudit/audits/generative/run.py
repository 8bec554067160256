"""From a cohort to a finished run: plan, train, measure, compare, write; a killed run goes on where it was."""

from __future__ import annotations

import importlib.metadata
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import polars as pl

from medaudit.audits.generative.design import plan
from medaudit.audits.generative.findings import findings
from medaudit.audits.generative.settings import Settings
from medaudit.audits.generative.study import Measured, Study, study
from medaudit.cohort import Cohort, fingerprint
from medaudit.errors import DataError, UsageError
from medaudit.report import Finding, Run

CASES = "cases"


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of a study: its evidence and its findings."""

    study: Study
    findings: list[Finding]


def generative_cohort(
    cohort: Cohort, settings: Settings, *, out: Path, jobs: int = -1, progress: bool = True
) -> Outcome:
    """Return the study of how well VAEs reconstruct a cohort's ``image``, by group; writes it to ``out``.

    The trained models, and the images at their size, stay in ``out``, for ``medaudit slug``. Raises UsageError
    and DataError as its parts do.
    """
    if "image" not in cohort.roles:
        raise UsageError(
            f"{cohort.name}: there are no images; put them into the dataset's folder, or say where they are with "
            "--image COLUMN or TEMPLATE"
        )
    design = plan(cohort, settings)
    kept = {**asdict(settings), "torch": importlib.metadata.version("torch")}
    seconds: dict[str, float] = {}
    with Run.open(out, verb="vae", settings=kept, inputs={"cases": fingerprint(cohort)}) as run:
        from medaudit.audits.generative import trainings
        from medaudit.audits.generative.page import page

        start = time.perf_counter()
        measured, recipe = trainings.measure(cohort, design, settings, out, jobs=jobs, progress=progress)
        seconds["training and scoring"] = time.perf_counter() - start
        _check_metric(measured, settings, cohort)
        start = time.perf_counter()
        result = study(design, measured, settings)
        answers = findings(result)
        seconds["statistics"] = time.perf_counter() - start
        run.write_measurements(frame(result, cohort))
        # `medaudit slug` asks more of these models: it needs who is who, and the images as they saw them.
        run.write_measurements(cohort.table, CASES)
        run.write_findings(answers)
        run.write_report(page(result, answers, cohort, recipe, run, out, seconds))
        run.finish()
    return Outcome(result, answers)


def frame(result: Study, cohort: Cohort) -> pl.DataFrame:
    """Return a row a test case and training: group, errors and scores by name."""
    measured, settings = result.measured, result.settings
    ids = [cohort.case_ids[i] for i in measured.rows]
    groups = [result.design.groups[code] for code in result.design.code[measured.rows]]
    parts = []
    for k, share in enumerate(settings.shares):
        for s in range(settings.seeds):
            columns = {name: values[k, s] for name, values in measured.errors.items()}
            columns |= {name: values[k, s] for name, values in measured.scores.items()}
            parts.append(
                pl.DataFrame(
                    {"case_id": ids, "group": groups, "share": share, "seed": s, "luminance": measured.luminance}
                ).with_columns([pl.Series(name, values) for name, values in columns.items()])
            )
    return pl.concat(parts)


def _check_metric(measured: Measured, settings: Settings, cohort: Cohort) -> None:
    if settings.metric not in measured.errors:
        raise UsageError(f"no metric is called '{settings.metric}'; there are: {', '.join(measured.errors)}")
    bad = ~np.isfinite(measured.errors[settings.metric]).all(axis=(0, 1))
    if bad.any():
        case = cohort.case_ids[int(measured.rows[bad][0])]
        raise DataError(
            f"case {case} (and {int(bad.sum()) - 1} more): {settings.metric} of its image is not a number, as of an "
            "image of one colour; drop it, or choose another --metric"
        )
