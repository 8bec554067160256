"""Records and people for the tests of the review."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from medaudit.review import people, workflow
from medaudit.review.database import Database
from medaudit.review.people import Person
from medaudit.review.records import Record, parse
from medaudit.review.web.app import create


def dataset(slug: str, **more: Any) -> Record:
    return parse({"kind": "dataset", "slug": slug, "name": more.pop("name", slug.replace("-", " ").title()), **more})


def work(slug: str, **more: Any) -> Record:
    return parse({"kind": "work", "slug": slug, "title": more.pop("title", slug.replace("-", " ")), **more})


def artifact(slug: str, *about: str, **more: Any) -> Record:
    filled = {"type": "bias", "finding": "sex", "title": slug.replace("-", " "), "summary": "What was found.",
              "url": "https://example.org/x"} | more  # fmt: skip
    verb = filled.pop("verb", "EXTEND")
    told = [{"dataset": one, "verb": verb} for one in about]
    return parse({"kind": "artifact", "slug": slug, "about": told, **filled})


def publish(db: Database, author: Person, reviewer: Person, *records: Record, title: str = "records") -> int:
    with db.writing() as connection:
        number = workflow.propose(connection, author, title, workflow.putting(connection, records))
        workflow.accept(connection, reviewer, number)
    return number


def hire(db: Database) -> dict[str, Person]:
    with db.writing() as connection:
        return {role: people.add(connection, f"{role} one", role) for role in people.ROLES} | {
            "second": people.add(connection, "reviewer two", "reviewer"),
            "chief": people.add(connection, "editor two", "editor"),
        }


@contextmanager
def serving(db: Database) -> Iterator[str]:
    """Serve a review from a thread; yield its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(create(db), host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)
