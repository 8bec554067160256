"""Propose, review, publish: the only way to what is public, and always through two persons.

A contribution is a list of records, each put over the revision that its author saw. Accepting one writes the new
revisions, the projection and the log in one transaction. Restoring is proposing what was there before.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import Connection, func, insert, select, tuple_, update

from medaudit.errors import DataError, UsageError
from medaudit.review import log, projection
from medaudit.review import tables as t
from medaudit.review.database import now
from medaudit.review.differences import Difference, between, three_ways
from medaudit.review.people import Forbidden, Person
from medaudit.review.records import KINDS, Record, canonical, mentioned, parse
from medaudit.review.words import plain

State = Literal["submitted", "changes requested", "accepted", "rejected", "withdrawn"]
REASONS = (
    "no source", "source does not say it", "duplicate", "out of scope", "spam", "not a finding about a dataset",
    "licence or privacy", "other",
)  # fmt: skip
"""Why a proposal is rejected; the author is told."""
OPEN_AT_MOST = 200
"""Open proposals that one person may have; a flood stops here."""


class Conflict(Exception):
    """Somebody changed the record since the author read it; ``differences`` shows base, theirs and ours."""

    def __init__(self, message: str, differences: Mapping[str, Sequence[Any]]) -> None:
        super().__init__(message)
        self.differences = differences


class Missing(UsageError):
    """There is no such contribution."""


class TooMany(Exception):
    """The person has too many open proposals."""


@dataclass(frozen=True)
class Change:
    """One record to put over revision ``base`` (0: there is none yet); without a record, retire or merge it."""

    kind: str
    slug: str
    base: int
    record: Record | None = None
    redirect_to: str | None = None


@dataclass(frozen=True)
class Contribution:
    """What was proposed, by whom, and what became of it."""

    id: int
    title: str
    state: State
    author: str
    interests: str
    note: str
    created: str
    decided: str | None
    decided_by: str | None
    reason: str | None
    decision_note: str | None
    changes: tuple[Change, ...] = field(repr=False)


def putting(connection: Connection, records: Iterable[Record]) -> list[Change]:
    """Return the changes that put ``records`` over what is there now; a record that changes nothing is left out."""
    records = list(records)
    there = current(connection, [(record.kind, record.slug) for record in records])
    changes = []
    for record in records:
        rev, text = there.get((record.kind, record.slug), (0, None))
        if text != canonical(record.plain()):
            changes.append(Change(record.kind, record.slug, rev, record))
    return changes


def propose(
    connection: Connection,
    author: Person,
    title: str,
    changes: Sequence[Change],
    *,
    note: str = "",
    interests: str = "",
    request_key: str | None = None,
) -> int:
    """Submit a contribution; return its number. Nothing public changes.

    ``interests``: what the author has to do with the data or their makers. ``request_key`` makes it safe to send the
    same request twice: the second gives the first one's number. Raises Forbidden, :class:`TooMany`, UsageError where
    there is nothing to change, DataError where a record refers to one that is neither there nor proposed along.
    """
    author.must("propose")
    if request_key is not None:
        known = connection.scalar(
            select(t.contribution.c.id).where(
                t.contribution.c.author_id == author.id, t.contribution.c.request_key == request_key
            )
        )
        if known is not None:
            return int(known)
    title = " ".join(title.split())[:300]
    if not changes or not title:
        raise UsageError("a contribution needs a title and a change; this one changes nothing")
    waiting = connection.scalar(
        select(func.count()).where(
            t.contribution.c.author_id == author.id, t.contribution.c.state.in_(("submitted", "changes requested"))
        )
    )
    if waiting and waiting >= OPEN_AT_MOST:
        raise TooMany(f"{author.name} has {waiting} open contributions; wait until some are decided")
    _check(connection, changes, author)
    result = connection.execute(
        insert(t.contribution).values(
            title=title,
            state="submitted",
            author_id=author.id,
            interests=interests[:2_000],
            note=note[:5_000],
            created=now(),
            request_key=request_key,
        )
    )
    number = int(result.inserted_primary_key[0])  # type: ignore[index]
    _write_changes(connection, number, changes)
    log.write(
        connection, author.name, "propose", f"contribution:{number}", {"title": title, "changes": _named(changes)}
    )
    return number


def revise(connection: Connection, author: Person, number: int, changes: Sequence[Change], note: str = "") -> None:
    """Replace what an open contribution proposes; only its author may."""
    found = contribution(connection, number)
    _own(found, author)
    _open(found)
    if not changes:
        raise UsageError("a contribution needs a change")
    _check(connection, changes, author)
    connection.execute(t.change.delete().where(t.change.c.contribution_id == number))
    _write_changes(connection, number, changes)
    values: dict[str, Any] = {"state": "submitted"} | ({"note": note[:5_000]} if note else {})
    connection.execute(update(t.contribution).where(t.contribution.c.id == number).values(**values))
    log.write(connection, author.name, "revise", f"contribution:{number}", {"changes": _named(changes)})


def withdraw(connection: Connection, author: Person, number: int) -> None:
    """Take an open contribution back; only its author may."""
    found = contribution(connection, number)
    author.must("withdraw")
    _own(found, author)
    _open(found)
    _decide(connection, number, "withdrawn", author, None, None, decided_by=None)


def reject(connection: Connection, reviewer: Person, number: int, reason: str, note: str = "") -> None:
    """Reject a contribution, with one of :data:`REASONS`; its author sees it."""
    _reviewable(connection, reviewer, number)
    if reason not in REASONS:
        raise UsageError(f"'{reason}' is no reason; there are: {', '.join(REASONS)}")
    _decide(connection, number, "rejected", reviewer, reason, note, decided_by=reviewer.id)


def request_changes(connection: Connection, reviewer: Person, number: int, note: str) -> None:
    """Send a contribution back to its author with what to change."""
    _reviewable(connection, reviewer, number)
    if not note.strip():
        raise UsageError("say what to change")
    _decide(connection, number, "changes requested", reviewer, None, note, decided_by=None)


def accept(connection: Connection, reviewer: Person, number: int, note: str = "") -> list[tuple[str, str, int]]:
    """Publish a contribution; return kind, slug and revision of what is new.

    Raises Forbidden where the reviewer is its author or may not review, :class:`Conflict` where a record has changed
    since it was proposed: exactly one of two proposals over the same revision is accepted.
    """
    found = _reviewable(connection, reviewer, number)
    if any(change.record is None for change in found.changes):
        reviewer.must("retire")
    there = current(connection, [(change.kind, change.slug) for change in found.changes])
    stale = {}
    for change in found.changes:
        rev, shown = there.get((change.kind, change.slug), (0, None))
        if rev != change.base:
            base = _record_at(connection, change.kind, change.slug, change.base)
            ours = None if change.record is None else change.record.plain()
            stale[f"{change.kind}:{change.slug}"] = three_ways(base, shown, ours)
    if stale:
        raise Conflict(f"changed since it was proposed: {', '.join(stale)}", stale)
    _check(connection, found.changes, None)
    at = now()
    puts = _put(connection, number, found.changes, at)
    log.write(
        connection, reviewer.name, "accept", f"contribution:{number}",
        {"author": found.author, "note": note[:2_000], "puts": puts},
    )  # fmt: skip
    connection.execute(
        update(t.contribution)
        .where(t.contribution.c.id == number)
        .values(state="accepted", decided=at, decided_by=reviewer.id, decision_note=note[:2_000])
    )
    connection.execute(update(t.counter).values(public=t.counter.c.public + 1))
    return [(put["kind"], put["slug"], put["rev"]) for put in puts]


def contribution(connection: Connection, number: int) -> Contribution:
    """Return a contribution with its changes; UsageError where there is none of that number."""
    author, decider = t.person.alias("author"), t.person.alias("decider")
    row = connection.execute(
        select(t.contribution, author.c.name.label("author"), decider.c.name.label("decider"))
        .join(author, author.c.id == t.contribution.c.author_id)
        .outerjoin(decider, decider.c.id == t.contribution.c.decided_by)
        .where(t.contribution.c.id == number)
    ).first()
    if row is None:
        raise Missing(f"there is no contribution {number}")
    changes = tuple(
        Change(
            change.kind, change.slug, change.base_rev,
            None if change.record is None else parse(json.loads(change.record), f"contribution {number}"),
            change.redirect_to,
        )
        for change in connection.execute(
            select(t.change).where(t.change.c.contribution_id == number).order_by(t.change.c.n)
        )
    )  # fmt: skip
    return Contribution(
        row.id, row.title, row.state, row.author, row.interests, row.note, row.created, row.decided, row.decider,
        row.reason, row.decision_note, changes,
    )  # fmt: skip


def listed(connection: Connection, person: Person, state: str, after: int, limit: int) -> list[dict[str, Any]]:
    """Return contributions in ``state`` (or any), those that ``person`` may see, by number."""
    query = (
        select(t.contribution, t.person.c.name.label("author"))
        .join(t.person, t.person.c.id == t.contribution.c.author_id)
        .where(t.contribution.c.id > after)
    )
    if state:
        query = query.where(t.contribution.c.state == state)
    if not person.may("review"):
        query = query.where(t.contribution.c.author_id == person.id)
    keys = ("id", "title", "state", "author", "created", "decided", "reason", "decision_note")
    rows = connection.execute(query.order_by(t.contribution.c.id).limit(limit)).all()
    return [{key: getattr(row, key) for key in keys} for row in rows]


def described(found: Contribution) -> dict[str, Any]:
    """Return a contribution as JSON values."""
    told = {key: value for key, value in vars(found).items() if key != "changes"}
    told["changes"] = [
        {"kind": c.kind, "slug": c.slug, "base": c.base, "redirect_to": c.redirect_to,
         "record": None if c.record is None else c.record.plain()}
        for c in found.changes
    ]  # fmt: skip
    return told


def free_slug(connection: Connection, kind: str, text: str) -> str:
    """Return a slug made of ``text`` that no record of the kind has."""
    base = re.sub(r"[^a-z0-9]+", "-", plain(text).encode("ascii", "ignore").decode()).strip("-")[:80].strip("-") or kind
    query = select(t.entity.c.slug).where(t.entity.c.kind == kind, t.entity.c.slug.startswith(base))
    taken = set(connection.scalars(query))
    return base if base not in taken else next(f"{base}-{n}" for n in range(2, 10_000) if f"{base}-{n}" not in taken)


def current(connection: Connection, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], tuple[int, str | None]]:
    """Return revision and record (canonical JSON; None where retired) of those of ``wanted`` that are there."""
    wanted = list(dict.fromkeys(wanted))
    found: dict[tuple[str, str], tuple[int, str | None]] = {}
    for start in range(0, len(wanted), 400):
        rows = connection.execute(
            select(t.entity.c.kind, t.entity.c.slug, t.entity.c.rev, t.revision.c.record)
            .join(t.revision, (t.revision.c.entity_id == t.entity.c.id) & (t.revision.c.rev == t.entity.c.rev))
            .where(tuple_(t.entity.c.kind, t.entity.c.slug).in_(wanted[start : start + 400]))
        )
        found |= {(row.kind, row.slug): (int(row.rev), row.record) for row in rows}
    return found


def history(connection: Connection, kind: str, slug: str) -> list[tuple[int, str, str, str, list[Difference]]]:
    """Return revision, time, author, who accepted it, and what changed by field; the newest first."""
    author, decider = t.person.alias("author"), t.person.alias("decider")
    rows = connection.execute(
        select(t.revision, author.c.name.label("author"), decider.c.name.label("decider"))
        .join(t.entity, t.entity.c.id == t.revision.c.entity_id)
        .join(t.contribution, t.contribution.c.id == t.revision.c.contribution_id)
        .join(author, author.c.id == t.contribution.c.author_id)
        .outerjoin(decider, decider.c.id == t.contribution.c.decided_by)
        .where(t.entity.c.kind == kind, t.entity.c.slug == slug)
        .order_by(t.revision.c.rev)
    ).all()
    states = [None, *(None if row.record is None else json.loads(row.record) for row in rows)]
    return [
        (row.rev, row.at, row.author, row.decider, between(states[n], states[n + 1])) for n, row in enumerate(rows)
    ][::-1]


def steps(connection: Connection, found: Contribution) -> list[tuple[Change, bool, list[Difference]]]:
    """Return each change, whether its base is still what is public, and what it changes by field of its base."""
    there = current(connection, [(change.kind, change.slug) for change in found.changes])
    told = []
    for change in found.changes:
        text = _record_at(connection, change.kind, change.slug, change.base)
        base = None if text is None else json.loads(text)
        new = None if change.record is None else change.record.plain()
        fresh = found.state == "accepted" or there.get((change.kind, change.slug), (0, None))[0] == change.base
        told.append((change, fresh, between(base, new)))
    return told


def restoring(connection: Connection, entries: Mapping[tuple[str, str], str | None]) -> list[Change]:
    """Return the changes that bring these records (canonical JSON) back, and retire what is public beside them."""
    public = connection.execute(
        select(t.entity.c.kind, t.entity.c.slug, t.entity.c.rev).where(t.entity.c.status == "public")
    ).all()
    there = current(connection, [*entries, *((row.kind, row.slug) for row in public)])
    changes = []
    for (kind, slug), text in entries.items():
        rev, shown = there.get((kind, slug), (0, None))
        if text is not None and text != shown:
            changes.append(Change(kind, slug, rev, parse(json.loads(text), f"{kind} '{slug}'")))
    changes += [Change(row.kind, row.slug, row.rev) for row in public if entries.get((row.kind, row.slug)) is None]
    return changes


def _put(connection: Connection, number: int, changes: Sequence[Change], at: str) -> list[dict[str, Any]]:
    ids = projection.ids_of(connection, ((change.kind, change.slug) for change in changes))
    redirects = projection.ids_of(connection, ((c.kind, c.redirect_to) for c in changes if c.redirect_to))
    fresh = [change for change in changes if (change.kind, change.slug) not in ids and change.record is not None]
    if fresh:
        connection.execute(
            insert(t.entity),
            [
                {
                    "kind": c.kind,
                    "slug": c.slug,
                    "title": "",
                    "rev": 0,
                    "status": "public",
                    "created": at,
                    "updated": at,
                }
                for c in fresh
            ],
        )
        ids |= projection.ids_of(connection, ((change.kind, change.slug) for change in fresh))
    puts, rows, states = [], [], []
    for change in changes:
        entity = ids[(change.kind, change.slug)]
        text = None if change.record is None else canonical(change.record.plain())
        redirect = redirects.get((change.kind, change.redirect_to)) if change.redirect_to else None
        digest = hashlib.sha256((text or "").encode()).hexdigest()
        rev = change.base + 1
        rows.append(
            {"entity_id": entity, "rev": rev, "record": text, "digest": digest, "redirect_to": redirect,
             "contribution_id": number, "at": at}
        )  # fmt: skip
        states.append(
            {"entity": entity, "new_rev": rev, "at": at, "to": redirect,
             "shown": "tombstone" if change.record is None else "public",
             "name": change.record.title_shown if change.record is not None else None}
        )  # fmt: skip
        puts.append({"id": entity, "kind": change.kind, "slug": change.slug, "rev": rev, "digest": digest})
    connection.execute(insert(t.revision), rows)
    for state in states:
        connection.execute(
            update(t.entity)
            .where(t.entity.c.id == state["entity"])
            .values(
                rev=state["new_rev"],
                updated=at,
                status=state["shown"],
                redirect_to=state["to"],
                **({"title": state["name"]} if state["name"] is not None else {}),
            )
        )
    projection.put(connection, [(ids[(c.kind, c.slug)], c.record) for c in changes if c.record is not None])
    projection.clear(connection, [ids[(c.kind, c.slug)] for c in changes if c.record is None])
    return puts


def _check(connection: Connection, changes: Sequence[Change], author: Person | None) -> None:
    """Refuse what cannot be put: twice the same, unknown bases, references to nothing, what others still need."""
    keys = [(change.kind, change.slug) for change in changes]
    if len(set(keys)) < len(keys):
        raise UsageError("a contribution names one record twice")
    there = current(connection, keys)
    for change in changes:
        if change.kind not in KINDS:
            raise UsageError(f"there are no '{change.kind}'s; expected one of {', '.join(KINDS)}")
        rev = there.get((change.kind, change.slug), (0, None))[0]
        if change.base > rev:
            raise UsageError(f"{change.kind} '{change.slug}' has no revision {change.base}; the last is {rev}")
        if change.record is None:
            if rev == 0:
                raise UsageError(f"there is no {change.kind} '{change.slug}' to retire")
            if author is not None:
                author.must("propose")
        elif (change.record.kind, change.record.slug) != (change.kind, change.slug):
            raise UsageError(f"{change.kind} '{change.slug}': a slug is for ever; merge the record instead")
    wanted = {(other, change.slug): None for change in changes if change.record for other in mentioned(change.record)}
    goes = {(change.kind, change.slug) for change in changes if change.record is None}
    comes = {(change.kind, change.slug) for change in changes if change.record is not None}
    wanted |= {((change.kind, change.redirect_to), change.slug): None for change in changes if change.redirect_to}
    known = projection.ids_of(connection, (other for other, _ in wanted if other not in comes))
    for other, slug in wanted:
        if other not in comes and other not in known:
            raise DataError(f"'{slug}' refers to {other[0]} '{other[1]}', which is not there; propose it along")
    for kind, slug in goes:
        if any(change.redirect_to == slug and change.kind == kind for change in changes):
            raise UsageError(f"{kind} '{slug}' cannot be merged into itself or into what goes")


def _record_at(connection: Connection, kind: str, slug: str, rev: int) -> str | None:
    return connection.scalar(
        select(t.revision.c.record)
        .join(t.entity, t.entity.c.id == t.revision.c.entity_id)
        .where(t.entity.c.kind == kind, t.entity.c.slug == slug, t.revision.c.rev == rev)
    )


def _write_changes(connection: Connection, number: int, changes: Sequence[Change]) -> None:
    connection.execute(
        insert(t.change),
        [
            {"contribution_id": number, "n": n, "kind": c.kind, "slug": c.slug, "base_rev": c.base,
             "record": None if c.record is None else canonical(c.record.plain()), "redirect_to": c.redirect_to}
            for n, c in enumerate(changes)
        ],
    )  # fmt: skip


def _named(changes: Sequence[Change]) -> list[str]:
    return [f"{change.kind}:{change.slug}" for change in changes]


def _own(found: Contribution, author: Person) -> None:
    if found.author != author.name:
        raise Forbidden(f"contribution {found.id} is {found.author}'s")


def _open(found: Contribution) -> None:
    if found.state not in ("submitted", "changes requested"):
        raise UsageError(f"contribution {found.id} is {found.state}")


def _reviewable(connection: Connection, reviewer: Person, number: int) -> Contribution:
    reviewer.must("review")
    found = contribution(connection, number)
    _open(found)
    if found.author == reviewer.name:
        raise Forbidden(f"contribution {number} is your own; another person decides it")
    if found.state != "submitted":
        raise UsageError(f"contribution {number} waits for its author ({found.state})")
    return found


def _decide(
    connection: Connection, number: int, state: str, by: Person, reason: str | None, note: str | None, *,
    decided_by: int | None,
) -> None:  # fmt: skip
    connection.execute(
        update(t.contribution)
        .where(t.contribution.c.id == number)
        .values(state=state, decided=now(), decided_by=decided_by, reason=reason, decision_note=(note or "")[:2_000])
    )
    action = {"rejected": "reject", "withdrawn": "withdraw", "changes requested": "request changes"}[state]
    log.write(connection, by.name, action, f"contribution:{number}", {"reason": reason, "note": (note or "")[:2_000]})
