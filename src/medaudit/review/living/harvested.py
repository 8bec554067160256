"""What sources have told: each record is a row of ``harvested``, once; who cites whom of them.

A row that is the same work as an earlier one points to it and is not screened again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Column, Connection, Row, func, insert, or_, select, text, update

from medaudit.review import tables as t
from medaudit.review.database import now
from medaudit.review.living import add_new
from medaudit.review.living.duplicates import join, may_be_one, title_key
from medaudit.review.living.providers import Candidate, arxiv_of, doi_of, identity
from medaudit.review.words import folded

BY = "living search"
"""Who the log says has done it."""


@dataclass
class Harvested:
    """A row of ``harvested`` while a page is written."""

    id: int
    root: int
    doi: str | None
    values: dict[str, Any]


@dataclass
class _Index:
    rows: dict[int, Harvested] = field(default_factory=dict)
    by: dict[str, int] = field(default_factory=dict)

    def add(self, row: Harvested, names: Iterable[str]) -> None:
        self.rows[row.id] = row
        for name in names:
            self.by.setdefault(name, row.id)

    def get(self, names: Iterable[str]) -> Harvested | None:
        """Return the first row that bears one of the names, in their order."""
        return next((self.rows[self.by[name]] for name in names if name in self.by), None)

    def all(self, names: Iterable[str]) -> list[Harvested]:
        return [self.rows[one] for one in dict.fromkeys(self.by[name] for name in names if name in self.by)]


def ingest(connection: Connection, run_id: int, source: str, candidates: Sequence[Candidate]) -> tuple[int, int]:
    """Write a page of a run: rows that are new, works that prove to be one, who cites whom; return new and merged."""
    if connection.dialect.name == "postgresql":
        # A plan that was made while a table was empty is kept for a prepared statement, and reads all of it later on.
        connection.execute(text("SET LOCAL plan_cache_mode = force_custom_plan"))
    index = rows_like(connection, candidates)
    new = merged = 0
    found: dict[int, None] = {}
    cited: list[tuple[int, tuple[str, ...]]] = []
    for candidate in candidates:
        own, alike = names_of(candidate), _alike(candidate)
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
            refresh(connection, here, candidate)
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
        flag_taken_back(connection, candidate)
    add_new(connection, t.found, [{"run_id": run_id, "harvested_id": one} for one in found])
    _cite(connection, source, cited)
    return new, merged


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


def rows_like(connection: Connection, candidates: Sequence[Candidate]) -> _Index:
    """Return the rows that could be one of the candidates, and the roots that they point to."""
    names = {name for one in candidates for name in (*names_of(one), *_alike(one))}
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


def names_of(candidate: Candidate) -> tuple[str, ...]:
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


def _one_work(candidate: Candidate, row: Harvested, index: _Index) -> bool:
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


def _insert(connection: Connection, candidate: Candidate, run_id: int, root: int | None) -> Harvested:
    values = _row(candidate, run_id) | {"merged_into": root}
    number = int(connection.execute(insert(t.harvested).values(**values)).inserted_primary_key[0])  # type: ignore[index]
    return Harvested(number, root or number, candidate.doi, values)


def _of_row(row: Row[Any]) -> Harvested:
    return Harvested(row.id, row.merged_into or row.id, row.doi, dict(row._mapping))


def row_of(connection: Connection, number: int) -> Harvested:
    """Return the row of ``harvested`` with that number."""
    return _of_row(connection.execute(select(t.harvested).where(t.harvested.c.id == number)).one())


def refresh(connection: Connection, here: Harvested, candidate: Candidate) -> None:
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


def flag_taken_back(connection: Connection, candidate: Candidate) -> None:
    """Mark the works that this record takes back."""
    for doi, day in candidate.retracts:
        connection.execute(
            update(t.harvested)
            .where(t.harvested.c.doi == doi, t.harvested.c.retracted.is_(None))
            .values(retracted=_day(day))
        )


def flag(connection: Connection, ids: Sequence[int], day: str) -> None:
    """Mark rows as retracted on a day, unless an earlier one is known."""
    connection.execute(
        update(t.harvested)
        .where(t.harvested.c.id.in_(ids), t.harvested.c.retracted.is_(None))
        .values(retracted=_day(day))
    )


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
