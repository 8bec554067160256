"""What must not work: scripts in data, forged forms, another role's pages, requests to elsewhere, bombs, a 500."""

from __future__ import annotations

import ast
import contextlib
import json
import re
import socket
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from made_reviews import artifact, dataset, publish, work
from sqlalchemy import update

import medaudit.review
from medaudit.errors import DataError, UsageError
from medaudit.review import database, grammar, people, records, workflow
from medaudit.review import tables as t
from medaudit.review.database import Database
from medaudit.review.web.app import create
from medaudit.review.web.security import SAFE

PASSWORD = "correct horse battery"
ROLES = (None, *people.ROLES)
XSS = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "\"><svg onload=alert(1)>", "' onmouseover='alert(1)",
    "javascript:alert(1)", "[a](javascript:alert(1))", "[a](data:text/html,x)", "![a](https://evil.example/x.png)",
    "<a href=\"https://evil.example\">x</a>", "{{ 7*7 }}{% raw %}", "</textarea><script>alert(1)</script>",
    "</title><b>",
    "&lt;script&gt;", "<style>*{display:none}</style>", "<iframe src=//evil.example>", "<!--", "]]>", "<b>bold</b>",
    "[x]: javascript:alert(1)\n[x]", "<https://example.org/\"onclick=alert(1)>", "`<i>`", "<math><mtext><script>",
]  # fmt: skip
_HTML = "html head meta title link script body a header form label input button nav ul li main p footer h1 h2 h3 h4"
_MORE = "div span section table thead tbody tr th td caption svg path rect circle g line text desc defs marker dl dt dd"
_REST = "code pre ol aside small b strong em br details summary option select optgroup textarea fieldset legend hr"
ELEMENTS = {*f"{_HTML} {_MORE} {_REST} blockquote q time cite".split()}


