"""The REST API: it says what it takes and takes what it says, pages visit each record once, edits are not lost."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from made_reviews import artifact, dataset, hire, publish, work
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from medaudit.review import database, people, workflow
from medaudit.review.database import Database
from medaudit.review.people import Person
from medaudit.review.web.app import create

pytestmark = pytest.mark.filterwarnings("ignore:Using `httpx` with")
EXAMPLES = 12
"""Cases of each operation, with and without a token: about a minute in all."""


@dataclass(frozen=True)
class Served:
    """A site, and how to speak to its API."""

    db: Database
    app: FastAPI
    staff: dict[str, Person]
    tokens: dict[str, str]

    def ask(self, method: str, path: str, role: str | None = None, body: Any = None, **headers: str) -> Any:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if role is not None:
            named["authorization"] = f"Bearer {self.tokens[role]}"
        client = TestClient(self.app, base_url="http://review.test", follow_redirects=False)
        return client.request(method, f"/api/v1{path}", json=body, headers=named)

    def propose(self, *records: dict[str, Any], base: int = 0, role: str = "bot", **headers: str) -> Any:
        changes = [{"kind": r["kind"], "slug": r["slug"], "base": base, "record": r} for r in records]
        return self.ask("POST", "/contributions", role, {"title": "t", "changes": changes}, **headers)


def serve(db: Database) -> Served:
    staff = hire(db)
    publish(
        db, staff["contributor"], staff["reviewer"], work("w"), dataset("a", produced_by=["w"]), dataset("b"),
        artifact("x", "a", works=["w"], severity="major"),
    )  # fmt: skip
    with db.writing() as connection:
        tokens = {role: people.give_token(connection, person, "test") for role, person in staff.items()}
    return Served(db, create(db), staff, tokens)


@pytest.fixture
def api(db: Database) -> Served:
    return serve(db)


def fails(answer: Any, status: int) -> dict[str, Any]:
    """Check that an answer is an error as RFC 9457 has it; return it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    said: dict[str, Any] = answer.json()
    assert said["status"] == status
    assert said["type"] == "about:blank"
    assert isinstance(said["title"], str)
    assert said["title"]
    assert "public" not in answer.headers.get("cache-control", "")
    return said


# What the description promises -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Any]]:
    db = database.connect(tmp_path_factory.mktemp("described") / "r.sqlite", create=True)
    served = serve(db)
    yield served, schemathesis.openapi.from_asgi("/api/v1/openapi.json", served.app)
    db.close()


OPERATIONS = (
    "GET /search", "GET /graph/{kind}/{slug}", "POST /check", "GET /releases", "GET /releases/changes", "GET /health",
    "GET /contributions", "POST /contributions", "GET /contributions/{number}", "PUT /contributions/{number}",
    "POST /contributions/{number}/{action}",
    "GET /{kind}", "GET /{kind}/{slug}", "PUT /{kind}/{slug}", "GET /{kind}/{slug}/history",
    "GET /datasets/{slug}/warnings", "GET /datasets/{slug}/export/{form}",
)  # fmt: skip


def test_every_operation_is_tried(described: tuple[Served, Any]) -> None:
    found = {
        f"{o.ok().method.upper()} {o.ok().path.removeprefix('/api/v1')}" for o in described[1].get_all_operations()
    }
    assert found == set(OPERATIONS)


