"""The site: public pages, submitting and reviewing for those who are signed in, the API beside them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, FastAPI, Form, HTTPException, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse, Response
from sqlalchemy import Connection
from starlette.exceptions import HTTPException as Refused

from medaudit import __version__
from medaudit.errors import DataError, UsageError
from medaudit.review import checks, database, feeds, people, views, vocabulary, workflow
from medaudit.review.records import as_yaml
from medaudit.review.web import api, pages, submitting
from medaudit.review.web.cache import Counter, PublicCache
from medaudit.review.web.pages import Page
from medaudit.review.web.render import STATIC, links, render
from medaudit.review.web.security import (
    ANONYMOUS,
    COOKIE,
    Attempts,
    Guard,
    ReadOnly,
    forged,
    session_of,
    visitor,
)

ADDRESS = "MEDAUDIT_REVIEW"
"""The environment's name for the database of a worker process."""
REGISTRATION = "MEDAUDIT_REVIEW_REGISTRATION"
Slug = Annotated[str, Path(pattern=r"^[a-z0-9-]{1,120}$")]
Number = Annotated[int, Path(ge=1, le=2**31 - 1)]
KindPath = Annotated[str, Path(pattern="^(dataset|artifact|work)$")]
Text = Annotated[str, Form(max_length=200_000)]
Short = Annotated[str, Form(max_length=1_000)]
_STATUS: dict[type[Exception], int] = {
    UsageError: 400, workflow.Missing: 404, DataError: 422, people.Forbidden: 403, workflow.Conflict: 409,
    workflow.TooMany: 429, database.Deadline: 503,
}  # fmt: skip


def from_environment() -> FastAPI:
    """Return the site of a worker process, on the database that the environment names."""
    return create(database.connect(os.environ[ADDRESS]), registration=bool(os.environ.get(REGISTRATION)))


def create(
    db: database.Database, *, registration: bool = False, beside: Sequence[tuple[str, str]] = (), closed: bool = False
) -> FastAPI:
    """Return the site on ``db``; with ``registration`` anybody may become a contributor.

    ``beside``: names and addresses of what the same server shows besides, for the navigation. ``closed``: nobody signs
    in and nothing can be changed.
    """
    app = FastAPI(
        title="medaudit: the living review", version=__version__, docs_url=None, redoc_url=None,
        openapi_url="/api/v1/openapi.json",
        description="What is known about datasets of medical images, and who found it.",
    )  # fmt: skip
    counter = Counter(db)
    app.include_router(api.router(db))
    app.include_router(_public(db))
    app.state.around = {"beside": tuple(beside), "closed": closed}
    if closed:
        app.add_middleware(ReadOnly)
    else:
        app.include_router(_personal(db, registration))
    app.add_middleware(PublicCache, counter=counter)
    app.add_middleware(Guard)
    for kind in _STATUS:
        app.add_exception_handler(kind, _refused)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(RequestValidationError, _refused)
    return app


def _refused(request: Request, error: Exception) -> Response:
    """Say what went wrong: problem+json (RFC 9457) to the API, a page to a person."""
    status, headers = _STATUS.get(type(error), 500), {}
    text = str(error)[:2_000]
    extra: dict[str, Any] = {}
    if isinstance(error, Refused):
        status, text, headers = error.status_code, str(error.detail), dict(error.headers or {})
    elif isinstance(error, RequestValidationError):
        status = 422
        found = error.errors()
        text = "; ".join(f"{'.'.join(str(part) for part in one['loc'][1:])}: {one['msg']}" for one in found[:5])
    elif isinstance(error, workflow.Conflict):
        extra = {"differences": error.differences}
    headers.setdefault("cache-control", "no-store")
    if request.url.path.startswith("/api/"):
        body = {"type": "about:blank", "title": text, "status": status} | extra
        return JSONResponse(body, status, headers, "application/problem+json")
    title = {403: "Not allowed", 404: "Not found", 409: "Somebody was faster"}.get(status, "That did not work")
    session = getattr(request.state, "session", None)
    html = render("message.html", title=title, text=text, differences=extra.get("differences", {}), session=session,
                  csrf=session.csrf if session else "", **request.app.state.around)  # fmt: skip
    return Response(html, status, headers, "text/html")


