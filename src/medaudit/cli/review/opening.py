"""The review that a command works on, and who it is for: the options and openings that all commands share."""

from __future__ import annotations

import contextlib
import getpass
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medaudit.errors import DataError, UsageError

if TYPE_CHECKING:
    from medaudit.review.database import Database

Db = Annotated[
    str,
    typer.Option(
        "--db", metavar="DB", envvar="MEDAUDIT_REVIEW", help="The review: a file, or postgresql://user@host/name."
    ),
]
As = Annotated[
    str | None, typer.Option("--as", metavar="NAME", help="Who you are in the review; your login name where not given.")
]
Note = Annotated[str, typer.Option("--note", help="What the other side should read.")]
Number = Annotated[int, typer.Argument(metavar="NUMBER", help="The contribution's number.")]
DEFAULT = "review.sqlite"
SeedOrDb = Annotated[
    str | None,
    typer.Option("--db", metavar="DB", envvar="MEDAUDIT_REVIEW", help="The review; the shipped seed where not given."),
]


@contextlib.contextmanager
def opened_as(db: str, name: str | None) -> Iterator[tuple[Any, Any]]:
    """Yield a connection that may write to the review, and the person called ``name`` (or as whoever is logged in)."""
    with opened_at(db) as opened, opened.writing() as connection:
        yield connection, who(connection, name)


@contextlib.contextmanager
def opened_at(db: str) -> Iterator[Database]:
    """Yield the review at an address; what it refuses meanwhile is said in one line."""
    from medaudit.review import database

    opened = database.connect(db)
    try:
        with _refusals():
            yield opened
    finally:
        opened.close()


def who(connection: Any, name: str | None) -> Any:
    """Return the person called ``name``, or as whoever is logged in; UsageError where there is none."""
    from medaudit.review import people

    if name is None:
        try:
            name = getpass.getuser()
        except (KeyError, OSError):  # a container's number without a name
            raise UsageError("say who you are in the review: --as NAME") from None
    return people.named(connection, name)


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """Say in one line what the review refused."""
    from medaudit.review.database import Deadline
    from medaudit.review.people import Forbidden
    from medaudit.review.workflow import Conflict, TooMany

    try:
        yield
    except (Forbidden, TooMany) as error:
        raise UsageError(str(error)) from None
    except (Conflict, Deadline) as error:
        raise DataError(str(error)) from None