@pytest.mark.parametrize("role", [None, "contributor", "admin"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_request_that_the_description_allows_is_an_error_of_ours(
    described: tuple[Served, Any], operation: str, role: str | None
) -> None:
    """Schemathesis, which we did not write, makes the requests and judges the answers."""
    served, schema = described
    method, path = operation.split()
    chosen = schema[f"/api/v1{path}"][method]
    headers = {} if role is None else {"authorization": f"Bearer {served.tokens[role]}"}
    seen = []

    @settings(
        max_examples=EXAMPLES, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck),
        phases=(Phase.explicit, Phase.generate),
    )  # fmt: skip
    @given(case=chosen.as_strategy())
    def tried(case: Any) -> None:
        response = case.call(headers=headers)
        checks = [not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance]
        case.validate_response(response, checks=checks)
        if response.status_code >= 400:
            assert response.headers["content-type"] == ["application/problem+json"]
            assert json.loads(response.content)["status"] == response.status_code
        seen.append(response.status_code)

    tried()
    assert seen


def test_an_author_answers_a_reviewer(api: Served) -> None:
    number = api.propose(dataset("n").plain(), role="contributor").json()["contribution"]
    assert (
        api.ask("POST", f"/contributions/{number}/request-changes", "reviewer", {"note": "Which version?"}).status_code
        == 200
    )
    again = {"title": "t", "note": "Mended.", "changes": [
        {"kind": "dataset", "slug": "n", "record": dataset("n", name="N, version 2").plain()}]}  # fmt: skip
    fails(api.ask("PUT", f"/contributions/{number}", "reviewer", again), 403)
    answer = api.ask("PUT", f"/contributions/{number}", "contributor", again)
    assert (answer.status_code, answer.json()["state"]) == (200, "submitted")
    assert api.ask("POST", f"/contributions/{number}/accept", "reviewer", {}).status_code == 200
    assert "N, version 2" in api.ask("GET", "/datasets/n", None).text
    fails(api.ask("PUT", f"/contributions/{number}", "contributor", again), 400)


def test_the_description_names_no_secret_and_no_page(api: Served) -> None:
    answer = api.ask("GET", "/openapi.json")
    assert answer.json()["openapi"].startswith("3.1")
    assert all(path.startswith("/api/v1/") for path in answer.json()["paths"])
    assert not [word for word in ("sqlite", str(api.db.engine.url.database)) if word in answer.text]


# Errors ------------------------------------------------------------------------------------------------------------


def test_every_error_is_a_problem(api: Served) -> None:
    own = api.propose(dataset("own").plain(), role="reviewer").json()["contribution"]
    other = api.propose(dataset("other").plain()).json()["contribution"]
    record = dataset("a").plain()
    for status, answer in (
        (400, api.ask("GET", "/search?q=color:red")), (400, api.ask("GET", "/releases/changes?earlier=no")),
        (401, api.ask("GET", "/contributions")), (401, api.ask("PUT", "/datasets/a", None, record, if_match='"1"')),
        (401, api.ask("GET", "/contributions", None, None, authorization="Bearer mar_no")),
        (401, api.ask("GET", "/contributions", None, None, authorization="Basic eDp5")),
        (403, api.ask("POST", f"/contributions/{own}/accept", "reviewer", {})),
        (403, api.ask("POST", f"/contributions/{other}/accept", "contributor", {})),
        (403, api.propose(dataset("n").plain(), role="reader")), (403, api.ask("GET", f"/contributions/{own}", "bot")),
        (404, api.ask("GET", "/datasets/nothing")), (404, api.ask("GET", "/datasets/nothing/history")),
        (404, api.ask("GET", "/datasets/nothing/warnings")), (404, api.ask("GET", "/datasets/nothing/export/bibtex")),
        (404, api.ask("GET", "/graph/works/nothing")), (404, api.ask("GET", "/datasets/a/b/c/d")),
        (405, api.ask("DELETE", "/datasets/a")), (405, api.ask("PATCH", "/contributions")),
        (412, api.ask("PUT", "/datasets/a", "bot", record)),
        (412, api.ask("PUT", "/datasets/a", "bot", record, if_match='"7"')),
        (412, api.ask("PUT", "/datasets/a", "bot", record, if_none_match="*")),
        (413, api.ask("POST", "/check", None, {"names": ["x" * 1_000_001]})),
        (422, api.ask("GET", "/datasets?limit=0")), (422, api.ask("GET", "/datasets?limit=201")),
        (422, api.ask("GET", "/search?offset=-1")), (422, api.ask("GET", "/datasets/UPPER")),
        (422, api.ask("POST", "/check", None, {"names": []})), (422, api.ask("POST", "/check", None, [])),
        (422, api.propose({**record, "access": "maybe"})), (422, api.propose({**record, "unknown": 1})),
        (422, api.propose({**dataset("n").plain(), "cite": ["nobody"]})),
        (422, api.ask("POST", f"/contributions/{other}/reject", "reviewer", {"reason": "r", "more": 1})),
        (400, api.ask("POST", f"/contributions/{other}/reject", "reviewer", {"reason": "because"})),
        (422, api.ask("POST", f"/contributions/{other}/publish", "reviewer", {})),
        (422, api.ask("PUT", "/datasets/a", "bot", {"kind": "dataset"}, if_match='"1"')),
        (400, api.ask("PUT", "/datasets/a", "bot", dataset("z").plain(), if_match='"1"')),
    ):  # fmt: skip
        fails(answer, status)
        if status == 401:
            assert answer.headers["www-authenticate"] == "Bearer"


def test_a_contribution_that_is_not_there_is_not_found(api: Served) -> None:
    fails(api.ask("GET", "/contributions/999", "reviewer"), 404)


def test_somebody_with_too_many_open_proposals_waits(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow, "OPEN_AT_MOST", 2)
    assert [api.propose(dataset(f"n{n}").plain()).status_code for n in range(3)] == [201, 201, 429]
    fails(api.propose(dataset("n4").plain()), 429)
    assert api.propose(dataset("n5").plain(), role="contributor").status_code == 201


def test_a_question_that_takes_too_long_is_given_up(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    from medaudit.review.web import api as module

    def slow(connection: Any, *_: Any, **__: Any) -> Any:
        connection.exec_driver_sql(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 900000000) SELECT count(*) FROM n"
        )

    monkeypatch.setattr(module.search, "search", slow)
    fails(api.ask("GET", "/search?q=a"), 503)


def test_a_merged_record_leads_on_and_a_retired_one_is_gone(api: Served) -> None:
    changes = [
        {"kind": "dataset", "slug": "b", "base": 1, "redirect_to": "a"},
        {"kind": "artifact", "slug": "x", "base": 1},
    ]
    number = api.ask("POST", "/contributions", "bot", {"title": "t", "changes": changes}).json()["contribution"]
    fails(api.ask("POST", f"/contributions/{number}/accept", "reviewer", {}), 403)
    assert api.ask("POST", f"/contributions/{number}/accept", "editor", {}).status_code == 200
    moved = api.ask("GET", "/datasets/b")
    assert (moved.status_code, moved.headers["location"]) == (301, "/api/v1/datasets/a")
    fails(api.ask("GET", "/artifacts/x"), 410)
    assert [one["rev"] for one in api.ask("GET", "/artifacts/x/history").json()] == [2, 1]


# Paging ------------------------------------------------------------------------------------------------------------


def test_pages_visit_each_record_once_while_others_are_put(api: Served) -> None:
    first = [dataset(f"d{n:03d}") for n in range(60)]
    publish(api.db, api.staff["bot"], api.staff["reviewer"], *first)
    there = {record.slug for record in first} | {"a", "b"}
    visited: list[str] = []
    after, n = "", 0
    while True:
        answer = api.ask("GET", f"/datasets?limit=7&after={after}").json()
        visited += [item["record"]["slug"] for item in answer["items"]]
        n += 1  # before, between and behind where the reader is, and one that is there is edited
        new = [dataset(f"a{n:03d}"), dataset(f"d{n:03d}-new"), dataset(f"z{n:03d}"), dataset("d030", name=f"N{n}")]
        publish(api.db, api.staff["bot"], api.staff["reviewer"], *new)
        if answer["next"] is None:
            break
        assert answer["next"] == visited[-1]
        after = answer["next"]
    assert len(set(visited)) == len(visited)
    assert there <= set(visited)
    assert visited == sorted(visited)


def test_the_last_page_has_no_next_and_a_full_one_may_have_an_empty_one_behind(api: Served) -> None:
    assert api.ask("GET", "/datasets?limit=200").json()["next"] is None
    full = api.ask("GET", "/datasets?limit=2").json()
    assert [item["record"]["slug"] for item in full["items"]] == ["a", "b"]
    behind = api.ask("GET", f"/datasets?limit=2&after={full['next']}").json() if full["next"] else {"items": []}
    assert behind["items"] == []
    assert api.ask("GET", "/datasets?after=zzz").json() == {"items": [], "next": None}


def test_contributions_are_paged_by_number(api: Served) -> None:
    numbers = [api.propose(dataset(f"n{n}").plain()).json()["contribution"] for n in range(7)]
    seen, after = [], 0
    while page := api.ask("GET", f"/contributions?limit=2&after={after}", "reviewer").json():
        seen += [one["id"] for one in page]
        after = seen[-1]
        api.propose(dataset(f"later{after}").plain()) if len(seen) < 6 else None
    assert seen[: len(numbers)] == numbers
    assert len(set(seen)) == len(seen)
    assert api.ask("GET", "/contributions", "contributor").json() == []


# Revisions ---------------------------------------------------------------------------------------------------------


def test_a_records_tag_is_its_revision_and_guards_an_edit(api: Served) -> None:
    got = api.ask("GET", "/datasets/a")
    tag = got.headers["etag"]
    assert tag == f'"{got.json()["rev"]}"'
    unchanged = api.ask("GET", "/datasets/a", None, None, if_none_match=tag)
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert unchanged.headers["etag"] == tag
    edited = got.json()["record"] | {"name": "Edited"}
    for good in (tag, f"W/{tag}"):
        assert api.ask("PUT", "/datasets/a", "bot", edited, if_match=good).status_code == 202
    number = api.ask("PUT", "/datasets/a", "bot", edited, if_match=tag).json()["contribution"]
    assert api.ask("GET", "/datasets/a").headers["etag"] == tag  # only proposed
    assert api.ask("POST", f"/contributions/{number}/accept", "reviewer", {}).status_code == 200
    assert api.ask("GET", "/datasets/a", None, None, if_none_match=tag).json()["record"]["name"] == "Edited"
    said = fails(api.ask("PUT", "/datasets/a", "bot", edited, if_match=tag), 412)
    assert "revision 2" in said["title"]
    assert api.ask("PUT", "/datasets/new", "bot", dataset("new").plain(), if_none_match="*").status_code == 202


def test_a_request_sent_again_with_its_key_is_done_once(api: Served) -> None:
    first, again, other = (api.propose(dataset("n").plain(), role=role, idempotency_key="k")
                           for role in ("bot", "bot", "contributor"))  # fmt: skip
    assert first.json()["contribution"] == again.json()["contribution"] != other.json()["contribution"]
    without = {api.propose(dataset("n").plain()).json()["contribution"] for _ in range(2)}
    assert len(without) == 2


def test_of_requests_with_one_key_sent_at_once_one_is_done(api: Served) -> None:
    answers = at_once(8, lambda n: api.propose(dataset("n").plain(), idempotency_key="same"))
    assert {one.status_code for one in answers} == {201}
    assert len({one.json()["contribution"] for one in answers}) == 1


def at_once(many: int, do: Any) -> list[Any]:
    answers: list[Any] = []
    barrier = threading.Barrier(many)

    def one(n: int) -> None:
        barrier.wait()
        answers.append(do(n))

    threads = [threading.Thread(target=one, args=(n,)) for n in range(many)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == many
    return answers


def test_of_edits_over_one_revision_exactly_one_wins(api: Served) -> None:
    numbers = [
        api.ask("PUT", "/datasets/a", "bot", dataset("a", name=f"Name {n}").plain(), if_match='"1"').json()[
            "contribution"
        ]
        for n in range(6)
    ]
    answers = at_once(6, lambda n: api.ask("POST", f"/contributions/{numbers[n]}/accept", "reviewer", {}))
    assert sorted(one.status_code for one in answers) == [200] + [409] * 5
    won = next(one.json() for one in answers if one.status_code == 200)
    record = api.ask("GET", "/datasets/a").json()
    assert (record["rev"], record["record"]["name"]) == (2, won["changes"][0]["record"]["name"])
    lost = fails(next(one for one in answers if one.status_code == 409), 409)
    (field,) = [one for one in lost["differences"]["dataset:a"] if one["field"] == "name"]
    assert field["theirs"] == record["record"]["name"] != field["ours"]


def test_a_contribution_is_decided_once_however_many_try(api: Served) -> None:
    number = api.propose(dataset("n").plain()).json()["contribution"]
    actions = ["accept", "reject", "accept", "reject", "accept", "reject"]
    who = ["reviewer", "second", "editor", "chief", "admin", "second"]
    answers = at_once(
        6, lambda n: api.ask("POST", f"/contributions/{number}/{actions[n]}", who[n], {"reason": "spam", "note": "n"})
    )
    assert sorted(one.status_code for one in answers) == [200] + [400] * 5
    assert len(api.ask("GET", "/datasets/n/history").json()) == 1 or api.ask("GET", "/datasets/n").status_code == 404


# What it tells -----------------------------------------------------------------------------------------------------


def test_check_warns_of_what_a_project_uses_and_names_what_it_does_not_know(api: Served) -> None:
    answer = api.ask("POST", "/check", None, {"names": ["A", "a", "no such thing"]})
    assert answer.headers["cache-control"] == "no-store"
    said = answer.json()
    assert said["unknown"] == ["no such thing"]
    assert [one["reference"]["slug"] for one in said["warnings"]] == ["x"]


def test_search_the_graph_history_and_exports_agree_with_the_records(api: Served) -> None:
    found = api.ask("GET", "/search?q=kind:dataset&facets=true").json()
    assert {hit["slug"] for hit in found["hits"]} == {"a", "b"}
    assert found["total"] == 2
    graph = api.ask("GET", "/graph/datasets/a").json()
    names = {node["id"]: (node["kind"], node["slug"]) for node in graph["nodes"]}
    edges = {(names[e["subject"]], e["verb"], names[e["object"]]) for e in graph["edges"]}
    assert {(("work", "w"), "PRODUCE", ("dataset", "a")), (("artifact", "x"), "EXTEND", ("dataset", "a"))} <= edges
    (first,) = api.ask("GET", "/datasets/a/history").json()
    assert (first["author"], first["accepted_by"]) == ("contributor one", "reviewer one")
    assert api.ask("GET", "/datasets/a/export/croissant").json()["name"] == "A"
    assert api.ask("GET", "/datasets/a/export/bibtex").text.count("@article{w,") == 1
    health = api.ask("GET", "/health").json()
    assert health["status"] == "ok"
    assert health["log"][0] > 0


def test_nothing_that_waits_is_told_to_the_public(api: Served) -> None:
    api.propose(dataset("secret", name="Zyzzyva").plain(), dataset("secret-2", name="Zyzzyva two").plain())
    for path in ("/search?q=zyzzyva", "/datasets?limit=200", "/search?q=kind:dataset", "/releases/changes"):
        assert "zyzzyva" not in api.ask("GET", path).text.lower().replace('"query":"zyzzyva"', "")
    fails(api.ask("GET", "/datasets/secret"), 404)
    fails(api.ask("GET", "/datasets/secret/history"), 404)
    assert api.ask("POST", "/check", None, {"names": ["zyzzyva"]}).json()["unknown"] == ["zyzzyva"]
