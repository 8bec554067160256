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
    dataset: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="A named dataset, with --data (see: medaudit data list)."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The dataset's folder; path templates are relative to it."),
    ] = None,
    cases: Annotated[
        Path | None,
        typer.Option(metavar="TABLE", help="Case table instead: CSV, TSV, XLSX or Parquet, a row a case."),
    ] = None,
    simulate: Annotated[
        str | None, typer.Option(metavar="NAME", help="A simulated cohort instead: breast-mri.")
    ] = None,
    plant: Annotated[
        str,
        typer.Option(
            metavar="CAUSE",
            help="With --simulate: what is planted: none, label, representation, imbalance, both, confounded.",
        ),
    ] = "both",
    size: Annotated[int, typer.Option("--size", min=1, help="With --simulate: how many cases.")] = 240,
    image: Annotated[str | None, typer.Option(metavar="COLUMN|TEMPLATE", help="The images that models see.")] = None,
    reference: Annotated[
        str | None,
        typer.Option(metavar="COLUMN|TEMPLATE", help="Expert masks, as expert_path or 'masks/{case_id}.nii.gz'."),
    ] = None,
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
    preset: Annotated[
        str, typer.Option(help="How large a network, on how large images: 'fast', 'cpu' or 'gpu'.")
    ] = "cpu",
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
    outcome: Annotated[
        str | None, typer.Option(metavar="RULE", help="What counts as success: 'dice>0.8', 'top25'.")
    ] = None,
    measure: Annotated[str, typer.Option("--measure", help="The measure that is compared.")] = "dice",
    cluster: options.Cluster = None,
    margin: options.Margin = [],
    label: Annotated[
        int | None, typer.Option(min=1, help="Foreground value of label maps, or segment of DICOM SEG.")
    ] = None,
    tolerance: Annotated[list[float], typer.Option("--tolerance-mm", help="Tolerances of NSD, mm.")] = [1.0, 2.0],
    surface: Annotated[str, typer.Option(help="Surface distances by 'voxel' centres or by surface 'area'.")] = "voxel",
    hd95: Annotated[str, typer.Option(help="HD95 of both directions 'pooled', or the 'max' of the two.")] = "pooled",
    empty: Annotated[
        str, typer.Option(help="Empty masks: 'penalise', 'nan' or 'ignore' (leaves the case out).")
    ] = "penalise",
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Go on without cases that cannot be read.")] = False,
    seed: options.Seed = 0,
    jobs: Annotated[
        int, typer.Option("--jobs", metavar="N", help="Processes that train and measure (-1: one a core).")
    ] = -1,
    device: Annotated[str, typer.Option(help="Where to train: 'cpu' or 'cuda'.")] = "cpu",
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
        dataset=dataset, data=data, cases=cases, simulate=simulate, plant=plant, size=size, seed=seed, out=out,
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
