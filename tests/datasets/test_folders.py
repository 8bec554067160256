"""Pictures are found by their stem wherever they lie; codes that are none are named with their case."""

import polars as pl
import pytest
from PIL import Image

from medaudit import datasets as rooms
from medaudit.cohort import Cohort
from medaudit.datasets.folders import TONES, YES_NO, recoded, with_pictures
from medaudit.errors import DataError


def cohort_of(root, *ids):
    return Cohort("three", pl.DataFrame({"case_id": list(ids)}), root)


def draw(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3), (180, 120, 90)).save(path)


def test_a_picture_is_found_three_folders_deep_and_no_deeper(tmp_path):
    draw(tmp_path / "a.JPG")
    draw(tmp_path / "data/images/part_1/b.png")
    draw(tmp_path / "data/images/part_1/further/c.png")
    cohort = with_pictures(cohort := cohort_of(tmp_path, "a", "b", "c"), cohort.table["case_id"])
    assert cohort.table["image_path"].to_list() == ["a.JPG", "data/images/part_1/b.png", None]
    assert cohort.notes == ("1 of 3 cases have no picture in the folder; their path is empty.",)
    assert rooms.check(cohort) == ["image: 1 of 3 cases have no file, the first: c"]


def test_the_first_name_that_a_file_bears_is_taken(tmp_path):
    draw(tmp_path / "x.png")
    draw(tmp_path / "long_b.png")
    cohort = cohort_of(tmp_path, "a", "b")
    cohort = with_pictures(cohort, pl.Series(["x", "y"]), pl.Series(["long_a", "long_b"]))
    assert cohort.table["image_path"].to_list() == ["x.png", "long_b.png"]
    assert cohort.notes == ()


def test_of_two_places_the_one_in_the_fewest_folders_is_taken_and_said(tmp_path):
    draw(tmp_path / "a_small/deep/one.png")
    draw(tmp_path / "images/one.jpg")
    draw(tmp_path / "images/.two.png")
    cohort = with_pictures(cohort := cohort_of(tmp_path, "one", "two"), cohort.table["case_id"])
    assert cohort.table["image_path"].to_list() == ["images/one.jpg", None]
    assert "Pictures of 1 cases lie in the folder more than once" in cohort.notes[1]


def test_without_any_picture_there_is_no_role(tmp_path):
    cohort = with_pictures(cohort := cohort_of(tmp_path, "a"), cohort.table["case_id"])
    assert not cohort.roles
    assert "image_path" not in cohort.table.columns
    assert "no picture of any of the 1 cases" in cohort.notes[0]


def test_codes_become_their_meaning_whatever_type_the_table_gave_them(tmp_path):
    cases = pl.Series(["a", "b", "c"])
    assert recoded(pl.Series("tone", [1.0, None, -1.0]), cases, tmp_path, TONES).to_list() == [1, None, None]
    assert recoded(pl.Series("x", [True, False, None]), cases, tmp_path, YES_NO).to_list() == ["yes", "no", None]
    assert recoded(pl.Series("x", ["1.0", "No", "TRUE"]), cases, tmp_path, YES_NO).to_list() == ["yes", "no", "yes"]
    assert recoded(pl.Series("tone", [None] * 3, dtype=pl.Int64), cases, tmp_path, TONES).dtype == pl.Int64


@pytest.mark.parametrize("value", ["7", "2.5", "IV", "0"])
def test_a_code_that_is_none_is_named_with_its_case(tmp_path, value):
    with pytest.raises(
        DataError, match=rf"t\.csv: b: tone is '{value}'; expected one of 1, 2, 3, 4, 5, 6, -1, or noth"
    ):
        recoded(pl.Series("tone", ["1", value]), pl.Series(["a", "b"]), tmp_path / "t.csv", TONES)
