"""The rules that turn numbers into supported, refuted, insufficient."""

import math

import pytest

from medaudit.statistics import three_way


@pytest.mark.parametrize(
    ("p", "high", "smallest", "verdict"),
    [
        (0.01, 0.09, 100, "supported"),
        (0.01, 0.03, 100, "supported"),
        (0.40, 0.03, 100, "refuted"),
        (0.40, 0.09, 100, "insufficient"),
        (0.01, 0.09, 12, "insufficient"),
        (0.40, 0.03, 12, "insufficient"),
        (math.nan, math.nan, 100, "insufficient"),
    ],
)
def test_three_verdicts(p, high, smallest, verdict):
    assert three_way(p, high, 0.05, smallest_group=smallest).verdict == verdict


def test_not_significant_says_what_could_have_been_seen():
    assert "0.12" in three_way(0.4, 0.09, 0.05, detectable=0.12).reason


def test_a_significant_difference_inside_the_margin_is_called_small():
    assert "smaller than the margin" in three_way(0.01, 0.03, 0.05).reason
