"""Exports of the whole review or of some datasets: a text in one of the formats, or a database of what is public."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from sqlalchemy import Connection, insert, select

from medaudit.errors import UsageError
from medaudit.review import database, graph, releases, views
from medaudit.review import tables as t
from medaudit.review.formats import bibtex, croissant, graphml, ris, tables
from medaudit.review.records import Artifact, Dataset, Record, Work, mentioned, parse

FORMATS = ("croissant", "bibtex", "ris", "csv", "json", "graphml")
_KEPT = (
    t.entity,
    t.dataset,
    t.name,
    t.identifier,
    t.term,
    t.licence,
    t.work,
    t.author,
    t.artifact,
    t.relation,
    t.claim,
)


def chosen(connection: Connection, names: Sequence[str], release: str | None = None) -> list[Record]:
    """Return the public records of these datasets, their artifacts and works; all records where none is named.

    ``release``: as they were in that release. Raises UsageError for a name that nobody knows.
    """
    if release is None:
        records = views.records(connection)
    else:
        state = releases.state_of(connection, release)
        records = [parse(json.loads(text), f"{kind} '{slug}'") for (kind, slug), text in state.items() if text]
    if not names:
        return records
    slugs = []
    for name in names:
        found = views.resolve(connection, name)
        if not found:
            raise UsageError(f"there is no dataset '{name}'; look for it with `medaudit review search`")
        slugs += found
    kept = {("dataset", slug) for slug in slugs}
    kept |= {
        ("artifact", one.slug)
        for one in records
        if isinstance(one, Artifact) and any(about.dataset in slugs for about in one.about)
    }
    works = {other for one in records if (one.kind, one.slug) in kept for other in mentioned(one) if other[0] == "work"}
    return [one for one in records if (one.kind, one.slug) in kept | works]


def text(connection: Connection, form: str, names: Sequence[str], release: str | None = None) -> str:
    """Return the export in ``form``; UsageError for an unknown format or name."""
    if form not in FORMATS:
        raise UsageError(f"no format is called '{form}'; there are: {', '.join(FORMATS)}, sqlite")
    if release is not None and form == "graphml":
        raise UsageError("the graph is of what is public now; export a release as json, csv, bibtex, ris or croissant")
    records = chosen(connection, names, release)
    works = [one for one in records if isinstance(one, Work)]
    if form == "bibtex":
        return bibtex.export(works)
    if form == "ris":
        return ris.export(works)
    if form == "csv":
        return tables.csv_of(records)
    if form == "json":
        return json.dumps([one.plain() for one in records], ensure_ascii=False, indent=1) + "\n"
    if form == "graphml":
        nodes, edges = _graph(connection, {(one.kind, one.slug) for one in records})
        return graphml.export(nodes, edges)
    datasets = [one for one in records if isinstance(one, Dataset)]
    artifacts = [one for one in records if isinstance(one, Artifact)]
    asked = {slug for name in names for slug in views.resolve(connection, name)}
    described = [
        croissant.export(one, [a for a in artifacts if any(b.dataset == one.slug for b in a.about)], works)
        for one in datasets
        if not names or one.slug in asked
    ]
    return json.dumps(described[0] if len(described) == 1 else described, ensure_ascii=False, indent=1) + "\n"


def public_sqlite(opened: database.Database, out: Path) -> None:
    """Write what is public as a plain SQLite file: the projection's tables, no people, no proposals, no log.

    Raises UsageError where ``out`` exists.
    """
    if out.exists():
        raise UsageError(f"{out} exists; choose another name")
    made = database.connect(out, create=True)
    records = (
        select(t.entity.c.kind, t.entity.c.slug, t.revision.c.record)
        .join(t.revision, (t.entity.c.id == t.revision.c.entity_id) & (t.entity.c.rev == t.revision.c.rev))
        .where(t.entity.c.status == "public")
    )
    with made.writing() as target, opened.reading(600) as source:
        target.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
        target.exec_driver_sql("CREATE TABLE record (kind TEXT, slug TEXT, record TEXT, PRIMARY KEY (kind, slug))")
        for table in _KEPT:
            for rows in source.execute(select(table)).partitions(1_000):
                target.execute(insert(table), [dict(row._mapping) for row in rows])
        for row in source.execute(records):
            target.exec_driver_sql("INSERT INTO record VALUES (?, ?, ?)", (row.kind, row.slug, row.record))
    made.close()
    with closing(sqlite3.connect(out)) as raw:  # one file, without a log beside it
        raw.execute("PRAGMA journal_mode=DELETE")


def _graph(connection: Connection, kept: set[tuple[str, str]]) -> tuple[list[graph.Node], list[graph.Edge]]:
    rows = connection.execute(
        select(t.entity.c.id, t.entity.c.kind, t.entity.c.slug, t.entity.c.title, t.artifact.c.type)
        .outerjoin(t.artifact, t.artifact.c.entity_id == t.entity.c.id)
        .where(t.entity.c.status == "public")
        .order_by(t.entity.c.id)
    )
    nodes = [
        graph.Node(r.id, r.kind, r.slug, r.title, r.type or r.kind, r.type or r.kind)
        for r in rows
        if (r.kind, r.slug) in kept
    ]
    ids = {node.id for node in nodes}
    edges = [
        graph.Edge(r.subject_id, r.verb, r.object_id, r.evidence or "")
        for r in connection.execute(select(t.relation).order_by(t.relation.c.id))
        if r.subject_id in ids and r.object_id in ids
    ]
    return nodes, edges
