"""ISIC: HAM10000's table and the table of artefacts, alone or joined by the image's name."""

import pytest
from PIL import Image

from medaudit import datasets
from medaudit.datasets.isic import ARTEFACTS
from medaudit.errors import DataError

CLINICAL = "lesion_id,image_id,dx,dx_type,age,sex,localization"
LESIONS = (
    "HAM_0000118,ISIC_0027419,bkl,histo,80.0,male,scalp",
    "HAM_0000118,ISIC_0025030,bkl,histo,80.0,male,unknown",
    "HAM_0002730,ISIC_0026769,mel,histo,,unknown,ear",
)
BIAS = f";image;{';'.join(ARTEFACTS)};label;label_string"
MARKS = ("0;ISIC_0000004.png;1;1;0;1;1;0;0;1;malignant", "1;ISIC_0026769.png;0;0;1;0;0;1;1;0;benign")


def clinical(root, rows=LESIONS, header=CLINICAL, name="metadata.csv"):
    (root / name).write_text("\n".join((header, *rows)) + "\n")
    return root


def artefacts(root, rows=MARKS, header=BIAS):
    (root / "isic_bias.csv").write_text("\n".join((header, *rows)) + "\n")
    return root


@pytest.mark.parametrize("name", ["metadata.csv", "HAM10000_metadata.csv"])
def test_ham10000_alone_has_the_lesion_as_cluster(tmp_path, name):
    cohort = datasets.load("isic", clinical(tmp_path, name=name))
    assert cohort.clusters.to_list() == ["HAM_0000118", "HAM_0000118", "HAM_0002730"]
    assert cohort.table["sex"].to_list() == ["male", "male", None]
    assert cohort.table["localization"].to_list() == ["scalp", None, "ear"]
    assert cohort.table["age"].to_list() == [80.0, 80.0, None]
    assert "ruler" not in cohort.table.columns
    assert "3 images of 2 lesions" in " ".join(cohort.notes)


@pytest.mark.parametrize("ending", [".png", ".jpg", ""])
def test_artefacts_alone_are_yes_or_no_whatever_ending_the_names_have(tmp_path, ending):
    cohort = datasets.load("isic", artefacts(tmp_path, [row.replace(".png", ending) for row in MARKS]))
    assert cohort.case_ids == ["ISIC_0000004", "ISIC_0026769"]
    assert cohort.clusters.to_list() == cohort.case_ids
    first = dict(zip(ARTEFACTS, ("yes", "yes", "no", "yes", "yes", "no", "no"), strict=True))
    assert cohort.table.row(0, named=True) == {"case_id": "ISIC_0000004", **first, "malignant": "yes"}
    notes = " ".join(cohort.notes)
    assert "dark_corner 1, hair 1, gel_border 1, gel_bubble 1, ruler 1, ink 1, patches 1" in notes
    assert "states no licence" in notes


def test_both_tables_are_joined_and_what_one_lacks_is_null(tmp_path):
    cohort = datasets.load("isic", artefacts(clinical(tmp_path)))
    assert cohort.case_ids == ["ISIC_0027419", "ISIC_0025030", "ISIC_0026769", "ISIC_0000004"]
    assert cohort.clusters.to_list() == ["HAM_0000118", "HAM_0000118", "HAM_0002730", "ISIC_0000004"]
    assert cohort.table["ink"].to_list() == [None, None, "yes", "no"]
    assert cohort.table["dx"].to_list() == ["bkl", "bkl", "mel", None]
    assert cohort.table["malignant"].to_list() == [None, None, "no", "yes"]
    notes = " ".join(cohort.notes)
    assert "1 images are in both tables" in notes
    assert "3 images of 2 lesions" in notes
    assert "Artefacts of 2 images, 1 malignant" in notes


def test_images_lie_in_the_folders_that_the_archives_unpack_to(tmp_path):
    artefacts(clinical(tmp_path))
    for name in ("HAM10000_images_part_1/ISIC_0027419", "part_2/ISIC_0025030", "ISIC_0026769", "input/ISIC_0000004"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 3)).save(tmp_path / f"{name}.jpg")
    # Of ISIC 2018's task 1/2: no dermoscopy.
    Image.new("L", (4, 3)).save(tmp_path / "input/ISIC_0000004_superpixels.png")
    cohort = datasets.load("isic", tmp_path)
    assert datasets.check(cohort) == []
    assert [case.files["image"].name for case in cohort.cases()] == [f"{case_id}.jpg" for case_id in cohort.case_ids]


def test_a_folder_of_something_else_is_said(tmp_path):
    with pytest.raises(DataError, match=r"metadata\.csv: not found; expected HAM10000's metadata\.csv, or isic_bias"):
        datasets.load("isic", tmp_path)
    with pytest.raises(DataError, match="has no column 'lesion_id'; is it HAM10000's table"):
        datasets.load("isic", clinical(tmp_path, header=CLINICAL.replace("lesion_id", "isic_id")))
    (tmp_path / "metadata.csv").unlink()
    with pytest.raises(DataError, match=r"isic_bias\.csv: has no column 'ruler'; is it Bissoto"):
        datasets.load("isic", artefacts(tmp_path, header=BIAS.replace("ruler", "rule")))
    with pytest.raises(DataError, match=r"isic_bias\.csv: ISIC_0000004: ink is '2'; expected one of 1, true"):
        datasets.load("isic", artefacts(tmp_path, [MARKS[0].replace("1;0;0;1;mal", "1;2;0;1;mal")]))
    with pytest.raises(DataError, match=r"ISIC_0000004 stands in more than one row"):
        datasets.load("isic", artefacts(tmp_path, [MARKS[0], MARKS[0].replace(".png", ".jpg")]))


@pytest.mark.realdata
def test_the_real_ham10000_has_its_published_counts(public_data):
    cohort = datasets.load("isic", public_data / "ham10000")
    assert len(cohort) == 10_015
    assert cohort.clusters.n_unique() == 7_470
    # Tschandl et al. 2018, table 1.
    assert dict(cohort.table["dx"].value_counts().iter_rows()) == {
        "akiec": 327, "bcc": 514, "bkl": 1_099, "df": 115, "mel": 1_113, "nv": 6_705, "vasc": 142,
    }  # fmt: skip
    assert datasets.unknown(cohort)["age"] == 57
