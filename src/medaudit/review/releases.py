"""Releases: a frozen state that can be cited, compared and restored."""

from __future__ import annotations

import json
from dataclasses import dataclass

from sqlalchemy import Connection, select

from medaudit.errors import UsageError
from medaudit.review import tables as t
from medaudit.review.differences import Difference, between
from medaudit.review.people import Person
from medaudit.review.workflow import propose, restoring


@dataclass(frozen=True)
class Release:
    """A frozen state: its digest is over every record's digest; the log's head is that of the moment."""

    version: str
    frozen: str
    digest: str
    log_seq: int
    log_hash: str
    trigger: str
    changelog: str
    records: int


@dataclass(frozen=True)
class Changed:
    """A record that two releases have differently; ``differences`` by field."""

    kind: str
    slug: str
    what: str
    differences: tuple[Difference, ...]


def find(connection: Connection, version: str) -> Release:
    """Return a release; UsageError naming those there are."""
    for release in all_of(connection):
        if release.version == version:
            return release
    known = ", ".join(release.version for release in all_of(connection)) or "none"
    raise UsageError(f"there is no release {version}; there are: {known}")


def report_of(connection: Connection, version: str) -> str:
    """Return how the review was made up to a release (PRISMA-LSR, Markdown), as it was written when it was frozen."""
    query = select(t.release_report.c.text).join(t.release, t.release.c.id == t.release_report.c.release_id)
    return str(connection.scalar(query.where(t.release.c.version == version)) or "")


def all_of(connection: Connection) -> list[Release]:
    """Return the releases, the newest first."""
    releases = []
    for row in connection.execute(select(t.release).order_by(t.release.c.id.desc())).all():
        records = connection.execute(
            select(t.release_entry.c.entity_id).where(t.release_entry.c.release_id == row.id)
        ).all()
        releases.append(
            Release(
                row.version, row.frozen, row.digest, row.log_seq, row.log_hash, row.trigger, row.changelog, len(records)
            )
        )
    return releases


def state_of(connection: Connection, version: str | None) -> dict[tuple[str, str], str | None]:
    """Return the records (canonical JSON) of a release by kind and slug; of what is public now where None."""
    if version is None:
        query = (
            select(t.entity.c.kind, t.entity.c.slug, t.revision.c.record)
            .join(t.revision, (t.revision.c.entity_id == t.entity.c.id) & (t.revision.c.rev == t.entity.c.rev))
            .where(t.entity.c.status == "public")
        )
    else:
        find(connection, version)
        query = (
            select(t.entity.c.kind, t.entity.c.slug, t.revision.c.record)
            .join(t.release_entry, t.release_entry.c.entity_id == t.entity.c.id)
            .join(t.release, t.release.c.id == t.release_entry.c.release_id)
            .join(
                t.revision,
                (t.revision.c.entity_id == t.entity.c.id) & (t.revision.c.rev == t.release_entry.c.rev),
            )
            .where(t.release.c.version == version)
        )
    rows = connection.execute(query.order_by(t.entity.c.kind, t.entity.c.slug))
    return {(row.kind, row.slug): row.record for row in rows}


def compare(connection: Connection, earlier: str | None, later: str | None) -> list[Changed]:
    """Return what differs between two releases; None stands for what is public now."""
    first, second = state_of(connection, earlier), state_of(connection, later)
    changed = []
    for kind, slug in sorted({*first, *second}):
        old, new = first.get((kind, slug)), second.get((kind, slug))
        if old == new:
            continue
        what = "new" if old is None else "retired" if new is None else "changed"
        steps = between(None if old is None else json.loads(old), None if new is None else json.loads(new))
        changed.append(Changed(kind, slug, what, tuple(steps)))
    return changed


def restore(connection: Connection, editor: Person, version: str) -> int | None:
    """Propose that what is public be again as release ``version`` had it; return the contribution, None where it is so.

    Nothing is lost: what came since becomes tombstones and earlier revisions. Another person accepts it.
    """
    editor.must("restore")
    changes = restoring(connection, state_of(connection, version))
    if not changes:
        return None
    return propose(connection, editor, f"Restore release {version}", changes, note=f"{len(changes)} records differ")