class Page(HTMLParser):
    """The elements and attributes of a page, as a browser would see them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))


def harmless(text: str, where: str) -> None:
    for tag, attributes in Page(text).elements:
        assert tag in ELEMENTS, (where, tag)
        for name, value in attributes.items():
            assert not name.startswith("on"), (where, tag, name)
            assert name != "style", (where, tag)
            if name in ("href", "src", "action"):
                assert re.match(r"https?://|/|#|\?|[a-z]", value or "/"), (where, value)
                assert not re.match(r"\s*(javascript|data|vbscript):", value or "", re.IGNORECASE), (where, value)
        if tag == "script":
            assert attributes == {"src": "/static/review.js", "defer": None}, where
        if tag in ("img", "iframe", "object", "style"):
            pytest.fail(f"{where}: {tag}")


@pytest.fixture
def app(db: Database, staff: dict[str, people.Person]) -> Any:
    with db.writing() as connection:
        for role in (*people.ROLES, "second"):
            people.set_password(connection, staff[role].name, PASSWORD)
    publish(db, staff["contributor"], staff["reviewer"], work("w"), dataset("a", produced_by=["w"]), artifact("x", "a"))
    return create(db, registration=True)


def secret_of(client: TestClient, path: str) -> str:
    return re.search(r'name="csrf" value="([^"]+)"', client.get(path).text)[1]  # type: ignore[index]


def signed_in(app: Any, name: str) -> TestClient:
    client = TestClient(app, base_url="http://testserver")
    form = {"csrf": secret_of(client, "/sign-in"), "name": name, "password": PASSWORD}
    answer = client.post("/sign-in", data=form, follow_redirects=False)
    assert answer.status_code == 303, answer.text
    return client


def test_no_text_of_a_record_becomes_markup_anywhere(app, db, staff):
    for n, bad in enumerate(XSS):
        flat = " ".join(bad.split())
        publish(
            db, staff["contributor"], staff["reviewer"],
            work(f"w{n}", title=flat, authors=[flat], venue=flat),
            dataset(f"d{n}", name=flat, description=bad, host=flat, anatomy=[flat], aliases=[{"name": flat}],
                    produced_by=[f"w{n}"], cite=[f"w{n}"], licences=[{"of": flat, "text": flat}],
                    versions=[{"label": flat[:60], "note": flat}], identifiers=[{"scheme": "other", "value": flat}],
                    links=[{"relation": "SHARES_PATIENTS_WITH", "to": "a", "note": flat}],
                    facts=[{"field": flat, "value": flat, "unit": flat[:60], "package": flat, "note": flat}] * 2),
            artifact(f"x{n}", f"d{n}", title=flat, summary=bad, works=[f"w{n}"], join_key=flat,
                     responses=[{"by": flat, "text": bad, "on": "2026-01-01"}], severity="critical",
                     facts=[{"field": flat, "value": flat, "package": flat, "locator": flat}]),
            title=flat,
        )  # fmt: skip
    client, reviewer = TestClient(app), signed_in(app, "reviewer one")
    for n in range(len(XSS)):
        for path in (f"/datasets/d{n}", f"/artifacts/x{n}", f"/works/w{n}", f"/graph/dataset/d{n}",
                     f"/history/dataset/d{n}", f"/compare?d=d{n}&d=a"):  # fmt: skip
            answer = client.get(path)
            assert answer.status_code == 200, path
            harmless(answer.text, path)
        ElementTree.fromstring(client.get(f"/datasets/d{n}/findings.atom").text)
        json.loads(client.get(f"/datasets/d{n}/croissant.json").text)
    for bad in XSS:
        harmless(client.get("/search", params={"q": bad}).text, "search")
        harmless(client.get("/sign-in", params={"then": bad}).text, "sign-in")
        harmless(client.get("/releases/changes", params={"earlier": bad[:40]}).text, "changes")
        form = {"csrf": secret_of(reviewer, "/submit"), "action": "preview", "dataset": bad, "title": bad,
                "summary": bad, "finding": bad, "type": bad, "doi": bad}  # fmt: skip
        harmless(reviewer.post("/submit", data=form).text, "submit")
    for path in ("/", "/timeline", "/gaps", "/releases", "/search?q=a", "/words", "/api"):
        harmless(client.get(path).text, path)
    for path in ("/queue?state=accepted", "/contributions/2", "/contributions/5", "/edit/dataset/d3", "/people"):
        harmless(reviewer.get(path).text, path)
    ElementTree.fromstring(client.get("/findings.atom").text)


@pytest.mark.parametrize("value", ["javascript:alert(1)", "data:text/html,x", "//evil.example", "file:///etc/passwd", "ftp://x",
                                   "https://", "http://a b", "HTTPS://x\"y", "https://x\ny"])  # fmt: skip
def test_an_address_that_is_none_is_refused(value):
    with pytest.raises(DataError):
        records.parse({"kind": "work", "slug": "w", "title": "t", "url": value})


def routes(app: Any) -> list[tuple[str, str]]:
    """Every method and path, of routers that are included too."""
    found = []
    left = list(app.routes)
    while left:
        route = left.pop()
        left += getattr(getattr(route, "original_router", None), "routes", [])
        found += [(method, route.path) for method in getattr(route, "methods", None) or ()]
    assert len(found) > 50
    return sorted(found)


FILLED = {"slug": "a", "kind": "dataset", "number": "1", "version": "v2026.01", "form": "cite.bib",
          "name": "review.css", "action": "accept"}  # fmt: skip


def filled(path: str) -> str:
    if path.startswith("/api/"):
        path = path.replace("{kind}", "datasets").replace("{form}", "bibtex")
    return re.sub(r"\{(\w+)\}", lambda match: FILLED[match[1]], path)


def test_every_form_is_refused_without_its_secret_and_every_unsafe_call_of_the_api_without_a_token(app, db, staff):
    client, other = signed_in(app, "admin one"), signed_in(app, "editor one")
    theirs = secret_of(other, "/submit")
    unsafe = [(method, path) for method, path in routes(app) if method not in SAFE]
    assert len(unsafe) >= 12
    for method, path in unsafe:
        where = filled(path)
        if path.startswith("/api/"):
            if path.endswith("/check"):
                continue  # it reads; POST because a list does not fit an address
            answer = client.request(method, where, json={})  # a cookie, no token
            assert answer.status_code in (401, 422), (path, answer.status_code)
            bearer = {"authorization": "Bearer nonsense"}
            assert client.request(method, where, json={}, headers=bearer).status_code in (401, 422), path
            continue
        for form in ({}, {"csrf": ""}, {"csrf": "nonsense"}, {"csrf": theirs}):
            answer = client.request(method, where, data=form, follow_redirects=False)
            assert answer.status_code == 403, (path, form, answer.status_code)
        mine = {"csrf": secret_of(client, "/submit")}
        foreign = client.request(
            method, where, data=mine, headers={"origin": "https://evil.example"}, follow_redirects=False
        )
        assert foreign.status_code == 403, path


def test_no_unsafe_call_of_the_api_passes_with_an_empty_body_and_no_token(app):
    client = TestClient(app)
    proposal = {"title": "t", "changes": [{"kind": "dataset", "slug": "b", "base": 0, "record": {}}]}
    bodies = {"/contributions": proposal, "/contributions/{number}": proposal}
    for method, path in routes(app):
        if method not in SAFE and path.startswith("/api/") and not path.endswith("/check"):
            body = next((body for end, body in bodies.items() if path.endswith(end)), {})
            assert client.request(method, filled(path), json=body).status_code == 401, path


PAGES = {
    "/submit": "propose",
    "/paste": "propose",
    "/edit/dataset/a": "propose",
    "/queue": "review",
    "/people": "people",
}
ACTIONS = [
    ("post", "/submit", {"action": "preview", "dataset": "a"}, "propose"),
    ("post", "/paste", {"action": "preview", "form": "yaml", "text": "x"}, "propose"),
    ("post", "/edit/dataset/a", {"base": "1", "text": "x"}, "propose"),
    ("post", "/queue", {"number": "2", "reason": "spam"}, "review"),
    ("post", "/contributions/2", {"action": "accept"}, "review"),
    ("post", "/contributions/2", {"action": "reject", "reason": "spam"}, "review"),
    ("post", "/people", {"action": "add", "name": "new one", "role": "admin", "password": PASSWORD}, "people"),
]


@pytest.mark.parametrize("role", ROLES)
def test_each_role_reaches_what_it_may_and_nothing_else(app, db, staff, role):
    client = TestClient(app) if role is None else signed_in(app, f"{role} one")
    for path, action in PAGES.items():
        answer = client.get(path, follow_redirects=False)
        if role is None:
            assert (answer.status_code, answer.headers["location"].split("?")[0]) == (303, "/sign-in")
        else:
            assert answer.status_code == (200 if role in people.MAY[action] else 403), (path, answer.status_code)
    for method, path, form, action in ACTIONS:
        with db.writing() as connection:  # a fresh contribution each time
            change = workflow.Change("dataset", "b", 0, dataset("b", name=f"{path} {form}"))
            number = workflow.propose(connection, staff["bot"], "t", [change])
        secret = secret_of(client, "/sign-in") if role is None else secret_of(client, "/contributions")
        where = path.replace("/2", f"/{number}")
        data = {"csrf": secret} | form | ({"number": str(number)} if "number" in form else {})
        answer = client.request(method, where, data=data, follow_redirects=False)
        allowed = role in people.MAY[action] if role else False
        if role is None:
            assert answer.status_code == 303, path
            assert answer.headers["location"].startswith("/sign-in")
        elif allowed and not (role == "bot" and action == "review"):
            assert answer.status_code in (200, 303, 422), (path, answer.status_code)
        else:
            assert answer.status_code == 403, (path, answer.status_code)
        with db.reading() as connection:
            state = workflow.contribution(connection, number).state
        assert (state != "submitted") == (allowed and action == "review"), (role, path)


@pytest.mark.parametrize("role", ROLES)
def test_each_role_s_token_does_what_it_may_and_nothing_else(app, db, staff, role):
    client = TestClient(app)
    headers = {}
    with db.writing() as connection:
        if role is not None:
            headers = {"authorization": f"Bearer {people.give_token(connection, staff[role], 'test')}"}
        number = workflow.propose(connection, staff["second"], "t", [workflow.Change("dataset", "b", 0, dataset("b"))])
    body = {"title": "t", "changes": [{"kind": "dataset", "slug": "c", "base": 0, "record": dataset("c").plain()}]}
    answer = client.post("/api/v1/contributions", json=body, headers=headers)
    assert answer.status_code == (401 if role is None else 201 if role in people.MAY["propose"] else 403)
    answer = client.get(f"/api/v1/contributions/{number}", headers=headers)
    assert answer.status_code == (401 if role is None else 200 if role in people.MAY["review"] else 403)
    answer = client.post(f"/api/v1/contributions/{number}/accept", json={}, headers=headers)
    assert answer.status_code == (401 if role is None else 200 if role in people.MAY["review"] else 403)
    with db.reading() as connection:
        accepted = workflow.contribution(connection, number).state == "accepted"
    assert accepted == (role is not None and role in people.MAY["review"])


def test_every_answer_has_our_headers_whatever_it_is(app):
    client = TestClient(app)
    big = {"content-length": "9999999"}
    paths = "/ /datasets/a /nothing /search?q=color:red /static/review.css /submit"
    more = "/api/v1/health /api/v1/datasets/none /api/v1/datasets?limit=0"
    answers = [client.get(path) for path in f"{paths} {more}".split()]
    answers += [client.post("/submit", headers=big), client.post("/api/v1/check", json={}), client.delete("/")]
    first = client.get("/datasets/a")
    answers.append(client.get("/datasets/a", headers={"if-none-match": first.headers["etag"]}))
    assert {answer.status_code for answer in answers} >= {200, 304, 400, 404, 405, 413, 422}
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "unsafe" not in policy, answer.url
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "server" not in answer.headers


def test_a_session_is_new_at_sign_in_and_ends_at_sign_out_with_a_new_role_and_with_time(app, db, staff):
    client = TestClient(app)
    client.cookies.set("session", "planted")
    form = {"csrf": secret_of(client, "/sign-in"), "name": "editor one", "password": PASSWORD}
    answer = client.post("/sign-in", data=form, follow_redirects=False)
    cookie = answer.headers["set-cookie"]
    assert "planted" not in cookie
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    for how in ("sign out", "role", "bar", "expiry"):
        client = signed_in(app, "editor one")
        assert client.get("/queue").status_code == 200
        with db.writing() as connection:
            if how == "sign out":
                old = dict(client.cookies)
            elif how == "role":
                people.change_role(connection, "editor one", "reviewer")
            elif how == "bar":
                people.change_role(connection, "editor one", "editor", disabled=True)
            else:
                connection.execute(update(t.session).values(expires="2000-01-01"))
        if how == "sign out":
            client.post("/sign-out", data={"csrf": secret_of(client, "/submit")})
            client.cookies.update(old)
        assert client.get("/queue", follow_redirects=False).status_code == 303, how
        with db.writing() as connection:
            connection.execute(
                update(t.person).where(t.person.c.name == "editor one").values(disabled=False, role="editor")
            )


def test_guessing_is_slowed_and_a_name_that_nobody_has_costs_the_same_work(app, monkeypatch):
    client, calls = TestClient(app), []
    original = people.hashlib.scrypt
    monkeypatch.setattr(people.hashlib, "scrypt", lambda *a, **k: calls.append(1) or original(*a, **k))
    for name, password in (("nobody at all", "x" * 12), ("editor one", "y" * 12)):
        before = len(calls)
        form = {"csrf": secret_of(client, "/sign-in"), "name": name, "password": password}
        assert client.post("/sign-in", data=form).status_code == 401
        assert len(calls) == before + 1
    codes = []
    for n in range(6):
        form = {"csrf": secret_of(client, "/sign-in"), "name": "editor one", "password": f"wrong guess {n}"}
        codes.append(client.post("/sign-in", data=form).status_code)
    assert codes[-1] == 429
    form = {"csrf": secret_of(client, "/sign-in"), "name": "editor one", "password": PASSWORD}
    assert client.post("/sign-in", data=form).status_code == 429


@pytest.mark.parametrize(
    "then", ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/\t/evil"]
)
def test_signing_in_leads_to_our_own_pages_only(app, then):
    client = TestClient(app)
    form = {"csrf": secret_of(client, "/sign-in"), "name": "editor one", "password": PASSWORD, "then": then}
    assert client.post("/sign-in", data=form, follow_redirects=False).headers["location"] == "/"


def test_what_a_person_sees_is_never_kept_for_another_and_a_change_elsewhere_is_seen_at_once(app, db, staff, tmp_path):
    person, anybody = signed_in(app, "admin one"), TestClient(app)
    assert "admin one" in person.get("/datasets/a").text
    assert "admin one" not in anybody.get("/datasets/a").text
    assert "admin one" in person.get("/datasets/a").text
    before = anybody.get("/datasets/a")
    elsewhere = database.connect(tmp_path / "review.sqlite")
    publish(elsewhere, staff["contributor"], staff["reviewer"], dataset("a", name="Renamed", produced_by=["w"]))
    elsewhere.close()
    after = anybody.get("/datasets/a", headers={"if-none-match": before.headers["etag"]})
    assert after.status_code == 200
    assert "Renamed" in after.text


def test_the_server_asks_nobody_whatever_address_it_is_given(app, db, staff, monkeypatch):
    client = signed_in(app, "contributor one")
    secret = secret_of(client, "/paste")
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("asked the network"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("asked for an address"))
    croissant = {"@context": "http://169.254.169.254/latest", "@type": "sc:Dataset", "name": "N",
                 "url": "http://127.0.0.1:22/", "license": "http://[::ffff:127.0.0.1]/"}  # fmt: skip
    texts = {
        "croissant": json.dumps(croissant),
        "bibtex": "@misc{a, title={x}, url={http://2130706433/}, howpublished={<!DOCTYPE a SYSTEM 'file:///etc/passwd'>}}",
        "ris": "TY  - ELEC\nTI  - x\nUR  - http://0x7f.1/\nER  - \n",
        "csv": "kind,slug,name,homepage\ndataset,q,Q,http://100.100.100.200/\n",
        "yaml": "kind: work\nslug: y\ntitle: Y\nurl: http://localhost/\n",
    }
    for form, text in texts.items():
        data = {"csrf": secret, "action": "submit", "form": form, "text": text, "title": form}
        answer = client.post("/paste", data=data, follow_redirects=False)
        assert answer.status_code == 303, (form, answer.text)


def test_only_the_live_transport_can_ask_the_network():
    clients = {"httpx", "requests", "urllib.request", "urllib3", "aiohttp", "http.client", "ftplib", "socket"}
    root = Path(medaudit.review.__file__).parent
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if clients & {name for name in names if name}:
                assert path.name == "transports.py", path


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: [*b,*b,*b,*b,*b,*b,*b,*b,*b]",
        "!!python/object/apply:os.system ['true']",
        "[" * 50_000,
        "{" * 50_000,
        "- " * 100_000,
        "kind: work\nslug: y\ntitle: !!binary aGFsbG8=\n",
    ],
)
def test_yaml_bombs_and_objects_are_refused_quickly(app, text):
    client = signed_in(app, "contributor one")
    start = time.process_time()
    form = {"csrf": secret_of(client, "/paste"), "action": "preview", "form": "yaml", "text": text}
    answer = client.post("/paste", data=form)
    assert answer.status_code == 422
    assert time.process_time() - start < 3


def test_large_deep_and_many_are_refused_quickly(app):
    client = TestClient(app)
    start = time.process_time()
    assert client.post("/api/v1/check", content=b"x" * 1_000_001).status_code == 413

    def parts() -> Any:
        for _ in range(20):
            yield b"x" * 100_000

    assert client.post("/api/v1/check", content=parts()).status_code == 413
    deep = b'{"names": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert client.post("/api/v1/check", content=deep, headers={"content-type": "application/json"}).status_code in (
        400,
        422,
    )
    many = "&".join(f"a{n}=1" for n in range(20_000))
    headers = {"content-type": "application/x-www-form-urlencoded"}
    assert client.post("/submit", content=many, headers=headers).status_code in (400, 403, 413)
    assert client.get("/search", params={"q": "a" * 5_000}).status_code == 422
    assert time.process_time() - start < 10


@pytest.mark.parametrize("text", ['"' * 400, "-" * 400, "a:" * 200, "(" * 400, "*" * 400, "OR " * 130, "\u0301" * 400])
def test_the_grammar_reads_anything_in_no_time(text):
    start = time.process_time()
    with contextlib.suppress(UsageError):
        grammar.parse(text)
    assert time.process_time() - start < 0.5


def test_a_record_s_patterns_are_linear():
    start = time.process_time()
    for field, text in (("doi", "10.1234/" + "(" * 290), ("arxiv", "a-" * 19), ("url", "https://" + "a." * 900),
                        ("title", "a" * 499 + "\u202e")):  # fmt: skip
        with contextlib.suppress(DataError):
            records.parse({"kind": "work", "slug": "w", "title": "t", field: text})
    assert time.process_time() - start < 0.5


def test_keyset_paging_visits_each_record_once_while_others_come(app, db, staff):
    client = TestClient(app)
    publish(db, staff["contributor"], staff["reviewer"], *(dataset(f"m{n:03d}") for n in range(40)))
    seen, after = [], ""
    for step in range(100):
        page = client.get("/api/v1/datasets", params={"limit": 7, "after": after}).json()
        seen += [item["record"]["slug"] for item in page["items"]]
        publish(db, staff["contributor"], staff["reviewer"], dataset(f"a-new-{step}"))
        if page["next"] is None:
            break
        after = page["next"]
    assert len(seen) == len(set(seen))
    assert {f"m{n:03d}" for n in range(40)} <= set(seen)


def test_if_match_if_none_match_and_idempotency_are_kept(app, db, staff):
    client = TestClient(app)
    with db.writing() as connection:
        headers = {"authorization": f"Bearer {people.give_token(connection, staff['bot'], 'test')}"}
    tag = client.get("/api/v1/datasets/a").headers["etag"]
    new = dataset("a", name="New").plain()
    put = client.put("/api/v1/datasets/a", json=new, headers=headers | {"if-match": tag})
    assert put.status_code == 202
    assert client.put("/api/v1/datasets/a", json=new, headers=headers | {"if-match": '"7"'}).status_code == 412
    assert client.put("/api/v1/datasets/a", json=new, headers=headers).status_code == 412
    fresh = dataset("fresh").plain()
    assert client.put("/api/v1/datasets/fresh", json=fresh, headers=headers | {"if-none-match": "*"}).status_code == 202
    body = {"title": "t", "changes": [{"kind": "dataset", "slug": "z", "base": 0, "record": dataset("z").plain()}]}
    keyed = headers | {"idempotency-key": "k"}
    first, second = (
        client.post("/api/v1/contributions", json=body, headers=keyed).json()["contribution"] for _ in range(2)
    )
    assert first == second


@pytest.mark.parametrize("role", [None, "admin"])
def test_nothing_that_fits_the_description_of_the_api_gives_a_500(app, db, staff, role):
    headers = {}
    if role is not None:
        with db.writing() as connection:
            headers = {"authorization": f"Bearer {people.give_token(connection, staff[role], 'test')}"}
    schema = schemathesis.openapi.from_asgi("/api/v1/openapi.json", app)
    asked = 0
    for operation in schema.get_all_operations():
        made = operation.ok()

        @settings(
            max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
        )
        @given(case=made.as_strategy())
        def probe(case: Any) -> None:
            nonlocal asked
            asked += 1
            answer = case.call(headers=headers)
            assert answer.status_code < 500, (case.operation.label, answer.status_code, answer.text[:200])
            if answer.status_code >= 400:
                assert "problem+json" in answer.headers["content-type"][0]

        probe()
    assert asked > 200


def test_an_answer_that_fifty_ask_for_at_once_is_made_once_and_is_everybody_s(db, staff):
    import asyncio

    from medaudit.review.web.cache import Counter, PublicCache

    calls = []

    async def slow(scope: Any, _receive: Any, send: Any) -> None:
        calls.append(scope["path"])
        await asyncio.sleep(0.05)
        kept = scope["path"] == "/kept"
        headers = [(b"cache-control", b"public, no-cache" if kept else b"no-store")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"made"})

    cache = PublicCache(slow, Counter(db))

    async def asked(path: str, times: int) -> list[bytes]:
        async def one() -> bytes:
            got = []

            async def send(message: Any) -> None:
                got.append(message.get("body", b""))

            scope = {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b""}
            await cache(scope, None, send)  # type: ignore[arg-type]
            return b"".join(got)

        return await asyncio.gather(*(one() for _ in range(times)))

    assert asyncio.run(asked("/kept", 50)) == [b"made"] * 50
    assert calls == ["/kept"]
    publish(db, staff["contributor"], staff["reviewer"], dataset("b"))
    assert asyncio.run(asked("/kept", 50)) == [b"made"] * 50
    assert calls == ["/kept"] * 2  # what is public has changed
    assert asyncio.run(asked("/never kept", 5)) == [b"made"] * 5
    assert calls.count("/never kept") == 5
