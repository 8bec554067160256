"""The log of what was done: each entry holds the hash of the one before, so a change of any byte can be located."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from sqlalchemy import Connection, func, insert, select

from medaudit.review import tables as t
from medaudit.review.database import now
from medaudit.review.records import canonical

START = "0" * 64


def write(connection: Connection, actor: str, action: str, target: str, body: Any) -> int:
    """Append an entry; return its number. Call it in the transaction of what it tells of."""
    last = connection.execute(select(t.audit.c.seq, t.audit.c.hash).order_by(t.audit.c.seq.desc()).limit(1)).first()
    seq, previous = (last.seq + 1, last.hash) if last else (1, START)
    entry = {"seq": seq, "at": now(), "actor": actor, "action": action, "target": target, "body": canonical(body)}
    connection.execute(insert(t.audit).values(**entry, previous=previous, hash=_hash(entry, previous)))
    return seq


def head(connection: Connection) -> tuple[int, str]:
    """Return the number and hash of the last entry; keep them elsewhere, and a shortened log is noticed too."""
    last = connection.execute(select(t.audit.c.seq, t.audit.c.hash).order_by(t.audit.c.seq.desc()).limit(1)).first()
    return (last.seq, last.hash) if last else (0, START)


def verify(connection: Connection) -> list[str]:
    """Return what is wrong with the log, the history and the releases, a sentence each; an empty list where nothing is.

    The log is walked from its start. Each revision must have the digest that the log has of it, be public by the log's
    word, and the entity's shown state must be its last revision.
    """
    found: list[str] = []
    previous, expected = START, 1
    logged: dict[tuple[int, int], str] = {}
    for row in connection.execute(select(t.audit).order_by(t.audit.c.seq)).yield_per(1_000):
        if row.seq != expected:
            found.append(f"entry {expected}: is missing; the next is {row.seq}")
        if row.previous != previous:
            found.append(f"entry {row.seq}: does not follow the entry before it")
        entry = {key: getattr(row, key) for key in ("seq", "at", "actor", "action", "target", "body")}
        if _hash(entry, row.previous) != row.hash:
            found.append(f"entry {row.seq}: was changed ({row.action} {row.target}, {row.at})")
        previous, expected = row.hash, row.seq + 1
        if row.action == "accept":
            try:
                logged |= {(put["id"], put["rev"]): put["digest"] for put in json.loads(row.body)["puts"]}
            except (ValueError, KeyError, TypeError):
                found.append(f"entry {row.seq}: its body cannot be read")
    seen = set()
    query = select(t.revision, t.entity.c.kind, t.entity.c.slug).join(t.entity, t.entity.c.id == t.revision.c.entity_id)
    for row in connection.execute(query.order_by(t.revision.c.entity_id, t.revision.c.rev)).yield_per(1_000):
        where = f"{row.kind} '{row.slug}', revision {row.rev}"
        seen.add((row.entity_id, row.rev))
        if hashlib.sha256((row.record or "").encode()).hexdigest() != row.digest:
            found.append(f"{where}: its record was changed")
        if (row.entity_id, row.rev) not in logged:
            found.append(f"{where}: the log does not know it")
        elif logged[(row.entity_id, row.rev)] != row.digest:
            found.append(f"{where}: is not what was accepted")
    found += [f"entity {key[0]}, revision {key[1]}: was accepted and is gone" for key in sorted(set(logged) - seen)]
    last = dict(
        connection.execute(
            select(t.revision.c.entity_id, func.max(t.revision.c.rev)).group_by(t.revision.c.entity_id)
        ).all()
    )
    for row in connection.execute(select(t.entity.c.id, t.entity.c.kind, t.entity.c.slug, t.entity.c.rev)):
        if last.get(row.id) != row.rev:
            found.append(f"{row.kind} '{row.slug}': shows revision {row.rev}, its last is {last.get(row.id)}")
    for row in connection.execute(select(t.release)):
        entries = connection.execute(
            select(t.revision.c.entity_id, t.revision.c.rev, t.revision.c.digest)
            .join(
                t.release_entry,
                (t.release_entry.c.entity_id == t.revision.c.entity_id) & (t.release_entry.c.rev == t.revision.c.rev),
            )
            .where(t.release_entry.c.release_id == row.id)
            .order_by(t.revision.c.entity_id)
        )
        if release_digest([tuple(entry) for entry in entries]) != row.digest:
            found.append(f"release {row.version}: is not what was frozen")
    return found


def release_digest(entries: list[Any]) -> str:
    """Return the SHA-256 of a release's entity ids, revisions and their digests."""
    return hashlib.sha256(canonical([list(entry) for entry in entries]).encode()).hexdigest()


def _hash(entry: dict[str, Any], previous: str) -> str:
    return hashlib.sha256(canonical({**entry, "previous": previous}).encode()).hexdigest()
