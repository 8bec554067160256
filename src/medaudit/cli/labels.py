"""`medaudit labels`: are the automated labels equally good for everybody?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medaudit.cli import options


def labels(
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
            help="With --simulate: what is planted: none, label, representation, both, imbalance, confounded, "
            "mama-mia.",
        ),
    ] = "label",
    size: Annotated[int, typer.Option("--size", min=1, help="With --simulate: how many cases.")] = 240,
    reference: Annotated[
        str | None,
        typer.Option(metavar="COLUMN|TEMPLATE", help="Expert masks, as expert_path or 'masks/{case_id}.nii.gz'."),
    ] = None,
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
    label: Annotated[
        int | None, typer.Option(min=1, help="Foreground value of label maps, or segment of DICOM SEG.")
    ] = None,
    tolerance: Annotated[list[float], typer.Option("--tolerance-mm", help="Tolerances of NSD, mm.")] = [
        1.0,
        2.0,
    ],
    surface: Annotated[str, typer.Option(help="Surface distances by 'voxel' centres or by surface 'area'.")] = "voxel",
    hd95: Annotated[str, typer.Option(help="HD95 of both directions 'pooled', or the 'max' of the two.")] = "pooled",
    empty: Annotated[
        str, typer.Option(help="Empty masks: 'penalise', 'nan' or 'ignore' (leaves the case out).")
    ] = "penalise",
    cap_mm: options.Cap = 150.0,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Go on without cases that cannot be read.")] = False,
    challenge: Annotated[bool, typer.Option(help="Add the MAMA-MIA challenge score.")] = False,
    challenge_compat: Annotated[
        bool,
        typer.Option(help="Add the score as the challenge's released script computes it, faults included."),
    ] = False,
    seed: options.Seed = 0,
    jobs: options.Jobs = -1,
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
    from medaudit.audits.labels import Settings
    from medaudit.audits.labels_run import audit_masks
    from medaudit.cli import show, sources

    cohort = sources.cohort(
        dataset=dataset, data=data, cases=cases, simulate=simulate, plant=plant, size=size, seed=seed, out=out,
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
