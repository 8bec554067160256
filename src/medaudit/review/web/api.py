"""The REST API, version 1: public reading, and proposing and reviewing with a token."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, HTTPException, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import and_, select

from medaudit.review import checks, graph, log, people, releases, search, views, workflow
from medaudit.review import tables as t
from medaudit.review.database import Database
from medaudit.review.formats import bibtex, croissant
from medaudit.review.records import Artifact, Dataset, Work, parse
from medaudit.review.web.security import person_of_token

Kind = Annotated[Literal["datasets", "artifacts", "works"], Path(description="Which records.")]
Slug = Annotated[str, Path(pattern=r"^[a-z0-9-]{1,120}$", description="The record's permanent name.")]
Number = Annotated[int, Path(ge=1, le=2**31 - 1)]
_KIND: dict[str, str] = {"datasets": "dataset", "artifacts": "artifact", "works": "work"}
PUBLIC = {"cache-control": "public, no-cache"}
_ERRORS: dict[int | str, dict[str, Any]] = {
    code: {"description": words, "content": {"application/problem+json": {}}}
    for code, words in {
        400: "the request cannot be read", 401: "no good token", 403: "the role does not allow it", 404: "not there",
        409: "the record has changed since", 410: "retired", 412: "If-Match does not hold", 413: "too large",
        422: "a value is not as it must be", 429: "too many", 503: "took too long",
    }.items()
}  # fmt: skip


class ChangeIn(BaseModel):
    """One record to put, over the revision that was read (0: new); without a record: retire, or merge."""

    model_config = ConfigDict(extra="forbid")
    kind: Literal["dataset", "artifact", "work"]
    slug: str = Field(pattern=r"^[a-z0-9-]{1,120}$", examples=["chexpert"])
    base: int = Field(default=0, ge=0, le=2**31 - 1)
    record: dict[str, Any] | None = None
    redirect_to: str | None = Field(default=None, pattern=r"^[a-z0-9-]{1,120}$")


class Proposal(BaseModel):
    """A contribution to propose."""

    model_config = ConfigDict(extra="forbid")
    title: str = Field(min_length=1, max_length=300)
    changes: list[ChangeIn] = Field(min_length=1, max_length=500)
    note: str = Field(default="", max_length=5_000)
    interests: str = Field(default="", max_length=2_000, description="What you have to do with the data or its makers.")


class Decision(BaseModel):
    """Why a contribution is accepted, rejected or sent back."""

    model_config = ConfigDict(extra="forbid")
    reason: str = Field(default="other", max_length=60)
    note: str = Field(default="", max_length=2_000)


class Names(BaseModel):
    """Datasets to look up: slugs, names, aliases or DOIs."""

    model_config = ConfigDict(extra="forbid")
    names: list[str] = Field(min_length=1, max_length=100)


def router(database: Database) -> APIRouter:
    """Return the routes of the API on ``database``."""
    api = APIRouter(prefix="/api/v1", responses=_ERRORS)

    def who(request: Request) -> people.Person:
        person = person_of_token(request, database)
        if person is None:
            raise HTTPException(401, "this needs a token (Authorization: Bearer ...)", {"WWW-Authenticate": "Bearer"})
        return person

    @api.get("/search", tags=["read"])
    def find(
        q: Annotated[str, Query(max_length=400)] = "",
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        offset: Annotated[int, Query(ge=0, le=2_000)] = 0,
        facets: bool = False,
    ) -> Response:
        """Search in the grammar of the pages: chest "patient overlap" kind:artifact year:2019.. has:shortcut."""
        with database.reading(2.0) as connection:
            return _json(asdict(search.search(connection, q, limit=limit, offset=offset, facets=facets)))

    @api.get("/graph/{kind}/{slug}", tags=["read"])
    def ego(
        kind: Kind, slug: Slug, hops: Annotated[int, Query(ge=1, le=2)] = 1,
        verbs: Annotated[str, Query(max_length=200, description="Verbs, with commas between.")] = "",
        limit: Annotated[int, Query(ge=1, le=500)] = 120,
    ) -> Response:  # fmt: skip
        """Return the typed graph around a record, laid out."""
        chosen = tuple(v.strip().upper() for v in verbs.split(",") if v.strip()) or graph.VERBS
        with database.reading(2.0) as connection:
            found = graph.around(connection, _KIND[kind], slug, hops=hops, verbs=chosen, limit=limit)
        if found is None:
            raise HTTPException(404, f"there is no {_KIND[kind]} '{slug}'")
        return _json(asdict(found))

    @api.post("/check", tags=["read"])
    def check(names: Annotated[Names, Body()]) -> Response:
        """Return what is known about the datasets that a project uses: warnings, patients they share, unknown names."""
        with database.reading(2.0) as connection:
            warned, unknown = views.warned(connection, names.names)
        return _json({"warnings": [asdict(one) for one in warned], "unknown": unknown}, cached=False)

    @api.get("/releases", tags=["read"])
    def all_releases() -> Response:
        """Return the releases, the newest first."""
        with database.reading() as connection:
            return _json([asdict(one) for one in releases.all_of(connection)])

    @api.get("/releases/changes", tags=["read"])
    def changes(
        earlier: Annotated[str, Query(max_length=40)] = "", later: Annotated[str, Query(max_length=40)] = ""
    ) -> Response:
        """Return what differs between two releases; an empty name stands for what is public now."""
        with database.reading() as connection:
            return _json([asdict(one) for one in releases.compare(connection, earlier or None, later or None)])

    @api.get("/health", tags=["read"])
    def health() -> Response:
        """Return whether the database answers, and the log's head."""
        with database.reading(1.0) as connection:
            seq, head = log.head(connection)
            return _json({"status": "ok", "public": views.public_counter(connection), "log": [seq, head]}, cached=False)

    @api.get("/contributions", tags=["contribute"])
    def contributions(
        request: Request, state: Annotated[str, Query(max_length=20)] = "submitted",
        after: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0, limit: Annotated[int, Query(ge=1, le=100)] = 50,
    ) -> Response:  # fmt: skip
        """Return contributions in a state, by number: your own, or everybody's for a reviewer."""
        person = who(request)
        with database.reading() as connection:
            return _json(workflow.listed(connection, person, state, after, limit), cached=False)

    @api.post("/contributions", tags=["contribute"], status_code=201)
    def propose(request: Request, proposal: Annotated[Proposal, Body()]) -> Response:
        """Propose records; nothing is public until another person accepts. `Idempotency-Key` makes repeats safe."""
        person = who(request)
        wanted = _changes(proposal)
        key = request.headers.get("idempotency-key", "")[:80] or None
        with database.writing() as connection:
            number = workflow.propose(
                connection, person, proposal.title, wanted, note=proposal.note, interests=proposal.interests,
                request_key=key,
            )  # fmt: skip
        with database.reading() as connection:  # after the write: nobody else has to wait for it
            said = checks.checked(connection, [one.record for one in wanted if one.record is not None])
        body = {"contribution": number, "state": "submitted", "remarks": [asdict(one) for one in said]}
        return _json(body, status=201, cached=False)

    @api.put("/contributions/{number}", tags=["contribute"])
    def revise(request: Request, number: Number, proposal: Annotated[Proposal, Body()]) -> Response:
        """Replace the records of your own contribution that was sent back; it goes to the reviewers again."""
        person = who(request)
        wanted = _changes(proposal)
        with database.writing() as connection:
            workflow.revise(connection, person, number, wanted, proposal.note)
            return _json(workflow.described(workflow.contribution(connection, number)), cached=False)

    @api.get("/contributions/{number}", tags=["contribute"])
    def contribution(request: Request, number: Number) -> Response:
        """Return a contribution: your own, or any for a reviewer."""
        person = who(request)
        with database.reading() as connection:
            return _json(workflow.described(_theirs(connection, person, number)), cached=False)

    @api.post("/contributions/{number}/{action}", tags=["contribute"])
    def decide(
        request: Request, number: Number,
        action: Annotated[Literal["accept", "reject", "request-changes", "withdraw"], Path()],
        decision: Annotated[Decision, Body()],
    ) -> Response:  # fmt: skip
        """Accept, reject or send back somebody else's contribution, or withdraw your own."""
        person = who(request)
        with database.writing() as connection:
            if action == "accept":
                workflow.accept(connection, person, number, decision.note)
            elif action == "reject":
                workflow.reject(connection, person, number, decision.reason, decision.note)
            elif action == "request-changes":
                workflow.request_changes(connection, person, number, decision.note)
            else:
                workflow.withdraw(connection, person, number)
            return _json(workflow.described(workflow.contribution(connection, number)), cached=False)

    @api.get("/{kind}", tags=["read"])
    def records(
        kind: Kind, after: Annotated[str, Query(max_length=120, description="The last slug that you have.")] = "",
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> Response:  # fmt: skip
        """Return records in the order of their slugs; `next` is what to give as `after` for more."""
        with database.reading(2.0) as connection:
            rows = connection.execute(
                select(t.entity.c.slug, t.entity.c.title, t.entity.c.rev, t.entity.c.updated, t.revision.c.record)
                .join(t.revision, and_(t.revision.c.entity_id == t.entity.c.id, t.revision.c.rev == t.entity.c.rev))
                .where(t.entity.c.kind == _KIND[kind], t.entity.c.status == "public", t.entity.c.slug > after)
                .order_by(t.entity.c.slug)
                .limit(limit)
            ).all()
        items = [{"rev": row.rev, "updated": row.updated, "record": json.loads(row.record)} for row in rows]
        return _json({"items": items, "next": rows[-1].slug if len(rows) == limit else None})

    @api.get("/{kind}/{slug}", tags=["read"])
    def record(kind: Kind, slug: Slug) -> Response:
        """Return a record as it is public; its ETag is its revision. A merged one answers 301, a retired one 410."""
        with database.reading(2.0) as connection:
            found = views.shown(connection, _KIND[kind], slug)
        return _record(found, kind, slug)

    @api.put("/{kind}/{slug}", tags=["contribute"], status_code=202)
    def put(
        request: Request, kind: Kind, slug: Slug,
        new: Annotated[dict[str, Any], Body(description="The record as it is to be.")],
    ) -> Response:  # fmt: skip
        """Propose a record over the revision that `If-Match` names (its ETag), or a new one with `If-None-Match: *`."""
        person = who(request)
        match, none = request.headers.get("if-match"), request.headers.get("if-none-match")
        if match is None and none != "*":
            raise HTTPException(412, "say which revision you read (If-Match), or If-None-Match: * for a new record")
        proposed = parse(new, f"{_KIND[kind]} '{slug}'")
        with database.writing() as connection:
            rev = workflow.current(connection, [(_KIND[kind], slug)]).get((_KIND[kind], slug), (0, None))[0]
            if (match or '"0"').strip().removeprefix("W/").strip('"') != str(rev):
                raise HTTPException(412, f"{_KIND[kind]} '{slug}' is at revision {rev}; read it again")
            change = workflow.Change(_KIND[kind], slug, rev, proposed)
            number = workflow.propose(connection, person, f"Put {_KIND[kind]} {slug}", [change])
        return _json({"contribution": number, "state": "submitted"}, status=202, cached=False)

    @api.get("/{kind}/{slug}/history", tags=["read"])
    def history(kind: Kind, slug: Slug) -> Response:
        """Return each revision of a record: when, by whom, accepted by whom, what changed by field (RFC 6902)."""
        with database.reading(2.0) as connection:
            found = workflow.history(connection, _KIND[kind], slug)
        if not found:
            raise HTTPException(404, f"there is no {_KIND[kind]} '{slug}'")
        return _json(
            [
                {"rev": rev, "at": at, "author": author, "accepted_by": by, "changes": [asdict(one) for one in what]}
                for rev, at, author, by, what in found
            ]
        )

    @api.get("/datasets/{slug}/warnings", tags=["read"])
    def warnings(slug: Slug) -> Response:
        """Return what whoever uses the dataset should know."""
        with database.reading(2.0) as connection:
            view = views.dataset(connection, slug)
        if view is None:
            raise HTTPException(404, f"there is no dataset '{slug}'")
        return _json([asdict(one) for one in view.warnings])

    @api.get("/datasets/{slug}/export/{form}", tags=["read"])
    def export(
        slug: Slug, form: Annotated[Literal["croissant", "bibtex"], Path()]
    ) -> Response:  # fmt: skip
        """Return the dataset's Croissant description with its findings, or all works that it asks to cite."""
        with database.reading(2.0) as connection:
            found = exported(connection, slug, form)
        if found is None:
            raise HTTPException(404, f"there is no dataset '{slug}'")
        return Response(found[0], media_type=found[1], headers=PUBLIC)

    return api


def exported(connection: Any, slug: str, form: str) -> tuple[str, str] | None:
    """Return the text and media type of a dataset's export; None where there is no such dataset."""
    view = views.dataset(connection, slug)
    if view is None or not isinstance(view.shown.record, Dataset):
        return None
    slugs = [one.slug for one in (*view.to_cite, *view.makers)]
    artifacts = [views.shown(connection, "artifact", one.reference.slug) for one in view.artifacts]
    kept = [one.record for one in artifacts if one is not None and isinstance(one.record, Artifact)]
    slugs += [slug for one in kept for slug in one.works]
    works = [views.shown(connection, "work", one) for one in dict.fromkeys(slugs)]
    known = [one.record for one in works if one is not None and isinstance(one.record, Work)]
    if form == "bibtex":
        needed = {one.slug for one in (*view.to_cite, *view.makers)}
        return bibtex.export([one for one in known if one.slug in needed]), "application/x-bibtex; charset=utf-8"
    text = json.dumps(croissant.export(view.shown.record, kept, known), ensure_ascii=False, indent=1)
    return text, 'application/ld+json; profile="http://mlcommons.org/croissant/1.1"'


def _changes(proposal: Proposal) -> list[workflow.Change]:
    return [
        workflow.Change(
            one.kind, one.slug, one.base,
            None if one.record is None else parse(one.record, f"{one.kind} '{one.slug}'"), one.redirect_to,
        )
        for one in proposal.changes
    ]  # fmt: skip


def _theirs(connection: Any, person: people.Person, number: int) -> workflow.Contribution:
    found = workflow.contribution(connection, number)
    if found.author != person.name and not person.may("review"):
        raise people.Forbidden(f"contribution {number} is {found.author}'s")
    return found


def _record(found: views.Shown | None, kind: str, slug: str) -> Response:
    if found is None:
        raise HTTPException(404, f"there is no {_KIND[kind]} '{slug}'")
    if found.record is None:
        if found.moved_to is not None:
            to = f"/api/v1/{kind}/{found.moved_to.slug}"
            return Response(status_code=301, headers={"location": to})
        raise HTTPException(410, f"{_KIND[kind]} '{slug}' was retired on {found.updated[:10]}; its history is kept")
    body = {"rev": found.rev, "created": found.created, "updated": found.updated, "record": found.record.plain()}
    return _json(body, tag=f'"{found.rev}"')


def _json(body: Any, *, status: int = 200, cached: bool = True, tag: str | None = None) -> Response:
    headers = dict(PUBLIC) if cached else {"cache-control": "no-store"}
    if tag is not None:
        headers["etag"] = tag
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Response(text, status_code=status, media_type="application/json", headers=headers)
