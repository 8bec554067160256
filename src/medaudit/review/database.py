"""Where the review is kept: SQLite by default, PostgreSQL for many users; transactions, deadlines, migrations."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from medaudit.errors import DataError, UsageError

DEADLINE = 5.0
"""Seconds a question may take before it is given up; pages and the API ask for less."""
_MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 7_120_910  # the key of PostgreSQL's advisory lock: one writer at a time, as in SQLite


class Deadline(Exception):
    """A question took longer than it may."""


def now() -> str:
    """Return the time in UTC, to the millisecond, as every table has it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True)
class Database:
    """An open review. Use :meth:`reading` and :meth:`writing`; each is one transaction."""

    engine: Engine
    _turn: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @property
    def postgres(self) -> bool:
        """Whether it is PostgreSQL."""
        return self.engine.dialect.name == "postgresql"

    @contextmanager
    def reading(self, seconds: float = DEADLINE) -> Iterator[Connection]:
        """Yield a connection that sees one state throughout; raises :class:`Deadline` after ``seconds``."""
        with (
            _in_words(self.engine),
            self.engine.connect() as connection,
            connection.begin(),
            _deadline(connection, seconds),
        ):
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Yield a connection that may write, all or nothing. Writers wait for each other, and do not fail for it.

        SQLite takes the writer's lock at once (``BEGIN IMMEDIATE``): a transaction that reads first and writes later
        would fail where another wrote in between. PostgreSQL takes a lock of our own.
        """
        immediate = self.engine.execution_options(immediate=True)
        # SQLite's waiters look again now and then, and some starve: those of one process take turns instead.
        turn: AbstractContextManager[object] = nullcontext() if self.postgres else self._turn
        with turn, _in_words(self.engine), immediate.begin() as connection:
            if self.postgres:
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            yield connection

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()


def connect(where: str | Path, *, create: bool = False, migrating: bool = False) -> Database:
    """Return the review at ``where``: a file of SQLite, or an address as ``postgresql://user@host/name``.

    With ``create`` it is made, empty, where it is not there; with ``migrating`` it may be of an earlier version.
    Raises UsageError where there is none, DataError where it is not a review, or one of another version of medaudit.
    """
    url = _address(where)
    if url.drivername.startswith("sqlite") and not create and url.database and not Path(url.database or "").is_file():
        raise UsageError(
            f"{url.database}: there is no review; make one with `medaudit review init --db {url.database}`"
        )
    engine = _engine(url)
    database = Database(engine)
    with _in_words(engine):
        present = inspect(engine).has_table("alembic_version")
    if not present and not create:
        engine.dispose()
        raise DataError(f"{where}: is no review; make one with `medaudit review init`")
    if create and not present:
        migrate(database)
    elif (found := version(database)) != (wanted := head()) and not migrating:
        engine.dispose()
        raise DataError(
            f"{where}: its tables are of version {found}, this program's {wanted}; run `medaudit review migrate`"
        )
    return database


def migrate(database: Database, to: str = "head") -> None:
    """Bring the tables to version ``to`` (Alembic's), up or down."""
    from alembic import command

    config = _alembic()
    immediate = database.engine.execution_options(immediate=True)
    with _in_words(database.engine), immediate.begin() as connection:
        if database.postgres:  # several may begin at once; on SQLite BEGIN IMMEDIATE makes them wait
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        config.attributes["connection"] = connection
        there = _version(connection)
        if to == "base" or (there and to != "head" and to < there):
            command.downgrade(config, to)
        else:
            command.upgrade(config, to)


def version(database: Database) -> str | None:
    """Return the version of the tables."""
    with _in_words(database.engine), database.engine.connect() as connection:
        return _version(connection)


def head() -> str:
    """Return the version of the tables that this program knows."""
    from alembic.script import ScriptDirectory

    return str(ScriptDirectory.from_config(_alembic()).get_current_head())


def backup(database: Database, to: Path) -> None:
    """Write a consistent copy of a SQLite review to the file ``to`` while others go on writing.

    Raises UsageError where ``to`` exists, or the review is PostgreSQL's (use ``pg_dump``), DataError where it cannot be
    written.
    """
    if database.postgres:
        raise UsageError("a review on PostgreSQL is copied with pg_dump")
    if to.exists():
        raise UsageError(f"{to} exists; choose another name")
    part = to.with_name(f".{to.name}.part")
    try:
        part.unlink(missing_ok=True)
        with _in_words(database.engine):
            connection = database.engine.raw_connection()
            try:
                target = sqlite3.connect(part)
                connection.driver_connection.backup(target)  # type: ignore[union-attr]
                target.execute("PRAGMA journal_mode=DELETE")  # one file, without a log beside it
                target.close()
            finally:
                connection.close()
        part.replace(to)
    except (OSError, sqlite3.Error) as error:
        part.unlink(missing_ok=True)
        raise DataError(f"cannot write {to}: {str(error).lower()}") from None


def _address(where: str | Path) -> URL:
    given = str(where)
    if "://" not in given:
        return URL.create("sqlite", database=given)
    try:
        url = make_url(given)
    except SQLAlchemyError:
        raise UsageError(f"'{given}' is no address of a database; expected a file or postgresql://...") from None
    if url.drivername in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    if not url.drivername.startswith(("sqlite", "postgresql+psycopg")):
        raise UsageError(f"'{url.drivername}': expected SQLite or PostgreSQL")
    return url


def _engine(url: URL) -> Engine:
    if not url.drivername.startswith("sqlite"):
        return create_engine(url, pool_size=10, max_overflow=20, pool_pre_ping=True)
    driver: dict[str, Any] = {"timeout": 30, "check_same_thread": False}
    if url.database:
        engine = create_engine(url, connect_args=driver, pool_size=20, max_overflow=60)
    else:  # in memory: one connection, or each would be another database
        engine = create_engine(url, connect_args=driver, poolclass=StaticPool)

    @event.listens_for(engine, "connect")
    def _settings(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves; Python's driver would only do so before a write
        for line in (
            "journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "busy_timeout=30000", "mmap_size=268435456",
            "temp_store=MEMORY", "trusted_schema=OFF",
        ):  # fmt: skip
            connection.execute(f"PRAGMA {line}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        immediate = connection.get_execution_options().get("immediate")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine


@contextmanager
def _deadline(connection: Connection, seconds: float) -> Iterator[None]:
    if connection.dialect.name == "postgresql":
        # First of all: READ COMMITTED would show each question another state.
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
        connection.execute(text(f"SET LOCAL statement_timeout = {max(1, int(1000 * seconds))}"))
        yield
        return
    driver: Any = connection.connection.driver_connection
    until = time.monotonic() + seconds
    driver.set_progress_handler(lambda: int(time.monotonic() > until), 20_000)
    try:
        yield
    finally:
        driver.set_progress_handler(None, 0)


@contextmanager
def _in_words(engine: Engine) -> Iterator[None]:
    """Say what a database refused in one line."""
    try:
        yield
    except OperationalError as error:
        said = str(error.orig)
        if "interrupted" in said or "statement timeout" in said:
            raise Deadline("the question took too long; ask a narrower one") from None
        if "locked" in said:
            raise Deadline("the review is busy; try again") from None
        # The name alone: a page may show this to a stranger.
        raise DataError(f"{Path(engine.url.database or '').name}: {' '.join(said.split())}") from error
    except DBAPIError as error:
        if type(error.orig).__name__ == "QueryCanceled":
            raise Deadline("the question took too long; ask a narrower one") from None
        if "NUL" in str(error.orig):
            raise UsageError("a text holds a NUL character") from None
        if "file is not a database" in str(error.orig) or "malformed" in str(error.orig):
            raise DataError(f"{engine.url.database}: is no database of a review") from None
        raise
    except UnicodeEncodeError:
        raise UsageError("a text holds half a character") from None


def _version(connection: Connection) -> str | None:
    from alembic.migration import MigrationContext

    return MigrationContext.configure(connection).get_current_revision()


def _alembic() -> Any:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    return config
