"""The causes, from scores whose cause is known by construction: named where planted, and not where not.

Scores stand in for trained models here, so that many worlds take seconds; images and trainings are in
``benchmarks/planted_causes.py`` and ``tests/cli/test_diagnose_verb.py``.
"""

import numpy as np
import polars as pl
import pytest
from test_diagnosis_design import design_of, people

from medaudit.audits.diagnosis.causes import CAUSES, named
from medaudit.audits.diagnosis.design import BALANCED, BASELINE, BIASED
from medaudit.audits.diagnosis.settings import Settings
from medaudit.audits.diagnosis.study import diagnose

SIZES = (90, 90, 90)
ROOTS = {"label_bias", "representation", "difficulty_imbalance"}


def world(
    seed, *, harder=0.0, worse_labels=0.0, hard_share=(0.3, 0.3, 0.3), widened=0.0, observed=0.0, sizes=SIZES, **more
):
    """The findings of a cohort of groups a, b, c; what is planted concerns group a.

    ``harder``: Dice that a loses whatever it is trained on; ``worse_labels``: what its automated masks lose;
    ``widened``: what a loses more when trained on automated labels; ``observed``: what it loses more on silver.
    A hard case loses 0.2.
    """
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(3), sizes)
    hard = (rng.random(group.size) < np.asarray(hard_share)[group]).astype(int)
    cohort = people(sizes, site=rng.choice(["A", "B"], group.size).tolist())
    design = design_of(cohort, hard, **more.pop("design", {}))
    first = group == 0
    case = 0.8 - 0.2 * hard - harder * first + 0.10 * rng.standard_normal(group.size)
    noise = lambda sd=0.02: sd * rng.standard_normal(group.size)
    scores = {name: case + noise() for name in design.names}
    scores[BIASED] = case - 0.03 - widened * first + noise()
    scores["quality"] = 0.82 - worse_labels * first + 0.12 * rng.standard_normal(group.size)
    scores["observed"] = case - 0.05 - observed * first + noise(0.04)
    table = pl.DataFrame({"case_id": cohort.case_ids, **{name: np.clip(v, 0, 1) for name, v in scores.items()}})
    settings = Settings(by="group", seed=seed, resamples=400, **more)
    return {finding.id: finding for finding in diagnose(cohort, design, table, settings).findings}


def roots(found):
    return set(named(found)) & ROOTS


def share(name_of, seeds=range(12)):
    return np.mean([name_of(seed) for seed in seeds])


@pytest.mark.parametrize(
    ("planted", "named_causes"),
    [
        ({"worse_labels": 0.10}, {"label_bias"}),
        ({"harder": 0.10}, {"representation"}),
        ({"hard_share": (0.7, 0.2, 0.2)}, {"difficulty_imbalance"}),
        ({"harder": 0.10, "worse_labels": 0.10}, {"label_bias", "representation"}),
    ],
    ids=["label", "representation", "imbalance", "both"],
)
def test_a_planted_cause_is_named_and_no_other(planted, named_causes):
    assert share(lambda seed: roots(world(seed, **planted)) == named_causes) >= 0.9


def test_without_a_cause_none_is_named():
    assert share(lambda seed: not named(world(seed)), range(20)) >= 0.9


def test_there_is_one_finding_a_cause_in_their_order():
    assert tuple(world(0)) == tuple(CAUSES)


def test_a_group_with_more_hard_cases_that_is_no_harder_is_not_called_harder():
    found = world(1, hard_share=(0.7, 0.2, 0.2))
    assert found["representation"].verdict != "supported"
    assert found["representation"].estimate.low < 0 < found["representation"].estimate.high
    e = found["difficulty_imbalance"].estimate
    # By construction the mix alone makes 0.2 * (0.7 - 0.2) of a gap.
    assert e.extra["raw"] == pytest.approx(0.10, abs=0.05)
    assert e.extra["balanced"] == pytest.approx(0.0, abs=0.04)
    assert found["difficulty_imbalance"].groups["a"]["share_hard"] == pytest.approx(0.7, abs=0.12)


