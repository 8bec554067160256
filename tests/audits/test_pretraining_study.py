"""Was it worth pretraining? On made-up features: what was planted is found, and chance alone is rarely called worth it.

A picture carries its row's number in its first two pixels; a made-up backbone reads it and looks its features up.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from scipy.stats import binom
from sklearn.metrics import f1_score

from medaudit.audits.pretraining import contenders as rivals
from medaudit.audits.pretraining.contenders import Contender, contenders, features_of, identity
from medaudit.audits.pretraining.design import plan
from medaudit.audits.pretraining.findings import findings, verdict_of
from medaudit.audits.pretraining.overlaps import Overlaps, overlaps_of
from medaudit.audits.pretraining.run import compare, probe_cohort
from medaudit.audits.pretraining.settings import ProbeSettings
from medaudit.audits.pretraining.study import Study, resamples
from medaudit.cohort import Cohort, Role
from medaudit.errors import DataError, UsageError
from medaudit.networks.backbones import Backbone, Preprocessing, Seen
from medaudit.report import Finding
from medaudit.statistics import Estimate
from medaudit.training.frames import shrink

SIDE = 16


def settings(**changed: object) -> ProbeSettings:
    chosen = {"own": ("own",), "task": "finding", "shots": (), "resamples": 200, "seeds": 1, "side": SIDE, **changed}
    return ProbeSettings(**chosen)  # type: ignore[arg-type]


def cohort(patients: int = 240, each: int = 1, seed: int = 0, **columns: object) -> Cohort:
    """Return cases of two findings, ``each`` a patient, whose patient says nothing of the finding."""
    rng = np.random.default_rng(seed)
    n = patients * each
    table = {
        "case_id": [f"c{i:04d}" for i in range(n)],
        "patient_id": [f"p{i // each:04d}" for i in range(n)],
        "finding": rng.choice(["benign", "malignant"], n),
        "image_path": [f"{i}.png" for i in range(n)],
        **columns,
    }
    return Cohort("made up", pl.DataFrame(table), Path("nowhere"), roles={"image": Role("image_path")})


def numbered(n: int) -> np.ndarray:
    """Return pictures (n, 16, 16) uint8 that carry their number."""
    made = np.random.default_rng(9).integers(0, 255, (n, SIDE, SIDE)).astype(np.uint8)
    made[:, 0, 0], made[:, 0, 1] = np.arange(n) % 256, np.arange(n) // 256
    return made


def planted(codes: np.ndarray, strength: float, seed: int) -> np.ndarray:
    """Return features (n, 4), of which the first is moved by ``strength`` SDs between the classes."""
    x = np.random.default_rng((77, seed)).normal(size=(len(codes), 4))
    x[:, 0] += strength * (codes > 0)
    return x.astype(np.float32)


def backbone(name: str, table: np.ndarray, patches: np.ndarray | None = None, asked: list | None = None) -> Backbone:
    """Return a backbone that knows the features ``table`` (n, d), and ``patches`` (n, h, w, d), of numbered pictures.

    ``asked`` gets the numbers of pictures at each call.
    """

    def look(net: object, x: torch.Tensor) -> Seen:
        low, high = ((x[:, 0, 0, k] * 255).round().long().numpy() for k in (0, 1))
        rows = low + 256 * high
        if asked is not None:
            asked.append(rows)
        vector = torch.from_numpy(table[rows])
        return Seen(vector[:, None], vector, None if patches is None else torch.from_numpy(patches[rows]))

    return Backbone(name, name, Preprocessing(SIDE, 1, (0.0,), (1.0,)), None, "made up", look)


def contender(name: str, *tables: np.ndarray, own: bool = False, frames: int | None = None) -> Contender:
    several = tuple(backbone(f"{name}-{k}", table) for k, table in enumerate(tables))
    return Contender(name, name, "made up", several, own, frames)


def studied(
    folder: Path, strengths: dict[str, float], patients: int = 240, seed: int = 0, *, trainings: int = 1,
    **changed: object,
) -> Study:  # fmt: skip
    """Return the study of contenders by their strengths; the one called own is the user's."""
    asked = settings(seed=seed, **changed)
    design = plan(cohort(patients, seed=seed), asked)
    several = [
        contender(
            name,
            *(planted(design.codes, strength, 100 * seed + 10 * k + training) for training in range(trainings)),
            own=name == "own",
        )
        for k, (name, strength) in enumerate(strengths.items())
    ]
    return compare(design, asked, several, numbered(patients), folder / f"{seed}", progress=False)


