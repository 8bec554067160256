"""Every method runs on nets of this house, and what was trained is not trained again."""

import errno
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from medaudit.audits.ood import images, trainings
from medaudit.audits.ood.design import Design, plan
from medaudit.audits.ood.run import ood_cohort
from medaudit.audits.ood.settings import Settings
from medaudit.cohort import Cohort
from medaudit.datasets.simulate_ultrasound import simulate_ultrasound
from medaudit.errors import DataError
from medaudit.training import checkpoint, classification
from medaudit.training.classification import ClassifierRecipe
from medaudit.uncertainty import kinds
from medaudit.uncertainty.methods import METHODS


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return simulate_ultrasound(tmp_path_factory.mktemp("frames") / "us", n=150, seed=3)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few steps on small images: these tests ask what is done with a net, not how good it is."""
    monkeypatch.setitem(classification.CLASSIFIERS, "fast", ClassifierRecipe("cpu", side=32, steps=12, epochs=3))
    monkeypatch.setattr(kinds, "SWAG_SNAPSHOTS", 4)
    monkeypatch.setattr(kinds, "SWAG_STEPS", 2)


def settings(methods: str, **changed: object) -> Settings:
    asked = {"tasks": ("device", "head"), "ood": ('device == "D"',), "shifts": ("image",), "preset": "fast"}
    return Settings(**{**asked, "methods": methods, "seeds": 1, "resamples": 100, "min_patients": 2, **changed})  # type: ignore[arg-type]


def test_every_method_scores_every_case(frames: Cohort, tmp_path: Path) -> None:
    result = ood_cohort(frames, settings("all"), out=tmp_path / "run", jobs=1, progress=False)
    frame = pl.read_parquet(tmp_path / "run" / "measurements.parquet")
    assert set(frame["method"]) == set(METHODS)
    for name, method in METHODS.items():
        assert set(frame.filter(pl.col("method") == name)["score"]) == set(method.scores)
    assert frame["value"].is_finite().all()
    assert frame.height == len(result.study.scores.rows) * 2 * sum(len(m.scores) for m in METHODS.values())
    spread = frame.group_by("method", "score", "task").agg(pl.col("value").n_unique())
    flat = spread.filter((pl.col("value") == 1) & (pl.col("score") != "set_size"))
    # After 12 steps 20 passes may agree on every class: then the variation ratio has one value.
    assert set(flat["score"]) <= {"variation_ratio"}


def test_what_is_trained_is_kept_and_what_is_lost_comes_back_the_same(
    frames: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = "softmax,swag,sngp"
    out = tmp_path / "run"
    ood_cohort(frames, settings(methods), out=out, jobs=1, progress=False)
    before = {name: (out / name).read_bytes() for name in ("findings.json", "measurements.parquet")}
    for gone in ("trainings/device/seed-0/swag", "trainings/head/seed-0/sngp", "scores"):
        shutil.rmtree(out / gone)
    trained = []
    real = trainings._train
    monkeypatch.setattr(trainings, "_train", lambda unit, **rest: trained.append(unit) or real(unit, **rest))
    ood_cohort(frames, settings(methods), out=out, jobs=1, progress=False)
    assert {(unit.task, unit.kind) for unit in trained} == {(0, "swag"), (1, "sngp")}
    assert {name: (out / name).read_bytes() for name in before} == before


def test_another_deal_or_another_image_trains_anew(frames: Cohort, tmp_path: Path) -> None:
    design = plan(frames, settings("softmax"))
    out = tmp_path / "run"

    def left(people: Cohort, dealt: Design) -> bool:
        trained = out / "trainings" / "device" / "model.pt"
        trained.parent.mkdir(parents=True, exist_ok=True)
        trained.touch()
        trainings._forget_other_inputs(out, people, dealt)
        return trained.exists()

    out.mkdir()
    assert not left(frames, design)  # nothing says what it was trained on
    assert left(frames, design)
    assert not left(frames, plan(frames, settings("softmax", seed=1)))
    assert not left(frames, design)
    other = tmp_path / "other.png"
    other.write_bytes((frames.root / frames.table["image_path"][0]).read_bytes() + b" ")
    paths = [str(other), *frames.table["image_path"].to_list()[1:]]
    assert not left(replace(frames, table=frames.table.with_columns(image_path=pl.Series(paths))), design)


def test_swag_killed_between_a_snapshot_and_its_checkpoint_is_the_same_posterior(
    frames: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.random.default_rng(0).random((40, 1, 32, 32)).astype(np.float16)
    codes, rows = [i % 2 for i in range(40)], list(range(40))
    of = kinds.Trainee("classifier", "cpu", 2, 7)
    recipe = classification.CLASSIFIERS["fast"]
    base = tmp_path / "base"
    kinds.fit(of, images, codes, rows, recipe, base)
    whole = kinds.fit_swag(kinds.restored(of, base), of, images, codes, rows, recipe, tmp_path / "whole")
    real, epochs = checkpoint.save, []

    def killed(folder: Path, epoch: int, state: dict) -> Path:
        epochs.append(epoch)
        if epochs == [1, 2]:
            raise KeyboardInterrupt
        return real(folder, epoch, state)

    monkeypatch.setattr(checkpoint, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        kinds.fit_swag(kinds.restored(of, base), of, images, codes, rows, recipe, tmp_path / "broken")
    assert len(list((tmp_path / "broken").glob("snapshot-*.pt"))) == 2
    again = kinds.fit_swag(kinds.restored(of, base), of, images, codes, rows, recipe, tmp_path / "broken")
    assert epochs == [1, 2, 2, 3, 4]
    for name in whole.mean:
        assert torch.equal(again.mean[name], whole.mean[name])
        assert torch.equal(again.deviations[name], whole.deviations[name])


def test_other_images_and_another_dataset_in_one_run(frames: Cohort, tmp_path: Path) -> None:
    """Acquired anew, and against another cohort: each set has its findings, of severities the severest."""
    other = simulate_ultrasound(tmp_path / "other", n=40, seed=9)
    whole, expression = images.merged(frames, replace(other, name="other").select(pl.col("device") == "A"))
    own = tmp_path / "own.toml"
    own.write_text(
        '[[methods]]\nname = "softmax"\n[[methods]]\nname = "mahalanobis"\n[[methods]]\nname = "knn"\nk = 5000'
    )
    asked = settings(str(own), ood=(expression,), shifts=("mixed",), acquire=("gain:1,5",), tasks=("device", "head"))
    result = ood_cohort(whole, asked, out=tmp_path / "run", predict=("head",), jobs=1, progress=False)
    found = {finding.id for finding in result.findings}
    assert {"gate:head:gain-5", "gate:head:dataset-other", "trivial_cue:gain-5", "misses:gain-5:device"} <= found
    assert not {one for one in found if "gain-1" in one}
    page = (tmp_path / "run" / "report.html").read_text()
    assert "As the shift grows" in page
    assert "with its own head predictions" in page
    assert "Knn of head: k is" in page  # what a method remarks reaches the reader


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    images = np.zeros((8, 1, 32, 32), dtype=np.float16)
    monkeypatch.setattr("medaudit.cohort.atomic.os.replace", full)
    with pytest.raises(DataError, match="the disk is full"):
        kinds.fit(kinds.Trainee("classifier", "cpu", 2, 0), images, [0, 1] * 4, list(range(8)),
                  classification.CLASSIFIERS["fast"], tmp_path / "run")  # fmt: skip


def test_seeds_and_members_start_from_other_weights(frames: Cohort) -> None:
    from medaudit.audits.ood.settings import method_list

    asked = settings("ensemble", seeds=2)
    design = plan(frames, asked)
    recipe = classification.CLASSIFIERS["fast"]
    made = trainings.units(design, method_list("ensemble"), asked)
    assert len(made) == 2 * 2 * 5
    seeds = {(u.seed, u.member): trainings.trainee(design, asked, recipe, u).seed for u in made if u.task == 0}
    assert len(set(seeds.values())) == 10
    one, two = (kinds.build(kinds.Trainee("classifier", "cpu", 3, seed)) for seed in list(seeds.values())[:2])
    assert not np.allclose(one.head[1].weight.detach(), two.head[1].weight.detach())
