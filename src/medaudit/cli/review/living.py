"""`medaudit review`: what keeps a review alive: saved searches, harvest, screening, numbers computed again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from medaudit.cli import options
from medaudit.cli.review.opening import DEFAULT, As, Db, SeedOrDb, opened_as, opened_at
from medaudit.errors import DataError, UsageError


def recompute(
    slugs: Annotated[
        list[str] | None,
        typer.Argument(metavar="SLUG...", help="Computed artifacts; none: all that can be recomputed here."),
    ] = None,
    tables: Annotated[
        Path | None, typer.Option("--tables", metavar="WHEEL|DIR", help="Where torchxrayvision's label tables are.")
    ] = None,
    db: SeedOrDb = None,
    json: options.Json = False,
) -> None:
    """Compute published numbers again from the label tables installed here; exit code 1 where one differs.

    Example: medaudit review recompute computed-chexpert-age --tables torchxrayvision-1.5.7-py3-none-any.whl
    """
    from dataclasses import asdict

    from medaudit.cli import show
    from medaudit.review import computed, views
    from medaudit.review.asking import opened as opening
    from medaudit.review.records import Artifact

    with opening(db) as review_, review_.reading() as connection:
        found = [one for one in views.records(connection, "artifact") if isinstance(one, Artifact) and one.recompute]
    if slugs:
        strange = [slug for slug in slugs if slug not in {one.slug for one in found}]
        if strange:
            raise UsageError(f"'{strange[0]}' is no computed artifact of the review")
        found = [one for one in found if one.slug in slugs]
    rows, missed = {}, {}
    for one in found:
        own = tables if computed.package_of(one.recompute) == "torchxrayvision" else None
        try:
            rows[one.slug] = computed.recompute(one, computed.source_for(one, own))
        except DataError as error:
            if slugs:
                raise
            missed[one.slug] = str(error)
    wrong = {slug: [row for row in told if not row.same] for slug, told in rows.items()}
    if json:
        show.json_of(
            {"recomputed": {slug: [asdict(row) for row in told] for slug, told in rows.items()}, "missed": missed}
        )
    else:
        for slug, told in rows.items():
            print(f"{slug}: {len(told) - len(wrong[slug])} of {len(told)} numbers are the same")
            show.text(f"  {row.field}: published {row.published}, recomputed {row.recomputed}" for row in wrong[slug])
        show.text(f"{slug}: not recomputed: {why}" for slug, why in missed.items())
    raise typer.Exit(1 if any(wrong.values()) else 0)


def query_(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A saved search; none: list them.")] = None,
    db: Db = DEFAULT,
    as_: As = None,
    provider: Annotated[
        str | None, typer.Option("--provider", help="openalex, crossref, datacite or corpus: save a new search of it.")
    ] = None,
    expression: Annotated[
        str, typer.Option("--expression", help="As cites:10.1609/aaai.v33i01.3301590, search:chest x-ray bias.")
    ] = "",
    every: Annotated[int, typer.Option("--every", metavar="DAYS", min=1, help="How often it is to run.")] = 30,
    retire: Annotated[
        str | None, typer.Option("--retire", metavar="WHY", help="End the search; it stays on record.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Save, list or retire the searches that keep the review alive.

    Example: medaudit review query chexpert --provider openalex --expression cites:10.1609/aaai.v33i01.3301590
    """
    from dataclasses import asdict

    from medaudit.cli import show
    from medaudit.review.living import searches

    if name is not None and (provider is not None or retire is not None):
        with opened_as(db, as_) as (connection, who):
            if provider is not None:
                searches.save(connection, who, name, provider, expression, every)
            else:
                searches.retire(connection, who, name, str(retire))
        return
    with opened_at(db) as opened, opened.reading() as connection:
        found = [searches.named(connection, name)] if name else searches.listed(connection, retired=True)
    if json:
        show.json_of([asdict(one) for one in found])
    else:
        rows = [(q.name, q.provider, q.expression, str(q.every_days), q.since or "never") for q in found]
        show.table(("name", "provider", "expression", "days", "since"), rows)


def harvest(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A saved search.")],
    db: Db = DEFAULT,
    recorded: Annotated[
        Path | None, typer.Option("--recorded", metavar="DIR", help="Answers that were recorded: no network.")
    ] = None,
    bulk: Annotated[
        list[Path],
        typer.Option("--bulk", metavar="FILE", help="A bulk file of the source: JSONL, CSV, Parquet; repeat."),
    ] = [],
    live: Annotated[bool, typer.Option("--live", help="Ask the source itself, over the network.")] = False,
    contact: Annotated[
        str | None, typer.Option("--contact", metavar="MAIL", help="For Crossref's polite pool.")
    ] = None,
) -> None:
    """Run a saved search; what is new waits to be screened. A run that was cut off goes on.

    OpenAlex wants a key: put it into the environment's OPENALEX_KEY. Example: medaudit review harvest chexpert --live
    """
    import os

    from medaudit.review.living import searches, transports

    if sum((recorded is not None, bool(bulk), live)) != 1:
        raise UsageError("say what to search: one of --recorded DIR, --bulk FILE, --live")
    source: Any
    if recorded is not None:
        source = transports.cassette(recorded)
    elif bulk:
        source = transports.Bulk(tuple(bulk))
    else:
        source = transports.live(allow_network=True, openalex_key=os.environ.get("OPENALEX_KEY"), contact=contact)
    with opened_at(db) as opened:
        run = searches.run(opened, name, source)
    print(f"{name}: {run.identified} found, {run.new} new, {run.merged} known under another name")


def screen(
    number: Annotated[
        int | None, typer.Argument(metavar="NUMBER", help="A work; none: list what waits for you.")
    ] = None,
    db: Db = DEFAULT,
    as_: As = None,
    stage: Annotated[str, typer.Option("--stage", help="'title' or 'fulltext'.")] = "title",
    decision: Annotated[str | None, typer.Option("--decision", help="include, exclude or unsure.")] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why it is excluded: one of the coded reasons.")] = "",
    independent: Annotated[int, typer.Option("--independent", min=1, help="How many have to decide, each blind.")] = 1,
    propose: Annotated[bool, typer.Option("--propose", help="Propose the works that were included.")] = False,
    json: options.Json = False,
) -> None:
    """Screen what a search found: list what waits, decide, propose what is included.

    Example: medaudit review screen 17 --decision exclude --reason "not about a dataset" --as grace
    """
    from dataclasses import asdict

    from medaudit.cli import show
    from medaudit.review.living import screening

    with opened_as(db, as_) as (connection, who):
        if propose:
            made = screening.propose_included(connection, who, independent=independent)
            print("nothing to propose" if made is None else f"contribution {made} is proposed")
        elif number is not None:
            if decision is None:
                raise UsageError("--decision is missing: include, exclude or unsure")
            screening.decide(connection, who, number, stage, decision, reason, independent=independent)
        else:
            if stage not in ("title", "fulltext"):
                raise UsageError(f"'{stage}': expected title or fulltext")
            found = screening.queue(connection, who, stage, independent=independent)  # type: ignore[arg-type]
            if json:
                show.json_of([asdict(one) for one in found])
            else:
                show.table(("number", "year", "title"), [(str(w.id), str(w.year or ""), w.title) for w in found])