def _public(db: database.Database) -> APIRouter:
    """The pages that anybody reads; without a session they come from the cache."""
    site = APIRouter(include_in_schema=False)

    def shown(request: Request, make: Callable[[Connection], Page]) -> Response:
        session = None if request.app.state.around["closed"] else session_of(request, db)
        with db.reading(3.0) as connection:
            page = make(connection)
        if page.moved is not None:
            return RedirectResponse(links(False)(*page.moved), 301)
        html = render(page.template, session=session, csrf=session.csrf if session else "",
                      **request.app.state.around, **page.context)  # fmt: skip
        cache = "private, no-cache" if session is not None else "public, no-cache"
        return Response(html, page.status, {"cache-control": cache}, "text/html")

    @site.get("/")
    def home(request: Request) -> Response:
        return shown(request, pages.home)

    @site.get("/search")
    def search(
        request: Request,
        q: Annotated[str, Query(max_length=400)] = "",
        offset: Annotated[int, Query(ge=0, le=2_000)] = 0,
    ) -> Response:
        return shown(request, lambda c: pages.searched(c, q, offset))

    @site.get("/datasets/{slug}")
    def dataset(request: Request, slug: Slug) -> Response:
        return shown(request, lambda c: pages.dataset(c, slug))

    @site.get("/artifacts/{slug}")
    def artifact(request: Request, slug: Slug) -> Response:
        return shown(request, lambda c: pages.artifact(c, slug))

    @site.get("/works/{slug}")
    def work(request: Request, slug: Slug) -> Response:
        return shown(request, lambda c: pages.work(c, slug))

    @site.get("/graph/{kind}/{slug}")
    def graph(request: Request, kind: KindPath, slug: Slug, hops: Annotated[int, Query(ge=1, le=2)] = 1) -> Response:
        return shown(request, lambda c: pages.drawn(c, kind, slug, hops))

    @site.get("/compare")
    def compare(request: Request, d: Annotated[list[str], Query(max_length=12)] = []) -> Response:  # noqa: B006
        def make(connection: Connection) -> Page:
            named = [slug for name in d if name.strip() for slug in views.resolve(connection, name[:200])[:1]]
            return pages.compared(connection, named)

        return shown(request, make)

    @site.get("/timeline")
    def timeline(request: Request) -> Response:
        return shown(request, pages.timeline)

    @site.get("/gaps")
    def gaps(request: Request) -> Response:
        return shown(request, pages.gaps)

    @site.get("/releases")
    def releases(request: Request) -> Response:
        return shown(request, pages.all_releases)

    @site.get("/releases/changes")
    def changes(
        request: Request,
        earlier: Annotated[str, Query(max_length=40)] = "",
        later: Annotated[str, Query(max_length=40)] = "",
    ) -> Response:
        return shown(request, lambda c: pages.difference(c, earlier, later))

    @site.get("/releases/{version}")
    def release(request: Request, version: Annotated[str, Path(max_length=40)]) -> Response:
        return shown(request, lambda c: pages.release(c, version))

    @site.get("/history/{kind}/{slug}")
    def history(request: Request, kind: KindPath, slug: Slug) -> Response:
        return shown(request, lambda c: pages.history(c, kind, slug))

    @site.get("/method")
    def method(request: Request) -> Response:
        return shown(request, pages.prisma)

    @site.get("/words")
    def words(request: Request) -> Response:
        return shown(request, lambda _: pages.glossary())

    @site.get("/api")
    def described(request: Request) -> Response:
        routes = request.app.openapi()["paths"]
        return shown(request, lambda _: Page("api.html", {"title": "The API", "routes": routes}))

    @site.get("/datasets/{slug}/{form}")
    def export(slug: Slug, form: Annotated[str, Path(pattern="^(croissant.json|cite.bib|findings.atom)$")]) -> Response:
        with db.reading(3.0) as connection:
            if form == "findings.atom":
                feed = feeds.dataset(connection, slug)
                found = None if feed is None else (feed, "application/atom+xml; charset=utf-8")
            else:
                found = api.exported(connection, slug, "croissant" if form == "croissant.json" else "bibtex")
        if found is None:
            raise HTTPException(404, f"there is no dataset '{slug}'")
        return Response(found[0], 200, dict(api.PUBLIC), found[1])

    @site.get("/findings.atom")
    def feed() -> Response:
        with db.reading(3.0) as connection:
            return Response(feeds.everything(connection), 200, dict(api.PUBLIC), "application/atom+xml; charset=utf-8")

    @site.get("/static/{name}")
    def static(name: Annotated[str, Path(pattern=r"^[a-z]+\.(css|js|svg)$")]) -> Response:
        path = STATIC / name
        if not path.is_file():
            raise HTTPException(404, "there is no such file")
        return FileResponse(path, headers={"cache-control": "public, max-age=3600"})

    return site


