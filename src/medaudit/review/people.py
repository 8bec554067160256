"""People, roles, passwords, sessions and tokens. What each role may do is one table."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, delete, insert, select, update

from medaudit.errors import UsageError
from medaudit.review import log
from medaudit.review import tables as t
from medaudit.review.database import now

ROLES = ("reader", "bot", "contributor", "reviewer", "editor", "admin")
MAY: dict[str, tuple[str, ...]] = {
    "propose": ("bot", "contributor", "reviewer", "editor", "admin"),
    "withdraw": ("bot", "contributor", "reviewer", "editor", "admin"),
    "screen": ("reviewer", "editor", "admin"),
    "review": ("reviewer", "editor", "admin"),
    "retire": ("editor", "admin"),
    "release": ("editor", "admin"),
    "restore": ("editor", "admin"),
    "people": ("admin",),
}
"""What may be done, by whom. ``review`` also needs that the proposal is somebody else's; nobody is excepted."""
SESSION = timedelta(hours=12)
_NAME = re.compile(r"[^\W_][\w .@+-]{0,58}[\w.]|[^\W_]")
# 2**15 rounds of 8 blocks: about 32 MiB and 0.1 s a guess.
_SCRYPT = {"n": 2**15, "r": 8, "p": 1, "maxmem": 2**26}


class Forbidden(Exception):
    """The person's role does not allow it."""


@dataclass(frozen=True)
class Person:
    """Somebody who may do something."""

    id: int
    name: str
    role: str

    def may(self, action: str) -> bool:
        """Return whether the role allows ``action``."""
        return self.role in MAY[action]

    def must(self, action: str) -> None:
        """Raise :class:`Forbidden` where the role does not allow ``action``."""
        if not self.may(action):
            raise Forbidden(f"{self.name} is a {self.role}; to {action} takes one of: {', '.join(MAY[action])}")


@dataclass(frozen=True)
class Session:
    """Somebody who is signed in; ``csrf`` must come back with every form."""

    person: Person
    csrf: str


def add(connection: Connection, name: str, role: str, password: str | None = None, by: str = "operator") -> Person:
    """Add a person; UsageError where the name is taken or no name, the role unknown, or the password short."""
    name = name.strip()
    if not _NAME.fullmatch(name):
        raise UsageError(f"'{name}' is no name: letters, digits, spaces, and . @ + - _, at most 60")
    if role not in ROLES:
        raise UsageError(f"no role is called '{role}'; there are: {', '.join(ROLES)}")
    if connection.scalar(select(t.person.c.id).where(t.person.c.name == name)) is not None:
        raise UsageError(f"there is already a '{name}'")
    result = connection.execute(
        insert(t.person).values(
            name=name,
            role=role,
            password=_hashed(password) if password is not None else None,
            disabled=False,
            created=now(),
        )
    )
    log.write(connection, by, "add person", f"person:{name}", {"role": role})
    return Person(int(result.inserted_primary_key[0]), name, role)  # type: ignore[index]


def change_role(connection: Connection, name: str, role: str, *, disabled: bool = False, by: str = "operator") -> None:
    """Give a person another role, or bar them; their sessions and tokens end."""
    if role not in ROLES:
        raise UsageError(f"no role is called '{role}'; there are: {', '.join(ROLES)}")
    number = connection.scalar(select(t.person.c.id).where(t.person.c.name == name))  # a barred one too
    if number is None:
        raise UsageError(f"there is no person '{name}'")
    connection.execute(update(t.person).where(t.person.c.id == number).values(role=role, disabled=disabled))
    connection.execute(delete(t.session).where(t.session.c.person_id == number))
    if disabled:
        connection.execute(update(t.token).where(t.token.c.person_id == number).values(revoked=now()))
    log.write(connection, by, "change person", f"person:{name}", {"role": role, "disabled": disabled})


def set_password(connection: Connection, name: str, password: str, by: str = "operator") -> None:
    """Give a person a password; their sessions end."""
    person = named(connection, name)
    connection.execute(update(t.person).where(t.person.c.id == person.id).values(password=_hashed(password)))
    connection.execute(delete(t.session).where(t.session.c.person_id == person.id))
    log.write(connection, by, "set password", f"person:{name}", {})


