"""The options that several verbs share, declared once so that they read the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def _with_engine(context: typer.Context, url: str | None) -> str | None:
    """Let a cluster do the verb's work until the command ends."""
    if url is not None and not context.resilient_parsing:
        from medaudit.clusters import engine

        context.with_resource(engine(url))
    return url


Dataset = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="A named dataset, with --data (see: medaudit data list)."),
]
Data = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="The dataset's folder; path templates are relative to it."),
]
Cases = Annotated[
    Path | None,
    typer.Option(metavar="TABLE", help="Case table instead: CSV, TSV, XLSX or Parquet, a row a case."),
]
SimulateMri = Annotated[str | None, typer.Option(metavar="NAME", help="A simulated cohort instead: breast-mri.")]
About = Annotated[
    list[str],
    typer.Option(
        "--about",
        metavar="DATASET",
        help="With --cases: the public datasets the cases are from; the report says what is known about them.",
    ),
]
Size = Annotated[int, typer.Option("--size", min=1, help="With --simulate: how many cases.")]
Reference = Annotated[
    str | None,
    typer.Option(metavar="COLUMN|TEMPLATE", help="Expert masks, as expert_path or 'masks/{case_id}.nii.gz'."),
]
Label = Annotated[int | None, typer.Option(min=1, help="Foreground value of label maps, or segment of DICOM SEG.")]
Tolerances = Annotated[list[float], typer.Option("--tolerance-mm", help="Tolerances of NSD, mm.")]
Surface = Annotated[str, typer.Option(help="Surface distances by 'voxel' centres or by surface 'area'.")]
Hd95 = Annotated[str, typer.Option(help="HD95 of both directions 'pooled', or the 'max' of the two.")]
Empty = Annotated[str, typer.Option(help="Empty masks: 'penalise', 'nan' or 'ignore' (leaves the case out).")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Go on without cases that cannot be read.")]
OneOutcome = Annotated[str | None, typer.Option(metavar="RULE", help="What counts as success: 'dice>0.8', 'top25'.")]
OneMeasure = Annotated[str, typer.Option("--measure", help="The measure that is compared.")]
ModelImage = Annotated[str | None, typer.Option(metavar="COLUMN|TEMPLATE", help="The images that models see.")]
Preset = Annotated[str, typer.Option(help="How large a network, on how large images: 'fast', 'cpu' or 'gpu'.")]
Device = Annotated[str, typer.Option(help="Where to train: 'cpu' or 'cuda'.")]
By = Annotated[
    list[str],
    typer.Option(
        "--by",
        metavar="ATTRIBUTE[:EDGES]",
        help="Attribute whose groups are compared; repeat for several. A number is cut at edges: age:40,55 makes "
        "<=40, (40, 55], >55; age:40,55:left gives an edge to the group above. age:55*source crosses two.",
    ),
]
Within = Annotated[
    str | None,
    typer.Option("--within", metavar="COLUMN", help="Data source (hospital, device): is a gap only a gap of sources?"),
]
Outcomes = Annotated[
    list[str],
    typer.Option(
        "--outcome",
        metavar="RULE",
        help="What counts as success: 'dice>0.8', 'hd95_mm<=5', 'top25' (the best quarter by the first measure), "
        "'top25:hd95_mm'. Repeat for several.",
    ),
]
Cluster = Annotated[
    str | None,
    typer.Option("--cluster", metavar="COLUMN", help="Column of the patient; intervals are clustered by it."),
]
Margin = Annotated[
    list[str],
    typer.Option(
        "--margin",
        metavar="MEASURE=VALUE",
        help="The smallest gap that would matter to you, for 'refuted' (default: 0.05 for scores from 0 to 1, 5 mm, "
        "0.10 for rates, else a quarter of the SD).",
    ),
]
Cap = Annotated[
    float,
    typer.Option(
        "--cap-mm",
        min=0.0,
        help="Distance given to a missed object where the image's diagonal is not known, mm.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of every random step; same seed, same findings.")]
Jobs = Annotated[int, typer.Option("--jobs", metavar="N", help="Processes that measure cases (-1: one a core).")]
Engine = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="URL",
        callback=_with_engine,
        help="A cluster does what processes would: dask://HOST:PORT, ray://HOST:PORT, ray://auto; dask://local:4 and "
        "ray://local:4 start workers here. --jobs: how many tasks at a time, -1 for all workers.",
    ),
]
"""Declaring it is enough: the cluster is there while the verb runs, for all that goes through medaudit.workers."""
Resamples = Annotated[
    int,
    typer.Option("--resamples", min=100, max=1_000_000, help="Bootstrap resamples, and permutations of each test."),
]
MinPatients = Annotated[
    int, typer.Option("--min-patients", min=2, help="Groups with fewer patients are shown, and not judged.")
]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="RUN", help="Folder of the run: report.html, findings.json, measurements.parquet."),
]
RunFolder = Annotated[
    Path,
    typer.Option("--out", metavar="RUN", help="Folder of the run: report.html, findings.json, measurements.parquet."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the findings as JSON on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bar and no summary.")]
