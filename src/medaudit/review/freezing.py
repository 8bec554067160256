"""Freezing: what is public becomes a release that can be cited, with the report of how it was made."""

from __future__ import annotations

import re

from sqlalchemy import Connection, insert, select, update

from medaudit.errors import UsageError
from medaudit.review import log, releases
from medaudit.review import tables as t
from medaudit.review.database import now
from medaudit.review.people import Person
from medaudit.review.releases import Release

_VERSION = re.compile(r"v\d{4}\.\d{2}(\.\d+)?")


def freeze(connection: Connection, editor: Person, version: str, trigger: str) -> Release:
    """Freeze what is public as ``version`` (``v2026.11``); ``trigger`` says why now (PRISMA-LSR asks).

    Raises Forbidden, UsageError where the version is taken or not of that form.
    """
    # The readers of sources come with it: a server that only shows has no use for them.
    from medaudit.review.living import prisma

    editor.must("release")
    if not _VERSION.fullmatch(version):
        raise UsageError(f"'{version}' is no version; expected one as v2026.11 or v2026.11.1")
    if connection.scalar(select(t.release.c.id).where(t.release.c.version == version)) is not None:
        raise UsageError(f"release {version} is there already; a release is for ever")
    rows = connection.execute(
        select(t.entity.c.id, t.entity.c.rev, t.revision.c.digest)
        .join(t.revision, (t.revision.c.entity_id == t.entity.c.id) & (t.revision.c.rev == t.entity.c.rev))
        .where(t.entity.c.status == "public")
        .order_by(t.entity.c.id)
    ).all()
    earlier = connection.scalar(select(t.release.c.version).order_by(t.release.c.id.desc()).limit(1))
    seq, head = log.head(connection)
    frozen = now()
    result = connection.execute(
        insert(t.release).values(
            version=version,
            frozen=frozen,
            digest=log.release_digest([tuple(row) for row in rows]),
            log_seq=seq,
            log_hash=head,
            trigger=trigger[:2_000],
            changelog=_changelog(connection, earlier, {row.id: row.rev for row in rows}),
        )
    )
    number = int(result.inserted_primary_key[0])  # type: ignore[index]
    if rows:
        connection.execute(
            insert(t.release_entry), [{"release_id": number, "entity_id": row.id, "rev": row.rev} for row in rows]
        )
    written = prisma.text(prisma.report(connection, version))
    connection.execute(insert(t.release_report).values(release_id=number, text=written))
    connection.execute(update(t.counter).values(public=t.counter.c.public + 1))  # its page is new
    log.write(connection, editor.name, "release", f"release:{version}", {"records": len(rows), "trigger": trigger})
    return releases.find(connection, version)


def _changelog(connection: Connection, earlier: str | None, now_: dict[int, int]) -> str:
    names = {row.id: row for row in connection.execute(select(t.entity.c.id, t.entity.c.kind, t.entity.c.title))}
    if earlier is None:
        counts = {kind: sum(names[one].kind == kind for one in now_) for kind in ("dataset", "artifact", "work")}
        return f"First release: {counts['dataset']} datasets, {counts['artifact']} artifacts, {counts['work']} works."
    before = {
        row.entity_id: row.rev
        for row in connection.execute(
            select(t.release_entry.c.entity_id, t.release_entry.c.rev)
            .join(t.release, t.release.c.id == t.release_entry.c.release_id)
            .where(t.release.c.version == earlier)
        )
    }
    lines = [f"Since {earlier}:"]
    for word, chosen in (
        ("new", [one for one in now_ if one not in before]),
        ("changed", [one for one in now_ if one in before and before[one] != now_[one]]),
        ("retired", [one for one in before if one not in now_]),
    ):
        lines += [f'- {word}: {names[one].kind} "{names[one].title}"' for one in sorted(chosen)]
    return "\n".join(lines if len(lines) > 1 else [*lines, "- nothing"])
