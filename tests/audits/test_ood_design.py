"""Who is trained on, tested, and out of distribution: no patient on two sides, and what cannot be asked is said."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from medaudit.audits.ood.design import NOVEL, UNKNOWN, ShiftSet, match_task, matched, plan, separate
from medaudit.audits.ood.settings import METHOD_PRESETS, Settings, method_list
from medaudit.cohort import Cohort
from medaudit.errors import DataError, UsageError

RNG = np.random.default_rng(0)
N = 900
PATIENT = RNG.integers(0, 300, N)
TABLE = pl.DataFrame(
    {
        "case_id": [f"c{i}" for i in range(N)],
        "patient_id": [f"p{k}" for k in PATIENT],
        "plane": RNG.choice(["brain", "femur", "thorax", "cervix"], N),
        "device": np.array(["A", "B", "D"])[PATIENT % 3],
        "weeks": RNG.uniform(18, 36, N).round(1),
    }
)
COHORT = Cohort("made up", TABLE, Path("."))


def settings(**changed: object) -> Settings:
    asked = {
        "tasks": ("plane", "device"),
        "ood": ('device == "D"', 'plane == "cervix"'),
        "shifts": ("image", "anatomy"),
    }
    return Settings(**{**asked, **changed})  # type: ignore[arg-type]


def test_no_patient_is_on_two_sides() -> None:
    design = plan(COHORT, settings())
    sides = [design.train, design.validation, design.test]
    for i, a in enumerate(sides):
        for b in sides[i + 1 :]:
            assert not set(design.clusters[a]) & set(design.clusters[b])
    seen = set(design.clusters[design.train]) | set(design.clusters[design.validation])
    for part in design.sets:
        assert len(part.rows)
        assert not set(design.clusters[part.rows]) & seen
    inside = TABLE[np.concatenate(sides).tolist()]
    assert not inside.filter((pl.col("device") == "D") | (pl.col("plane") == "cervix")).height
    both = TABLE[np.concatenate([part.rows for part in design.sets]).tolist()]
    assert not both.filter((pl.col("device") == "D") & (pl.col("plane") == "cervix")).height
    shares = np.array([len(side) for side in sides]) / sum(len(side) for side in sides)
    np.testing.assert_allclose(shares, (0.5, 0.15, 0.35), atol=0.03)


def test_a_class_that_no_model_saw_is_novel_and_a_blank_is_unknown() -> None:
    some = TABLE.with_columns(plane=pl.when(pl.int_range(pl.len()) % 50 == 0).then(None).otherwise(pl.col("plane")))
    design = plan(Cohort("x", some, Path(".")), settings())
    device, plane = design.task("device"), design.task("plane")
    assert device.classes == ("A", "B")
    assert (device.codes[design.sets[0].rows] == NOVEL).all()
    assert plane.classes == ("brain", "femur", "thorax")
    assert (plane.codes[design.sets[0].rows] != NOVEL).all()
    assert (plane.codes == UNKNOWN).any()


def test_matching_gives_the_shifted_proportions() -> None:
    rng = np.random.default_rng(1)
    skewed = np.where(TABLE["device"].to_numpy() == "D", rng.choice(["brain", "femur"], N, p=[0.9, 0.1]), "x")
    plane = np.where(skewed == "x", TABLE["plane"].to_numpy(), skewed)
    design = plan(Cohort("x", TABLE.with_columns(plane=pl.Series(plane)), Path(".")), settings())
    part = design.sets[0]
    by = match_task(design, part, settings())
    assert by is not None
    assert by.name == "plane"  # 'device' is the shift itself
    rows, note = matched(design, part, by, 0)
    share = lambda which: np.bincount(by.codes[which], minlength=len(by.classes)) / len(which)
    np.testing.assert_allclose(share(rows), share(part.rows), atol=0.02)
    assert np.abs(share(design.test) - share(part.rows)).max() > 0.2
    assert "proportions of plane" in note
    assert match_task(design, part, settings(match="none")) is None
    paired = ShiftSet("gain 3", "image", part.rows, paired=True)
    assert match_task(design, paired, settings()) is None
    with pytest.raises(UsageError, match="--match device"):
        match_task(design, part, settings(match="device"))


@pytest.mark.parametrize(
    ("changed", "error", "says"),
    [
        ({"ood": ('device == "Z"',), "shifts": ("image",)}, DataError, "matches none of 900 cases; there is device: "),
        ({"ood": ("weeks > 3",), "shifts": ("image",)}, DataError, "matches every case"),
        ({"ood": ('device == "D"',), "shifts": ()}, UsageError, "one --shift for each --ood"),
        ({"ood": ('device == "D"',), "shifts": ("colour",)}, UsageError, "image, anatomy, mixed"),
        ({"ood": (), "shifts": ()}, UsageError, "--ood EXPRESSION"),
        ({"tasks": ()}, UsageError, "--task COLUMN"),
        ({"tasks": ("plane", "plane")}, UsageError, "named twice"),
        ({"tasks": ("plan",)}, UsageError, "did you mean 'plane'"),
        ({"preset": "huge"}, UsageError, "fast, cpu, gpu"),
        ({"ood_cost": 1.0}, UsageError, "--ood-cost"),
    ],
)
def test_refuses_in_one_line(changed: dict, error: type[Exception], says: str) -> None:
    with pytest.raises(error) as refused:
        plan(COHORT, settings(**changed))
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_class_of_one_case_and_a_task_of_one_class() -> None:
    inside = (pl.col("device") != "D") & (pl.col("plane") != "cervix")
    only = TABLE.filter(inside)["case_id"][0]
    rare = pl.when(pl.col("case_id") == only).then(pl.lit("rare")).otherwise(pl.lit("common"))
    cohort = Cohort("x", TABLE.with_columns(rare=rare, one=pl.lit("same")), Path("."))
    with pytest.raises(DataError, match=r"class 'rare' has 1 patient in distribution.*put rare classes together"):
        plan(cohort, settings(tasks=("rare",)))
    with pytest.raises(DataError, match="only 'same'"):
        plan(cohort, settings(tasks=("one",)))


def test_sets_have_names_of_their_own() -> None:
    asked = ("weeks < 22", "weeks > 32")
    design = plan(COHORT, settings(ood=asked, shifts=("mixed", "mixed"), tasks=("device",)))
    assert [part.slug for part in design.sets] == ["weeks-below-22", "weeks-above-32"]
    named = {
        ShiftSet(text, "image", np.arange(1)).slug for text in ('device == "D"', 'device != "D"', "w <= 3", "w >= 3")
    }
    assert named == {"device-d", "device-not-d", "w-up-to-3", "w-from-3"}
    with pytest.raises(UsageError, match="would both be called 'weeks-below-22'"):
        separate([ShiftSet("weeks < 22", "mixed", np.arange(1)), ShiftSet("weeks  <22", "mixed", np.arange(1))])


def test_the_same_shift_twice_and_one_inside_another() -> None:
    with pytest.raises(UsageError, match="named twice"):
        settings(ood=("weeks < 22", "weeks < 22"), shifts=("mixed", "mixed"))
    with pytest.raises(DataError, match="weeks < 20 fit another --ood as well"):
        plan(COHORT, settings(ood=("weeks < 20", "weeks < 24"), shifts=("mixed", "mixed"), tasks=("device",)))


def test_method_lists(tmp_path: Path) -> None:
    preset = method_list(METHOD_PRESETS[0])
    assert len(preset.methods) == 8
    assert "our reconstruction" in preset.note
    assert method_list("all").names[0] == "softmax"
    chosen = method_list("softmax.entropy, knn")
    assert [(c.name, c.score) for c in chosen.methods] == [("softmax", "entropy"), ("knn", "distance")]
    own = tmp_path / "own.toml"
    own.write_text('[[methods]]\nname = "knn"\nk = 5\n')
    assert method_list(str(own)).methods[0].options == {"k": 5}
    for text, says in (("softmaxx", "no method"), ("softmax.size", "has no score"), ("", "no method was named")):
        with pytest.raises(UsageError, match=says):
            method_list(text)
    own.write_text('[[methods]]\nname = "knn"\nkk = 5\n')
    with pytest.raises(UsageError, match="no option 'kk'"):
        method_list(str(own))
    own.write_text("[[methods\n")
    with pytest.raises(DataError, match="TOML"):
        method_list(str(own))
    with pytest.raises(DataError, match="no such file"):
        method_list(str(tmp_path / "none.toml"))
