"""Cohort: a row a case, files by role, and one line for what is wrong."""

from pathlib import Path

import polars as pl
import pytest

from medaudit.cohort import EMPTY, Cohort, Role
from medaudit.errors import DataError, UsageError


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_template_is_relative_to_the_tables_folder(tmp_path):
    table = write(tmp_path / "cases.csv", "case_id,patient_id\n007_a,007\n008_a,008\n")
    cohort = Cohort.read(table, roles={"labels": "../masks/{patient_id}/{case_id}.png"})
    assert [case.files["labels"] for case in cohort.cases()] == [
        tmp_path / "../masks/007/007_a.png",
        tmp_path / "../masks/008/008_a.png",
    ]


def test_a_role_can_be_a_column_with_absolute_relative_empty_and_missing_paths(tmp_path):
    table = write(tmp_path / "cases.csv", f"case_id,m\na,/x/a.png\nb,b.png\nc,{EMPTY}\nd,\n")
    cohort = Cohort.read(table, roles={"reference": "m"})
    assert [case.files["reference"] for case in cohort.cases()] == [
        Path("/x/a.png"),
        tmp_path / "b.png",
        Path(EMPTY),
        None,
    ]


def test_a_patient_id_that_is_unique_serves_as_case_id(tmp_path):
    cohort = Cohort.read(write(tmp_path / "t.csv", "patient_id,age\np1,40\np2,50\n"))
    assert cohort.case_ids == ["p1", "p2"]


def test_the_cluster_column_may_have_another_name(tmp_path):
    cohort = Cohort.read(write(tmp_path / "t.csv", "case_id,woman\n1a,1\n1b,1\n2a,2\n"), patient_id="woman")
    assert cohort.clusters.to_list() == ["1", "1", "2"]


def test_a_case_without_a_patient_is_its_own_cluster():
    table = pl.DataFrame({"case_id": ["a", "b"], "patient_id": ["p", None]})
    assert Cohort("t", table, Path()).clusters.to_list() == ["p", "b"]


def test_a_case_id_in_two_rows_is_named(tmp_path):
    with pytest.raises(DataError, match="case_id 'b' stands in more than one row"):
        Cohort.read(write(tmp_path / "t.csv", "case_id\na\nb\nb\n"))


def test_a_table_with_headings_only_has_no_cases(tmp_path):
    with pytest.raises(DataError, match="0 cases"):
        Cohort.read(write(tmp_path / "t.csv", "case_id,age\n"))


def test_a_missing_case_id_is_named_by_its_row(tmp_path):
    with pytest.raises(DataError, match="case_id is missing in row 2"):
        Cohort.read(write(tmp_path / "t.csv", "case_id,age\na,1\n,2\n"))


def test_a_template_with_an_unknown_column_is_a_mistake_of_the_call(tmp_path):
    table = write(tmp_path / "cases.csv", "case_id\na\n")
    with pytest.raises(UsageError, match="no column 'patient'"):
        Cohort.read(table, roles={"labels": "{patient}.png"})
    with pytest.raises(UsageError, match="a path template has a column in braces"):
        Cohort.read(table, roles={"labels": "auto_path"})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.8, (0.8,)),
        ("0.8;0.8;1.1", (0.8, 0.8, 1.1)),
        ("[0.5, 0.7]", (0.5, 0.7)),
        ([1.0, 2.0], (1.0, 2.0)),
        (None, None),
    ],
)
def test_spacing_is_read_from_a_number_a_text_or_a_list(value, expected):
    table = pl.DataFrame({"case_id": ["a"], "spacing_mm": [value]})
    assert next(Cohort("t", table, Path()).cases()).spacing_mm == expected


@pytest.mark.parametrize("value", ["0.8mm", "0", "-1;1", "inf"])
def test_a_spacing_that_is_no_positive_number_names_the_case(value):
    table = pl.DataFrame({"case_id": ["a7"], "spacing_mm": [value]})
    with pytest.raises(DataError, match="case a7: spacing_mm is"):
        next(Cohort("t", table, Path()).cases())


def test_how_a_role_is_read_travels_with_it(tmp_path):
    table = write(tmp_path / "cases.csv", "case_id\na\n")
    cohort = Cohort.read(table, roles={"reference": Role("{case_id}.png", fill=True, label=3)})
    assert (cohort.roles["reference"].fill, cohort.roles["reference"].label) == (True, 3)
