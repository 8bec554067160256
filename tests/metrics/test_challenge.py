"""The MAMA-MIA challenge's score, as it is defined and as the released script computes it."""

import math

import numpy as np
import pandas as pd
import polars as pl
import pytest

from medaudit.errors import DataError
from medaudit.metrics import challenge_response_score, challenge_score

CASES = {
    "dice": [0.9, 0.8, 0.7, 0.6, 0.0, math.nan],
    "hd95_mm": [3.0, 6.0, 15.0, 300.0, math.inf, math.nan],
    "hd95_voxels": [4.0, 8.0, 20.0, 300.0, math.inf, math.nan],
    "age": [35, 40, 41, 75, 65, None],
    "menopause": ["pre (<6 months)", "peri (6-12 months)", "post", "post (prior oophorectomy)", None, None],
    "breast_density": ["a", "a", "b", "b", "b", None],
}
COMPAT = {**CASES, "menopausal_status": CASES["menopause"]}


def test_performance_and_fairness_follow_the_definition():
    """NormHD .02 .04 .1 1 1 0 (clipped; one empty; both empty), Dice of two empty masks 1."""
    score = challenge_score(CASES, minimum_n=1)
    dice, norm = [0.9, 0.8, 0.7, 0.6, 0, 1], [0.02, 0.04, 0.1, 1, 1, 0]
    assert score.performance == pytest.approx(0.5 * (np.mean(dice) + 1 - np.mean(norm)))
    age = 1 - 0.5 * ((0.85 - 0) + (1 - 0.03))  # (0, 40] against (60, 70] and (70, 100]
    menopause = 1 - 0.5 * ((0.85 - 0.65) + (0.55 - 0.03))
    density = 1 - 0.5 * ((0.85 - 1.3 / 3) + (0.7 - 0.03))
    assert score.fairness_by == pytest.approx({"age": age, "menopausal_status": menopause, "breast_density": density})
    assert score.fairness == pytest.approx((age + menopause + density) / 3)
    assert score.ranking == pytest.approx(0.5 * score.performance + 0.5 * score.fairness)
    assert score.group_sizes["age"] == {"0-40": 2, "41-50": 1, "61-70": 1, "71+": 1}
    assert score.group_sizes["menopausal_status"] == {"post": 2, "pre": 2}


def test_alpha_weighs_fairness():
    assert challenge_score(CASES, minimum_n=1, alpha=0).ranking == challenge_score(CASES, minimum_n=1).performance
    assert challenge_score(CASES, minimum_n=1, alpha=1).ranking == challenge_score(CASES, minimum_n=1).fairness


def test_small_groups_and_absent_variables_are_left_out():
    score = challenge_score({k: v for k, v in CASES.items() if k != "breast_density"}, minimum_n=2)
    assert set(score.fairness_by) == {"menopausal_status"}
    assert score.group_sizes["age"] == {"0-40": 2}
    assert math.isnan(challenge_score(CASES).fairness)  # no group of ten


def released_script(frame):
    """The score of Task 1 in the order in which the released script does it, on its own kind of table."""
    variables = ["age", "menopausal_status", "breast_density"]
    table = frame[["patient_id", *variables]].copy()
    table["age"] = pd.cut(table["age"].astype(float), [0, 40, 50, 60, 70, 100])
    for i, patient in enumerate(frame["patient_id"]):
        table.loc[patient, "DSC"] = frame["DSC"][i]
        table.loc[patient, "NormHD"] = frame["NormHD"][i]
    performance = 0.5 * (np.mean(frame["DSC"]) + 1 - np.mean(frame["NormHD"]))
    fairness = []
    for variable in variables:
        means = table.groupby(variable, observed=True)[["DSC", "NormHD"]].mean()
        fairness.append(1 - 0.5 * sum(max(means[c].tolist()) - min(means[c].tolist()) for c in ("DSC", "NormHD")))
    return performance, sum(fairness) / 3


def test_compat_reproduces_the_script_and_its_fairness_that_is_not_a_number():
    frame = pd.DataFrame(
        {
            "patient_id": [f"DUKE_{i:03}" for i in range(6)],
            "age": CASES["age"],
            "menopausal_status": ["pre", "pre", "post", "post", "unknown", "unknown"],
            "breast_density": CASES["breast_density"],
            "DSC": [0.9, 0.8, 0.7, 0.6, 0.0, 0.0],
            "NormHD": [4 / 150, 8 / 150, 20 / 150, 300 / 150, 1.0, 0.0],
        }
    )
    performance, fairness = released_script(frame)
    assert math.isnan(fairness)
    score = challenge_score(COMPAT, compat=True)
    assert score.performance == pytest.approx(performance)
    assert math.isnan(score.fairness)
    assert math.isnan(score.ranking)
    assert score.group_sizes["menopausal_status"] == {"post": 2, "pre": 2, "unknown": 2}


def test_compat_stops_where_the_script_stops():
    with pytest.raises(DataError, match="menopausal_status"):
        challenge_score(CASES, compat=True)
    with pytest.raises(DataError, match="hd95_mm"):
        challenge_score({"dice": [1.0], "age": [40]})
    with pytest.raises(DataError, match="at least one of"):
        challenge_score({"dice": [1.0], "hd95_mm": [0.0]})


@pytest.mark.parametrize("table", [pl.DataFrame, pd.DataFrame])
def test_polars_and_pandas_tables_serve_as_well_as_a_dict(table):
    assert challenge_score(table(CASES), minimum_n=1) == challenge_score(CASES, minimum_n=1)


RESPONSE = {
    "pcr": [1, 1, 0, 0, 1, 1, 0, 0, None],
    "pcr_pred": [1, 1, 0, 0, 1, 0, 1, 0, 1],
    "age": [30, 31, 32, 33, 55, 56, 57, 58, 45],
    "menopausal_status": ["pre"] * 4 + ["post"] * 4 + [None],
    "breast_density": ["a", "b"] * 4 + ["d"],
}


def test_response_score_is_balanced_accuracy_and_equalised_odds():
    sklearn = pytest.importorskip("sklearn.metrics")
    score = challenge_response_score(RESPONSE, minimum_n=1)
    known = slice(0, 8)
    balanced = sklearn.balanced_accuracy_score(RESPONSE["pcr"][known], RESPONSE["pcr_pred"][known])
    assert score.performance == pytest.approx(balanced)
    age = menopause = 0.5 + 0.5  # TPR 1 and .5, FPR 0 and .5
    density = 0.5 + 0.5  # a: 2 of 2 and 1 of 2; b: 1 of 2 and 0 of 2
    assert score.fairness == pytest.approx(1 - min((age + menopause + density) / 3, 1))
    assert score.ranking == pytest.approx(0.5 * balanced + 0.5 * score.fairness)


def test_response_compat_counts_a_missing_answer_as_none_and_an_empty_class_as_zero():
    score = challenge_response_score(RESPONSE, compat=True)
    assert score.performance == pytest.approx((3 / 4 + 1 - 2 / 5) / 2)
    assert score.group_sizes["menopausal_status"] == {"post": 4, "pre": 4, "unknown": 1}
    assert score.fairness_by["age"] == pytest.approx(1 - (1 + 1))
    with pytest.raises(DataError, match="one class only"):
        challenge_response_score({**RESPONSE, "pcr": [1] * 9})