def _personal(db: database.Database, registration: bool) -> APIRouter:
    """The pages of those who are signed in, and the way in. Every form brings its secret back, or is refused."""

    def enter(request: Request) -> None:
        request.state.session = session_of(request, db)

    site = APIRouter(include_in_schema=False, dependencies=[Depends(enter), Depends(forged)])
    attempts = Attempts()

    def who(request: Request) -> people.Session:
        session: people.Session | None = request.state.session
        if session is None:
            raise _SignIn(request.url.path)
        return session

    def page(request: Request, template: str, status: int = 200, **context: Any) -> Response:
        session: people.Session | None = request.state.session
        secret = session.csrf if session is not None else visitor(request)
        html = render(template, session=session, csrf=secret, **context)
        response = Response(html, status, {"cache-control": "no-store"}, "text/html")
        if session is None:
            response.set_cookie(ANONYMOUS, secret, httponly=True, samesite="strict", secure=_secure(request))
        return response

    @site.get("/sign-in")
    def sign_in_form(request: Request, then: Annotated[str, Query(max_length=300)] = "/") -> Response:
        return page(request, "sign_in.html", title="Sign in", then=_local(then), problem="", registration=registration)

    @site.post("/sign-in")
    def sign_in(request: Request, name: Short, password: Short, then: Short = "/") -> Response:
        address = request.client.host if request.client else "?"
        key = name.strip().lower()[:60]
        if not attempts.begin(key, address):
            raise HTTPException(429, "too many failed attempts; wait a quarter of an hour", {"Retry-After": "900"})
        with attempts.checking, db.reading() as connection:
            person = people.check_password(connection, name, password)
        if person is None:
            said = "Name and password do not belong together."
            return page(request, "sign_in.html", 401, title="Sign in", then=_local(then), problem=said,
                        registration=registration)  # fmt: skip
        attempts.succeed(key, address)
        return entered(request, person, _local(then))

    def entered(request: Request, person: people.Person, then: str) -> Response:
        with db.writing() as connection:  # a new session always: one that was known before is worth nothing now
            secret, _ = people.sign_in(connection, person)
        response = RedirectResponse(then, 303)
        response.set_cookie(
            COOKIE, secret, httponly=True, samesite="lax", secure=_secure(request),
            max_age=int(people.SESSION.total_seconds()),
        )  # fmt: skip
        return response

    if registration:

        @site.post("/register")
        def register(request: Request, name: Short, password: Short) -> Response:
            address = f"register {request.client.host if request.client else '?'}"
            if not attempts.fail(address):
                raise HTTPException(429, "too many new names from here; wait a quarter of an hour")
            with attempts.checking, db.writing() as connection:
                person = people.add(connection, name, "contributor", password, by=name.strip()[:60])
            return entered(request, person, "/submit")

    @site.post("/sign-out")
    def sign_out(request: Request) -> Response:
        with db.writing() as connection:
            people.sign_out(connection, request.cookies.get(COOKIE, ""))
        response = RedirectResponse("/", 303)
        response.delete_cookie(COOKIE)
        return response

    @site.get("/submit")
    def submit_form(request: Request, dataset: Annotated[str, Query(max_length=200)] = "") -> Response:
        who(request).person.must("propose")
        return page(request, "submit.html", title="Submit a finding", form={"dataset": dataset}, problem="", remarks=[],
                    records=[], words=vocabulary, formats=submitting.FORMATS)  # fmt: skip

    @site.post("/submit")
    def submit(
        request: Request, action: Short, dataset: Short = "", type: Short = "", finding: Short = "", title: Short = "",
        summary: Text = "", severity: Short = "info", doi: Short = "", work_title: Short = "", authors: Short = "",
        year: Short = "", url: Short = "", note: Text = "", interests: Short = "",
    ) -> Response:  # fmt: skip
        """Preview, or submit, what the form for one finding says."""
        person = who(request).person
        form = {
            "dataset": dataset, "type": type, "finding": finding, "title": title, "summary": summary,
            "severity": severity, "doi": doi, "work_title": work_title, "authors": authors, "year": year, "url": url,
            "note": note, "interests": interests,
        }  # fmt: skip
        if "|" in finding:  # the menu names type and finding in one
            form["type"], form["finding"] = finding.split("|", 1)
        return proposed(request, person, form, "submit.html", action, lambda c: submitting.artifact_of(c, form), title)

    @site.get("/paste")
    def paste_form(request: Request) -> Response:
        who(request).person.must("propose")
        return page(request, "paste.html", title="Submit a file", form={}, problem="", remarks=[], records=[],
                    formats=submitting.FORMATS, words=vocabulary)  # fmt: skip

    @site.post("/paste")
    def paste(
        request: Request,
        action: Short,
        form: Short,
        text: Text,
        title: Short = "",
        note: Text = "",
        interests: Short = "",
    ) -> Response:
        """Preview, or submit, pasted records."""
        person = who(request).person
        kept = {"form": form, "text": text, "title": title, "note": note, "interests": interests}
        return proposed(request, person, kept, "paste.html", action, lambda _: submitting.from_text(form, text),
                        title or f"Records from {form}")  # fmt: skip

    def proposed(
        request: Request, person: people.Person, form: dict[str, str], template: str, action: str,
        records_of: Callable[[Connection], list[Any]], title: str,
    ) -> Response:  # fmt: skip
        person.must("propose")
        context: dict[str, Any] = {"title": "Submit", "form": form, "problem": "", "remarks": [], "records": [],
                                   "words": vocabulary, "formats": submitting.FORMATS}  # fmt: skip
        try:
            with db.reading() as connection:
                records = records_of(connection)
                remarks = checks.checked(connection, records)
            if action == "preview":
                shown = [(one, as_yaml(one.plain())) for one in records]
                return page(request, template, **(context | {"remarks": remarks, "records": shown}))
            with db.writing() as connection:
                number = workflow.propose(
                    connection, person, title, workflow.putting(connection, records_of(connection)),
                    note=form.get("note", ""), interests=form.get("interests", ""),
                )  # fmt: skip
        except (UsageError, DataError) as error:
            return page(request, template, 422, **(context | {"problem": str(error)}))
        return RedirectResponse(f"/contributions/{number}", 303)

    @site.get("/edit/{kind}/{slug}")
    def edit_form(request: Request, kind: KindPath, slug: Slug) -> Response:
        who(request).person.must("propose")
        with db.reading() as connection:
            found = views.shown(connection, kind, slug)
        if found is None or found.record is None:
            raise HTTPException(404, f"there is no {kind} '{slug}'")
        text = as_yaml(found.record.plain())
        return page(request, "edit.html", title=f"Edit {slug}", kind=kind, slug=slug, base=found.rev, text=text,
                    problem="", note="")  # fmt: skip

    @site.post("/edit/{kind}/{slug}")
    def edit(
        request: Request, kind: KindPath, slug: Slug, base: Annotated[int, Form(ge=0, le=2**31 - 1)], text: Text,
        note: Text = "",
    ) -> Response:  # fmt: skip
        """Propose the edited record over the revision that was read."""
        person = who(request).person
        person.must("propose")
        try:
            records = submitting.from_text("yaml", text)
            if [(one.kind, one.slug) for one in records] != [(kind, slug)]:
                raise UsageError(f"expected the record of {kind} '{slug}', and no other")
            with db.writing() as connection:
                change = workflow.Change(kind, slug, base, records[0])
                number = workflow.propose(connection, person, f"Edit {kind} {slug}", [change], note=note)
        except (UsageError, DataError) as error:
            return page(request, "edit.html", 422, title=f"Edit {slug}", kind=kind, slug=slug, base=base, text=text,
                        problem=str(error), note=note)  # fmt: skip
        return RedirectResponse(f"/contributions/{number}", 303)

    @site.get("/contributions")
    def contributions(request: Request, state: Annotated[str, Query(max_length=20)] = "") -> Response:
        session = who(request)
        with db.reading() as connection:
            mine = people.Person(session.person.id, session.person.name, "contributor")
            found = workflow.listed(connection, mine, state, 0, 500)
        return page(request, "contributions.html", title="Your contributions", found=found, queue=False, reasons=())

    @site.get("/queue")
    def queue(request: Request, state: Annotated[str, Query(max_length=20)] = "submitted") -> Response:
        person = who(request).person
        person.must("review")
        with db.reading() as connection:
            found = workflow.listed(connection, person, state, 0, 500)
            seen = {}
            for one in found[:100]:
                records = [
                    c.record for c in workflow.contribution(connection, one["id"]).changes if c.record is not None
                ]
                said = checks.checked(connection, records[:20])
                seen[one["id"]] = sum(remark.level == "suspicious" for remark in said)
        found.sort(key=lambda one: (-seen.get(one["id"], 0), one["id"]))
        return page(request, "contributions.html", title="Waiting for review", found=found, queue=True, suspicious=seen,
                    reasons=workflow.REASONS)  # fmt: skip

    @site.post("/queue")
    def reject_many(request: Request, number: Annotated[list[int], Form()], reason: Short, note: Text = "") -> Response:
        """Reject many contributions at once, for one reason: what a flood of them needs."""
        person = who(request).person
        with db.writing() as connection:
            for one in number[:500]:
                workflow.reject(connection, person, one, reason, note)
        return RedirectResponse("/queue", 303)

    @site.get("/contributions/{number}")
    def contribution(request: Request, number: Number) -> Response:
        person = who(request).person
        with db.reading() as connection:
            found = workflow.contribution(connection, number)
            if found.author != person.name and not person.may("review"):
                raise people.Forbidden(f"contribution {number} is {found.author}'s")
            steps = workflow.steps(connection, found)
            said = checks.checked(connection, [c.record for c in found.changes if c.record is not None][:50])
        return page(
            request, "contribution.html", title=found.title, found=found, steps=steps, remarks=said,
            reasons=workflow.REASONS, own=found.author == person.name,
            open=found.state in ("submitted", "changes requested"), text=_editable(found),
            may_review=person.may("review") and found.author != person.name and found.state == "submitted",
        )  # fmt: skip

    @site.post("/contributions/{number}")
    def decide(
        request: Request, number: Number, action: Short, reason: Short = "other", note: Text = "", text: Text = ""
    ) -> Response:
        """Accept, reject, send back or withdraw; or, its author, put other records in the place of those proposed."""
        person = who(request).person

        def revise(connection: Connection) -> None:
            records = submitting.from_text("yaml", text)
            workflow.revise(connection, person, number, workflow.putting(connection, records), note)

        steps: dict[str, Callable[[Connection], Any]] = {
            "revise": revise,
            "accept": lambda c: workflow.accept(c, person, number, note),
            "reject": lambda c: workflow.reject(c, person, number, reason, note),
            "request changes": lambda c: workflow.request_changes(c, person, number, note),
            "withdraw": lambda c: workflow.withdraw(c, person, number),
        }
        if action not in steps:
            raise UsageError(f"'{action}' cannot be done with a contribution")
        with db.writing() as connection:
            steps[action](connection)
        return RedirectResponse(f"/contributions/{number}", 303)

    @site.get("/people")
    def everybody(request: Request) -> Response:
        who(request).person.must("people")
        with db.reading() as connection:
            found = people.everybody(connection)
        return page(request, "people.html", title="People", found=found, roles=people.ROLES)

    @site.post("/people")
    def change_people(
        request: Request, action: Short, name: Short, role: Short = "contributor", password: Short = ""
    ) -> Response:
        """Add a person, give another role, or bar them."""
        person = who(request).person
        person.must("people")
        with db.writing() as connection:
            if action == "add":
                people.add(connection, name, role, password, by=person.name)
            elif action in ("change", "bar"):
                if name == person.name:
                    raise UsageError("nobody changes their own role")
                people.change_role(connection, name, role, disabled=action == "bar", by=person.name)
            else:
                raise UsageError(f"'{action}' cannot be done with a person")
        return RedirectResponse("/people", 303)

    return site


class _SignIn(HTTPException):
    def __init__(self, path: str) -> None:
        super().__init__(303, "sign in first", {"location": f"/sign-in?then={quote(path)}"})


def _editable(found: workflow.Contribution) -> str:
    """Return a contribution's records as YAML, to be changed; nothing where it retires or merges some."""
    if any(change.record is None for change in found.changes):
        return ""
    return "---\n".join(as_yaml(change.record.plain()) for change in found.changes if change.record is not None)


def _local(then: str) -> str:
    """Return where to go after signing in: a path of ours, and never another site's address."""
    return (
        then if then.startswith("/") and not then.startswith("//") and "\\" not in then and then.isprintable() else "/"
    )


def _secure(request: Request) -> bool:
    return request.url.scheme == "https"
