"""The report of a living systematic review, from what was done: PRISMA-LSR (BMJ 2024;387:e079183), items L1 to L4.

L1: the parameters of the living mode; L2: what changed in the methods since the last version; L3: what changed in the
results; L4: the authors and their roles. With them the flow of records. Nothing of it is typed in by hand, but the
reason for living and the plan for its end.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from medaudit.review import releases
from medaudit.review import tables as t
from medaudit.review.database import now
from medaudit.review.living.providers import PROVIDERS
from medaudit.review.living.screening import states

WHY = (
    "Findings about a public dataset appear for as long as it is used: shortcuts, wrong labels, patients shared with "
    "other datasets, further annotations. A review that ends does not have them."
)
"""Why this review is a living one (arXiv 2501.10727); the words are ours."""


@dataclass(frozen=True)
class Schedule:
    """L1: a source, what it is asked and how often, when it was last asked in whole, and when it was retired."""

    name: str
    provider: str
    expression: str
    every_days: int
    last: str | None
    retired: str | None


@dataclass(frozen=True)
class Flow:
    """How many records, from the searches to what is included.

    ``identified`` counts each record once a search that found it, by search in ``by_search``. ``duplicates`` are those
    of several searches, those merged into another record, and those that were known before any search.
    identified = duplicates + screened, and screened = excluded + included + pending.
    """

    identified: int
    by_search: tuple[tuple[str, int], ...]
    several_searches: int
    merged: int
    known: int
    screened: int
    excluded_title: tuple[tuple[str, int], ...]
    excluded_fulltext: tuple[tuple[str, int], ...]
    excluded: int
    pending: int
    conflicts: int
    included: int

    @property
    def duplicates(self) -> int:
        """How many identified records are not screened by themselves."""
        return self.several_searches + self.merged + self.known


@dataclass(frozen=True)
class Role:
    """L4: a person, the role, and what they did: proposals written and decided, screening decisions, releases."""

    name: str
    role: str
    proposed: int
    decided: int
    screened: int
    released: int


@dataclass(frozen=True)
class Report:
    """All that the report says; ``version`` is None for what is public now."""

    version: str | None
    previous: str | None
    at: str
    trigger: str
    why: str
    retirement: str
    independent: int
    schedules: tuple[Schedule, ...]
    methods: tuple[str, ...]
    results: tuple[str, ...]
    counts: tuple[tuple[str, int], ...]
    flow: Flow
    flow_before: Flow | None
    roles: tuple[Role, ...]


def report(
    connection: Connection, version: str | None = None, *, why: str = WHY, retirement: str = "", independent: int = 1
) -> Report:
    """Return the report of a release, or of what is public now.

    ``retirement``: when the living mode is to end; an empty one is reported as not stated. The flow of an earlier
    release is recounted from what is kept: decisions that were replaced and merges made since then are as they are now.
    Write the report when a release is frozen to have it as it was. Raises UsageError where there is no such release.
    """
    all_of = releases.all_of(connection)
    this = releases.find(connection, version) if version is not None else None
    earlier = [one for one in all_of if this is None or one.log_seq < this.log_seq]
    before = earlier[0] if earlier else None
    at = this.frozen if this else now()
    # The log's entry of the release itself follows the head that the release holds.
    until = (this.frozen, this.log_seq + 1) if this else (None, None)
    counts: Counter[str] = Counter(kind for kind, _ in releases.state_of(connection, version))
    changed = releases.compare(connection, before.version, version) if before else []
    results = tuple(f"{one.what}: {one.kind} {one.slug}" for one in changed)
    return Report(
        version, before.version if before else None, at, this.trigger if this else "", why, retirement, independent,
        _schedules(connection, until[0]), _methods(connection, before.log_seq if before else 0, until[1]),
        results, tuple(sorted(counts.items())), flow(connection, independent=independent, until=until[0]),
        flow(connection, independent=independent, until=before.frozen) if before else None,
        _roles(connection, until[1]),
    )  # fmt: skip


def flow(connection: Connection, *, independent: int = 1, until: str | None = None) -> Flow:
    """Return the flow of records up to ``until``: of the runs begun and the decisions made by then."""
    query = (
        select(t.query.c.name, t.found.c.harvested_id, t.harvested.c.merged_into)
        .join(t.search_run, t.search_run.c.id == t.found.c.run_id)
        .join(t.query, t.query.c.id == t.search_run.c.query_id)
        .join(t.harvested, t.harvested.c.id == t.found.c.harvested_id)
        .distinct()
    )
    if until is not None:
        query = query.where(t.search_run.c.started <= until)
    by_search: dict[str, int] = defaultdict(int)
    root_of: dict[int, int] = {}
    for row in connection.execute(query):
        by_search[row.name] += 1
        root_of[row.harvested_id] = row.merged_into or row.harvested_id
    standing = states(connection, independent=independent, until=until)
    roots = set(root_of.values())
    # The rest were entered before a search met them: works that are public since the seed, or cited ones of a load.
    screened = {one for one in roots if one in standing}
    excluded = {
        stage: Counter(
            "; ".join(standing[one].reasons) or "no reason"
            for one in screened
            if standing[one].outcome == "exclude" and standing[one].stage == stage
        )
        for stage in ("title", "fulltext")
    }
    outcomes = Counter(standing[one].outcome for one in screened)
    return Flow(
        identified=sum(by_search.values()),
        by_search=tuple(sorted(by_search.items())),
        several_searches=sum(by_search.values()) - len(root_of),
        merged=len(root_of) - len(roots),
        known=len(roots) - len(screened),
        screened=len(screened),
        excluded_title=_ranked(excluded["title"]),
        excluded_fulltext=_ranked(excluded["fulltext"]),
        excluded=outcomes["exclude"],
        pending=outcomes["pending"] + outcomes["conflict"],
        conflicts=outcomes["conflict"],
        included=outcomes["include"],
    )


def text(report: Report) -> str:
    """Return the report as Markdown; what people typed is shown as typed, and never as markup."""
    version = report.version or "as it is now"
    lines = [
        f"# Medical-imaging datasets and their research artifacts: a living review, {_safe(version)}", "",
        (f"Version {_safe(report.version)}" if report.version else "Not released yet") + f", {report.at[:10]}. "
        + (f"It follows {_safe(report.previous)}." if report.previous else "It is the first."), "",
        f"Why living: {_safe(report.why)}", "",
        f"What led to this version: {_safe(report.trigger) or 'not stated'}.", "",
        "## Parameters of the living mode (L1)", "",
        *_table(
            ("search", "source", "asked for", "every", "last whole run", "retired"),
            ((one.name, one.provider, one.expression, f"{one.every_days} days", (one.last or "never")[:10],
              (one.retired or "")[:10]) for one in report.schedules),
        ), "",
        f"A work is decided on by {report.independent} {'person' if report.independent == 1 else 'persons'} at each "
        "stage, title and full text; what is included is proposed, and a second person accepts it.", "",
        f"End of the living mode: {_safe(report.retirement) or 'not stated'}.", "",
        "## Changes of the methods (L2)", "",
        *([f"- {_safe(line)}" for line in report.methods] or ["None since the version before."]), "",
        "## Changes of the results (L3)", "",
        "There are " + (", ".join(f"{n} {kind}{'' if n == 1 else 's'}" for kind, n in report.counts) or "no records")
        + ".", "",
        *([f"- {_safe(line)}" for line in report.results]
          or ["Nothing changed." if report.previous else "There is no version before."]), "",
        "## Flow of records", "", *_flow(report.flow, report.flow_before), "",
        "## Authors and roles (L4)", "",
        *_table(
            ("person", "role", "proposals", "decided", "screened", "releases"),
            ((one.name, one.role, *map(str, (one.proposed, one.decided, one.screened, one.released)))
             for one in report.roles),
        ), "",
        "Reported after PRISMA-LSR (BMJ 2024;387:e079183).",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _schedules(connection: Connection, until: str | None) -> tuple[Schedule, ...]:
    last: dict[int, str] = {}
    query = select(t.search_run.c.query_id, func.max(t.search_run.c.started).label("last"))
    query = query.where(t.search_run.c.finished.is_not(None), t.search_run.c.error.is_(None))
    if until is not None:
        query = query.where(t.search_run.c.finished <= until)
    for row in connection.execute(query.group_by(t.search_run.c.query_id)):
        last[row.query_id] = row.last
    rows = connection.execute(select(t.query).where(t.query.c.provider.in_(PROVIDERS)).order_by(t.query.c.name))
    return tuple(
        Schedule(
            row.name, row.provider, row.expression, row.every_days, last.get(row.id),
            row.retired if until is None or (row.retired or "") <= until else None,
        )
        for row in rows
    )  # fmt: skip


def _methods(connection: Connection, after: int, until: int | None) -> tuple[str, ...]:
    query = select(t.audit).where(t.audit.c.action.in_(("save query", "retire query")), t.audit.c.seq > after)
    if until is not None:
        query = query.where(t.audit.c.seq <= until)
    lines = []
    for row in connection.execute(query.order_by(t.audit.c.seq)):
        body, name = json.loads(row.body), row.target.removeprefix("query:")
        if row.action == "save query":
            what = (
                f"search '{name}' was added: {body['provider']}, {body['expression']}, every {body['every_days']} days"
            )
        else:
            what = f"search '{name}' was retired: {body['reason']}"
        lines.append(f"{row.at[:10]}: {what}")
    return tuple(lines)


def _roles(connection: Connection, until: int | None) -> tuple[Role, ...]:
    query = select(t.audit.c.actor, t.audit.c.action, func.count().label("n"))
    if until is not None:
        query = query.where(t.audit.c.seq <= until)
    did: dict[str, Counter[str]] = defaultdict(Counter)
    for row in connection.execute(query.group_by(t.audit.c.actor, t.audit.c.action)):
        did[row.actor][row.action] += row.n
    people = connection.execute(select(t.person.c.name, t.person.c.role).order_by(t.person.c.name))
    roles = [
        Role(
            row.name, row.role, did[row.name]["propose"],
            sum(did[row.name][what] for what in ("accept", "reject", "request changes")), did[row.name]["screen"],
            did[row.name]["release"],
        )
        for row in people
        if row.name in did
    ]  # fmt: skip
    return tuple(one for one in roles if one.proposed or one.decided or one.screened or one.released)


def _ranked(counts: Counter[str]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(counts.items(), key=lambda one: (-one[1], one[0])))


def _flow(flow: Flow, before: Flow | None) -> list[str]:
    def row(name: str, now_: int, then: int | None) -> tuple[str, ...]:
        return (name, str(now_), "" if then is None else str(then))

    rows = [
        (f"identified by '{name}'", count, dict(before.by_search).get(name, 0) if before else None)
        for name, count in flow.by_search
    ]
    for name, what in (
        ("identified", "identified"), ("found by several searches", "several_searches"),
        ("the same work as another record", "merged"), ("known before", "known"), ("screened", "screened"),
        ("excluded", "excluded"), ("pending", "pending"), ("of them in conflict", "conflicts"),
        ("included", "included"),
    ):  # fmt: skip
        rows.append((name, getattr(flow, what), getattr(before, what) if before else None))
    for stage, reasons in (("title", flow.excluded_title), ("full text", flow.excluded_fulltext)):
        rows += [(f"excluded by the {stage}: {reason}", count, None) for reason, count in reasons]
    return _table(("records", "now", "version before"), (row(*one) for one in rows))


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    body = [f"| {' | '.join(_safe(cell) for cell in row)} |" for row in rows]
    return [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}", *body] if body else ["None."]


def _safe(value: str) -> str:
    """Return a text on one line in which no sign is markup of Markdown or HTML."""
    line = re.sub(r"([\\`*_\[\]#|])", r"\\\1", " ".join(value.split()))
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
