"""Each plant does what it says, measured in the masks that were written, and touches nothing else."""

from pathlib import Path

import nibabel as nib
import numpy as np
import polars as pl
import pytest

from medaudit.audits.ruler.study import Settings, audit_ruler
from medaudit.cohort import Cohort, Grouping
from medaudit.datasets.image_plants import IMAGE_PLANTS, Difficulty, ImagePlant, planted_causes
from medaudit.datasets.simulate_dce import simulate_dce
from medaudit.datasets.simulated_ratings import RATINGS, rate
from medaudit.datasets.simulators import IMAGE_SHAPE, check_predictions
from medaudit.errors import UsageError

SMALL = (32, 32, 32)
MODES = ("false-magnitude", "false-confidence", "masking")
YOUNG, OLDER = 0, 2


def make(root: Path, plant: str, *, n: int, seed: int = 5, phases: int = 0, shape=SMALL) -> Cohort:
    return simulate_dce(root / f"{plant}-{seed}", n=n, seed=seed, shape=shape, plant=IMAGE_PLANTS[plant], phases=phases)


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    total = (a > 0).sum() + (b > 0).sum()
    return 2 * ((a > 0) & (b > 0)).sum() / total if total else 1.0


def ages(cohort: Cohort) -> np.ndarray:
    return Grouping.parse("age:40,55").apply(cohort).codes


def hard(cohort: Cohort) -> np.ndarray:
    return np.asarray([cohort.truth["planted"][case]["hard"] for case in cohort.case_ids])


def rated(cohort: Cohort) -> list[tuple[str, str]]:
    return list(zip(cohort.table["rating_1"], cohort.table["rating_2"], strict=True))


def same(one: Cohort, other: Cohort, role: str) -> np.ndarray:
    pairs = zip(one.cases(role), other.cases(role), strict=True)
    return np.asarray([a.files[role].read_bytes() == b.files[role].read_bytes() for a, b in pairs])


