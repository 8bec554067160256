"""Screening what the searches found, in two stages, by one or two persons who do not see each other's decision."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, delete, func, insert, select

from medaudit.errors import DataError, UsageError
from medaudit.review import log, workflow
from medaudit.review import tables as t
from medaudit.review.database import now
from medaudit.review.living.harvested import link
from medaudit.review.living.providers import PREPRINT
from medaudit.review.people import Person
from medaudit.review.records import parse
from medaudit.review.words import plain

Stage = Literal["title", "fulltext"]
Outcome = Literal["pending", "conflict", "exclude", "include"]
STAGES: tuple[Stage, ...] = ("title", "fulltext")
DECISIONS = ("include", "exclude", "unsure")
REASONS = (
    "not medical imaging", "not about a dataset", "method only, the data are just used", "data are not public",
    "no finding, annotation or documentation of its own", "not a publication", "no full text", "language not read here",
    "duplicate", "retracted", "other",
)  # fmt: skip
"""Why a work is excluded; the report counts them."""


@dataclass(frozen=True)
class Waiting:
    """A work to decide on; what others decided is not shown. ``queries``: how many searches found it."""

    id: int
    title: str
    first_author: str | None
    year: int | None
    venue: str | None
    abstract: str | None
    doi: str | None
    arxiv: str | None
    retracted: str | None
    queries: int


@dataclass(frozen=True)
class Decision:
    """What a person decided."""

    person: str
    decision: str
    reason: str
    at: str


@dataclass(frozen=True)
class Conflict:
    """A work that persons decided differently on; a further person's decision settles it."""

    id: int
    title: str
    stage: Stage
    decisions: tuple[Decision, ...]


@dataclass(frozen=True)
class State:
    """Where a work stands: ``stage`` is the last one that decisions were made in, ``reasons`` those of exclusions."""

    outcome: Outcome
    stage: Stage
    reasons: tuple[str, ...]


def decide(
    connection: Connection, person: Person, number: int, stage: str, decision: str, reason: str = "",
    *, independent: int = 1,
) -> None:  # fmt: skip
    """Write a person's decision on a work; a second one of the same person replaces the first, and the log has both.

    Raises Forbidden, UsageError where the work is not there or merged into another, the reason of an exclusion is none
    of :data:`REASONS`, or the full text is decided on before the title is included.
    """
    person.must("screen")
    if stage not in STAGES or decision not in DECISIONS:
        raise UsageError(f"expected a stage of {', '.join(STAGES)} and a decision of {', '.join(DECISIONS)}")
    if (decision == "exclude") != bool(reason) or (reason and reason not in REASONS):
        raise UsageError(f"an exclusion, and nothing else, needs one of these reasons: {', '.join(REASONS)}")
    row = connection.execute(select(t.harvested.c.merged_into).where(t.harvested.c.id == number)).first()
    if row is None or row.merged_into is not None:
        said = "is not there" if row is None else f"is merged into {row.merged_into}; decide on that"
        raise UsageError(f"record {number} {said}")
    if stage == "fulltext":
        outcome, _ = _settled(decisions(connection, [number]).get(number, {}).get("title", {}), independent)
        if outcome != "include":
            raise UsageError(f"record {number}: the full text comes after the title is included; it is '{outcome}'")
    key = {"harvested_id": number, "stage": stage, "person_id": person.id}
    where = [t.screening.c[name] == value for name, value in key.items()]
    connection.execute(delete(t.screening).where(*where))
    connection.execute(insert(t.screening).values(**key, decision=decision, reason=reason, at=now()))
    log.write(
        connection, person.name, "screen", f"harvested:{number}",
        {"stage": stage, "decision": decision, "reason": reason},
    )  # fmt: skip