def overlaps() -> Overlaps:
    """Return that nothing was looked for."""
    return Overlaps({}, 10)


def answer(result: Study) -> Finding:
    (found,) = (f for f in findings(result, overlaps()) if f.id.startswith("not_worth_it"))
    return found


# What is called worth it


def test_a_better_own_model_is_worth_it(tmp_path: Path) -> None:
    found = answer(studied(tmp_path, {"own": 4.0, "generalist": 1.0, "noise": 0.0}))
    assert found.verdict == "refuted"
    assert found.claim.startswith("Worth it: own is better than all 2 opponents in macro-F1, than the hardest, general")
    assert found.estimate.low > 0


@pytest.mark.parametrize(
    ("own", "other"), [(0.3, 4.0), (12.0, 12.0), (0.0, 2.0)], ids=["worse", "equal, for both are perfect", "noise"]
)
def test_a_worse_or_equal_one_is_not(tmp_path: Path, own: float, other: float) -> None:
    found = answer(studied(tmp_path, {"own": own, "generalist": other}, patients=400))
    assert found.verdict == "supported"
    assert found.claim.startswith("Not worth it: own is ")
    assert "generalist in macro-F1" in found.claim


def test_one_opponent_that_is_as_good_is_enough(tmp_path: Path) -> None:
    """Better than noise is not worth it if a third does as well: every opponent has to be beaten."""
    found = findings(studied(tmp_path, {"own": 1.5, "noise": 0.0, "third": 5.0}, patients=400), overlaps())
    verdicts = {f.id: f.verdict for f in found}
    assert verdicts == {
        "not_worth_it:own:finding": "supported",
        "no_gain:own:noise:finding": "refuted",
        "no_gain:own:third:finding": "supported",
    }
    assert "third" in found[0].claim


def test_a_copy_of_an_opponent_gains_exactly_nothing(tmp_path: Path) -> None:
    asked = settings()
    design = plan(cohort(), asked)
    table = planted(design.codes, 1.0, 0)
    several = [contender("own", table, own=True), contender("copy", table)]
    result = compare(design, asked, several, numbered(240), tmp_path, progress=False)
    gain = result.gain(*result.judged, "macro_f1")
    assert (gain.value, gain.low, gain.high) == (0, 0, 0)
    assert answer(result).verdict == "supported"


def test_a_small_sample_tells_nothing(tmp_path: Path) -> None:
    result = studied(tmp_path, {"own": 4.0, "noise": 0.0}, patients=40)
    assert result.patients < 20
    found = findings(result, overlaps())
    assert {f.verdict for f in found} == {"insufficient"}
    assert all(f"{result.patients} test patients, fewer than 20" in f.claim for f in found)


@pytest.mark.parametrize(("trainings", "worlds", "rate"), [(3, 25, 0.05), (1, 30, 0.1)])
def test_chance_alone_is_seldom_called_worth_it(tmp_path: Path, trainings: int, worlds: int, rate: float) -> None:
    """Own and opponent are equal in law: an interval of 95 % should lie above 0 in 2.5 % of the worlds.

    That of one training knows of no chance in training, which is said of it; it does so in some 8 %.
    """
    said = []
    for seed in range(worlds):
        result = studied(tmp_path, {"own": 1.2, "other": 1.2}, 160, seed, trainings=trainings, resamples=100)
        said.append(answer(result).verdict)
    assert said.count("refuted") <= binom.ppf(0.99, worlds, rate)
    assert said.count("insufficient") > worlds / 2  # 40 test patients cannot exclude a gain of 0.02 either


