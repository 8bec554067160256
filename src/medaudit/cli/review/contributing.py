"""`medaudit review`: from a proposal to what is public: import, queue, diff, accept, reject, retire."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from medaudit.cli import options
from medaudit.cli.review.opening import DEFAULT, As, Db, Note, Number, opened_as, opened_at, who
from medaudit.errors import DataError, UsageError


def import_(
    what: Annotated[str, typer.Argument(metavar="WHAT", help="idc, computed, croissant, bibtex, ris, csv or yaml.")],
    paths: Annotated[list[Path] | None, typer.Argument(metavar="FILE...", help="What to read; none for idc.")] = None,
    db: Db = DEFAULT,
    as_: As = None,
    note: Note = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be proposed, and propose nothing.")
    ] = False,
) -> None:
    """Propose the records of a catalogue or of files; another person accepts them.

    Example: medaudit review import idc --db review.sqlite
    """
    from medaudit.review import workflow

    records = _records(what, paths or [])
    with opened_at(db) as opened:
        with opened.reading() as connection:
            changes = workflow.putting(connection, records)
        if dry_run or not changes:
            print(f"{len(records)} records read, {len(changes)} new or changed")
            return
        with opened.writing() as connection:
            author = who(connection, as_)
            number = workflow.propose(connection, author, f"Import {what}", changes, note=note)
    print(f"contribution {number}: {len(changes)} records proposed; another person publishes them with")
    print(f"  medaudit review accept {number} --db {db} --as NAME")


def queue(
    db: Db = DEFAULT,
    state: Annotated[
        str, typer.Option("--state", help="submitted, changes requested, accepted, rejected, withdrawn.")
    ] = "submitted",
    json: options.Json = False,
) -> None:
    """List contributions: what waits for a second person.

    Example: medaudit review queue
    """
    from medaudit.cli import show
    from medaudit.review import workflow
    from medaudit.review.people import Person

    with opened_at(db) as opened, opened.reading() as connection:
        found = workflow.listed(connection, Person(0, "", "reviewer"), state, 0, 1_000)
    if json:
        show.json_of(found)
    else:
        show.table(("number", "state", "author", "created", "title"),
                   [(str(c["id"]), c["state"], c["author"], c["created"][:16], c["title"]) for c in found])  # fmt: skip


def diff(number: Number, db: Db = DEFAULT, json: options.Json = False) -> None:
    """Print what a contribution changes, by field.

    Example: medaudit review diff 7
    """
    from dataclasses import asdict

    from medaudit.cli import show
    from medaudit.review import checks, workflow

    with opened_at(db) as opened, opened.reading() as connection:
        found = workflow.contribution(connection, number)
        told = workflow.steps(connection, found)
        said = checks.checked(connection, [c.record for c in found.changes if c.record is not None][:200])
    if json:
        show.json_of(
            {"contribution": number, "state": found.state, "remarks": [asdict(one) for one in said],
             "changes": [{"kind": c.kind, "slug": c.slug, "fresh": fresh, "fields": [asdict(d) for d in steps]}
                         for c, fresh, steps in told]}
        )  # fmt: skip
        return
    print(f"{number}: {found.title} ({found.state}, by {found.author})")
    for change, fresh, steps in told:
        what = "new" if change.base == 0 else "retire" if change.record is None else f"over revision {change.base}"
        print(f"{change.kind} {change.slug}: {what}{'' if fresh else '; HAS CHANGED SINCE'}")
        if change.base:
            show.text(f"  {step.op} {step.path}: {step.old!r} -> {step.new!r}" for step in steps)
    show.text(f"{one.level}: {one.where}: {one.text}" for one in said)


def accept(number: Number, db: Db = DEFAULT, as_: As = None, note: Note = "") -> None:
    """Publish somebody else's contribution.

    Example: medaudit review accept 7 --as grace
    """
    from medaudit.review import workflow

    with opened_as(db, as_) as (connection, who):
        put = workflow.accept(connection, who, number, note)
    print(f"contribution {number} is public: {len(put)} records")


def reject(
    number: Number,
    reason: Annotated[str, typer.Option("--reason", help="no source, duplicate, out of scope, spam, other ...")],
    db: Db = DEFAULT,
    as_: As = None,
    note: Note = "",
) -> None:
    """Reject somebody else's contribution; its author sees the reason.

    Example: medaudit review reject 7 --reason duplicate --as grace
    """
    from medaudit.review import workflow

    with opened_as(db, as_) as (connection, who):
        workflow.reject(connection, who, number, reason, note)
    print(f"contribution {number} is rejected: {reason}")


def retire(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="dataset, artifact or work.")],
    slug: Annotated[str, typer.Argument(metavar="SLUG", help="The record.")],
    into: Annotated[str | None, typer.Option("--into", metavar="SLUG", help="The record it is merged into.")] = None,
    db: Db = DEFAULT,
    as_: As = None,
    note: Note = "",
) -> None:
    """Propose that a record be retired, or merged into another; its address and history stay.

    Example: medaudit review retire dataset busi-2 --into busi
    """
    from medaudit.review import workflow

    with opened_as(db, as_) as (connection, who):
        rev = workflow.current(connection, [(kind, slug)]).get((kind, slug), (0, None))[0]
        change = workflow.Change(kind, slug, rev, None, into)
        title = f"Merge {kind} {slug} into {into}" if into else f"Retire {kind} {slug}"
        number = workflow.propose(connection, who, title, [change], note=note)
    print(f"contribution {number}: {title}; another person accepts it")


def _records(what: str, paths: list[Path]) -> list[Any]:
    from medaudit.review import computed
    from medaudit.review import seed as seeds
    from medaudit.review.importers import bibliography, croissant, idc, table

    if what == "idc":
        return list(idc.read(paths[0] if paths else None))
    if what == "computed":
        return list(computed.records(computed.source(paths[0] if paths else None)))
    readers: dict[str, Any] = {
        "croissant": croissant.read,
        "bibtex": bibliography.read,
        "ris": bibliography.read,
        "csv": table.read,
        "yaml": lambda path: [seeds.read_one(path)],
    }
    if what not in readers:
        raise UsageError(f"'{what}' cannot be imported; there are: idc, computed, {', '.join(readers)}")
    if not paths:
        raise UsageError(f"say which file: medaudit review import {what} FILE")
    found: list[Any] = []
    for path in paths:
        if not path.is_file():
            raise DataError(f"{path}: no such file")
        found += readers[what](path)
    return found
