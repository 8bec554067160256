"""`medaudit publish`: propose a run's findings to the living review, so that the next person is warned."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from medaudit.cli import options


def publish(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    to: Annotated[
        str, typer.Option("--to", metavar="DB", envvar="MEDAUDIT_REVIEW", help="The review: a file or an address.")
    ],
    about: Annotated[str, typer.Option("--about", metavar="DATASET", help="The dataset: its slug, name or DOI.")],
    as_: Annotated[
        str | None,
        typer.Option("--as", metavar="NAME", help="Who you are in the review; your login name where not given."),
    ] = None,
    finding: Annotated[
        list[str],
        typer.Option("--finding", metavar="ID", help="Only this finding, as gap:age:dice; repeat for several."),
    ] = [],
    title: Annotated[
        str | None, typer.Option("--title", help="The artifact's title; else the first finding's.")
    ] = None,
    severity: Annotated[
        str | None, typer.Option("--severity", help="info, minor, major or critical; else by what was found.")
    ] = None,
    version: Annotated[
        str, typer.Option("--dataset-version", help="The version of the dataset that was audited.")
    ] = "",
    interests: Annotated[
        str, typer.Option("--interests", help="What you have to do with the data or its makers.")
    ] = "",
    json: options.Json = False,
) -> None:
    """Propose a run's findings as an artifact of its dataset; another person publishes it.

    Example: medaudit publish runs/hc18 --to review.sqlite --about hc18
    """
    from medaudit.cli import review, show
    from medaudit.errors import UsageError
    from medaudit.report import Run
    from medaudit.review import published, views, workflow
    from medaudit.review.web.submitting import free_slug

    finished = Run.read(run)
    found = finished.findings()
    if finding:
        known = {one.id for one in found}
        strange = [name for name in finding if name not in known]
        if strange:
            raise UsageError(f"the run has no finding '{strange[0]}'; `medaudit report {run}` lists them")
        found = [one for one in found if one.id in finding]
    record = dataclasses.asdict(dataclasses.replace(finished, _lock=None))
    with review._open(to) as opened, opened.writing() as connection:
        slugs = views.resolve(connection, about)
        if len(slugs) > 1:
            raise UsageError(f"'{about}' may be {', '.join(slugs)}; say which")
        slug = slugs[0] if slugs else free_slug(connection, "dataset", about)
        artifact = published.artifact(slug, found, record, title=title, severity=severity, version=version)
        changes = workflow.putting(connection, published.proposal(bool(slugs), slug, artifact))
        if not changes:
            number = None
        else:
            name = f"Findings of medaudit {finished.verb} about {slug}"
            number = workflow.propose(connection, review._who(connection, as_), name, changes, interests=interests)
    if json:
        show.json_of({"contribution": number, "artifact": artifact.plain()})
    elif number is None:
        print(f"{to} has this run's findings already: artifact '{artifact.slug}'")
    else:
        print(f"contribution {number}: '{artifact.title}' is proposed; another person publishes it with")
        print(f"  medaudit review accept {number} --db {to} --as NAME")
