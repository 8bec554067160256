"""Fitzpatrick17k: both annotators are kept, -1 is unknown, near duplicates are one cluster, images lie anywhere."""

import hashlib

import polars as pl
import pytest
from PIL import Image

from medaudit import datasets
from medaudit.cohort import Grouping
from medaudit.errors import DataError

HEADER = (
    "md5hash,fitzpatrick_scale,fitzpatrick_centaur,label,nine_partition_label,three_partition_label,qc,url,url_alphanum"
)
CLEAN = "SimThresh_T_A2_T_0.99_0.70_FC_T_KeepOne_Out_T_OutThresh_None_0FST_F.csv"
ATLASES = ("https://www.dermaamin.com/pic/", "http://atlasdermatologico.com.br/img?imageId=")


def md5(i):
    return hashlib.md5(str(i).encode()).hexdigest()


def row(i, scale=2, centaur=2, *, atlas=0, label="psoriasis", url=None):
    link = f"{ATLASES[atlas]}{i}.jpg" if url is None else url
    name = "".join(c for c in f"{ATLASES[atlas]}{i}jpg" if c.isalnum()) + ".jpg"
    return f"{md5(i)},{scale},{centaur},{label},inflammatory,non-neoplastic,,{link},{name}"


def tree(root, rows, header=HEADER):
    root.mkdir(exist_ok=True)
    (root / "fitzpatrick17k.csv").write_text("\n".join((header, *rows)) + "\n")
    return root


def draw(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (5, 4), (200, 150, 120)).save(path)


def test_unknown_tones_are_null_and_kept_apart(tmp_path):
    cohort = datasets.load("fitzpatrick17k", tree(tmp_path, [row(0, 1, -1), row(1, -1, 6), row(2, 4, 4)]))
    assert cohort.table["fitzpatrick_scale"].to_list() == [1, None, 4]
    assert cohort.table["fitzpatrick_centaur"].to_list() == [None, 6, 4]
    groups = Grouping.parse("fitzpatrick_scale:3").apply(cohort)
    assert groups.counts == {"<=3": 1, ">3": 1}
    assert groups.unknown == 1
    assert "No tone (-1) is given to 1 by fitzpatrick_scale and 1 by fitzpatrick_centaur" in " ".join(cohort.notes)


def test_an_older_copy_with_an_index_and_one_annotator_is_read(tmp_path):
    rest = "acne,inflammatory,non-neoplastic,,https://www.dermaamin.com/a.jpg"
    lines = [f"{i},{md5(i)},{tone},{rest},x{i}.jpg" for i, tone in enumerate((3, -1))]
    header = ",md5hash,fitzpatrick,label,nine_partition_label,three_partition_label,qc,url,url_alphanum"
    cohort = datasets.load("fitzpatrick17k", tree(tmp_path, lines, header))
    assert cohort.case_ids == [md5(0), md5(1)]
    assert cohort.table["fitzpatrick_scale"].to_list() == [3, None]
    assert "fitzpatrick_centaur" not in cohort.table.columns
    assert "annotators agree" not in " ".join(cohort.notes)


@pytest.mark.parametrize("folder", ["", "images", "images/psoriasis", "data/finalfitz17k", "data/images/psoriasis"])
@pytest.mark.parametrize("named", ["md5", "url"])
def test_images_are_found_by_either_name_in_each_layout(tmp_path, folder, named):
    tree(tmp_path, [row(0), row(1)])
    draw(tmp_path / folder / (f"{md5(1)}.jpg" if named == "md5" else "httpswwwdermaamincompic1jpg.jpg"))
    cohort = datasets.load("fitzpatrick17k", tmp_path)
    first, second = (case.files["image"] for case in cohort.cases())
    assert first is None
    assert second.is_file()
    assert second.parent == tmp_path / folder
    assert "1 of 2 cases have no picture in the folder" in cohort.notes[-1]


def test_agreement_is_counted_on_images_that_both_gave_a_tone(tmp_path):
    pairs = [(1, 1), (3, 4), (5, 2), (6, 6), (-1, 3)]
    notes = " ".join(datasets.load("fitzpatrick17k", tree(tmp_path, [row(i, *p) for i, p in enumerate(pairs)])).notes)
    # Of four, two are equal, three within one, two on the same side of III | IV; mean difference (0 - 1 + 3 + 0) / 4.
    assert "agree on 50.0% of the 4 images that both gave a tone, within one type on 75.0%" in notes
    assert "on I-III against IV-VI on 50.0%; fitzpatrick_centaur is lighter by 0.50 types" in notes


def test_the_site_is_the_urls_host_and_is_called_confounded(tmp_path):
    rows = [row(0, 1), row(1, 1), row(2, 1), row(3, 6, atlas=1), row(4, 6, atlas=1), row(5, 6), row(6, 6, url="")]
    cohort = datasets.load("fitzpatrick17k", tree(tmp_path, rows))
    here, there = "dermaamin.com", "atlasdermatologico.com.br"
    assert cohort.table["site"].to_list() == [here, here, here, there, there, here, here]
    notes = " ".join(cohort.notes)
    assert f"site is confounded with tone: {there} gave 0.0% of the images of type I and 50.0% of type VI" in notes
    assert "1 images have no url" in notes


def test_near_duplicates_are_one_cluster_through_whatever_rows_join_them(tmp_path):
    tree(tmp_path, [row(i) for i in range(6)])
    lists = [((0, 1), 1), ((2, 1), 1), ((3, 4), 0), ((4, 99), 1)]
    text = "\n".join(f'"{", ".join(md5(i) for i in members)}",{label}' for members, label in lists)
    (tmp_path / "near_duplicates.csv").write_text(f"md5hash_list,label\n{text}\n")
    cohort = datasets.load("fitzpatrick17k", tmp_path)
    first = min(md5(0), md5(1), md5(2))
    assert cohort.clusters.to_list() == [first, first, first, md5(3), md5(4), md5(5)]
    assert "1 groups of near duplicates hold 3 images, the largest 3" in " ".join(cohort.notes)


