"""`medaudit demo`: one simulated dataset goes through the loop, from what is known of it to a published finding."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medaudit.cli import options

if TYPE_CHECKING:
    from medaudit.cohort import Known

STEPS = ("labels", "diagnosis", "uncertainty", "explanation")


def demo(
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder of the walk: index.html, and a run a step.")
    ] = Path("runs/demo"),
    step: Annotated[
        list[str],
        typer.Option("--step", metavar="NAME", help="Only this one; repeat. Default: all, in their order."),
    ] = list(STEPS),
    size: Annotated[int, typer.Option("--size", min=30, help="How many simulated patients.")] = 300,
    seed: options.Seed = 0,
    jobs: options.Jobs = -1,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Take one simulated dataset through the loop, from what is known of it to a finding that warns the next person.

    Planted are worse automated labels for the young, and a scanner that differs. Labels are audited, a model's gap is
    diagnosed, its uncertainty and an explanation are tested; each step says what it found beside what was planted, and
    its findings are published in a review. A walk that was stopped goes on where it was.

    Example: medaudit demo --out runs/demo
    """
    from medaudit.audits.demonstration import page, steps, walk
    from medaudit.cli import show
    from medaudit.review import demonstration

    walk.begin(out, step, size=size, seed=seed)
    db = out / "review.sqlite"
    demonstration.begin(db, steps.looks())
    before, told, done = _known(db, new=False), not (json or quiet), []
    published: dict[str, str] = {}
    if told:
        show.text(["known before", *(f"  {one.severity}: {one.text}" for one in before), ""])
    for one in walk.walk(out, step, size=size, seed=seed, known=before, jobs=jobs, progress=not quiet):
        done.append(one)
        published[one.step.name] = _published(one.run, db)
        if told:
            checks = [(c.planted, c.finding, c.found, c.said) for c in one.checks]
            show.text([f"{one.step.name}: {one.step.title}", *textwrap.wrap(one.headline, 96)])
            show.table(("planted", "finding", "verdict", "compared"), checks)
            show.text([f"report: {one.run / 'report.html'}", published[one.step.name], ""])
    now = _known(db, new=True)
    commands = [
        f"medaudit serve {out} --db {db}",
        f"medaudit review check {demonstration.DATASET} --db {db}",
    ]
    index = page.write(out, done, before=before, now=now, published=published, commands=commands)
    if json:
        show.json_of([
            {"step": one.step.name, "run": str(one.run), "checks": [vars(check) for check in one.checks],
             "findings": [finding.as_dict() for finding in one.findings]} for one in done
        ])  # fmt: skip
    elif not quiet:
        show.text([
            f"known from now on: {len(now)} warnings about {demonstration.DATASET}, {len(before)} of them from before",
            *(f"  {command}" for command in commands), f"page: {index}",
        ])  # fmt: skip


def _known(db: Path, *, new: bool) -> Sequence[Known]:
    """Return what the review warns of: before the walk, or with what the walk has published (``new``)."""
    from medaudit.cli.review.opening import opened_at
    from medaudit.cohort import Known
    from medaudit.review import demonstration

    with opened_at(str(db)) as opened, opened.reading() as connection:
        found = demonstration.known(connection)
    shown = found if new else demonstration.before(found)
    return [Known(one.severity, one.text, ", ".join(source.title for source in one.sources)) for one in shown]


def _published(run: Path, db: Path) -> str:
    """Propose a run's findings as one person and publish them as another; return what became of them, in words."""
    from medaudit.cli.publish import proposed
    from medaudit.cli.review.opening import opened_at
    from medaudit.review import demonstration

    number, artifact, _ = proposed(
        run, to=str(db), about=demonstration.DATASET, name=demonstration.AUTHOR, findings=[]
    )  # fmt: skip
    if number is None:
        return f"published before: {artifact.slug} in {db}"
    with opened_at(str(db)) as opened, opened.writing() as connection:
        state = demonstration.accept(connection, number)
    return (
        f"published: {artifact.slug} in {db}, contribution {number}, proposed by {demonstration.AUTHOR} and {state} by "
        f"{demonstration.REVIEWER}"
    )
