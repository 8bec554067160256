"""`medaudit report`: the findings of a finished run, and its report made anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medaudit.cli import options


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Print a run's findings, and write its report.html anew with this version's layout.

    Example: medaudit report runs/hc18
    """
    from medaudit.cli import show
    from medaudit.report import Run

    finished = Run.read(run)
    finished.render_again()
    show.findings(finished.findings(), out=run, json=json, quiet=quiet)
