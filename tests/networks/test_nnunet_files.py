"""nnU-Net's files, against its documentation ("dataset format", "manual data splits")."""

import json

import numpy as np
import pytest

from medaudit.cohort.folds import folds
from medaudit.errors import DataError, UsageError
from medaudit.networks.nnunet import (
    NnunetCase,
    export_raw,
    find_predictions,
    read_dataset,
    read_splits,
    splits,
    write_splits,
)


def cases_in(folder, ids=("la_003", "la_004"), channels=1, ending=".nii.gz"):
    folder.mkdir(exist_ok=True)
    made = []
    for case in ids:
        images = [folder / f"anything {case} {c}{ending}" for c in range(channels)]
        for c, image in enumerate(images):
            image.write_bytes(f"{case} channel {c}".encode())
        label = folder / f"{case} mask{ending}"
        label.write_bytes(f"{case} label".encode())
        made.append(NnunetCase(case, images, label))
    return made


def export(tmp_path, cases, **other):
    settings = {"channel_names": ["T2", "ADC"][: len(cases[0].images)], "labels": ["PZ", "TZ"], **other}
    return export_raw(tmp_path / "nnUNet_raw", 5, "Prostate", cases, **settings)


def test_the_folder_is_laid_out_as_documented(tmp_path):
    dataset = export(tmp_path, cases_in(tmp_path / "in", channels=2))
    assert dataset == tmp_path / "nnUNet_raw" / "Dataset005_Prostate"
    written = sorted(path.relative_to(dataset).as_posix() for path in dataset.rglob("*") if path.is_file())
    assert written == [
        "dataset.json",
        "imagesTr/la_003_0000.nii.gz",
        "imagesTr/la_003_0001.nii.gz",
        "imagesTr/la_004_0000.nii.gz",
        "imagesTr/la_004_0001.nii.gz",
        "labelsTr/la_003.nii.gz",
        "labelsTr/la_004.nii.gz",
    ]
    assert (dataset / "imagesTr/la_004_0001.nii.gz").read_bytes() == b"la_004 channel 1"
    assert (dataset / "labelsTr/la_003.nii.gz").read_bytes() == b"la_003 label"


def test_dataset_json_is_the_documented_example(tmp_path):
    dataset = export(tmp_path, cases_in(tmp_path / "in", ids=[f"p{i:02d}" for i in range(32)], channels=2))
    assert json.loads((dataset / "dataset.json").read_text()) == {
        "channel_names": {"0": "T2", "1": "ADC"},
        "labels": {"background": 0, "PZ": 1, "TZ": 2},
        "numTraining": 32,
        "file_ending": ".nii.gz",
    }


def test_what_is_exported_is_read_back(tmp_path):
    dataset = export(tmp_path, cases_in(tmp_path / "in", channels=2, ending=".png"), link=True)
    cases, labels = read_dataset(dataset)
    assert [case.case_id for case in cases] == ["la_003", "la_004"]
    assert cases[1].images[1].read_bytes() == b"la_004 channel 1"
    assert cases[1].images[1].is_symlink()
    assert labels == {"background": 0, "PZ": 1, "TZ": 2}


def test_exporting_again_replaces_and_other_cases_are_refused(tmp_path):
    export(tmp_path, cases_in(tmp_path / "in"), link=True)
    export(tmp_path, cases_in(tmp_path / "in"))
    assert (tmp_path / "in" / "la_003 mask.nii.gz").read_bytes() == b"la_003 label"
    with pytest.raises(DataError, match=r"holds other cases already, such as la_00[34]\.nii\.gz"):
        export(tmp_path, cases_in(tmp_path / "in", ids=("other",)))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda case: case.label.unlink(), "la_003 mask.nii.gz is not there"),
        (lambda case: case.images.pop(), "case 'la_003' has 1 images for 2 channels"),
        (lambda case: case.images.__setitem__(1, case.label.with_suffix(".jpg")), "is not there"),
    ],
)
def test_a_case_that_is_not_whole_is_named(tmp_path, spoil, said):
    cases = cases_in(tmp_path / "in", channels=2)
    spoil(cases[0])
    with pytest.raises(DataError, match=said):
        export(tmp_path, cases, channel_names=["T2", "ADC"])
    assert not (tmp_path / "nnUNet_raw").exists()


