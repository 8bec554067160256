"""`medaudit slug` that is stopped, asked for part of its scores, or asked for what there is not."""

from __future__ import annotations

import html
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from medaudit.audits.generative_uncertainty import scoring
from medaudit.cli.main import run
from medaudit.networks.vae import VaeShape
from medaudit.report import Run
from medaudit.training import vae as training
from medaudit.training.vae import VaeRecipe

TINY = VaeRecipe(VaeShape(side=16, widths=(4, 4), latent=3), steps=6, batch_size=8, epochs=2)
SMALL = ("--rank", 3, "--images", 6, "--probes", 4, "--latent-draws", 2, "--edited-images", 3, "--resamples", 100,
         "--min-patients", 2, "--jobs", 1, "--quiet")  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def tiny_nets() -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setitem(training.VAES, "fast", TINY)
    yield
    patch.undo()


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        run([str(argument) for argument in arguments])
    return int(stop.value.code or 0)


def ids(folder: Path) -> set[str]:
    return {entry["id"] for entry in json.loads((folder / "findings.json").read_text())}


@pytest.fixture(scope="module")
def vaes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of grey pictures, two to a lesion, dealt by lesion."""
    folder = tmp_path_factory.mktemp("vae")
    rng = np.random.default_rng(0)
    rows = ["case_id,lesion,sex,ruler,always,code,image"]
    for i in range(72):
        picture = 120 + 60 * np.sin(np.linspace(0, 6, 16))[:, None] + rng.normal(0, 12, (1, 16))
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / f"{i}.png")
        sex, ruler = "f" if (i // 2) % 3 else "m", ("yes", "no", "")[i % 3]
        rows.append(f"c{i},l{i // 2},{sex},{ruler},no,{i % 4},{i}.png")
    (folder / "cases.csv").write_text("\n".join(rows))
    out = folder / "run"
    code = call("vae", "--cases", folder / "cases.csv", "--image", "image", "--group", "sex", "--cluster", "lesion",
                "--preset", "fast", "--shares", "0.2,0.5", "--seeds", 2, "--rank", 0, "--probes", 4, "--resamples", 100,
                "--min-patients", 5, "--jobs", 1, "--quiet", "--about", "ddi", "--out", out)  # fmt: skip
    assert code == 0
    return out


def asked(vaes: Path, out: Path, *more: object) -> int:
    return call("slug", "--run", vaes, *SMALL, "--edits", "ink", *more, "--out", out)


@pytest.fixture(scope="module")
def finished(vaes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("slug") / "run"
    assert asked(vaes, out, "--artefact", "ruler") == 0
    return out


def test_it_tests_the_images_that_vae_tested_and_no_other(vaes: Path, finished: Path) -> None:
    ours, theirs = (pl.read_parquet(folder / "measurements.parquet") for folder in (finished, vaes))
    assert set(ours["case_id"]) == set(theirs["case_id"])
    # The error of an image under a model is what the first run measured.
    both = ours.filter(pl.col("edit") == "none").join(theirs, on=["case_id", "share", "seed"], suffix="_vae")
    assert both.height == theirs.height
    np.testing.assert_allclose(both["squared_error"], both["squared_error_vae"], rtol=1e-6)
    np.testing.assert_allclose(both["encoder_variance"], both["encoder_variance_vae"], rtol=1e-6)


def test_edited_images_are_of_the_majority_and_tested(finished: Path) -> None:
    table = pl.read_parquet(finished / "measurements.parquet")
    edited = table.filter(pl.col("edit") == "ink")
    assert set(edited["group"]) == {"f"}
    assert edited.height == 4 * 3
    assert set(edited["case_id"]) <= set(table.filter(pl.col("edit") == "none")["case_id"])


def test_columns_of_real_artefacts_become_findings(finished: Path) -> None:
    assert {"unseen:ruler:slug", "unseen:ruler:encoder_variance"} <= ids(finished)


def test_a_report_has_the_pictures_and_the_fits(finished: Path) -> None:
    page = (finished / "report.html").read_text()
    assert "data:image/png" in page
    assert "20 %, seed 0" in page
    assert str(finished.parent) not in page


def test_the_page_tells_the_dataset_and_what_was_known_of_it_when_its_models_were_trained(
    vaes: Path, finished: Path
) -> None:
    page, earlier = (Run.read(folder).report() for folder in (finished, vaes))
    assert page.known
    assert page.known == earlier.known
    assert dict(page.provenance)["dataset"] == dict(earlier.provenance)["dataset"]
    assert page.known[0].text in html.unescape((finished / "report.html").read_text())


def test_what_is_finished_is_not_scored_again_and_what_was_stopped_ends_with_the_same_bytes(
    vaes: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[int] = []
    scores_of, most = scoring.scores_of, 3

    def stopped(*arguments: Any) -> Any:
        if len(done) == most:
            raise KeyboardInterrupt
        done.append(1)
        return scores_of(*arguments)

    monkeypatch.setattr(scoring, "scores_of", stopped)
    out = tmp_path / "run"
    # Clean and edited images of the first training, and clean ones of the second.
    assert asked(vaes, out, "--artefact", "ruler") == 130
    assert len(list((out / "scored").glob("*.npz"))) == 1
    done, most = [], 99
    assert asked(vaes, out, "--artefact", "ruler") == 0
    assert len(done) == 2 * 3
    for name in ("findings.json", "measurements.parquet"):
        assert (out / name).read_bytes() == (finished / name).read_bytes(), name
    done, most = [], 0
    assert asked(vaes, out, "--artefact", "ruler") == 0
    assert (out / "findings.json").read_bytes() == (finished / "findings.json").read_bytes()


def test_the_decoders_posterior_alone(vaes: Path, tmp_path: Path) -> None:
    assert asked(vaes, tmp_path / "run", "--params", "decoder", "--shares", "0.2", "--weights", "projector") == 0
    found = ids(tmp_path / "run")
    assert "unrelated:slug_decoder" in found
    assert "unrelated:slug" not in found
    assert "encoder_is_enough" not in found
    table = pl.read_parquet(tmp_path / "run" / "measurements.parquet")
    assert set(table["share"]) == {0.2}
    assert not {"slug", "rho", "jacobian"} & set(table.columns)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--edits", "paint"), 2, "no edit is called 'paint'"),
        (("--edits", "ink,ink"), 2, "twice"),
        (("--params", "encoder"), 2, "--params"),
        (("--weights", "random"), 2, "expected 'eigenvalue' or 'projector'"),
        (("--shares", "0.3"), 2, "it has: 0.2, 0.5"),
        (("--shares", "many"), 2, "expected numbers"),
        (("--artefact", "hair"), 2, "no column 'hair'"),
        (("--artefact", "code"), 2, "a column of yes and no"),
    ],
)
def test_bad_questions_end_with_one_line(
    arguments: tuple, code: int, said: str, vaes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked(vaes, tmp_path / "run", *arguments) == code
    err = capsys.readouterr().err
    assert said in err
    assert len(err.strip().splitlines()) == 1


def test_a_damaged_model_or_missing_table_is_named(
    vaes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(vaes, tmp_path / "copy"))
    model = copy / "trainings" / "share-0.2" / "seed-1" / "model.pt"
    model.write_bytes(model.read_bytes()[:300])
    assert asked(copy, tmp_path / "run") == 1
    assert "model.pt is damaged" in capsys.readouterr().err
    (copy / "cases.parquet").unlink()
    assert asked(copy, tmp_path / "run") == 1
    assert "cases.parquet is not there" in capsys.readouterr().err
    shutil.rmtree(copy / "prepared")
    shutil.copy(vaes / "cases.parquet", copy)
    assert asked(copy, tmp_path / "other") == 1
    assert "prepared is not there" in capsys.readouterr().err


def test_no_edits_at_all(vaes: Path, tmp_path: Path) -> None:
    assert asked(vaes, tmp_path / "run", "--edits", "none") == 0
    found = ids(tmp_path / "run")
    assert "unrelated:slug" in found
    assert not [one for one in found if one.startswith(("unseen", "misplaced", "false_alarm"))]


@pytest.mark.parametrize("metric", ["psnr", "delta_e"])  # no metric; a metric of colours, and these pictures are grey
def test_a_metric_that_there_is_not_is_refused(
    metric: str, vaes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked(vaes, tmp_path / "run", "--metric", metric) == 2
    err = capsys.readouterr().err
    assert metric in err
    assert "squared_error" in err


def test_an_artefact_that_no_test_image_has_is_said(vaes: Path, tmp_path: Path) -> None:
    code = asked(vaes, tmp_path / "run", "--artefact", "always")
    assert code != 0 or any("always" in one for one in ids(tmp_path / "run"))


@pytest.mark.parametrize("shares", ["0.5,0.2", "0.2,0.2"])
def test_shares_rise_each_once_as_those_of_vae(shares: str, vaes: Path, tmp_path: Path) -> None:
    assert asked(vaes, tmp_path / "run", "--shares", shares) == 2
