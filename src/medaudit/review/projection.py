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
from medaudit.review.records import Artifact, Dataset, Demographic, Fact, Record, Work, mentioned, parse

Ids = Mapping[tuple[str, str], int]
Edge = tuple[int, str, int, dict[str, Any]]
"""Subject, verb, object, and evidence, locus, version, note."""

_TELLS = ("EXTEND", "INTRODUCE")
_MODALITY_WORDS = vocabulary.MODALITIES | {"CR": "plain radiograph X-ray", "SM": "slide microscopy pathology",
                                           "DMS": "dermoscopy skin", "OP": "fundus photography eye"}  # fmt: skip
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
        for table in (t.dataset, t.name, t.identifier, t.term, t.licence, t.work, t.author, t.artifact, t.claim):
            connection.execute(delete(table).where(table.c.entity_id.in_(part)))
        connection.execute(delete(t.relation).where(t.relation.c.owner_id.in_(part)))
    _clear_documents(connection, entities)


def _clear_documents(connection: Connection, entities: Sequence[int]) -> None:
    for start in range(0, len(entities), 400):
        part = list(entities[start : start + 400])
        connection.execute(delete(t.document).where(t.document.c.entity_id.in_(part)))
        if connection.dialect.name == "sqlite":
            for index in ("search_words", "search_names"):
                connection.execute(text(f"DELETE FROM {index} WHERE rowid = :id"), [{"id": one} for one in part])


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
    _write_documents(connection, records)


def _write_documents(connection: Connection, records: Sequence[tuple[int, Record]]) -> None:
    """Write what search reads of these records, and of the artifacts about their datasets.

    Somebody who asks for "chest x-ray shortcut" means shortcuts of datasets of chest X-rays: an artifact is found by
    its datasets' names, modality and anatomy too, and so changes with them.
    """
    own = {entity for entity, _ in records}
    datasets = [entity for entity, record in records if isinstance(record, Dataset)]
    told = {row.id: row for row in _about(connection, datasets) if row.id not in own}
    others = [(row.id, parse(json.loads(row.record), f"artifact '{row.slug}'")) for row in told.values()]
    _clear_documents(connection, [entity for entity, _ in others])
    words_of = _words_of_datasets(connection, [*own, *told])
    documents = [_document(entity, record, words_of.get(entity, [])) for entity, record in (*records, *others)]
    if not documents:
        return
    connection.execute(insert(t.document), documents)
    if connection.dialect.name == "sqlite":
        connection.execute(
            text("INSERT INTO search_words (rowid, name_tokens, tokens) VALUES (:entity_id, :name_tokens, :tokens)"),
            documents,
        )
        connection.execute(text("INSERT INTO search_names (rowid, names) VALUES (:entity_id, :names)"), documents)


def _about(connection: Connection, datasets: Sequence[int]) -> list[Any]:
    found: list[Any] = []
    for start in range(0, len(datasets), 400):
        part = list(datasets[start : start + 400])
        query = (
            sql_select(t.entity.c.id, t.entity.c.slug, t.revision.c.record)
            .join(t.relation, t.relation.c.subject_id == t.entity.c.id)
            .join(t.revision, (t.revision.c.entity_id == t.entity.c.id) & (t.revision.c.rev == t.entity.c.rev))
            .where(t.relation.c.verb.in_(_TELLS), t.relation.c.object_id.in_(part), t.entity.c.status == "public")
        )
        found += connection.execute(query).all()
    return found


def _words_of_datasets(connection: Connection, artifacts: Sequence[int]) -> dict[int, list[str]]:
    """Return by artifact the names, modalities and anatomy of the datasets it is about."""
    found: dict[int, list[str]] = defaultdict(list)
    for start in range(0, len(artifacts), 400):
        part = list(artifacts[start : start + 400])
        where = (t.relation.c.subject_id.in_(part), t.relation.c.verb.in_(_TELLS))
        names = sql_select(t.relation.c.subject_id, t.name.c.name).join(
            t.name, t.name.c.entity_id == t.relation.c.object_id
        )
        for owner, name in connection.execute(names.where(*where)):
            found[owner].append(name)
        terms = sql_select(t.relation.c.subject_id, t.term.c.scheme, t.term.c.code).join(
            t.term, t.term.c.entity_id == t.relation.c.object_id
        )
        for owner, scheme, code in connection.execute(terms.where(*where)):
            if scheme == "modality":
                found[owner] += [code, _MODALITY_WORDS[code]]
            elif scheme == "anatomy":
                found[owner].append(code)
    return found


def _document(entity: int, record: Record, more: Sequence[str]) -> dict[str, Any]:
    if isinstance(record, Dataset):
        names = [record.name, *(alias.name for alias in record.aliases), record.slug]
        labels = [_MODALITY_WORDS[code] for code in record.modalities]
        body = [record.description, record.host, *labels, *record.modalities, *record.anatomy, *record.tasks,
                *(one.value for one in record.identifiers)]  # fmt: skip
    elif isinstance(record, Artifact):
        names = [record.title]
        body = [record.summary, record.type.replace("_", " "), record.finding, *more, *(f.field for f in record.facts)]
    else:
        names = [record.title]
        body = [*record.authors, record.venue, record.doi or "", record.arxiv or ""]
    name_tokens = words.stems(" ".join(names))
    return {
        "entity_id": entity, "names": " ".join(words.folded(name) for name in names),
        "name_tokens": " ".join(name_tokens), "tokens": " ".join(name_tokens + words.stems(" ".join(body))),
    }  # fmt: skip


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


def _edges(owner: int, edges: list[Edge], rows: dict[Table, list[dict[str, Any]]]) -> None:
    rows[t.relation] += [
        {"owner_id": owner, "subject_id": subject, "verb": verb, "object_id": thing, **more}
        for subject, verb, thing, more in edges
    ]


def _facts(entity: int, facts: Sequence[Fact], ids: Ids, rows: dict[Table, list[dict[str, Any]]]) -> None:
    groups: dict[tuple[str, str, str], list[Fact]] = defaultdict(list)
    for fact in facts:
        groups[(fact.field, fact.version, fact.unit)].append(fact)
    # Each against the others of its field, of which there may be many: but never against more than a hundred.
    for n, fact in enumerate(facts):
        others = groups[(fact.field, fact.version, fact.unit)][:100]
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


STRICT = ("open", "share alike", "non-commercial", "own terms", "unknown")
"""Classes of licences, from what binds least to what binds most."""


def strictest(classes: Iterable[str]) -> str:
    """Return the class that binds whoever uses everything; ``unknown`` where no licence is known."""
    return max(classes, key=STRICT.index, default="unknown")


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
