"""Atom feeds (RFC 4287): what was published about a dataset, or about any."""

from __future__ import annotations

from xml.etree import ElementTree as xml

from sqlalchemy import Connection, select

from medaudit.review import tables as t
from medaudit.review import views

_ATOM = "http://www.w3.org/2005/Atom"


def dataset(connection: Connection, slug: str) -> str | None:
    """Return the feed of one dataset's artifacts; None where there is no such dataset."""
    view = views.dataset(connection, slug)
    if view is None:
        return None
    ids = [one.reference.id for one in view.artifacts]
    return _feed(connection, f"Findings about {view.shown.reference.title}", f"dataset:{slug}", ids)


def everything(connection: Connection, limit: int = 50) -> str:
    """Return the feed of the artifacts that were changed last."""
    query = select(t.entity.c.id).where(t.entity.c.kind == "artifact", t.entity.c.status == "public")
    ids = list(connection.scalars(query.order_by(t.entity.c.updated.desc(), t.entity.c.id.desc()).limit(limit)))
    return _feed(connection, "Findings about datasets of medical images", "all", ids)


def _feed(connection: Connection, title: str, name: str, ids: list[int]) -> str:
    rows = connection.execute(
        select(t.entity, t.artifact.c.type, t.artifact.c.severity)
        .join(t.artifact, t.artifact.c.entity_id == t.entity.c.id)
        .where(t.entity.c.id.in_(ids))
        .order_by(t.entity.c.updated.desc(), t.entity.c.id.desc())
    ).all()
    xml.register_namespace("", _ATOM)
    feed = xml.Element(f"{{{_ATOM}}}feed")

    def add(parent: xml.Element, tag: str, text: str = "", **attributes: str) -> None:
        child = xml.SubElement(parent, f"{{{_ATOM}}}{tag}", attributes)
        child.text = text or None

    add(feed, "title", title)
    add(feed, "id", f"urn:medaudit:review:{name}")
    add(feed, "updated", rows[0].updated if rows else "1970-01-01T00:00:00Z")
    for row in rows:
        entry = xml.SubElement(feed, f"{{{_ATOM}}}entry")
        add(entry, "title", row.title)
        add(entry, "id", f"urn:medaudit:review:artifact:{row.slug}:{row.rev}")
        add(entry, "updated", row.updated)
        add(entry, "link", rel="alternate", href=f"/artifacts/{row.slug}")
        add(entry, "summary", f"{row.type.replace('_', ' ')}, {row.severity}")
        author = xml.SubElement(entry, f"{{{_ATOM}}}author")
        add(author, "name", "the living review")
    return '<?xml version="1.0" encoding="utf-8"?>\n' + xml.tostring(feed, encoding="unicode")