def queue(
    connection: Connection, person: Person, stage: Stage = "title", *, independent: int = 1, most: int = 50
) -> list[Waiting]:
    """Return the works that this person can decide on.

    In order: those that others have begun, so that they are finished; those that more searches found; the newest.
    With ``independent=2`` a work waits for two persons. Conflicts stand in the queue of whoever has not decided yet.
    """
    person.must("screen")
    made = decisions(connection)
    root = func.coalesce(t.harvested.c.merged_into, t.harvested.c.id)
    pairs = (
        select(root.label("root"), t.search_run.c.query_id)
        .select_from(t.found)
        .join(t.harvested, t.harvested.c.id == t.found.c.harvested_id)
        .join(t.search_run, t.search_run.c.id == t.found.c.run_id)
        .distinct()
    )
    queries = Counter(row.root for row in connection.execute(pairs))
    rows = connection.execute(
        select(t.harvested.c.id, t.harvested.c.year).where(
            t.harvested.c.merged_into.is_(None), t.harvested.c.first_run.is_not(None)
        )
    )
    waiting = []
    for row in rows:
        mine = made.get(row.id, {})
        if stage == "fulltext" and _settled(mine.get("title", {}), independent)[0] != "include":
            continue
        here = mine.get(stage, {})
        if person.name in here or _settled(here, independent)[0] not in ("pending", "conflict"):
            continue
        waiting.append((-len(here), -queries[row.id], -(row.year or 0), row.id, queries[row.id]))
    chosen = sorted(waiting)[:most]
    shown = {
        row.id: row
        for row in connection.execute(select(t.harvested).where(t.harvested.c.id.in_([one[3] for one in chosen])))
    }
    return [
        Waiting(
            row.id, row.title, row.first_author, row.year, row.venue, row.abstract, row.doi, row.arxiv, row.retracted,
            found,
        )
        for *_, number, found in chosen
        for row in (shown[number],)
    ]  # fmt: skip


def conflicts(connection: Connection, *, independent: int = 1) -> list[Conflict]:
    """Return the works that persons decided differently on, with who decided what; by work and stage."""
    made = decisions(connection)
    found = [
        (number, stage)
        for number, stages in sorted(made.items())
        for stage in STAGES
        if _settled(stages.get(stage, {}), independent)[0] == "conflict"
    ]
    titles: dict[int, str] = {}
    for start in range(0, len(found), 400):
        ids = [number for number, _ in found[start : start + 400]]
        query = select(t.harvested.c.id, t.harvested.c.title).where(t.harvested.c.id.in_(ids))
        titles |= {row.id: row.title for row in connection.execute(query)}
    return [
        Conflict(number, titles[number], stage, tuple(made[number][stage].values())) for number, stage in found
    ]  # fmt: skip


def decisions(
    connection: Connection, wanted: Collection[int] | None = None, until: str | None = None
) -> dict[int, dict[Stage, dict[str, Decision]]]:
    """Return what was decided, by work, stage and person; a decision on a record that was merged counts for its work.

    ``wanted``: these works only; ``until``: as it was at that time, as far as decisions were not replaced since.
    """
    root = func.coalesce(t.harvested.c.merged_into, t.harvested.c.id).label("root")
    query = (
        select(root, t.screening, t.person.c.name)
        .join(t.harvested, t.harvested.c.id == t.screening.c.harvested_id)
        .join(t.person, t.person.c.id == t.screening.c.person_id)
        .order_by(t.screening.c.at, t.screening.c.harvested_id)
    )
    if wanted is not None:
        query = query.where(func.coalesce(t.harvested.c.merged_into, t.harvested.c.id).in_(list(wanted)))
    if until is not None:
        query = query.where(t.screening.c.at <= until)
    made: dict[int, dict[Stage, dict[str, Decision]]] = defaultdict(lambda: defaultdict(dict))
    for row in connection.execute(query):
        made[row.root][row.stage][row.name] = Decision(row.name, row.decision, row.reason, row.at)
    return {number: dict(stages) for number, stages in made.items()}


def states(connection: Connection, *, independent: int = 1, until: str | None = None) -> dict[int, State]:
    """Return where every work stands that a search brought, by its number; records merged into others are left out.

    ``until``: works that a search had brought by that time, and decisions made by then.
    """
    query = select(t.harvested.c.id).where(t.harvested.c.merged_into.is_(None), t.harvested.c.first_run.is_not(None))
    if until is not None:
        query = query.join(t.search_run, t.search_run.c.id == t.harvested.c.first_run)
        query = query.where(t.search_run.c.started <= until)
    made = decisions(connection, until=until)
    return {number: state(made.get(number, {}), independent) for number in connection.scalars(query)}


def state(made: Mapping[Stage, Mapping[str, Decision]], independent: int = 1) -> State:
    """Return where a work stands by its decisions: excluded at a stage, included after both, else pending.

    A conflict is settled by the majority of three or more; ``unsure`` is no vote.
    """
    for stage in STAGES:
        outcome, reasons = _settled(made.get(stage, {}), independent)
        if outcome != "include":
            return State(outcome, stage, reasons)
    return State("include", "fulltext", ())


def _settled(votes: Mapping[str, Decision], independent: int) -> tuple[Outcome, tuple[str, ...]]:
    yes = sum(vote.decision == "include" for vote in votes.values())
    no = sum(vote.decision == "exclude" for vote in votes.values())
    if yes + no < max(1, independent):
        return "pending", ()
    if yes and no and (yes + no < 3 or yes == no):
        return "conflict", ()
    if yes > no:
        return "include", ()
    return "exclude", tuple(sorted({vote.reason for vote in votes.values() if vote.decision == "exclude"}))


