"""`medaudit diagnose` as a user calls it: what it writes, what it says of bad input, that a kill changes nothing."""

import errno
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from small_cohorts import in_soak, kills, write_table

from medaudit.training import segmentation
from medaudit.training.segmentation import Recipe

CAUSES = ["label_bias", "representation", "difficulty_imbalance", "ruler", "amplification", "source_confounding"]
TRAININGS = ("baseline", "swap-m", "difficulty-balanced", "silver-trained")
"""No swap-f: none of the small masks of f agrees well enough with the expert's."""
TINY = ("--preset", "fast", "--folds", "2", "--resamples", "100", "--min-patients", "5", "--quiet")


@pytest.fixture(autouse=True)
def short_trainings(monkeypatch):
    """A few steps: these tests ask what is done with a model, not how good it is."""
    tiny = Recipe("cpu-2d", longest=24, steps=4, batch_size=4, epochs=2)
    monkeypatch.setitem(segmentation.RECIPES, "fast", {2: tiny})


def discs(root: Path, n: int = 24, *, empty: str = "", nothing: str = "") -> Path:
    """Return the table of ``n`` pictures of a disc: sexes f and m, ratings; automated masks of f are small.

    The expert masks of the group ``empty`` are empty; the ``nothing`` column has no file in any case.
    """
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:40, :40]
    table = []
    for folder in ("image", "expert", "auto"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for i in range(n):
        sex, centre = "fm"[i % 2], rng.uniform(14, 26, 2)
        distance = np.hypot(rows - centre[0], columns - centre[1])
        disc = distance <= 9
        save = lambda name, array: Image.fromarray(array.astype(np.uint8)).save(root / name)
        save(f"image/{i}.png", 90 * disc + rng.integers(0, 90, disc.shape))
        save(f"expert/{i}.png", 255 * disc * (sex != empty))
        save(f"auto/{i}.png", 255 * (distance <= (6 if sex == "f" else 8.5)))
        table.append(
            {
                "case_id": f"d{i:02d}",
                "sex": sex,
                "site": "AB"[i // 2 % 2],
                "spacing_mm": 0.5,
                "rating_1": ["Good", "Poor"][i // 4 % 2],
                "rating_2": ["Good", "Acceptable"][i // 4 % 2],
                **{
                    f"{name}_path": "" if name == nothing else f"{name}/{i}.png" for name in ("image", "expert", "auto")
                },
            }
        )
    return write_table(root / "cases.csv", table)


def call(table: Path, out: Path, *more: object, silver: bool = True) -> list[object]:
    masks = ["--image", "image_path", "--reference", "expert_path", *(["--labels", "auto_path"] if silver else [])]
    return ["diagnose", "--cases", table, *masks, "--by", "sex", "--out", out, *TINY, "--jobs", "1", *more]


def findings(out: Path) -> dict:
    return {finding["id"]: finding for finding in json.loads((out / "findings.json").read_text())}


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    return discs(tmp_path_factory.mktemp("discs"))


def test_a_diagnosis_has_one_finding_a_cause_and_a_page(medaudit, table, tmp_path):
    out = tmp_path / "run"
    assert medaudit(*call(table, out, "--within", "site")).code == 0
    found = findings(out)
    assert list(found) == CAUSES
    assert {f["verdict"] for f in found.values()} <= {"supported", "refuted", "insufficient"}
    # Planted: f's automated masks have a radius of 6 of 9 pixels, m's of 8.5.
    assert found["label_bias"]["verdict"] == "supported"
    assert found["label_bias"]["groups"]["f"]["mean"] == pytest.approx(2 * 36 / (36 + 81), abs=0.02)
    assert found["label_bias"]["groups"]["m"]["mean"] == pytest.approx(2 * 8.5**2 / (8.5**2 + 81), abs=0.02)
    rulers = set(pl.read_parquet(out / "measurements.parquet")["ruler"])
    assert rulers == {
        "labels-vs-reference",
        "baseline-vs-labels",
        *(f"{name}-vs-reference" for name in TRAININGS),
    }
    page = (out / "report.html").read_text()
    assert all(section in page for section in ("Causes and evidence", "The models", "Latent space", "data:image/png"))
    assert (out / "trainings/baseline/fold-0/log.csv").exists()
    assert not list(out.glob("**/checkpoint-*.pt"))
    assert not (out / "prepared").exists()


def test_every_case_is_predicted_on_its_own_grid(medaudit, table, tmp_path):
    out = tmp_path / "run"
    assert medaudit(*call(table, out, "--training", "silver-trained")).code == 0
    for name in ("baseline", "silver-trained"):
        masks = sorted((out / "predictions" / name).glob("*.png"))
        assert [path.stem for path in masks] == [f"d{i:02d}" for i in range(24)]
        assert {np.asarray(Image.open(path)).shape for path in masks} == {(40, 40)}


def test_two_jobs_and_another_call_give_the_same_bytes(medaudit, table, tmp_path, monkeypatch):
    runs = [tmp_path / name for name in "ab"]
    for jobs, out in enumerate(runs, start=1):
        assert medaudit(*call(table, out, "--training", "silver-trained", "--jobs", jobs)).code == 0
    assert (runs[0] / "findings.json").read_bytes() == (runs[1] / "findings.json").read_bytes()
    before = (runs[0] / "measurements.parquet").read_bytes()
    monkeypatch.setattr("medaudit.audits.diagnosis.trainings.fit", lambda *_, **__: pytest.fail("trained again"))
    assert medaudit(*call(table, runs[0], "--training", "silver-trained")).code == 0
    assert (runs[0] / "measurements.parquet").read_bytes() == before


def test_without_automated_masks_or_ratings_fewer_causes_are_asked(medaudit, table, tmp_path):
    bare = tmp_path / "bare.csv"
    pl.read_csv(table).drop("rating_1", "rating_2").write_csv(bare)
    out = tmp_path / "run"
    assert medaudit(*call(bare, out, "--data", table.parent, silver=False)).code == 0
    found = findings(out)
    assert list(found) == CAUSES
    for cause, why in (
        ("label_bias", "no automated labels"),
        ("difficulty_imbalance", "which cases are hard"),
        ("ruler", "no second ruler"),
        ("amplification", "No model was trained on automated labels"),
        ("source_confounding", "--within"),
    ):
        assert found[cause]["verdict"] == "insufficient"
        assert why in found[cause]["claim"]
    assert set(pl.read_parquet(out / "measurements.parquet")["ruler"]) == {"baseline-vs-reference"}


def test_expert_masks_that_are_empty_in_a_whole_group_are_one_line(medaudit, tmp_path):
    said = medaudit(*call(discs(tmp_path, empty="f"), tmp_path / "run"))
    said.refuses(1, "all 12 expert masks of sex f are empty", "--label")


def test_automated_masks_that_are_empty_in_a_whole_group_are_a_bias_and_no_error(medaudit, tmp_path):
    table = discs(tmp_path)
    for i in range(0, 24, 2):
        Image.fromarray(np.zeros((40, 40), np.uint8)).save(tmp_path / f"auto/{i}.png")
    assert medaudit(*call(table, tmp_path / "run", "--training", "silver-trained")).code == 0
    found = findings(tmp_path / "run")["label_bias"]
    assert found["verdict"] == "supported"
    assert found["groups"]["f"]["mean"] == 0


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (("--min-patients", "20"), 1, ("needs two sex groups of 20 patients", "f 12, m 12")),
        (("--folds", "15", "--min-patients", "2"), 1, ("has 12 patients, fewer than the 15 folds",)),
        (("--preset", "huge"), 2, ("no preset is called 'huge'", "fast, cpu, gpu")),
        (("--training", "silver"), 2, ("no training is called 'silver'", "silver-trained")),
        (("--difficulty", "hardness"), 2, ("no column 'hardness'",)),
        (("--difficulty", "case_id"), 2, ("levels; expected 2 to 5",)),
        (("--by", "gender"), 2, ("no column 'gender'",)),
        (("--measure", "dyce"), 2, ("no measure is called 'dyce'",)),
        (("--device", "warp"), 2, ("cannot train on this device",)),
        (("--import-predictions", "nowhere"), 1, ("nowhere: no such folder",)),
    ],
)
def test_bad_questions_are_one_line(medaudit, table, tmp_path, more, code, words):
    medaudit(*call(table, tmp_path / "run", *more)).refuses(code, *words)


@pytest.mark.parametrize(
    ("nothing", "words"),
    [
        ("expert", ("no case has an expert mask",)),
        ("image", ("gives no file for its image",)),
    ],
)
def test_files_that_are_not_there_are_one_line(medaudit, tmp_path, nothing, words):
    medaudit(*call(discs(tmp_path, nothing=nothing), tmp_path / "run")).refuses(1, *words)


def test_masks_of_other_cases_are_one_line(medaudit, tmp_path):
    table = discs(tmp_path)
    rows = pl.read_csv(table)
    half = pl.int_range(pl.len()) < 12
    rows.with_columns(
        expert_path=pl.when(half).then("expert_path"), auto_path=pl.when(~half).then("auto_path")
    ).write_csv(table)
    said = medaudit(*call(table, tmp_path / "run"))
    said.refuses(1, "no case has both an expert and an automated mask")


def test_an_image_with_nan_is_one_line_that_names_the_case(medaudit, tmp_path):
    table = discs(tmp_path)
    image = np.asarray(Image.open(tmp_path / "image/3.png"), np.float32).copy()
    image[5, 5] = np.nan
    np.save(tmp_path / "image/3.npy", image)
    table.write_text(table.read_text().replace("image/3.png", "image/3.npy"))
    medaudit(*call(table, tmp_path / "run")).refuses(1, "case d03", "NaN")


def test_a_loss_that_is_not_finite_is_one_line_that_names_the_batch(medaudit, table, tmp_path, monkeypatch):
    real = segmentation.dice_and_cross_entropy
    broken = lambda logits, wanted: {name: loss * float("nan") for name, loss in real(logits, wanted).items()}
    monkeypatch.setattr(segmentation, "dice_and_cross_entropy", broken)
    said = medaudit(*call(table, tmp_path / "run"))
    said.refuses(1, "the loss is nan at step 1, cases d")
    assert len(re.findall(r"d\d\d", said.err)) == 4


def test_a_full_disk_during_a_checkpoint_is_one_line_and_the_same_command_goes_on(
    medaudit, table, tmp_path, monkeypatch
):
    whole, out = tmp_path / "whole", tmp_path / "run"
    assert medaudit(*call(table, whole, "--training", "silver-trained")).code == 0
    from medaudit.training import checkpoint

    real, written = checkpoint.replace, []

    def full(path, content):
        if path.name.startswith("checkpoint-"):
            written.append(path)
            if len(written) == 3:
                raise checkpoint.cannot_write(path, OSError(errno.ENOSPC, "No space left on device"))
        real(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "replace", full)
        said = medaudit(*call(table, out, "--training", "silver-trained"))
    said.refuses(1, "the disk is full", "train again")
    assert medaudit(*call(table, out, "--training", "silver-trained")).code == 0
    assert (out / "findings.json").read_bytes() == (whole / "findings.json").read_bytes()


def test_other_settings_are_refused_in_the_folder_of_a_run(medaudit, table, tmp_path):
    out = tmp_path / "run"
    assert medaudit(*call(table, out, "--training", "silver-trained")).code == 0
    said = medaudit(*call(table, out, "--training", "silver-trained", "--seed", "1"))
    said.refuses(2, "holds another run", "seed was 0, now 1")


def test_an_image_that_changed_is_trained_on_anew(medaudit, tmp_path):
    table, out = discs(tmp_path), tmp_path / "run"
    assert medaudit(*call(table, out, "--training", "silver-trained")).code == 0
    before = (out / "trainings/baseline/fold-0/weights.pt").read_bytes()
    for i in range(24):
        flipped = np.asarray(Image.open(tmp_path / f"image/{i}.png"))[::-1]
        Image.fromarray(flipped).save(tmp_path / f"image/{i}.png")
    assert medaudit(*call(table, out, "--training", "silver-trained")).code == 0
    assert (out / "trainings/baseline/fold-0/weights.pt").read_bytes() != before


def test_a_design_exported_to_nnunet_and_imported_again_gives_the_findings_of_its_predictions(
    medaudit, table, tmp_path
):
    here, there, raw = tmp_path / "here", tmp_path / "there", tmp_path / "raw"
    assert medaudit(*call(table, here)).code == 0
    said = medaudit(*call(table, there, "--export-nnunet", raw))
    assert said.code == 0
    names = list(TRAININGS)
    assert [path.name for path in sorted(raw.glob("Dataset*"))] == [
        f"Dataset{501 + i}_{n}" for i, n in enumerate(names)
    ]
    labels = {n: raw / f"Dataset{501 + i}_{n}" / "labelsTr" for i, n in enumerate(names)}
    first = {n: np.asarray(Image.open(folder / "d00.png")) for n, folder in labels.items()}
    expert, auto = (np.asarray(Image.open(table.parent / f"{kind}/0.png")) // 255 for kind in ("expert", "auto"))
    assert np.array_equal(first["baseline"], expert)  # 0 and 1, as nnU-Net wants
    assert np.array_equal(first["silver-trained"], auto)
    splits = json.loads((raw / "Dataset501_baseline/splits_final.json").read_text())
    assert sorted(case for split in splits for case in split["val"]) == [f"d{i:02d}" for i in range(24)]
    assert all(not set(split["train"]) & set(split["val"]) for split in splits)
    manifest = json.loads((raw / "diagnosis.json").read_text())
    assert [t["name"] for t in manifest["trainings"]] == names
    swapped = manifest["trainings"][1]
    assert swapped["swapped"]
    assert swapped["swapped_dice_min"] >= 0.8
    assert set(swapped["swapped"]) <= set(swapped["trained_on"])

    # What nnU-Net leaves: results/DatasetXXX_name/TRAINER__PLANS__CONFIGURATION/fold_k/validation/case.png
    results = tmp_path / "results"
    for i, name in enumerate(names[:-1]):
        for fold, split in enumerate(splits):
            place = results / f"Dataset{501 + i}_{name}/nnUNetTrainer__nnUNetPlans__2d/fold_{fold}/validation"
            place.mkdir(parents=True)
            for case in split["val"]:
                shutil.copy(here / f"predictions/{name}/{case}.png", place)
    assert medaudit(*call(table, there, "--import-predictions", results)).code == 0
    ours, theirs = findings(here), findings(there)
    for cause in ("label_bias", "representation", "difficulty_imbalance", "ruler"):
        assert theirs[cause]["estimate"]["value"] == ours[cause]["estimate"]["value"]
        assert theirs[cause]["verdict"] == ours[cause]["verdict"]
    assert theirs["amplification"]["verdict"] == "insufficient"  # silver-trained was not brought back
    assert "No predictions of silver-trained" in (there / "report.html").read_text()


def test_predictions_without_a_baseline_are_one_line(medaudit, table, tmp_path):
    (tmp_path / "results").mkdir()
    said = medaudit(*call(table, tmp_path / "run", "--import-predictions", tmp_path / "results"))
    said.refuses(1, "no predictions of the baseline", "d00")


def progress(out: Path) -> int:
    """How far a diagnosis has come: epochs, predicted masks, measured cases."""
    lines = [path for pattern in ("trainings/*/*/log.csv", "*.partial.jsonl") for path in out.glob(pattern)]
    counted = [*out.glob("predictions/*/*.png"), *out.glob("*-measurements.parquet")]
    return len(counted) + sum(path.read_bytes().count(b"\n") for path in lines if path.exists())


@in_soak
@pytest.mark.slow
def test_a_diagnosis_killed_at_random_points_finds_what_an_unbroken_one_does(tmp_path):
    table = discs(tmp_path / "discs", 16)
    program = (
        "import sys; from medaudit.training import segmentation as s; "
        "s.RECIPES['fast'] = {2: s.Recipe('cpu-2d', 24, 60, batch_size=4, epochs=10)}; "
        "from medaudit.cli.main import run; run(sys.argv[1:])"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def command(out):
        more = ("--training", "silver-trained", "--min-patients", "4")
        return [sys.executable, "-c", program, *map(str, call(table, out, *more))]

    whole, out = tmp_path / "whole", tmp_path / "run"
    subprocess.run(command(whole), check=True, env=environment)
    # 2 models x 2 folds x 11 lines and 32 masks make 76; what is measured after that comes and goes unseen.
    points = sorted(random.Random(5).sample(range(2, 74), kills()))
    reached = []
    for point in points:
        process = subprocess.Popen(command(out), env=environment)
        while process.poll() is None and progress(out) < point:
            time.sleep(0.005)
        assert process.poll() is None, "it ended before it could be killed"
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        reached.append(progress(out))
    assert reached == sorted(reached)
    assert not (out / "findings.json").exists()
    subprocess.run(command(out), check=True, env=environment)
    for name in ("findings.json", "measurements.parquet"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
