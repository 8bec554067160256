"""The ruler study names the mode that was planted, and no other; and says what it cannot know."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from medaudit.audits.ruler import modes
from medaudit.audits.ruler.modes import Evidence
from medaudit.audits.ruler.rulers import inflation
from medaudit.audits.ruler.run import audit_ruler_scores
from medaudit.audits.ruler.study import Settings, audit_ruler
from medaudit.cohort import Cohort
from medaudit.datasets.simulate_scores import ModelPlant, ScorePlant, simulate_scores
from medaudit.errors import DataError

SEEDS = pytest.mark.parametrize("seed", range(4))
ASKED = Settings(by=("age:40,55",), resamples=999)

LABELS_WORSE_FOR_THE_YOUNG = ScorePlant(
    age_effect=(-0.03, 0.0, 0.03), age_label_bias=(-0.10, 0.0, 0.0), model=ModelPlant(error_correlation=0.0)
)
LABELS_OF_A_TWIN = ScorePlant(
    dice_mean=0.8,
    missed=(0.0, 0.0, 0.0),
    untouched=0.02,
    model=ModelPlant(dice_mean=0.8, dice_sd=0.2, error_correlation=0.98),
)
LABELS_THAT_SHARE_ERRORS = ScorePlant(age_effect=(-0.06, 0.0, 0.06), model=ModelPlant(error_correlation=0.9))


def scores_of(cohort, gold="dice_model_gold", silver="dice_model_silver", quality="dice"):
    return cohort.table.select("case_id", gold=gold, silver=silver, quality=quality)


def studied(plant, seed, settings=ASKED, size=1506):
    cohort = simulate_scores(n=size, seed=seed, plant=plant)
    return audit_ruler(cohort, scores_of(cohort), settings)


def verdicts(result):
    return {finding.id.removeprefix("ruler:age:"): finding.verdict for finding in result.findings}


@SEEDS
def test_independent_labels_that_are_worse_for_one_group_are_false_magnitude(seed):
    found = verdicts(studied(LABELS_WORSE_FOR_THE_YOUNG, seed))
    assert found["ruler"] == "supported"
    assert found["false-magnitude"] == "supported"
    assert "supported" not in (found["false-confidence"], found["masking"])


@SEEDS
def test_labels_of_a_twin_are_false_confidence(seed):
    result = studied(LABELS_OF_A_TWIN, seed)
    found = verdicts(result)
    assert found["false-confidence"] == "supported"
    assert "supported" not in (found["false-magnitude"], found["masking"])
    rulers = result.rulers[0]
    assert rulers.spread[0][0] < 0.5
    assert rulers.saturated
    assert rulers.rates["silver"]["dir"][0] == pytest.approx(1.0)
    assert rulers.rates["gold"]["dir"][0] < 0.99


def test_a_twin_without_a_gap_is_no_lie_about_one():
    fair = replace(LABELS_OF_A_TWIN, age_effect=(0.0, 0.0, 0.0))
    asked = replace(ASKED, resamples=199)
    lies = [verdicts(studied(fair, seed, asked))["ruler"] == "supported" for seed in range(20)]
    assert sum(lies) <= 2  # one in twenty is the level


@SEEDS
def test_labels_that_share_the_models_errors_are_masking(seed):
    found = verdicts(studied(LABELS_THAT_SHARE_ERRORS, seed))
    assert found["ruler"] == "supported"
    assert found["masking"] == "supported"
    assert "supported" not in (found["false-confidence"], found["false-magnitude"])


@SEEDS
def test_a_silver_ruler_that_is_gold_up_to_noise_is_cleared(seed):
    cohort = simulate_scores(n=900, seed=seed, plant=LABELS_THAT_SHARE_ERRORS)
    noise = np.random.default_rng(1000 + seed).normal(0, 0.02, len(cohort))  # not the cohort's own stream
    scores = scores_of(cohort).with_columns(silver=pl.col("gold") + noise)
    found = verdicts(audit_ruler(cohort, scores, ASKED))
    assert found.pop("true-gap") == "supported"
    assert set(found.values()) == {"refuted"}


def test_a_small_cohort_is_told_that_it_cannot_know():
    found = verdicts(studied(LABELS_WORSE_FOR_THE_YOUNG, 0, replace(ASKED, min_patients=40), size=60))
    assert set(found.values()) == {"insufficient"}


def test_a_reversed_order_is_found_although_the_gap_is_as_large():
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1], 300)
    gold = 0.7 + 0.08 * group + rng.normal(0, 0.1, 600)
    table = pl.DataFrame({"case_id": [str(i) for i in range(600)], "sex": np.where(group, "f", "m")})
    scores = table.select("case_id", gold=pl.Series(gold), silver=pl.Series(gold + 0.08 - 0.16 * group))
    result = audit_ruler(Cohort("t", table, Path()), scores, replace(ASKED, by=("sex",)))
    found = {f.id: f for f in result.findings}
    assert abs(found["ruler"].estimate.value) < 0.03
    assert found["ruler"].verdict == "supported"
    assert "reversed" in found["ruler"].claim
    assert found["ruler:sex:masking"].verdict == "supported"
    assert found["ruler:sex:false-magnitude"].verdict != "supported"


def test_a_lie_about_a_group_between_the_extremes_says_that_the_gap_is_open():
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1, 2], 200)
    gold = 0.6 + 0.1 * group + rng.normal(0, 0.1, 600)
    table = pl.DataFrame({"case_id": [str(i) for i in range(600)], "site": np.array(["a", "b", "c"])[group]})
    silver = gold + 0.06 * (group == 1) + rng.normal(0, 0.02, 600)
    scores = table.select("case_id", gold=pl.Series(gold), silver=pl.Series(silver))
    found = {f.id: f for f in audit_ruler(Cohort("t", table, Path()), scores, replace(ASKED, by=("site",))).findings}
    assert found["ruler"].verdict == "supported"
    assert "whether the gap itself grows or shrinks is open" in found["ruler"].claim
    assert found["ruler:site:false-magnitude"].verdict == "refuted"
    assert found["ruler:site:masking"].verdict == "refuted"


def test_the_papers_inflation_and_amplification():
    # Means of arXiv 2511.00477, Table 2: observed, true, and trained on silver; Young to Older.
    observed, true, biased = 0.7500 - 0.6941, 0.7703 - 0.7304, 0.7458 - 0.6797
    assert 100 * inflation(observed, true) == pytest.approx(40.1, abs=0.05)
    assert 100 * inflation(biased, true) == pytest.approx(65.7, abs=0.05)


def test_the_ratio_of_gaps_is_given_only_where_there_is_a_true_gap():
    evident = studied(LABELS_WORSE_FOR_THE_YOUNG, 0)
    value, low, high = evident.rulers[0].inflation
    assert low < value < high
    assert "%" in evident.findings[0].claim
    assert "inflation" in evident.findings[0].estimate.extra
    unclear = studied(LABELS_OF_A_TWIN, 0)
    assert unclear.rulers[0].inflation is None
    assert "%" not in unclear.findings[0].claim
    assert "inflation" not in unclear.findings[0].estimate.extra


def test_a_table_of_scores_is_studied_without_masks():
    cohort = simulate_scores(n=600, seed=0, plant=LABELS_WORSE_FOR_THE_YOUNG)
    named = {"silver": "dice_model_silver", "gold": "dice_model_gold", "quality": "dice"}
    from_table = audit_ruler_scores(cohort, ASKED, **named)
    assert [f.as_dict() for f in from_table.findings] == [
        f.as_dict() for f in audit_ruler(cohort, scores_of(cohort), ASKED).findings
    ]
    in_percent = replace(cohort, table=cohort.table.with_columns(pl.col("dice_model_gold") * 100))
    with pytest.raises(DataError, match="divide percentages by 100"):
        audit_ruler_scores(in_percent, ASKED, **named)


def test_the_ids_of_several_groupings():
    result = studied(LABELS_THAT_SHARE_ERRORS, 0, replace(ASKED, by=("age:40,55", "ethnicity"), resamples=199))
    main = [f.id for f in result.findings if f.id.count(":") < 2]
    assert main == ["ruler", "ruler:ethnicity"]
    assert {f.id for f in result.findings} >= {"ruler:age:masking", "ruler:ethnicity:masking"}


@SEEDS
def test_a_small_gold_sample_gives_the_true_gap_and_less_widely_than_alone(seed):
    rng = np.random.default_rng(seed)
    group = np.repeat([0, 1], 1000)
    gold = 0.7 + 0.1 * group + rng.normal(0, 0.1, 2000)
    silver = gold + 0.08 * (1 - group) + rng.normal(0, 0.02, 2000)  # silver hides most of the gap
    known = rng.random(2000) < 0.06
    table = pl.DataFrame({"case_id": [str(i) for i in range(2000)], "sex": np.where(group, "f", "m")})
    scores = table.select("case_id", silver=pl.Series(silver), gold=pl.Series(np.where(known, gold, np.nan)))
    result = audit_ruler(Cohort("t", table, Path()), scores, replace(ASKED, by=("sex",)))
    true = next(f for f in result.findings if f.id == "ruler:sex:true-gap")
    assert true.verdict == "supported"
    of_all = gold[group == 1].mean() - gold[group == 0].mean()
    assert true.estimate.value == pytest.approx(of_all, abs=0.01)
    assert true.estimate.low < of_all < true.estimate.high
    alone_low, alone_high = (limits[0] for limits in result.rulers[0].both.gap_limits)
    assert true.estimate.high - true.estimate.low < 0.5 * (alone_high - alone_low)
    assert next(f for f in result.findings if f.id == "ruler:sex:masking").verdict == "supported"


@pytest.mark.parametrize(("quality", "verdict"), [((0.97, 0.97), "supported"), ((0.6, 0.6), "insufficient")])
def test_without_gold_the_true_gap_is_bounded(quality, verdict):
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1], 200)
    iou = np.clip(0.5 + 0.3 * group + rng.normal(0, 0.05, 400), 0, 1)
    table = pl.DataFrame({"case_id": [str(i) for i in range(400)], "sex": np.where(group, "f", "m")})
    scores = table.select(
        "case_id", silver=pl.Series(2 * iou / (1 + iou)), silver_iou=pl.Series(np.array(quality)[group])
    )
    found = {f.id: f for f in audit_ruler(Cohort("t", table, Path()), scores, replace(ASKED, by=("sex",))).findings}
    true = found["ruler:sex:true-gap"]
    assert true.verdict == verdict
    assert true.estimate.extra["least"] <= 0.3 <= true.estimate.extra["most"]
    assert true.estimate.low <= true.estimate.extra["least"]
    assert found["ruler"].verdict == "insufficient"
    assert "expert masks" in found["ruler"].claim


@pytest.mark.parametrize(
    ("gold", "silver", "words"),
    [
        ([None] * 4, [0.5] * 4, "against gold"),
        ([0.5] * 4, [None] * 4, "against silver"),
        ([0.5, 0.6, None, None], [None, None, 0.5, 0.6], "no case has both rulers"),
        ([0.5, 0.6, 0.7, 0.8], [0.5, 0.6, 0.7, 0.8], "one ruler, not two"),
    ],
)
def test_scores_that_cannot_tell_two_rulers_apart_are_refused(gold, silver, words):
    table = pl.DataFrame({"case_id": list("abcd"), "sex": list("fmfm")})
    kind = {"gold": pl.Float64, "silver": pl.Float64}
    scores = table.select("case_id").hstack(pl.DataFrame({"gold": gold, "silver": silver}, schema=kind))
    with pytest.raises(DataError, match=words):
        audit_ruler(Cohort("t", table, Path()), scores, replace(ASKED, by=("sex",)))


CLEAR = Evidence(
    low_90=-0.01,
    high_90=0.01,
    true_low=0.02,
    true_high_90=0.10,
    spread=(1.0, 0.9, 1.1),
    shift=(0.0, -0.01, 0.01),
    reversal=0.0,
    margin=0.025,
    gap_margin=0.05,
)


@pytest.mark.parametrize(
    ("change", "p", "expected"),
    [
        ({}, 1.0, "rrrr"),
        ({"low_90": 0.03, "high_90": 0.07}, 0.001, "ssrr"),
        ({"low_90": -0.07, "high_90": -0.03}, 0.001, "srrs"),
        ({"low_90": -0.1, "high_90": 0.1}, 0.5, "iiri"),
        ({"spread": (0.2, 0.1, 0.3), "shift": (0.2, 0.1, 0.3)}, 1.0, "rrsr"),
        ({"spread": (0.4, 0.3, 0.6), "shift": (0.2, 0.1, 0.3)}, 1.0, "rrir"),
        ({"spread": (0.2, 0.1, 0.3), "shift": (-0.2, -0.3, -0.1)}, 1.0, "rrrr"),
        ({"reversal": 0.999}, 0.01, "srrs"),
        ({"true_low": 0.0, "true_high_90": 0.04, "low_90": -0.04}, 0.01, "srrr"),
    ],
)
def test_the_rules_of_the_modes(change, p, expected):
    e = replace(CLEAR, **change)
    decided = modes.lies(e, p), modes.false_magnitude(e, p), modes.false_confidence(e), modes.masking(e, p)
    assert "".join(decision.verdict[0] for decision in decided) == expected