def test_a_lossy_format_mixed_endings_and_bad_names_are_refused(tmp_path):
    with pytest.raises(DataError, match="of a format that nnU-Net does not take"):
        export(tmp_path, cases_in(tmp_path / "a", ending=".jpg"))
    mixed = cases_in(tmp_path / "b") + cases_in(tmp_path / "c", ids=("x",), ending=".png")
    with pytest.raises(DataError, match=r"case 'x': .* does not end in \.nii\.gz"):
        export(tmp_path, mixed)
    for ids in (("a", "A"), ("a/b",), ("",)):
        cases = [NnunetCase(name, case.images, case.label) for name, case in zip(ids, mixed, strict=False)]
        with pytest.raises(DataError, match="comes twice or is no file name"):
            export(tmp_path, cases)
    with pytest.raises(UsageError, match="no dataset 1000"):
        export_raw(tmp_path, 1000, "X", mixed, channel_names=["CT"], labels=["a"])
    with pytest.raises(UsageError, match="labels are background"):
        export(tmp_path, mixed, labels=["background"])


def test_splits_final_is_a_list_of_train_and_val(tmp_path):
    ids = [f"case-{i}" for i in range(20)]
    fold = folds(ids, ["a", "b"] * 10, k=5, seed=0)
    write_splits(tmp_path / "splits_final.json", ids, fold)
    made = json.loads((tmp_path / "splits_final.json").read_text())
    assert len(made) == 5
    for split in made:
        assert set(split) == {"train", "val"}
        assert (len(split["train"]), len(split["val"])) == (16, 4)
        assert sorted(split["train"] + split["val"]) == sorted(ids)
    assert read_splits(tmp_path / "splits_final.json") == dict(zip(ids, fold.tolist(), strict=True))


def test_folds_that_are_none_and_splits_that_leak_are_refused(tmp_path):
    with pytest.raises(DataError, match="fold 1 has 0 of 3 cases"):
        splits(["a", "b", "c"], np.array([0, 2, 2]))
    with pytest.raises(DataError, match="no id twice"):
        splits(["a", "a"], [0, 1])
    path = tmp_path / "splits_final.json"
    for text, said in (
        ('[{"train": ["a", "b"], "val": ["b"]}]', "case 'b' validates in fold 0 and trains there too"),
        ('[{"train": ["a"], "val": ["b"]}, {"train": ["c"], "val": ["b"]}]', "fold 1 and validates in fold 0 too"),
        ('{"train": []}', "not a list of splits"),
        ("[", "not a list of splits"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=said):
            read_splits(path)
    with pytest.raises(DataError, match="cannot read"):
        read_splits(tmp_path / "none.json")


def test_predictions_are_found_in_one_folder_and_in_all_folds(tmp_path):
    for fold, case in enumerate(("a.1", "b", "c")):
        place = tmp_path / f"fold_{fold}" / "validation"
        place.mkdir(parents=True)
        (place / f"{case}.nii.gz").touch()
        (place / "summary.json").touch()
    (tmp_path / "d.nii.gz").touch()
    (tmp_path / "dataset.json").touch()
    found = find_predictions(tmp_path, ["d", "a.1", "c"])
    assert list(found) == ["d", "a.1", "c"]
    assert found["a.1"] == tmp_path / "fold_0" / "validation" / "a.1.nii.gz"
    assert find_predictions(tmp_path, ["a.1", "z"], partial=True).keys() == {"a.1"}
    with pytest.raises(DataError, match="no prediction for case 'y' and 1 more of 3 cases"):
        find_predictions(tmp_path, ["y", "a.1", "z"])
    (tmp_path / "b.nii.gz").touch()
    with pytest.raises(DataError, match="case 'b' has two predictions"):
        find_predictions(tmp_path, ["b"])
    with pytest.raises(DataError, match="is not there"):
        find_predictions(tmp_path / "none", ["b"])


def test_a_dataset_that_is_not_whole_is_refused(tmp_path):
    dataset = export(tmp_path, cases_in(tmp_path / "in"))
    (dataset / "imagesTr" / "la_004_0000.nii.gz").unlink()
    with pytest.raises(DataError, match=r"case 'la_004': .* is not there"):
        read_dataset(dataset)
    (dataset / "labelsTr" / "la_004.nii.gz").unlink()
    with pytest.raises(DataError, match=r"has 1 labels; its dataset.json says 2"):
        read_dataset(dataset)
    (dataset / "dataset.json").write_text('{"modality": {}}')
    with pytest.raises(DataError, match="is not a version 2 description"):
        read_dataset(dataset)
