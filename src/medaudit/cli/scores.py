"""`medaudit scores`: the audit of labels on a table of per-case scores, without images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medaudit.cli import options


def scores(
    by: options.By,
    table: Annotated[
        Path | None, typer.Argument(metavar="TABLE", help="Scores, a row a case: CSV, TSV, XLSX or Parquet.")
    ] = None,
    score: Annotated[
        list[str],
        typer.Option("--score", metavar="COLUMN", help="Column of a score; the first is the primary one."),
    ] = ["dice"],
    lower_is_better: Annotated[
        list[str],
        typer.Option(metavar="COLUMN", help="A score where less is better (names in mm are known to be)."),
    ] = [],
    simulate: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="A simulated table instead: mama-mia-scores."),
    ] = None,
    plant: Annotated[
        str,
        typer.Option(
            metavar="CAUSE",
            help="With --simulate: what is planted: none, intrinsic, confounded, masked, mama-mia.",
        ),
    ] = "mama-mia",
    size: options.Size = 1506,
    within: options.Within = None,
    outcome: options.Outcomes = [],
    cluster: options.Cluster = None,
    margin: options.Margin = [],
    cap_mm: options.Cap = 150.0,
    seed: options.Seed = 0,
    resamples: options.Resamples = 10_000,
    min_patients: options.MinPatients = 20,
    out: options.Out = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Audit a table of per-case scores: the study of `medaudit labels`, without images.

    Example: medaudit scores scores.csv --score dice --by age:40,55 --within source --cluster patient_id
    --out runs/scores
    """
    from medaudit.audits.labels.run import audit_scores
    from medaudit.audits.labels.study import Settings
    from medaudit.cli import show, sources

    cohort = sources.scores(table, simulate=simulate, plant=plant, size=size, seed=seed, cluster=cluster)
    settings = Settings(
        by=tuple(by), within=within, measures=tuple(score), outcomes=tuple(outcome), margins=tuple(margin),
        lower_is_better=tuple(lower_is_better), cap_mm=cap_mm, seed=seed, resamples=resamples,
        min_patients=min_patients,
    )  # fmt: skip
    result = audit_scores(cohort, settings, out=out, progress=not quiet)
    show.findings(result.findings, out=out, json=json, quiet=quiet)
