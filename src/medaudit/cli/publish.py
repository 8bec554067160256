"""`medaudit publish`: propose a run's findings to the living review, so that the next person is warned."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

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
    title: Annotated[str | None, typer.Option("--title", help="The artifact's title; else the first claim.")] = None,
    severity: Annotated[
        str | None, typer.Option("--severity", help="info, minor, major or critical; else by what was found.")
    ] = None,
    version: Annotated[
        str, typer.Option("--dataset-version", metavar="LABEL", help="The version of the dataset that was audited.")
    ] = "",
    interests: Annotated[
        str, typer.Option("--interests", metavar="TEXT", help="What you have to do with the data or its makers.")
    ] = "",
    json: options.Json = False,
) -> None:
    """Propose a run's findings as an artifact of its dataset; another person publishes it.

    Example: medaudit publish runs/hc18 --to review.sqlite --about hc18
    """
    from medaudit.cli import show

    number, artifact, state = proposed(
        run, to=to, about=about, name=as_, findings=finding, title=title, severity=severity, version=version,
        interests=interests,
    )  # fmt: skip
    if json:
        show.json_of({"contribution": number, "state": state, "artifact": artifact.plain()})
    elif number is None:
        print(f"{to} has this run's findings already: artifact '{artifact.slug}'")
    elif state != "submitted":
        print(f"contribution {number} had these findings already; it is {state}")
    else:
        print(f"contribution {number}: '{artifact.title}' is proposed; another person publishes it with")
        print(f"  medaudit review accept {number} --db {to} --as NAME")


def proposed(
    run: Path, *, to: str, about: str, name: str | None, findings: list[str], title: str | None = None,
    severity: str | None = None, version: str = "", interests: str = "", description: str = "",
) -> tuple[int | None, Any, str]:  # fmt: skip
    """Propose a run's findings; return the contribution's number (None: public already), the artifact, its state."""
    from medaudit.cli.review.opening import opened_as
    from medaudit.errors import UsageError
    from medaudit.report import Run
    from medaudit.review import published, views, workflow
    from medaudit.review.records import Record, digest

    finished = Run.read(run)
    found = finished.findings()
    known = {one.id for one in found}
    strange = [one for one in findings if one not in known]
    if strange:
        raise UsageError(f"the run has no finding '{strange[0]}'; `medaudit report {run}` lists them")
    if findings:
        found = [one for one in found if one.id in findings]
    record = {field.name: getattr(finished, field.name) for field in dataclasses.fields(finished)}
    with opened_as(to, name) as (connection, person):
        slugs = views.resolve(connection, about)
        if len(slugs) > 1:
            raise UsageError(f"'{about}' may be {', '.join(slugs)}; say which")
        slug = slugs[0] if slugs else workflow.free_slug(connection, "dataset", about)
        artifact = published.artifact(slug, found, record, title=title, severity=severity, version=version)
        wanted: list[Record] = [artifact] if slugs else [published.stub(slug, description), artifact]
        changes = workflow.putting(connection, wanted)
        if not changes:
            return None, artifact, "accepted"
        said = f"Findings of medaudit {finished.verb} about {slug}"
        key = digest(artifact.plain())  # the same findings published twice are one contribution
        number = workflow.propose(connection, person, said, changes, interests=interests, request_key=key)
        return number, artifact, workflow.contribution(connection, number).state
