"""What the pages and the API show of a record: its warnings first, its facts with their sources, what hangs on it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, func, or_, select

from medaudit.review import tables as t
from medaudit.review import vocabulary
from medaudit.review.projection import STRICT, documented, licence_class, strictest
from medaudit.review.records import Artifact, Dataset, Record, Work, parse
from medaudit.review.words import folded

_REFERENCE = (t.entity.c.id, t.entity.c.kind, t.entity.c.slug, t.entity.c.title)
_SEVERITY = {name: n for n, name in enumerate(reversed(vocabulary.SEVERITIES))}


@dataclass(frozen=True)
class Reference:
    """Another entity, as far as a link to it needs."""

    id: int
    kind: str
    slug: str
    title: str


@dataclass(frozen=True)
class Shown:
    """A record with its revision and times; ``moved_to`` where it is a tombstone that points elsewhere."""

    reference: Reference
    rev: int
    created: str
    updated: str
    record: Record | None
    moved_to: Reference | None = None


@dataclass(frozen=True)
class Listed:
    """An artifact in a list."""

    reference: Reference
    type: str
    finding: str
    severity: str
    reported: str
    summary: str
    verification: str
    verb: str
    versions: tuple[str, ...]
    sources: tuple[Reference, ...]
    answered: bool


@dataclass(frozen=True)
class Warned:
    """What whoever uses a dataset should know: an artifact, or what its lineage entails."""

    dataset: str
    severity: str
    kind: str
    text: str
    reference: Reference | None
    sources: tuple[Reference, ...] = ()


@dataclass(frozen=True)
class Claim:
    """A fact with its source; ``disputed`` where others of the field say otherwise."""

    field: str
    value: Any
    unit: str
    low: float | None
    high: float | None
    n: int | None
    work: Reference | None
    url: str | None
    package: str | None
    locator: str
    note: str
    version: str
    verification: str
    preferred: bool
    disputed: bool


@dataclass(frozen=True)
class Linked:
    """Lineage: the other dataset, the relation as read from this one, and what is known of it."""

    relation: str
    other: Reference
    note: str
    licence: str


@dataclass(frozen=True)
class DatasetView:
    """All that a dataset's page shows."""

    shown: Shown
    warnings: tuple[Warned, ...]
    artifacts: tuple[Listed, ...]
    claims: tuple[Claim, ...]
    links: tuple[Linked, ...]
    makers: tuple[Reference, ...]
    to_cite: tuple[Reference, ...]
    users: tuple[tuple[Reference, str, str], ...]
    citations: int
    answered: tuple[str, ...]
    asked: tuple[str, ...]


@dataclass(frozen=True)
class ArtifactView:
    """All that an artifact's page shows."""

    shown: Shown
    about: tuple[tuple[Reference, str, tuple[str, ...], str], ...]
    works: tuple[Reference, ...]
    claims: tuple[Claim, ...]
    relations: tuple[tuple[str, Reference], ...]


@dataclass(frozen=True)
class WorkView:
    """All that a work's page shows."""

    shown: Shown
    edges: tuple[tuple[str, Reference, str], ...]


def shown(connection: Connection, kind: str, slug: str) -> Shown | None:
    """Return the record of that kind and slug as it is public, its tombstone, or None where there never was one."""
    other = t.entity.alias("other")
    row = connection.execute(
        select(
            t.entity, t.revision.c.record,
            other.c.id.label("to_id"), other.c.kind.label("to_kind"), other.c.slug.label("to_slug"),
            other.c.title.label("to_title"),
        )
        .join(t.revision, and_(t.revision.c.entity_id == t.entity.c.id, t.revision.c.rev == t.entity.c.rev))
        .outerjoin(other, other.c.id == t.entity.c.redirect_to)
        .where(t.entity.c.kind == kind, t.entity.c.slug == slug)
    ).first()  # fmt: skip
    if row is None:
        return None
    record = None if row.record is None else parse(json.loads(row.record), f"{kind} '{slug}'")
    moved = None if row.to_id is None else Reference(row.to_id, row.to_kind, row.to_slug, row.to_title)
    return Shown(Reference(row.id, kind, slug, row.title), row.rev, row.created, row.updated, record, moved)