def estimate(low: float, high: float) -> Estimate:
    return Estimate("gain", (low + high) / 2, low=low, high=high)


@pytest.mark.parametrize(
    ("gains", "verdict", "named"),
    [
        ({"a": (0.01, 0.05), "b": (0.02, 0.09)}, "refuted", "hardest, a"),
        ({"a": (0.03, 0.05), "b": (-0.02, 0.09)}, "insufficient", "better than b"),
        ({"a": (0.03, 0.05), "b": (-0.02, 0.019)}, "supported", "not better by 0.02 than b"),
        ({"a": (0.03, 0.05), "b": (-0.02, 0.02)}, "insufficient", "better than b"),  # the margin itself matters
        ({"a": (0.0, 0.05)}, "insufficient", "better than a"),
        ({"a": (0.005, 0.015)}, "supported", "not better by 0.02 than a"),  # better for sure, but by less than matters
        ({"a": (-0.3, -0.2), "b": (-0.1, 0.01)}, "supported", "worse than a"),
        ({"a": (float("nan"), float("nan"))}, "insufficient", "better than a"),
    ],
)
def test_the_rule_case_by_case(gains: dict, verdict: str, named: str) -> None:
    found, claim = verdict_of("own", {name: estimate(*limits) for name, limits in gains.items()}, 0.02, "macro_f1")
    assert found == verdict
    assert named in claim


# The interval


def test_the_gain_is_that_of_a_naive_bootstrap_of_patients(tmp_path: Path) -> None:
    asked = settings()
    some = cohort(80, each=3)
    design = plan(some, asked)
    several = [
        contender("own", planted(design.codes, 1.5, 1), own=True),
        contender("other", planted(design.codes, 0.7, 2)),
    ]
    result = compare(design, asked, several, numbered(240), tmp_path, progress=False)
    gain = result.gain(*result.judged, "macro_f1")
    wanted = design.codes[result.test]
    own, other = (one.probabilities[0].argmax(1) for one in result.judged)
    cluster, weights = resamples(design, asked)
    drawn = []
    for row in weights:
        rows = np.concatenate([np.tile(np.flatnonzero(cluster == p), k) for p, k in enumerate(row)])
        drawn.append(
            f1_score(wanted[rows], own[rows], average="macro") - f1_score(wanted[rows], other[rows], average="macro")
        )
    assert gain.value == pytest.approx(
        f1_score(wanted, own, average="macro") - f1_score(wanted, other, average="macro"), abs=1e-12
    )
    assert [gain.extra["image_low"], gain.extra["image_high"]] == pytest.approx(np.quantile(drawn, [0.025, 0.975]))
    assert gain.extra["se_image"] == pytest.approx(np.std(drawn, ddof=1))
    # Whole patients are drawn: three cases of one are not three times one case.
    assert result.patients == len(result.test) / 3
    assert weights.shape[1] == result.patients


def test_seeds_are_paired_where_there_are_as_many_and_else_averaged(tmp_path: Path) -> None:
    asked = settings()
    design = plan(cohort(), asked)
    codes = design.codes
    own = contender("own", *(planted(codes, 1.5, k) for k in range(3)), own=True)
    three = contender("three", *(planted(codes, 1.0, k) for k in range(3, 6)))
    one = contender("one", planted(codes, 1.0, 7))
    result = compare(design, asked, [own, three, one], numbered(240), tmp_path, progress=False)
    a, b, c = (judged.values["macro_f1"] for judged in result.judged)
    assert (len(a), len(b), len(c)) == (3, 3, 1)
    paired = result.gain(result.judged[0], result.judged[1], "macro_f1")
    assert paired.value == pytest.approx((a - b).mean())
    assert paired.extra["se_seed"] == pytest.approx((a - b).std(ddof=1) / 3**0.5)
    single = result.gain(result.judged[0], result.judged[2], "macro_f1")
    assert single.value == pytest.approx(a.mean() - c[0])
    assert single.extra["se_seed"] == pytest.approx(a.std(ddof=1) / 3**0.5)
    assert paired.high - paired.low > 2 * 1.96 * paired.extra["se_image"]  # seeds widen it
    alone = compare(
        design, asked, [replace(own, backbones=own.backbones[:1]), one], numbered(240), tmp_path, progress=False
    )
    assert any("its interval is of patients alone" in why for why in answer(alone).rests_on)