def test_without_that_table_each_image_is_its_own_cluster_and_the_notes_warn(tmp_path):
    cohort = datasets.load("fitzpatrick17k", tree(tmp_path, [row(0), row(1)]))
    assert cohort.clusters.to_list() == cohort.case_ids
    assert "no near_duplicates.csv (CleanPatrick) is there" in " ".join(cohort.notes)


def test_an_image_that_stands_twice_is_two_cases_of_one_cluster(tmp_path):
    cohort = datasets.load("fitzpatrick17k", tree(tmp_path, [row(0), row(1), row(0, label="acne")]))
    assert cohort.case_ids == [md5(0), md5(1), f"{md5(0)}_2"]
    assert cohort.clusters.to_list() == [md5(0), md5(1), md5(0)]


def test_the_clean_set_becomes_a_column(tmp_path):
    tree(tmp_path, [row(0), row(1), row(2)])
    pl.DataFrame({"partition": ["train", "test"], "md5hash": [md5(2), md5(77)]}).write_csv(tmp_path / CLEAN)
    pl.DataFrame({"md5hash": [md5(0)]}).write_csv(tmp_path / CLEAN.replace("_T_", "_F_"))
    cohort = datasets.load("fitzpatrick17k", tmp_path)
    assert cohort.table["clean"].to_list() == ["no", "no", "yes"]
    assert "keeps 1 of these images (clean: yes); 1 that it lists are not in the table" in cohort.notes[-2]
    (tmp_path / CLEAN.replace("KeepOne", "All")).write_bytes((tmp_path / CLEAN).read_bytes())
    with pytest.raises(DataError, match=r"has SimThresh_T_.*All.* and SimThresh_T_.*KeepOne.*leave the one"):
        datasets.load("fitzpatrick17k", tmp_path)


def test_a_folder_of_something_else_is_said(tmp_path):
    with pytest.raises(DataError, match=r"fitzpatrick17k\.csv: not found; expected the folder of Fitzpatrick17k"):
        datasets.load("fitzpatrick17k", tmp_path)
    with pytest.raises(DataError, match="has no column 'nine_partition_label'; is it Fitzpatrick17k's table"):
        datasets.load("fitzpatrick17k", tree(tmp_path, ["a,1,x"], "md5hash,fitzpatrick,label"))
    with pytest.raises(DataError, match="has no column 'fitzpatrick_scale'"):
        datasets.load("fitzpatrick17k", tree(tmp_path, [row(0)], HEADER.replace("fitzpatrick_scale", "tone")))
    with pytest.raises(DataError, match=rf"{md5(1)}: fitzpatrick_centaur is '7'; expected one of 1, 2, 3, 4, 5, 6, -1"):
        datasets.load("fitzpatrick17k", tree(tmp_path, [row(0), row(1, 2, 7)]))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"md5hash_list,label\n{md5(0)},1\n", "names fewer than two images"),
        (f'md5hash_list,label\n"{md5(0)}, {md5(1)}",maybe\n', "label is 'maybe'; expected one of 1, true"),
        (f'images,label\n"{md5(0)}, {md5(1)}",1\n', "has no column 'md5hash_list'; is it CleanPatrick's"),
    ],
)
def test_a_broken_table_of_duplicates_is_said(tmp_path, text, why):
    tree(tmp_path, [row(0), row(1)])
    (tmp_path / "near_duplicates.csv").write_text(text)
    with pytest.raises(DataError, match=why):
        datasets.load("fitzpatrick17k", tmp_path)


@pytest.mark.realdata
def test_the_real_table_has_the_counts_of_the_reference_notes(public_data):
    cohort = datasets.load("fitzpatrick17k", public_data / "fitzpatrick17k")
    table = cohort.table
    assert len(cohort) == 16_577
    counted = {name: dict(table[name].value_counts().iter_rows()) for name in table.columns[2:]}
    assert counted["fitzpatrick_scale"] == {None: 565, 1: 2947, 2: 4808, 3: 3308, 4: 2781, 5: 1533, 6: 635}
    assert counted["fitzpatrick_centaur"] == {None: 1073, 1: 5561, 2: 3180, 3: 2934, 4: 1974, 5: 1293, 6: 562}
    assert counted["three_partition_label"] == {"non-neoplastic": 12_080, "malignant": 2_263, "benign": 2_234}
    assert counted["nine_partition_label"]["inflammatory"] == 10_886
    assert (len(counted["label"]), counted["label"]["psoriasis"]) == (114, 653)
    assert {k: v for k, v in counted["qc"].items() if k} == {
        "1 Diagnostic": 348, "5 Potentially": 97, "2 Characteristic": 32, "3 Wrongly labelled": 17, "4 Other": 10,
    }  # fmt: skip
    assert counted["site"] == {"dermaamin.com": 12_631 + 41, "atlasdermatologico.com.br": 3_905}
    notes = " ".join(cohort.notes)
    assert "agree on 47.9% of the 15,230 images" in notes
    assert "within one type on 91.0%, on I-III against IV-VI on 86.1%; fitzpatrick_centaur is lighter by 0.35" in notes
    assert "atlasdermatologico.com.br gave 5.5% of the images of type I and 41.6% of type V" in notes
    assert "41 images have no url" in notes
    assert "no picture of any of the 16,577 cases" in notes
    assert not cohort.roles