def dataset(connection: Connection, slug: str) -> DatasetView | None:
    """Return what a dataset's page shows; None where there is none, or only a tombstone."""
    found = shown(connection, "dataset", slug)
    if found is None or not isinstance(found.record, Dataset):
        return None
    own = found.reference.id
    artifacts = listed(connection, own)
    links = _links(connection, own)
    answered, asked = documented(found.record)
    users = connection.execute(
        select(t.entity.c.id, t.entity.c.kind, t.entity.c.slug, t.entity.c.title, t.relation.c.evidence,
               t.relation.c.locus)
        .join(t.entity, t.entity.c.id == t.relation.c.subject_id)
        .where(t.relation.c.object_id == own, t.relation.c.verb.in_(("USE", "CITE")), t.entity.c.status == "public")
        .order_by(t.entity.c.title)
    ).all()  # fmt: skip
    return DatasetView(
        found, tuple(_warnings(found.reference, artifacts, links, found.record)), tuple(artifacts),
        _claims(connection, own),
        tuple(links), _ends(connection, own, "PRODUCE"), _ends(connection, own, "CITE_REQUIRED", forwards=True),
        tuple((Reference(*row[:4]), row.evidence or "", row.locus or "") for row in users), citations(connection, own),
        tuple(answered), tuple(asked),
    )  # fmt: skip


def artifact(connection: Connection, slug: str) -> ArtifactView | None:
    """Return what an artifact's page shows; None where there is none, or only a tombstone."""
    found = shown(connection, "artifact", slug)
    if found is None or not isinstance(found.record, Artifact):
        return None
    own = found.reference.id
    names = references(connection, [("dataset", about.dataset) for about in found.record.about])
    about = tuple(
        (names[("dataset", one.dataset)], one.verb, one.versions, one.note)
        for one in found.record.about
        if ("dataset", one.dataset) in names
    )
    rows = connection.execute(
        select(t.relation.c.verb, t.relation.c.subject_id, *_REFERENCE)
        .join(
            t.entity,
            or_(
                and_(t.relation.c.subject_id == own, t.entity.c.id == t.relation.c.object_id),
                and_(t.relation.c.object_id == own, t.entity.c.id == t.relation.c.subject_id),
            ),
        )
        .where(
            or_(t.relation.c.subject_id == own, t.relation.c.object_id == own),
            t.relation.c.verb.in_(vocabulary.BETWEEN_ARTIFACTS), t.entity.c.status == "public",
        )
    ).all()  # fmt: skip
    words = {"REPLICATE": ("replicates", "is replicated by"), "CONTRADICT": ("contradicts", "is contradicted by"),
             "CORRECT": ("corrects", "is corrected by")}  # fmt: skip
    relations = tuple(
        (words[row.verb][row.subject_id != own], Reference(row.id, row.kind, row.slug, row.title)) for row in rows
    )
    return ArtifactView(found, about, _ends(connection, own, "SOURCE"), _claims(connection, own), relations)


def work(connection: Connection, slug: str) -> WorkView | None:
    """Return what a work's page shows; None where there is none, or only a tombstone."""
    found = shown(connection, "work", slug)
    if found is None or not isinstance(found.record, Work):
        return None
    rows = connection.execute(
        select(
            t.relation.c.verb, t.relation.c.evidence, t.entity.c.id, t.entity.c.kind, t.entity.c.slug, t.entity.c.title
        )
        .join(t.entity, t.entity.c.id == t.relation.c.object_id)
        .where(t.relation.c.subject_id == found.reference.id, t.entity.c.status == "public")
        .order_by(t.relation.c.verb, t.entity.c.title)
    ).all()
    edges = tuple((row.verb, Reference(row.id, row.kind, row.slug, row.title), row.evidence or "") for row in rows)
    return WorkView(found, edges)


