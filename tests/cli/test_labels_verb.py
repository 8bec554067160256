"""`medaudit labels` as the manual calls it: its findings, its tables, its two streams."""

import json

import numpy as np
import polars as pl
import pytest
from small_cohorts import FAST, ball, edit, labels, masks_of_two_readers, save, small_hc18, write_table

ESTIMATE = {"name", "value", "low", "high", "p", "p_adjusted", "n", "method", "unit", "extra"}
FINDING = {"id", "question", "claim", "verdict", "groups", "estimate", "rests_on"}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Return the table of 60 cases of which nobody breaks anything; three of the young were missed."""
    return masks_of_two_readers(tmp_path_factory.mktemp("cohort"), 60, missed=(0, 15, 30))


def test_the_call_of_the_manual_answers_every_question_of_the_study(medaudit, cohort, tmp_path):
    run = tmp_path / "run"
    masks = ("--reference", "expert_path", "--labels", "auto_path")
    more = ["--by", "age:40,55", "--by", "ethnicity", "--within", "source"]
    more += ["--outcome", "dice>0.8", "--outcome", "top25", "--seed", "0", "--out", run]
    said = medaudit("labels", "--cases", cohort, *masks, *more, "--jobs", "1", "--resamples", "200", "--json")
    assert (said.code, said.err) == (0, "")
    assert said.json == json.loads((run / "findings.json").read_text())
    ids = [finding["id"] for finding in said.json]
    wanted = [
        f"{kind}:{by}:{measure}"
        for by in ("age", "ethnicity")
        for measure in ("dice", "hd95_mm", "ndsc")
        for kind in ("gap", "trend", "confounding", "masking", "interaction")
        if kind != "trend" or by == "age"
    ]
    wanted += [
        f"{kind}:{by}:{rule}"
        for by in ("age", "ethnicity")
        for rule in ("dice>0.8", "top25")
        for kind in ("dpd", "dir")
    ]
    assert sorted(ids) == sorted(wanted)
    for finding in said.json:
        assert set(finding) == FINDING
        assert set(finding["estimate"]) == ESTIMATE
        assert finding["verdict"] in ("supported", "refuted", "insufficient")
        assert finding["claim"].endswith(".")
        assert finding["question"].endswith("?")


def test_the_measurements_are_a_row_a_case_and_ruler(medaudit, cohort, tmp_path):
    assert medaudit(*labels(cohort, tmp_path / "run")).code == 0
    rows = pl.read_parquet(tmp_path / "run/measurements.parquet")
    assert rows["case_id"].to_list() == [f"c{i:03d}" for i in range(60)]
    assert rows["ruler"].unique().to_list() == ["labels-vs-reference"]
    numbers = ("dice", "iou", "hd95_mm", "assd_mm", "nsd_1mm", "nsd_2mm", "reference_volume_ml", "image_diagonal_mm")
    assert set(numbers) < set(rows.columns)
    assert rows["dice"].is_between(0, 1).all()


@pytest.mark.parametrize("empty", ["penalise", "nan"])
def test_the_young_whose_lesions_are_missed_are_worse_off_in_hd95_too(medaudit, cohort, tmp_path, empty):
    call = labels(cohort, tmp_path / "run", "--empty", empty, "--measure", "hd95_mm", "--measure", "dice")
    assert medaudit(*call).code == 0
    rows = pl.read_parquet(tmp_path / "run/measurements.parquet")
    missed = rows.filter(pl.col("prediction_voxels") == 0)
    assert len(missed) == 3
    assert missed["hd95_mm"].min() > rows.filter(pl.col("prediction_voxels") > 0)["hd95_mm"].max()
    findings = {f["id"]: f for f in json.loads((tmp_path / "run/findings.json").read_text())}
    hd95, dice = (findings[f"gap:age:{name}"]["groups"] for name in ("hd95_mm", "dice"))
    diagonal = 24 * 3**0.5
    assert hd95["<=50"]["n"] == 28
    assert hd95["<=50"]["mean"] > hd95[">50"]["mean"] + 3 * diagonal / 28 - 1
    assert dice["<=50"]["mean"] < dice[">50"]["mean"]


def test_hc18_is_audited_by_the_call_of_the_manual(medaudit, tmp_path):
    sizes = (90, 180, 300)
    data = small_hc18(tmp_path / "hc18", [(f"{i:03d}_HC", sizes[i % 3]) for i in range(9)])
    run = tmp_path / "run"
    template = "../hc18_automatic/{case_id}_automatic.png"
    said = medaudit(
        "labels", "--dataset", "hc18", "--data", data, "--labels", template, "--by", "trimester", "--out", run
    )
    assert (said.code, said.err) == (0, "")
    assert "gap:trimester:dice" in said.out
    assert f"report: {run / 'report.html'}" in said.out
    rows = pl.read_parquet(run / "measurements.parquet")
    head, overlap = 24 * 24, 23 * 24
    assert rows["dice"].to_list() == pytest.approx([2 * overlap / (head + overlap)] * 9)
    assert rows["hd_mm"].to_list() == pytest.approx([0.1] * 9)
    gap = json.loads((run / "findings.json").read_text())[0]
    assert list(gap["groups"]) == ["first", "second", "third"]


def test_hc18_without_its_automated_masks_asks_for_them(medaudit, tmp_path):
    data = small_hc18(tmp_path / "hc18", [("000_HC", 90)])
    call = ["labels", "--dataset", "hc18", "--data", data, "--by", "trimester", "--out", tmp_path / "run"]
    medaudit(*call).refuses(2, "--labels COLUMN or TEMPLATE")
    medaudit(*call, "--labels", "../hc18_automatic/{case}.png").refuses(2, "no column 'case'")
    medaudit(*call, "--labels", "none/{case_id}.png", *FAST).refuses(1, "case 000_HC:", "no such file")
    medaudit(*call, "--labels", "x", "--cluster", "woman").refuses(2, "no column")


def test_a_label_of_label_maps_is_audited_alone(medaudit, tmp_path):
    organ, lesion = ball((12, 12, 12), 9), ball((12, 12, 12), 4)
    rows = []
    for i in range(6):
        save(tmp_path / f"expert/{i}.nii.gz", organ + lesion)
        save(tmp_path / f"auto/{i}.nii.gz", organ + np.roll(lesion, i % 3, 0))
        rows.append({"case_id": i, "age": 30, "expert_path": f"expert/{i}.nii.gz", "auto_path": f"auto/{i}.nii.gz"})
    table = write_table(tmp_path / "cases.csv", rows)
    medaudit(*labels(table, tmp_path / "none")).refuses(1, "none of the 6 cases", "0, 1, 2", "--label")
    assert medaudit(*labels(table, tmp_path / "run", "--label", "2")).code == 0
    measured = pl.read_parquet(tmp_path / "run/measurements.parquet")
    assert measured["hd_mm"].to_list() == [0, 1, 2, 0, 1, 2]
    assert measured["reference_voxels"].to_list() == [int(lesion.sum())] * 6


def test_case_ids_may_be_anything(medaudit, tmp_path):
    ids = [
        "a/b",
        "../up",
        "a b",
        "<b>x</b>",
        "größe",
        "😀",
        "1",
        "1.0",
        "[red]",
        "%s{0}",
        "it's",
        "x" * 200,
        '"q"',
        "a,b",
    ]
    rows = []
    for i, case_id in enumerate(ids):
        save(tmp_path / f"expert/{i}.nii.gz", ball((9, 9, 9), 5))
        save(tmp_path / f"auto/{i}.nii.gz", ball((9 + i % 3, 9, 9), 5))
        paths = {"expert_path": f"expert/{i}.nii.gz", "auto_path": f"auto/{i}.nii.gz"}
        rows.append({"case_id": case_id, "age": 30 + 3 * i, **paths})
    table = write_table(tmp_path / "cases.csv", rows)
    assert medaudit(*labels(table, tmp_path / "run")).code == 0
    assert pl.read_parquet(tmp_path / "run/measurements.parquet")["case_id"].to_list() == ids
    assert "<b>x</b>" not in (tmp_path / "run/report.html").read_text()
    (tmp_path / "auto/1.nii.gz").unlink()
    medaudit(*labels(table, tmp_path / "again")).refuses(1, "case ../up:")


def test_templates_may_use_any_column_and_write_braces_twice(medaudit, cases):
    edit(cases, "case_id,patient_id", "case_id,the woman's id")
    for i in range(14):
        for kind in ("expert", "auto"):
            mask = cases.parent / f"{kind}/c{i:03d}.nii.gz"
            mask.rename(mask.with_name(f"{{p{i:03d}}}.nii.gz"))
    templates = ("--reference", "expert/{{{the woman's id}}}.nii.gz", "--labels", "auto/{{{the woman's id}}}.nii.gz")
    assert medaudit(*labels(cases, cases.parent / "run", *templates)).code == 0


# Its two streams ------------------------------------------------------------------------------------------


def test_quiet_says_nothing_and_without_it_there_is_a_table(medaudit, cohort, tmp_path):
    quiet = medaudit(*labels(cohort, tmp_path / "run"))
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")
    loud = medaudit(*(a for a in labels(cohort, tmp_path / "run") if a != "--quiet"))
    assert (loud.code, loud.err) == (0, "")
    assert "gap:age:dice" in loud.out
    assert "insufficient" in loud.out or "supported" in loud.out
    assert medaudit(*labels(cohort, tmp_path / "run"), "--json").json[0]["id"] == "gap:age:dice"


def test_progress_goes_to_the_terminals_error_stream_and_json_alone_to_the_other(medaudit, cases, monkeypatch):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")  # what a terminal is to rich
    said = medaudit(*(a for a in labels(cases, cases.parent / "run", "--json") if a != "--quiet"))
    assert "measuring cases" in said.err
    assert said.json[0]["id"] == "gap:age:dice"


# Made cohorts ---------------------------------------------------------------------------------------------


def test_a_simulated_cohort_is_made_once_and_audited(medaudit, tmp_path):
    call = ["labels", "--simulate", "breast-mri", "--plant", "label", "--size", "6", "--by", "age:40,55", *FAST]
    call += ["--within", "source", "--out", tmp_path / "run"]
    assert medaudit(*call).code == 0
    first = (tmp_path / "run/findings.json").read_bytes()
    images = tmp_path / "run-images"
    made = {file: file.stat().st_mtime_ns for file in images.rglob("*.nii.gz")}
    assert len(made) == 6 * 4
    assert medaudit(*call).code == 0
    assert {file: file.stat().st_mtime_ns for file in images.rglob("*.nii.gz")} == made
    assert (tmp_path / "run/findings.json").read_bytes() == first
    medaudit(*call, "--size", "7").refuses(2, "run-images", "other settings")
    medaudit(*call, "--by", "menopause").refuses(2, "no column 'menopause'")


def test_a_run_may_go_to_the_folder_one_stands_in(medaudit, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    call = ["labels", "--simulate", "breast-mri", "--size", "2", "--by", "age:40,55", *FAST, "--out", "."]
    assert medaudit(*call).code == 0
    assert (tmp_path / "here/report.html").exists()
    assert (tmp_path / "here-images/cases.csv").exists()


def test_nothing_is_simulated_for_a_run_that_has_nowhere_to_go(medaudit, tmp_path):
    verb = ("labels", "--simulate", "breast-mri", "--by", "age:40,55")
    (tmp_path / "file").write_text("precious")
    medaudit(*verb, "--out", tmp_path / "file").refuses(2, "file is a file; --out needs a folder")
    medaudit(*verb, "--out", tmp_path).refuses(2, "not the folder of a run")
    medaudit(*verb, "--out", "/").refuses(2, "not the folder of a run")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
