"""Search: what a query finds, ranked, with counts by facet; the same sets on SQLite (FTS5) and on PostgreSQL."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rapidfuzz import fuzz, process
from sqlalchemy import ColumnElement, Connection, and_, bindparam, column, func, not_, or_, select, text, true
from sqlalchemy import false as nothing

from medaudit.review import tables as t
from medaudit.review import vocabulary
from medaudit.review.grammar import Condition, Item, Words, parse
from medaudit.review.words import folded

MOST = 2_000
"""Matches that are ranked; of more, the first by kind and title."""
_KIND_WEIGHT = {"dataset": 6.0, "artifact": 5.0, "work": 0.0}
_SEVERITY_WEIGHT = {"critical": 0.3, "major": 0.2, "minor": 0.1}
_DECADES = ((None, 1999), (2000, 2009), (2010, 2014), (2015, 2019), (2020, 2022), (2023, None))


@dataclass(frozen=True)
class Hit:
    """One match."""

    id: int
    kind: str
    slug: str
    title: str
    year: int | None
    note: str
    score: float
    severity: str = ""
    curated: bool = True


@dataclass(frozen=True)
class Facet:
    """How many matches have each value of a field; ``query`` is what to add to the search to keep only those."""

    name: str
    values: tuple[tuple[str, int, str], ...]


@dataclass(frozen=True)
class Results:
    """What was found: ``total`` matches, of which some are shown; facets; and names that were perhaps meant."""

    query: str
    total: int
    hits: tuple[Hit, ...]
    facets: tuple[Facet, ...]
    perhaps: tuple[str, ...] = ()


def search(connection: Connection, query: str, *, limit: int = 20, offset: int = 0, facets: bool = False) -> Results:
    """Return what ``query`` finds; UsageError where the query cannot be read.

    Rank: names before texts, whole names before parts, datasets before artifacts before works, severe before mild.
    """
    items = parse(query)
    matching = and_(t.entity.c.status == "public", _matching(connection, items))
    hits = _ranked(connection, matching, items)
    total = len(hits)
    if total == MOST:
        total = int(connection.scalar(select(func.count()).select_from(t.entity).where(matching)) or 0)
    perhaps = _perhaps(connection, items) if not hits else ()
    return Results(
        query, total, tuple(hits[offset : offset + limit]), _facets(connection, matching) if facets else (), perhaps
    )


def _matching(connection: Connection, items: Sequence[Item]) -> ColumnElement[bool]:
    """All items hold; words beside each other may also be one name, however it is written: "chest x-ray 14"."""
    plain = [item for item in items if not item.without and len(item.any_of) == 1 and isinstance(item.any_of[0], Words)]
    others = [_item(connection, item) for item in items if item not in plain]
    each = [_item(connection, item) for item in plain]
    if len(plain) < 2:
        return and_(true(), *others, *each)
    name = "".join(item.any_of[0].name for item in plain if isinstance(item.any_of[0], Words))
    return and_(true(), *others, or_(and_(*each), _in_names(connection, name)))


def _item(connection: Connection, item: Item) -> ColumnElement[bool]:
    one = or_(*(_part(connection, part) for part in item.any_of))
    return not_(one) if item.without else one


def _part(connection: Connection, part: Words | Condition) -> ColumnElement[bool]:
    return _condition(part) if isinstance(part, Condition) else _words(connection, part)


def _words(connection: Connection, part: Words) -> ColumnElement[bool]:
    found: list[ColumnElement[bool]] = []
    if connection.dialect.name == "sqlite":
        phrase = '{tokens} : "' + " ".join(part.stems).replace('"', '""') + '"' + (" *" if part.start else "")
        found.append(t.entity.c.id.in_(_rows("SELECT rowid FROM search_words WHERE search_words MATCH :q", phrase)))
        return or_(*found, _in_names(connection, part.name))
    ends = [f"'{stem}':{'*' if part.start and n == len(part.stems) - 1 else ''}D" for n, stem in enumerate(part.stems)]
    found.append(
        t.entity.c.id.in_(
            _rows(
                "SELECT entity_id AS rowid FROM document WHERE vector @@ to_tsquery('simple', :q)", " <-> ".join(ends)
            )
        )
    )
    return or_(*found, _in_names(connection, part.name))


def _in_names(connection: Connection, name: str) -> ColumnElement[bool]:
    """The folded name holds ``name``: three letters or more, as the trigram indexes need."""
    if len(name) < 3:
        return nothing()
    if connection.dialect.name == "sqlite":
        quoted = '"' + name.replace('"', '""') + '"'
        return t.entity.c.id.in_(_rows("SELECT rowid FROM search_names WHERE search_names MATCH :q", quoted))
    return t.entity.c.id.in_(_rows("SELECT entity_id AS rowid FROM document WHERE names LIKE :q", f"%{name}%"))


def _rows(sql: str, value: str) -> Any:
    return text(sql).bindparams(bindparam("q", value, unique=True)).columns(column("rowid"))


def _condition(one: Condition) -> ColumnElement[bool]:
    entity, value = t.entity.c.id, one.value
    match one.field:
        case "kind":
            return t.entity.c.kind == value
        case "type":
            return entity.in_(select(t.artifact.c.entity_id).where(t.artifact.c.type == value))
        case "finding":
            return entity.in_(select(t.artifact.c.entity_id).where(func.lower(t.artifact.c.finding) == value))
        case "severity":
            return entity.in_(select(t.artifact.c.entity_id).where(t.artifact.c.severity == value))
        case "modality" | "anatomy" | "task":
            return entity.in_(select(t.term.c.entity_id).where(t.term.c.scheme == one.field, t.term.c.code == value))
        case "access" | "status":
            return entity.in_(select(t.dataset.c.entity_id).where(t.dataset.c[one.field] == value))
        case "licence":
            return entity.in_(select(t.dataset.c.entity_id).where(t.dataset.c.licence_class == value))
        case "curated":
            return entity.in_(select(t.dataset.c.entity_id).where(t.dataset.c.curated == (value == "yes")))
        case "verification":
            return entity.in_(select(t.claim.c.entity_id).where(t.claim.c.verification == value))
        case "dataset":
            about = select(t.entity.c.id).where(t.entity.c.kind == "dataset", t.entity.c.slug == value)
            verbs = ("EXTEND", "INTRODUCE", "USE")
            return entity.in_(
                select(t.relation.c.subject_id).where(t.relation.c.verb.in_(verbs), t.relation.c.object_id.in_(about))
            )
        case "year" | "size":
            return _between(one)
        case "has":
            return _has(value)
    return nothing()


def _between(one: Condition) -> ColumnElement[bool]:
    def of(source: Any, owner: Any) -> ColumnElement[bool]:
        bounds = [source >= one.low] if one.low is not None else []
        bounds += [source <= one.high] if one.high is not None else []
        return t.entity.c.id.in_(select(owner).where(*bounds))

    if one.field == "size":
        return of(t.dataset.c.images, t.dataset.c.entity_id)
    reported = func.substr(t.artifact.c.reported, 1, 4)
    bounds = [reported >= f"{int(one.low):04d}"] if one.low is not None else []
    bounds += [reported <= f"{int(one.high):04d}"] if one.high is not None else []
    return or_(
        of(t.dataset.c.year, t.dataset.c.entity_id),
        of(t.work.c.year, t.work.c.entity_id),
        t.entity.c.id.in_(select(t.artifact.c.entity_id).where(*bounds)),
    )


def _has(value: str) -> ColumnElement[bool]:
    """A dataset that has an artifact of this type or a warning, demographics, or numbers of one attribute."""
    name = value.replace(" ", "_")
    types = vocabulary.WARNS if name == "warning" else (name,) if name in vocabulary.ARTIFACTS else None
    if types is not None:
        artifacts = select(t.artifact.c.entity_id).where(t.artifact.c.type.in_(types))
        return t.entity.c.id.in_(
            select(t.relation.c.object_id).where(
                t.relation.c.verb.in_(("EXTEND", "INTRODUCE")), t.relation.c.subject_id.in_(artifacts)
            )
        )
    attributes = select(t.term.c.entity_id).where(t.term.c.scheme == "attribute")
    if name != "demographics":
        attributes = attributes.where(t.term.c.code == value)
    return t.entity.c.id.in_(attributes)


def _ranked(connection: Connection, matching: ColumnElement[bool], items: Sequence[Item]) -> list[Hit]:
    rows = connection.execute(
        select(
            t.entity.c.id, t.entity.c.kind, t.entity.c.slug, t.entity.c.title,
            t.document.c.names, t.document.c.name_tokens, t.document.c.tokens,
            t.dataset.c.year, t.dataset.c.description, t.dataset.c.curated,
            t.artifact.c.type, t.artifact.c.finding, t.artifact.c.severity, t.artifact.c.reported,
            t.work.c.year.label("published"), t.work.c.venue,
        )
        .join(t.document, t.document.c.entity_id == t.entity.c.id)
        .outerjoin(t.dataset, t.dataset.c.entity_id == t.entity.c.id)
        .outerjoin(t.artifact, t.artifact.c.entity_id == t.entity.c.id)
        .outerjoin(t.work, t.work.c.entity_id == t.entity.c.id)
        .where(matching)
        .order_by(t.entity.c.kind, t.entity.c.id)
        .limit(MOST)
    ).all()  # fmt: skip
    words = [part for item in items if not item.without for part in item.any_of if isinstance(part, Words)]
    whole = "".join(part.name for part in words)
    hits = []
    for row in rows:
        score = _KIND_WEIGHT[row.kind] + _SEVERITY_WEIGHT.get(row.severity or "", 0.0)
        names, name_tokens, tokens = row.names.split(), row.name_tokens.split(), row.tokens.split()
        if whole:
            score += 8.0 * (whole in names) + 2.0 * any(name.startswith(whole) for name in names)
        for part in words:
            score += 2.0 * (part.stems[-1] in name_tokens) + 1.0 * (part.name in row.names)
            score += math.log1p(tokens.count(part.stems[-1])) / (1 + math.log1p(len(tokens)) / 4)
        score += 0.3 * bool(row.curated)
        year = row.year or row.published or (int(row.reported[:4]) if row.reported else None)
        note = (row.description or row.venue or f"{(row.type or '').replace('_', ' ')}: {row.finding or ''}").strip(
            " :"
        )
        hits.append(
            Hit(row.id, row.kind, row.slug, row.title, year, note[:240], round(score, 6), row.severity or "",
                row.curated is None or bool(row.curated))
        )  # fmt: skip
    hits.sort(key=lambda hit: (-hit.score, hit.title.lower(), hit.slug))
    return hits


def _facets(connection: Connection, matching: ColumnElement[bool]) -> tuple[Facet, ...]:
    ids = select(t.entity.c.id).where(matching)

    def counted(name: str, value: Any, owner: Any, *where: Any, field: str | None = None) -> Facet:
        query = select(value, func.count()).where(owner.in_(ids), *where).group_by(value)
        rows = [(str(row[0]), int(row[1])) for row in connection.execute(query) if row[0] is not None]
        rows.sort(key=lambda row: (-row[1], row[0]))
        return Facet(name, tuple((v, n, f"{field or name}:{_quoted(v)}") for v, n in rows[:12]))

    years: dict[int, int] = {}
    for source in (t.dataset, t.work):
        query = select(source.c.year, func.count()).where(source.c.entity_id.in_(ids)).group_by(source.c.year)
        for year, n in connection.execute(query):
            if year is not None:
                years[int(year)] = years.get(int(year), 0) + int(n)
    spans = []
    for low, high in _DECADES:
        n = sum(many for year, many in years.items() if (low or 0) <= year <= (high or 9999))
        if n:
            label = f"{low}..{high}" if low and high else f"since {low}" if low else f"until {high}"
            spans.append((label, n, f"year:{low or ''}..{high or ''}"))
    attribute = counted("numbers of", t.term.c.code, t.term.c.entity_id, t.term.c.scheme == "attribute", field="has")
    found = [
        counted("kind", t.entity.c.kind, t.entity.c.id),
        counted("modality", t.term.c.code, t.term.c.entity_id, t.term.c.scheme == "modality"),
        counted("anatomy", t.term.c.code, t.term.c.entity_id, t.term.c.scheme == "anatomy"),
        counted("task", t.term.c.code, t.term.c.entity_id, t.term.c.scheme == "task"),
        counted("access", t.dataset.c.access, t.dataset.c.entity_id),
        counted("licence", t.dataset.c.licence_class, t.dataset.c.entity_id),
        attribute,
        counted("type", t.artifact.c.type, t.artifact.c.entity_id),
        counted("severity", t.artifact.c.severity, t.artifact.c.entity_id),
        Facet("year", tuple(spans)),
    ]
    return tuple(facet for facet in found if facet.values)


def _quoted(value: str) -> str:
    return f'"{value}"' if " " in value else value


def _perhaps(connection: Connection, items: Sequence[Item]) -> tuple[str, ...]:
    """Names near to what was typed: a typing error finds what it meant."""
    words = [part for item in items if not item.without for part in item.any_of if isinstance(part, Words)]
    typed = "".join(part.name for part in words)
    if len(typed) < 3:
        return ()
    rows = connection.execute(
        select(t.name.c.folded, t.entity.c.title)
        .join(t.entity, t.entity.c.id == t.name.c.entity_id)
        .where(t.entity.c.status == "public")
    ).all()
    near = process.extract(folded(typed), [row.folded for row in rows], scorer=fuzz.ratio, score_cutoff=70, limit=8)
    return tuple(dict.fromkeys(str(rows[place].title) for _, _, place in near))[:4]