def listed(connection: Connection, dataset_id: int) -> list[Listed]:
    """Return the artifacts about a dataset, the severest first."""
    rows = connection.execute(
        select(
            t.entity.c.id, t.entity.c.slug, t.entity.c.title, t.artifact.c.type, t.artifact.c.finding,
            t.artifact.c.severity, t.artifact.c.reported, t.artifact.c.verification, t.relation.c.verb,
            t.relation.c.version, t.revision.c.record,
        )
        .join(t.entity, t.entity.c.id == t.relation.c.subject_id)
        .join(t.artifact, t.artifact.c.entity_id == t.entity.c.id)
        .join(t.revision, and_(t.revision.c.entity_id == t.entity.c.id, t.revision.c.rev == t.entity.c.rev))
        .where(t.relation.c.object_id == dataset_id, t.relation.c.verb.in_(("EXTEND", "INTRODUCE")))
    ).all()  # fmt: skip
    merged: dict[int, Any] = {}
    versions: dict[int, list[str]] = {}
    for row in rows:
        merged[row.id] = row
        versions.setdefault(row.id, []).extend([row.version] if row.version else [])
    sources = _sources(connection, list(merged))
    found = []
    for row in merged.values():
        record = json.loads(row.record)
        found.append(
            Listed(
                Reference(row.id, "artifact", row.slug, row.title), row.type, row.finding, row.severity,
                row.reported or "", record["summary"], row.verification, row.verb, tuple(versions[row.id]),
                tuple(sources.get(row.id, ())), bool(record.get("responses")),
            )
        )  # fmt: skip
    found.sort(key=lambda one: (_SEVERITY[one.severity], one.type, one.reported, one.reference.slug))
    return found


def warned(connection: Connection, names: Sequence[str]) -> tuple[list[Warned], list[str]]:
    """Return what is known about these datasets, and which names nobody knows.

    A name may be a slug, a name or alias, or a DOI. Where several are given, patients that they share are warned of
    first: what is trained on one and tested on the other is not tested.
    """
    found: list[Warned] = []
    unknown, chosen = [], []
    for given in names:
        slugs = resolve(connection, given)
        if not slugs:
            unknown.append(given)
        chosen += [slug for slug in slugs if slug not in chosen]
    views = [view for view in (dataset(connection, slug) for slug in chosen) if view is not None]
    together = {view.shown.reference.id for view in views}
    pairs: set[frozenset[int]] = set()
    for view in views:
        own = view.shown.reference
        # That they share patients says more than how one was made from the other, and once is enough.
        for link in sorted(view.links, key=lambda one: one.relation != "shares patients with"):
            pair = frozenset((own.id, link.other.id))
            if link.other.id in together and len(together) > 1 and pair not in pairs:
                pairs.add(pair)
                text = (
                    f"{own.title} {link.relation} {link.other.title}, which you use too: split by patient over both, "
                    "or the test set is not unseen."
                )
                found.append(Warned(own.slug, "critical", "lineage", text, link.other))
    for view in views:
        found += view.warnings
    return found, unknown


def resolve(connection: Connection, name: str) -> list[str]:
    """Return the slugs of the datasets that ``name`` (a slug, name, alias or DOI) may mean; a merged one's heir."""
    name = name.strip()
    bare = name.lower().removeprefix("https://doi.org/").removeprefix("doi:")
    other = t.entity.alias("other")
    rows = connection.execute(
        select(t.entity.c.slug, other.c.slug.label("heir"))
        .outerjoin(other, other.c.id == t.entity.c.redirect_to)
        .where(t.entity.c.kind == "dataset", t.entity.c.slug == bare.replace("_", "-"))
    ).all()
    if rows:
        return [row.heir or row.slug for row in rows]
    matching = or_(
        t.entity.c.id.in_(select(t.name.c.entity_id).where(t.name.c.folded == folded(name))),
        t.entity.c.id.in_(select(t.identifier.c.entity_id).where(func.lower(t.identifier.c.value) == bare)),
        t.entity.c.id.in_(
            select(t.relation.c.object_id)
            .join(t.work, t.work.c.entity_id == t.relation.c.subject_id)
            .where(t.relation.c.verb == "PRODUCE", t.work.c.doi == bare)
        ),
    )
    query = select(t.entity.c.slug).where(t.entity.c.kind == "dataset", t.entity.c.status == "public", matching)
    return list(connection.scalars(query.order_by(t.entity.c.slug)))


