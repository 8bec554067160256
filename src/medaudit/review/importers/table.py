"""Datasets and works out of a CSV: a header of field names, a row a record."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from medaudit.errors import DataError
from medaudit.review.importers.bibliography import text_of
from medaudit.review.records import Record, parse

LISTS = ("modalities", "anatomy", "tasks", "authors", "produced_by", "cite")
COLUMNS = {
    "dataset": ("kind", "slug", "name", "description", "aliases", "homepage", "host", "access", "year", "modalities",
                "anatomy", "tasks", "licence", "produced_by", "cite", "doi", "images", "patients", "source"),
    "work": ("kind", "slug", "type", "title", "authors", "year", "venue", "doi", "arxiv", "url"),
}  # fmt: skip
"""What may stand in the header; ``source`` (an address) says where images and patients stand; ``;`` parts a list."""


def read(path: Path) -> list[Record]:
    """Return the records of a CSV file; DataError naming file and row."""
    try:
        return read_text(text_of(path))
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def read_text(text: str) -> list[Record]:
    """Return the records of a CSV; DataError naming the row and column."""
    try:
        rows = list(csv.DictReader(io.StringIO(text), strict=True))
    except csv.Error as error:
        raise DataError(f"the CSV cannot be read: {error}") from None
    if not rows:
        raise DataError("the CSV has no row below its header")
    return [_record(row, n) for n, row in enumerate(rows, 2)]


def _record(row: dict[str | None, Any], line: int) -> Record:
    where = f"row {line}"
    if None in row or any(value is None for value in row.values()):
        raise DataError(f"{where}: has another number of cells than the header")
    cells = {str(name).strip(): _cell(value) for name, value in row.items() if str(value).strip()}
    kind = cells.get("kind", "dataset")
    if kind not in COLUMNS:
        raise DataError(f"{where}: kind is '{kind}'; expected dataset or work")
    strange = [name for name in cells if name not in COLUMNS[kind]]
    if strange:
        raise DataError(
            f"{where}: column '{strange[0]}' is not known for a {kind}; expected {', '.join(COLUMNS[kind])}"
        )
    plain: dict[str, Any] = {"kind": kind}
    for name, value in cells.items():
        plain[name] = [part.strip() for part in value.split(";") if part.strip()] if name in LISTS else value
    if "year" in plain:
        if not plain["year"].isdigit():
            raise DataError(f"{where}: year is '{plain['year']}'; expected a number")
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
        number: int | str = int(value.replace(",", "")) if value.replace(",", "").isdigit() else value
        facts.append({"field": name, "value": number, "unit": name, "url": source, "verification": "imported"})
    plain["facts"] = facts


def _cell(value: str) -> str:
    """Return a cell; the apostrophe that our own export puts before a formula goes."""
    text = value.strip()
    return text[1:] if text[:2] in ("'=", "'+", "'-", "'@") else text