def three_scores(cohort: Cohort) -> pl.DataFrame:
    roles = ("prediction", "labels", "reference")
    masks = [{role: voxels(case.files[role]) for role in roles} for case in cohort.cases(*roles)]
    pairs = {
        "gold": ("prediction", "reference"),
        "silver": ("prediction", "labels"),
        "quality": ("labels", "reference"),
    }
    scores = {name: [dice(mask[a], mask[b]) for mask in masks] for name, (a, b) in pairs.items()}
    return pl.DataFrame({"case_id": cohort.case_ids, **scores})


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    """Return of each mode two cohorts of 240 cases with the Dice of their three pairs of masks."""
    root = tmp_path_factory.mktemp("modes")
    made = {mode: [make(root, mode, n=240, seed=seed) for seed in range(2)] for mode in MODES}
    return {mode: [(cohort, three_scores(cohort)) for cohort in cohorts] for mode, cohorts in made.items()}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Return a small cohort with images of the plants that are to differ in one thing each."""
    root = tmp_path_factory.mktemp("images")
    return {plant: make(root, plant, n=16, phases=2) for plant in ("none", "imbalance", *MODES)}


def means(scores: pl.DataFrame, cohort: Cohort, name: str) -> np.ndarray:
    codes = ages(cohort)
    return np.asarray([scores[name].to_numpy()[codes == i].mean() for i in range(3)])


def pooled(worlds, mode: str, name: str) -> np.ndarray:
    return np.mean([means(scores, cohort, name) for cohort, scores in worlds[mode]], axis=0)


# What was there before ------------------------------------------------------------------------------------


def test_the_masks_are_what_they_were_when_these_numbers_were_written_down(tmp_path):
    cohort = make(tmp_path, "none", n=14, seed=7)
    assert list(cohort.truth["dice"].values())[:6] == pytest.approx([0.6003, 0.855, 0.7389, 1, 1, 0.9418], abs=0.003)
    assert cohort.table["volume_ml"].to_list()[:6] == [13.4784, 18.252, 15.3792, 3.9312, 33.6096, 15.9408]
    labels = make(tmp_path, "label", n=14, seed=7).truth["dice"]
    assert list(labels.values())[:6] == pytest.approx([0.6003, 0.7944, 0.7389, 1, 1, 0.7941], abs=0.003)


@pytest.mark.parametrize("mode", MODES)
def test_a_plant_of_the_ruler_leaves_images_and_expert_masks_alone(images, mode):
    assert "prediction" not in images["none"].roles
    assert not (images["none"].root / "prediction").exists()
    for role in ("image", "image_pre", "reference"):
        assert same(images["none"], images[mode], role).all()


def test_plants_of_the_ruler_differ_in_what_they_plant_and_in_nothing_else(images):
    magnitude, twin, masking = (images[mode] for mode in MODES)
    young = ages(magnitude) == YOUNG
    assert same(magnitude, masking, "labels")[~young].all()
    assert same(magnitude, images["none"], "labels")[~young].all()
    for other in (twin, masking):
        assert same(magnitude, other, "prediction")[~young].all()
    assert not same(magnitude, masking, "prediction")[young].all()


def test_the_truth_of_a_model_is_that_of_its_files(images):
    for mode in MODES:
        for case in images[mode].cases("prediction", "labels", "reference"):
            for role, value in images[mode].truth["dice_prediction"][case.case_id].items():
                assert value == pytest.approx(
                    dice(voxels(case.files["prediction"]), voxels(case.files[role])), abs=1e-12
                )


# Three ways in which a ruler lies -------------------------------------------------------------------------


def test_false_magnitude_shows_a_larger_gap_than_there_is(worlds):
    gold, silver, quality = (pooled(worlds, "false-magnitude", name) for name in ("gold", "silver", "quality"))
    assert 0.03 < gold[OLDER] - gold[YOUNG] < 0.15
    assert quality[OLDER] - quality[YOUNG] > 0.15
    assert silver[OLDER] - silver[YOUNG] > gold[OLDER] - gold[YOUNG] + 0.08


def test_false_confidence_levels_everybody_at_the_top(worlds):
    gold, silver = (pooled(worlds, "false-confidence", name) for name in ("gold", "silver"))
    assert np.ptp(gold) < 0.08  # by chance: see below that nothing was planted
    assert silver == pytest.approx([0.98, 0.98, 0.98], abs=0.015)
    for cohort, scores in worlds["false-confidence"]:
        planted = list(cohort.truth["planted"].values())
        assert all(case["prediction"] == planted[0]["prediction"] for case in planted)
        assert scores["silver"].std() < 0.4 * scores["gold"].std()


def test_masking_hides_a_gap_that_is_there(worlds):
    gold, silver = (pooled(worlds, "masking", name) for name in ("gold", "silver"))
    assert gold[OLDER] - gold[YOUNG] > 0.15
    assert silver[OLDER] - silver[YOUNG] < 0.07


@pytest.mark.parametrize("mode", MODES)
def test_the_ruler_study_names_the_mode_that_was_planted(worlds, mode):
    named = []
    for cohort, scores in worlds[mode]:
        found = {f.id: f.verdict for f in audit_ruler(cohort, scores, Settings(("age:40,55",), resamples=999)).findings}
        named.append([other for other in MODES if found[f"ruler:age:{other}"] == "supported"])
    assert all(mode in some for some in named), named
    assert sum(len(some) for some in named) <= 3, named  # a twin may happen to hide a gap, too


def test_only_plants_with_a_model_have_predictions():
    for mode in MODES:
        check_predictions("breast-mri", mode)
    with pytest.raises(UsageError, match="'label' of breast-mri has no prediction.*" + ", ".join(MODES)):
        check_predictions("breast-mri", "label")
    with pytest.raises(UsageError, match="no plant of breast-mri is called 'lable'"):
        check_predictions("breast-mri", "lable")


# More hard cases in one group -----------------------------------------------------------------------------


def test_hard_cases_are_fainter_and_their_masks_those_of_none(images):
    none, imbalance = images["none"], images["imbalance"]
    faint = hard(imbalance)
    assert 2 < faint.sum() < 14
    assert not hard(none).any()
    for role in ("reference", "labels", "image_pre"):
        assert same(none, imbalance, role).all()
    assert np.array_equal(~same(none, imbalance, "image"), faint)

    def uptake(case) -> float:
        pre, post, mask = (voxels(case.files[role]) for role in ("image_pre", "image", "reference"))
        return (post.astype(float) - pre)[mask > 0].mean()

    ratios = [uptake(b) / uptake(a) for a, b in zip(none.cases(), imbalance.cases(), strict=True)]
    assert np.mean(np.asarray(ratios)[faint]) == pytest.approx(0.33, abs=0.08)  # 0.25, and what the gland takes up


def test_three_quarters_of_the_young_are_hard_and_a_quarter_of_the_others(tmp_path):
    cohort = simulate_dce(tmp_path, n=700, seed=0, shape=(16, 16, 16), plant=IMAGE_PLANTS["imbalance"], phases=0)
    codes = ages(cohort)
    shares = [hard(cohort)[codes == i].mean() for i in range(3)]
    assert shares == pytest.approx([0.75, 0.25, 0.25], abs=0.1)  # three SEs of the smallest group
    score = np.asarray(list(cohort.truth["dice"].values()))
    easy_and_hard = [score[hard(cohort) == stratum].mean() for stratum in (False, True)]
    assert easy_and_hard[0] == pytest.approx(easy_and_hard[1], abs=0.04)
    assert "hard" not in cohort.table.columns


def test_the_cause_of_an_imbalance_is_called_that():
    assert planted_causes(IMAGE_PLANTS["imbalance"]) == {"age": "imbalance", "ethnicity": "none", "source": "none"}
    of_duke = ImagePlant(
        hard=Difficulty(contrast=0.5), hard_share_of=(("source", "DUKE", 0.5),), age_by_source=(0, 1, 0, 0)
    )
    assert planted_causes(of_duke)["age"] == "confounded"
    with pytest.raises(UsageError, match="age 'young'"):
        ImagePlant(hard_share_of=(("age", "young", 0.5),))


# Two readers ----------------------------------------------------------------------------------------------


def test_about_three_quarters_of_easy_cases_are_good_to_both_readers(tmp_path):
    cohort = make(tmp_path, "none", n=160, seed=1, shape=IMAGE_SHAPE)
    both_good = np.mean([pair == ("Good", "Good") for pair in rated(cohort)])
    assert both_good == pytest.approx(0.75, abs=0.1)
    assert {word for pair in rated(cohort) for word in pair} == set(RATINGS)
    score = np.asarray(list(cohort.truth["dice"].values()))
    means = [score[np.asarray([pair[0] == word for pair in rated(cohort)])].mean() for word in RATINGS]
    assert means == sorted(means, reverse=True)
    assert means[-1] == 0


def test_hard_cases_are_rated_as_hard_whatever_their_mask_is_worth():
    words = [rate(score, True, np.random.default_rng((i, 7))) for score in (1.0, 0.8) for i in range(1000)]
    assert np.mean([pair == ("Good", "Good") for pair in words]) == pytest.approx(0.05, abs=0.02)
    easy = [rate(0.95, False, np.random.default_rng((i, 7))) for i in range(200)]
    assert set(easy) == {("Good", "Good")}
    assert rate(0.0, False, np.random.default_rng(0)) == ("Missed", "Missed")


def test_ratings_come_again_with_the_cohort(tmp_path, images):
    again = make(tmp_path, "imbalance", n=16, phases=0)
    assert rated(again) == rated(images["imbalance"])
