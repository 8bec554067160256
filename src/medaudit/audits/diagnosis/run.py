"""From the cases to a finished run: plan, train and predict, measure, diagnose, write; a killed run goes on."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import polars as pl

from medaudit.audits.diagnosis import images, page
from medaudit.audits.diagnosis.design import BASELINE, GOLD, SILVER, Design
from medaudit.audits.diagnosis.evidence import OBSERVED, QUALITY
from medaudit.audits.diagnosis.plan import Planned, has_file, plan, rows_of
from medaudit.audits.diagnosis.settings import PRESETS, Settings
from medaudit.audits.diagnosis.study import Diagnosis, diagnose
from medaudit.audits.judging import outcomes
from medaudit.audits.measuring import one_case as compare
from medaudit.cohort import Cohort, Grouping, fingerprint
from medaudit.errors import DataError, UsageError
from medaudit.report import Run


def diagnose_cohort(
    cohort: Cohort,
    settings: Settings,
    *,
    out: Path,
    jobs: int = -1,
    progress: bool = True,
    predictions: Path | None = None,
) -> Diagnosis:
    """Return the diagnosis of a cohort's ``image``, ``reference`` and, if there, ``labels``; writes it to ``out``.

    ``predictions``: a folder with the masks of models that were trained elsewhere on the exported design
    (:func:`export_design`); nothing is trained then. A run that was killed goes on where it was.
    """
    ask(cohort, settings)
    seconds: dict[str, float] = {}
    with _opened(cohort, settings, out, "here" if predictions is None else "elsewhere") as run:
        with _timed("planning", seconds):
            planned = plan(cohort, settings, run, jobs=jobs, progress=progress)
        with _timed("training", seconds):
            features, predicted, design = _predicted(planned, settings, out, jobs, progress, predictions)
            planned = replace(planned, cohort=predicted, design=design)
        with _timed("measuring", seconds):
            scores, bad = measured(planned, settings, run, jobs=jobs, progress=progress)
        with _timed("statistics", seconds):
            result = diagnose(predicted, design, scores, settings)
            shown = images.shapes(
                _against_gold(planned, run), result.evidence.models, permutations=settings.resamples, seed=settings.seed
            )
            result = replace(result, excluded={**planned.excluded, **bad}, shapes=tuple(shown))
            if features is not None:
                known = images.latent(
                    features,
                    design.fold,
                    result.evidence.models,
                    permutations=min(1_000, settings.resamples),
                    seed=settings.seed,
                )
                result = replace(result, latent=known)
        result = replace(result, seconds=seconds)
        page.write(result, run, planned.difficulty_from)
        run.finish()
        if predictions is None:
            from medaudit.audits.diagnosis.trainings import tidy

            tidy(out)
    return result


def export_design(
    cohort: Cohort, settings: Settings, folder: Path, *, out: Path, jobs: int = -1, progress: bool = True
) -> list[str]:
    """Write the design of a cohort's diagnosis as nnU-Net datasets into ``folder``; return lines that say what to do.

    The run in ``out`` is begun and not finished: the same command with ``--import-predictions`` finishes it.
    """
    from medaudit.audits.diagnosis.nnunet import exported

    ask(cohort, settings)
    with _opened(cohort, settings, out, "elsewhere") as run:
        planned = plan(cohort, settings, run, jobs=jobs, progress=progress)
        made = exported(planned, folder, measure=settings.measure)
    folds = " ".join(str(k) for k in range(int(planned.design.fold.max()) + 1))
    return [
        f"{len(made)} nnU-Net datasets in {folder}, of {planned.design.per_group} cases a group:",
        *(f"  {dataset.name}" for dataset in made),
        *planned.design.notes,
        "Of each: plan it, put its splits_final.json into nnUNet_preprocessed/DATASET, train 3d_fullres (or 2d) on "
        f"folds {folds}, then put the masks of fold_*/validation into PREDICTIONS/TRAINING (or keep nnU-Net's).",
        "Then: the same command with --import-predictions PREDICTIONS instead of --export-nnunet.",
    ]


def measured(
    planned: Planned, settings: Settings, run: Run, *, jobs: int, progress: bool
) -> tuple[pl.DataFrame, dict[str, str]]:
    """Return the scores of the study (:class:`Evidence`), and who could not be measured."""
    cohort, design = planned.cohort, planned.design
    asked = [(training.name, training.slug, GOLD, design.predicted) for training in design.trainings]
    if planned.quality is not None:
        asked.append((BASELINE, OBSERVED, SILVER, has_file(cohort, SILVER) & design.predicted))
    columns: dict[str, pl.Series] = {"case_id": pl.Series(cohort.case_ids)}
    frames: list[pl.DataFrame] = []
    bad: dict[str, str] = {}
    for prediction, name, reference, who in asked:
        frame, excluded = rows_of(
            cohort, settings, run, prediction, who, jobs=jobs, progress=progress, name=f"{name}-measurements",
            reference=reference,
        )  # fmt: skip
        columns[OBSERVED if reference == SILVER else prediction] = frame[settings.measure].cast(pl.Float64)
        frames.append(frame)
        bad |= excluded
    if planned.quality is not None:
        columns[QUALITY] = planned.quality[settings.measure].cast(pl.Float64)
        frames.append(planned.quality)
    known = [frame.filter(pl.col("ruler").is_not_null()) for frame in frames]
    run.write_measurements(pl.concat(known, how="diagonal_relaxed"))
    return pl.DataFrame(columns), bad


def ask(cohort: Cohort, settings: Settings) -> None:
    """Raise UsageError or DataError for what cannot be asked of this cohort, before anything is measured."""
    for role, option in (("image", "--image"), (GOLD, "--reference")):
        if role not in cohort.roles:
            raise UsageError(f"{cohort.name}: say where the {role} files are with {option} COLUMN or TEMPLATE")
    if not has_file(cohort, GOLD).any():
        raise DataError(
            f"{cohort.name}: no case has an expert mask ('{cohort.roles[GOLD].column}' is empty throughout)"
        )
    if settings.preset not in PRESETS:
        raise UsageError(f"no preset is called '{settings.preset}'; there are: {', '.join(PRESETS)}")
    if settings.folds < 2:
        raise UsageError(f"--folds is {settings.folds}; expected 2 or more: a case is predicted by who has not seen it")
    for text in (settings.by, settings.within, settings.difficulty):
        if text:
            Grouping.parse(text).apply(cohort)
    rules = [settings.outcome] if settings.outcome else []
    known = compare.names(settings.ruler(GOLD, SILVER))
    outcomes.check([settings.measure], rules, settings.margins, settings.lower_is_better, 150.0, known)


def _opened(cohort: Cohort, settings: Settings, out: Path, trained: str) -> Run:
    kept = {name: value for name, value in asdict(settings).items() if name != "skip_bad"}
    kept |= {"torch": importlib.metadata.version("torch"), "trained": trained}
    return Run.open(out, verb="diagnose", settings=kept, inputs={"cases": fingerprint(cohort)})


def _predicted(
    planned: Planned, settings: Settings, out: Path, jobs: int, progress: bool, predictions: Path | None
) -> tuple[np.ndarray | None, Cohort, Design]:
    """Return the bottleneck features, the cohort with a role a training, and the design of the trainings that exist."""
    if predictions is not None:
        from medaudit.audits.diagnosis.nnunet import imported

        cohort, design = imported(planned.cohort, planned.design, predictions)
        return None, cohort, design
    from medaudit.audits.diagnosis.trainings import features_of, train_and_predict

    cohort = train_and_predict(
        planned.cohort,
        planned.design,
        settings.preset,
        out,
        seed=settings.seed,
        jobs=jobs,
        device=settings.device,
        progress=progress,
    )
    return features_of(planned.design, out), cohort, planned.design


def _against_gold(planned: Planned, run: Run) -> pl.DataFrame:
    """Return the baseline's measurements against the expert masks, a row a case: the expert masks' shapes are there."""
    frame = run.measurements(f"{BASELINE}-measurements")
    everyone = pl.DataFrame({"case_id": planned.cohort.case_ids})
    return everyone.join(frame, on="case_id", how="left", maintain_order="left")


@contextmanager
def _timed(part: str, seconds: dict[str, float]) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[part] = time.perf_counter() - start
