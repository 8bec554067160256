"""Datasets and works out of a CSV: a header of field names, a row a record."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medaudit.errors import DataError
from medaudit.review.formats.tables import read_csv
from medaudit.review.importers.bibliography import text_of
from medaudit.review.records import Record, parse

LISTS = ("modalities", "anatomy", "tasks", "authors", "produced_by", "cite")
COLUMNS = {
    "dataset": ("kind", "slug", "name", "description", "aliases", "homepage", "host", "access", "year", "modalities",
                "anatomy", "tasks", "licence", "produced_by", "cite", "doi", "images", "patients", "source"),
    "work": ("kind", "slug", "type", "title", "authors", "year", "venue", "doi", "arxiv", "url"),
}  # fmt: skip
"""What may stand in the header; ``source`` (an address) says where images and patients stand; ``;`` parts a list."""

_NUMBER = re.compile(r"[0-9]{1,3}(?:,[0-9]{3}){1,4}|[0-9]{1,15}")
"""A comma parts thousands: ``1,20`` is no number."""


def read(path: Path, mapping: Mapping[str, str] | None = None) -> list[Record]:
    """Return the records of a CSV file; DataError naming file and row. ``mapping``: see :func:`read_text`."""
    try:
        return read_text(text_of(path), mapping)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def read_text(text: str, mapping: Mapping[str, str] | None = None) -> list[Record]:
    """Return the records of a CSV; DataError naming the row and column.

    ``mapping`` says which of :data:`COLUMNS` a column of another name is.
    """
    return [_record(cells, n) for n, cells in enumerate(read_csv(text, mapping), 2)]


def _record(cells: dict[str, str], line: int) -> Record:
    where = f"row {line}"
    kind = cells.get("kind", "dataset")
    if kind not in COLUMNS:
        raise DataError(f"{where}: kind is '{kind[:60]}'; expected dataset or work")
    strange = [name for name in cells if name not in COLUMNS[kind]]
    if strange:
        raise DataError(
            f"{where}: column '{strange[0][:60]}' is not known for a {kind}; expected {', '.join(COLUMNS[kind])}"
        )
    plain: dict[str, Any] = {"kind": kind}
    for name, value in cells.items():
        plain[name] = [part.strip() for part in value.split(";") if part.strip()] if name in LISTS else value
    if "year" in plain:
        if not re.fullmatch(r"[0-9]{4}", plain["year"]):
            raise DataError(f"{where}: year is '{plain['year'][:60]}'; expected a number of four digits")
        plain["year"] = int(plain["year"])
    if kind == "dataset":
        _dataset(plain, where)
    return parse(plain, where)


def _dataset(plain: dict[str, Any], where: str) -> None:
    plain["aliases"] = [{"name": name.strip()} for name in plain.pop("aliases", "").split(";") if name.strip()]
    if doi := plain.pop("doi", None):
        plain["identifiers"] = [{"scheme": "doi", "value": doi}]
    if licence := plain.pop("licence", None):
        plain["licences"] = [{"text": licence, "verification": "imported"}]
    source, facts = plain.pop("source", None), []
    for name in ("images", "patients"):
        value = plain.pop(name, None)
        if value is None:
            continue
        if source is None:
            raise DataError(f"{where}: {name} needs a source: an address in the column 'source'")
        number: int | str = int(value.replace(",", "")) if _NUMBER.fullmatch(value) else value
        facts.append({"field": name, "value": number, "unit": name, "url": source, "verification": "imported"})
    plain["facts"] = facts