def test_a_widened_gap_is_amplification_and_its_size_is_the_planted_one():
    found = world(2, harder=0.08, widened=0.06)["amplification"]
    assert found.verdict == "supported"
    assert found.estimate.value == pytest.approx(0.06, abs=0.01)
    assert found.estimate.low < 0.06 < found.estimate.high
    assert found.estimate.extra["amplification"] == pytest.approx(
        found.estimate.extra["gap_silver_trained"] / found.estimate.extra["gap_baseline"] - 1
    )


def test_a_gap_that_training_on_silver_narrows_is_no_amplification():
    found = world(3, harder=0.10, widened=-0.06)["amplification"]
    assert found.verdict == "refuted"
    assert found.estimate.p < 0.05  # it changed, the other way


def test_a_ratio_is_only_given_where_there_is_a_gap_to_divide_by():
    assert "amplification" not in world(4)["amplification"].estimate.extra


def test_a_ruler_that_is_harder_on_one_group_is_found_and_a_fair_one_cleared():
    assert world(5, harder=0.10, observed=0.08)["ruler"].verdict == "supported"
    assert world(5, harder=0.10)["ruler"].verdict == "refuted"


def test_fewer_patients_are_more_often_told_that_nothing_can_be_told():
    counts = []
    for n in (90, 40, 20):
        verdicts = [world(s, worse_labels=0.06, sizes=(n,) * 3)["label_bias"].verdict for s in range(10)]
        counts.append(verdicts.count("insufficient"))
    assert counts[0] < counts[2]
    assert counts == sorted(counts)


def test_a_gap_between_hospitals_is_called_one():
    rng = np.random.default_rng(0)
    cohort = people((120, 120), site=(["A"] * 100 + ["B"] * 20) + (["A"] * 20 + ["B"] * 100))
    design = design_of(cohort, wanted=("silver-trained",))
    site_a = np.asarray(cohort.table["site"].to_list()) == "A"
    score = 0.8 - 0.12 * site_a + 0.08 * rng.standard_normal(240)
    table = pl.DataFrame({"case_id": cohort.case_ids, BASELINE: score, BIASED: score})
    settings = Settings(by="group", within="site", resamples=1_000)
    found = {f.id: f for f in diagnose(cohort, design, table, settings).findings}
    assert found["source_confounding"].verdict == "supported"
    assert found["source_confounding"].estimate.value > 80
    planted = {BASELINE: 0.8 - 0.12 * (np.arange(240) < 120) + 0.08 * rng.standard_normal(240)}
    table = table.with_columns(**planted)
    found = {f.id: f for f in diagnose(cohort, design, table, settings).findings}
    assert found["source_confounding"].verdict == "refuted"


def test_without_a_balanced_training_difficulty_is_still_taken_out_of_the_test():
    found = world(6, hard_share=(0.7, 0.2, 0.2), design={"wanted": ("silver-trained",)})
    assert found["difficulty_imbalance"].verdict == "supported"
    assert BALANCED not in found["difficulty_imbalance"].claim


def test_a_measure_for_which_less_is_better_is_read_that_way():
    rng = np.random.default_rng(0)
    cohort = people(SIZES)
    design = design_of(cohort, wanted=("silver-trained",))
    first = np.repeat(np.arange(3), SIZES) == 0
    distance = 5 + 8 * first + rng.gamma(2, 1, first.size)
    table = pl.DataFrame({"case_id": cohort.case_ids, BASELINE: distance, BIASED: distance})
    settings = Settings(by="group", measure="hd95_mm", resamples=400)
    found = {f.id: f for f in diagnose(cohort, design, table, settings).findings}["representation"]
    assert found.verdict == "supported"
    assert "group a are harder" in found.claim
    assert "higher by" in found.claim
    assert found.estimate.unit == "mm"


def test_a_group_too_small_to_judge_changes_nothing_and_is_named():
    found = world(7, harder=0.10, sizes=(90, 90, 8))
    assert found["representation"].verdict == "supported"
    assert any("not judged" in note and "c" in note for note in found["representation"].rests_on)
