"""Numbers are written as a careful author writes them."""

import math

import pytest

from medaudit.report import numerals


@pytest.mark.parametrize(
    ("value", "low", "high", "unit", "written"),
    [
        (0.05302, 0.0211, 0.0849, "", "0.053 (0.021 to 0.085)"),
        (0.002014, 0.00102, 0.00301, "per year", "0.00201 (0.00102 to 0.00301) per year"),
        (37.41, 12.2, 62.6, "mm", "37 (12 to 63) mm"),
        (4.125, 3.05, 5.2, "mm", "4.1 (3.0 to 5.2) mm"),
        (-0.053, -0.0849, -0.0211, "", "−0.053 (−0.085 to −0.021)"),
        (0.5, math.nan, math.nan, "", "0.500"),
        (math.inf, 3.0, math.inf, "mm", "∞ (3.00 to ∞) mm"),
        (1503.0, 1200.0, 1800.0, "ml", "1,503 (1,200 to 1,800) ml"),
        (0.8, 0.8, 0.8, "", "0.800 (0.800 to 0.800)"),
    ],
)
def test_an_interval_decides_how_many_digits_are_shown(value, low, high, unit, written):
    assert numerals.with_interval(value, low, high, unit).replace("\N{NO-BREAK SPACE}", " ") == written


@pytest.mark.parametrize(
    ("p", "written"),
    [(0.0, "p < 0.001"), (0.00099, "p < 0.001"), (0.001, "p = 0.001"), (0.0264, "p = 0.026"), (0.0996, "p = 0.10"),
     (0.412, "p = 0.41"), (1.0, "p = 1.00"), (math.nan, "–")],
)  # fmt: skip
def test_a_p_value_is_never_zero(p, written):
    assert numerals.p_value(p) == written


def test_a_negative_number_that_rounds_to_zero_has_no_sign():
    assert numerals.number(-0.0004, 3) == "0.000"
    assert numerals.number(-0.0, 2) == "0.00"


def test_counts_and_shares():
    assert numerals.sample(1503) == "n = 1,503"
    assert numerals.sample(1503, "cases") == "n = 1,503 cases"
    assert numerals.percent(0.1234) == "12.3\N{NO-BREAK SPACE}%"


def test_what_is_not_known_is_not_a_number_and_has_no_unit():
    assert numerals.with_unit(math.nan, "mm") == "–"
    assert numerals.interval(math.nan, 1.0, "mm") == "–"
