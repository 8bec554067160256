"""`medaudit labels` on cases that cannot be measured: one line that names the case, and the other cases are kept."""

import shutil

import nibabel as nib
import numpy as np
import polars as pl
import pytest
from small_cohorts import ball, edit, labels, save

BALL = ball((9, 9, 9), 4)
MOVED = np.array([[1, 0, 0, 30], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])


def corrupt(path):
    raw = bytearray(path.read_bytes())
    raw[40:50] = b"X" * 10
    path.write_bytes(raw)


def truncate(path):
    nib.save(nib.Nifti1Image(BALL, np.eye(4)), path.with_name("whole.nii"))
    path.write_bytes(path.with_name("whole.nii").read_bytes()[:5000])


DAMAGE = {
    "missing file": (lambda mask: mask.unlink(), ("no such file",)),
    "a folder in its place": (lambda mask: (mask.unlink(), mask.mkdir()), ("cannot be read",)),
    "an empty file": (lambda mask: mask.write_bytes(b""), ("not gzipped", "download")),
    "corrupt gzip": (corrupt, ("gzip", "download")),
    "cut gzip": (lambda mask: mask.write_bytes(mask.read_bytes()[:-40]), ("truncated", "download")),
    "another kind of file": (lambda mask: mask.write_text("hello, I am no image at all"), ("not gzipped",)),
    "wrong shape": (lambda mask: save(mask, ball((9, 9, 9), 4, 20)), ("20 x 20 x 20 against 24 x 24 x 24", "Resample")),
    "other spacing": (lambda mask: save(mask, BALL, np.diag([2, 1, 1, 1.0])), ("2 x 1 x 1 mm", "header")),
    "other affine": (lambda mask: save(mask, BALL, MOVED), ("other affine", "30 mm", "affine")),
    "NaN mask": (lambda mask: save(mask, np.where(BALL, np.nan, 0).astype(np.float32)), ("257 of 13824", "NaN")),
    "label map": (lambda mask: save(mask, BALL * 3), ("0, 3", "--label")),
    "probabilities": (lambda mask: save(mask, BALL * np.float32(0.3)), ("0.3", "threshold")),
    "two volumes": (lambda mask: save(mask, np.stack([BALL, BALL], -1)), ("4 dimensions", "split")),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_case_that_cannot_be_measured_is_named_with_the_cure_and_the_others_are_kept(medaudit, cases, damage):
    harm, words = DAMAGE[damage]
    harm(cases.parent / "auto/c003.nii.gz")
    run = cases.parent / "run"
    medaudit(*labels(cases, run)).refuses(
        1, "1 of 14 cases", "case c003:", "auto/c003.nii.gz", *words, "--skip-bad", "kept"
    )
    assert (run / "measurements.partial.jsonl").read_bytes().count(b"\n") == 13


def test_a_truncated_nifti_is_named(medaudit, cases):
    truncate(cases.parent / "auto/c003.nii")
    edit(cases, "auto/c003.nii.gz", "auto/c003.nii")
    medaudit(*labels(cases, cases.parent / "run")).refuses(1, "case c003:", "c003.nii", "5,000", "truncated")


def test_a_case_id_that_occurs_in_other_words_is_named_all_the_same(medaudit, cases):
    edit(cases, "c003,p003", "3,p003")
    (cases.parent / "auto/c003.nii.gz").unlink()
    medaudit(*labels(cases, cases.parent / "run")).refuses(1, "case 3: ")


def test_bad_cases_are_told_in_the_tables_order_and_the_sixth_is_counted(medaudit, cases):
    for i in range(9):
        (cases.parent / f"auto/c{i:03d}.nii.gz").unlink()
    said = medaudit(*labels(cases, cases.parent / "run"))
    said.refuses(1, "9 of 14 cases", "and 4 more")
    assert [said.err.find(f"case c{i:03d}:") >= 0 for i in range(9)] == [True] * 5 + [False] * 4


def test_a_mended_case_is_measured_and_the_run_goes_on(medaudit, cases):
    mask = cases.parent / "auto/c003.nii.gz"
    whole = shutil.copy2(mask, mask.with_name("whole"))
    mask.unlink()
    run = cases.parent / "run"
    assert medaudit(*labels(cases, run)).code == 1
    shutil.move(whole, mask)
    assert medaudit(*labels(cases, run)).code == 0
    assert len(pl.read_parquet(run / "measurements.parquet")) == 14


def test_skip_bad_goes_on_in_the_same_folder_and_the_report_names_who_was_left_out(medaudit, cases):
    (cases.parent / "auto/c003.nii.gz").unlink()
    run = cases.parent / "run"
    assert medaudit(*labels(cases, run)).code == 1
    assert medaudit(*labels(cases, run, "--skip-bad")).code == 0
    rows = pl.read_parquet(run / "measurements.parquet")
    assert "c003" not in rows["case_id"].to_list()
    assert len(rows) == 13
    page = (run / "report.html").read_text()
    assert "Cases left out" in page
    assert "auto/c003.nii.gz: no such file" in page


def test_a_mended_table_goes_on_too_because_only_the_bad_cases_are_measured_again(medaudit, cases):
    edit(cases, "auto/c003.nii.gz", "auto/typo.nii.gz")
    run = cases.parent / "run"
    medaudit(*labels(cases, run)).refuses(1, "case c003:", "typo.nii.gz")
    before = (run / "measurements.partial.jsonl").read_bytes()
    edit(cases, "auto/typo.nii.gz", "auto/none.nii.gz")
    medaudit(*labels(cases, run)).refuses(1, "case c003:", "none.nii.gz")
    assert (run / "measurements.partial.jsonl").read_bytes() == before
    edit(cases, "auto/none.nii.gz", "auto/c003.nii.gz")
    assert medaudit(*labels(cases, run)).code == 0


def test_a_table_that_says_another_spacing_has_its_cases_measured_again(medaudit, tmp_path):
    from small_cohorts import write_table

    np.save(tmp_path / "a.npy", BALL)
    np.save(tmp_path / "b.npy", np.roll(BALL, 2, 0))
    row = {"age": 30, "expert_path": "a.npy", "auto_path": "b.npy", "spacing_mm": 1.0}
    rows = [{"case_id": i, **row} for i in range(8)]
    table = write_table(tmp_path / "cases.csv", [*rows, {**rows[0], "case_id": 9, "auto_path": "none.npy"}])
    run = tmp_path / "run"
    medaudit(*labels(table, run)).refuses(1, "case 9:")
    write_table(table, [{**row, "spacing_mm": 0.5} for row in rows])
    assert medaudit(*labels(table, run)).code == 0
    assert pl.read_parquet(run / "measurements.parquet")["hd_mm"].to_list() == [1.0] * 8


@pytest.mark.parametrize("more", [(), ("--skip-bad",)])
def test_a_cohort_of_which_nothing_can_be_read_is_an_error_whatever_is_skipped(medaudit, cases, more):
    shutil.rmtree(cases.parent / "auto")
    medaudit(*labels(cases, cases.parent / "run", *more)).refuses(1, "none of the 14 cases", "case c000:")


def test_a_data_folder_that_is_not_there_is_said_before_fourteen_files_are(medaudit, cases):
    said = medaudit(*labels(cases, cases.parent / "run", "--data", cases.parent / "nowhere"))
    said.refuses(1, "nowhere: no such folder", "--data")
    assert not (cases.parent / "run").exists()


def test_a_path_that_the_table_lacks_is_asked_for(medaudit, cases):
    edit(cases, "auto/c003.nii.gz", "")
    medaudit(*labels(cases, cases.parent / "run")).refuses(1, "case c003:", "no file for its labels mask", "'empty:'")


@pytest.mark.parametrize("empty", ["penalise", "nan", "ignore"])
def test_one_empty_mask_and_two_empty_masks_are_measured_not_refused(medaudit, cases, empty):
    nothing = np.zeros_like(BALL)
    for file in ("auto/c003.nii.gz", "auto/c004.nii.gz", "expert/c004.nii.gz"):
        save(cases.parent / file, nothing)
    run = cases.parent / "run"
    assert medaudit(*labels(cases, run, "--empty", empty)).code == 0
    rows = pl.read_parquet(run / "measurements.parquet")
    assert len(rows) == 14
    missed, agreed = rows.filter(pl.col("case_id").is_in(["c003", "c004"])).rows(named=True)
    diagonal = 24 * 3**0.5
    dice = {"penalise": (0.0, 1.0), "nan": (0.0, None), "ignore": (None, None)}[empty]
    hd95 = {"penalise": (diagonal, 0.0), "nan": (float("inf"), None), "ignore": (None, None)}[empty]
    for row, at in ((missed, 0), (agreed, 1)):
        for name, wanted in (("dice", dice), ("hd95_mm", hd95)):
            assert np.isnan(row[name]) if wanted[at] is None else row[name] == pytest.approx(wanted[at])


def test_an_annotation_that_says_empty_is_an_empty_mask(medaudit, cases):
    edit(cases, "auto/c003.nii.gz", "empty:")
    run = cases.parent / "run"
    assert medaudit(*labels(cases, run)).code == 0
    row = pl.read_parquet(run / "measurements.parquet").filter(case_id="c003").row(0, named=True)
    assert row["prediction_voxels"] == 0
    assert row["dice"] == 0
    assert row["hd95_mm"] > 40


def test_an_image_with_nan_is_only_a_background_and_stops_nothing(medaudit, cases):
    images = cases.parent / "image"
    for i in range(14):
        save(images / f"c{i:03d}.nii.gz", np.full((24, 24, 24), np.nan, np.float32))
    said = medaudit(*labels(cases, cases.parent / "run", "--image", "image/{case_id}.nii.gz"))
    assert said.code == 0
    assert "Cases to look at" in (cases.parent / "run/report.html").read_text()
    shutil.rmtree(images)
    again = cases.parent / "again"
    assert medaudit(*labels(cases, again, "--image", "image/{case_id}.nii.gz")).code == 0


def test_masks_inside_an_archive_are_measured_and_their_archive_is_watched(medaudit, cases):
    np.savez(cases.parent / "pair.npz", expert=BALL, auto=np.roll(BALL, 1, 0))
    edit(cases, "expert/c003.nii.gz", "pair.npz#expert")
    edit(cases, "auto/c003.nii.gz", "pair.npz#auto")
    run = cases.parent / "run"
    assert medaudit(*labels(cases, run)).code == 0
    first = pl.read_parquet(run / "measurements.parquet").filter(case_id="c003").row(0, named=True)
    np.savez(cases.parent / "pair.npz", expert=BALL, auto=np.roll(BALL, 3, 0))
    assert medaudit(*labels(cases, run)).code == 0
    second = pl.read_parquet(run / "measurements.parquet").filter(case_id="c003").row(0, named=True)
    assert second["dice"] < first["dice"]
    assert second["files_sha256"] != first["files_sha256"]
