"""`medaudit vae` and `medaudit slug`: whole runs, runs that go on, grey images, and bad input."""

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from medaudit.cli.main import run
from medaudit.networks.vae import VaeShape
from medaudit.training import vae as training
from medaudit.training.vae import VaeRecipe

TINY = VaeRecipe(VaeShape(side=16, widths=(8, 8), latent=6), steps=24, batch_size=8, epochs=2)
SMALL = ("--seeds", 2, "--rank", 4, "--probes", 4, "--slug-images", 12, "--resamples", 200, "--jobs", 1, "--quiet")


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        run([str(argument) for argument in arguments])
    return int(stop.value.code or 0)


def findings(folder: Path) -> dict[str, dict]:
    return {entry["id"]: entry for entry in json.loads((folder / "findings.json").read_text())}


def simulated(out: Path, *more: object) -> int:
    return call(
        "vae", "--simulate", "skin", "--plant", "fair", "--size", 160, "--group", "tone", "--minority", "dark",
        "--preset", "fast", "--shares", "0,0.5", *SMALL, "--out", out, *more,
    )  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def tiny_nets() -> object:
    """The verbs as they are, on nets that train in a second."""
    patch = pytest.MonkeyPatch()
    patch.setitem(training.VAES, "fast", TINY)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("vae") / "run"
    assert simulated(out, "--standardise", "diagnosis") == 0
    return out


def test_a_run_stands_alone(trained: Path) -> None:
    found = findings(trained)
    assert "gap:tone:normalised_error" in found
    assert "silent:tone:slug" in found
    assert "explained:tone:diagnosis:normalised_error" in found
    table = pl.read_parquet(trained / "measurements.parquet")
    assert set(table["share"]) == {0.0, 0.5}
    assert set(table["seed"]) == {0, 1}
    assert {"slug", "rho", "encoder_variance", "normalised_error", "delta_e"} <= set(table.columns)
    assert np.isfinite(table["slug"].to_numpy()).all()
    assert table["slug"].min() > 0
    assert table["rho"].is_between(0, 1.2).all()
    page = (trained / "report.html").read_text()
    assert page.count("data:image/png") >= 2
    assert "<svg" in page


