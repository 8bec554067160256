"""From a record to the rows that pages and search read; made anew whenever the record is put."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table, delete, insert, text, tuple_
from sqlalchemy import select as sql_select

from medaudit.review import tables as t
from medaudit.review import vocabulary, words
from medaudit.review.quantities import disagree
from medaudit.review.records import Artifact, Dataset, Demographic, Fact, Record, Work, mentioned

Ids = Mapping[tuple[str, str], int]
Edge = tuple[int, str, int, dict[str, Any]]
"""Subject, verb, object, and evidence, locus, version, note."""

_OPEN = ("CC0", "CC-BY-4", "CC-BY-3", "CC-BY-2", "CC-BY-1", "MIT", "APACHE", "BSD", "PDDL", "ODC-BY", "PUBLIC DOMAIN")


def ids_of(connection: Connection, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """Return the ids of those entities, by kind and slug, that are there; a tombstone counts."""
    wanted = list(dict.fromkeys(wanted))
    found: dict[tuple[str, str], int] = {}
    for start in range(0, len(wanted), 400):
        rows = connection.execute(
            sql_select(t.entity.c.kind, t.entity.c.slug, t.entity.c.id).where(
                tuple_(t.entity.c.kind, t.entity.c.slug).in_(wanted[start : start + 400])
            )
        )
        found |= {(row.kind, row.slug): row.id for row in rows}
    return found


def clear(connection: Connection, entities: Sequence[int]) -> None:
    """Take these entities out of the projection; edges that others own stay."""
    for start in range(0, len(entities), 400):
        part = list(entities[start : start + 400])
        for table in (t.dataset, t.name, t.identifier, t.term, t.licence, t.work, t.author, t.artifact, t.claim,
                      t.document):  # fmt: skip
            connection.execute(delete(table).where(table.c.entity_id.in_(part)))
        connection.execute(delete(t.relation).where(t.relation.c.owner_id.in_(part)))
        if connection.dialect.name == "sqlite":
            for index in ("search_words", "search_names"):
                for one in part:
                    connection.execute(text(f"DELETE FROM {index} WHERE rowid = :id"), {"id": one})


def put(connection: Connection, records: Sequence[tuple[int, Record]]) -> None:
    """Write the rows of these records over what was there. What a record refers to must have an id by now."""
    ids = ids_of(connection, (other for _, record in records for other in mentioned(record)))
    clear(connection, [entity for entity, _ in records])
    rows: dict[Table, list[dict[str, Any]]] = defaultdict(list)
    for entity, record in records:
        {"dataset": _dataset, "artifact": _artifact, "work": _work}[record.kind](entity, record, ids, rows)  # type: ignore[operator]
    for table, values in rows.items():
        if values:
            connection.execute(insert(table), _uniform(values))
    if connection.dialect.name == "sqlite":
        documents = rows[t.document]
        connection.execute(
            text("INSERT INTO search_words (rowid, name_tokens, tokens) VALUES (:entity_id, :name_tokens, :tokens)"),
            documents,
        )
        connection.execute(text("INSERT INTO search_names (rowid, names) VALUES (:entity_id, :names)"), documents)


# One statement inserts rows with the same columns: what one lacks is null.
def _uniform(values: list[dict[str, Any]]) -> list[dict[str, Any]]:
    keys = dict.fromkeys(key for row in values for key in row)
    return [{key: row.get(key) for key in keys} for row in values]


def _dataset(entity: int, record: Dataset, ids: Ids, rows: dict[Table, list[dict[str, Any]]]) -> None:
    answered, asked = documented(record)
    classes = [licence_class(licence.spdx, licence.text) for licence in record.licences]
    rows[t.dataset].append(
        {
            "entity_id": entity, "name": record.name, "description": record.description, "year": record.year,
            "status": record.status, "access": record.access, "licence_class": strictest(classes), "host": record.host,
            "homepage": record.homepage, "curated": record.curated, "images": _number(record.facts, "images"),
            "patients": _number(record.facts, "patients"), "answered": len(answered), "asked": len(asked),
        }
    )  # fmt: skip
    names = [(record.name, False), *((alias.name, alias.ambiguous) for alias in record.aliases)]
    rows[t.name] += [
        {"entity_id": entity, "n": n, "name": name, "folded": words.folded(name), "ambiguous": ambiguous}
        for n, (name, ambiguous) in enumerate(names)
    ]
    rows[t.identifier] += [
        {"entity_id": entity, "scheme": scheme, "value": value}
        for scheme, value in dict.fromkeys((one.scheme, one.value) for one in record.identifiers)
    ]
    terms = [("modality", code) for code in record.modalities] + [("task", task) for task in record.tasks]
    terms += [("anatomy", place.lower()) for place in record.anatomy]
    terms += [("attribute", entry.attribute) for entry in record.demographics]
    rows[t.term] += [{"entity_id": entity, "scheme": a, "code": b} for a, b in dict.fromkeys(terms)]
    rows[t.licence] += [
        {"entity_id": entity, "n": n, "of": one.of, "spdx": one.spdx, "text": one.text, "class": classes[n]}
        for n, one in enumerate(record.licences)
    ]
    edges: list[Edge] = [(ids[("work", slug)], "PRODUCE", entity, {}) for slug in dict.fromkeys(record.produced_by)]
    edges += [(entity, "CITE_REQUIRED", ids[("work", slug)], {}) for slug in dict.fromkeys(record.cite)]
    edges += [(entity, link.relation, ids[("dataset", link.to)], {"note": link.note}) for link in record.links]
    _edges(entity, edges, rows)
    _facts(entity, (*record.facts, *map(_as_fact, record.demographics)), ids, rows)
    labels = [vocabulary.MODALITIES[code] for code in record.modalities]
    _document(
        entity, [name for name, _ in names] + [record.slug],
        [record.description, record.host, *labels, *record.modalities, *record.anatomy, *record.tasks,
         *(one.value for one in record.identifiers)], rows,
    )  # fmt: skip


def _artifact(entity: int, record: Artifact, ids: Ids, rows: dict[Table, list[dict[str, Any]]]) -> None:
    rows[t.artifact].append(
        {
            "entity_id": entity, "type": record.type, "finding": record.finding, "title": record.title,
            "severity": record.severity, "reported": record.reported, "verification": record.verification,
        }
    )  # fmt: skip
    edges: list[Edge] = []
    for about in record.about:
        for version in about.versions or ("",):
            edges.append(
                (entity, about.verb, ids[("dataset", about.dataset)], {"version": version or None, "note": about.note})
            )
    edges += [(ids[("work", slug)], "SOURCE", entity, {}) for slug in dict.fromkeys(record.works)]
    edges += [(entity, one.verb, ids[("artifact", one.artifact)], {}) for one in record.relations]
    _edges(entity, edges, rows)
    _facts(entity, record.facts, ids, rows)
    datasets = [about.dataset.replace("-", " ") for about in record.about]
    _document(
        entity, [record.title],
        [record.summary, record.type.replace("_", " "), record.finding, *datasets, *(f.field for f in record.facts)],
        rows,
    )  # fmt: skip


def _work(entity: int, record: Work, ids: Ids, rows: dict[Table, list[dict[str, Any]]]) -> None:
    rows[t.work].append(
        {
            "entity_id": entity, "type": record.type, "title": record.title, "year": record.year,
            "venue": record.venue, "doi": record.doi, "arxiv": record.arxiv, "openalex": record.openalex,
            "retracted": record.retracted,
        }
    )  # fmt: skip
    rows[t.author] += [{"entity_id": entity, "position": n, "name": name} for n, name in enumerate(record.authors)]
    edges = [
        (entity, "USE" if use.evidence in vocabulary.IS_USE else "CITE", ids[("dataset", use.dataset)],
         {"evidence": use.evidence, "locus": use.locus or None, "version": use.version or None})
        for use in record.uses
    ]  # fmt: skip
    _edges(entity, edges, rows)
    _document(entity, [record.title], [*record.authors, record.venue, record.doi or "", record.arxiv or ""], rows)


def _edges(owner: int, edges: list[Edge], rows: dict[Table, list[dict[str, Any]]]) -> None:
    rows[t.relation] += [
        {"owner_id": owner, "subject_id": subject, "verb": verb, "object_id": thing, **more}
        for subject, verb, thing, more in edges
    ]


def _facts(entity: int, facts: Sequence[Fact], ids: Ids, rows: dict[Table, list[dict[str, Any]]]) -> None:
    for n, fact in enumerate(facts):
        others = [one for one in facts if (one.field, one.version, one.unit) == (fact.field, fact.version, fact.unit)]
        rows[t.claim].append(
            {
                "entity_id": entity, "n": n, "field": fact.field, "value": json.dumps(fact.value), "unit": fact.unit,
                "low": fact.low, "high": fact.high, "of_n": fact.n,
                "work_id": ids[("work", fact.work)] if fact.work else None, "url": fact.url, "package": fact.package,
                "locator": fact.locator, "note": fact.note, "version": fact.version,
                "quote_hash": hashlib.sha256(fact.quote.encode()).hexdigest() if fact.quote else None,
                "verification": fact.verification, "preferred": fact.preferred or len(others) == 1,
                "disputed": any(disagree(fact.value, one.value) for one in others),
            }
        )  # fmt: skip


def _as_fact(entry: Demographic) -> Fact:
    value: Any = entry.completeness if entry.group is None else entry.n if entry.n is not None else entry.share
    what = "known" if entry.group is None else "" if entry.n is not None else "share"
    name = " ".join(part for part in (entry.attribute, entry.group or "", what) if part)
    return Fact(
        field=f"demographics: {name}", value=0 if value is None else value, unit=entry.unit, work=entry.work,
        url=entry.url, package=entry.package, version=entry.version, verification=entry.verification,
    )  # fmt: skip


def _document(entity: int, names: list[str], body: list[str], rows: dict[Table, list[dict[str, Any]]]) -> None:
    name_tokens = words.stems(" ".join(names))
    rows[t.document].append(
        {
            "entity_id": entity, "names": " ".join(words.folded(name) for name in names),
            "name_tokens": " ".join(name_tokens),
            "tokens": " ".join(name_tokens + words.stems(" ".join(body))),
        }
    )  # fmt: skip


def _number(facts: Iterable[Fact], field: str) -> float | None:
    """Return the number to sort by: the preferred claim's, else the first."""
    chosen = [fact for fact in facts if fact.field == field and isinstance(fact.value, int | float)]
    chosen.sort(key=lambda fact: not fact.preferred)
    return float(chosen[0].value) if chosen else None


