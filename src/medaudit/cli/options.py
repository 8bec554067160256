"""The options that several verbs share, declared once so that they read the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
