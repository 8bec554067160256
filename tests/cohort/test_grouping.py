"""Grouping: edges own what they say, unknown is kept apart, and mistakes are named."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from medaudit.cohort import Cohort, Grouping
from medaudit.errors import DataError, UsageError


def cohort(**columns):
    n = len(next(iter(columns.values())))
    return Cohort("cases.csv", pl.DataFrame({"case_id": [f"c{i}" for i in range(n)], **columns}), Path())


def test_an_edge_belongs_to_the_group_below_it_unless_left_is_said():
    people = cohort(age=[39, 40, 41, 55, 56, None])
    right = Grouping.parse("age:40,55").apply(people)
    assert right.labels == ("<=40", "(40, 55]", ">55")
    assert right.codes.tolist() == [0, 0, 1, 1, 2, -1]
    left = Grouping.parse("age:40,55:left").apply(people)
    assert left.labels == ("<40", "[40, 55)", ">=55")
    assert left.codes.tolist() == [0, 1, 1, 2, 2, -1]


def test_every_age_falls_in_the_bin_that_pandas_cut_gives():
    import pandas as pd

    ages = np.random.default_rng(0).integers(20, 90, 500)
    ours = Grouping.parse("age:40,55,70").apply(cohort(age=ages)).codes
    theirs = pd.cut(ages, [-np.inf, 40, 55, 70, np.inf], labels=False)
    assert ours.tolist() == theirs.tolist()


def test_spellings_of_unknown_are_one_group_apart():
    people = cohort(ethnicity=["asian", " asian", "Unknown", "not available", "", None, "black", "n/a"])
    groups = Grouping.parse("ethnicity").apply(people)
    assert groups.counts == {"asian": 2, "black": 1}
    assert groups.unknown == 5


def test_numbers_written_as_text_are_cut_and_unknown_ones_are_kept_apart():
    groups = Grouping.parse("age:50").apply(cohort(age=["41", " 62 ", "not available", "50.0"]))
    assert groups.codes.tolist() == [0, 1, -1, 0]
    np.testing.assert_array_equal(groups.values, [41, 62, np.nan, 50])


def test_an_age_with_a_letter_names_the_case():
    with pytest.raises(DataError, match=r"case c1 \(row 2\): age is '41y'; expected a number"):
        Grouping.parse("age:40,55").apply(cohort(age=["38", "41y", "60"]))


def test_a_crossing_holds_only_cells_that_exist():
    people = cohort(age=[30, 60, 60, 30], source=["A", "A", "B", None])
    groups = Grouping.parse("age:50*source").apply(people)
    assert groups.name == "age*source"
    assert groups.counts == {"<=50 × A": 1, ">50 × A": 1, ">50 × B": 1}
    assert groups.unknown == 1


def test_an_unknown_column_is_a_mistake_of_the_call_and_the_nearest_is_offered():
    with pytest.raises(UsageError, match="no column 'agee'; did you mean 'age'"):
        Grouping.parse("agee:40").apply(cohort(age=[1]))


@pytest.mark.parametrize(
    "text", ["age:55,40", "age:40,40", "age:forty", "age:40:50", "", ":40", "age:40,nan", "age:40:up"]
)
def test_a_grouping_that_cannot_be_read_says_what_is_expected(text):
    with pytest.raises(UsageError, match="cannot read the grouping"):
        Grouping.parse(text)


def test_a_number_without_edges_and_many_values_asks_for_edges():
    with pytest.raises(UsageError, match="cut a number at edges"):
        Grouping.parse("age").apply(cohort(age=list(range(100))))


def test_groups_are_in_the_order_a_reader_expects():
    groups = Grouping.parse("trimester").apply(cohort(trimester=["third", "first", "second"]))
    assert groups.labels == ("first", "second", "third")
    assert Grouping.parse("n").apply(cohort(n=[10, 9, 2])).labels == ("2", "9", "10")


def test_the_printed_rule_reads_back_as_itself():
    for text in ("age:40,55", "age:40,55:left", "ethnicity", "age:55*source"):
        assert str(Grouping.parse(text)) == text
