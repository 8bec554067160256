"""`medaudit review`: what the review holds: search, show, check, changes, export, how it is made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medaudit.cli import options
from medaudit.cli.review.opening import DEFAULT, Db, SeedOrDb, opened_at
from medaudit.errors import UsageError


def search(
    query: Annotated[str, typer.Argument(metavar="QUERY", help='Words, "phrases", starts*, -without, field:value.')],
    db: Db = DEFAULT,
    limit: Annotated[int, typer.Option("--limit", min=1, max=500, help="How many at most.")] = 20,
    json: options.Json = False,
) -> None:
    """Find datasets, findings and works.

    Example: medaudit review search "chest x-ray shortcut" --json
    """
    from dataclasses import asdict

    from medaudit.cli import show
    from medaudit.review import search as searching

    with opened_at(db) as opened, opened.reading() as connection:
        found = searching.search(connection, query, limit=limit)
    if json:
        show.json_of(asdict(found))
        return
    show.table(
        ("kind", "name", "year", "title"),
        [(hit.kind, hit.slug, "" if hit.year is None else str(hit.year), hit.title) for hit in found.hits],
    )
    if found.total > len(found.hits):
        print(f"{found.total - len(found.hits)} more; --limit shows them")
    if found.perhaps:
        print(f"nothing found; did you mean: {', '.join(found.perhaps)}")


def show_(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A record's slug, or a dataset's name, alias or DOI.")],
    db: Db = DEFAULT,
    json: options.Json = False,
) -> None:
    """Print a record: for a dataset its warnings first.

    Example: medaudit review show chexpert
    """
    from medaudit.cli import show
    from medaudit.review import views
    from medaudit.review.records import as_yaml

    with opened_at(db) as opened, opened.reading() as connection:
        for slug in views.resolve(connection, name):
            found = views.shown(connection, "dataset", slug)
            if found is not None and found.record is not None:
                if json:
                    show.json_of(found.record.plain())
                else:
                    show.warnings(views.warned(connection, [slug])[0])
                    print(as_yaml(found.record.plain()), end="")
                return
        for kind in ("artifact", "work"):
            found = views.shown(connection, kind, name)
            if found is not None and found.record is not None:
                show.json_of(found.record.plain()) if json else print(as_yaml(found.record.plain()), end="")
                return
    raise UsageError(f"there is no '{name}'; look for it with `medaudit review search`")


def check(
    names: Annotated[list[str], typer.Argument(metavar="DATASET...", help="Slugs, names, aliases or DOIs.")],
    db: SeedOrDb = None,
    json: options.Json = False,
) -> None:
    """Print what whoever uses these datasets should know; patients that they share first.

    Example: medaudit review check chestx-ray14 siim-acr-ptx
    """
    from dataclasses import asdict

    from medaudit.cli import show
    from medaudit.review.asking import known

    found, unknown, source = known(names, db)
    if json:
        show.json_of({"warnings": [asdict(one) for one in found], "unknown": unknown, "source": source})
    else:
        show.warnings(found)
        show.text(f"nobody knows '{name}'" for name in unknown)
    raise typer.Exit(1 if unknown else 0)


def changes(
    earlier: Annotated[str, typer.Argument(metavar="EARLIER", help="A release.")],
    later: Annotated[str | None, typer.Argument(metavar="LATER", help="Another; none: what is public now.")] = None,
    db: Db = DEFAULT,
    json: options.Json = False,
) -> None:
    """Print what differs between two releases.

    Example: medaudit review changes v2026.11
    """
    from dataclasses import asdict

    from medaudit.cli import show
    from medaudit.review import releases

    with opened_at(db) as opened, opened.reading() as connection:
        found = releases.compare(connection, earlier, later)
    if json:
        show.json_of([asdict(one) for one in found])
        return
    for one in found:
        fields = ", ".join(dict.fromkeys(step.path.split("/")[1] for step in one.differences if step.path))
        print(f"{one.what} {one.kind} {one.slug}{f': {fields}' if one.what == 'changed' else ''}")


def export(
    form: Annotated[str, typer.Option("--format", help="croissant, bibtex, ris, csv, json, graphml or sqlite.")],
    names: Annotated[
        list[str] | None, typer.Argument(metavar="DATASET...", help="Datasets; none: everything public.")
    ] = None,
    db: Db = DEFAULT,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Where to; standard output if none.")
    ] = None,
    release: Annotated[
        str | None, typer.Option("--release", metavar="VERSION", help="As it was in a release; now if not given.")
    ] = None,
) -> None:
    """Export datasets with their findings and works, or everything.

    Example: medaudit review export --format croissant chexpert
    """
    from medaudit.review import exports

    with opened_at(db) as opened:
        if form == "sqlite":
            if out is None or release is not None:
                raise UsageError("--format sqlite needs --out FILE, and is of what is public now")
            exports.public_sqlite(opened, out)
            print(out)
            return
        with opened.reading(120) as connection:
            text = exports.text(connection, form, names or [], release)
    if out is None:
        print(text, end="" if text.endswith("\n") else "\n")
    else:
        out.write_text(text, encoding="utf-8")
        print(out)


def method(db: Db = DEFAULT) -> None:
    """Print how the review is made: the PRISMA-LSR report, generated from its searches and screening.

    Example: medaudit review method > method.md
    """
    from medaudit.review.living import prisma

    with opened_at(db) as opened, opened.reading(60) as connection:
        print(prisma.text(prisma.report(connection)))
