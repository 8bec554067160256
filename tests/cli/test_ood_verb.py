"""`medaudit ood`: the paper's three findings on simulated ultrasound, runs that go on, scores of others, bad input."""

import json
import os
import random
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
from small_cohorts import in_soak, kills

from medaudit.cli.main import run

SIMULATED = ("ood", "--simulate", "fetal-ultrasound", "--task", "plane", "--task", "device", "--quiet")
IMAGE = ("--ood", 'device == "D"', "--shift", "image")
METHODS = ("--methods", "softmax.entropy,mc_dropout,mahalanobis,laplace")
ANATOMY = ("--ood", 'plane == "cervix"', "--shift", "anatomy")


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        run([str(argument) for argument in arguments])
    return int(stop.value.code or 0)


def findings(folder: Path) -> dict[str, dict]:
    return {entry["id"]: entry for entry in json.loads((folder / "findings.json").read_text())}


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on simulated ultrasound: two tasks, two shifts, one seed, methods that need one net."""
    out = tmp_path_factory.mktemp("ood") / "run"
    code = call(
        *SIMULATED, *IMAGE, *ANATOMY, "--size", 1_800, "--seeds", 1, *METHODS, "--resamples", 400, "--out", out,
    )  # fmt: skip
    assert code == 0
    return out


@pytest.mark.slow
def test_the_papers_findings(simulated: Path) -> None:
    """Bounds of the spec for the entropy: the task decides which shift is noticed."""
    found = findings(simulated)
    auroc = {
        (shift, task): found[f"misses:{shift}:{task}"]["groups"]["softmax"]["auroc"]
        for shift in ("device-d", "plane-cervix")
        for task in ("plane", "device")
    }
    assert auroc["device-d", "plane"] < 0.65
    assert auroc["device-d", "device"] > 0.95
    assert auroc["plane-cervix", "plane"] > 0.85
    assert auroc["plane-cervix", "device"] < 0.65
    assert found["misses:device-d:plane"]["verdict"] == "supported"
    assert found["misses:device-d:device"]["verdict"] == "refuted"
    best = found["detector_is_not_gate:plane:device-d"]
    assert best["verdict"] == "supported"
    assert best["estimate"]["value"] < 0
    assert found["task_over_method:device-d"]["verdict"] == "supported"
    assert found["trivial_cue:device-d"]["verdict"] == "refuted"


@pytest.mark.slow
def test_the_report_stands_alone(simulated: Path) -> None:
    page = (simulated / "report.html").read_text()
    for words in ("Who notices device", "What should gate the plane prediction", "trivial cue", "FPR95", "AUGRC"):
        assert words in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    frame = pl.read_parquet(simulated / "measurements.parquet")
    assert set(frame.columns) == {"case_id", "task", "seed", "method", "score", "value", "prediction"}
    assert frame["value"].is_finite().all()
    assert not (simulated / "prepared").exists()


@pytest.mark.slow
def test_a_broken_run_goes_on_to_the_same_bytes(simulated: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(simulated, out)
    shutil.copytree(simulated.with_name("run-images"), tmp_path / "run-images")
    for gone in ("findings.json", "measurements.parquet", "report.html", "scores/plane/seed-0.npz"):
        (out / gone).unlink()
    code = call(
        *SIMULATED, *IMAGE, *ANATOMY, "--size", 1_800, "--seeds", 1, *METHODS, "--resamples", 400, "--out", out,
    )  # fmt: skip
    assert code == 0
    for name in ("findings.json", "measurements.parquet"):
        assert (out / name).read_bytes() == (simulated / name).read_bytes()


@pytest.mark.slow
def test_the_kept_scores_give_the_same_findings_without_training(simulated: Path, tmp_path: Path) -> None:
    cases = simulated.with_name("run-images") / "cases.csv"
    code = call(
        "ood", "--cases", cases, "--task", "plane", "--task", "device", *IMAGE, *ANATOMY, "--image", "image_path",
        "--scores", simulated / "measurements.parquet", "--seeds", 1, *METHODS, "--resamples", 400, "--quiet",
        "--out", tmp_path / "again",
    )  # fmt: skip
    assert code == 0
    ours, again = findings(simulated), findings(tmp_path / "again")
    assert {key: entry["estimate"] for key, entry in again.items()} == {
        key: entry["estimate"] for key, entry in ours.items()
    }
    assert not (tmp_path / "again" / "trainings").exists()


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A table of 60 tiny images of 30 patients."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(60):
        path = tmp_path / f"{i}.png"
        Image.fromarray(rng.integers(0, 255, (20, 24), dtype=np.uint8)).save(path)
        rows.append((f"c{i}", f"p{i // 2}", path.name, "ab"[i // 2 % 2], "XYZ"[i // 2 % 3], "same", i == 0))
    table = pl.DataFrame(rows, schema=["case_id", "patient_id", "image", "view", "scanner", "one", "odd"], orient="row")
    table.with_columns(odd=pl.when(pl.col("odd")).then(pl.lit("rare")).otherwise(pl.lit("usual"))).write_csv(
        tmp_path / "cases.csv"
    )
    return tmp_path / "cases.csv"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--task", "view", "--ood", 'scanner == "Q"', "--shift", "image"), 1, "matches none of 60 cases"),
        (("--task", "view", "--ood", 'scanner != "Q"', "--shift", "image"), 1, "matches every case"),
        (("--task", "view", "--ood", "scanner ==", "--shift", "image"), 2, "cannot read the expression"),
        (("--task", "view", "--ood", 'scaner == "X"', "--shift", "image"), 2, "did you mean 'scanner'"),
        (("--task", "one", "--ood", 'scanner == "X"', "--shift", "image"), 1, "only 'same'"),
        (("--task", "odd", "--ood", 'scanner == "Z"', "--shift", "image"), 1, "put rare classes together"),
        (("--task", "view"), 2, "no shift"),
        (("--task", "view", "--ood", 'scanner == "X"'), 2, "one --shift for each --ood"),
        (("--task", "view", "--acquire", "fog"), 2, "no acquisition shift"),
        (("--task", "view", "--acquire", "gain:9"), 2, "from 1 to 5"),
        (("--task", "view", "--acquire", "gain", "--methods", "magic"), 2, "no method"),
        (("--task", "view", "--acquire", "gain", "--split", "1,2"), 2, "three numbers"),
        (("--task", "view", "--acquire", "gain", "--predict", "scanner"), 2, "not one of the tasks"),
        (("--task", "view", "--ood-dataset", "hc18"), 2, "needs --ood-data"),
    ],
)
def test_bad_questions_get_one_line(
    small: Path, tmp_path: Path, capfd: pytest.CaptureFixture, arguments: tuple[str, ...], code: int, says: str
) -> None:
    assert call("ood", "--cases", small, "--image", "image", "--quiet", *arguments, "--out", tmp_path / "run") == code
    error = capfd.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert "Traceback" not in error


def test_a_broken_image_is_named(small: Path, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    (small.parent / "7.png").write_bytes(b"not a picture")
    code = call(
        "ood", "--cases", small, "--image", "image", "--task", "view", "--ood", 'scanner == "X"', "--shift", "image",
        "--quiet", "--preset", "fast", "--jobs", 1, "--out", tmp_path / "run",
    )  # fmt: skip
    assert code == 1
    assert "c7" in capfd.readouterr().err


def progress(run_folder: Path) -> int:
    """Lines of training logs, finished trainings and scored tasks."""
    logs = [len(log.read_text().splitlines()) for log in (run_folder / "trainings").glob("*/*/*/log.csv")]
    done = [*(run_folder / "trainings").glob("*/*/*/done.json"), *(run_folder / "scores").glob("*/seed-*.npz")]
    return sum(logs) + len(done)


@in_soak
@pytest.mark.slow
def test_a_study_killed_at_random_points_finds_what_an_unbroken_one_does(small: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from medaudit.training import classification as c; from medaudit.uncertainty import kinds as k; "
        "c.CLASSIFIERS['fast'] = c.ClassifierRecipe('cpu', side=32, steps=40, epochs=10); "
        "k.SWAG_SNAPSHOTS, k.SWAG_STEPS = 8, 4; from medaudit.cli.main import run; run(sys.argv[1:])"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def command(out: Path) -> list[str]:
        asked = (
            "ood", "--cases", small, "--image", "image", "--task", "view", "--task", "scanner", "--ood",
            'scanner == "X"', "--shift", "image", "--methods", "softmax,swag,mc_dropout", "--preset", "fast",
            "--seeds", 1, "--min-patients", 2, "--resamples", 100, "--jobs", 1, "--quiet", "--out", out,
        )  # fmt: skip
        return [sys.executable, "-c", program, *map(str, asked)]

    whole, out = tmp_path / "whole", tmp_path / "run"
    subprocess.run(command(whole), check=True, env=environment)
    # 2 tasks x (11 + 9 lines, 2 trainings, 1 scoring) make 46.
    points = sorted(random.Random(3).sample(range(2, 44), kills()))
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