def test_few_shot_draws_and_neighbours_follow_the_features(tmp_path: Path) -> None:
    result = studied(tmp_path, {"own": 6.0, "noise": 0.0}, shots=(2, 5), draws=2)
    own, noise = result.judged
    assert own.shots.keys() == {2, 5}
    assert own.shots[5].shape == (1, 2)
    assert own.shots[5].mean() > 0.9 > 0.65 > noise.shots[5].mean()
    assert own.knn[0] > 0.9 > 0.65 > noise.knn[0]


# The design


def test_a_patient_is_in_one_part() -> None:
    some = cohort(90, each=3)
    for seed in range(5):
        design = plan(some, settings(seed=seed))
        parts = [set(design.patients[design.rows(p)]) for p in range(3)]
        assert len(set.union(*parts)) == 90
        assert sum(map(len, parts)) == 90
        assert [len(part) / 90 for part in parts] == pytest.approx([0.6, 0.15, 0.25], abs=0.03)


@pytest.mark.parametrize("patients", [60, 10_500])
def test_a_given_split_is_kept_and_refused_where_a_patient_is_in_two_parts(patients: int) -> None:
    parts = np.array(["train", "Validation", "TEST"])[np.arange(patients) % 3].repeat(2)
    asked = settings(split_column="part")
    design = plan(cohort(patients, each=2, part=parts), asked)
    assert (design.part == np.arange(patients).repeat(2) % 3).all()
    parts[2 * 41] = "test" if parts[2 * 41 + 1] != "TEST" else "train"
    with pytest.raises(DataError, match="patient p0041 is in several parts of part"):
        plan(cohort(patients, each=2, part=parts), asked)
    parts[5] = "holdout"
    with pytest.raises(DataError, match="case c0005: part is 'holdout'; expected train, val or test"):
        plan(cohort(patients, each=2, part=parts), asked)


def test_a_part_without_a_class_is_named() -> None:
    label = ["rare" if i == 3 else "usual" for i in range(60)]
    with pytest.raises(DataError, match=r"no \w+ case of finding 'rare'; give another --seed or --split"):
        plan(cohort(60, finding=label), settings())


