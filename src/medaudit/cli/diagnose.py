"""`medaudit diagnose`: where does a model's bias come from?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medaudit.cli import options


def diagnose(
    out: options.RunFolder,
    by: Annotated[
        str,
        typer.Option(
            "--by",
            metavar="ATTRIBUTE[:EDGES]",
            help="Attribute whose groups are compared; a number is cut at edges: age:40,55. Trainings are made for one "
            "grouping, so there is one.",
        ),
    ] = "age:40,55",
    dataset: options.Dataset = None,
    data: options.Data = None,
    cases: options.Cases = None,
    about: options.About = [],
    simulate: options.SimulateMri = None,
    plant: Annotated[
        str,
        typer.Option(
            metavar="CAUSE",
            help="With --simulate: what is planted: none, label, representation, imbalance, both, confounded.",
        ),
    ] = "both",
    size: options.Size = 240,
    image: options.ModelImage = None,
    reference: options.Reference = None,
    automated: Annotated[
        str | None,
        typer.Option(
            "--labels", metavar="COLUMN|TEMPLATE", help="Automated masks; without them fewer causes are asked."
        ),
    ] = None,
    within: options.Within = None,
    difficulty: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN[:EDGES]",
            help="How hard a case is; default: tiers of rating_1 and rating_2, where the table has them.",
        ),
    ] = None,
    preset: options.Preset = "cpu",
    folds: Annotated[int, typer.Option("--folds", min=2, help="Parts that patients are dealt into.")] = 5,
    training: Annotated[
        list[str],
        typer.Option(
            "--training",
            metavar="NAME",
            help="Train this one only, beside the baseline: 'swap' (all swaps), 'swap-GROUP', 'difficulty-balanced', "
            "'silver-trained'. Repeat for several; default: all.",
        ),
    ] = [],
    export_nnunet: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Do not train: write the design as nnU-Net datasets, and stop."),
    ] = None,
    import_predictions: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Do not train: take the predictions of models trained on the exported design."
        ),
    ] = None,
    outcome: options.OneOutcome = None,
    measure: options.OneMeasure = "dice",
    cluster: options.Cluster = None,
    margin: options.Margin = [],
    label: options.Label = None,
    tolerance: options.Tolerances = [1.0, 2.0],
    surface: options.Surface = "voxel",
    hd95: options.Hd95 = "pooled",
    empty: options.Empty = "penalise",
    skip_bad: options.SkipBad = False,
    seed: options.Seed = 0,
    jobs: Annotated[
        int, typer.Option("--jobs", metavar="N", help="Processes that train and measure (-1: one a core).")
    ] = -1,
    engine: options.Engine = None,
    device: options.Device = "cpu",
    resamples: options.Resamples = 10_000,
    min_patients: options.MinPatients = 20,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Find where a model's bias comes from: worse labels, harder images, more hard cases, the ruler, the source.

    Trains models that differ in one thing each, on the same folds, and compares their gaps on expert masks. Writes a
    report. A run that was stopped goes on where it was.

    Example: medaudit diagnose --dataset hc18 --data hc18 --labels "../hc18_automatic/{case_id}_automatic.png"
    --by trimester --preset cpu --out runs/hc18-diagnosis
    """
    from medaudit.audits.diagnosis.settings import Settings
    from medaudit.cli import show, sources

    cohort = sources.cohort(
        dataset=dataset, data=data, cases=cases, about=about, simulate=simulate, plant=plant, size=size, seed=seed,
        out=out,
        roles={"image": image, "reference": reference, "labels": automated}, cluster=cluster, label=label,
        jobs=jobs, progress=not quiet,
    )  # fmt: skip
    settings = Settings(
        by=by, within=within, difficulty=difficulty, preset=preset, folds=folds, trainings=tuple(training),
        measure=measure, outcome=outcome, margins=tuple(margin), tolerances_mm=tuple(tolerance), surface=surface,
        hd95=hd95, empty=empty, device=device, seed=seed, resamples=resamples, min_patients=min_patients,
        skip_bad=skip_bad,
    )  # fmt: skip
    if export_nnunet is not None:
        from medaudit.audits.diagnosis.run import export_design

        show.text(export_design(cohort, settings, export_nnunet, out=out, jobs=jobs, progress=not quiet))
        return
    from medaudit.audits.diagnosis.run import diagnose_cohort

    result = diagnose_cohort(cohort, settings, out=out, jobs=jobs, progress=not quiet, predictions=import_predictions)
    show.findings(result.findings, out=out, json=json, quiet=quiet)