def references(connection: Connection, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Reference]:
    """Return references by kind and slug, of those that are there."""
    from medaudit.review.projection import ids_of

    ids = ids_of(connection, wanted)
    if not ids:
        return {}
    query = select(t.entity.c.id, t.entity.c.kind, t.entity.c.slug, t.entity.c.title)
    rows = connection.execute(query.where(t.entity.c.id.in_(list(ids.values()))))
    return {(row.kind, row.slug): Reference(row.id, row.kind, row.slug, row.title) for row in rows}


def citations(connection: Connection, dataset_id: int) -> int:
    """Return how many harvested works cite one of the dataset's papers: citations, which are no uses."""
    papers = select(t.relation.c.subject_id).where(t.relation.c.object_id == dataset_id, t.relation.c.verb == "PRODUCE")
    own, root, citing = t.harvested.alias("own"), t.harvested.alias("root"), t.harvested.alias("citing")
    # A preprint and its publication are one work, on either side.
    cited = (
        select(own.c.id)
        .join(root, root.c.id == func.coalesce(own.c.merged_into, own.c.id))
        .where(or_(own.c.work_id.in_(papers), root.c.work_id.in_(papers)))
    )
    query = (
        select(func.count(func.distinct(func.coalesce(citing.c.merged_into, citing.c.id))))
        .join(t.cites, t.cites.c.citing_id == citing.c.id)
        .where(t.cites.c.cited_id.in_(cited))
    )
    return int(connection.scalar(query) or 0)


def records(connection: Connection, kind: str | None = None) -> list[Record]:
    """Return all public records, of one kind or all: for an export of everything."""
    query = (
        select(t.revision.c.record, t.entity.c.kind, t.entity.c.slug)
        .join(t.entity, and_(t.entity.c.id == t.revision.c.entity_id, t.entity.c.rev == t.revision.c.rev))
        .where(t.entity.c.status == "public")
        .order_by(t.entity.c.kind, t.entity.c.slug)
    )
    if kind is not None:
        query = query.where(t.entity.c.kind == kind)
    return [parse(json.loads(row.record), f"{row.kind} '{row.slug}'") for row in connection.execute(query)]


def timeline(connection: Connection) -> list[tuple[str, str, Reference, str]]:
    """Return year, what it is, reference and note of every dataset and artifact with a date, the newest first."""
    datasets = connection.execute(
        select(t.dataset.c.year, t.entity.c.id, t.entity.c.slug, t.entity.c.title, t.dataset.c.host)
        .join(t.entity, t.entity.c.id == t.dataset.c.entity_id)
        .where(t.dataset.c.year.is_not(None), t.dataset.c.curated)
    )
    entries = [(str(r.year), "dataset", Reference(r.id, "dataset", r.slug, r.title), r.host) for r in datasets]
    artifacts = connection.execute(
        select(t.artifact.c.reported, t.artifact.c.type, t.entity.c.id, t.entity.c.slug, t.entity.c.title)
        .join(t.entity, t.entity.c.id == t.artifact.c.entity_id)
        .where(t.artifact.c.reported.is_not(None))
    )
    entries += [(r.reported, r.type, Reference(r.id, "artifact", r.slug, r.title), "") for r in artifacts]
    return sorted(entries, key=lambda one: (one[0], one[1] != "dataset", one[2].title), reverse=True)