def licence_class(spdx: str | None, said: str) -> str:
    """Return ``open``, ``share alike``, ``non-commercial``, ``own terms`` or ``unknown``; the class is ours."""
    name = (spdx or said).upper().replace(" ", "-")
    if not name:
        return "unknown"
    if "-NC" in name or "NON-COMMERCIAL" in name or "NONCOMMERCIAL" in name:
        return "non-commercial"
    if "-SA" in name or "GPL" in name or "ODBL" in name:
        return "share alike"
    if any(name.startswith(start.replace(" ", "-")) for start in _OPEN):
        return "open"
    return "own terms"


_STRICT = ("open", "share alike", "non-commercial", "own terms", "unknown")


def strictest(classes: Iterable[str]) -> str:
    """Return the class that binds whoever uses everything; ``unknown`` where no licence is known."""
    return max(classes, key=_STRICT.index, default="unknown")


def documented(record: Dataset) -> tuple[list[str], list[str]]:
    """Return which items of the documentation are answered with a source, and which are asked.

    The items are those of Datasheets, STANDING Together and Croissant that this format can hold; the choice is ours.
    """
    known = {entry.attribute for entry in record.demographics}
    items = {
        "what it is": bool(record.description),
        "who made it": bool(record.produced_by),
        "when": record.year is not None,
        "where it lies": bool(record.homepage or record.identifiers),
        "who may have it": record.access != "unknown",
        "licence": bool(record.licences),
        "modality": bool(record.modalities),
        "anatomy": bool(record.anatomy),
        "task": bool(record.tasks),
        "versions": bool(record.versions),
        "what to cite": bool(record.cite or record.produced_by),
        "number of images": any(fact.field == "images" for fact in record.facts),
        "number of patients": any(fact.field == "patients" for fact in record.facts),
        "age": "age" in known,
        "sex or gender": bool(known & {"sex", "gender"}),
        "race, ethnicity or skin tone": bool(known & {"race", "ethnicity", "skin tone"}),
        "geography or site": bool(known & {"geography", "site"}),
        "scanner": "scanner" in known,
    }
    return [name for name, there in items.items() if there], list(items)
