"""Which cases are hard: by the tiers of two people's ratings, or by a column of the table; never by our own models."""

from __future__ import annotations

import numpy as np
import polars as pl

from medaudit.audits.labels.quality import TIER_DICE, TIER_HD95_MM, tiers
from medaudit.cohort import Cohort, Grouping
from medaudit.errors import UsageError

MOST_LEVELS = 5
"""A design that balances more levels than this needs more cases than a cohort has."""


def easy_labels(quality: pl.DataFrame | None, cohort: Cohort) -> np.ndarray:
    """Return whose automated mask a swap may use, (n,) bool: tier 1, by metrics alone where nobody rated the masks."""
    if quality is None:
        return np.zeros(len(cohort), dtype=bool)
    dice, hd95 = (quality[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in ("dice", "hd95_mm"))
    rated = tier_of(quality, cohort)
    if rated is not None:
        return (rated == "1").fill_null(False).to_numpy()
    spaced = quality["spacing_known"].fill_null(False).to_numpy()
    return (dice >= TIER_DICE) & (~spaced | (hd95 <= TIER_HD95_MM))


def tier_of(quality: pl.DataFrame, cohort: Cohort) -> pl.Series | None:
    """Return each case's quality tier (arXiv 2511.00477, Table 1); ``None`` where two people did not rate the masks."""
    if not {"rating_1", "rating_2"} <= set(cohort.table.columns):
        return None
    dice, hd95 = (quality[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in ("dice", "hd95_mm"))
    return tiers(cohort.column("rating_1"), cohort.column("rating_2"), dice, hd95)


def difficulty_of(
    quality: pl.DataFrame | None, cohort: Cohort, column: str | None
) -> tuple[np.ndarray, tuple[str, ...], str]:
    """Return each case's level of difficulty, (n,) codes with -1 unknown, the levels' names, and where they are from.

    A named ``column`` decides (cut at edges as ``--by``); else tiers 1 and 1.5 are easy, 2 and 3 hard; else there are
    no levels. Raises UsageError for a column of one level or of more than five.
    """
    if column is not None:
        groups = Grouping.parse(column).apply(cohort)
        if not 2 <= len(groups.labels) <= MOST_LEVELS:
            raise UsageError(
                f"--difficulty {column} has {len(groups.labels)} levels; expected 2 to {MOST_LEVELS}, or edges where "
                "it is a number, as 'volume_ml:10'"
            )
        return groups.codes, groups.labels, f"column {column}"
    tier = tier_of(quality, cohort) if quality is not None else None
    if tier is None or tier.null_count() == len(tier):
        return np.full(len(cohort), -1), (), ""
    codes = np.asarray([-1 if t is None else int(t in ("2", "3")) for t in tier], dtype=np.int64)
    if len(np.unique(codes[codes >= 0])) < 2:
        return np.full(len(cohort), -1), (), ""
    return codes, ("easy", "hard"), "quality tiers of two ratings (arXiv 2511.00477, Table 1: 1 and 1.5, 2 and 3)"
