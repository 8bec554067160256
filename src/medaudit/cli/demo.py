"""`medaudit demo`: a simulated cohort with a planted cause, audited; does the audit name it?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medaudit.cli import options


def demo(
    out: Annotated[Path, typer.Option("--out", metavar="RUN", help="Folder of the run.")] = Path("runs/demo"),
    size: Annotated[int, typer.Option("--size", min=30, help="How many simulated patients.")] = 300,
    seed: options.Seed = 0,
    jobs: options.Jobs = -1,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Simulate a breast-MRI cohort whose automated labels are worse for the young, audit it, and write the report.

    Example: medaudit demo --out runs/demo
    """
    from medaudit.audits.demonstration import planted, run
    from medaudit.cli import show

    result = run(out, size=size, seed=seed, jobs=jobs, progress=not quiet)
    if not (json or quiet):
        show.text(planted(result))
    show.findings(result.findings, out=out, json=json, quiet=quiet)
