"""BrEaST: unknown is null, lactating is split off, a normal breast has an empty reference, pixel sizes are in cm."""

import pandas as pd
import polars as pl
import pytest
from PIL import Image

from medaudit import datasets
from medaudit.cohort import EMPTY, Grouping, read_image, read_mask
from medaudit.errors import DataError

ROWS = {
    "CaseID": [1, 2, 3, 4],
    "Image_filename": [f"case00{i}.png" for i in (1, 2, 3, 4)],
    "Mask_tumor_filename": ["case001_tumor.png", None, "case003_tumor.png", "case004_tumor.png"],
    "Mask_other_filename": [None, None, "case003_other1.png&case003_other2.png", None],
    "Pixel_size": [0.0078125, 0.01, 0.01, 0.02],
    "Age": ["57", "not available", "40", "41"],
    "Tissue_composition": ["homogeneous: fat", "not available", "lactating&homogeneous: fibroglandular", "lactating"],
    "BIRADS": ["2", "1", "4a", "5"],
    "Classification": ["benign", "normal", "benign", "malignant"],
}


def tree(root, **changes):
    pd.DataFrame({**ROWS, **changes}).to_excel(root / "BrEaST-Lesions-USG-clinical-data-Dec-15-2023.xlsx", index=False)
    folder = root / "BrEaST-Lesions_USG-images_and_masks"
    folder.mkdir()
    for names in zip(*(ROWS[k] for k in ("Image_filename", "Mask_tumor_filename", "Mask_other_filename")), strict=True):
        for name in "&".join(n for n in names if n).split("&"):
            Image.new("RGBA", (8, 6)).save(folder / name)
    return root


def test_unknown_is_null_and_lactating_has_its_own_column(tmp_path):
    table = datasets.load("breast-lesions-usg", tree(tmp_path)).table
    assert table["age"].to_list() == [57, None, 40, 41]
    assert table["tissue_composition"].to_list() == ["homogeneous: fat", None, "homogeneous: fibroglandular", None]
    assert table["lactating"].to_list() == [False, None, True, True]
    assert table["birads"].to_list() == ["2", "1", "4a", "5"]
    assert table["diagnosis_class"].to_list() == ["benign", "normal", "benign", "malignant"]


def test_pixel_sizes_become_millimetres_and_files_are_found(tmp_path):
    cohort = datasets.load("breast-lesions-usg", tree(tmp_path))
    assert datasets.check(cohort) == []
    cases = list(cohort.cases())
    assert [case.spacing_mm for case in cases] == [(0.078125,), (0.1,), (0.1,), (0.2,)]
    assert str(cases[1].files["reference"]) == EMPTY
    others = cohort.table["other_masks"].to_list()
    assert others[0] is None
    assert [(tmp_path / name).name for name in others[2]] == ["case003_other1.png", "case003_other2.png"]
    assert all((tmp_path / name).exists() for name in others[2])


def test_a_case_is_a_patient(tmp_path):
    cohort = datasets.load("breast-lesions-usg", tree(tmp_path))
    assert cohort.case_ids == ["case001", "case002", "case003", "case004"]
    assert cohort.clusters.to_list() == ["1", "2", "3", "4"]


def test_a_missing_part_is_named(tmp_path):
    with pytest.raises(DataError, match=r"clinical-data-\*\.xlsx not found"):
        datasets.load("breast-lesions-usg", tmp_path)
    pd.DataFrame(ROWS).to_excel(tmp_path / "BrEaST-Lesions-USG-clinical-data-Dec-15-2023.xlsx", index=False)
    with pytest.raises(DataError, match=r"case001\.png \(or a folder with it\) not found"):
        datasets.load("breast-lesions-usg", tmp_path)


def test_an_age_that_is_no_number_names_the_case(tmp_path):
    with pytest.raises(DataError, match=r"case case003 .*age is '41y'"):
        datasets.load("breast-lesions-usg", tree(tmp_path, Age=["57", "not available", "41y", "41"]))


@pytest.mark.realdata
def test_the_real_table_has_the_counts_that_were_published(public_data):
    cohort = datasets.load("breast-lesions-usg", public_data / "breast_lesions_usg")
    assert len(cohort) == cohort.clusters.n_unique() == 256
    assert int((cohort.table["reference_path"] == EMPTY).sum()) == 4
    assert datasets.unknown(cohort)["age"] == 42
    # 49 not available, and one that says only "lactating".
    assert datasets.unknown(cohort)["tissue_composition"] == 50
    assert Grouping.parse("diagnosis_class").apply(cohort).counts == {"benign": 154, "malignant": 98, "normal": 4}
    assert cohort.table.filter(pl.col("lactating")).height == 7
    assert datasets.check(cohort.with_role("labels", "../breast_lesions_usg_automatic/{case_id}_automatic.png")) == []


@pytest.mark.realdata
def test_every_real_mask_is_binary_and_lies_on_its_image(public_data):
    cohort = datasets.load("breast-lesions-usg", public_data / "breast_lesions_usg")
    for case in list(cohort.cases())[::5]:
        if str(case.files["reference"]) != EMPTY:
            mask = read_mask(case.files["reference"], spacing_mm=case.spacing_mm)
            assert mask.shape == read_image(case.files["image"]).shape
            assert 0 < mask.array.mean() < 0.9
