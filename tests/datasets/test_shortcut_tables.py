"""Tables of shortcuts: read in their published form, joined with images, and their traps counted, not believed."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medaudit import datasets
from medaudit.errors import DataError

CHEXPERT = """\
img_name,Cardiomegaly,PM,split
patient00001_study1_view1_frontal.jpg,1,1,train
patient00002_study3_view1_frontal.jpg,0,0,train
patient00003_study1_view2_frontal.jpg,0,1,test
patient00004_study1_view1_frontal.jpg,1,1,test
"""
ISIC = """\
img_name,Mal,Ruler,split
ISIC_0000001.jpg,0.0,0.0,train
ISIC_0000002.jpg,1.0,1.0,test
ISIC_0000003.jpg,1.0,0.0,train
ISIC_0000004.jpg,0.0,1.0,test
"""
HAM = """\
lesion_id,image_id,dx,dx_type,age,sex,localization
HAM_1,ISIC_0000001,nv,histo,50,male,back
HAM_2,ISIC_0000002,mel,histo,50,male,back
HAM_2,ISIC_0000003,vasc,histo,50,male,back
HAM_3,ISIC_0000004,nv,histo,50,male,back
"""
NIH = """\
img_name,Pneumothorax,drain_annotated,Drain,split
00000001_000.png,1,1.0,1,train
00000001_001.png,1,0.0,0,test
00000002_000.png,1,,1,train
00000003_000.png,0,,1,train
00000003_004.png,0,,0,train
00000004_010.png,0,,0,test
"""
TABLES = {
    "chexpert-pacemaker": ("che_pm_meta.csv", CHEXPERT),
    "isic-ruler": ("isic_ruler_meta.csv", ISIC),
    "nih-drain": ("nih_drain_meta.csv", NIH),
}


def put(folder: Path, name: str, text: str | None = None) -> Path:
    file, usual = TABLES[name]
    (folder / file).write_text(usual if text is None else text)
    return folder


def pictures(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(folder / name)


def names_in(name: str) -> list[str]:
    return [line.split(",")[0] for line in TABLES[name][1].splitlines()[1:]]


def notes(cohort) -> str:
    return " ".join(cohort.notes)


def test_chexperts_pacemakers_are_read_with_their_patients(tmp_path):
    cohort = datasets.load("chexpert-pacemaker", put(tmp_path, "chexpert-pacemaker"))
    table = cohort.table
    assert table.columns == ["case_id", "patient_id", "cardiomegaly", "pacemaker", "split"]
    assert table["case_id"][0] == "patient00001_study1_view1_frontal"
    assert table["patient_id"].to_list() == [f"patient0000{i}" for i in range(1, 5)]
    assert table["cardiomegaly"].to_list() == ["yes", "no", "no", "yes"]
    assert table["pacemaker"].to_list() == ["yes", "no", "yes", "yes"]
    assert table["split"].to_list() == ["train", "train", "test", "test"]
    assert cohort.roles == {}
    assert "the table alone serves for counts" in notes(cohort)
    assert "pacemaker is yes in 100.0% of the images where cardiomegaly is yes and in 50.0% of the others" in notes(
        cohort
    )
    # phi of the table 2 0 / 1 1, by (ad - bc) / sqrt of the margins' product.
    assert f"phi {(2 * 1 - 0 * 1) / np.sqrt(2 * 2 * 3 * 1):.3f}" in notes(cohort)
    assert "4 patients, none of them in more than one split" in notes(cohort)


def test_chexperts_codes_are_by_value_and_uncertain_is_unknown(tmp_path):
    text = CHEXPERT.replace("frontal.jpg,1,1,train", "frontal.jpg,-1,1,train").replace(",0,0,train", ",,0,train")
    cohort = datasets.load("chexpert-pacemaker", put(tmp_path, "chexpert-pacemaker", text))
    assert cohort.table["cardiomegaly"].to_list() == [None, None, "no", "yes"]
    assert "cardiomegaly is uncertain (-1) in 1 images, which count as unknown" in notes(cohort)
    # With a blank among them pandas writes numbers with a point.
    text = text.replace("-1,1,train", "-1.0,1.0,train")
    assert datasets.load("chexpert-pacemaker", put(tmp_path, "chexpert-pacemaker", text)).table.equals(cohort.table)


@pytest.mark.parametrize("tree", ["", "train/", "CheXpert-v1.0-small/train/"])
def test_chexperts_images_are_found_in_its_own_tree(tmp_path, tree):
    put(tmp_path, "chexpert-pacemaker")
    pictures(tmp_path, *(tree + name.replace("_", "/", 2) for name in names_in("chexpert-pacemaker")))
    cohort = datasets.load("chexpert-pacemaker", tmp_path)
    assert cohort.table["image_path"][1] == f"{tree}patient00002/study3/view1_frontal.jpg"
    assert datasets.check(cohort) == []


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("below", ["", "preproc_224x224/", "images_001/images/"])
def test_images_are_found_under_the_tables_names(tmp_path, name, below):
    put(tmp_path, name)
    pictures(tmp_path, *(below + image for image in names_in(name)))
    cohort = datasets.load(name, tmp_path)
    assert cohort.table["image_path"].to_list() == [below + image for image in names_in(name)]
    assert datasets.check(cohort) == []


@pytest.mark.parametrize("name", TABLES)
def test_an_image_that_is_missing_is_named_with_its_row(tmp_path, name):
    put(tmp_path, name)
    images = names_in(name)
    pictures(tmp_path, *images[:1], *images[3:])
    file = TABLES[name][0]
    with pytest.raises(DataError, match=rf"{file}: row 2: {images[1]} is not in .*; 2 of {len(images)} images are"):
        datasets.load(name, tmp_path)


def test_an_image_that_is_missing_in_chexperts_tree_is_named_too(tmp_path):
    put(tmp_path, "chexpert-pacemaker")
    pictures(tmp_path, *("train/" + name.replace("_", "/", 2) for name in names_in("chexpert-pacemaker")[1:]))
    with pytest.raises(DataError, match=r"row 1: patient00001_study1_view1_frontal\.jpg is not in"):
        datasets.load("chexpert-pacemaker", tmp_path)


def test_rulers_have_lesions_only_beside_ham10000s_table(tmp_path):
    alone = datasets.load("isic-ruler", put(tmp_path, "isic-ruler"))
    assert alone.table.columns == ["case_id", "malignant", "ruler", "split"]
    assert alone.table["malignant"].to_list() == ["no", "yes", "yes", "no"]
    assert "the split, by image, may have a lesion on both sides" in notes(alone)
    (tmp_path / "HAM10000_metadata.csv").write_text(HAM)
    joined = datasets.load("isic-ruler", tmp_path)
    assert joined.table["patient_id"].to_list() == ["HAM_1", "HAM_2", "HAM_2", "HAM_3"]
    assert joined.table["dx"].to_list() == ["nv", "mel", "vasc", "nv"]
    assert "1 of 3 lesions have images in more than one split" in notes(joined)
    assert "malignant is yes for 1 images of kinds that are benign (vasc 1 by HAM10000's dx): 1 are left, not 2" in (
        notes(joined)
    )


def test_an_image_that_ham10000_does_not_know_is_a_lesion_of_its_own(tmp_path):
    put(tmp_path, "isic-ruler")
    (tmp_path / "metadata.csv").write_text("\n".join(HAM.splitlines()[:-1]))
    table = datasets.load("isic-ruler", tmp_path).table
    assert table["patient_id"].to_list() == ["HAM_1", "HAM_2", "HAM_2", "ISIC_0000004"]
    assert table["dx"][3] is None


def test_drains_say_who_says_so_and_who_is_in_both_splits(tmp_path):
    cohort = datasets.load("nih-drain", put(tmp_path, "nih-drain"))
    table = cohort.table
    assert table["patient_id"].to_list() == ["00000001"] * 2 + ["00000002"] + ["00000003"] * 2 + ["00000004"]
    assert table["drain"].to_list() == ["yes", "no", "yes", "yes", "no", "no"]
    assert table["drain_annotated"].to_list() == ["yes", "no", None, None, None, None]
    assert table["drain_by"].to_list() == ["annotator"] * 2 + ["model"] * 4
    assert "1 of 4 patients have images in more than one split" in notes(cohort)
    assert "drain of 4 images is a classifier's prediction" in notes(cohort)
    assert "so is that of 3 of the 3 images without pneumothorax" in notes(cohort)


def test_patients_who_are_apart_are_said_to_be(tmp_path):
    cohort = datasets.load("nih-drain", put(tmp_path, "nih-drain", NIH.replace("00000001_001", "00000009_001")))
    assert "5 patients, none of them in more than one split" in notes(cohort)


@pytest.mark.parametrize(
    ("name", "old", "new", "why"),
    [
        ("chexpert-pacemaker", ",PM,", ",Pacemaker,", "has no column 'PM'; is it FastDiME_Med's table"),
        (
            "chexpert-pacemaker",
            ",0,1,test",
            ",0,2,test",
            "patient00003_study1_view2_frontal: PM is '2'; expected one of",
        ),
        ("isic-ruler", "1.0,0.0,train", "-1.0,0.0,train", "ISIC_0000003: Mal is '-1'; expected one of"),
        ("isic-ruler", "0.0,0.0,train", "0.0,0.0,fold1", "ISIC_0000001: split is 'fold1'"),
        ("nih-drain", "00000002_000", "drain_2", r"row 3: 'drain_2' does not say whose .* as 00030651_005\.png"),
        ("chexpert-pacemaker", "patient00001_", "p1_", "row 1: 'p1_study1_view1_frontal' does not say whose image"),
    ],
)
def test_another_table_is_refused(tmp_path, name, old, new, why):
    with pytest.raises(DataError, match=why):
        datasets.load(name, put(tmp_path, name, TABLES[name][1].replace(old, new)))


@pytest.mark.parametrize("name", TABLES)
def test_a_folder_without_the_table_says_which_it_needs(tmp_path, name):
    with pytest.raises(DataError, match=f"{TABLES[name][0]}: not found; expected {TABLES[name][0]} of FastDiME_Med"):
        datasets.load(name, tmp_path)


@pytest.mark.realdata
def test_the_published_tables_are_as_we_counted_them_by_hand(public_data):
    folder = public_data / "shortcut_tables"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    pacemakers, rulers, drains = (datasets.load(name, folder) for name in TABLES)
    assert [len(one) for one in (pacemakers, rulers, drains)] == [28_878, 10_015, 8_656]
    assert [(one.table["split"] == "test").sum() for one in (pacemakers, rulers, drains)] == [2_889, 1_003, 1_728]
    assert "pacemaker is yes in 14.9% of the images where cardiomegaly is yes and in 4.7%" in notes(pacemakers)
    assert "phi 0.168" in notes(pacemakers)
    assert "28,878 patients, none of them" in notes(pacemakers)
    assert "ruler is yes in 28.8% of the images where malignant is yes and in 13.9%" in notes(rulers)
    assert "phi 0.163" in notes(rulers)
    assert "691 of 3,460 patients have images in more than one split" in notes(drains)
    assert "drain of 5,113 images is a classifier's prediction" in notes(drains)


@pytest.mark.realdata
def test_beside_the_published_ham10000_the_rulers_split_lesions(public_data, tmp_path):
    for source in (public_data / "shortcut_tables/isic_ruler_meta.csv", public_data / "ham10000/metadata.csv"):
        if not source.exists():
            pytest.skip(f"no {source}")
        (tmp_path / source.name).write_bytes(source.read_bytes())
    said = notes(datasets.load("isic-ruler", tmp_path))
    assert "397 of 7,470 lesions have images in more than one split" in said
    assert "malignant is yes for 257 images of kinds that are benign (df 115, vasc 142 by HAM10000's dx)" in said
