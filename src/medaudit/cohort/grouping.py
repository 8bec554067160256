"""Grouping: how attributes become groups: ``age:40,55``, ``ethnicity``, crossings ``age:40,55*source``."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import polars as pl

from medaudit.cohort.cohort import Cohort
from medaudit.cohort.table import texts
from medaudit.errors import DataError, UsageError

UNKNOWN = ("", "na", "n/a", "nan", "none", "null", "unknown", "not available", "not known", "missing")
"""Spellings, in lower case, that mean that an attribute is not known."""

MOST_GROUPS = 40
"""An attribute of more values than this was hardly meant to be groups: an id, or a number without edges."""


@dataclass(frozen=True)
class Factor:
    """One attribute: its values as they are, or cut at ``edges``; ``closed`` says which side owns an edge."""

    attribute: str
    edges: tuple[float, ...] = ()
    closed: Literal["right", "left"] = "right"

    def __str__(self) -> str:
        if not self.edges:
            return self.attribute
        cut = ",".join(f"{edge:g}" for edge in self.edges)
        return f"{self.attribute}:{cut}" + (":left" if self.closed == "left" else "")

    @property
    def labels(self) -> tuple[str, ...]:
        """The groups' names where the attribute is cut: ``<=40``, ``(40, 55]``, ``>55``."""
        edges = [f"{edge:g}" for edge in self.edges]
        right = self.closed == "right"
        inner = [f"({a}, {b}]" if right else f"[{a}, {b})" for a, b in pairwise(edges)]
        return (f"{'<=' if right else '<'}{edges[0]}", *inner, f"{'>' if right else '>='}{edges[-1]}")


@dataclass(frozen=True)
class Groups:
    """The groups of a cohort's cases under one :class:`Grouping`.

    ``codes`` is (n,) int64, the index into ``labels``, -1 where an attribute is unknown: those cases are counted
    (``unknown``) and kept apart, never compared. ``values`` is the attribute itself, (n,) float64 with NaN where
    unknown, if it is one number a case; else ``None``.
    """

    name: str
    rule: str
    labels: tuple[str, ...]
    codes: np.ndarray
    values: np.ndarray | None = None

    @property
    def counts(self) -> dict[str, int]:
        """How many cases each group has."""
        return {label: int(np.sum(self.codes == i)) for i, label in enumerate(self.labels)}

    @property
    def unknown(self) -> int:
        """How many cases belong to no group because the attribute is not known."""
        return int(np.sum(self.codes < 0))


@dataclass(frozen=True)
class Grouping:
    """How attributes become groups; :meth:`parse` reads the command line's form, :meth:`apply` makes the groups."""

    factors: tuple[Factor, ...]

    @classmethod
    def parse(cls, text: str) -> Grouping:
        """Return the grouping written as ``age:40,55``, ``age:40,55:left``, ``ethnicity`` or ``age:55*source``.

        ``age:40,55`` makes ``<=40``, ``(40, 55]`` and ``>55``; with ``:left`` an edge belongs to the group above it.
        Raises UsageError where the text is not of that form.
        """
        return cls(tuple(_parse_factor(part, text) for part in text.split("*")))

    @property
    def name(self) -> str:
        """The attributes' names, as they stand in a finding's id: ``age`` or ``age*source``."""
        return "*".join(factor.attribute for factor in self.factors)

    def __str__(self) -> str:
        return "*".join(str(factor) for factor in self.factors)

    def apply(self, cohort: Cohort) -> Groups:
        """Return the groups of ``cohort``'s cases.

        Raises UsageError for an attribute that the table lacks, DataError for one that is to be cut and is no number.
        """
        codes, labels, values = _apply_factor(self.factors[0], cohort)
        for factor in self.factors[1:]:
            more, names, _ = _apply_factor(factor, cohort)
            known = (codes >= 0) & (more >= 0)
            crossed = np.where(known, codes * len(names) + more, -1)
            every = [f"{a} × {b}" for a in labels for b in names]
            present = np.unique(crossed[known])
            if not present.size:
                raise DataError(_nothing_known(cohort, self.name))
            codes = np.where(known, np.searchsorted(present, crossed), -1)
            labels, values = tuple(every[i] for i in present), None
        if len(labels) > MOST_GROUPS:
            raise UsageError(
                f"{cohort.name}: {self.name} makes {len(labels)} groups, more than the {MOST_GROUPS} that can be "
                "compared; cross fewer attributes, or coarser ones"
            )
        return Groups(self.name, str(self), labels, codes.astype(np.int64), values)


