"""CSV: records as rows, safe to open in a spreadsheet; and rows read, by the names of their columns."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping
from typing import Any

from medaudit.errors import DataError
from medaudit.review.records import Artifact, Dataset, Record, Work

MOST = 10_000
"""Rows that one text may hold."""
_WIDEST = 200
COLUMNS = ("kind", "slug", "name", "type", "finding", "severity", "year", "about", "works", "modalities", "access",
           "licences", "images", "patients", "doi", "url", "verification", "text")  # fmt: skip


def csv_of(records: Iterable[Record]) -> str:
    """Return a row a record; a cell that a spreadsheet would run as a formula begins with an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for record in records:
        row = _row(record)
        writer.writerow([_safe(row.get(name, "")) for name in COLUMNS])
    return out.getvalue()


def _row(record: Record) -> dict[str, Any]:
    row: dict[str, Any] = {"kind": record.kind, "slug": record.slug, "name": record.title_shown}
    if isinstance(record, Dataset):
        numbers = {fact.field: fact.value for fact in sorted(record.facts, key=lambda fact: fact.preferred)}
        return row | {
            "year": record.year or "", "works": " ".join(record.produced_by), "modalities": " ".join(record.modalities),
            "access": record.access, "licences": "; ".join(one.spdx or one.text for one in record.licences),
            "images": numbers.get("images", ""), "patients": numbers.get("patients", ""),
            "doi": next((one.value for one in record.identifiers if one.scheme == "doi"), ""),
            "url": record.homepage or "", "text": record.description,
        }  # fmt: skip
    if isinstance(record, Artifact):
        return row | {
            "type": record.type, "finding": record.finding, "severity": record.severity, "year": record.reported or "",
            "about": " ".join(one.dataset for one in record.about), "works": " ".join(record.works),
            "url": record.url or "", "verification": record.verification, "text": record.summary,
        }  # fmt: skip
    assert isinstance(record, Work)
    return row | {
        "type": record.type, "year": record.year or "", "doi": record.doi or "", "url": record.url or "",
        "verification": record.verification, "text": "; ".join(record.authors),
    }  # fmt: skip


# What a spreadsheet may run, those of East Asian keyboards among them (OWASP, "CSV Injection"); one that stands behind
# apostrophes gets one too, so that reading can take exactly one away.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")


def _safe(value: Any) -> str:
    text = str(value)
    return f"'{text}" if not isinstance(value, int | float) and _FORMULA.match(text) else text


def read_csv(text: str, mapping: Mapping[str, str] | None = None) -> list[dict[str, str]]:
    """Return the rows below the header, each as its cells by column; the apostrophe before a formula goes.

    ``mapping`` calls columns otherwise than the header does (``{"Dataset name": "name"}``). Empty cells are left out.
    Raises DataError naming the row for another number of cells than the header has, and where a column comes twice,
    there are no rows, or more than :data:`MOST`. Rows count from 1, the header's.
    """
    names: list[str] = []
    found = []
    n = 0
    try:
        for cells in csv.reader(io.StringIO(text, newline=""), strict=True):
            if not cells:
                continue
            n += 1
            if not names:
                names = [(mapping or {}).get(cell.strip(), cell.strip()) for cell in cells]
                if len(names) > _WIDEST:
                    raise DataError(f"the header has {len(names):,} columns; expected at most {_WIDEST}")
                twice = next((name for k, name in enumerate(names) if name and name in names[:k]), None)
                if twice is not None:
                    raise DataError(f"the header names '{twice[:60]}' twice")
                continue
            if len(cells) != len(names):
                raise DataError(f"row {n}: has {len(cells)} cells; the header has {len(names)}")
            if n > MOST + 1:
                raise DataError(f"the CSV has more than {MOST:,} rows; split it")
            found.append({name: cell for name, raw in zip(names, cells, strict=True) if (cell := _cell(raw))})
    except csv.Error as error:
        raise DataError(f"the CSV cannot be read after row {n}: {error}") from None
    if not found:
        raise DataError("the CSV has no row below its header")
    return found


def _cell(raw: str) -> str:
    return (raw[1:] if raw[:1] == "'" and _FORMULA.match(raw) else raw).strip()