# What is included becomes a proposal ------------------------------------------------------------------------------


def propose_included(
    connection: Connection, person: Person, *, independent: int = 1, most: int = 100, note: str = ""
) -> int | None:
    """Propose the included works that are not public yet; return the contribution, None where there is none.

    A second person accepts it, as any other. The authors are left out: the search keeps the first one only, and a list
    of one would be wrong. A work that was proposed before is left out, rejected or not, unless its
    author withdrew it. Records are ``unverified``: nobody has held them against the paper yet.
    """
    link(connection)
    public = _public_roots(connection)
    chosen = [
        number
        for number, one in sorted(states(connection, independent=independent).items())
        if one.outcome == "include" and number not in public
    ]
    known_slugs = set(connection.scalars(select(t.entity.c.slug).where(t.entity.c.kind == "work")))
    known_slugs |= set(connection.scalars(select(t.change.c.slug).where(t.change.c.kind == "work")))
    proposed = _proposed(connection)
    records = []
    for number in chosen:
        plain_record = _as_work(connection, number, known_slugs)
        names = {plain_record[name] for name in ("doi", "arxiv", "openalex") if name in plain_record}
        names = names or {plain_record["title"]}
        if names & proposed:
            continue
        proposed |= names
        known_slugs.add(plain_record["slug"])
        try:
            records.append(parse(plain_record, f"harvested record {number}"))
        except DataError as error:
            raise DataError(f"{error}; exclude it or enter the work by hand") from None
        if len(records) == most:
            break
    if not records:
        return None
    title = f"{len(records)} work{'s' if len(records) > 1 else ''} of the living search"
    return workflow.propose(connection, person, title, workflow.putting(connection, records), note=note)


def _public_roots(connection: Connection) -> set[int]:
    root = func.coalesce(t.harvested.c.merged_into, t.harvested.c.id)
    return set(connection.scalars(select(root).where(t.harvested.c.work_id.is_not(None))))


def _proposed(connection: Connection) -> set[str]:
    """Return identifiers (or titles, where there are none) of works that stand in contributions not withdrawn."""
    query = (
        select(t.change.c.record)
        .join(t.contribution, t.contribution.c.id == t.change.c.contribution_id)
        .where(t.change.c.kind == "work", t.change.c.record.is_not(None), t.contribution.c.state != "withdrawn")
    )
    found: set[str] = set()
    for text in connection.scalars(query):
        record = json.loads(text)
        names = {record[name] for name in ("doi", "arxiv", "openalex") if record.get(name)}
        found |= names or {record.get("title", "")}
    return found


def _as_work(connection: Connection, number: int, taken: Collection[str]) -> dict[str, Any]:
    """Return a work's record: the publication's words where one of the merged records is one, else the preprint's."""
    rows = connection.execute(
        select(t.harvested).where((t.harvested.c.id == number) | (t.harvested.c.merged_into == number))
    ).all()
    rows = sorted(rows, key=lambda row: (not row.title, row.doi is None or row.doi.startswith(PREPRINT), row.id))
    best = rows[0]

    def first(name: str) -> Any:
        return next((value for row in rows if (value := getattr(row, name))), None)

    preprint = best.doi.startswith(PREPRINT) if best.doi else best.arxiv is not None
    retracted = first("retracted")
    found = {
        "kind": "work", "slug": _slug(best.first_author, first("year"), best.title, taken),
        "type": "preprint" if preprint else "paper", "title": best.title[:500].strip(), "year": first("year"),
        "venue": (best.venue or "")[:300],
        "doi": best.doi or first("doi"), "arxiv": first("arxiv"), "openalex": best.openalex or first("openalex"),
        "retracted": retracted, "verification": "unverified",
    }  # fmt: skip
    return {key: value for key, value in found.items() if value}


_SMALL = frozenset((
    "the", "and", "for", "with", "from", "using", "towards", "toward", "into", "via", "based", "its", "which", "what",
    "how", "why", "can", "are", "does", "was", "when", "where",
))  # fmt: skip


def _slug(author: str | None, year: int | None, title: str, taken: Collection[str]) -> str:
    words = re.findall(r"[a-z0-9]+", plain(title))
    telling = [word for word in words if len(word) > 2 and word not in _SMALL] or words
    name = "".join(re.findall(r"[a-z0-9]+", plain((author or "").split(",")[0])))
    parts = [name or "anonymous", str(year or "undated"), (telling or ["work"])[0]]
    base = "-".join(parts)[:100]
    n, slug = 1, base
    while slug in taken:
        n += 1
        slug = f"{base}-{n}"
    return slug