def test_unknown_classes_are_left_out_and_it_is_said() -> None:
    label = [None if i % 10 == 0 else "ab"[i % 2] for i in range(200)]
    design = plan(cohort(200, finding=label), settings())
    assert sorted(np.concatenate([design.rows(p) for p in range(3)])) == [i for i in range(200) if i % 10]
    assert design.notes == ("20 cases without a known finding are not used.",)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"task": "patient_id"}, "patient_id"),
        ({"task": "nothing"}, "nothing"),
        ({"task": "one"}, "--task one has one class, same; expected two or more"),
        ({"task": "segmentation"}, "there are no masks 'reference'; give --reference"),
        ({"split_column": "nothing"}, "nothing"),
    ],
)
def test_what_a_cohort_has_not_is_said(changed: dict, says: str) -> None:
    with pytest.raises((UsageError, DataError), match=says):
        plan(cohort(60, one=["same"] * 60), settings(**changed))
    with pytest.raises(UsageError, match="there are no images"):
        plan(replace(cohort(60), roles={}), settings())


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"own": ()}, "give --backbone"),
        ({"head": "mlp"}, "no head is called 'mlp'"),
        ({"shares": (0.6, float("nan"), 0.2)}, "three shares"),
        ({"shares": (0.6, 0.0, 0.4)}, "three shares"),
        ({"margin": -0.1}, "--margin is -0.1"),
        ({"margin": float("nan")}, "--margin is nan"),
        ({"shots": (5, 0)}, "--shots has 0"),
        ({"seeds": 0}, "--seeds is 0"),
        ({"side": 8}, "--side is 8"),
    ],
)
def test_settings_that_cannot_be(changed: dict, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        settings(**changed)


# Who competes


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> dict[str, Backbone]:
    """Backbones that ``open_backbone`` finds, by where they are said to lie."""
    known: dict[str, Backbone] = {}

    def open_backbone(where: str | Path, *, device: str = "cpu", seed: int = 0) -> Backbone:
        return known[str(where)]

    monkeypatch.setattr(rivals, "open_backbone", open_backbone)
    return known


def test_own_ones_of_one_title_are_seeds_and_no_opponent_of_that_title_is_lost(named: dict[str, Backbone]) -> None:
    table = np.zeros((4, 2), np.float32)
    for where, title in {
        "a/0": "own, 300 frames", "a/1": "own, 300 frames", "b": "own, 900 frames", "photos": "own, 300 frames",
        "x/run": "run", "y/run": "run", "random": "untrained",
    }.items():  # fmt: skip
        named[where] = replace(backbone(Path(where).name, table), title=title)
    found = contenders(
        settings(own=("a/0", "a/1", "b"), against=("photos", "x/run", "y/run", "x/run", "b", "random"), seeds=2)
    )
    assert [(one.title, len(one.backbones), one.own) for one in found] == [
        ("own, 300 frames", 2, True), ("own, 900 frames", 1, True), ("own, 300 frames (photos)", 1, False),
        ("run", 1, False), ("run (y/run)", 1, False), ("untrained", 2, False),
    ]  # fmt: skip
    assert [one.backbones[0].name for one in found[3:5]] == ["x/run", "y/run"]
    with pytest.raises(UsageError, match="--backbone b is given twice"):
        contenders(settings(own=("b", "a/0", "b")))


# What is kept


def test_features_are_made_once_and_by_another_backbone_anew(tmp_path: Path) -> None:
    asked: list = []
    tables = [planted(np.zeros(300, int), 0, k) for k in range(2)]
    images = numbered(300)
    one = backbone("a/run", tables[0], asked=asked)
    first = features_of(one, 0, images, tmp_path, "mark").vector
    assert sorted(np.concatenate(asked)) == list(range(300))
    np.testing.assert_array_equal(first, tables[0])
    asked.clear()
    np.testing.assert_array_equal(features_of(one, 0, images, tmp_path, "mark").vector, first)
    assert not asked
    other = backbone("b/run", tables[1])
    np.testing.assert_array_equal(features_of(other, 0, images, tmp_path, "mark").vector, tables[1])
    features_of(one, 0, images, tmp_path, "of other images")
    assert asked


def test_other_weights_at_the_same_place_are_another_backbone() -> None:
    net = torch.nn.Linear(3, 2)
    one = replace(backbone("run", np.zeros((4, 2), np.float32)), net=net)
    before = identity(one)
    assert identity(replace(one, preprocessing=Preprocessing(SIDE, 1, (0.5,), (1.0,)))) != before
    with torch.no_grad():
        net.bias[1] += 1e-6
    assert identity(one) != before


def test_a_second_comparison_asks_no_backbone_unless_the_images_are_others(tmp_path: Path) -> None:
    asked: list = []
    options = settings()
    design = plan(cohort(), options)
    own = Contender("own", "own", "", (backbone("own", planted(design.codes, 3, 0), asked=asked),), True)
    rival = contender("rival", planted(design.codes, 1, 1))
    images = numbered(240)
    first = compare(design, options, [own, rival], images, tmp_path, progress=False)
    asked.clear()
    again = compare(design, options, [own, rival], images, tmp_path, progress=False)
    assert not asked
    assert [f.as_dict() for f in findings(again, overlaps())] == [f.as_dict() for f in findings(first, overlaps())]
    images[0, 5, 5] ^= 1
    compare(design, options, [own, rival], images, tmp_path, progress=False)
    assert asked


# Whole runs, on pictures


def drawn(folder: Path, patients: int, names: dict[int, str] | None = None) -> Cohort:
    """Return a cohort of numbered pictures that lie in ``folder``, with masks: a disc, or a bar."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = numbered(patients)
    y, x = np.mgrid[:SIDE, :SIDE]
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{i}.png")
        mask = (np.hypot(y - 4 - i % 7, x - 8) < 4) if i % 2 else (abs(y - 5 - i % 6) < 3)
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f"mask-{i}.png")
    some = cohort(patients, case_id=[(names or {}).get(i, f"c{i:03d}") for i in range(patients)])
    table = some.table.with_columns(mask=pl.Series([f"mask-{i}.png" for i in range(patients)]))
    return replace(some, table=table, root=folder, roles={"image": Role("image_path"), "reference": Role("mask")})


def patches_of_masks(some: Cohort, noise: float, seed: int) -> np.ndarray:
    """Return patches (n, 8, 8, 16) that say how much of them is mask, with noise; nothing but that if it is 1."""
    made = np.random.default_rng(seed).normal(size=(len(some), 8, 8, 16)) * noise
    if noise < 1:
        for i in range(len(some)):
            mask = np.asarray(Image.open(some.root / f"mask-{i}.png")) > 0
            made[i] += mask.reshape(8, 2, 8, 2).mean((1, 3))[..., None]
    return made.astype(np.float32)


def test_patches_that_know_the_mask_are_worth_it_and_what_has_none_is_no_opponent(
    tmp_path: Path, named: dict[str, Backbone]
) -> None:
    some = drawn(tmp_path / "pictures", 48)
    table = np.zeros((48, 2), np.float32)
    named |= {
        "own": backbone("own", table, patches_of_masks(some, 0.1, 1)),
        "noise": backbone("noise", table, patches_of_masks(some, 1.0, 2)),
        "hog": backbone("hog", table),
    }
    asked = settings(task="segmentation", against=("noise", "hog"), head_steps=80, seeds=3, min_patients=5)
    out = tmp_path / "run"
    result = probe_cohort(some, asked, out=out, progress=False)
    own, noise = result.study.judged
    assert own.values["dice"].mean() > 0.7 > 0.5 > noise.values["dice"].mean()
    assert own.case.shape == (3, len(result.study.test))
    np.testing.assert_allclose(own.case.mean(1), own.values["dice"])
    assert answer(result.study).verdict == "refuted"
    page = (out / "report.html").read_text()
    assert "hog has no patches, so it is no opponent here." in page
    assert "mean Dice of images" in page
    # Where areas are summed large masks weigh more: another number, of the same cases, shown under its own name.
    assert own.summed.shape == (3,)
    assert own.summed.mean() > noise.summed.mean()
    assert not np.allclose(own.summed, own.values["dice"], atol=1e-4)
    assert "Dice of summed areas" in page
    assert f">{own.summed.mean():.3f}<" in page
    table_of = pl.read_parquet(out / "measurements.parquet")
    assert table_of.height == 2 * 3 * len(result.study.test)
    heads = sorted(path.name for path in (out / "features").glob("head-*"))
    assert len(heads) == 6
    with pytest.raises(UsageError, match="no opponent has patches"):
        probe_cohort(some, replace(asked, against=("hog",), head_steps=5), out=tmp_path / "other", progress=False)
    with pytest.raises(UsageError, match="hog has no patches that could be segmented by"):
        probe_cohort(some, replace(asked, own=("hog",), against=("own",)), out=tmp_path / "third", progress=False)


def test_nobody_to_compare_with_is_said_before_anything_is_made(tmp_path: Path, named: dict[str, Backbone]) -> None:
    some = drawn(tmp_path / "pictures", 30)
    named["own"] = backbone("own", np.zeros((30, 2), np.float32))
    for changed, says in (
        ({"against": ()}, "nobody to compare with"),
        ({"against": ("own",)}, "nobody to compare with"),
        ({"against": (), "scratch": 2}, "--scratch needs a --backbone that `medaudit pretrain` made"),
        ({"against": (), "scratch": 2, "task": "segmentation"}, "--scratch is of classes"),
    ):
        with pytest.raises(UsageError, match=says):
            probe_cohort(some, settings(**changed), out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


@pytest.fixture
def leaky(tmp_path: Path, named: dict[str, Backbone]) -> tuple[Cohort, ProbeSettings]:
    """A cohort of whose test images two were pretrained on; one is called by markup."""
    asked = settings(own=(str(tmp_path / "own"),), against=("rival <i>",), min_patients=5, shots=(2,), draws=2)
    rows = plan(drawn(tmp_path / "pictures", 80), asked).rows(2)[:2].tolist()
    some = drawn(tmp_path / "pictures", 80, {rows[0]: "<b>first</b>", rows[1]: "second & last"})
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for i in range(6):
        noise = np.random.default_rng(1000 + i).integers(0, 255, (SIDE, SIDE)).astype(np.uint8)
        Image.fromarray(noise).save(corpus / f"{i}.png")
    for i in rows:
        (corpus / f"copy-{i}.png").write_bytes((some.root / f"{i}.png").read_bytes())
    shrink(corpus, tmp_path / "own" / "frames", side=SIDE)
    codes = plan(some, asked).codes
    named[asked.own[0]] = replace(
        backbone("own", planted(codes, 4, 0), patches_of_masks(some, 0.1, 1)), title="own <script>alert(1)</script>"
    )
    named["rival <i>"] = replace(backbone("rival", planted(codes, 0, 1)), title="rival <i>", trained_on="<u>nobody")
    return some, asked


def test_a_test_image_in_the_pretraining_is_found_and_named(
    leaky: tuple[Cohort, ProbeSettings], tmp_path: Path
) -> None:
    some, asked = leaky
    frames = shrink(some, tmp_path / "squares", side=SIDE)
    design = plan(some, asked)
    rows = np.array([frames.table["frame_id"].to_list().index(name) for name in some.case_ids])
    found = overlaps_of(asked.own, frames, design, rows)
    seen = found.found["pretraining"]
    assert {*seen.identical, *seen.alike} == {"<b>first</b>", "second & last"}
    assert found.found["pretraining"].share == 2 / len(design.rows(2))
    assert found.found["training"].share == 0
    assert "pretraining" not in overlaps_of(("hog",), frames, design, rows).found


def test_a_run_says_so_and_escapes_every_name(leaky: tuple[Cohort, ProbeSettings], tmp_path: Path) -> None:
    some, asked = leaky
    out = tmp_path / "run"
    result = probe_cohort(some, asked, out=out, progress=False)
    found = {f.id: f for f in result.findings}
    leak = found["leak:pretraining"]
    assert leak.verdict == "supported"
    assert f"2 of {len(result.study.test)} test images were in the pretraining" in leak.claim
    assert "transductive" in leak.claim
    assert found["leak:training"].verdict == "refuted"
    page = (out / "report.html").read_text()
    for raw in ("<b>first", "<script>alert", "rival <i>", "<u>nobody"):
        assert raw not in page, raw
    for safe in ("&lt;script&gt;alert", "rival &lt;i&gt;", "&lt;u&gt;nobody"):
        assert safe in page, safe
    written = json.loads((out / "findings.json").read_text())
    assert {entry["id"] for entry in written} == set(found)
    scores = pl.read_csv(out / "scores.csv")
    assert scores.height == len(result.study.test)
    assert {"finding", "rival_i"} <= set(scores.columns)


def test_an_image_that_cannot_be_read_is_left_out_and_said(leaky: tuple[Cohort, ProbeSettings], tmp_path: Path) -> None:
    some, asked = leaky
    design = plan(some, asked)
    broken = int(design.rows(2)[5])
    (some.root / f"{broken}.png").write_bytes(b"not a picture")
    result = probe_cohort(some, asked, out=tmp_path / "run", progress=False)
    assert broken not in result.study.test
    assert len(result.study.test) == len(design.rows(2)) - 1
    assert f"1 images could not be used, the first: c{broken:03d}" in (tmp_path / "run/report.html").read_text()
    for row in design.rows(1)[design.codes[design.rows(1)] == 0]:
        (some.root / f"{row}.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match="no validation case of finding 'benign'"):
        probe_cohort(some, asked, out=tmp_path / "other", progress=False)
