"""`medaudit ruler` as a user calls it: on good masks, on a sample of expert masks, on none, and on what cannot be."""

import csv
import os
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from scipy import ndimage
from small_cohorts import FAST, ball, save, write_table

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("MEDAUDIT_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture
def three(tmp_path):
    """The table of 24 cases with three sets of masks; silver follows the prediction, and misses the old ones' rim."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(24):
        centre, radius = rng.uniform(9, 14, 3), rng.uniform(5, 6)
        guess = tuple(centre + rng.normal(0, 0.8, 3))
        masks = {
            "gold": ball(tuple(centre), radius),
            "model": ball(guess, radius),
            "auto": ball(guess, radius - (1 if i % 2 else 0.3)),
        }
        for name, mask in masks.items():
            save(tmp_path / name / f"c{i:02d}.nii.gz", mask)
        paths = {f"{name}_path": f"{name}/c{i:02d}.nii.gz" for name in masks}
        rows.append({"case_id": f"c{i:02d}", "sex": "fm"[i % 2], "iou": 0.7, "nothing": "", **paths})
    return write_table(tmp_path / "cases.csv", rows)


def ruler(table, *more, prediction="model_path", silver="auto_path", by="sex", out=None):
    masks = ("--prediction", prediction, "--silver", silver)
    return ["ruler", "--cases", table, *masks, "--by", by, *FAST, "--out", out or table.parent / "run", *more]


def rewrite(table, change):
    rows = list(csv.DictReader(table.open(encoding="utf-8")))
    for i, row in enumerate(rows):
        change(i, row)
    return write_table(table, rows)


def test_it_measures_each_case_by_three_rulers_and_writes_a_report(medaudit, three):
    said = medaudit(*ruler(three, "--gold", "gold_path", "--json", "--silver-from", "a cousin of the model"))
    assert said.code == 0, said.err
    names = ["ruler", *(f"ruler:sex:{x}" for x in ("false-magnitude", "false-confidence", "masking", "true-gap"))]
    assert [finding["id"] for finding in said.json] == names
    assert set(said.json[0]["groups"]["f"]) >= {"n", "gold", "silver", "silver_vs_gold", "shift", "sd_ratio"}
    table = pl.read_parquet(three.parent / "run" / "measurements.parquet")
    assert table.group_by("ruler").len().sort("ruler").rows() == [
        ("prediction-vs-gold", 24),
        ("prediction-vs-silver", 24),
        ("silver-vs-gold", 24),
    ]
    page = (three.parent / "run" / "report.html").read_text(encoding="utf-8")
    assert "a cousin of the model" in page
    assert "The three masks by sex" in page


def test_on_a_distance_silver_that_is_nearer_is_silver_that_flatters(medaudit, three):
    said = medaudit(*ruler(three, "--gold", "gold_path", "--measure", "hd95_mm", "--json"))
    assert said.code == 0, said.err
    for group in said.json[0]["groups"].values():
        assert group["silver"] < group["gold"]
        assert group["shift"] == pytest.approx(group["gold"] - group["silver"], abs=1e-5)
    assert said.json[0]["estimate"]["unit"] == "mm"


def test_the_same_call_again_gives_the_same_findings(medaudit, three):
    first, second = (medaudit(*ruler(three, "--gold", "gold_path", "--json")) for _ in range(2))
    assert first.code == second.code == 0
    assert first.json == second.json


def test_a_sample_of_gold_masks_is_enough(medaudit, three):
    rewrite(three, lambda i, row: row.update(gold_path=row["gold_path"] if i < 14 else ""))
    said = medaudit(*ruler(three, "--gold", "gold_path", "--json"))
    assert said.code == 0, said.err
    found = {finding["id"]: finding for finding in said.json}
    assert found["ruler"]["estimate"]["n"] == 14
    assert found["ruler:sex:true-gap"]["estimate"]["n"] == 24
    assert "prediction-powered" in found["ruler:sex:true-gap"]["estimate"]["method"]


def test_without_gold_an_estimate_of_silvers_quality_bounds_the_gap(medaudit, three):
    said = medaudit(*ruler(three, "--silver-iou", "iou", "--json"))
    assert said.code == 0, said.err
    found = {finding["id"]: finding for finding in said.json}
    extra = found["ruler:sex:true-gap"]["estimate"]["extra"]
    assert extra["least"] <= extra["most"]
    assert found["ruler"]["verdict"] == "insufficient"


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        ((), 2, ("--gold", "--silver-iou")),
        (("--gold", "gold_path", "--silver-iou", "iou"), 2, ("--silver-iou",)),
        (("--gold", "nothing"), 1, ("no case has a gold mask",)),
        (("--gold", "auto_path"), 2, ("--silver", "--gold", "same files")),
        (("--gold", "model_path"), 2, ("--prediction", "--gold", "same files")),
        (("--gold", "gold_pth"), 2, ("gold_pth", "did you mean 'gold_path'")),
        (("--gold", "gold_path", "--by", "sex"), 2, ("--by sex", "twice")),
        (("--gold", "gold_path", "--measure", "dise"), 2, ("dise", "dice")),
        (("--gold", "gold_path", "--outcome", "dice!0.8"), 2, ("dice!0.8",)),
        (("--silver-iou", "iou", "--measure", "hd95_mm"), 2, ("--silver-iou", "hd95_mm")),
        (("--gold", "nowhere/{case_id}.nii.gz"), 1, ("c00",)),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(medaudit, three, more, code, words):
    medaudit(*ruler(three, *more)).refuses(code, *words)


def test_a_silver_quality_that_is_no_iou_is_refused(medaudit, three):
    rewrite(three, lambda i, row: row.update(iou="70"))
    medaudit(*ruler(three, "--silver-iou", "iou")).refuses(1, "c00", "70")


def test_the_prediction_as_its_own_ruler_is_refused(medaudit, three):
    medaudit(*ruler(three, "--gold", "gold_path", silver="model_path")).refuses(2, "--prediction", "--silver")


@pytest.mark.parametrize(("one", "other"), [("auto", "model"), ("auto", "gold")])
def test_copies_of_other_masks_are_found_out(medaudit, three, one, other):
    shutil.rmtree(three.parent / one)
    shutil.copytree(three.parent / other, three.parent / one)
    medaudit(*ruler(three, "--gold", "gold_path")).refuses(1, "silver", "same in all 24 cases")


def test_gold_and_silver_of_different_cases_are_refused(medaudit, three):
    rewrite(three, lambda i, row: row.update({("gold_path" if i < 12 else "auto_path"): ""}))
    medaudit(*ruler(three, "--gold", "gold_path")).refuses(1, "no case has prediction, silver and gold")


def test_a_case_that_stands_twice_is_refused(medaudit, three):
    rewrite(three, lambda i, row: row.update(case_id="c00"))
    medaudit(*ruler(three, "--gold", "gold_path")).refuses(1, "c00", "more than one row")


def test_a_simulated_twin_is_scored_against_its_own_masks(medaudit, tmp_path):
    call = ["ruler", "--simulate", "breast-mri", "--by", "age:40,55", *FAST, "--out", tmp_path / "run"]
    said = medaudit(*call, "--plant", "false-confidence", "--size", "30", "--json")
    assert said.code == 0, said.err
    found = {finding["id"]: finding for finding in said.json}
    assert found["ruler:age:false-confidence"]["verdict"] != "refuted"
    for group in found["ruler"]["groups"].values():
        assert group["silver"] > 0.9 > group["gold"]
    assert len(list((tmp_path / "run-images" / "prediction").iterdir())) == 30


def test_a_simulated_cohort_without_predictions_is_refused_before_it_is_made(medaudit, tmp_path):
    call = ["ruler", "--simulate", "breast-mri", "--by", "age:40,55", *FAST, "--out", tmp_path / "run"]
    modes = ("false-magnitude", "false-confidence", "masking")
    medaudit(*call, "--plant", "label").refuses(2, "'label' of breast-mri has no prediction", *modes)
    medaudit(*call, "--plant", "twin").refuses(2, "no plant of breast-mri is called 'twin'", *modes)
    medaudit(*call, "--cases", tmp_path / "cases.csv").refuses(2, "one of --dataset", "--simulate")
    assert not list(tmp_path.iterdir())


@pytest.mark.realdata
@pytest.mark.skipif(not (DATA / "hc18_automatic").is_dir(), reason="needs hc18 and hc18_automatic under MEDAUDIT_DATA")
def test_on_hc18_predictions_made_from_the_silver_masks_are_seen_to_be_their_twins(medaudit, tmp_path):
    cases = [path.name for path in sorted((DATA / "hc18_automatic").glob("*_automatic.png"))][::5]
    for name in cases:
        mask = np.asarray(Image.open(DATA / "hc18_automatic" / name)) > 0
        Image.fromarray(ndimage.binary_erosion(mask, iterations=4).astype(np.uint8) * 255).save(tmp_path / name)
    from medaudit.audits.ruler.run import audit_rulers
    from medaudit.audits.ruler.study import Settings
    from medaudit.datasets import load

    some = [name.removesuffix("_automatic.png") for name in cases]
    cohort = load("hc18", DATA / "hc18").select(pl.col("case_id").is_in(some))
    cohort = cohort.with_role("silver", "../hc18_automatic/{case_id}_automatic.png")
    cohort = cohort.with_role("prediction", str(tmp_path / "{case_id}_automatic.png"))
    asked = Settings(by=("trimester",), resamples=999, min_patients=10)
    found = {f.id: f for f in audit_rulers(cohort, asked, out=tmp_path / "run", jobs=2, progress=False).findings}
    assert found["ruler:trimester:false-confidence"].verdict == "supported"
    assert found["ruler:trimester:false-magnitude"].verdict != "supported"
    assert found["ruler:trimester:masking"].verdict == "supported"
    # The prediction and the silver masks themselves, as one: degenerate, and said so.
    said = medaudit(
        "ruler", "--dataset", "hc18", "--data", DATA / "hc18", "--by", "trimester", *FAST, "--out", tmp_path / "same",
        "--prediction", "../hc18_automatic/{case_id}_automatic.png",
        "--silver", "../hc18_automatic/{case_id}_automatic.png",
    )  # fmt: skip
    said.refuses(2, "same files in all 999 cases")