def named(connection: Connection, name: str) -> Person:
    """Return the person of that name; UsageError where there is none, or they are barred."""
    row = connection.execute(select(t.person).where(t.person.c.name == name)).first()
    if row is None or row.disabled:
        known = connection.scalars(select(t.person.c.name).where(~t.person.c.disabled).order_by(t.person.c.id).limit(9))
        raise UsageError(f"there is no person '{name}'; there are: {', '.join(known) or 'none'}")
    return Person(row.id, row.name, row.role)


def everybody(connection: Connection) -> list[tuple[Person, bool]]:
    """Return all persons, and whether each is barred."""
    rows = connection.execute(select(t.person).order_by(t.person.c.name))
    return [(Person(row.id, row.name, row.role), bool(row.disabled)) for row in rows]


def check_password(connection: Connection, name: str, password: str) -> Person | None:
    """Return the person if the password is theirs. It takes as long for a name that nobody has."""
    row = connection.execute(select(t.person).where(t.person.c.name == name.strip())).first()
    known = row.password if row is not None and row.password else _DUMMY
    right = _matches(password, known)
    return Person(row.id, row.name, row.role) if row is not None and right and not row.disabled else None


def sign_in(connection: Connection, person: Person) -> tuple[str, Session]:
    """Return the secret of a new session, to be kept in a cookie, and the session."""
    secret, csrf = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    expires = (datetime.now(UTC) + SESSION).isoformat(timespec="milliseconds")
    connection.execute(delete(t.session).where(t.session.c.expires < now()))
    connection.execute(insert(t.session).values(hash=_digest(secret), person_id=person.id, csrf=csrf, expires=expires))
    return secret, Session(person, csrf)


def sign_out(connection: Connection, secret: str) -> None:
    """End the session."""
    connection.execute(delete(t.session).where(t.session.c.hash == _digest(secret)))


def of_session(connection: Connection, secret: str) -> Session | None:
    """Return the session that this secret belongs to, if it still runs."""
    row = connection.execute(
        select(t.session.c.csrf, t.person.c.id, t.person.c.name, t.person.c.role)
        .join(t.person, t.person.c.id == t.session.c.person_id)
        .where(t.session.c.hash == _digest(secret), t.session.c.expires > now(), ~t.person.c.disabled)
    ).first()
    return None if row is None else Session(Person(row.id, row.name, row.role), row.csrf)


def give_token(connection: Connection, person: Person, label: str, days: int | None = 365) -> str:
    """Return a new token of the API for this person; only its hash is kept."""
    secret = f"mar_{secrets.token_urlsafe(32)}"
    expires = None if days is None else (datetime.now(UTC) + timedelta(days=days)).isoformat(timespec="milliseconds")
    connection.execute(
        insert(t.token).values(
            hash=_digest(secret), person_id=person.id, label=label[:60], created=now(), expires=expires
        )
    )
    log.write(connection, person.name, "give token", f"person:{person.name}", {"label": label[:60]})
    return secret


def of_token(connection: Connection, secret: str) -> Person | None:
    """Return whose token this is, if it is still good."""
    row = connection.execute(
        select(t.person.c.id, t.person.c.name, t.person.c.role, t.token.c.expires)
        .join(t.person, t.person.c.id == t.token.c.person_id)
        .where(t.token.c.hash == _digest(secret), t.token.c.revoked.is_(None), ~t.person.c.disabled)
    ).first()
    if row is None or (row.expires is not None and row.expires < now()):
        return None
    return Person(row.id, row.name, row.role)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _hashed(password: str) -> str:
    if not 12 <= len(password) <= 500:
        raise UsageError("a password needs 12 characters or more, and at most 500")
    salt = os.urandom(16)
    return f"{salt.hex()}:{hashlib.scrypt(password.encode(), salt=salt, **_SCRYPT).hex()}"


def _matches(password: str, kept: str) -> bool:
    salt, _, wanted = kept.partition(":")
    made = hashlib.scrypt(password[:500].encode(), salt=bytes.fromhex(salt), **_SCRYPT)
    return hmac.compare_digest(made.hex(), wanted)


_DUMMY = f"{'00' * 16}:{'00' * 64}"
