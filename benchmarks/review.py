"""Load the living review: readers beside Datasette, writers, kills, backups, a million citations, PostgreSQL.

    MEDAUDIT_PEERS=/tmp/peers python -m benchmarks.review
    python -m benchmarks.review --parts write kill --minutes 1

Servers are processes of their own on this machine; the client is here, and shares the cores with them. Datasette lives
in $MEDAUDIT_PEERS/datasette, with uvloop and httptools beside it, as our server has them. Both serve the same records:
ours from the review, Datasette from `medaudit review export --format sqlite`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import mmap
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import event, text

from medaudit.errors import DataError
from medaudit.review import database, exports, log, people, search, seed, start, views, workflow
from medaudit.review.database import Database
from medaudit.review.people import Person
from medaudit.review.records import Record, parse

CLIENTS = 50
PARTS = ("read", "write", "kill", "backup", "citations", "postgres")
SHOWN = "chexpert"  # the dataset that is read: 30 findings and facts, and uses, hang on it
_TRIVIAL = """
import uvicorn
BODY = b'{"a": "' + b"b" * 1000 + b'"}'
HEAD = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY))]
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": HEAD})
    await send({"type": "http.response.body", "body": BODY})
"""


# The client --------------------------------------------------------------------------------------------------------


@dataclass
class Measured:
    """What requests of one sort took, in seconds, and what went wrong."""

    times: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    wall: float = 0.0
    cpu: float = 0.0

    @property
    def rate(self) -> float:
        return len(self.times) / self.wall if self.wall else 0.0

    def ms(self, percent: float) -> float:
        return 1e3 * float(np.percentile(self.times, percent)) if self.times else float("nan")


def request(method: str, path: str, *, token: str = "", cookie: str = "", body: Any = None, more: str = "") -> bytes:
    """Return the bytes of a request."""
    sent = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nhost: x\r\n{more}"
    head += f"authorization: Bearer {token}\r\n" if token else ""
    head += f"cookie: session={cookie}\r\n" if cookie else ""
    head += f"content-type: application/json\r\ncontent-length: {len(sent)}\r\n" if sent else ""
    return f"{head}\r\n".encode() + sent


class Line:
    """A kept-alive connection; a minimal reader of HTTP/1.1, since a library's would be slower than the server."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.reader: asyncio.StreamReader | None = None

    async def ask(self, sent: bytes) -> tuple[int, bytes]:
        """Send a request; return status and body."""
        if self.reader is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2**22)
        self.writer.write(sent)
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        status = int(head[9:12])
        at = head.find(b"content-length: ")
        if at >= 0:
            return status, await self.reader.readexactly(int(head[at + 16 : head.index(b"\r", at)]))
        parts = []
        while n := int(await self.reader.readuntil(b"\r\n"), 16):
            parts.append(await self.reader.readexactly(n + 2))
        await self.reader.readexactly(2)
        return status, b"".join(part[:-2] for part in parts)

    def close(self) -> None:
        if self.reader is not None:
            self.writer.close()
            self.reader = None


async def timed(line: Line, sent: bytes, into: Measured, *good: int) -> tuple[int, bytes]:
    """Ask and note how long it took; a status that is not ``good`` is an error, and so is a broken connection."""
    begin = time.perf_counter()
    try:
        status, body = await line.ask(sent)
    except (OSError, asyncio.IncompleteReadError, ValueError) as error:
        into.errors[type(error).__name__] += 1
        line.close()
        await asyncio.sleep(0.05)
        return 0, b""
    into.times.append(time.perf_counter() - begin)
    if status not in good:
        into.errors[f"{status} {body[:160].decode(errors='replace')}"] += 1
    return status, body


def reading(port: int, make: Callable[[int], bytes], seconds: float, *, clients: int = CLIENTS) -> Measured:
    """Return what ``clients`` readers get in ``seconds``; none ever pauses, the first second is not counted."""
    warm, kept, numbers = Measured(), Measured(), iter(range(10**12))

    async def one(end: float, into: Measured) -> None:
        line = Line(port)
        while time.perf_counter() < end:
            await timed(line, make(next(numbers)), into, 200)
        line.close()

    async def all_of(end: float, into: Measured) -> None:
        await asyncio.gather(*(one(end, into) for _ in range(clients)))

    run(all_of(time.perf_counter() + min(1.0, seconds), warm))
    begin, cpu = time.perf_counter(), time.process_time()
    run(all_of(begin + seconds, kept))
    kept.wall, kept.cpu = time.perf_counter() - begin, time.process_time() - cpu
    return kept


