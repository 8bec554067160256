"""Cohort: one immutable table, a row a case, and where each case's image and masks lie."""

from __future__ import annotations

import difflib
import hashlib
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from medaudit.cohort.table import read_table, texts
from medaudit.errors import DataError, UsageError

EMPTY = "empty:"
"""Stands in a mask's column where the annotator says that there is nothing to outline (a normal case)."""


@dataclass(frozen=True)
class Role:
    """Where one kind of file lies (``column`` of the table), and how it is to be read.

    ``fill``: the annotation may be a closed outline, as HC18 publishes it, and is filled.
    ``label``: the foreground is this value of a label map (or this segment of a DICOM SEG); ``None``: the mask
    is binary.
    """

    column: str
    fill: bool = False
    label: int | None = None


@dataclass(frozen=True)
class Source:
    """Where a dataset comes from and what its users owe."""

    title: str
    licence: str
    citation: str
    url: str = ""


@dataclass(frozen=True)
class Known:
    """What was known about a dataset before anybody audited it here: how grave, what, and who says so."""

    severity: str
    text: str
    source: str = ""


@dataclass(frozen=True)
class Case:
    """One row of a cohort: its id, its files by role, and the pixel spacing that the table gives."""

    case_id: str
    files: Mapping[str, Path | None]
    spacing_mm: tuple[float, ...] | None = None
    """In array axis order, for formats that carry none (PNG, npy); ``None`` where the table gives none."""


