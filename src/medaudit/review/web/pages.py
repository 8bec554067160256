"""The public pages: what each shows. A page is a template and its context, for the server and for the static site."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from medaudit.errors import UsageError
from medaudit.review import graph, releases, search, views, vocabulary, workflow
from medaudit.review.grammar import FIELDS

SHOWN = 25


@dataclass(frozen=True)
class Page:
    """A template, its context, and the status; ``moved`` where the record was merged into another."""

    template: str
    context: dict[str, Any]
    status: int = 200
    moved: tuple[str, str] | None = None


def missing(what: str) -> Page:
    """Return the page that says that something is not there."""
    return Page("message.html", {"title": "Not found", "text": what}, 404)


def home(connection: Connection) -> Page:
    """Return the first page: what this is, a search field, the gravest findings, the newest."""
    recent = views.timeline(connection)
    found = search.search(connection, "kind:artifact severity:critical OR severity:major", limit=8)
    return Page(
        "home.html",
        {"title": "The living review", "counts": views.counts(connection), "recent": recent[:8], "grave": found.hits,
         "releases": releases.all_of(connection)[:1]},
    )  # fmt: skip


def searched(connection: Connection, query: str, offset: int = 0) -> Page:
    """Return the page of what a query finds, with facets."""
    try:
        results = search.search(connection, query, limit=SHOWN, offset=max(0, offset), facets=True)
    except UsageError as error:
        refused = {"title": "Search", "query": query, "results": None, "problem": str(error), "offset": 0}
        return Page("search.html", refused | {"fields": FIELDS, "shown": SHOWN}, 400)
    context: dict[str, Any] = {"title": query or "Everything", "query": query, "results": results, "problem": ""}
    context["offset"] = offset
    return Page("search.html", context | {"fields": FIELDS, "shown": SHOWN})


def dataset(connection: Connection, slug: str) -> Page:
    """Return a dataset's page."""
    view = views.dataset(connection, slug)
    if view is None:
        return _gone(connection, "dataset", slug)
    fields: dict[str, list[views.Claim]] = {}
    for claim in view.claims:
        fields.setdefault(f"{claim.field}{f' ({claim.version})' if claim.version else ''}", []).append(claim)
    for claims in fields.values():
        claims.sort(key=lambda claim: not claim.preferred)
    by_type: dict[str, list[views.Listed]] = {}
    for one in view.artifacts:
        by_type.setdefault(one.type, []).append(one)
    drawn = graph.around(connection, "dataset", slug)
    context = {"title": view.shown.reference.title, "view": view, "fields": fields, "by_type": by_type, "graph": drawn}
    return Page("dataset.html", context)


def artifact(connection: Connection, slug: str) -> Page:
    """Return an artifact's page."""
    view = views.artifact(connection, slug)
    if view is None:
        return _gone(connection, "artifact", slug)
    return Page("artifact.html", {"title": view.shown.reference.title, "view": view})


def work(connection: Connection, slug: str) -> Page:
    """Return a work's page."""
    view = views.work(connection, slug)
    if view is None:
        return _gone(connection, "work", slug)
    return Page("work.html", {"title": view.shown.reference.title, "view": view})


def drawn(connection: Connection, kind: str, slug: str, hops: int = 1) -> Page:
    """Return the graph around a record, as a picture and as a table."""
    found = graph.around(connection, kind, slug, hops=min(max(hops, 1), 2)) if kind in _KINDS else None
    if found is None or not found.nodes:
        return missing(f"There is no {kind} '{slug}'.")
    names = {node.id: node for node in found.nodes}
    root = names.get(found.root)
    if root is None:
        return _gone(connection, kind, slug)
    context = {"title": f"Around {root.title}", "graph": found, "root": root, "names": names, "hops": hops}
    return Page("graph.html", context)


def compared(connection: Connection, slugs: list[str]) -> Page:
    """Return up to six datasets side by side."""
    slugs = list(dict.fromkeys(slug for slug in slugs if slug))[:6]
    found = [view for view in (views.dataset(connection, slug) for slug in slugs) if view is not None]
    fields = sorted({claim.field for view in found for claim in view.claims if not claim.field.startswith("demog")})
    shared = views.warned(connection, [view.shown.reference.slug for view in found])[0] if len(found) > 1 else []
    context = {"title": "Compare datasets", "views": found, "fields": fields, "slugs": slugs,
               "shared": [one for one in shared if one.kind == "lineage" and one.severity == "critical"]}  # fmt: skip
    return Page("compare.html", context)


def timeline(connection: Connection) -> Page:
    """Return datasets and findings by year."""
    years: dict[str, list[Any]] = {}
    for entry in views.timeline(connection):
        years.setdefault(entry[0][:4], []).append(entry)
    return Page("timeline.html", {"title": "Timeline", "years": years})


def gaps(connection: Connection) -> Page:
    """Return the map of what nobody has looked at."""
    modalities, concerns, cells = views.gaps(connection)
    return Page("gaps.html", {"title": "Where nobody has looked", "modalities": modalities, "concerns": concerns,
                              "cells": cells, "names": vocabulary.MODALITIES})  # fmt: skip


def all_releases(connection: Connection) -> Page:
    """Return the list of releases."""
    return Page("releases.html", {"title": "Releases", "releases": releases.all_of(connection)})


def release(connection: Connection, version: str) -> Page:
    """Return one release: its digest, changelog and records."""
    try:
        found = releases.find(connection, version)
    except UsageError as error:
        return missing(str(error))
    entries = sorted(releases.state_of(connection, version))
    context = {"title": f"Release {version}", "release": found, "entries": entries}
    return Page("release.html", context | {"method": releases.report_of(connection, version)})


def difference(connection: Connection, earlier: str | None, later: str | None) -> Page:
    """Return what differs between two releases; an empty name stands for what is public now."""
    known = [one.version for one in releases.all_of(connection)]
    try:
        changed = releases.compare(connection, earlier or None, later or None)
    except UsageError as error:
        return missing(str(error))
    context = {"title": "What changed", "earlier": earlier, "later": later, "changed": changed, "known": known}
    return Page("difference.html", context)


def history(connection: Connection, kind: str, slug: str) -> Page:
    """Return each revision of a record, with what changed by field."""
    revisions = workflow.history(connection, kind, slug) if kind in _KINDS else []
    if not revisions:
        return missing(f"There is no {kind} '{slug}'.")
    return Page("history.html", {"title": f"History of {slug}", "kind": kind, "slug": slug, "revisions": revisions})


def prisma(connection: Connection) -> Page:
    """Return the report on how the review was made (PRISMA-LSR)."""
    from medaudit.review.living import prisma as lsr

    return Page("text.html", {"title": "How this review is made", "text": lsr.text(lsr.report(connection))})


def glossary() -> Page:
    """Return what the words mean."""
    return Page("glossary.html", {"title": "Words"})


_KINDS = ("dataset", "artifact", "work")


def _gone(connection: Connection, kind: str, slug: str) -> Page:
    found = views.shown(connection, kind, slug)
    if found is None:
        return missing(f"There is no {kind} '{slug}'.")
    if found.moved_to is not None:
        return Page("message.html", {"title": "Moved", "text": ""}, 301, (found.moved_to.kind, found.moved_to.slug))
    text = f"This {kind} was retired on {found.updated[:10]}. Its history is kept."
    return Page("message.html", {"title": found.reference.title, "text": text}, 410)
