"""Quality tiers follow Table 1 of arXiv 2511.00477, in its order."""

import numpy as np
import polars as pl
import pytest

from medaudit.audits.labels.quality import tiers


@pytest.mark.parametrize(
    ("first", "second", "dice", "hd95", "tier"),
    [
        ("Good", "Good", 0.80, 10.0, "1"),
        ("Good", "Good", 0.79, 1.0, "1.5"),
        ("Good", "Good", 0.95, 10.1, "1.5"),
        ("Poor", "Poor", 0.99, 0.0, "3"),
        ("Missed", "Missed", 0.0, 99.0, "3"),
        ("Good", "Acceptable", 0.99, 0.0, "2"),
        ("Acceptable", "Acceptable", 0.9, 1.0, "2"),
        ("Good", "Poor", 0.9, 1.0, "2"),
        ("Poor", "Missed", 0.1, 50.0, "2"),
        (" good ", "GOOD", 0.9, 1.0, "1"),
        (None, "Good", 0.9, 1.0, None),
        ("Good", "splendid", 0.9, 1.0, None),
        ("Good", "Good", np.nan, 1.0, None),
    ],
)
def test_the_tier_is_that_of_the_table(first, second, dice, hd95, tier):
    pair = (pl.Series([first], dtype=pl.String), pl.Series([second], dtype=pl.String))
    assert tiers(*pair, np.array([dice]), np.array([hd95])).to_list() == [tier]
