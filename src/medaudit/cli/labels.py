"""`medaudit labels`: are the automated labels equally good for everybody?"""

from __future__ import annotations

from typing import Annotated

import typer

from medaudit.cli import options


def labels(
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
            help="With --simulate: what is planted: none, label, representation, both, imbalance, confounded, "
            "mama-mia.",
        ),
    ] = "label",
    size: options.Size = 240,
    reference: options.Reference = None,
    automated: Annotated[
        str | None, typer.Option("--labels", metavar="COLUMN|TEMPLATE", help="The automated masks to audit.")
    ] = None,
    image: Annotated[
        str | None,
        typer.Option(metavar="COLUMN|TEMPLATE", help="Images, for the pictures of the worst cases."),
    ] = None,
    within: options.Within = None,
    outcome: options.Outcomes = [],
    measure: Annotated[
        list[str], typer.Option("--measure", help="Measures to audit, the first is the primary one.")
    ] = ["dice", "hd95_mm"],
    cluster: options.Cluster = None,
    margin: options.Margin = [],
    label: options.Label = None,
    tolerance: options.Tolerances = [
        1.0,
        2.0,
    ],
    surface: options.Surface = "voxel",
    hd95: options.Hd95 = "pooled",
    empty: options.Empty = "penalise",
    cap_mm: options.Cap = 150.0,
    skip_bad: options.SkipBad = False,
    challenge: Annotated[bool, typer.Option(help="Add the MAMA-MIA challenge score.")] = False,
    challenge_compat: Annotated[
        bool,
        typer.Option(help="Add the score as the challenge's released script computes it, faults included."),
    ] = False,
    seed: options.Seed = 0,
    jobs: options.Jobs = -1,
    engine: options.Engine = None,
    resamples: options.Resamples = 10_000,
    min_patients: options.MinPatients = 20,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Audit automated segmentation labels against expert masks: equally good for everybody?

    Measures every case, compares the groups, asks whether a gap is one of data sources, and says what these
    data cannot tell. Writes a report.

    Example: medaudit labels --dataset hc18 --data hc18 --labels "../hc18_automatic/{case_id}_automatic.png"
    --by trimester --out runs/hc18
    """
    from medaudit.audits.labels.run import audit_masks
    from medaudit.audits.labels.study import Settings
    from medaudit.cli import show, sources

    cohort = sources.cohort(
        dataset=dataset, data=data, cases=cases, about=about, simulate=simulate, plant=plant, size=size, seed=seed,
        out=out,
        roles={"reference": reference, "labels": automated, "image": image}, cluster=cluster, label=label,
        jobs=jobs, progress=not quiet,
    )  # fmt: skip
    settings = Settings(
        by=tuple(by), within=within, measures=tuple(measure), outcomes=tuple(outcome), margins=tuple(margin),
        tolerances_mm=tuple(tolerance), surface=surface, hd95=hd95, empty=empty, cap_mm=cap_mm, seed=seed,
        resamples=resamples, min_patients=min_patients, skip_bad=skip_bad,
        challenge=challenge, challenge_compat=challenge_compat,
    )  # fmt: skip
    result = audit_masks(cohort, settings, out=out, jobs=jobs, progress=not quiet)
    show.findings(result.findings, out=out, json=json, quiet=quiet)
