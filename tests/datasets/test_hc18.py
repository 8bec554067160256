"""HC18: outlines and filled heads become the same kind of mask, a woman is a patient, HC stands for the trimester."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from medaudit import datasets
from medaudit.cohort import Grouping, read_image, read_mask
from medaudit.errors import DataError


def tree(root, rows=("000_HC.png,0.1,44.3", "010_HC.png,0.1,100", "010_2HC.png,0.2,250", "011_HC.png,0.2,250.1")):
    """Write a small HC18 as it is published: outlines, and a test set without annotations."""
    (root / "training_set").mkdir()
    (root / "test_set").mkdir()
    Image.new("L", (60, 40)).save(root / "test_set" / "000_HC.png")
    table = "filename,pixel size(mm),head circumference (mm)\n" + "\n".join(rows)
    (root / "training_set_pixel_size_and_HC.csv").write_text(table)
    for row in rows:
        stem = row.split(".png")[0]
        image = Image.new("L", (60, 40), 90)
        image.save(root / "training_set" / f"{stem}.png")
        outline = Image.new("L", (60, 40))
        ImageDraw.Draw(outline).ellipse((10, 8, 50, 32), outline=255, width=2)
        outline.save(root / "training_set" / f"{stem}_Annotation.png")
    return root


def test_trimester_comes_from_the_circumference_and_the_edges_belong_to_the_second(tmp_path):
    cohort = datasets.load("hc18", tree(tmp_path))
    assert cohort.table["trimester"].to_list() == ["first", "second", "second", "third"]
    assert "proxy" in " ".join(cohort.notes)
    assert Grouping.parse("trimester").apply(cohort).labels == ("first", "second", "third")


def test_the_number_in_the_file_name_is_the_woman(tmp_path):
    cohort = datasets.load("hc18", tree(tmp_path))
    assert cohort.case_ids == ["000_HC", "010_HC", "010_2HC", "011_HC"]
    assert cohort.clusters.to_list() == ["000", "010", "010", "011"]


def test_outlines_are_filled_and_the_test_set_is_left_alone(tmp_path):
    cohort = datasets.load("hc18", tree(tmp_path))
    assert datasets.check(cohort) == []
    for case in cohort.cases():
        role = cohort.roles["reference"]
        mask = read_mask(case.files["reference"], fill=role.fill, spacing_mm=case.spacing_mm)
        assert mask.array[20, 30] == 1
        assert mask.array[0, 0] == 0
    assert mask.spacing_mm == (0.2, 0.2)


def test_missing_and_unlisted_files_are_counted(tmp_path):
    cohort = datasets.load("hc18", tree(tmp_path))
    (tmp_path / "training_set" / "000_HC_Annotation.png").unlink()
    Image.new("L", (6, 4)).save(tmp_path / "training_set" / "900_HC.png")
    missing, unlisted = datasets.check(cohort)
    assert missing.startswith("reference: 1 of 4 files are missing, the first: ")
    assert missing.endswith("000_HC_Annotation.png")
    assert unlisted.startswith("1 files belong to no case, the first: ")
    assert unlisted.endswith("900_HC.png")


def test_a_folder_of_something_else_is_said(tmp_path):
    with pytest.raises(DataError, match=r"training_set_pixel_size_and_HC\.csv: not found; expected the folder of HC18"):
        datasets.load("hc18", tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        datasets.load("hc18", tmp_path / "nothing")


@pytest.mark.parametrize(("row", "why"), [("x_HC.png,0.1,44", "number"), ("000_HC.png,0.1,44mm", "000_HC .*44mm")])
def test_a_row_that_is_not_hc18s_is_said(tmp_path, row, why):
    with pytest.raises(DataError, match=why):
        datasets.load("hc18", tree(tmp_path, rows=("001_HC.png,0.1,50", row)))


def ramanujan(mask, spacing):
    """Return the circumference in mm of the ellipse with the mask's second moments (Ramanujan's approximation)."""
    points = np.argwhere(mask) * spacing
    # The variance along an axis of a filled ellipse is a quarter of the semi-axis squared.
    b, a = 2 * np.sqrt(np.linalg.eigvalsh(np.cov(points.T)))
    h = ((a - b) / (a + b)) ** 2
    return np.pi * (a + b) * (1 + 3 * h / (10 + np.sqrt(4 - 3 * h)))


@pytest.mark.realdata
@pytest.mark.parametrize(("folder", "every", "women"), [("hc18", 11, 806), ("hc18_original_sample", 1, 11)])
def test_the_circumference_of_each_real_mask_agrees_with_the_table(public_data, folder, every, women):
    cohort = datasets.load("hc18", public_data / folder)
    assert cohort.clusters.n_unique() == women
    assert datasets.check(cohort) == []
    published = dict(zip(cohort.case_ids, cohort.table["head_circumference_mm"], strict=True))
    off = []
    for case in list(cohort.cases())[::every]:
        mask = read_mask(case.files["reference"], fill=True, spacing_mm=case.spacing_mm)
        assert mask.shape == read_image(case.files["image"]).shape
        off.append(ramanujan(mask.array, mask.spacing_mm) / published[case.case_id] - 1)
    assert min(off) > -0.002
    assert max(off) < 0.024


@pytest.mark.realdata
def test_the_real_cohort_has_999_images_in_three_trimesters(public_data):
    cohort = datasets.load("hc18", public_data / "hc18")
    assert Grouping.parse("trimester").apply(cohort).counts == {"first": 184, "second": 666, "third": 149}
    cohort = cohort.with_role("labels", "../hc18_automatic/{case_id}_automatic.png")
    assert datasets.check(cohort) == []
