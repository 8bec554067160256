"""Expressions over a cohort's columns: ``device == "D"``, ``weeks < 24 and plane in ("brain", "femur")``.

An expression is data, never code: it is parsed, and only comparisons, ``and``, ``or``, ``not``, ``in``, numbers, texts
and names of columns are understood. Where a column it asks for is unknown, so is the answer.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from medaudit.cohort.cohort import Cohort
from medaudit.cohort.grouping import UNKNOWN, numeric
from medaudit.cohort.table import texts
from medaudit.errors import UsageError

_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError)
"""What Python raises of what is no expression, is nested a thousand times, or has a number of 400 digits."""
LONGEST = 10_000
"""Letters that an expression may have."""
_SHOWN = 200
"""Letters of an expression that a message repeats."""
_HINT = "expected a comparison of a column, as 'device == \"D\"', 'weeks < 24' or 'plane in (\"brain\", \"femur\")'"


def matches(cohort: Cohort, expression: str) -> tuple[np.ndarray, np.ndarray]:
    """Return which cases an expression is true of, and of which it is known, two (n,) bool arrays.

    Raises UsageError where it cannot be read or names a column that the table lacks, DataError where a column that is
    compared with a number holds something else.
    """
    shown = expression if len(expression) <= _SHOWN else f"{expression[:_SHOWN]}..."
    if len(expression) > LONGEST:
        raise UsageError(f"the expression '{shown}' has {len(expression):,} letters; expected at most {LONGEST:,}")
    try:
        tree = ast.parse(expression.strip(), mode="eval").body
        true, known = _Reader(cohort, shown).read(tree)
    except _UNREADABLE:
        raise UsageError(f"cannot read the expression '{shown}'; {_HINT}") from None
    return true & known, known


def columns_of(expression: str) -> tuple[str, ...]:
    """Return the columns that an expression asks for, in order; none where it cannot be read."""
    try:
        tree = ast.parse(expression.strip(), mode="eval")
    except _UNREADABLE:
        return ()
    names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]
    return tuple(dict.fromkeys(names))


class _Reader:
    """Reads a tree to (true, known); Kleene's logic, so that ``a or b`` is known where one of them is true."""

    def __init__(self, cohort: Cohort, expression: str) -> None:
        self.cohort, self.expression = cohort, expression

    def read(self, node: ast.AST) -> tuple[np.ndarray, np.ndarray]:
        if isinstance(node, ast.BoolOp):
            parts = [self.read(value) for value in node.values]
            decided = isinstance(node.op, ast.Or)
            true, known = parts[0]
            for more, sure in parts[1:]:
                settles = (known & (true == decided)) | (sure & (more == decided))
                both = known & sure
                true = np.where(settles, decided, (true | more) if decided else (true & more))
                known = settles | both
            return true, known
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            true, known = self.read(node.operand)
            return ~true, known
        if isinstance(node, ast.Compare):
            return self._chain(node)
        raise self._unreadable()

    def _chain(self, node: ast.Compare) -> tuple[np.ndarray, np.ndarray]:
        sides = [node.left, *node.comparators]
        true, known = np.ones(len(self.cohort), dtype=bool), np.ones(len(self.cohort), dtype=bool)
        for left, operation, right in zip(sides, node.ops, sides[1:], strict=False):
            more, sure = self._comparison(left, operation, right)
            true, known = true & more, known & sure
        return true, known

    def _comparison(self, left: ast.AST, operation: ast.cmpop, right: ast.AST) -> tuple[np.ndarray, np.ndarray]:
        if isinstance(left, ast.Constant) and isinstance(right, ast.Name):
            mirrored = {ast.Lt: ast.Gt, ast.LtE: ast.GtE, ast.Gt: ast.Lt, ast.GtE: ast.LtE}
            return self._comparison(right, mirrored.get(type(operation), type(operation))(), left)
        if not isinstance(left, ast.Name):
            raise self._unreadable()
        if isinstance(operation, ast.In | ast.NotIn):
            if not isinstance(right, ast.Tuple | ast.List | ast.Set) or not right.elts:
                raise self._unreadable()
            found = [self._equal(left.id, self._constant(value)) for value in right.elts]
            true = np.any([one for one, _ in found], axis=0)
            return (true if isinstance(operation, ast.In) else ~true), found[0][1]
        if type(operation) not in _COMPARE:
            raise self._unreadable()
        value = self._constant(right)
        if isinstance(operation, ast.Eq | ast.NotEq):
            true, known = self._equal(left.id, value)
            return (true if isinstance(operation, ast.Eq) else ~true), known
        if isinstance(value, str | bool):
            raise UsageError(
                f"'{self.expression}' asks whether {left.id} is above or below '{value}'; expected a number there"
            )
        numbers = numeric(self.cohort, left.id)
        return _COMPARE[type(operation)](numbers, value), ~np.isnan(numbers)

    def _equal(self, name: str, value: Any) -> tuple[np.ndarray, np.ndarray]:
        column = self.cohort.column(name)
        if isinstance(value, bool):
            value = str(value).lower()
        elif not isinstance(value, str) and column.dtype.is_numeric():
            numbers = numeric(self.cohort, name)
            return numbers == value, ~np.isnan(numbers)
        text = texts(column, self.cohort.name).str.strip_chars()
        unknown = text.is_null() | text.str.to_lowercase().is_in([word for word in UNKNOWN if word != str(value)])
        said = value if isinstance(value, str) else f"{value:g}"
        return (text == said).fill_null(False).to_numpy(), ~unknown.to_numpy()

    def _constant(self, node: ast.AST) -> Any:
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
            if not isinstance(node.operand.value, int | float) or isinstance(node.operand.value, bool):
                raise self._unreadable()
            return -node.operand.value
        if isinstance(node, ast.Constant) and isinstance(node.value, str | int | float):
            return node.value
        if isinstance(node, ast.Name):
            raise UsageError(
                f"'{self.expression}' compares with {node.id}; a text stands in quotes: '... == \"{node.id}\"'"
            )
        raise self._unreadable()

    def _unreadable(self) -> UsageError:
        return UsageError(f"cannot read the expression '{self.expression}'; {_HINT}")


def describe_values(column: pl.Series, most: int = 6) -> str:
    """Return the most frequent values of a column with their counts, for a message that says what is there."""
    counts = column.drop_nulls().cast(pl.String).value_counts(sort=True)
    name = column.name
    said = [f"{row[name]} ({row['count']})" for row in counts.head(most).to_dicts()]
    more = counts.height - len(said)
    return ", ".join(said) + (f" and {more} more" if more > 0 else "")
