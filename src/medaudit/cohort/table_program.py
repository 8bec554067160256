"""The program that reads a workbook or a Parquet file apart from everything else: see ``medaudit.cohort.apart``.

It is run by its path and imports nothing of medaudit, so that it starts quickly.
"""

from __future__ import annotations

import json
import resource
import sys
from typing import Any

import polars as pl


def read(kind: str, path: str, sheet: str | None = None) -> tuple[dict[str, Any], pl.DataFrame | None]:
    """Return what there is to say of a file, and its rows; ``wrong`` where it cannot be read."""
    try:
        return _sheet(path, sheet) if kind == "workbook" else ({"header": None}, pl.read_parquet(path))
    except (Exception, pl.exceptions.PanicException) as error:  # any of Rust's exceptions, or a panic
        reason = (str(error).strip() or type(error).__name__).split("\n")[0][:160]
        return {"wrong": f"cannot be read as a {kind} ({reason})"}, None


def _sheet(path: str, sheet: str | None) -> tuple[dict[str, Any], pl.DataFrame | None]:
    import fastexcel

    book = fastexcel.read_excel(path)
    names = list(book.sheet_names)
    if not names:
        return {"wrong": "has no sheet; expected a header and a row a case"}, None
    if sheet is not None and sheet not in names:
        return {"wrong": f"has no sheet '{sheet}'; it has: {', '.join(names[:30])}"}, None
    name = sheet if sheet is not None else names[0]
    top = book.load_sheet(name, header_row=None, n_rows=1, dtypes="string").to_polars()
    if top.height == 0:
        return {"wrong": f"sheet '{name}' is empty; expected a header and a row a case"}, None
    header = [str(value).strip() if value is not None else "" for value in top.row(0)]
    # The whole column decides its type: a table may hold numbers for a thousand rows and then a word.
    return {"header": header}, book.load_sheet(name, header_row=None, skip_rows=1, schema_sample_rows=None).to_polars()


def _main(most_held: str, most_bytes: str, most_seconds: str, *what: str) -> None:
    """Write a line of JSON and the rows in Arrow's format to standard output, within limits of memory and time.

    ``most_held``: bytes of the rows; ``most_bytes``: of the program's addresses.
    """
    for limit, most in (
        (resource.RLIMIT_AS, int(most_bytes)), (resource.RLIMIT_CPU, int(most_seconds)), (resource.RLIMIT_CORE, 0),
    ):  # fmt: skip
        hard = resource.getrlimit(limit)[1]
        resource.setrlimit(limit, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    told, rows = read(*what)
    if rows is not None and (size := int(rows.estimated_size())) > int(most_held):
        told, rows = (
            {"wrong": f"unfolds to {size:,} bytes, more than the {int(most_held):,} that one file may hold here"},
            None,
        )
    sys.stdout.buffer.write(json.dumps(told).encode() + b"\n")
    if rows is not None:
        rows.write_ipc_stream(sys.stdout.buffer)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    _main(*sys.argv[1:])
