"""PAD-UFES-20: the tone is spelt fitspatrick, a lesion is patient and number, images lie in three folders."""

import polars as pl
import pytest
from PIL import Image

from medaudit import datasets
from medaudit.errors import DataError

HEADER = "patient_id,lesion_id,smoke,age,gender,fitspatrick,region,diagnostic,itch,img_id,biopsed"


def row(patient, lesion, image, tone="2.0", biopsed="True", age="55", diagnostic="BCC"):
    name = f"PAT_{patient}_{lesion}_{image}.png"
    return f"PAT_{patient},{lesion},,{age},FEMALE,{tone},NECK,{diagnostic},UNK,{name},{biopsed}"


def tree(root, rows, header=HEADER):
    (root / "metadata.csv").write_text("\n".join((header, *rows)) + "\n")
    return root


def test_a_patient_is_the_cluster_and_a_lesion_is_patient_and_number(tmp_path):
    rows = [row(1, 9, 1), row(1, 9, 2), row(2, 9, 3, tone="", biopsed="False", diagnostic="NEV"), row(2, 8, 4, "5.0")]
    cohort = datasets.load("pad-ufes-20", tree(tmp_path, rows))
    assert cohort.case_ids == ["PAT_1_9_1", "PAT_1_9_2", "PAT_2_9_3", "PAT_2_8_4"]
    assert cohort.clusters.to_list() == ["PAT_1", "PAT_1", "PAT_2", "PAT_2"]
    assert cohort.table["lesion_id"].to_list() == ["PAT_1-9", "PAT_1-9", "PAT_2-9", "PAT_2-8"]
    assert cohort.table["fitzpatrick"].to_list() == [2, 2, None, 5]
    assert cohort.table["biopsed"].to_list() == ["yes", "yes", "no", "yes"]
    assert cohort.table["age"].to_list() == [55.0] * 4
    notes = " ".join(cohort.notes)
    assert "The table has 2 numbers of lesions; 1 of them stand with more than one patient" in notes
    assert (
        "Skin type is unknown for 1 images. They are no random part: 0% of them were biopsied, of the others 100%"
        in notes
    )
    assert "Only 1 of 3 images of known skin type are IV to VI" in notes
    assert "Biopsied of each: BCC 100%, NEV 0%." in notes
    assert "4 of the 2,298 published images" in notes


@pytest.mark.parametrize("folder", ["images", "images/imgs_part_{}", "imgs_part_{}"])
def test_images_are_found_in_one_folder_or_three(tmp_path, folder):
    tree(tmp_path, [row(i, i, i) for i in (1, 2, 3)])
    for i in (1, 2, 3):
        (tmp_path / folder.format(i)).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 3)).save(tmp_path / folder.format(i) / f"PAT_{i}_{i}_{i}.png")
    cohort = datasets.load("pad-ufes-20", tmp_path)
    assert datasets.check(cohort) == []
    assert [case.files["image"].parent for case in cohort.cases()] == [tmp_path / folder.format(i) for i in (1, 2, 3)]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (row(1, 1, 1, tone="7"), r"PAT_1_1_1: fitspatrick is '7'; expected one of 1, 2, 3, 4, 5, 6"),
        (row(1, 1, 1, biopsed="perhaps"), r"PAT_1_1_1: biopsed is 'perhaps'; expected one of 1, true, yes"),
        (row(1, 1, 1, age="old"), r"PAT_1_1_1 .*age is 'old'; expected a number"),
    ],
)
def test_a_value_that_is_none_is_named_with_its_image(tmp_path, line, why):
    with pytest.raises(DataError, match=why):
        datasets.load("pad-ufes-20", tree(tmp_path, [row(2, 2, 2), line]))


def test_a_folder_of_something_else_is_said(tmp_path):
    with pytest.raises(DataError, match=r"metadata\.csv: not found; expected the folder of PAD-UFES-20"):
        datasets.load("pad-ufes-20", tmp_path)
    with pytest.raises(DataError, match="has no column 'fitspatrick'; is it PAD-UFES-20's table"):
        datasets.load("pad-ufes-20", tree(tmp_path, [row(1, 1, 1)], HEADER.replace("fitspatrick", "tone")))


@pytest.mark.realdata
def test_the_real_table_has_the_published_counts(public_data):
    cohort = datasets.load("pad-ufes-20", public_data / "pad_ufes_20")
    assert len(cohort) == 2_298
    assert cohort.clusters.n_unique() == 1_373
    table = cohort.table
    assert "1,641 numbers of lesions; 250 of them stand with more than one patient" in " ".join(cohort.notes)
    assert table["lesion_id"].n_unique() == 1_891
    # Pacheco et al. 2020: 58.4 % biopsied, all of the cancers.
    assert round(100 * (table["biopsed"] == "yes").mean(), 1) == 58.4
    cancers = table.filter(pl.col("diagnostic").is_in(["BCC", "SCC", "MEL"]))
    assert cancers["biopsed"].unique().to_list() == ["yes"]
    counts = dict(table["fitzpatrick"].value_counts().iter_rows())
    assert counts == {None: 804, 1: 153, 2: 876, 3: 392, 4: 62, 5: 10, 6: 1}
    assert dict(table["diagnostic"].value_counts().iter_rows()) == {
        "ACK": 730, "BCC": 845, "MEL": 52, "NEV": 244, "SCC": 192, "SEK": 235,
    }  # fmt: skip