def numeric(cohort: Cohort, attribute: str) -> np.ndarray:
    """Return an attribute as (n,) float64, NaN where unknown; DataError naming the first case that is no number."""
    column = cohort.column(attribute)
    if column.dtype.is_numeric() or column.dtype == pl.Boolean:
        return column.cast(pl.Float64).fill_null(np.nan).to_numpy().astype(np.float64)
    text = texts(column, cohort.name).str.strip_chars()
    unknown = text.is_null() | text.str.to_lowercase().is_in(list(UNKNOWN))
    values = text.cast(pl.Float64, strict=False)
    bad = (values.is_null() & ~unknown).arg_true()
    if len(bad):
        i = int(bad[0])
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise DataError(
            f"{cohort.name}: case {cohort.case_ids[i]} (row {i + 1}){more}: {attribute} is '{str(column[i])[:60]}'; "
            f"expected a number, or nothing where it is not known"
        )
    return values.fill_null(np.nan).to_numpy().astype(np.float64)


def _parse_factor(part: str, text: str) -> Factor:
    attribute, *rest = (piece.strip() for piece in part.split(":"))
    closed: Literal["right", "left"] = "right"
    if rest and rest[-1] in ("left", "right"):
        closed = "left" if rest.pop() == "left" else "right"
    try:
        edges = tuple(float(edge) for edge in rest[0].split(",")) if rest else ()
    except ValueError:
        edges = (np.nan,)
    if not attribute or len(rest) > 1 or any(not a < b for a, b in pairwise((*edges, np.inf))):
        raise UsageError(
            f"cannot read the grouping '{text}'; expected an attribute, with rising edges where it is a number: "
            "'ethnicity', 'age:40,55', 'age:40,55:left' or 'age:55*source'"
        )
    return Factor(attribute, edges, closed)


def _apply_factor(factor: Factor, cohort: Cohort) -> tuple[np.ndarray, tuple[str, ...], np.ndarray | None]:
    column = cohort.column(factor.attribute)
    if factor.edges:
        values = numeric(cohort, factor.attribute)
        if np.isnan(values).all():
            raise DataError(_nothing_known(cohort, factor.attribute))
        side: Literal["left", "right"] = "left" if factor.closed == "right" else "right"
        codes = np.searchsorted(np.asarray(factor.edges), values, side=side)
        return np.where(np.isnan(values), -1, codes), factor.labels, values
    if column.dtype.is_float():
        text = pl.Series([None if v is None or v != v else f"{v:g}" for v in column], dtype=pl.String)
    else:
        text = texts(column, cohort.name).str.strip_chars()
    text = text.set(text.str.to_lowercase().is_in(list(UNKNOWN)), None)
    labels = tuple(_in_order(text.drop_nulls().unique().to_list()))
    if not labels:
        raise DataError(_nothing_known(cohort, factor.attribute))
    if len(labels) > MOST_GROUPS:
        cut = f"cut a number at edges, as '{factor.attribute}:40,55'"
        raise UsageError(
            f"{cohort.name}: {factor.attribute} has {len(labels)} different values, more than the {MOST_GROUPS} groups "
            f"that can be compared; {cut if column.dtype.is_numeric() else 'put the rare values together'}"
        )
    index = {label: i for i, label in enumerate(labels)}
    codes = np.asarray([-1 if value is None else index[value] for value in text], dtype=np.int64)
    return codes, labels, None


def _nothing_known(cohort: Cohort, attribute: str) -> str:
    return f"{cohort.name}: {attribute} is unknown for all {len(cohort)} cases; nothing to compare"


def _in_order(labels: list[str]) -> list[str]:
    """Sort numbers as numbers, the words first, second, third in that order, and the rest by name."""
    rank = {"first": 0, "second": 1, "third": 2}

    def key(label: str) -> tuple[int, float, str]:
        try:
            return (0, float(label), label)
        except ValueError:
            return (1, rank.get(label.split()[0].lower(), 99), label.lower()) if label.split() else (2, 0, label)

    return sorted(labels, key=key)
