"""`medaudit ruler`: is the gap the model's, or that of the masks it is measured against?"""

from __future__ import annotations

from typing import Annotated

import typer

from medaudit.cli import options


def ruler(
    by: options.By,
    out: options.RunFolder,
    dataset: options.Dataset = None,
    data: options.Data = None,
    cases: options.Cases = None,
    about: options.About = [],
    simulate: options.SimulateMri = None,
    plant: Annotated[
        str,
        typer.Option(
            metavar="CAUSE",
            help="With --simulate: how the ruler lies: false-magnitude, false-confidence, masking.",
        ),
    ] = "false-magnitude",
    size: options.Size = 240,
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
    jobs: options.Jobs = -1,
    engine: options.Engine = None,
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
    from medaudit.audits.ruler.run import audit_rulers
    from medaudit.audits.ruler.study import Settings
    from medaudit.cli import show, sources
    from medaudit.datasets import check_predictions

    if simulate is not None and prediction is None:
        check_predictions(simulate, plant)
    cohort = sources.cohort(
        dataset=dataset, data=data, cases=cases, about=about, simulate=simulate, plant=plant, size=size, seed=seed,
        out=out,
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
