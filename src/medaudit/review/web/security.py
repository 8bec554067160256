"""What keeps the site safe: headers on every answer, a limit on what is sent, and who is asking.

Pages know a person by a session's cookie, and every form of theirs carries the session's secret; the API knows a
person by a token and reads no cookie. So no other site can make a browser do anything here.
"""

from __future__ import annotations

import hmac
import json
import logging
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi import HTTPException, Request

from medaudit.review import people
from medaudit.review.database import Database

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_LOG = logging.getLogger("medaudit.review")
COOKIE, ANONYMOUS = "session", "visit"
LARGEST = 1_000_000
"""Bytes that a request may hold."""
SAFE = ("GET", "HEAD", "OPTIONS")
_HEADERS = [
    (b"content-security-policy",
     b"default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; form-action 'self'; "
     b"base-uri 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
]  # fmt: skip


class ReadOnly:
    """ASGI middleware: whatever could change something is refused."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what only reads."""
        if scope["type"] == "http" and scope["method"] not in SAFE:
            await _refuse(send, 405, "nothing can be changed here; contributions go to `medaudit review serve`")
            return
        await self.app(scope, receive, send)


class Guard:
    """ASGI middleware: our headers on every answer, and no request larger than :data:`LARGEST`."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = next((v for k, v in scope["headers"] if k == b"content-length"), b"0")
        too_large = not declared.isdigit() or len(declared) > 12 or int(declared) > LARGEST
        if b"%00" in scope.get("query_string", b"") or "\x00" in scope["path"]:
            await _refuse(send, 400, "an address holds a NUL character")
            return
        seen, started = 0, False
        bare = scope["method"] == "HEAD"
        if bare:  # every page that can be read can be asked after (RFC 9110, 9.1): as GET, without the body
            scope = {**scope, "method": "GET"}

        async def counted() -> MutableMapping[str, Any]:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > LARGEST:
                raise _TooLarge
            return message

        async def guarded(message: MutableMapping[str, Any]) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                if seen > LARGEST:  # whoever read the body took our refusal for a broken one
                    message["status"] = 413
                message["headers"] = [*message["headers"], *_HEADERS]
            elif bare:
                message = {**message, "body": b""}
            await send(message)

        try:
            if too_large:
                raise _TooLarge
            await self.app(scope, counted, guarded)
        except _TooLarge:
            await _refuse(send, 413, "a request has at most 1,000,000 bytes")
        except Exception:
            # Here, and not in Starlette's own layer outside of us: its answer would have none of our headers.
            _LOG.exception("%s %s", scope["method"], scope["path"])
            if not started:
                await _refuse(send, 500, "something went wrong here; it is noted")


async def _refuse(send: Send, status: int, title: str) -> None:
    body = json.dumps({"type": "about:blank", "title": title, "status": status}).encode()
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", b"%d" % len(body)),
               (b"cache-control", b"no-store"), *_HEADERS]  # fmt: skip
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class _TooLarge(Exception):
    pass


class Attempts:
    """How often somebody tried to sign in; after five times they wait a quarter of an hour.

    An attempt counts before it is checked, so that guesses made at once count too. Where a name has signed in from an
    address before, failures from elsewhere do not shut it out there.
    """

    LIMIT, SECONDS, KEPT = 5, 900.0, 10_000

    def __init__(self) -> None:
        self._failed: OrderedDict[str, list[float]] = OrderedDict()
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._lock = threading.Lock()
        self.checking = threading.Semaphore(2)  # a password takes 32 MiB to check: never many at once

    def begin(self, name: str, address: str) -> bool:
        """Note an attempt; return False where this one has to wait."""
        with self._lock:
            home = (name, address) in self._known
            keys = [f"address {address}"] if home else [f"name {name}", f"address {address}"]
            if any(len(self._recent(key)) >= self.LIMIT for key in keys):
                return False
            for key in keys:
                self._note(key)
            return True

    def succeed(self, name: str, address: str) -> None:
        """Forget the attempts of ``name``, and this one of its address; remember that they belong together."""
        with self._lock:
            self._failed.pop(f"name {name}", None)
            recent = self._recent(f"address {address}")
            self._failed[f"address {address}"] = recent[:-1]
            self._known[(name, address)] = None
            while len(self._known) > self.KEPT:
                self._known.popitem(last=False)

    def fail(self, key: str) -> bool:
        """Note something that may happen five times a quarter of an hour; return False where it may not any more."""
        with self._lock:
            if len(self._recent(key)) >= self.LIMIT:
                return False
            self._note(key)
            return True

    def _recent(self, key: str) -> list[float]:
        return [at for at in self._failed.get(key, []) if at > time.monotonic() - self.SECONDS]

    def _note(self, key: str) -> None:
        recent = self._recent(key)
        self._failed.pop(key, None)
        self._failed[key] = [*recent[-self.LIMIT :], time.monotonic()]
        while len(self._failed) > self.KEPT:
            self._failed.popitem(last=False)


def session_of(request: Request, database: Database) -> people.Session | None:
    """Return who is signed in, by the cookie."""
    secret = request.cookies.get(COOKIE)
    if not secret or len(secret) > 100:
        return None
    with database.reading() as connection:
        return people.of_session(connection, secret)


def person_of_token(request: Request, database: Database) -> people.Person | None:
    """Return whose token the request bears; 401 where it is no good."""
    kind, _, secret = request.headers.get("authorization", "").partition(" ")
    if not kind:
        return None
    with database.reading() as connection:
        person = people.of_token(connection, secret.strip()) if kind.lower() == "bearer" and len(secret) < 200 else None
    if person is None:
        raise HTTPException(401, "the token is not known, or no longer good", {"WWW-Authenticate": "Bearer"})
    return person


async def forged(request: Request) -> None:
    """A dependency of every page: 403 where an unsafe request does not bring the secret of its form back.

    It fails closed: a route cannot leave it out, since the router has it.
    """
    if request.method in SAFE:
        return
    origin = request.headers.get("origin")
    if origin and origin != "null" and origin.partition("://")[2] != request.headers.get("host"):
        raise HTTPException(403, "the form was sent from another site")
    form = await request.form()
    given = form.get("csrf")
    session: people.Session | None = getattr(request.state, "session", None)
    wanted = session.csrf if session is not None else request.cookies.get(ANONYMOUS, "")
    if not isinstance(given, str) or not wanted or not hmac.compare_digest(given.encode(), wanted.encode()):
        raise HTTPException(
            403, "the form is too old, or was sent from another site; go back, reload it and send it again"
        )


def visitor(request: Request) -> str:
    """Return the secret of a visitor who is not signed in, for the form to sign in with."""
    known = request.cookies.get(ANONYMOUS, "")
    return known if 20 <= len(known) <= 100 and known.isascii() else secrets.token_urlsafe(32)
