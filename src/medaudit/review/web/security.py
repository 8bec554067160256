"""What keeps the site safe: headers on every answer, a limit on what is sent, and who is asking.

Pages know a person by a session's cookie, and every form of theirs carries the session's secret; the API knows a
person by a token and reads no cookie. So no other site can make a browser do anything here.
"""

from __future__ import annotations

import hmac
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
        too_large = not declared.isdigit() or int(declared) > LARGEST
        seen = 0

        async def counted() -> MutableMapping[str, Any]:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > LARGEST:
                raise _TooLarge
            return message

        async def guarded(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                if seen > LARGEST:  # whoever read the body took our refusal for a broken one
                    message["status"] = 413
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        try:
            if too_large:
                raise _TooLarge
            await self.app(scope, counted, guarded)
        except _TooLarge:
            body = b'{"title": "a request has at most 1,000,000 bytes", "status": 413}'
            headers = [(b"content-type", b"application/problem+json"), (b"content-length", b"%d" % len(body))]
            await guarded({"type": "http.response.start", "status": 413, "headers": headers})
            await send({"type": "http.response.body", "body": body})


class _TooLarge(Exception):
    pass


class Attempts:
    """How often somebody failed to sign in; after five times they wait a quarter of an hour."""

    LIMIT, SECONDS, KEPT = 5, 900.0, 10_000

    def __init__(self) -> None:
        self._failed: OrderedDict[str, list[float]] = OrderedDict()
        self._lock = threading.Lock()
        self.checking = threading.Semaphore(2)  # a password takes 32 MiB to check: never many at once

    def blocked(self, key: str) -> bool:
        """Return whether ``key`` (a name, an address) has to wait."""
        with self._lock:
            recent = [at for at in self._failed.get(key, []) if at > time.monotonic() - self.SECONDS]
            return len(recent) >= self.LIMIT

    def fail(self, key: str) -> None:
        """Note a failure."""
        with self._lock:
            recent = [at for at in self._failed.pop(key, []) if at > time.monotonic() - self.SECONDS]
            self._failed[key] = [*recent[-self.LIMIT :], time.monotonic()]
            while len(self._failed) > self.KEPT:
                self._failed.popitem(last=False)

    def succeed(self, key: str) -> None:
        """Forget the failures of ``key``."""
        with self._lock:
            self._failed.pop(key, None)


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
