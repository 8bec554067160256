"""`medaudit review serve --workers 4` on PostgreSQL: four processes that share one review, and lose nothing."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from made_reviews import dataset, hire, publish

from medaudit.review import database, people

CLIENTS, TIMES = 4, 3


@pytest.fixture
def served(tmp_path: Path, postgres: Callable[[], str]) -> Iterator[tuple[str, dict[str, str], psutil.Process]]:
    """The address of four workers on an empty PostgreSQL, two persons' tokens, and the process that started them."""
    where = postgres()
    opened = database.connect(where, create=True)
    staff = hire(opened)
    publish(opened, staff["contributor"], staff["reviewer"], dataset("counter", description="0"))
    with opened.writing() as connection:
        tokens = {role: people.give_token(connection, staff[role], "test") for role in ("contributor", "reviewer")}
    opened.close()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    call = [sys.executable, "-m", "medaudit", "review", "serve", "--db", where, "--port", str(port), "--workers", "4"]
    address = f"http://127.0.0.1:{port}/api/v1"
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(call, stdout=log, stderr=log) as server:
        try:
            _wait_for(f"{address}/health", server, tmp_path / "log")
            yield address, tokens, psutil.Process(server.pid)
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(timeout=20)
            except subprocess.TimeoutExpired:
                server.kill()


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 120  # a busy machine starts five processes slowly
    with httpx.Client(verify=False) as client:  # without TLS there is nothing to verify, and certificates load slowly
        while True:
            try:
                client.get(url).raise_for_status()
                return
            except httpx.HTTPError:
                assert server.poll() is None, log.read_text()
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.2)


def test_counting_up_through_four_workers_loses_no_count_and_shows_no_old_one(
    served: tuple[str, dict[str, str], psutil.Process],
) -> None:
    address, tokens, server = served

    def ask(method: str, path: str, role: str, body: Any = None, **headers: str) -> httpx.Response:
        known = {"authorization": f"Bearer {tokens[role]}", **headers} if role else headers
        return client.request(method, f"{address}{path}", headers=known, json=body)

    def count_up(_: int) -> int:
        """Add one over the revision that was read, until that was put TIMES times; return how often it was not."""
        done = refused = 0
        while done < TIMES:
            shown = ask("GET", "/datasets/counter", "contributor").json()
            record = shown["record"] | {"description": str(int(shown["record"]["description"]) + 1)}
            put = ask("PUT", "/datasets/counter", "contributor", record, **{"if-match": f'"{shown["rev"]}"'})
            if put.status_code == 412:
                refused += 1
                continue
            assert put.status_code == 202, put.text
            number = put.json()["contribution"]
            accepted = ask("POST", f"/contributions/{number}/accept", "reviewer", {})
            assert accepted.status_code in (200, 409), accepted.text
            done, refused = done + (accepted.status_code == 200), refused + (accepted.status_code == 409)
            if accepted.status_code == 200:  # whoever answers next must know
                now = ask("GET", "/datasets/counter", "contributor").json()["record"]["description"]
                assert int(now) >= int(record["description"])
        return refused

    # A new connection for each request, so that whichever worker is free takes it.
    one_each = httpx.Limits(max_keepalive_connections=0)
    with httpx.Client(verify=False, limits=one_each, timeout=60) as client, ThreadPoolExecutor(CLIENTS) as pool:
        refused = sum(pool.map(count_up, range(CLIENTS)))
        answers = [ask("GET", "/datasets/counter", "").json() for _ in range(12)]  # without a token: from caches
    without_token = {answer["record"]["description"] for answer in answers}
    assert without_token == {str(CLIENTS * TIMES)}
    assert refused > 0, "nobody ever met another: this asked nothing"
    workers = [child for child in server.children() if "multiprocessing.spawn" in " ".join(child.cmdline())]
    assert len(workers) == 4
    assert sum(child.cpu_times().user > 0 for child in workers) == 4
