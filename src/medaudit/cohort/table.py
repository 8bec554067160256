"""Read a table of cases: CSV, TSV, XLSX or Parquet, whatever program wrote it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from medaudit.cohort.apart import read_apart
from medaudit.cohort.bounds import check_promise
from medaudit.errors import DataError

TEXT = (".csv", ".tsv", ".txt")
SHEETS = (".xlsx", ".xlsm", ".xls")
PARQUET = (".parquet", ".pq")

WIDEST = 16_384
"""Columns that a table may have: as many as a sheet of Excel."""

_MISSING_NUMBER = ("", "na", "n/a", "nan", "null", "none", "not available", "unknown")
"""What programs and people write where a number is missing; a text column keeps these words as they are."""

_INTEGER = r"^[+-]?(0|[1-9]\d{0,17})$"
_FLOAT = r"^[+-]?((0|[1-9]\d{0,17})(\.\d*)?|\.\d+)([eE][+-]?\d+)?$|^[+-]?(?i:inf|infinity)$"
_DECIMAL_COMMA = r"^[+-]?(0|[1-9]\d*)(,\d+)?$"
_ID_NAME = re.compile(r"(^|[_\s])[iI][dD]$|[a-z]I[dD]$")


def read_table(path: str | Path, *, sheet: str | None = None) -> pl.DataFrame:
    """Return the table in a CSV, TSV, XLSX or Parquet file, its column names and texts without outer blanks.

    Text files may be UTF-8 (with or without BOM), UTF-16 or Latin-1, separated by comma, semicolon, tab or bar; where
    the comma does not separate, it may be the decimal sign. A column becomes numbers only if every value is one:
    ``001`` has a leading zero, so that it and its column stay text. ``sheet`` names a sheet of a workbook
    (default: the first).

    Raises DataError, in one line, for a file that is missing, empty, broken or of an unknown kind, for two columns of
    one name and for a row that is longer or shorter than the header.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in TEXT + SHEETS + PARQUET:
        raise DataError(f"{path}: not a table that can be read; expected .csv, .tsv, .txt, .xlsx or .parquet")
    if not path.exists():
        raise DataError(f"{path}: no such file; expected a table with a row a case")
    if path.is_dir():
        raise DataError(f"{path}: is a folder; expected a table file in it")
    if not path.is_file():
        raise DataError(f"{path}: is a device or a pipe; expected a table file")
    size = path.stat().st_size
    if size == 0:
        raise DataError(f"{path}: the file is empty; expected a header and a row a case")
    check_promise(path, size)
    if suffix in TEXT:
        return _read_text(path)
    if suffix in SHEETS:
        return _read_sheet(path, sheet)
    return _tidy(read_apart("Parquet file", path)[1], path)


def texts(column: pl.Series, table: str) -> pl.Series:
    """Return a column of ``table`` as text; DataError where it holds lists or the like, not one value a case."""
    if column.dtype.is_nested() or column.dtype in (pl.Binary, pl.Object):
        raise DataError(f"{table}: the column '{column.name}' holds {column.dtype} values; expected one value a case")
    return column.cast(pl.String)


def _read_text(path: Path) -> pl.DataFrame:
    try:
        text = _decode(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    separator = _separator(text)
    try:
        rows = [(i, row) for i, row in _numbered(text, separator) if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise DataError(f"{path}: not a text table ({error})") from None
    if not rows:
        raise DataError(f"{path}: the file is empty; expected a header and a row a case")
    header = [name.strip() for name in rows[0][1]]
    # A spreadsheet may append empty columns.
    used = max(_used(row) for _, row in rows)
    while len(header) > used and not header[-1]:
        header.pop()
    names = _names(header, path)
    for line, row in rows[1:]:
        if len(row) < len(names) or any(cell.strip() for cell in row[len(names) :]):
            raise DataError(
                f"{path}: line {line} has {len(row)} values where the header has {len(names)}; "
                f"expected the same number (separator {separator!r}; quote a value that holds it)"
            )
    columns = {name: [row[i].strip() for _, row in rows[1:]] for i, name in enumerate(names)}
    frame = pl.DataFrame(columns, schema=dict.fromkeys(names, pl.String))
    return frame.with_columns(_typed(frame[name], comma=separator != ",") for name in names)


def _used(row: list[str]) -> int:
    """Return the number of a row's last cell with something in it, counted from 1."""
    return next((i for i in range(len(row), 0, -1) if row[i - 1].strip()), 0)


def _decode(raw: bytes) -> str:
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return raw.decode("utf-16", errors="replace")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _separator(text: str) -> str:
    first = next((line for line in text.splitlines() if line.strip()), "")
    bare = re.sub(r'"[^"]*"', "", first)
    return max(",;\t|", key=bare.count)


def _numbered(text: str, separator: str) -> list[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    return [(reader.line_num, row) for row in reader]


def _read_sheet(path: Path, sheet: str | None) -> pl.DataFrame:
    header, body = read_apart("workbook", path, sheet)
    assert header is not None
    if body.width > len(header):
        header += [""] * (body.width - len(header))
    names = _names(header, path)
    body = body.rename(dict(zip(body.columns, names, strict=False)))
    body = body.select([c for c in body.columns if c in header or body[c].null_count() < body.height])
    # A workbook keeps every number as a float; an id 1 must not become "1.0".
    whole = [c for c in body.columns if body[c].dtype == pl.Float64 and (body[c].drop_nulls() % 1 == 0).all()]
    return _tidy(body.with_columns(pl.col(whole).cast(pl.Int64, strict=False)), path)


def _tidy(frame: pl.DataFrame, path: Path) -> pl.DataFrame:
    frame = frame.rename(dict(zip(frame.columns, _names([c.strip() for c in frame.columns], path), strict=True)))
    texts = [c for c in frame.columns if frame[c].dtype in (pl.String, pl.Categorical, pl.Enum)]
    return frame.with_columns(_typed(frame[c].cast(pl.String).str.strip_chars(), comma=False) for c in texts)


def _names(header: Sequence[str], path: Path) -> list[str]:
    if len(header) > WIDEST:
        raise DataError(f"{path}: has {len(header):,} columns; expected at most {WIDEST:,}")
    names = [name or f"column_{i}" for i, name in enumerate(header, start=1)]
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError(f"{path}: two columns are called '{name[:60]}'; expected a name of its own for each")
        seen.add(name)
    return names


def _typed(column: pl.Series, *, comma: bool) -> pl.Series:
    """Return texts as numbers or true/false where every value is one, else as they are, "" as null."""
    lower = column.str.to_lowercase()
    values = column.filter(~lower.is_in(_MISSING_NUMBER))
    as_text = column.set(column == "", None)
    if values.len() == 0:
        return as_text
    known = column.set(lower.is_in(_MISSING_NUMBER), None)
    if values.str.contains(_INTEGER).all():
        return known.cast(pl.Int64)
    if lower.filter(lower != "").is_in(["true", "false"]).all():
        return (lower.set(lower == "", None) == "true").alias(column.name)
    if _ID_NAME.search(column.name):
        return as_text
    if values.str.contains(_FLOAT).all():
        return known.cast(pl.Float64)
    if comma and values.str.contains(_DECIMAL_COMMA).all():
        return known.str.replace(",", ".", literal=True).cast(pl.Float64)
    return as_text
