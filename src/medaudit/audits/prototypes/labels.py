"""Images whose attributes are known; attributes of two values, from columns to numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from medaudit.errors import DataError, UsageError

_YES = {"yes", "true", "1", "1.0", "positive", "present"}
_NO = {"no", "false", "0", "0.0", "negative", "absent"}
_UNKNOWN = {"", "nan", "none", "unknown", "-1", "-1.0"}


@dataclass(frozen=True, eq=False)
class Asked:
    """Images whose attributes are known and that the model did not see, and those that the judge may learn from."""

    images: np.ndarray
    labels: np.ndarray
    patients: np.ndarray
    masks: np.ndarray | None
    """(n, K, H, W) of where each attribute is seen, where that is known."""
    case_ids: list[str]


def attributes_of(table: pl.DataFrame, names: Sequence[str]) -> np.ndarray:
    """Return (n, K): 1 for yes, true or 1, 0 for no, false or 0, NaN for blanks and for -1, CheXpert's "uncertain".

    Raises UsageError for a column that is not there, DataError for one that holds other values, naming the row.
    """
    columns = []
    for name in names:
        if name not in table.columns:
            raise UsageError(f"no column '{name}'; there are: {', '.join(table.columns)}")
        values = table[name].cast(pl.String).fill_null("").str.strip_chars().str.to_lowercase().to_list()
        for row, value in enumerate(values):
            if value not in _YES | _NO | _UNKNOWN:
                raise DataError(
                    f"column '{name}', row {row + 1}: '{value}' is neither yes nor no; make a column of yes and no of "
                    "it"
                )
        columns.append([1.0 if v in _YES else 0.0 if v in _NO else np.nan for v in values])
    return np.array(columns).T.reshape(table.height, len(names))


def two_valued(table: pl.DataFrame) -> list[str]:
    """Return the names of the columns that hold yes and no, in their order."""
    found = []
    for name in table.columns:
        if table[name].dtype.is_nested():
            continue
        values = set(table[name].cast(pl.String).fill_null("").str.strip_chars().str.to_lowercase().unique().to_list())
        if values & _YES and values & _NO and values <= _YES | _NO | _UNKNOWN:
            found.append(name)
    return found
