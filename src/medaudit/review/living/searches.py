"""Saved searches and their runs: what is new enters, once; a run that was cut off goes on where it stopped.

A page, what it brings and the place to go on from are written in one transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from medaudit.errors import DataError, UsageError
from medaudit.review import log
from medaudit.review import tables as t
from medaudit.review.database import Database, now
from medaudit.review.living.harvested import BY, enter_public, ingest, link
from medaudit.review.living.providers import PROVIDERS, pages, split
from medaudit.review.living.transports import Bulk, Fetch, Unavailable
from medaudit.review.people import Person

OVERLAP = timedelta(days=3)
"""How far a source is asked again before the last run: its index is behind its clock."""


@dataclass(frozen=True)
class Query:
    """A saved search; ``since``: when its last whole run began."""

    id: int
    name: str
    provider: str
    expression: str
    every_days: int
    since: str | None
    retired: str | None
    unfinished: bool


@dataclass(frozen=True)
class Run:
    """What a run found: records it identified, those that were new, and those new ones that were a known work."""

    id: int
    query: str
    started: str
    finished: str | None
    identified: int
    new: int
    merged: int
    error: str | None


def save(
    connection: Connection, person: Person, name: str, provider: str, expression: str, every_days: int = 30
) -> int:
    """Save a search; return its number. To change one, retire it and save another: the methods stay on record.

    Raises Forbidden, UsageError where the name is taken, the source unknown, or the expression none of its.
    """
    person.must("screen")
    name = " ".join(name.split())
    if provider not in PROVIDERS:
        raise UsageError(f"'{provider}' is no source; there are: {', '.join(PROVIDERS)}")
    split(PROVIDERS[provider], expression)
    if not 1 <= len(name) <= 120 or not 1 <= every_days <= 3650:
        raise UsageError("a search needs a name of 1 to 120 letters, and 1 to 3,650 days between its runs")
    if connection.scalar(select(t.query.c.id).where(t.query.c.name == name)) is not None:
        raise UsageError(f"there is already a search '{name}'; retire it and save another under a new name")
    values = {"name": name, "provider": provider, "expression": expression, "every_days": every_days}
    number = int(connection.execute(insert(t.query).values(**values)).inserted_primary_key[0])  # type: ignore[index]
    log.write(connection, person.name, "save query", f"query:{name}", values)
    return number


def retire(connection: Connection, person: Person, name: str, reason: str) -> None:
    """Stop a search; what it found stays. ``reason`` is told in the report."""
    person.must("screen")
    query = named(connection, name)
    if query.retired:
        raise UsageError(f"search '{name}' is retired already")
    if not reason.strip():
        raise UsageError("say why the search is retired")
    connection.execute(update(t.query).where(t.query.c.id == query.id).values(retired=now(), cursor=None))
    _abandon(connection, query.id, "the search was retired")
    log.write(connection, person.name, "retire query", f"query:{name}", {"reason": reason[:500]})


def listed(connection: Connection, *, retired: bool = False) -> list[Query]:
    """Return the saved searches by name; with ``retired`` those too that are no longer run."""
    query = select(t.query).where(t.query.c.provider.in_(PROVIDERS))
    rows = connection.execute(
        (query if retired else query.where(t.query.c.retired.is_(None))).order_by(t.query.c.name)
    ).all()
    open_runs = set(connection.scalars(select(t.search_run.c.query_id).where(t.search_run.c.finished.is_(None))))
    return [
        Query(
            row.id, row.name, row.provider, row.expression, row.every_days, row.since, row.retired,
            row.id in open_runs,
        )
        for row in rows
    ]  # fmt: skip


def named(connection: Connection, name: str) -> Query:
    """Return the search of that name; UsageError naming those there are."""
    there = listed(connection, retired=True)
    for query in there:
        if query.name == name:
            return query
    raise UsageError(f"there is no search '{name}'; there are: {', '.join(one.name for one in there[:20]) or 'none'}")


def due(connection: Connection, at: str | None = None) -> list[Query]:
    """Return the searches whose time has come at ``at`` (now), and those whose last run was cut off."""
    moment = datetime.fromisoformat(at or now())
    return [
        query
        for query in listed(connection)
        if query.unfinished
        or query.since is None
        or datetime.fromisoformat(query.since) + timedelta(days=query.every_days) <= moment
    ]


def runs(connection: Connection, name: str | None = None) -> list[Run]:
    """Return the runs of a search, or of all, the newest first."""
    query = select(t.search_run, t.query.c.name).join(t.query, t.query.c.id == t.search_run.c.query_id)
    query = query.where(t.query.c.provider.in_(PROVIDERS))
    query = query.where(t.query.c.name == name) if name is not None else query
    return [
        Run(row.id, row.name, row.started, row.finished, row.identified, row.new, row.merged, row.error)
        for row in connection.execute(query.order_by(t.search_run.c.id.desc()))
    ]


def run(database: Database, name: str, source: Fetch | Bulk) -> Run:
    """Run a search to its end, page by page; return what it found.

    Where the last run was cut off, it goes on. Raises UsageError where the search is retired or runs elsewhere at the
    same time, :class:`Unavailable` where the source does not answer: what was read is kept, call it again later.
    """
    with database.writing() as connection:
        query = named(connection, name)
        if query.retired:
            raise UsageError(f"search '{name}' was retired")
        number, started, cursor = _begin(connection, query)
        enter_public(connection)
    provider = PROVIDERS[query.provider]
    since = (datetime.fromisoformat(query.since) - OVERLAP).isoformat() if query.since else None
    resumed, first = cursor is not None, True
    try:
        while True:
            try:
                for page in pages(provider, source, query.expression, since=since, cursor=cursor):
                    with database.writing() as connection:
                        _advance(connection, query, number, cursor, page.cursor)
                        new, merged = ingest(connection, number, provider.name, page.candidates)
                        _count(connection, number, new, merged)
                    cursor, first = page.cursor, False
                break
            except Unavailable:
                # A source forgets its cursors (Crossref after minutes): begin again, what is known stays known.
                if not (resumed and first):
                    raise
                with database.writing() as connection:
                    _advance(connection, query, number, cursor, None)
                cursor, resumed = None, False
    except (DataError, UsageError) as error:
        with database.writing() as connection:
            connection.execute(update(t.search_run).where(t.search_run.c.id == number).values(error=str(error)[:1_000]))
        raise
    with database.writing() as connection:
        link(connection)
        values: dict[str, Any] = {"finished": now(), "error": None}
        done = connection.execute(
            update(t.search_run).where(t.search_run.c.id == number, t.search_run.c.finished.is_(None)).values(**values)
        )
        if done.rowcount != 1:
            raise UsageError(f"search '{name}' was retired or run elsewhere meanwhile")
        connection.execute(update(t.query).where(t.query.c.id == query.id).values(since=started, cursor=None))
        result = next(one for one in runs(connection, name) if one.id == number)
        log.write(
            connection, BY, "run query", f"query:{name}",
            {"run": number, "identified": result.identified, "new": result.new, "merged": result.merged},
        )  # fmt: skip
    return result


def _begin(connection: Connection, query: Query) -> tuple[int, str, str | None]:
    row = connection.execute(
        select(t.search_run.c.id, t.search_run.c.started, t.query.c.cursor)
        .join(t.query, t.query.c.id == t.search_run.c.query_id)
        .where(t.search_run.c.query_id == query.id, t.search_run.c.finished.is_(None))
    ).first()
    if row is not None:
        return row.id, row.started, row.cursor
    started = now()
    result = connection.execute(
        insert(t.search_run).values(query_id=query.id, started=started, identified=0, new=0, merged=0)
    )
    return int(result.inserted_primary_key[0]), started, None  # type: ignore[index]


def _advance(connection: Connection, query: Query, number: int, was: str | None, becomes: str | None) -> None:
    """Move the cursor, if it is still where this run left it: two processes do not run one search."""
    there = t.query.c.cursor.is_(None) if was is None else t.query.c.cursor == was
    open_run = select(t.search_run.c.id).where(t.search_run.c.id == number, t.search_run.c.finished.is_(None))
    moved = connection.execute(
        update(t.query).where(t.query.c.id == query.id, there, open_run.exists()).values(cursor=becomes)
    )
    if moved.rowcount != 1:
        raise UsageError(f"search '{query.name}' runs elsewhere, or was retired meanwhile")


def _abandon(connection: Connection, query_id: int, why: str) -> None:
    connection.execute(
        update(t.search_run)
        .where(t.search_run.c.query_id == query_id, t.search_run.c.finished.is_(None))
        .values(finished=now(), error=why)
    )


def _count(connection: Connection, number: int, new: int, merged: int) -> None:
    found = select(func.count()).where(t.found.c.run_id == number).scalar_subquery()
    connection.execute(
        update(t.search_run)
        .where(t.search_run.c.id == number)
        .values(identified=found, new=t.search_run.c.new + new, merged=t.search_run.c.merged + merged)
    )
