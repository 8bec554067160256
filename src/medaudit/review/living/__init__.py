"""The living search: saved queries, what they find, screening, mentions of datasets, citations, the PRISMA report.

What is found here is a candidate. It becomes public only as a proposal that a second person accepts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def add_new(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert those of ``rows`` whose key is not there yet; return how many were new."""
    if not rows:
        return 0
    if connection.dialect.name == "postgresql":
        # psycopg does not tell how many rows of a batch were new, so that they are asked for.
        step, count = 5_000 // max(1, len(rows[0])), 0
        asked = postgresql.insert(table).on_conflict_do_nothing().returning(*table.primary_key.columns)
        for start in range(0, len(rows), step):
            count += len(connection.execute(asked.values(list(rows[start : start + step]))).all())
        return count
    quiet = sqlite.insert(table).on_conflict_do_nothing()
    return max(0, int(connection.execute(quiet, list(rows)).rowcount))
