"""Saved searches and their runs: what is new enters, once; a run that was cut off goes on where it stopped.

A page, what it brings and the place to go on from are written in one transaction. Each record of a source is a row of
``harvested``; a row that is the same work as an earlier one points to it and is not screened again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Column, Connection, Row, func, insert, or_, select, update

from medaudit.errors import DataError, UsageError
from medaudit.review import log
from medaudit.review import tables as t
from medaudit.review.database import Database, now
from medaudit.review.living import add_new
from medaudit.review.living.duplicates import join, may_be_one, title_key
from medaudit.review.living.providers import PROVIDERS, Candidate, arxiv_of, doi_of, fetch_one, identity, pages, split
from medaudit.review.living.transports import Bulk, Fetch, Unavailable
from medaudit.review.people import Person
from medaudit.review.words import folded

OVERLAP = timedelta(days=3)
"""How far a source is asked again before the last run: its index is behind its clock."""
_BY = "living search"


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


@dataclass(frozen=True)
class Rests:
    """Something public that rests on a retracted work: the record, the work, and as what it is named there."""

    kind: str
    slug: str
    title: str
    work: str
    work_title: str
    retracted: str
    role: str


# Queries ---------------------------------------------------------------------------------------------------------


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


# Runs ------------------------------------------------------------------------------------------------------------


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
                        new, merged = _ingest(connection, number, provider.name, page.candidates)
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
            connection, _BY, "run query", f"query:{name}",
            {"run": number, "identified": result.identified, "new": result.new, "merged": result.merged},
        )  # fmt: skip
    return result


def recheck(database: Database, fetch: Fetch, *, source: str = "openalex", most: int = 1_000) -> tuple[int, int]:
    """Ask anew for works that are screened or public; return how many were merged by the source, and newly retracted.

    A list does not name a work that was merged into another, nor one that fell out of a search: each is asked by its
    number, which OpenAlex does not charge for. Those that the last whole run found are asked last.
    """
    column = t.harvested.c.openalex if source == "openalex" else t.harvested.c.doi
    with database.reading() as connection:
        latest = select(func.max(t.found.c.run_id)).where(t.found.c.harvested_id == t.harvested.c.id).scalar_subquery()
        rows = connection.execute(
            select(t.harvested.c.id, column.label("name"))
            .where(column.is_not(None), or_(t.harvested.c.first_run.is_not(None), t.harvested.c.work_id.is_not(None)))
            .order_by(latest, t.harvested.c.id)
            .limit(most)
        ).all()
    moved = retracted = 0
    for row in rows:
        candidate = fetch_one(PROVIDERS[source], fetch, row.name)
        if candidate is None:
            continue
        with database.writing() as connection:
            before = _retracted(connection)
            known = _known(connection, [candidate])
            here = _of_id(connection, row.id)
            there = known.get(_names(candidate)) or here
            if there.id != here.id and there.root != here.root:
                older, newer = sorted((here.root, there.root))
                join(connection, older, [newer])
                log.write(
                    connection, _BY, "merge harvested", f"harvested:{older}",
                    {"dropped": newer, "because": f"{source} has {row.name} as {candidate.openalex or candidate.doi}"},
                )  # fmt: skip
            moved += candidate.openalex is not None and candidate.openalex != row.name and source == "openalex"
            _refresh(connection, there, candidate)
            if there.id != here.id and candidate.retracted:
                _flag(connection, [here.id], candidate.retracted)
            _flag_taken_back(connection, candidate)
            retracted += _retracted(connection) - before
    return moved, retracted


def enter_public(connection: Connection) -> int:
    """Enter the works that are public as known, so that a search does not bring them as new; return how many."""
    link(connection)
    linked = select(t.harvested.c.id).where(t.harvested.c.work_id == t.work.c.entity_id)
    query = select(t.work).where(
        or_(t.work.c.doi.is_not(None), t.work.c.arxiv.is_not(None), t.work.c.openalex.is_not(None)), ~linked.exists()
    )
    rows = []
    for row in connection.execute(query):
        doi, number = doi_of(row.doi), arxiv_of(row.arxiv)
        known = Candidate("", row.title, doi=doi, arxiv=number, openalex=row.openalex, year=row.year)
        rows.append(_row(known, None) | {"work_id": row.entity_id})
    return add_new(connection, t.harvested, rows)


def link(connection: Connection) -> None:
    """Let harvested records point to the public works that they are, by identifier; follow works that were merged."""
    heir = select(t.entity.c.redirect_to).where(t.entity.c.id == t.harvested.c.work_id).scalar_subquery()
    gone = select(t.entity.c.id).where(t.entity.c.status == "tombstone")
    connection.execute(update(t.harvested).where(t.harvested.c.work_id.in_(gone)).values(work_id=heir))
    for name in ("doi", "arxiv", "openalex"):
        same = t.work.c[name] == t.harvested.c[name]
        found = select(func.min(t.work.c.entity_id)).where(same).scalar_subquery()
        known = select(t.work.c.entity_id).where(same).exists()
        connection.execute(
            update(t.harvested)
            .where(t.harvested.c.work_id.is_(None), t.harvested.c[name].is_not(None), known)
            .values(work_id=found)
        )


def retracted_sources(connection: Connection) -> list[Rests]:
    """Return the public artifacts, datasets and works that rest on a retracted work, by kind and slug.

    ``role``: ``source`` (the artifact stands in it), ``producer`` (it presents the dataset), ``claim`` (a number is
    taken from it), ``itself``.
    """
    # A work is retracted if any record of it is: the publication may be, where the search first met the preprint.
    root = func.coalesce(t.harvested.c.merged_into, t.harvested.c.id)
    flagged = select(root.label("root"), func.min(t.harvested.c.retracted).label("day")).group_by(root)
    flagged_roots = flagged.where(t.harvested.c.retracted.is_not(None)).subquery()
    rows = connection.execute(
        select(t.harvested.c.work_id, flagged_roots.c.day)
        .join(flagged_roots, or_(t.harvested.c.id == flagged_roots.c.root,
                                 t.harvested.c.merged_into == flagged_roots.c.root))
        .where(t.harvested.c.work_id.is_not(None))
    )  # fmt: skip
    days: dict[int, str] = {row.work_id: row.day for row in rows}
    said = connection.execute(select(t.work.c.entity_id, t.work.c.retracted).where(t.work.c.retracted.is_not(None)))
    days |= {row.entity_id: row.retracted for row in said}
    edges: set[tuple[int, int, str]] = {(work, work, "itself") for work in days}
    for start in range(0, len(days), 400):
        part = list(days)[start : start + 400]
        for row in connection.execute(
            select(t.relation.c.subject_id, t.relation.c.verb, t.relation.c.object_id).where(
                t.relation.c.subject_id.in_(part), t.relation.c.verb.in_(("SOURCE", "PRODUCE"))
            )
        ):
            edges.add((row.object_id, row.subject_id, "source" if row.verb == "SOURCE" else "producer"))
        claims = select(t.claim.c.entity_id, t.claim.c.work_id).where(t.claim.c.work_id.in_(part)).distinct()
        edges |= {(row.entity_id, row.work_id, "claim") for row in connection.execute(claims)}
    wanted = sorted({one for edge in edges for one in edge[:2]})
    names: dict[int, Row[Any]] = {}
    for start in range(0, len(wanted), 400):
        entities = connection.execute(select(t.entity).where(t.entity.c.id.in_(wanted[start : start + 400])))
        names |= {row.id: row for row in entities}
    found = [
        Rests(
            names[a].kind, names[a].slug, names[a].title, names[b].slug, names[b].title, days[b], role
        )
        for a, b, role in edges
        if names[a].status == "public"
    ]  # fmt: skip
    return sorted(found, key=lambda one: (one.kind, one.slug, one.work, one.role))


# Within a run ----------------------------------------------------------------------------------------------------


@dataclass
class _Known:
    """A row of ``harvested`` while a page is written."""

    id: int
    root: int
    doi: str | None
    values: dict[str, Any]


@dataclass
class _Index:
    rows: dict[int, _Known] = field(default_factory=dict)
    by: dict[str, int] = field(default_factory=dict)

    def add(self, row: _Known, names: Iterable[str]) -> None:
        self.rows[row.id] = row
        for name in names:
            self.by.setdefault(name, row.id)

    def get(self, names: Iterable[str]) -> _Known | None:
        """Return the first row that bears one of the names, in their order."""
        return next((self.rows[self.by[name]] for name in names if name in self.by), None)

    def all(self, names: Iterable[str]) -> list[_Known]:
        return [self.rows[one] for one in dict.fromkeys(self.by[name] for name in names if name in self.by)]


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


def _ingest(connection: Connection, run_id: int, source: str, candidates: Sequence[Candidate]) -> tuple[int, int]:
    index = _known(connection, candidates)
    new = merged = 0
    found: dict[int, None] = {}
    cited: list[tuple[int, tuple[str, ...]]] = []
    for candidate in candidates:
        own, alike = _names(candidate), _alike(candidate)
        here = index.get(own)
        if here is None:
            rows = [one for one in index.all(alike) if _one_work(candidate, one, index)]
            root = min((one.root for one in rows), default=None)
            here = _insert(connection, candidate, run_id, root)
            new, merged = (new + 1, merged) if root is None else (new, merged + 1)
        else:
            if here.values["first_run"] is None and here.values["work_id"] is None and here.root == here.id:
                # Known only as somebody's reference so far: now it is a work to screen.
                connection.execute(update(t.harvested).where(t.harvested.c.id == here.id).values(first_run=run_id))
                here.values["first_run"] = run_id
                new += 1
            _refresh(connection, here, candidate)
            rows = index.all((*own, *(name for name in alike if not name.startswith("title:"))))
        others = {one.root for one in rows} - {here.root}
        if others and not _separated(connection, {here.id, *(one.id for one in rows)}):
            # Two rows that this record shows to be one work: the elder stays.
            eldest = min(here.root, *others)
            gone = (others | {here.root}) - {eldest}
            join(connection, eldest, gone)
            for one in index.rows.values():
                one.root = eldest if one.root in gone else one.root
            here.root = eldest
        index.add(here, (*own, *alike))
        found[here.id] = None
        if candidate.references:
            cited.append((here.root, candidate.references))
        _flag_taken_back(connection, candidate)
    add_new(connection, t.found, [{"run_id": run_id, "harvested_id": one} for one in found])
    _cite(connection, source, cited)
    return new, merged


def _known(connection: Connection, candidates: Sequence[Candidate]) -> _Index:
    """Return the rows that could be one of the candidates, and the roots that they point to."""
    names = {name for one in candidates for name in (*_names(one), *_alike(one))}
    index, wanted = _Index(), dict[str, list[str]]()
    for name in sorted(names):
        kind, _, value = name.partition(":")
        wanted.setdefault(kind, []).append(value.partition("|")[0] if kind == "title" else value)
    columns: dict[str, Column[Any]] = {
        "doi": t.harvested.c.doi, "arxiv": t.harvested.c.arxiv, "openalex": t.harvested.c.openalex,
        "key": t.harvested.c.key, "title": t.harvested.c.folded,
    }  # fmt: skip
    for kind, values in wanted.items():
        for start in range(0, len(values), 400):
            query = select(t.harvested).where(columns[kind].in_(values[start : start + 400])).order_by(t.harvested.c.id)
            for row in connection.execute(query):
                known = _of_row(row)
                index.add(index.rows.get(known.id, known), _names_of_row(row))
    return index


def _names(candidate: Candidate) -> tuple[str, ...]:
    """Return the names of the record itself; a preprint's arXiv number is its key, a publication's shows its pair."""
    names = [f"key:{_key(candidate)}"]
    names += [f"doi:{candidate.doi}"] if candidate.doi else []
    return (*names, *([f"openalex:{candidate.openalex}"] if candidate.openalex else []))


def _alike(candidate: Candidate) -> tuple[str, ...]:
    names = list(candidate.pairs) + ([f"arxiv:{candidate.arxiv}"] if candidate.arxiv else [])
    key = title_key(candidate.title, candidate.year, candidate.first_author)
    return tuple(dict.fromkeys([*names, *([f"title:{key}"] if key else [])]))


def _names_of_row(row: Row[Any]) -> list[str]:
    names = [f"key:{row.key}"]
    names += [f"{kind}:{value}" for kind in ("doi", "openalex", "arxiv") if (value := getattr(row, kind))]
    key = title_key(row.title, row.year, row.first_author)
    return [*names, *([f"title:{key}"] if key else [])]


def _one_work(candidate: Candidate, row: _Known, index: _Index) -> bool:
    """Return whether identifiers say so, or, where only the title does, the DOIs do not speak against it."""
    sure = [*candidate.pairs, *([f"arxiv:{candidate.arxiv}"] if candidate.arxiv else [])]
    return any(index.by.get(name) == row.id for name in sure) or may_be_one(candidate.doi, row.doi)


def _separated(connection: Connection, ids: set[int]) -> bool:
    """Return whether a person took one of these apart from others: a source does not put them together again."""
    targets = [f"harvested:{one}" for one in ids]
    query = select(t.audit.c.seq).where(t.audit.c.action == "separate harvested", t.audit.c.target.in_(targets))
    return connection.execute(query.limit(1)).first() is not None


def _key(candidate: Candidate) -> str:
    name = identity(candidate)
    if name is None:
        text = f"{folded(candidate.title)}|{candidate.year}|{folded(candidate.first_author or '')}"
        name = f"title:{hashlib.sha256(text.encode()).hexdigest()[:40]}"
    return name if len(name) <= 300 else f"doi:{hashlib.sha256(name.encode()).hexdigest()}"


def _row(candidate: Candidate, run_id: int | None) -> dict[str, Any]:
    return {
        "key": _key(candidate), "doi": candidate.doi, "arxiv": candidate.arxiv, "openalex": candidate.openalex,
        "title": candidate.title, "folded": folded(candidate.title), "year": candidate.year,
        "first_author": candidate.first_author, "venue": candidate.venue or None,
        "abstract": candidate.abstract or None, "retracted": _day(candidate.retracted), "first_run": run_id,
        "work_id": None, "merged_into": None,
    }  # fmt: skip


def _insert(connection: Connection, candidate: Candidate, run_id: int, root: int | None) -> _Known:
    values = _row(candidate, run_id) | {"merged_into": root}
    number = int(connection.execute(insert(t.harvested).values(**values)).inserted_primary_key[0])  # type: ignore[index]
    return _Known(number, root or number, candidate.doi, values)


def _of_row(row: Row[Any]) -> _Known:
    return _Known(row.id, row.merged_into or row.id, row.doi, dict(row._mapping))


def _of_id(connection: Connection, number: int) -> _Known:
    return _of_row(connection.execute(select(t.harvested).where(t.harvested.c.id == number)).one())


def _refresh(connection: Connection, here: _Known, candidate: Candidate) -> None:
    """Fill in what was not known, and follow a new number; what a source no longer says is kept."""
    row = _row(candidate, None)
    values = {
        name: row[name]
        for name in ("doi", "arxiv", "year", "first_author", "venue", "abstract", "retracted")
        if here.values.get(name) is None and row[name] is not None
    }
    if candidate.openalex and candidate.openalex != here.values.get("openalex"):
        values["openalex"] = candidate.openalex
    if not here.values.get("title") and candidate.title:
        values |= {"title": row["title"], "folded": row["folded"]}
    if values:
        connection.execute(update(t.harvested).where(t.harvested.c.id == here.id).values(**values))
        here.values |= values
        here.doi = here.values.get("doi")


def _flag_taken_back(connection: Connection, candidate: Candidate) -> None:
    for doi, day in candidate.retracts:
        connection.execute(
            update(t.harvested)
            .where(t.harvested.c.doi == doi, t.harvested.c.retracted.is_(None))
            .values(retracted=_day(day))
        )


def _flag(connection: Connection, ids: Sequence[int], day: str) -> None:
    connection.execute(
        update(t.harvested)
        .where(t.harvested.c.id.in_(ids), t.harvested.c.retracted.is_(None))
        .values(retracted=_day(day))
    )


def _retracted(connection: Connection) -> int:
    return int(connection.scalar(select(func.count()).where(t.harvested.c.retracted.is_not(None))) or 0)


def _day(said: str | None) -> str | None:
    """Return the day of the retraction; where the source gives none, the day that we learned of it."""
    return now()[:10] if said == "unknown" else said


def _cite(connection: Connection, source: str, cited: Sequence[tuple[int, tuple[str, ...]]]) -> None:
    """Write which of the known works these cite; a reference to a work that is not known says nothing to us."""
    wanted = {name for _, names in cited for name in names}
    there: dict[str, int] = {}
    for kind, column in (("doi", t.harvested.c.doi), ("openalex", t.harvested.c.openalex)):
        values = sorted(name.partition(":")[2] for name in wanted if name.startswith(f"{kind}:"))
        for start in range(0, len(values), 400):
            query = select(t.harvested.c.id, t.harvested.c.merged_into, column.label("name"))
            for row in connection.execute(query.where(column.in_(values[start : start + 400]))):
                there[f"{kind}:{row.name}"] = row.merged_into or row.id
    at = now()
    rows = {
        (citing, there[name]): None
        for citing, names in cited
        for name in names
        if name in there and there[name] != citing
    }
    add_new(
        connection,
        t.cites,
        [{"citing_id": a, "cited_id": b, "source": source, "first_seen": at} for a, b in rows],
    )


__all__ = [
    "Query", "Rests", "Run", "due", "enter_public", "link", "listed", "named", "recheck", "retire",
    "retracted_sources", "run", "runs", "save",
]  # fmt: skip
