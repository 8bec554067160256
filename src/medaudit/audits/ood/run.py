"""From a cohort to a finished run: plan, acquire, train, score, compare, write; a killed run goes on where it was."""

from __future__ import annotations

import hashlib
import importlib.metadata
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from medaudit.audits.ood import images
from medaudit.audits.ood.design import Design, plan
from medaudit.audits.ood.findings import findings
from medaudit.audits.ood.page import page
from medaudit.audits.ood.scores import Scores, scores_of
from medaudit.audits.ood.settings import MethodList, Settings, method_list
from medaudit.audits.ood.study import Study, study
from medaudit.cohort import Cohort, fingerprint
from medaudit.errors import UsageError
from medaudit.report import Finding, Run
from medaudit.report.checkpoint import parquet_bytes


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of a study: its evidence and its findings."""

    study: Study
    findings: list[Finding]


def ood_cohort(
    cohort: Cohort,
    settings: Settings,
    *,
    out: Path,
    predict: tuple[str, ...] = (),
    scores: pl.DataFrame | None = None,
    jobs: int = -1,
    progress: bool = True,
) -> Outcome:
    """Return the study of a cohort's ``image``; writes it to ``out``.

    ``predict``: the tasks whose predictions are to be gated (default: the first). ``scores``: a table of scores that
    another program made (:mod:`scores`); nothing is trained then. A run that was killed goes on where it was.
    """
    methods = method_list(settings.methods)
    images.acquisitions(settings.acquire)
    design = plan(cohort, settings)
    gated = _gated(design, predict)
    if "image" not in cohort.roles and (scores is None or settings.acquire):
        raise UsageError(f"{cohort.name}: say where the images are with --image COLUMN or TEMPLATE")
    kept = {**asdict(settings), "predict": gated, "torch": importlib.metadata.version("torch")}
    kept |= {"methods": [asdict(choice) for choice in methods.methods], "given_scores": scores is not None}
    seconds: dict[str, float] = {}
    inputs = {"cases": fingerprint(cohort)}
    if scores is not None:
        inputs["scores"] = hashlib.sha256(parquet_bytes(scores)).hexdigest()
    with Run.open(out, verb="ood", settings=kept, inputs=inputs) as run:
        with _timed("acquiring", seconds):
            cohort, design = images.with_acquired(
                cohort, design, settings.acquire, out, seed=settings.seed, jobs=jobs, progress=progress
            )
        costs: dict[str, dict[str, Any]] = {}
        with _timed("training and scoring", seconds):
            if scores is None:
                found, costs = _scored(cohort, design, methods, settings, out, jobs, progress)
            else:
                found = scores_of(scores, design, cohort.case_ids, "the table of scores")
        with _timed("cues", seconds):
            cues: tuple[tuple[str, ...], np.ndarray] = ((), np.empty((len(found.rows), 0)))
            if "image" in cohort.roles:
                cues = images.trivial_cues(cohort, found.rows, jobs=jobs, progress=progress)
        with _timed("statistics", seconds):
            result = study(design, found, cues, settings, gated)
            answers = findings(result)
        run.write_measurements(found.frame(cohort.case_ids, {task.name: task.classes for task in design.tasks}))
        run.write_findings(answers)
        run.write_report(page(result, answers, cohort, methods, costs, run, seconds))
        run.finish()
        if scores is None:
            from medaudit.audits.ood.trainings import tidy

            tidy(out)
    return Outcome(result, answers)


def _scored(
    cohort: Cohort, design: Design, methods: MethodList, settings: Settings, out: Path, jobs: int, progress: bool
) -> tuple[Scores, dict[str, dict[str, Any]]]:
    from medaudit.audits.ood.trainings import score_cases

    return score_cases(cohort, design, methods, settings, out, jobs=jobs, progress=progress)


def _gated(design: Design, predict: tuple[str, ...]) -> tuple[str, ...]:
    names = [task.name for task in design.tasks]
    for task in predict:
        if task not in names:
            raise UsageError(f"--predict {task}: not one of the tasks, which are: {', '.join(names)}")
    return predict or (names[0],)


@contextmanager
def _timed(part: str, seconds: dict[str, float]) -> Iterator[Any]:
    start = time.perf_counter()
    yield
    seconds[part] = time.perf_counter() - start
