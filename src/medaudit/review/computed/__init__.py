"""Executable evidence: findings that are recomputed from label tables anyone can install.

A recipe reads tables and returns a record of type ``computed_audit``; the record names the recipe, so whoever doubts
a number runs it again (:func:`recompute`) on their own copy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from medaudit.errors import UsageError
from medaudit.review.computed import chest, idc
from medaudit.review.computed.tables import PACKAGES, Source, source
from medaudit.review.records import Artifact, Fact

RECIPES: dict[str, Callable[[Source], Artifact]] = {**chest.RECIPES, **idc.RECIPES}
"""Every recipe by its name; the name stands in ``recompute`` of the record that it makes."""


@dataclass(frozen=True)
class Row:
    """One number of a record beside the same number computed again; None where one of the two has it not."""

    field: str
    published: int | float | str | bool | None
    recomputed: int | float | str | bool | None
    same: bool


def package_of(recipe: str) -> str:
    """Return the package whose tables ``recipe`` reads; UsageError for an unknown recipe."""
    if recipe not in RECIPES:
        raise UsageError(f"'{recipe}' is no recipe; there are {', '.join(sorted(RECIPES))}")
    return chest.PACKAGE if recipe in chest.RECIPES else idc.PACKAGE


def source_for(record: Artifact, path: Path | None = None) -> Source:
    """Return the tables that ``record`` is computed from: the installed ones, or those of ``path``.

    Raises UsageError where the record cannot be recomputed, DataError where the tables are not there.
    """
    return source(path, package_of(_recipe(record)))


def records(source: Source) -> list[Artifact]:
    """Return the records of every recipe that reads the package of ``source``, in order of their slugs."""
    made = [recipe(source) for name, recipe in RECIPES.items() if package_of(name) == source.package]
    return sorted(made, key=lambda record: record.slug)


def recompute(record: Artifact, source: Source) -> list[Row]:
    """Return each computed number of ``record`` beside what its recipe gets from ``source``.

    A number is the same where it is equal to three decimals, or rounds to what the record has; a count where it is
    equal. Intervals and numbers of rows have rows of their own (``FIELD, low``), tables too (``data: FILE``, by
    SHA-256), so that another version of a table is told from a wrong number. Facts that were not computed are left
    out. Raises UsageError where the record names no recipe or ``source`` is of another package.
    """
    ours = _numbers(RECIPES[_recipe(record)](source))
    theirs = _numbers(record)
    return [
        Row(name, theirs.get(name), ours.get(name), _same(theirs.get(name), ours.get(name)))
        for name in (*theirs, *(name for name in ours if name not in theirs))
    ]


def _recipe(record: Artifact) -> str:
    if not record.recompute:
        raise UsageError(f"artifact '{record.slug}' names no recipe: it cannot be recomputed")
    package_of(record.recompute)
    return record.recompute


def _numbers(record: Artifact) -> dict[str, int | float | str | bool]:
    found: dict[str, int | float | str | bool] = {}
    for fact in record.facts:
        if fact.verification == "computed":
            found |= _parts(fact)
    data = (record.run or {}).get("data")
    if isinstance(data, dict):
        found |= {f"data: {file}": str(digest) for file, digest in data.items()}
    return found


def _parts(fact: Fact) -> dict[str, int | float | str | bool]:
    parts = {"": fact.value, ", low": fact.low, ", high": fact.high, ", n": fact.n}
    return {f"{fact.field}{name}": value for name, value in parts.items() if value is not None}


def _same(published: int | float | str | bool | None, recomputed: int | float | str | bool | None) -> bool:
    if isinstance(published, float) and isinstance(recomputed, int | float):
        # 0.43 may be 0.427 rounded; 0.4270 cannot be told from 0.427, which asks for three decimals as it is.
        decimals = len(repr(published).partition(".")[2]) if "e" not in repr(published) else 3
        return abs(published - recomputed) <= 0.5 * 10.0 ** -min(decimals, 3) + 1e-12
    return published == recomputed


__all__ = ["PACKAGES", "RECIPES", "Row", "Source", "package_of", "recompute", "records", "source", "source_for"]
