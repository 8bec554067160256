"""What a review holds of a run: the contributions that propose its findings, or have published them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from medaudit.review import tables as t
from medaudit.review.records import digest


@dataclass(frozen=True)
class Publication:
    """A contribution with a run's findings: its number and state, its artifact, and whether that is public."""

    number: int
    state: str
    artifact: str
    title: str
    public: bool


def of_run(connection: Connection, run: Mapping[str, Any]) -> list[Publication]:
    """Return the contributions that hold findings of a run, the first one first.

    ``run`` is what ``run.json`` holds. Its verb, settings and inputs tell it from others, as in
    :func:`medaudit.review.published.artifact`: a copy of the folder is the same run.
    """
    identity = digest({key: run[key] for key in ("verb", "settings", "inputs")})
    rows = connection.execute(
        select(t.change.c.slug, t.change.c.record, t.contribution.c.id, t.contribution.c.state)
        .join(t.contribution, t.contribution.c.id == t.change.c.contribution_id)
        .where(t.change.c.kind == "artifact", t.change.c.slug.like(f"%-{identity[:12]}"))
        .order_by(t.contribution.c.id)
    ).all()
    public = set(
        connection.scalars(
            select(t.entity.c.slug).where(
                t.entity.c.kind == "artifact",
                t.entity.c.status == "public",
                t.entity.c.slug.in_([r.slug for r in rows]),
            )
        )
    )
    found = []
    for row in rows:
        record = json.loads(row.record) if row.record else {}
        if (record.get("run") or {}).get("sha256") != identity:  # twelve letters are no proof
            continue
        shown = row.state == "accepted" and row.slug in public
        found.append(Publication(row.id, row.state, row.slug, str(record.get("title", row.slug)), shown))
    return found
