"""`medaudit data`: which datasets are known, what one holds, and whether its folder is complete."""

import pytest
from small_cohorts import small_hc18


@pytest.fixture
def hc18(tmp_path):
    """Return a folder like HC18's training set, of four images of three women."""
    return small_hc18(tmp_path / "hc18", [("000_HC", 90), ("001_HC", 180), ("001_2HC", 190), ("002_HC", 300)])


def test_the_list_names_every_dataset_and_simulator(medaudit):
    names = {row["name"]: row["kind"] for row in medaudit("data", "list", "--json").json}
    assert names == {
        "african-planes": "dataset",
        "breast-lesions-usg": "dataset",
        "chest": "simulator",
        "chexpert-pacemaker": "dataset",
        "ddi": "dataset",
        "fashion-mnist": "dataset",
        "fetal-planes-db": "dataset",
        "fitzpatrick17k": "dataset",
        "isic": "dataset",
        "isic-ruler": "dataset",
        "lesions": "simulator",
        "medmnist": "dataset",
        "nih-drain": "dataset",
        "pad-ufes-20": "dataset",
        "ph2-patches": "dataset",
        "fetal-ultrasound": "simulator",
        "hc18": "dataset",
        "mama-mia": "dataset",
        "breast-mri": "simulator",
        "skin": "simulator",
        "mama-mia-scores": "simulator",
    }
    shown = medaudit("data", "list")
    assert (shown.code, shown.err) == (0, "")
    assert all(name in shown.out for name in names)


@pytest.mark.parametrize("name", ["hc18", "mama-mia", "breast-lesions-usg", "fitzpatrick17k", "ddi"])
def test_a_dataset_says_what_its_users_owe(medaudit, name):
    about = medaudit("data", "describe", name, "--json").json
    assert about["name"] == name
    assert all(about[key] for key in ("title", "licence", "citation", "url", "layout"))
    shown = medaudit("data", "describe", name).out
    assert about["citation"] in shown
    assert about["licence"] in shown


def test_a_folder_is_described_by_its_cases_and_columns(medaudit, hc18):
    about = medaudit("data", "describe", "hc18", "--data", hc18, "--json").json
    assert (about["cases"], about["patients"], about["roles"]) == (4, 3, ["image", "reference"])
    assert about["columns"]["trimester"]["unknown"] == 0
    shown = medaudit("data", "describe", "hc18", "--data", hc18)
    assert (shown.code, shown.err) == (0, "")
    assert "trimester" in shown.out


def test_a_complete_folder_is_said_to_be_complete(medaudit, hc18):
    said = medaudit("data", "check", "hc18", "--data", hc18)
    assert said.code == 0
    *known, last = said.out.splitlines()
    assert last == "HC18: complete (4 cases, 3 patients, image, reference)"
    assert any("an examination" in line for line in known)  # what the living review knows comes first
    about = medaudit("data", "check", "hc18", "--data", hc18, "--json")
    assert about.code == 0
    told = about.json
    assert len(told.pop("known")) == len(known)
    assert told == {
        "dataset": "HC18", "cases": 4, "patients": 3, "roles": ["image", "reference"], "problems": []
    }  # fmt: skip


def test_missing_files_are_counted_and_the_code_is_1(medaudit, hc18):
    (hc18 / "training_set/001_HC_Annotation.png").unlink()
    (hc18 / "training_set/stranger.png").write_bytes(b"")
    said = medaudit("data", "check", "hc18", "--data", hc18)
    assert said.code == 1
    missing, stranger = said.out.splitlines()[-2:]
    assert "1 of 4 files are missing" in missing
    assert "001_HC_Annotation.png" in missing
    assert "stranger.png" in stranger
    about = medaudit("data", "check", "hc18", "--data", hc18, "--json")
    assert (about.code, about.json["problems"]) == (1, [missing, stranger])


@pytest.mark.parametrize("verb", ["describe", "check"])
def test_a_folder_that_is_not_the_datasets_says_what_is_expected(medaudit, tmp_path, verb):
    medaudit("data", verb, "hc18", "--data", tmp_path / "nowhere").refuses(1, "nowhere: no such folder", "training_set")
    medaudit("data", verb, "hc18", "--data", tmp_path).refuses(1, "training_set_pixel_size_and_HC.csv", "not found")


@pytest.mark.parametrize("verb", ["describe", "check"])
def test_a_dataset_that_is_not_known_names_the_nearest(medaudit, tmp_path, verb):
    medaudit("data", verb, "hc-18", "--data", tmp_path).refuses(2, "'hc-18'", "did you mean 'hc18'?")
    medaudit("data", verb, "xyzzy", "--data", tmp_path).refuses(2, "'xyzzy'", "mama-mia")
