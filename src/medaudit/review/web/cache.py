"""Public answers, kept while what is public stays the same.

Whether it stays the same is one row of the database, read before each answer: another worker, or the command line,
may have changed it. On SQLite that takes some ten microseconds; on PostgreSQL the row is read twice a second at most.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
import zlib
from collections import OrderedDict
from typing import Any

from fastapi.concurrency import run_in_threadpool
from sqlalchemy import select

from medaudit.review import tables as t
from medaudit.review.database import Database
from medaudit.review.web.security import COOKIE, Receive, Scope, Send

MOST, LARGEST, BYTES = 4_000, 2_000_000, 128_000_000
"""Answers that are kept, bytes of one, and bytes of all: whoever asks for ?x=1, ?x=2 ... fills no more."""
STALE = 0.5


class Counter:
    """How often what is public has changed."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._own = threading.local()
        self._read, self._value = -STALE, -1

    def stale(self) -> bool:
        """Return whether the next count takes a question to a server."""
        return self.database.postgres and time.monotonic() - self._read > STALE

    def __call__(self) -> int:
        """Return the count."""
        if not self.database.postgres:
            connection = getattr(self._own, "connection", None)
            if connection is None:
                path = str(self.database.engine.url.database)
                connection = self._own.connection = sqlite3.connect(path, isolation_level=None)
            row = connection.execute("SELECT public FROM counter").fetchone()
            return int(row[0])
        if self.stale():
            with self.database.reading() as reading:
                self._value = int(reading.scalar(select(t.counter.c.public)) or 0)
            self._read = time.monotonic()
        return self._value


class PublicCache:
    """ASGI middleware: GET without cookie and token is answered from memory while nothing public has changed.

    It adds ``ETag`` and answers 304. Only answers with status 200 and ``cache-control: public`` are kept.
    """

    def __init__(self, app: Any, counter: Counter) -> None:
        self.app, self.counter = app, counter
        self._kept: OrderedDict[tuple[str, bytes, bytes], tuple[int, list[tuple[bytes, bytes]], bytes]] = OrderedDict()
        self._bytes = 0
        self._making: dict[tuple[tuple[str, bytes, bytes], int], asyncio.Event] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer from memory, or pass on and keep the answer."""
        if scope["type"] != "http" or scope["method"] != "GET" or _personal(scope["headers"]):
            await self.app(scope, receive, send)
            return
        accept = next((v for k, v in scope["headers"] if k == b"accept"), b"")
        key = (scope["path"], scope.get("query_string", b""), b"json" if b"json" in accept else b"")
        # A question over the network would make every other request wait for it; SQLite's takes ten microseconds.
        count = await run_in_threadpool(self.counter) if self.counter.stale() else self.counter()
        while True:
            kept = self._kept.get(key)
            if kept is not None and kept[0] == count:
                self._kept.move_to_end(key)
                await _answer(scope, send, kept[1], kept[2])
                return
            making = self._making.get((key, count))
            if making is None:
                break
            await making.wait()  # somebody makes the same answer: once is enough
            if self._kept.get(key, (None,))[0] != count:
                await self.app(scope, receive, send)  # it is not one to be kept
                return
        made = self._making[(key, count)] = asyncio.Event()
        try:
            await self._make(scope, receive, send, key, count)
        finally:
            del self._making[(key, count)]
            made.set()

    async def _make(
        self, scope: Scope, receive: Receive, send: Send, key: tuple[str, bytes, bytes], count: int
    ) -> None:
        start: dict[str, Any] = {}
        parts: list[bytes] = []

        async def keeping(message: Any) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
                headers = dict(message["headers"])
                if message["status"] != 200 or b"public" not in headers.get(b"cache-control", b""):
                    start["through"] = True
                    await send(message)
                return
            if start.get("through"):
                await send(message)
                return
            parts.append(message.get("body", b""))
            if not message.get("more_body"):
                body = b"".join(parts)
                own: list[tuple[bytes, bytes]] = list(start["headers"])
                if not any(k == b"etag" for k, _ in own):  # a record's own tag is its revision: If-Match needs it
                    own.append((b"etag", b'"%d-%x"' % (count, zlib.crc32(body))))
                if len(body) <= LARGEST:
                    self._keep(key, (count, own, body))
                await _answer(scope, send, own, body)

        await self.app(scope, receive, keeping)

    def _keep(self, key: tuple[str, bytes, bytes], kept: tuple[int, list[tuple[bytes, bytes]], bytes]) -> None:
        before = self._kept.pop(key, None)
        self._kept[key] = kept
        self._bytes += len(kept[2]) - (len(before[2]) if before else 0)
        while len(self._kept) > MOST or self._bytes > BYTES:
            self._bytes -= len(self._kept.popitem(last=False)[1][2])


async def _answer(scope: Scope, send: Send, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    wanted = next((v for k, v in scope["headers"] if k == b"if-none-match"), None)
    tag = next(v for k, v in headers if k == b"etag")
    if wanted is not None and tag in [one.strip().removeprefix(b"W/") for one in wanted.split(b",")]:
        some = [(k, v) for k, v in headers if k not in (b"content-length", b"content-type")]
        await send({"type": "http.response.start", "status": 304, "headers": some})
        await send({"type": "http.response.body", "body": b""})
        return
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _personal(headers: list[tuple[bytes, bytes]]) -> bool:
    cookie = COOKIE.encode() + b"="
    return any(name == b"authorization" or (name == b"cookie" and cookie in value) for name, value in headers)
