"""`medaudit ruler`: is the gap the model's, or that of the masks it is measured against?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medaudit.cli import options


def ruler(
    by: options.By,
    out: options.RunFolder,
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
            help="With --simulate: how the ruler lies: false-magnitude, false-confidence, masking.",
        ),
    ] = "false-magnitude",
    size: Annotated[int, typer.Option("--size", min=1, help="With --simulate: how many cases.")] = 240,
    prediction: Annotated[
        str | None, typer.Option(metavar="COLUMN|TEMPLATE", help="The predictions that are scored.")
    ] = None,
    gold: Annotated[
        str | None,
        typer.Option(metavar="COLUMN|TEMPLATE", help="Expert masks; empty where a case has none. A sample is enough."),
    ] = None,
    silver: Annotated[
        str | None, typer.Option(metavar="COLUMN|TEMPLATE", help="Automated masks: the ruler that is checked.")
    ] = None,
    silver_iou: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Without --gold: an estimate of the IoU of silver and gold, 0 to 1."),
    ] = None,
    silver_from: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="What made the silver masks, for the report: model, training data."),
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
    jobs: options.Jobs = -1,
    resamples: options.Resamples = 10_000,
    min_patients: options.MinPatients = 20,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Check the ruler: is a gap seen on automated masks the one that expert masks show?

    Scores the same predictions against silver and gold masks, compares the two gaps by patient, and tells apart
    a ruler that exaggerates a gap, one that levels everybody, and one that hides a gap. Writes a report.

    Example: medaudit ruler --cases cases.csv --prediction model_path --gold expert_path --silver auto_path
    --by age:40,55 --out runs/ruler
    """
    from medaudit.audits.ruler import Settings
    from medaudit.audits.ruler_run import audit_rulers
    from medaudit.cli import show, sources
    from medaudit.datasets import check_predictions

    if simulate is not None and prediction is None:
        check_predictions(simulate, plant)
    cohort = sources.cohort(
        dataset=dataset, data=data, cases=cases, simulate=simulate, plant=plant, size=size, seed=seed, out=out,
        roles={"prediction": prediction, "gold": gold, "silver": silver}, cluster=cluster, label=label,
        jobs=jobs, progress=not quiet,
    )  # fmt: skip
    settings = Settings(
        by=tuple(by), measure=measure, outcome=outcome, margins=tuple(margin), silver_iou=silver_iou,
        silver_from=silver_from or "", tolerances_mm=tuple(tolerance), surface=surface, hd95=hd95, empty=empty,
        seed=seed, resamples=resamples, min_patients=min_patients, skip_bad=skip_bad,
    )  # fmt: skip
    result = audit_rulers(cohort, settings, out=out, jobs=jobs, progress=not quiet)
    show.findings(result.findings, out=out, json=json, quiet=quiet)
