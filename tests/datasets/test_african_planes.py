"""The African planes: numbers begin again in each centre, a centre has one scanner, Malawi's numbers are doubtful."""

import pytest
from PIL import Image

from medaudit import datasets as rooms
from medaudit.datasets import african_planes
from medaudit.errors import DataError

LETTERS = {"Algeria": "DZA", "Egypt": "EGY", "Ghana": "GHA", "Malawi": "MWI", "Uganda": "UGA"}
PLANES = ("Fetal abdomen", "Fetal brain", "Fetal femur", "Fetal thorax")


def row(number, plane, centre, train=1):
    return f"{number},{PLANES[plane]},{train},{centre},patient{number:03d}_{LETTERS[centre]}_plane{plane}"


def tree(root, rows):
    folder = root / "Zenodo_dataset"
    for centre in LETTERS:
        (folder / centre).mkdir(parents=True, exist_ok=True)
    (folder / "African_planes_database.csv").write_text("\n".join(("Patient_num,Plane,Train,Center,Filename", *rows)))
    for line in rows:
        *_, centre, name = line.split(",")
        if centre in LETTERS:
            Image.new("L", (5, 4)).save(folder / centre / f"{name}.png")
    return root


@pytest.mark.parametrize("inside", [False, True])
def test_a_patient_is_centre_and_number_and_a_centre_has_a_scanner(tmp_path, inside):
    tree(tmp_path, [row(1, 0, "Algeria"), row(1, 1, "Algeria"), row(1, 0, "Uganda", 0)])
    cohort = african_planes.load(tmp_path / "Zenodo_dataset" if inside else tmp_path)
    assert rooms.check(cohort) == []
    assert cohort.clusters.to_list() == ["Algeria-1", "Algeria-1", "Uganda-1"]
    assert cohort.table["device"].to_list() == ["Voluson S8", "Voluson S8", "ACUSON X600"]
    assert cohort.table["plane"].to_list() == ["Fetal abdomen", "Fetal brain", "Fetal abdomen"]
    assert cohort.table["train_flag"].to_list() == ["1", "1", "0"]
    notes = " ".join(cohort.notes)
    assert "3 of the 450 published rows" in notes
    assert "Malawi" not in notes


def published():
    """Return 450 rows with the printed counts; Malawi's patients 14/15 and 20/30 are halves, as in the real table."""
    rows = []
    for centre, counts in african_planes.PUBLISHED.items():
        for number in range(1, 26):
            for plane in range(4):
                if counts[plane]:
                    shown = number
                    if centre == "Malawi" and (number, plane) == (15, 3):
                        continue
                    if centre == "Malawi" and (number, plane) == (20, 2):
                        shown = 30
                    rows.append(row(shown, plane, centre))
    rows.append(row(26, 3, "Malawi"))
    return rows


def test_the_published_counts_are_taken_and_malawis_halves_are_named(tmp_path):
    cohort = african_planes.load(tree(tmp_path, published()))
    assert len(cohort) == 450
    assert dict(cohort.table["plane"].value_counts().iter_rows()) == dict(zip(PLANES, (125, 125, 125, 75), strict=True))
    notes = " ".join(cohort.notes)
    assert "Malawi has 27 patients' numbers where 25 are stated; 14 and 15, 20 and 30" in notes
    assert "No thorax from Ghana and Uganda" in notes
    assert "counts were not checked" not in notes


def test_another_count_is_named(tmp_path):
    rows = published()
    rows[0] = row(99, 1, "Algeria")
    with pytest.raises(DataError, match="24 images of Fetal abdomen from Algeria; expected the published 25"):
        african_planes.load(tree(tmp_path, rows))


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("1,Fetal brain,1,Egypt,patient001_EGY_plane0", "another plane"),
        ("1,Fetal abdomen,1,Egypt,patient001_GHA_plane0", "another centre"),
        ("1,Fetal abdomen,1,Egypt,scan1", "not named as"),
        ("1,Fetal abdomen,1,Kenya,patient001_KEN_plane0", "Center is none of Algeria"),
    ],
)
def test_a_row_that_contradicts_its_name_is_said(tmp_path, line, why):
    with pytest.raises(DataError, match=why):
        african_planes.load(tree(tmp_path, [row(1, 0, "Algeria"), line]))


def test_a_missing_part_is_named(tmp_path):
    with pytest.raises(DataError, match=r"African_planes_database\.csv: not found"):
        african_planes.load(tmp_path)
    tree(tmp_path, [row(1, 0, "Algeria")])
    (tmp_path / "Zenodo_dataset" / "Algeria").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="Algeria: not found; expected a folder of images"):
        african_planes.load(tmp_path)
