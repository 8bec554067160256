"""DDI: three ranges of skin tone, either name of malignant, and what its users owe."""

import pytest
from PIL import Image

from medaudit import datasets
from medaudit.cohort import Grouping
from medaudit.errors import DataError

ROWS = [(12, "False", "melanocytic-nevi"), (34, "True", "melanoma"), (56, "True", "melanoma"), (56, "False", "wart")]


def tree(root, rows=ROWS, malignant="malignant"):
    lines = [f",DDI_ID,DDI_file,skin_tone,{malignant},disease"]
    lines += [f"{i},{i + 1},{i + 1:06d}.png,{tone},{sick},{what}" for i, (tone, sick, what) in enumerate(rows)]
    (root / "ddi_metadata.csv").write_text("\n".join(lines) + "\n")
    (root / "images").mkdir(exist_ok=True)
    for i in range(len(rows)):
        Image.new("RGB", (4, 3)).save(root / "images" / f"{i + 1:06d}.png")
    return root


@pytest.mark.parametrize("malignant", ["malignant", "malignancy(malig=1)"])
@pytest.mark.parametrize("words", [("False", "True"), ("0", "1"), ("0.0", "1.0")])
def test_tones_become_ranges_and_malignant_yes_or_no(tmp_path, malignant, words):
    rows = [(tone, words[sick == "True"], what) for tone, sick, what in ROWS]
    cohort = datasets.load("ddi", tree(tmp_path, rows, malignant))
    assert datasets.check(cohort) == []
    assert cohort.case_ids == ["000001", "000002", "000003", "000004"]
    assert cohort.table["malignant"].to_list() == ["no", "yes", "yes", "no"]
    assert Grouping.parse("skin_tone").apply(cohort).counts == {"I-II": 1, "III-IV": 1, "V-VI": 2}
    notes = " ".join(cohort.notes)
    assert "4 images of 3 diseases, by skin tone: I-II 1 (0 malignant), III-IV 1 (1 malignant), V-VI 2 (1 mal" in notes
    assert "may not be passed on" in notes
    assert "names no patients" in notes
    assert "4 of the 656 published images" in notes


def test_the_licence_forbids_to_pass_it_on():
    assert "no redistribution" in datasets.find("ddi").licence


def test_a_folder_of_something_else_is_said(tmp_path):
    with pytest.raises(DataError, match=r"ddi_metadata\.csv: not found; expected the folder of DDI"):
        datasets.load("ddi", tmp_path)
    with pytest.raises(DataError, match="has no column 'malignant'; is it DDI's table"):
        datasets.load("ddi", tree(tmp_path, malignant="outcome"))
    with pytest.raises(DataError, match="000002: skin_tone is '78'; expected one of 12, 34, 56"):
        datasets.load("ddi", tree(tmp_path, [ROWS[0], (78, "True", "melanoma")]))
