"""`medaudit vae` that is stopped, asked again, asked otherwise, or given pictures that no metric can judge."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from medaudit.audits.generative import trainings
from medaudit.cli.main import run
from medaudit.networks.vae import VaeShape
from medaudit.training import vae as training
from medaudit.training.vae import VaeRecipe, fit_vae

TINY = VaeRecipe(VaeShape(side=16, widths=(4, 4), latent=3), steps=6, batch_size=8, epochs=2)
SMALL = ("--preset", "fast", "--shares", "0.2,0.5", "--seeds", 2, "--rank", 0, "--probes", 4, "--resamples", 100,
         "--min-patients", 5, "--jobs", 1, "--quiet")  # fmt: skip
FILES = ("findings.json", "measurements.parquet", "cases.parquet")


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


def pictures(folder: Path, *, flat: tuple[int, ...] = (), grey: bool = False) -> Path:
    """Return the table of 80 small pictures of 40 lesions of two sexes; those of ``flat`` have one colour."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    rows = ["case_id,lesion,sex,diagnosis,image"]
    for i in range(80):
        wave = 120 + 60 * np.sin(np.linspace(0, 6, 20))[:, None, None] + rng.normal(0, 12, (1, 22, 3))
        picture = np.full((20, 22, 3), 90.0) if i in flat else wave
        shown = picture.clip(0, 255).astype(np.uint8)
        Image.fromarray(shown[..., 0] if grey else shown).save(folder / f"{i}.png")
        rows.append(f"c{i},l{i // 2},{'f' if (i // 2) % 3 else 'm'},{'ab'[i % 5 > 2]},{i}.png")
    (folder / "cases.csv").write_text("\n".join(rows))
    return folder / "cases.csv"


def audit(cases: Path, out: Path, *more: object) -> int:
    return call("vae", "--cases", cases, "--image", "image", "--group", "sex", "--cluster", "lesion", *SMALL, *more,
                "--out", out)  # fmt: skip


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictures(tmp_path_factory.mktemp("cases"))


@pytest.fixture(scope="module")
def finished(cases: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("vae") / "run"
    assert audit(cases, out) == 0
    return out


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[Path]]:
    """Return a function that counts trainings from now on, by their folders, and stops before one too many."""

    def count(most: int) -> list[Path]:
        done: list[Path] = []

        def fit(model: Any, images: Any, rows: Any, recipe: Any, folder: Path, **options: Any) -> Any:
            if len(done) == most:
                raise KeyboardInterrupt
            done.append(folder)
            return fit_vae(model, images, rows, recipe, folder, **options)

        monkeypatch.setattr(trainings, "fit_vae", fit)
        return done

    return count


def same(first: Path, second: Path) -> None:
    for name in FILES:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_what_is_finished_is_not_trained_again(cases: Path, finished: Path, copy: Path, counted: Any) -> None:
    done = counted(0)
    assert audit(cases, copy) == 0
    assert not done
    same(copy, finished)


def test_a_run_stopped_between_trainings_ends_with_the_same_bytes_and_repeats_nothing(
    cases: Path, finished: Path, tmp_path: Path, counted: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    first = counted(2)
    assert audit(cases, tmp_path / "run") == 130
    assert "continues where it was" in capsys.readouterr().err
    assert not (tmp_path / "run" / "findings.json").exists()
    second = counted(99)
    assert audit(cases, tmp_path / "run") == 0
    assert len(first) == len(second) == 2
    assert not set(first) & set(second)
    same(tmp_path / "run", finished)


def test_half_of_the_measurements_gone_are_made_from_the_models_without_training(
    cases: Path, finished: Path, copy: Path, counted: Any
) -> None:
    done = counted(0)
    for file in sorted((copy / "measured").glob("*.npz"))[::2]:
        file.unlink()
    assert audit(cases, copy) == 0
    assert not done
    same(copy, finished)


def test_a_page_has_pictures_curves_and_no_path_of_this_machine(finished: Path) -> None:
    page = (finished / "report.html").read_text()
    assert page.count("data:image/png") >= 2
    assert "<svg" in page
    assert str(finished.parent) not in page
    record = json.loads((finished / "run.json").read_text())
    assert record["verb"] == "vae"
    assert record["finished"]
    assert record["settings"]["shares"] == [0.2, 0.5]


def test_measurements_have_a_row_a_test_case_and_training_and_no_patient_of_the_training(
    finished: Path, cases: Path
) -> None:
    table = pl.read_parquet(finished / "measurements.parquet")
    ids = table["case_id"].unique()
    assert table.height == 4 * len(ids)
    assert table.select(pl.struct("case_id", "share", "seed").n_unique()).item() == table.height
    lesions = pl.read_csv(cases).select("case_id", "lesion")
    tested = lesions.filter(pl.col("case_id").is_in(ids.to_list()))
    whole = lesions.filter(pl.col("lesion").is_in(tested["lesion"].unique().to_list()))
    assert whole.height == tested.height  # all images of a tested lesion are tested


def test_another_question_needs_another_folder(cases: Path, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit(cases, copy, "--seed", 1) == 2
    assert "choose another --out" in capsys.readouterr().err


def test_json_is_the_findings(cases: Path, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit(cases, copy, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert {entry["id"] for entry in (said if isinstance(said, list) else said["findings"])} == {
        entry["id"] for entry in json.loads((copy / "findings.json").read_text())
    }


def test_a_missing_picture_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = pictures(tmp_path / "cases")
    (tmp_path / "cases" / "7.png").unlink()
    assert audit(table, tmp_path / "run") == 1
    err = capsys.readouterr().err
    assert "case c7" in err
    assert len(err.strip().splitlines()) == 1


def test_pictures_of_one_colour_are_named_where_the_metric_cannot_judge_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit(pictures(tmp_path / "cases", flat=tuple(range(0, 40, 2))), tmp_path / "run") == 1
    err = capsys.readouterr().err
    assert "case c" in err
    assert len(err.strip().splitlines()) == 1


def test_pictures_of_one_colour_do_not_matter_to_other_metrics(tmp_path: Path) -> None:
    table = pictures(tmp_path / "cases", flat=tuple(range(0, 40, 2)))
    assert audit(table, tmp_path / "run", "--metric", "squared_error", "--standardise", "diagnosis") == 0


def test_a_model_that_was_deleted_is_trained_again_as_slug_says(cases: Path, finished: Path, copy: Path) -> None:
    models = [copy / "trainings" / f"share-{share}" / "seed-0" / "model.pt" for share in ("0.2", "0.5")]
    kept = [model.read_bytes() for model in models]
    for model in models:
        model.unlink()
    assert audit(cases, copy) == 0
    assert [model.exists() and model.read_bytes() for model in models] == kept
    same(copy, finished)


def test_damaged_measurements_are_named_or_made_again(cases: Path, copy: Path) -> None:
    file = next((copy / "measured").glob("*.npz"))
    file.write_bytes(file.read_bytes()[:200])
    assert audit(cases, copy) in (0, 1)


def test_a_metric_that_grey_pictures_do_not_have_is_refused_before_the_first_training(
    tmp_path: Path, counted: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    done = counted(99)
    assert audit(pictures(tmp_path / "cases", grey=True), tmp_path / "run", "--metric", "delta_e") == 2
    assert "delta_e" in capsys.readouterr().err
    assert not done


@pytest.mark.parametrize("option", ["--beta", "--perceptual"])
def test_weights_that_are_no_numbers_are_refused(option: str, cases: Path, tmp_path: Path) -> None:
    assert audit(cases, tmp_path / "run", option, "nan") == 2
