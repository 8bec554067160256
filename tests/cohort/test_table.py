"""Reading tables: what other programs write comes in as it was meant, and what is broken is said in one line."""

import datetime
import subprocess
import sys
from pathlib import Path

import pandas as pd
import polars as pl
import pytest
import xlsxwriter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medaudit.cohort import Cohort, Grouping, read_table
from medaudit.errors import DataError


def write(path: Path, text: str | bytes, encoding: str = "utf-8") -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return path


def said(path: Path, **options) -> str:
    with pytest.raises(DataError) as caught:
        read_table(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_what_pandas_writes_is_what_is_read_back(tmp_path):
    people = pd.DataFrame(
        {"case_id": ["a", "b"], "age": [41, 62], "dice": [0.5, float("inf")], "text": ["x, y", 'a "b"']}
    )
    people.to_csv(tmp_path / "t.csv", index=False)
    people.to_csv(tmp_path / "t.tsv", index=False, sep="\t")
    people.to_csv(tmp_path / "t.txt", index=False, sep="|")
    pl.DataFrame(people.to_dict(orient="list")).write_parquet(tmp_path / "t.parquet")
    for name in ("t.csv", "t.tsv", "t.txt", "t.parquet"):
        table = read_table(tmp_path / name)
        assert table.to_dict(as_series=False) == people.to_dict(orient="list"), name


def test_a_workbook_gives_whole_numbers_as_integers_and_words_as_words(tmp_path):
    people = pd.DataFrame({"case_id": ["001", "002"], "n": [1, 2], "age": [41.5, None], "mixed": [57, "not known"]})
    people.to_excel(tmp_path / "t.xlsx", index=False)
    table = read_table(tmp_path / "t.xlsx")
    assert table["case_id"].to_list() == ["001", "002"]
    assert table["n"].to_list() == [1, 2]
    assert table["n"].dtype == pl.Int64
    assert table["age"].to_list() == [41.5, None]
    assert table["mixed"].to_list() == ["57", "not known"]


def test_a_word_far_down_a_column_of_numbers_is_not_lost(tmp_path):
    ages = [40] * 3000 + ["41y"]
    pd.DataFrame({"case_id": [f"c{i}" for i in range(3001)], "age": ages}).to_excel(tmp_path / "t.xlsx", index=False)
    pd.DataFrame({"case_id": [f"c{i}" for i in range(3001)], "age": ages}).to_csv(tmp_path / "t.csv", index=False)
    for name in ("t.xlsx", "t.csv"):
        assert read_table(tmp_path / name)["age"][-1] == "41y"
        with pytest.raises(DataError, match=r"case c3000 .*age is '41y'; expected a number"):
            Grouping.parse("age:40,55").apply(Cohort.read(tmp_path / name))


def test_the_first_sheet_is_read_unless_one_is_named(tmp_path):
    with pd.ExcelWriter(tmp_path / "t.xlsx") as book:
        pd.DataFrame({"a": [1]}).to_excel(book, sheet_name="one", index=False)
        pd.DataFrame({"b": [2]}).to_excel(book, sheet_name="two", index=False)
    assert read_table(tmp_path / "t.xlsx").columns == ["a"]
    assert read_table(tmp_path / "t.xlsx", sheet="two").columns == ["b"]
    assert "it has: one, two" in said(tmp_path / "t.xlsx", sheet="three")


def test_leading_zeros_keep_an_id_text(tmp_path):
    table = read_table(write(tmp_path / "t.csv", "case_id,image,n,x\n001,010,10,0.5\n2,11,11,-.25\n"))
    assert table["case_id"].to_list() == ["001", "2"]
    assert table["image"].to_list() == ["010", "11"]
    assert table["n"].to_list() == [10, 11]
    assert table["x"].to_list() == [0.5, -0.25]


def test_an_id_that_looks_like_a_float_stays_as_it_is_written(tmp_path):
    table = read_table(
        write(tmp_path / "t.csv", "patient_id,SeriesID,accession\n1.10,1e5,123456789012345678901\n1.2,2,3\n")
    )
    assert table["patient_id"].to_list() == ["1.10", "1.2"]
    assert table["SeriesID"].to_list() == ["1e5", "2"]
    assert table["accession"].to_list() == ["123456789012345678901", "3"]


def test_missing_numbers_are_null_and_words_for_unknown_stay_in_text(tmp_path):
    table = read_table(write(tmp_path / "t.csv", "case_id,age,race\na,41,asian\nb,NA,unknown\nc,,\nd,nan,black\n"))
    assert table["age"].to_list() == [41, None, None, None]
    assert table["race"].to_list() == ["asian", "unknown", None, "black"]


@pytest.mark.parametrize("text", ["1.", ".5", "+.5e3", "-1E-3", "1e400", "Inf", "-Infinity", "+7", "-0", "0.10"])
def test_a_number_in_any_spelling_is_the_number_that_python_reads(tmp_path, text):
    table = read_table(write(tmp_path / "t.csv", f"case_id,x\na,{text}\nb,0.5\n"))
    assert table["x"].to_list() == [float(text), 0.5]


def test_only_a_column_named_as_an_id_is_one(tmp_path):
    table = read_table(write(tmp_path / "t.csv", "lipid,Id,caseID,covid\n1.10,1.10,1.10,1.10\n"))
    assert table.row(0) == (1.1, "1.10", "1.10", 1.1)


def test_true_and_false_are_read_in_any_case(tmp_path):
    table = read_table(write(tmp_path / "t.csv", "case_id,a,b\n1,TRUE,true\n2,False,maybe\n3,,\n"))
    assert table["a"].to_list() == [True, False, None]
    assert table["b"].to_list() == ["true", "maybe", None]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16"])
def test_umlauts_survive_whatever_the_encoding(tmp_path, encoding):
    table = read_table(write(tmp_path / "t.csv", "case_id,site\na,Zürich\n", encoding))
    assert table.columns == ["case_id", "site"]
    assert table["site"].to_list() == ["Zürich"]


def test_a_european_table_has_semicolons_and_decimal_commas(tmp_path):
    table = read_table(write(tmp_path / "t.csv", "case_id;dice;n;pair\r\na;0,85;3;1,2,3\r\nb;1;4;4\r\n"))
    assert table["dice"].to_list() == [0.85, 1.0]
    assert table["n"].to_list() == [3, 4]
    assert table["pair"].to_list() == ["1,2,3", "4"]


def test_blanks_around_headings_and_values_are_dropped(tmp_path):
    table = read_table(write(tmp_path / "t.csv", " case_id ,scanner \na , Skyra \n\n,\nb,\xa0Avanto\n"))
    assert table.to_dict(as_series=False) == {"case_id": ["a", "b"], "scanner": ["Skyra", "Avanto"]}
    with xlsxwriter.Workbook(tmp_path / "t.xlsx") as book:
        sheet = book.add_worksheet()
        for row, cells in enumerate([["case_id ", "scanner"], ["a", "Skyra "]]):
            sheet.write_row(row, 0, cells)
    assert read_table(tmp_path / "t.xlsx").to_dict(as_series=False) == {"case_id": ["a"], "scanner": ["Skyra"]}


def test_a_column_of_row_numbers_without_a_heading_gets_a_name(tmp_path):
    pd.DataFrame({"case_id": ["a", "b"]}).to_csv(tmp_path / "t.csv")
    assert read_table(tmp_path / "t.csv").columns == ["column_1", "case_id"]


def test_empty_columns_that_a_spreadsheet_appends_are_dropped(tmp_path):
    assert read_table(write(tmp_path / "t.csv", "case_id,age,,\na,41,,\nb,42,,\n")).columns == ["case_id", "age"]


def test_a_date_in_a_workbook_is_a_date(tmp_path):
    with xlsxwriter.Workbook(tmp_path / "t.xlsx") as book:
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, ["case_id", "day"])
        sheet.write(1, 0, "a")
        sheet.write_datetime(1, 1, datetime.datetime(2020, 1, 2), book.add_format({"num_format": "yyyy-mm-dd"}))
    assert str(read_table(tmp_path / "t.xlsx")["day"][0]).startswith("2020-01-02")