def run(work: Coroutine[Any, Any, Any]) -> Any:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


# Servers -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def served(call: list[Any], port: int, path: str) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    """Yield a server's process and the seconds until it answered; it is ended afterwards."""
    begin = time.perf_counter()
    process = subprocess.Popen([str(word) for word in call], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            if process.poll() is not None:
                raise RuntimeError(f"ended with code {process.returncode}: {' '.join(map(str, call))}")
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                status, _ = run(Line(port).ask(request("GET", path)))
                if status == 200:
                    break
            if time.perf_counter() - begin > 60:
                raise RuntimeError(f"no answer in a minute: {' '.join(map(str, call))}")
            time.sleep(0.02)
        yield process, time.perf_counter() - begin
    finally:
        if process.poll() is not None:
            print(f"a server ended by itself, code {process.returncode}: {' '.join(map(str, call))}", file=sys.stderr)
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def ours(db: str | Path, workers: int = 1) -> tuple[list[Any], int, str]:
    """Return how our server is called, its port, and a path that answers."""
    port = free_port()
    call = [sys.executable, "-m", "medaudit", "review", "serve", "--db", db, "--port", port, "--workers", workers]
    return call, port, "/api/v1/health"


def trivial() -> tuple[list[Any], int, str]:
    port = free_port()
    code = f"{_TRIVIAL}\nuvicorn.run(app, port={port}, log_level='warning', lifespan='off')"
    return [sys.executable, "-c", code], port, "/"


def datasette(file: Path) -> tuple[list[Any], int, str] | None:
    program = Path(os.environ.get("MEDAUDIT_PEERS", "/nowhere")) / "datasette" / "bin" / "datasette"
    port = free_port()
    return ([program, "serve", "-i", file, "-p", port], port, "/-/versions.json") if program.exists() else None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def postgres() -> Iterator[Callable[[str], str] | None]:
    """Yield a function that makes a database on a server of our own and returns its address, or None."""
    found = [*Path("/usr/lib/postgresql").glob("*/bin/initdb"), *map(Path, filter(None, [shutil.which("initdb")]))]
    if not found:
        yield None
        return
    import psycopg

    folder, port, programs = Path(tempfile.mkdtemp(prefix="medaudit-pg-")), free_port(), found[0].parent
    as_them: list[Any] = []
    if os.geteuid() == 0:  # initdb refuses to be root
        folder.chmod(0o755)
        shutil.chown(folder, "postgres")
        as_them = ["runuser", "-u", "postgres", "--"]
    begin = [*as_them, programs / "initdb", "-D", folder / "data", "-U", "postgres", "--auth=trust", "-E", "UTF8"]
    subprocess.run([*begin, "--locale=C"], check=True, capture_output=True, cwd="/")
    control = [*as_them, programs / "pg_ctl", "-D", folder / "data", "-w"]
    options = f"-p {port} -h 127.0.0.1 -k {folder}"
    subprocess.run([*control, "-o", options, "-l", folder / "log", "start"], check=True, capture_output=True, cwd="/")
    address = f"postgresql://postgres@127.0.0.1:{port}/"

    def fresh(name: str) -> str:
        with psycopg.connect(f"{address}postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]
        return f"{address}{name}"

    try:
        yield fresh
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=False, capture_output=True, cwd="/")
        shutil.rmtree(folder, ignore_errors=True)


def memory(pid: int) -> float:
    """Return the resident MiB of a process and its children."""
    total, waiting = 0.0, [pid]
    while waiting:
        one = waiting.pop()
        with contextlib.suppress(OSError, ValueError, IndexError):
            lines = Path(f"/proc/{one}/status").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024
            waiting += [int(child) for child in Path(f"/proc/{one}/task/{one}/children").read_text().split()]
    return total


# Data and people ---------------------------------------------------------------------------------------------------


def planted(where: str | Path) -> Database:
    """Return a new review with the seed, and the catalogue of the IDC where it is installed."""
    opened = database.connect(where, create=True)
    start.plant(opened, seed.read())
    try:
        from medaudit.review.importers import idc

        more = list(idc.read(None))
    except (ImportError, DataError):  # not installed: the seed alone then, and the page says how many records
        more = []
    if more:
        with opened.writing() as connection:
            author, reviewer = people.named(connection, start.AUTHOR), people.named(connection, start.REVIEWER)
            number = workflow.propose(connection, author, "IDC", workflow.putting(connection, more))
            workflow.accept(connection, reviewer, number)
    return opened


def hired(opened: Database, n: int) -> list[tuple[str, str]]:
    """Return the tokens of ``n`` pairs of persons: one proposes, one accepts."""
    with opened.writing() as connection:
        pairs = [
            (people.add(connection, f"author {k}", "contributor"), people.add(connection, f"reviewer {k}", "reviewer"))
            for k in range(n)
        ]
        return [(people.give_token(connection, a, ""), people.give_token(connection, b, "")) for a, b in pairs]


def signed_in(opened: Database) -> str:
    """Return a session's secret."""
    with opened.writing() as connection:
        return people.sign_in(connection, people.named(connection, start.AUTHOR))[0]


def problems(opened: Database) -> list[str]:
    """Return what is wrong with a review: its log, a contribution that is there by half, rows that search lacks."""
    with opened.reading(600) as connection:
        found = log.verify(connection)
        half = connection.execute(
            text(
                "SELECT c.id, c.state, coalesce(r.n, 0) AS put, k.n AS asked FROM contribution c "
                "LEFT JOIN (SELECT contribution_id, count(*) AS n FROM revision GROUP BY contribution_id) r "
                "ON r.contribution_id = c.id "
                "LEFT JOIN (SELECT contribution_id, count(*) AS n FROM change GROUP BY contribution_id) k "
                "ON k.contribution_id = c.id "
                "WHERE coalesce(r.n, 0) <> CASE WHEN c.state = 'accepted' THEN k.n ELSE 0 END OR k.n IS NULL"
            )
        ).all()
        found += [f"contribution {one.id} is {one.state}: {one.put} of {one.asked} records are there" for one in half]
        public = connection.scalar(text("SELECT count(*) FROM entity WHERE status = 'public'"))
        tables = {"document": "document", "dataset, artifact or work": "(SELECT entity_id FROM dataset UNION ALL "
                  "SELECT entity_id FROM artifact UNION ALL SELECT entity_id FROM work) AS p"}  # fmt: skip
        if not opened.postgres:
            tables |= {"search_words": "search_words", "search_names": "search_names"}
        for name, table in tables.items():
            n = connection.scalar(text(f"SELECT count(*) FROM {table}"))
            if n != public:
                found.append(f"{public} records are public, {n} have a row in {name}")
    if not opened.postgres:
        with contextlib.closing(sqlite3.connect(str(opened.engine.url.database))) as raw:
            found += [str(row[0]) for row in raw.execute("PRAGMA integrity_check") if row[0] != "ok"]
    return found


# Readers and writers -----------------------------------------------------------------------------------------------


@dataclass
class Worked:
    """What writers and readers did beside each other; the counter shows ``counted``, and should ``added``."""

    of: dict[str, Measured]
    added: int
    counted: int
    resident: list[tuple[float, float]]

    @property
    def errors(self) -> Counter[str]:
        return sum((one.errors for one in self.of.values()), Counter())


def working(
    port: int, tokens: list[tuple[str, str]], seconds: float, *, pause: float = 0.0, pages: tuple[str, ...] = (),
    readers: int = CLIENTS, counters: int = 4, pid: int | None = None,
) -> Worked:  # fmt: skip
    """Return what one writer for each pair of ``tokens`` and ``readers`` do in ``seconds``.

    A writer proposes (an edit of its own dataset, a new work that uses it, in turns) and the second person accepts;
    then it pauses for ``pause`` seconds on average, and a reader for a quarter of that. The first ``counters`` pairs
    count instead: all of them read one record, add one, and put it over the revision that they read.
    """
    of: dict[str, Measured] = defaultdict(Measured)
    resident: list[tuple[float, float]] = []
    chosen = random.Random(1)
    added = 0
    mark = f"{time.time_ns():x}"[-8:]
    end = time.perf_counter() + seconds

    async def rest(mean: float) -> None:
        if mean:
            await asyncio.sleep(chosen.uniform(0, 2 * mean))

    async def accept(line: Line, number: int, token: str, *also: int) -> int:
        sent = request("POST", f"/api/v1/contributions/{number}/accept", token=token, body={})
        return (await timed(line, sent, of["accept"], 200, *also))[0]

    async def writer(own: int) -> None:
        line, (author, reviewer), rev, n = Line(port), tokens[own], 0, 0
        slug = f"load-{mark}-{own}"
        await rest(pause)
        while time.perf_counter() < end:
            n += 1
            if n % 2:
                record = {"kind": "dataset", "slug": slug, "name": f"Load {own}", "description": f"edit {n}"}
                change = {"kind": "dataset", "slug": slug, "base": rev, "record": record}
            else:
                record = {"kind": "work", "slug": f"{slug}-{n}", "title": f"A work {n} of {own} on chests",
                          "uses": [{"dataset": slug, "evidence": "mentioned"}]}  # fmt: skip
                change = {"kind": "work", "slug": f"{slug}-{n}", "base": 0, "record": record}
            body = {"title": f"load {n}", "changes": [change]}
            key = f"idempotency-key: {mark}-{own}-{n}\r\n"
            sent = request("POST", "/api/v1/contributions", token=author, body=body, more=key)
            status, told = await timed(line, sent, of["propose"], 201)
            if status == 201 and await accept(line, json.loads(told)["contribution"], reviewer) == 200 and n % 2:
                rev += 1
            await rest(pause)
        line.close()

    async def counter(own: int) -> None:
        nonlocal added
        line, (author, reviewer) = Line(port), tokens[own]
        path = f"/api/v1/datasets/count-{mark}"
        while time.perf_counter() < end:
            status, body = await timed(line, request("GET", path, token=author), of["count: read"], 200)
            if status != 200:
                continue
            shown = json.loads(body)
            record = shown["record"] | {"description": str(int(shown["record"]["description"]) + 1)}
            sent = request("PUT", path, token=author, body=record, more=f'if-match: "{shown["rev"]}"\r\n')
            status, body = await timed(line, sent, of["count: put"], 202, 412)
            if status == 202:
                number = json.loads(body)["contribution"]
                if await accept(line, number, reviewer, 409) == 200:
                    added += 1
                else:
                    sent = request("POST", f"/api/v1/contributions/{number}/withdraw", token=author, body={})
                    await timed(line, sent, of["count: withdraw"], 200)
            await rest(pause)
        line.close()

    async def reader() -> None:
        line = Line(port)
        await rest(pause / 4)
        while time.perf_counter() < end:
            await timed(line, request("GET", chosen.choice(pages)), of["read"], 200)
            await rest(pause / 4)
        line.close()

    async def watch() -> None:
        while pid is not None and time.perf_counter() < end:
            resident.append((seconds - (end - time.perf_counter()), memory(pid)))
            await asyncio.sleep(min(5.0, seconds / 10))

    async def all_of() -> int:
        line, (author, reviewer) = Line(port), tokens[0]
        record = {"kind": "dataset", "slug": f"count-{mark}", "name": "Counter", "description": "0"}
        change = {"kind": "dataset", "slug": f"count-{mark}", "record": record}
        sent = request("POST", "/api/v1/contributions", token=author, body={"title": "count", "changes": [change]})
        _, told = await timed(line, sent, of["propose"], 201)
        await accept(line, json.loads(told)["contribution"], reviewer)
        line.close()  # the server would close it meanwhile
        begin = time.perf_counter()
        await asyncio.gather(
            watch(), *(counter(n) for n in range(counters)), *(writer(n) for n in range(counters, len(tokens))),
            *(reader() for _ in range(readers if pages else 0)),
        )  # fmt: skip
        for one in of.values():
            one.wall = time.perf_counter() - begin
        _, body = await line.ask(request("GET", f"/api/v1/datasets/count-{mark}", token=author))
        line.close()
        return int(json.loads(body)["record"]["description"])

    counted = run(all_of())
    return Worked(dict(of), added, counted, resident)


# Kills -------------------------------------------------------------------------------------------------------------

IDLE, INSIDE, COMMIT = 0, 1, 2


def kills(path: Path, times: int, chosen: random.Random) -> Iterator[tuple[int, list[str]]]:
    """Kill a process that accepts contributions, ``times`` times; yield what it was doing and what is wrong after it.

    Every second kill waits until the process commits; the others come at any time. ``path`` is a review with nobody in
    it. The process is a fork: it starts at once, and says through shared memory what it does.
    """
    opened = database.connect(path)
    with opened.writing() as connection:
        author, reviewer = people.add(connection, "a", "contributor"), people.add(connection, "r", "reviewer")
    opened.close()
    for n in range(times):
        doing = mmap.mmap(-1, 2)
        child = os.fork()
        if child == 0:
            try:
                _accept_for_ever(path, doing, author, reviewer, f"k{n}")
            finally:
                os._exit(1)
        while not doing[1]:
            time.sleep(0.001)
        time.sleep(chosen.uniform(0, 0.08))
        if n % 2:
            while doing[0] != COMMIT:
                pass
            end = time.perf_counter() + chosen.uniform(0, 4e-4)
            while time.perf_counter() < end:
                pass
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        opened = database.connect(path)
        found = problems(opened)
        opened.close()
        yield doing[0], found


def _accept_for_ever(path: Path, doing: mmap.mmap, author: Person, reviewer: Person, mark: str) -> None:
    opened = database.connect(path)

    @event.listens_for(opened.engine, "commit")
    def _commit(_connection: Any) -> None:
        doing[0] = COMMIT

    n = 0
    while True:
        n += 1
        with opened.writing() as connection:
            doing[0] = INSIDE
            number = workflow.propose(connection, author, "t", workflow.putting(connection, three(f"{mark}-{n}")))
        doing[0] = IDLE
        with opened.writing() as connection:
            doing[0] = INSIDE
            workflow.accept(connection, reviewer, number)
        doing[0], doing[1] = IDLE, 1


def three(mark: str) -> list[Record]:
    """Return a dataset, its paper and a finding about it, and an edit of what everybody edits."""
    return [
        parse({"kind": "work", "slug": f"w-{mark}", "title": f"Paper {mark}"}),
        parse({"kind": "dataset", "slug": f"d-{mark}", "name": f"Data {mark}", "produced_by": [f"w-{mark}"]}),
        parse({"kind": "artifact", "slug": f"a-{mark}", "type": "bias", "finding": "sex", "title": f"Found {mark}",
               "summary": "s", "about": [{"dataset": f"d-{mark}", "verb": "EXTEND"}], "works": [f"w-{mark}"]}),
        parse({"kind": "dataset", "slug": "shared", "name": "Shared", "description": mark}),
    ]  # fmt: skip


# What is printed ---------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each reading")
    parser.add_argument("--minutes", type=float, default=5.0, help="of writing")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--citations", type=int, default=1_000_000)
    arguments = parser.parse_args()
    load = os.getloadavg()
    folder = Path(tempfile.mkdtemp(prefix="medaudit-review-"))
    try:
        opened = planted(folder / "review.sqlite")
        with opened.reading() as connection:
            counts = views.counts(connection)
        if "read" in arguments.parts:
            read(opened, folder, arguments.seconds)
        if set(arguments.parts) - {"read"}:
            table("What is done", "result", "target")
        if "write" in arguments.parts:
            write(opened, folder / "review.sqlite", 60 * arguments.minutes)
        if "backup" in arguments.parts:
            backups(opened, folder, 10)
        if "kill" in arguments.parts:
            killed(folder / "kills.sqlite", arguments.kills)
        if "citations" in arguments.parts:
            citations(folder / "cited.sqlite", arguments.citations, arguments.seconds)
        if "postgres" in arguments.parts:
            on_postgres(arguments.seconds, 60 * arguments.minutes / 5)
        opened.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    records = counts["datasets"] + counts["artifacts"] + counts["works"]
    print(f"\n{records:,} records ({counts['datasets']:,} datasets) where no other number is given; {CLIENTS} clients "
          f"on kept-alive connections, never pausing unless said. Load of the machine before: {load[0]:.1f} "
          f"(1 minute), {load[1]:.1f} (5), {load[2]:.1f} (15).")  # fmt: skip


def read(opened: Database, folder: Path, seconds: float) -> None:
    """Print the table of readers: Datasette, ours from the cache, and ours without it, in turns."""
    file = folder / "public.sqlite"
    exports.public_sqlite(opened, file)
    with contextlib.closing(sqlite3.connect(file)) as raw:
        columns = "name, description, content='dataset', content_rowid='entity_id'"
        raw.execute(f"CREATE VIRTUAL TABLE dataset_fts USING fts5({columns})")
        raw.execute("INSERT INTO dataset_fts (dataset_fts) VALUES ('rebuild')")
        number = raw.execute("SELECT id FROM entity WHERE kind = 'dataset' AND slug = ?", (SHOWN,)).fetchone()[0]
        raw.commit()
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    facets = "&".join(f"_facet={name}" for name in ("access", "licence_class", "host", "status"))
    rows = (
        ("a record, JSON", f"/api/v1/datasets/{SHOWN}", f"/public/record/dataset,{SHOWN}.json?_shape=objects"),
        ("50 records, JSON", "/api/v1/datasets?limit=50",
         "/public/record.json?kind=dataset&_size=50&_nosuggest=1&_nocount=1&_nofacet=1"),
        ("search with facets, JSON", "/api/v1/search?q=chest&facets=true",
         f"/public/dataset.json?_search=chest&{facets}&_nosuggest=1"),
        ("a dataset's page, HTML", f"/datasets/{SHOWN}", f"/public/dataset/{number}"),
    )  # fmt: skip
    cookie = signed_in(opened)
    call, port, path = trivial()
    with served(call, port, path):
        ceiling = reading(port, lambda _: request("GET", "/"), seconds)
    table(f"{CLIENTS} readers, 1 process", "requests/s", "p50 ms", "p95 ms", "errors", "client's CPU", "x Datasette")
    shown("the client's ceiling: a constant of 1 kB, bare ASGI", ceiling, "")
    theirs = datasette(file)
    with contextlib.ExitStack() as stack:
        call, port, path = ours(str(opened.engine.url.database))
        _, cold = stack.enter_context(served(call, port, path))
        if theirs is not None:
            stack.enter_context(served(*theirs))
        for words, mine, other in rows:
            makers: dict[str, tuple[int, Callable[[int], bytes]]] = {
                "medaudit": (port, lambda _, p=mine: request("GET", p)),
                "medaudit, signed in: no cache": (port, lambda _, p=mine: request("GET", p, cookie=cookie)),
                "medaudit, never asked before": (
                    port, lambda n, p=mine: request("GET", f"{p}{'&' if '?' in p else '?'}n={n}-{time.time_ns()}")),
            }  # fmt: skip
            if theirs is not None:
                makers["Datasette"] = (theirs[1], lambda _, p=other: request("GET", p))
            got = {name: Measured() for name in makers}
            for _ in range(2):
                for name, (at, make) in makers.items():
                    part = reading(at, make, seconds / 2)
                    got[name].times += part.times
                    got[name].errors += part.errors
                    got[name].wall += part.wall
                    got[name].cpu += part.cpu
            base = got["Datasette"].rate if "Datasette" in got else 0.0
            for name, one in got.items():
                shown(f"{words}: {name}", one, f"{one.rate / base:.1f}" if base else "")
    print(f"\nOur server answers {cold:.1f} s after it was started (target 2 s).\n")


def pages(slug: str = SHOWN) -> tuple[str, ...]:
    """Return what readers ask for while others write."""
    return (f"/datasets/{slug}", f"/api/v1/datasets/{slug}", "/api/v1/search?q=chest&facets=true",
            "/api/v1/datasets?limit=50", "/search?q=chest")  # fmt: skip


def write(opened: Database, path: Path, seconds: float) -> None:
    """Print what 50 writers and 50 readers do: with the pauses of hasty people, and with none."""
    tokens = hired(opened, CLIENTS)
    for pause, length in ((2.0, seconds), (0.0, min(30.0, seconds))):
        call, port, answers = ours(path)
        with served(call, port, answers) as (process, _):
            done = working(port, tokens, length, pause=pause, pages=pages(), pid=process.pid)
            how = f"a writer pauses {pause:.0f} s, a reader {pause / 4:.1f} s" if pause else "no pauses at all"
            told(f"{CLIENTS} writers, {CLIENTS} readers, {length / 60:.1f} min, {how}", done, timing=bool(pause))
    row("log, history and projection afterwards", said(problems(opened)), "nothing wrong")


def told(words: str, done: Worked, *, timing: bool) -> None:
    """Print the rows of one run of writers."""
    both = Measured(done.of["propose"].times + done.of["accept"].times, wall=done.of["accept"].wall)
    row(f"{words}: errors", failed(done.errors), "0")
    row("  contributions accepted a second", f"{done.of['accept'].rate:.1f}", "")
    row("  a writer's request, p50 and p95 ms", f"{both.ms(50):.0f}, {both.ms(95):.0f}", "p95 150" if timing else "")
    if "read" in done.of:
        reads = done.of["read"]
        row("  a reader's request, p50 and p95 ms, requests/s",
            f"{reads.ms(50):.0f}, {reads.ms(95):.0f}, {reads.rate:.0f}", "")  # fmt: skip
    row("  counted up, and what the counter shows", f"{done.added}, {done.counted}", "the same")
    if done.resident:
        after = [mib for at, mib in done.resident if at >= min(60.0, done.resident[-1][0] / 2)]
        row("  server's memory, MiB: start, after a minute, end",
            f"{done.resident[0][1]:.0f}, {after[0]:.0f}, {after[-1]:.0f} ({after[-1] / after[0] - 1:+.0%})",
            "+5 % after a minute" if timing else "")  # fmt: skip


def backups(opened: Database, folder: Path, n: int) -> None:
    """Print whether copies made while 50 writers write are whole."""
    call, port, answers = ours(folder / "review.sqlite")
    with opened.writing() as connection:
        pairs = [(people.named(connection, f"author {k}"), people.named(connection, f"reviewer {k}"))
                 for k in range(CLIENTS)] if _has(connection, "author 0") else []  # fmt: skip
        tokens = [(people.give_token(connection, a, ""), people.give_token(connection, b, "")) for a, b in pairs]
    tokens = tokens or hired(opened, CLIENTS)
    copying = """
import sys, time
from pathlib import Path
from medaudit.review import database
db = database.connect(sys.argv[1])
for n in range(int(sys.argv[3])):
    database.backup(db, Path(sys.argv[2]) / f"copy{n}.sqlite")
    time.sleep(1)
"""
    with served(call, port, answers):
        process = subprocess.Popen([sys.executable, "-c", copying, folder / "review.sqlite", folder, str(n)])
        done = working(port, tokens, 15.0, counters=0)
        code = process.wait()
    found, sizes = [], []
    for k in range(n):
        with contextlib.closing(database.connect(folder / f"copy{k}.sqlite")) as copy, copy.reading(60) as connection:
            sizes.append(connection.scalar(text("SELECT count(*) FROM contribution WHERE state = 'accepted'")) or 0)
            found += problems(copy)
        (folder / f"copy{k}.sqlite").unlink()
    row(f"{n} backups while {done.of['accept'].rate:.0f} contributions a second are accepted "
        f"({min(sizes)} to {max(sizes)} in the copies)", said(found + ([f"code {code}"] if code else [])),
        "nothing wrong")  # fmt: skip


def _has(connection: Any, name: str) -> bool:
    return any(person.name == name for person, _ in people.everybody(connection))


def killed(path: Path, n: int) -> None:
    """Print what was wrong after ``n`` kills."""
    database.connect(path, create=True).close()
    when, found = Counter[int](), []
    for doing, wrong in kills(path, n, random.Random(0)):
        when[doing] += 1
        found += wrong
    row(f"{n} x kill -9: {when[COMMIT]} in a commit, {when[INSIDE]} in a transaction, {when[IDLE]} between; "
        "SQLite's integrity check, log, half-applied contributions", said(found), "nothing wrong")  # fmt: skip


def citations(path: Path, n: int, seconds: float) -> None:
    """Print what a million citations do to the dataset page, the count of citations and search."""
    from medaudit.review.living import citations as living

    opened = planted(path)
    before = _uncached(opened, path, seconds)
    graph = living.simulate(max(20, n // 11), datasets=min(74, n // 100), seed=0)
    with opened.reading() as connection:
        papers = list(connection.scalars(text(
            "SELECT DISTINCT w.doi FROM work w JOIN relation r ON r.subject_id = w.entity_id AND r.verb = 'PRODUCE' "
            "WHERE w.doi IS NOT NULL ORDER BY w.doi"
        )))  # fmt: skip
    dois = dict(zip((f"W9{paper:09d}" for paper in graph.papers.tolist()), papers, strict=False))
    begin = time.perf_counter()
    loaded = living.load(
        opened, ((dois.get(a, a), dois.get(b, b)) for a, b in living.pairs_of(graph)), name="simulated"
    )
    took = time.perf_counter() - begin
    row(f"{loaded.new:,} citations of {graph.works:,} works loaded, s (citations a second)",
        f"{took:.0f} ({loaded.new / took:,.0f})", "")  # fmt: skip
    row("  file, MB", f"{path.stat().st_size / 1e6:.0f}", "")
    with opened.reading(60) as connection:
        best = max(
            views.records(connection, "dataset"), key=lambda one: views.citations(connection, ids(connection, one.slug))
        )
        own = ids(connection, best.slug)
        cited = views.citations(connection, own)
        row(
            f"  citations of '{best.slug}' counted ({cited:,}), ms", _ms(lambda: views.citations(connection, own)), "50"
        )
        row("  the same by evidence (living.citations.counts), ms",
            _ms(lambda: living.counts(connection, [best.slug])), "")  # fmt: skip
        row("  search 'chest' with facets, ms", _ms(lambda: search.search(connection, "chest", facets=True)), "50")
    after = _uncached(opened, path, seconds, best.slug)
    row("  dataset's page without cache, one reader, p50 and p95 ms (before)",
        f"{after.ms(50):.1f}, {after.ms(95):.1f} ({before.ms(50):.1f}, {before.ms(95):.1f})", "p95 50")  # fmt: skip
    opened.close()


def ids(connection: Any, slug: str) -> int:
    return int(connection.scalar(text("SELECT id FROM entity WHERE kind = 'dataset' AND slug = :s"), {"s": slug}))


def _uncached(opened: Database, path: Path, seconds: float, slug: str = SHOWN) -> Measured:
    call, port, answers = ours(path)
    cookie = signed_in(opened)
    with served(call, port, answers):
        return reading(port, lambda _: request("GET", f"/datasets/{slug}", cookie=cookie), seconds / 2, clients=1)


def on_postgres(seconds: float, long: float) -> None:
    """Print what four workers on PostgreSQL do."""
    with postgres() as fresh:
        if fresh is None:
            row("PostgreSQL", "not installed", "")
            return
        opened = planted(fresh("review"))
        tokens, cookie = hired(opened, CLIENTS), signed_in(opened)
        call, port, answers = ours(opened.engine.url.render_as_string(hide_password=False), 4)
        with served(call, port, answers) as (process, _):
            time.sleep(3)  # the other three
            for words, path in (("a record, JSON", f"/api/v1/datasets/{SHOWN}"),
                                ("search with facets, JSON", "/api/v1/search?q=chest&facets=true"),
                                ("a dataset's page, HTML", f"/datasets/{SHOWN}")):  # fmt: skip
                for how, secret in (("", ""), (", signed in: no cache", cookie)):
                    one = reading(port, lambda _, p=path, s=secret: request("GET", p, cookie=s), seconds)
                    errors = failed(one.errors)
                    row(f"PostgreSQL, 4 workers, {CLIENTS} readers: {words}{how}: requests/s, p50, p95 ms, errors",
                        f"{one.rate:,.0f}, {one.ms(50):.0f}, {one.ms(95):.0f}, {errors}", "")  # fmt: skip
            for pause in (2.0, 0.0):
                how = "with pauses" if pause else "no pauses at all"
                done = working(port, tokens, long if pause else min(30.0, long), pause=pause, pages=pages(),
                               pid=process.pid)  # fmt: skip
                told(f"PostgreSQL, 4 workers, {CLIENTS} writers, {CLIENTS} readers, {how}", done, timing=bool(pause))
        row("  log, history and projection afterwards", said(problems(opened)), "nothing wrong")
        opened.close()


def _ms(work: Callable[[], object]) -> str:
    times = []
    for _ in range(9):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return f"{1e3 * sorted(times)[4]:.1f}"


def said(found: list[str]) -> str:
    """Return the first of what is wrong, and how many there are."""
    return "0" if not found else f"{len(found)}: {found[0][:200]}".replace("|", "/").replace("\n", " ")


def failed(errors: Counter[str]) -> str:
    """Return how many requests failed, and the commonest reason."""
    return f"{errors.total()}: {errors.most_common(1)[0][0][:200]}".replace("|", "/") if errors else "0"


def shown(words: str, one: Measured, times: str) -> None:
    errors = failed(one.errors)
    print(f"| {words} | {one.rate:,.0f} | {one.ms(50):.1f} | {one.ms(95):.1f} | {errors} | "
          f"{one.cpu / one.wall:.0%} | {times} |", flush=True)  # fmt: skip


def table(*names: str) -> None:
    """Print the head of a table."""
    print("| " + " | ".join(names) + " |")
    print("|" + "---|" * len(names), flush=True)


def row(*cells: str) -> None:
    """Print a row."""
    print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
