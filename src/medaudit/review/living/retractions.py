"""Works that were taken back: ask the sources again, and say what public knowledge rests on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, or_, select

from medaudit.review import log
from medaudit.review import tables as t
from medaudit.review.database import Database
from medaudit.review.living.duplicates import join
from medaudit.review.living.harvested import BY, flag, flag_taken_back, names_of, refresh, row_of, rows_like
from medaudit.review.living.providers import PROVIDERS, fetch_one
from medaudit.review.living.transports import Fetch


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
            known = rows_like(connection, [candidate])
            here = row_of(connection, row.id)
            there = known.get(names_of(candidate)) or here
            if there.id != here.id and there.root != here.root:
                older, newer = sorted((here.root, there.root))
                join(connection, older, [newer])
                log.write(
                    connection, BY, "merge harvested", f"harvested:{older}",
                    {"dropped": newer, "because": f"{source} has {row.name} as {candidate.openalex or candidate.doi}"},
                )  # fmt: skip
            moved += candidate.openalex is not None and candidate.openalex != row.name and source == "openalex"
            refresh(connection, there, candidate)
            if there.id != here.id and candidate.retracted:
                flag(connection, [here.id], candidate.retracted)
            flag_taken_back(connection, candidate)
            retracted += _retracted(connection) - before
    return moved, retracted


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


def _retracted(connection: Connection) -> int:
    return int(connection.scalar(select(func.count()).where(t.harvested.c.retracted.is_not(None))) or 0)
