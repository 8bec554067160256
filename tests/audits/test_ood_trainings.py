"""Every method runs on nets of this house, and what was trained is not trained again."""

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from medaudit.audits.ood import trainings
from medaudit.audits.ood.run import ood_cohort
from medaudit.audits.ood.settings import Settings
from medaudit.cohort import Cohort
from medaudit.datasets.simulate_ultrasound import simulate_ultrasound
from medaudit.training import classification
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


def test_another_deal_of_the_patients_trains_anew(frames: Cohort, tmp_path: Path) -> None:
    ood_cohort(frames, settings("softmax"), out=tmp_path / "run", jobs=1, progress=False)
    other = ood_cohort(frames, settings("softmax", seed=1), out=tmp_path / "other", jobs=1, progress=False)
    assert other.study.design.train.tolist() != []
    a, b = (pl.read_parquet(tmp_path / name / "measurements.parquet") for name in ("run", "other"))
    assert set(a["case_id"]) != set(b["case_id"])


def test_seeds_and_members_start_from_other_weights(frames: Cohort) -> None:
    from medaudit.audits.ood.design import plan
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