def gaps(connection: Connection) -> tuple[list[str], list[str], dict[tuple[str, str], tuple[int, int]]]:
    """Return modalities, kinds of concern, and for each pair: datasets of the modality, and those with such a finding.

    Where datasets are and findings are not, nobody has looked, or nobody has told.
    """
    concerns = ["sex", "age", "race or ethnicity", "skin tone", "device or scanner", "other shortcut", "labels", "data",
                "documentation"]  # fmt: skip
    rows = connection.execute(
        select(t.term.c.code, t.term.c.entity_id, t.artifact.c.type, t.artifact.c.finding)
        .join(t.dataset, t.dataset.c.entity_id == t.term.c.entity_id)
        .outerjoin(
            t.relation,
            and_(t.relation.c.object_id == t.term.c.entity_id, t.relation.c.verb.in_(("EXTEND", "INTRODUCE"))),
        )
        .outerjoin(t.artifact, t.artifact.c.entity_id == t.relation.c.subject_id)
        .where(t.term.c.scheme == "modality", t.dataset.c.curated)
    ).all()
    of: dict[str, set[int]] = {}
    having: dict[tuple[str, str], set[int]] = {}
    for row in rows:
        of.setdefault(row.code, set()).add(row.entity_id)
        concern = _concern(row.type, row.finding)
        if concern:
            having.setdefault((row.code, concern), set()).add(row.entity_id)
    modalities = sorted(of, key=lambda code: (-len(of[code]), code))
    cells = {
        (code, concern): (len(of[code]), len(having.get((code, concern), ())))
        for code in modalities
        for concern in concerns
    }
    return modalities, concerns, cells


def counts(connection: Connection) -> dict[str, int]:
    """Return how many datasets, artifacts and works are public, and how many datasets are curated."""
    query = select(t.entity.c.kind, func.count()).where(t.entity.c.status == "public").group_by(t.entity.c.kind)
    found = {f"{row[0]}s": int(row[1]) for row in connection.execute(query)}
    found["curated"] = int(connection.scalar(select(func.count()).where(t.dataset.c.curated)) or 0)
    return {"datasets": 0, "artifacts": 0, "works": 0} | found


def public_counter(connection: Connection) -> int:
    """Return how often what is public has changed; a cache is good while it stays."""
    return int(connection.scalar(select(t.counter.c.public)) or 0)


def _concern(kind: str | None, finding: str | None) -> str | None:
    if kind is None:
        return None
    if kind == "bias":
        names = {"sex": "sex", "age": "age", "race or ethnicity": "race or ethnicity", "skin tone": "skin tone",
                 "scanner": "device or scanner"}  # fmt: skip
        return names.get(finding or "", "other shortcut" if finding == "other" else None)
    if kind == "shortcut":
        return "device or scanner" if finding in ("device", "scanner or site") else "other shortcut"
    return {"label_issue": "labels", "data_issue": "data", "documentation": "documentation"}.get(kind)


def _warnings(own: Reference, artifacts: list[Listed], links: list[Linked], record: Dataset) -> list[Warned]:
    found = []
    if record.status != "active":
        found.append(Warned(own.slug, "critical", "status", f"{own.title} is {record.status}.", None))
    for one in artifacts:
        if one.type in vocabulary.WARNS and one.severity != "info":
            text = f"{one.reference.title.rstrip('.')}."
            found.append(Warned(own.slug, one.severity, one.type, text, one.reference, one.sources))
    for relation, advice in _LINEAGE.items():
        others = [link.other for link in links if link.relation == relation]
        if others:
            text = f"{own.title} {relation} {', '.join(other.title for other in others)}: {advice}."
            found.append(Warned(own.slug, "major", "lineage", text, others[0]))
    own_licence = strictest(licence_class(one.spdx, one.text) for one in record.licences)
    made_from = [link for link in links if link.relation in _FROM and "unknown" not in (own_licence, link.licence)]
    for link in made_from:
        if STRICT.index(own_licence) < STRICT.index(link.licence):
            text = (
                f"The licence of {own.title} ({own_licence}) allows more than that of {link.other.title} "
                f"({link.licence}), which it is made from: keep to the stricter."
            )
            found.append(Warned(own.slug, "major", "licence", text, link.other))
    if any(alias.ambiguous for alias in record.aliases):
        names = ", ".join(alias.name for alias in record.aliases if alias.ambiguous)
        found.append(Warned(own.slug, "minor", "name", f"Other datasets are called {names} too: cite by DOI.", None))
    found.sort(key=lambda one: _SEVERITY[one.severity])
    return found


