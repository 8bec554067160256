"""FETAL_PLANES_DB: names with a trailing blank, classes that a mirror permutes, and what its planes are tied to."""

import polars as pl
import pytest
from PIL import Image

from medaudit import datasets as rooms
from medaudit.datasets import fetal_planes_db
from medaudit.errors import DataError

HEADER = "Image_name;Patient_num;Plane;Brain_plane;Operator;US_Machine;Train "
ROWS = (
    "Patient00001_Plane1_1_of_2;1;Other;Not A Brain;Other;Aloka;1",
    "Patient00001_Plane3_1_of_1;1;Fetal brain;Trans-thalamic;Op. 3;Aloka;1",
    "Patient00002_Plane3_1_of_2;2;Fetal brain;Other;Op. 1;Voluson E6;0",
    "Patient00002_Plane6_1_of_1;2;Fetal thorax;Not A Brain;Op. 1;Voluson E6;0",
)


def tree(root, rows=ROWS, header=HEADER):
    (root / "FETAL_PLANES_DB_data.csv").write_text("\n".join((header, *rows)))
    (root / "Images").mkdir()
    for row in rows:
        Image.new("L", (6, 4)).save(root / "Images" / f"{row.split(';')[0]}.png")
    return root


def test_names_are_stripped_and_the_brain_is_split(tmp_path):
    cohort = fetal_planes_db.load(tree(tmp_path))
    assert rooms.check(cohort) == []
    table = cohort.table
    assert table["plane"].to_list() == ["Other", "Fetal brain", "Fetal brain", "Fetal thorax"]
    assert table["brain_plane"].to_list() == [None, "Trans-thalamic", "Other", None]
    assert table["fine_plane"].to_list() == ["Other", "Trans-thalamic", None, "Fetal thorax"]
    assert table["split"].to_list() == ["train", "train", "test", "test"]
    assert table["device"].to_list() == ["Aloka", "Aloka", "Voluson E6", "Voluson E6"]
    assert cohort.clusters.to_list() == ["1", "1", "2", "2"]
    assert "4 of the 12,400 published rows" in " ".join(cohort.notes)


def test_rows_without_images_have_no_role(tmp_path):
    folder = tree(tmp_path)
    (folder / "Images").rename(folder / "elsewhere")
    assert not fetal_planes_db.load(folder).roles


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("Patient00003_Plane5_1_of_1;3;Fetal thorax;Not A Brain;Other;Aloka;1", "its name says 'Fetal femur'"),
        ("Patient00003_Plane5_1_of_1;4;Fetal femur;Not A Brain;Other;Aloka;1", "Patient_num 4; its name disagrees"),
        ("image3;3;Fetal femur;Not A Brain;Other;Aloka;1", "'image3' is not named as"),
        ("Patient00003_Plane5_1_of_1;3;Fetal femur;Not A Brain;Other;Aloka;2", "Train is '2'; expected 1 or 0"),
    ],
)
def test_a_row_that_contradicts_its_name_is_said(tmp_path, row, why):
    with pytest.raises(DataError, match=why):
        fetal_planes_db.load(tree(tmp_path, rows=(*ROWS, row)))


def test_another_folder_or_table_is_said(tmp_path):
    with pytest.raises(DataError, match="expected the folder of FETAL_PLANES_DB"):
        fetal_planes_db.load(tmp_path)
    with pytest.raises(DataError, match="no column 'US_Machine'"):
        fetal_planes_db.load(tree(tmp_path, header=HEADER.replace("US_Machine", "Machine")))


def published(swap=()):
    """Return 12,400 rows with the printed counts, as the CSV has them; ``swap`` exchanges two planes' names."""
    number = {plane: key for key, plane in fetal_planes_db.NUMBERS.items()}
    rows = []
    for plane, counts in fetal_planes_db.PUBLISHED.items():
        said = dict((swap, swap[::-1])).get(plane, plane) if swap else plane
        for machine, n in zip(fetal_planes_db.MACHINES, counts, strict=True):
            for _ in range(n):
                i = len(rows) + 1
                brain = "Trans-thalamic" if said == "Fetal brain" else "Not A Brain"
                rows.append(f"Patient{i:05d}_Plane{number[plane]}_1_of_1;{i};{said};{brain};Other;{machine};1")
    return rows


def write(root, rows):
    (root / "FETAL_PLANES_DB_data.csv").write_text("\n".join((HEADER, *rows)))
    return root


def test_the_published_table_is_taken_and_its_sums_are_the_stated_ones(tmp_path):
    cohort = fetal_planes_db.load(write(tmp_path, published()))
    counts = dict(cohort.table["plane"].value_counts().iter_rows())
    # The totals that the dataset's page and paper state (Burgos-Artizzu et al. 2020).
    assert counts == {
        "Fetal abdomen": 711, "Fetal brain": 3092, "Fetal femur": 1040,
        "Fetal thorax": 1718, "Maternal cervix": 1626, "Other": 4213,
    }  # fmt: skip
    assert dict(cohort.table["device"].value_counts().iter_rows()) == {
        "Voluson E6": 5862, "Aloka": 5114, "Voluson S10": 1082, "Other": 342,
    }  # fmt: skip


def test_permuted_classes_are_named(tmp_path):
    swapped = published(("Fetal femur", "Fetal thorax"))
    with pytest.raises(DataError, match=r"Fetal femur has the 1718 images of Fetal thorax .*permuted"):
        fetal_planes_db.load(write(tmp_path, swapped))


def test_one_image_counted_to_another_machine_is_named(tmp_path):
    rows = published()
    rows[0] = rows[0].replace("Voluson E6", "Aloka")
    with pytest.raises(DataError, match="365 images of Fetal abdomen by Voluson E6; expected the published 366"):
        fetal_planes_db.load(write(tmp_path, rows))


@pytest.mark.realdata
def test_the_real_rows_have_the_published_counts_and_errata(public_data):
    cohort = fetal_planes_db.load(public_data / "fetal_planes_db")
    assert len(cohort) == 12_400
    assert cohort.clusters.n_unique() == 1792
    assert not cohort.roles
    by_split = dict(cohort.table["split"].value_counts().iter_rows())
    assert by_split == {"train": 5804, "val": 1325, "test": 5271}
    assert cohort.table["fine_plane"].n_unique() - 1 == 8
    assert cohort.table["fine_plane"].null_count() == 143
    notes = " ".join(cohort.notes)
    for note in (
        "up to 88 of one patient",
        "6 patients were seen by more than one machine",
        "(Op. 1 Voluson E6, Op. 2 Voluson E6, Op. 3 Aloka)",
        "73% of the 'Other' planes are Aloka",
    ):
        assert note in notes
    assert "more than one split" not in notes


@pytest.mark.realdata
def test_a_part_of_the_real_rows_with_two_classes_exchanged_is_refused(public_data, tmp_path):
    table = pl.read_csv(public_data / "fetal_planes_db" / "val_split.csv")
    mirror = table.with_columns(
        pl.col("Plane").replace({"Fetal femur": "Maternal cervix", "Maternal cervix": "Fetal femur"})
    )
    mirror.write_csv(tmp_path / "val_split.csv")
    with pytest.raises(DataError, match="the classes are permuted"):
        fetal_planes_db.load(tmp_path)
