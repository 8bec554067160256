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
    """Simulate a breast-MRI cohort whose automated labels are worse for the young, audit it, propose what is found.

    Example: medaudit demo --out runs/demo
    """
    from medaudit.audits.demonstration import planted, run
    from medaudit.cli import show

    result = run(out, size=size, seed=seed, jobs=jobs, progress=not quiet)
    if not (json or quiet):
        show.text(planted(result))
    show.findings(result.findings, out=out, json=json, quiet=quiet)
    where, number = reviewed(out)
    if json or quiet:
        return
    if number is None:
        show.text([f"review: what was found is public in {where}; read it with"])
    else:
        show.text(
            (
                f"review: what was found is contribution {number} of {where}; another person publishes it with",
                f"  medaudit review accept {number} --db {where} --as reviewer",
            )
        )
    show.text([f"  medaudit review serve --db {where}  # then http://127.0.0.1:8765"])


def reviewed(out: Path) -> tuple[Path, int | None]:
    """Propose the run's findings to a review of its own beside the report; return where it is, and the contribution."""
    import contextlib

    from medaudit.cli.publish import proposed
    from medaudit.review import database, people, seed, start

    where = out / "review.sqlite"
    if not where.exists():
        part = out / ".review.sqlite"
        for leftover in out.glob(".review.sqlite*"):
            leftover.unlink()
        with contextlib.closing(database.connect(part, create=True)) as opened:
            start.plant(opened, seed.read())
            with opened.writing() as connection:
                people.add(connection, "demo", "contributor")
                people.add(connection, "reviewer", "reviewer")
        part.rename(where)
    number, _, _ = proposed(
        out, to=str(where), about="simulated-breast-mri", name="demo", findings=[],
        description="Simulated breast DCE-MRI with automated labels that are worse for the young by design.",
    )  # fmt: skip
    return where, number