_READ = {
    "DERIVED_FROM": ("is derived from", "is the source of"), "SUBSET_OF": ("is a subset of", "has the subset"),
    "MIRROR_OF": ("is a mirror of", "has the mirror"), "CORRECTS": ("corrects", "is corrected by"),
    "MERGES": ("merges", "is merged into"), "SHARES_PATIENTS_WITH": ("shares patients with", "shares patients with"),
}  # fmt: skip
_FROM = ("is derived from", "is a subset of", "is a mirror of", "merges")
_UNSPLIT = "never train on one and test on the other without splitting by patient over both"
_LINEAGE = {
    "shares patients with": _UNSPLIT, "is a subset of": _UNSPLIT, "has the subset": _UNSPLIT,
    "is derived from": _UNSPLIT, "is the source of": _UNSPLIT, "merges": _UNSPLIT, "is merged into": _UNSPLIT,
    "is a mirror of": "use the original, with its licence and its patient numbers",
    "is corrected by": "use the corrected one",
}  # fmt: skip
"""Relations, as read from the dataset, that its users are warned of, and what to do."""


def _links(connection: Connection, own: int) -> list[Linked]:
    rows = connection.execute(
        select(t.relation.c.verb, t.relation.c.subject_id, t.relation.c.note, t.dataset.c.licence_class, *_REFERENCE)
        .join(
            t.entity,
            or_(
                and_(t.relation.c.subject_id == own, t.entity.c.id == t.relation.c.object_id),
                and_(t.relation.c.object_id == own, t.entity.c.id == t.relation.c.subject_id),
            ),
        )
        .join(t.dataset, t.dataset.c.entity_id == t.entity.c.id)
        .where(
            or_(t.relation.c.subject_id == own, t.relation.c.object_id == own),
            t.relation.c.verb.in_(vocabulary.LINKS), t.entity.c.status == "public",
        )
        .order_by(t.entity.c.title)
    ).all()  # fmt: skip
    found: dict[tuple[str, int], Linked] = {}
    for row in rows:
        name = _READ[row.verb][row.subject_id != own]
        other = Reference(row.id, row.kind, row.slug, row.title)
        found.setdefault((name, row.id), Linked(name, other, row.note or "", row.licence_class))
    return list(found.values())


def _claims(connection: Connection, own: int) -> tuple[Claim, ...]:
    rows = connection.execute(
        select(t.claim, t.entity.c.kind, t.entity.c.slug, t.entity.c.title)
        .outerjoin(t.entity, t.entity.c.id == t.claim.c.work_id)
        .where(t.claim.c.entity_id == own)
        .order_by(t.claim.c.n)
    ).all()
    return tuple(
        Claim(
            row.field, json.loads(row.value), row.unit, row.low, row.high, row.of_n,
            None if row.work_id is None else Reference(row.work_id, row.kind, row.slug, row.title),
            row.url, row.package, row.locator, row.note, row.version, row.verification, bool(row.preferred),
            bool(row.disputed),
        )
        for row in rows
    )  # fmt: skip


def _ends(connection: Connection, own: int, verb: str, *, forwards: bool = False) -> tuple[Reference, ...]:
    here, there = (
        (t.relation.c.subject_id, t.relation.c.object_id)
        if forwards
        else (t.relation.c.object_id, t.relation.c.subject_id)
    )
    rows = connection.execute(
        select(t.entity.c.id, t.entity.c.kind, t.entity.c.slug, t.entity.c.title)
        .join(t.relation, there == t.entity.c.id)
        .where(here == own, t.relation.c.verb == verb, t.entity.c.status == "public")
        .order_by(t.relation.c.id)
    )
    return tuple(Reference(*row) for row in rows)


def _sources(connection: Connection, artifacts: list[int]) -> dict[int, list[Reference]]:
    found: dict[int, list[Reference]] = {}
    if artifacts:
        rows = connection.execute(
            select(t.relation.c.object_id, t.entity.c.id, t.entity.c.kind, t.entity.c.slug, t.entity.c.title)
            .join(t.entity, t.entity.c.id == t.relation.c.subject_id)
            .where(t.relation.c.object_id.in_(artifacts), t.relation.c.verb == "SOURCE")
        )
        for row in rows:
            found.setdefault(row.object_id, []).append(Reference(*row[1:]))
    return found
