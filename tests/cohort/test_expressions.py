"""An expression picks the rows that polars' own filter picks, knows what it does not know, and is never code."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from medaudit.cohort import Cohort
from medaudit.cohort.expression import columns_of, matches
from medaudit.errors import DataError, UsageError

TABLE = pl.DataFrame(
    {
        "case_id": [f"c{i}" for i in range(8)],
        "device": ["A", "B", "D", None, "D", "unknown", "A", "C"],
        "weeks": [18.0, 24.5, None, 30.0, 22.0, 19.0, 36.0, 28.0],
        "visit": [1, 2, 1, 2, 1, 2, 1, 2],
        "grade": ["1", "2", "3", "n/a", "5", "6", "7", "8"],
    }
)
COHORT = Cohort("table", TABLE, Path("."))


@pytest.mark.parametrize(
    ("expression", "by_polars"),
    [
        ('device == "D"', pl.col("device") == "D"),
        ("device != 'D'", (pl.col("device") != "D") & (pl.col("device") != "unknown")),
        ("weeks < 24", pl.col("weeks") < 24),
        ("24 < weeks <= 30", (pl.col("weeks") > 24) & (pl.col("weeks") <= 30)),
        ("visit == 2", pl.col("visit") == 2),
        ("grade >= 5", pl.col("grade").cast(pl.Int64, strict=False) >= 5),
        ('device in ("A", "C")', pl.col("device").is_in(["A", "C"])),
        ('device not in ["A"]', ~pl.col("device").is_in(["A", "unknown"])),
        ('device == "A" and weeks > 20', (pl.col("device") == "A") & (pl.col("weeks") > 20)),
        ('device == "D" or weeks >= 28', (pl.col("device") == "D") | (pl.col("weeks") >= 28)),
        ('not (device == "A")', (pl.col("device") != "A") & (pl.col("device") != "unknown")),
        ("weeks > -1", pl.col("weeks") > -1),
    ],
)
def test_picks_what_polars_picks(expression: str, by_polars: pl.Expr) -> None:
    true, _ = matches(COHORT, expression)
    wanted = TABLE.select(by_polars.fill_null(False)).to_series().to_numpy()
    assert wanted.any()
    np.testing.assert_array_equal(true, wanted)


def test_what_is_unknown_is_neither_in_nor_out() -> None:
    true, known = matches(COHORT, 'device == "D" or weeks >= 28')
    # Case 2 has no weeks but is D; case 3 has no device but enough weeks; case 5's device is unknown and weeks are few.
    assert known.tolist() == [True, True, True, True, True, False, True, True]
    assert true[2]
    assert true[3]
    _, known = matches(COHORT, 'not (device == "D" and weeks >= 28)')
    assert not known[2]


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('true') == 0",
        "device",
        "device = 'D'",
        "device == weeks + 1",
        "",
        "device in 'ABC'",
        "(lambda: 1)() == 1",
        "device is None",
        "[x for x in y]",
        'device == -"D"',
        "weeks < -True",
        "weeks < -None",
        "weeks < -1j",
        "device in ('A', -b'')",
    ],
)
def test_anything_else_is_refused_in_one_line(expression: str) -> None:
    with pytest.raises(UsageError) as refused:
        matches(COHORT, expression)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("device == D", "quotes"),
        ("devise == 'D'", "did you mean 'device'"),
        ("weeks < 'late'", "expected a number"),
    ],
)
def test_says_how_to_mend_it(expression: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        matches(COHORT, expression)


def test_a_text_where_a_number_is_asked_for() -> None:
    with pytest.raises(DataError, match="case c0"):
        matches(COHORT, "device < 3")


def test_columns_in_order() -> None:
    assert columns_of('weeks > 3 and device == "D" or weeks < 1') == ("weeks", "device")
    assert columns_of("((") == ()