def test_a_run_that_was_stopped_ends_with_the_same_findings(trained: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(trained, copy)
    shutil.copytree(trained.with_name("run-images"), tmp_path / "run-images")
    shutil.rmtree(copy / "trainings" / "share-0.5" / "seed-1")
    (copy / "measured" / "share-1-seed-1.npz").unlink()
    (copy / "measured" / "share-0-seed-0.npz").unlink()
    for name in ("findings.json", "measurements.parquet"):
        (copy / name).unlink()
    assert simulated(copy, "--standardise", "diagnosis") == 0
    for name in ("findings.json", "measurements.parquet"):
        assert (copy / name).read_bytes() == (trained / name).read_bytes(), name


def test_slug_asks_more_of_a_runs_models(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "slug"
    arguments = ("slug", "--run", trained, "--rank", 4, "--images", 12, "--probes", 4, "--latent-draws", 4,
                 "--edited-images", 6, "--edits", "ink,control", "--resamples", 200, "--jobs", 1, "--pixel-maps",
                 "--quiet", "--out", out)  # fmt: skip
    assert call(*arguments) == 0
    found = findings(out)
    for name in ("encoder_is_enough", "unrelated:slug", "silent:tone:encoder_variance", "unseen:ink:slug",
                 "misplaced:ink:slug_decoder", "false_alarm:ensemble", "brightness:last_layer"):  # fmt: skip
        assert name in found, name
    table = pl.read_parquet(out / "measurements.parquet")
    assert table.filter(pl.col("edit") == "ink").height == 4 * 6
    maps = np.load(out / "maps" / "share-0-seed-0" / "slug.npy", mmap_mode="r")
    assert maps.shape[1:] == (3, 16, 16)
    first = table.filter((pl.col("edit") == "none") & (pl.col("share") == 0) & (pl.col("seed") == 0))
    # The map's pixels add up to the score.
    np.testing.assert_allclose(maps.sum(axis=(1, 2, 3)), first["slug"], rtol=1e-4)
    assert (out / "scored" / "share-0-seed-0" / "slug-all.pt").exists()
    before = (out / "findings.json").read_bytes()
    (out / "scored" / "share-1-seed-0.npz").unlink()
    assert call(*arguments) == 0
    assert (out / "findings.json").read_bytes() == before


def test_slug_takes_only_a_finished_run_of_vae(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("slug", "--run", tmp_path, "--out", tmp_path / "out") == 2
    assert "not the folder of a run" in capsys.readouterr().err
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    (copy / "trainings" / "share-0" / "seed-1" / "model.pt").unlink()
    assert call("slug", "--run", copy, "--out", tmp_path / "out") == 1
    assert "model.pt is not there" in capsys.readouterr().err
    record = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps({**record, "finished": None}))
    assert call("slug", "--run", copy, "--out", tmp_path / "out") == 1
    assert "was not finished" in capsys.readouterr().err
    (copy / "run.json").write_text(json.dumps({**record, "verb": "labels"}))
    assert call("slug", "--run", copy, "--out", tmp_path / "out") == 2
    assert "expected one of 'medaudit vae'" in capsys.readouterr().err
    assert call("slug", "--run", trained, "--shares", "0.3", "--out", tmp_path / "out") == 2
    assert "it has: 0, 0.5" in capsys.readouterr().err
    assert call("slug", "--run", trained, "--artefact", "diagnosis", "--out", tmp_path / "out") == 2
    assert "a column of yes and no" in capsys.readouterr().err


def test_grey_pictures_of_a_users_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = ["case_id,sex,image"]
    for i in range(90):
        picture = (120 + 60 * np.sin(np.linspace(0, 6, 20 + i % 3))[:, None] + rng.normal(0, 9, (1, 26))).clip(0, 255)
        Image.fromarray(picture.astype(np.uint8)).save(tmp_path / f"{i}.png")
        rows.append(f"c{i},{'f' if i % 3 else 'm'},{i}.png")
    (tmp_path / "cases.csv").write_text("\n".join(rows))
    out = tmp_path / "run"
    code = call("vae", "--cases", tmp_path / "cases.csv", "--image", "image", "--group", "sex", "--preset", "fast",
                "--shares", "0.5", *SMALL, "--min-patients", 5, "--out", out)  # fmt: skip
    assert code == 0
    assert "delta_e" not in pl.read_parquet(out / "measurements.parquet").columns
    code = call("slug", "--run", out, "--rank", 3, "--images", 10, "--probes", 4, "--latent-draws", 3, "--edits",
                "ruler", "--edited-images", 4, "--resamples", 200, "--min-patients", 5, "--quiet", "--jobs", 1, "--out",
                tmp_path / "slug")  # fmt: skip
    assert code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--group", "fitzpatrick"), 2, "expected two"),
        (("--group", "tone", "--shares", "0.5,0.1"), 2, "must rise"),
        (("--group", "tone", "--shares", "a,b"), 2, "expected numbers"),
        (("--group", "tone", "--minority", "green"), 2, "not a group"),
        (("--group", "tone", "--train", 5_000), 2, "at most"),
        (("--group", "tone", "--metric", "psnr"), 2, "no metric"),
        (("--group", "tone", "--perceptual-weights", "vgg16"), 2, "expected BACKBONE:FILE"),
        (("--group", "nothing"), 2, "nothing"),
    ],
)
def test_bad_questions_end_with_one_line(
    arguments: tuple, code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = call("vae", "--simulate", "skin", "--size", 60, "--preset", "fast", "--shares", "0.5", *SMALL, *arguments,
                 "--out", tmp_path / "out")  # fmt: skip
    err = capsys.readouterr().err
    assert shown == code, err
    assert said in err
    assert len(err.strip().splitlines()) == 1


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("vae", "slug"):
        assert call(verb, "--help") == 0
        assert "Example: medaudit" in capsys.readouterr().out


def test_scores_that_need_a_training_of_their_own(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "slug"
    code = call("slug", "--run", trained, "--rank", 3, "--images", 10, "--probes", 4, "--latent-draws", 3,
                "--edits", "none", "--shares", "0", "--resamples", 200, "--jobs", 1, "--quiet", "--out", out, "--also",
                "swag", "--also",
                "online_laplace", "--also", "dropout")  # fmt: skip
    assert code == 0
    table = pl.read_parquet(out / "measurements.parquet")
    for name in ("swag", "online_laplace", "dropout", "negative_waic", "disagreement"):
        assert table[name].null_count() == 0
        assert table[name].n_unique() > 1, name
    assert "unrelated:swag" in findings(out)
    assert call("slug", "--run", trained, "--also", "magic", "--out", tmp_path / "other") == 2
