"""CSV: records as rows, safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Any

from medaudit.review.records import Artifact, Dataset, Record, Work

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


def _safe(value: Any) -> str:
    text = str(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") and not isinstance(value, int | float) else text