def test_a_missing_file_is_said(tmp_path):
    assert "no such file" in said(tmp_path / "no.csv")


def test_a_folder_is_not_a_table(tmp_path):
    (tmp_path / "d.csv").mkdir()
    assert "is a folder" in said(tmp_path / "d.csv")


@pytest.mark.parametrize("name", ["t.csv", "t.xlsx", "t.parquet", "t.tsv"])
def test_an_empty_file_is_said(tmp_path, name):
    assert "is empty" in said(write(tmp_path / name, ""))


def test_a_text_file_of_blank_lines_is_empty(tmp_path):
    assert "is empty" in said(write(tmp_path / "t.csv", "\n \n\n"))


def test_an_empty_sheet_is_said(tmp_path):
    with xlsxwriter.Workbook(tmp_path / "t.xlsx") as book:
        book.add_worksheet("leer")
    assert "sheet 'leer' is empty" in said(tmp_path / "t.xlsx")


@pytest.mark.parametrize("name", ["t.xlsx", "t.parquet"])
def test_a_broken_file_is_said_in_one_line(tmp_path, name):
    assert "cannot be read" in said(write(tmp_path / name, b"PK\x03\x04 this is no workbook \xff\x00"))


def test_a_truncated_workbook_is_said_in_one_line(tmp_path):
    pd.DataFrame({"case_id": range(500)}).to_excel(tmp_path / "t.xlsx", index=False)
    whole = (tmp_path / "t.xlsx").read_bytes()
    assert "cannot be read" in said(write(tmp_path / "t.xlsx", whole[: len(whole) // 2]))


def test_an_unknown_kind_of_table_is_said(tmp_path):
    assert "expected .csv" in said(write(tmp_path / "t.docx", "x"))


@pytest.mark.parametrize("text", ["a,b,a\n1,2,3\n", "a,b,a \n1,2,3\n"])
def test_two_columns_of_one_name_are_said(tmp_path, text):
    assert "two columns are called 'a'" in said(write(tmp_path / "t.csv", text))


def test_two_columns_of_one_name_in_a_workbook_are_said(tmp_path):
    with xlsxwriter.Workbook(tmp_path / "t.xlsx") as book:
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, ["age", "age"])
        sheet.write_row(1, 0, [1, 2])
    assert "two columns are called 'age'" in said(tmp_path / "t.xlsx")


@pytest.mark.parametrize("row", ["b", "b,2,3"])
def test_a_row_that_is_too_short_or_too_long_is_named_by_its_line(tmp_path, row):
    assert "line 3 has" in said(write(tmp_path / "t.csv", f"case_id,age\na,1\n{row}\n"))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.binary(max_size=300), suffix=st.sampled_from([".csv", ".tsv", ".txt", ".xlsx", ".xls", ".parquet"]))
def test_any_bytes_are_a_table_or_one_line_of_complaint(tmp_path, raw, suffix):
    path = write(tmp_path / f"t{suffix}", raw)
    complaint = ""
    try:
        read_table(path)
    except DataError as error:
        complaint = str(error)
    assert "\n" not in complaint


def test_a_column_without_values_is_read_without_a_word(tmp_path):
    pd.DataFrame({"case_id": ["a", "b"], "nothing": [None, None]}).to_excel(tmp_path / "t.xlsx", index=False)
    read = f"from medaudit.cohort import read_table; print(read_table({str(tmp_path / 't.xlsx')!r}).height)"
    run = subprocess.run([sys.executable, "-c", read], capture_output=True, text=True, check=True)
    assert (run.stdout, run.stderr) == ("2\n", "")
