"""`medaudit report`: the findings of a finished run, and its report made anew; or the first screens of many."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medaudit.cli import options


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run; with --gallery, of runs.")],
    gallery: Annotated[
        bool, typer.Option("--gallery", help="Write RUN/gallery.html: the first screen of every run below it.")
    ] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Print a run's findings, and write its report.html anew with this version's layout.

    With --gallery, write one page with the first screen of every finished run below a folder instead.

    Example: medaudit report runs/hc18
    """
    from medaudit.cli import show
    from medaudit.report import Run

    if gallery:
        from medaudit.report import overview

        path, screens = overview.write_gallery(run)
        if json:
            show.json_of([{"run": one.name, "report": one.address, "headline": one.report.headline} for one in screens])
        elif not quiet:
            show.text([f"{path}: {len(screens)} runs"])
        return
    finished = Run.read(run)
    finished.render_again()
    show.findings(finished.findings(), out=run, json=json, quiet=quiet)
