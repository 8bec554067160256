"""What is known about a dataset, for whoever is about to use it: asked by the command line before each audit."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from medaudit.errors import DataError
from medaudit.review import database, seed, start, views

ENVIRONMENT = "MEDAUDIT_REVIEW"
"""The environment's name for the review that is asked; without it the seed that ships with the program is."""


def known(names: Sequence[str], where: str | Path | None = None) -> tuple[list[views.Warned], list[str], str]:
    """Return the warnings about these datasets, the names that nobody knows, and which review said so.

    ``where`` (or the environment) names a review; else the seed is read, which needs no database. Raises UsageError or
    DataError as :func:`medaudit.review.database.connect` does.
    """
    with opened(where) as review, review.reading() as connection:
        found, unknown = views.warned(connection, names)
    where = where or os.environ.get(ENVIRONMENT)
    return found, unknown, str(where) if where else "the seed that ships with medaudit"


@contextmanager
def opened(where: str | Path | None = None) -> Iterator[database.Database]:
    """Yield the review at ``where``, or that of the environment, or the seed in memory."""
    where = where or os.environ.get(ENVIRONMENT) or None
    review = in_memory() if where is None else database.connect(where)
    try:
        yield review
    finally:
        review.close()


def in_memory() -> database.Database:
    """Return a review that holds the seed, in memory."""
    opened = database.connect("sqlite://", create=True)
    try:
        start.plant(opened, seed.read())
    except DataError:
        opened.close()
        raise
    return opened
