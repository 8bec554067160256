"""MAMA-MIA: every layout that was released gives the same cohort, and the table's traps are disarmed."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from medaudit import datasets
from medaudit.cohort import Grouping, read_mask
from medaudit.datasets import mama_mia
from medaudit.errors import DataError

PATIENTS = ["DUKE_001", "ISPY1_1001", "ISPY2_100899", "NACT_01"]
TABLE = {
    "patient_id": PATIENTS,
    "dataset": ["DUKE", "ISPY1", "ISPY2", "NACT"],
    "age": [40.0, 41.0, None, 56.0],
    "menopause": ["post", "pre (<6 months since LMP AND no prior)", None, "peri (6-12 months since LMP)"],
    "ethnicity": ["caucasian", "hawaian", None, "african american"],
    "site": [None, "Site AAI", "AAI ", 4493],
    "scanner_model": ["Skyra ", "Avanto", "Skyra", "SIGNA HDx "],
    "pixel_spacing": ["[0.8036, 0.8036]", "[0.7, 0.7]", "[1e0, 0.5]", "[0.8, 0.8]"],
    "acquisition_times": ["[0, 584, 714.5]", None, "[0, 90]", "[0, 90]"],
}


def tree(root: Path, *, lower=False, expert="expert", table=TABLE, suffix=".nii.gz", phases=3) -> Path:
    """Write a small MAMA-MIA; ``lower``: file names in lower case; ``expert``: the level above the gold masks."""
    pd.DataFrame(table).to_excel(root / "clinical_and_imaging_info.xlsx", sheet_name="dataset_info", index=False)
    for patient in PATIENTS:
        name = patient.lower() if lower else patient
        for phase in range(phases):
            save(root / "images" / patient / f"{name}_{phase:04d}{suffix}", phase)
        save(root / "segmentations" / expert / f"{name}{suffix}", 1)
        save(root / "segmentations" / "automatic" / f"{name}{suffix}", 0)
    return root


def save(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.full((2, 3, 4), value, np.uint8), np.eye(4)), path)


@pytest.mark.parametrize(
    "layout",
    [{}, {"lower": True}, {"expert": ""}, {"lower": True, "expert": ""}, {"expert": "EXPERT", "suffix": ".nii"}],
    ids=[
        "published",
        "lower case",
        "no expert level",
        "lower case without expert level",
        "upper-case folder, not gzipped",
    ],
)
def test_every_layout_gives_the_same_cohort(tmp_path, layout):
    cohort = datasets.load("mama-mia", tree(tmp_path, **layout))
    assert cohort.case_ids == PATIENTS
    assert datasets.check(cohort) == []
    assert cohort.table["phases_found"].to_list() == [3] * 4
    for case in cohort.cases():
        assert read_mask(case.files["reference"]).array.min() == 1
        assert read_mask(case.files["labels"]).array.max() == 0
        assert case.files["image"].name.upper().startswith(f"{case.case_id}_0001.NII")


def test_another_phase_can_be_the_image(tmp_path):
    cohort = mama_mia.load(tree(tmp_path), phase=2)
    assert all(case.files["image"].name.endswith("_0002.nii.gz") for case in cohort.cases("image"))


def test_the_tables_spellings_are_made_one(tmp_path):
    table = datasets.load("mama-mia", tree(tmp_path)).table
    assert table["source"].to_list() == ["DUKE", "ISPY1", "ISPY2", "NACT"]
    assert table["age"].to_list() == [40, 41, None, 56]
    assert table["ethnicity"].to_list() == ["caucasian", "other", None, "african american"]
    assert table["ethnicity_raw"].to_list() == ["caucasian", "hawaian", None, "african american"]
    assert table["menopause"].to_list() == ["post", "pre", None, "peri"]
    assert table["menopause_raw"][1].startswith("pre (<6")
    assert table["site"].to_list() == ["DUKE", "Site AAI", "AAI", "4493"]
    assert table["scanner_model"].to_list() == ["Skyra", "Avanto", "Skyra", "SIGNA HDx"]
    assert table["pixel_spacing_x_mm"].to_list() == [0.8036, 0.7, 1.0, 0.8]
    assert table["pixel_spacing_y_mm"].to_list() == [0.8036, 0.7, 0.5, 0.8]
    assert table["acquisition_times_s"].to_list() == [[0, 584, 714.5], None, [0, 90], [0, 90]]


def test_the_table_alone_is_a_cohort_without_roles(tmp_path):
    pd.DataFrame(TABLE).to_excel(tmp_path / "Clinical_and_Imaging_Info.XLSX", sheet_name="dataset_info", index=False)
    cohort = datasets.load("mama-mia", tmp_path)
    assert len(cohort) == 4
    assert cohort.roles == {}
    assert "neither images nor masks" in datasets.check(cohort)[0]


def test_a_patient_without_a_mask_is_counted_and_one_without_a_row_is_left_out(tmp_path):
    tree(tmp_path)
    (tmp_path / "segmentations" / "automatic" / "NACT_01.nii.gz").unlink()
    save(tmp_path / "images" / "DUKE_999" / "DUKE_999_0000.nii.gz", 0)
    cohort = datasets.load("mama-mia", tmp_path)
    assert [case.files["labels"] is None for case in cohort.cases("labels")] == [False, False, False, True]
    assert datasets.check(cohort) == ["labels: 1 of 4 cases have no file, the first: NACT_01"]
    assert any("1 patients who are not in the table" in note and "DUKE_999" in note for note in cohort.notes)


def test_facts_of_the_json_files_are_merged(tmp_path):
    tree(tmp_path)
    facts = {
        "clinical_data": {"age": 50, "menopausal_status": "pre (<6 months)", "breast_density": "c"},
        "primary_lesion": {"breast_coordinates": {"x_min": 3, "x_max": 90, "y_min": 0, "y_max": 7}},
    }
    (tmp_path / "patient_info_files").mkdir()
    (tmp_path / "patient_info_files" / "ispy2_100899.json").write_text(json.dumps(facts))
    cohort = datasets.load("mama-mia", tmp_path)
    assert cohort.table["menopause"].to_list() == ["post", "pre", "pre", "peri"]
    assert cohort.table["breast_density"].to_list() == [None, None, "c", None]
    assert cohort.table["breast_x_max"].to_list() == [None, None, 90, None]
    assert any("first axis" in note for note in cohort.notes)
    (tmp_path / "patient_info_files" / "nact_01.json").write_text('{"clinical')
    with pytest.raises(DataError, match=r"nact_01\.json: cannot be read as JSON"):
        datasets.load("mama-mia", tmp_path)


@pytest.mark.parametrize("pad", ["", ",", ",nan"])
def test_splits_of_unequal_length_are_read_however_they_are_padded(tmp_path, pad):
    tree(tmp_path)
    lines = ["train_split,test_split", "DUKE_001,ispy1_1001", f"NACT_01{pad}"]
    (tmp_path / "train_test_splits.csv").write_text("\n".join(lines))
    cohort = datasets.load("mama-mia", tmp_path)
    assert cohort.table["split"].to_list() == ["train", "test", None, "train"]
    assert "Split: 2 train, 1 test, 1 in neither." in cohort.notes


def test_a_patient_in_both_splits_is_warned_of(tmp_path):
    tree(tmp_path)
    (tmp_path / "train_test_splits.csv").write_text("train_split,test_split\nDUKE_001,DUKE_001\n")
    assert any("WARNING: 1 patients stand in both" in note for note in datasets.load("mama-mia", tmp_path).notes)
    (tmp_path / "train_test_splits.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="no columns train_split and test_split"):
        datasets.load("mama-mia", tmp_path)


def test_a_part_of_the_table_with_empty_columns_is_read(tmp_path):
    table = {**{k: v[3:] for k, v in TABLE.items()}, "ethnicity": [None], "menopause": [None], "pixel_spacing": [None]}
    table = datasets.load("mama-mia", tree(tmp_path, table=table)).table
    assert table["site"].to_list() == ["4493"]
    assert table["ethnicity"].to_list() == table["menopause"].to_list() == [None]


@pytest.mark.parametrize(
    "name", ["automatic_segmentations_quality_scores.csv", "preliminary_automatic_segmentations_quality_scores.csv"]
)
@pytest.mark.parametrize("columns", ["patient_id,expert_1_qs,expert_2_qs", "Patient ID,Expert 1 (QS),QS expert-2"])
def test_ratings_are_found_under_both_names_and_several_headings(tmp_path, name, columns):
    tree(tmp_path)
    (tmp_path / name).write_text(f"{columns},DSC,Hausdorff distance\nduke_001,good,Poor,0.9,3\nNACT_01,Missed,,0,\n")
    table = datasets.load("mama-mia", tmp_path).table
    assert table["rating_1"].to_list() == ["Good", None, None, "Missed"]
    assert table["rating_2"].to_list() == ["Poor", None, None, None]
    assert table["published_dice"].to_list() == [0.9, None, None, 0.0]
    assert table["published_hausdorff"].to_list() == [3, None, None, None]


def test_ratings_without_experts_and_unknown_ratings_are_said(tmp_path):
    path = tree(tmp_path) / "automatic_segmentations_quality_scores.csv"
    path.write_text("patient_id,expert_1_qs,expert_2_qs\nDUKE_001,Good,So-so\n")
    assert any("So-So" in note for note in datasets.load("mama-mia", tmp_path).notes)
    path.write_text("patient_id,score\nDUKE_001,1\n")
    with pytest.raises(DataError, match="expected columns patient_id, expert_1_qs and expert_2_qs"):
        datasets.load("mama-mia", tmp_path)


def test_an_age_that_is_no_number_names_the_patient(tmp_path):
    with pytest.raises(DataError, match=r"case ISPY1_1001 .*age is '41y'"):
        datasets.load("mama-mia", tree(tmp_path, table={**TABLE, "age": [40, "41y", None, 56]}))


def test_a_folder_or_table_of_something_else_is_said(tmp_path):
    with pytest.raises(DataError, match=r"clinical_and_imaging_info\.xlsx not found; expected the folder of MAMA-MIA"):
        datasets.load("mama-mia", tmp_path)
    path = tmp_path / "clinical_and_imaging_info.xlsx"
    pd.DataFrame({"patient_id": ["a"]}).to_excel(path, sheet_name="dataset_info", index=False)
    with pytest.raises(DataError, match="has no column 'dataset'"):
        datasets.load("mama-mia", tmp_path)
    pd.DataFrame({"patient_id": ["a"]}).to_excel(path, sheet_name="other", index=False)
    with pytest.raises(DataError, match="has no sheet 'dataset_info'; it has: other"):
        datasets.load("mama-mia", tmp_path)


@pytest.mark.realdata
def test_the_real_table_divides_as_published_with_the_unknown_kept_apart(public_data):
    cohort = datasets.load("mama-mia", public_data / "mama_mia")
    assert len(cohort) == cohort.clusters.n_unique() == 1506

    def counts(rule):
        groups = Grouping.parse(rule).apply(cohort)
        return groups.counts, groups.unknown

    assert counts("age:40,55") == ({"<=40": 349, "(40, 55]": 754, ">55": 400}, 3)
    assert counts("ethnicity") == ({"african american": 241, "asian": 86, "caucasian": 1128, "other": 35}, 16)
    assert counts("source") == ({"DUKE": 291, "ISPY1": 171, "ISPY2": 980, "NACT": 64}, 0)
    assert counts("menopause") == ({"peri": 35, "post": 420, "pre": 643}, 408)
    assert not any(name.endswith(" ") for name in cohort.table["scanner_model"].unique())
    assert cohort.table["ethnicity_raw"].n_unique() == 11
    assert not any("WARNING" in note for note in cohort.notes)
    assert any("51 is the 35" in note for note in cohort.notes)
    spacing = cohort.table["pixel_spacing_x_mm"]
    assert 0.2 < spacing.min() < spacing.max() < 2


@pytest.mark.realdata
def test_a_full_table_that_divides_otherwise_is_warned_of(public_data, tmp_path):
    table = pd.read_excel(public_data / "mama_mia" / "clinical_and_imaging_info.xlsx", sheet_name="dataset_info")
    table.loc[0, "age"] = 70
    table.to_excel(tmp_path / "clinical_and_imaging_info.xlsx", sheet_name="dataset_info", index=False)
    notes = datasets.load("mama-mia", tmp_path).notes
    assert any(note.startswith("WARNING: by age the published numbers are others") for note in notes)