@dataclass(frozen=True)
class Cohort:
    """A row a case: ``case_id``, ``patient_id`` (the cluster; the case itself where unknown), attributes, files.

    ``roles`` maps a role (``image``, ``reference``, ``labels``, ``prediction`` ...) to where its files lie. Paths in
    the table are absolute or relative to ``root``. A null path: the case has no such file; ``"empty:"``: the
    annotator says that there is nothing. ``spacing_mm`` is an optional column (see :class:`Case`). ``notes`` is what a
    reader of any result must know (records kept apart, spellings merged); ``truth`` what a simulator planted;
    ``known`` what others have found out about the dataset.
    """

    name: str
    table: pl.DataFrame
    root: Path
    roles: Mapping[str, Role] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    source: Source | None = None
    truth: Mapping[str, Any] | None = None
    known: tuple[Known, ...] = ()

    def __post_init__(self) -> None:
        table = self.table
        if table.height == 0:
            raise DataError(f"{self.name}: the table has 0 cases; expected a row a case")
        if "case_id" not in table.columns:
            raise DataError(f"{self.name}: the table has no column 'case_id'; it has: {', '.join(table.columns)}")
        ids = texts(table["case_id"], self.name)
        if ids.null_count():
            row = int(ids.is_null().arg_true()[0]) + 1
            raise DataError(f"{self.name}: case_id is missing in row {row}; every case needs its own id")
        twice = ids.filter(ids.is_duplicated()).unique().sort().to_list()
        if twice:
            more = f" (and {len(twice) - 1} more)" if len(twice) > 1 else ""
            raise DataError(
                f"{self.name}: case_id '{twice[0]}'{more} stands in more than one row; expected a row a case. "
                "Several images of one patient need their own case_id and a common patient_id"
            )
        columns = [ids.alias("case_id")]
        if "patient_id" in table.columns:
            columns.append(texts(table["patient_id"], self.name).fill_null(ids).alias("patient_id"))
        object.__setattr__(self, "table", table.with_columns(columns))
        for role in self.roles.values():
            self.column(role.column)

    @classmethod
    def read(
        cls,
        path: str | Path,
        *,
        roles: Mapping[str, str | Role] | None = None,
        case_id: str = "case_id",
        patient_id: str | None = None,
        root: str | Path | None = None,
        number_cases: bool = False,
    ) -> Cohort:
        """Return the cohort of a CSV, TSV, XLSX or Parquet table.

        ``roles`` maps a role to a column of the table or to a path template (``images/{patient_id}_0001.nii.gz``),
        relative to ``root`` (default: the table's folder). Without a ``case_id`` column, ``patient_id`` serves if it
        is unique (or, where ``number_cases``, the row's number); ``case_id`` and ``patient_id`` name the columns where
        they are called otherwise.

        Raises DataError for a table that cannot be read and UsageError for a column that is not there.
        """
        path = Path(path)
        table = read_table(path)
        for wanted, given in (("case_id", case_id), ("patient_id", patient_id or "patient_id")):
            if given != wanted:
                if given not in table.columns:
                    raise UsageError(_no_column(path.name, given, table.columns))
                table = table.with_columns(pl.col(given).alias(wanted))
        if "case_id" not in table.columns and number_cases:
            table = table.with_columns(case_id=pl.int_range(1, pl.len() + 1))
        elif "case_id" not in table.columns and "patient_id" in table.columns:
            table = table.with_columns(case_id=pl.col("patient_id"))
        cohort = cls(path.name, table, Path(root) if root is not None else path.resolve().parent)
        for role, where in (roles or {}).items():
            cohort = cohort.with_role(role, where)
        return cohort

    def __len__(self) -> int:
        return self.table.height

    @property
    def case_ids(self) -> list[str]:
        """The cases' ids, in the table's order."""
        return self.table["case_id"].to_list()

    @property
    def clusters(self) -> pl.Series:
        """The patient of each case, the unit that is resampled; the case itself where no patient is known."""
        return self.table["patient_id" if "patient_id" in self.table.columns else "case_id"]

    def column(self, name: str) -> pl.Series:
        """Return a column of the table; UsageError naming the nearest column where it is not there."""
        if name not in self.table.columns:
            raise UsageError(_no_column(self.name, name, self.table.columns))
        return self.table[name]

    def with_role(self, role: str, where: str | Role) -> Cohort:
        """Return the cohort with ``role`` at ``where``: a column, or a path template over the columns.

        >>> cohort.with_role("labels", "../hc18_automatic/{case_id}_automatic.png")  # doctest: +SKIP
        """
        spec = where if isinstance(where, Role) else Role(where)
        table = self.table
        if spec.column not in table.columns:
            if "{" not in spec.column:
                raise UsageError(
                    f"{_no_column(self.name, spec.column, table.columns)}; "
                    "a path template has a column in braces: 'masks/{case_id}.nii.gz'"
                )
            column = f"{role}_path"
            table = table.with_columns(self._fill_template(spec.column).alias(column))
            spec = replace(spec, column=column)
        return replace(self, table=table, roles={**self.roles, role: spec})

    def select(self, rows: pl.Series | pl.Expr) -> Cohort:
        """Return the cohort of the rows where ``rows`` is true."""
        return replace(self, table=self.table.filter(rows))

    def cases(self, *roles: str) -> Iterator[Case]:
        """Yield each case with the files of ``roles`` (all roles if none is named)."""
        wanted = roles or tuple(self.roles)
        columns = {role: texts(self.column(self.roles[role].column), self.name).to_list() for role in wanted}
        spacings: list[Any] = (
            self.table["spacing_mm"].to_list() if "spacing_mm" in self.table.columns else [None] * len(self)
        )
        for i, case_id in enumerate(self.case_ids):
            files = {role: self._locate(columns[role][i]) for role in wanted}
            yield Case(case_id, files, _spacing(spacings[i], case_id))

    def _locate(self, path: str | None) -> Path | None:
        if path is None or path == "":
            return None
        return Path(path) if path == EMPTY or Path(path).is_absolute() else self.root / path

    def _fill_template(self, template: str) -> pl.Series:
        try:
            pieces = list(string.Formatter().parse(template))
        except ValueError:  # a brace without its partner
            pieces = [("", "", None, None)]
        if any(name == "" or form or conversion for _, name, form, conversion in pieces):
            raise UsageError(
                f"cannot read the path template '{template}'; "
                "expected names of columns in braces, as 'masks/{case_id}.nii.gz'"
            )
        names = [name for _, name, _, _ in pieces if name is not None]
        columns = {name: texts(self.column(name), self.name).to_list() for name in names}

        def path(row: int) -> str | None:
            if any(column[row] is None for column in columns.values()):
                return None
            return "".join(text if name is None else text + columns[name][row] for text, name, _, _ in pieces)

        return pl.Series([path(row) for row in range(len(self))], dtype=pl.String)


def _no_column(table: str, name: str, columns: list[str]) -> str:
    near = difflib.get_close_matches(name, columns, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"it has: {', '.join(columns[:30])}"
    return f"{table} has no column '{name}'; {hint}"


def _spacing(value: Any, case_id: str) -> tuple[float, ...] | None:
    """Return the spacing in mm in array axis order from ``0.8``, ``"0.8;0.8;1.1"`` or a list."""
    if value is None or value == "":
        return None
    parts: Any = value.replace(",", ";").strip("[]").split(";") if isinstance(value, str) else value
    try:
        spacing = tuple(float(v) for v in (parts if hasattr(parts, "__len__") else [parts]))
    except ValueError:
        spacing = ()
    if not spacing or not all(0 < v < float("inf") for v in spacing):
        raise DataError(
            f"case {case_id}: spacing_mm is {value!r}; expected positive millimetres, as 0.8 or '0.8;0.8;1.1'"
        )
    return spacing


def fingerprint(cohort: Cohort) -> str:
    """Return the SHA-256 of who the cases are and where their files lie: what makes a run this run."""
    roles = sorted((name, role.column, role.fill, role.label) for name, role in cohort.roles.items())
    return hashlib.sha256(f"{cohort.table.write_json()}{roles}".encode()).hexdigest()
