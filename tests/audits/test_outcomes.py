"""Success rules, margins and directions are read as they are written, and mistakes are named."""

import numpy as np
import pytest

from medaudit.audits.judging import outcomes
from medaudit.errors import UsageError

DICE = outcomes.measure("dice", np.array([0.1, 0.9]))
HD95 = outcomes.measure("hd95_mm", np.array([1.0, 20.0]))


def test_a_threshold_is_strict_where_it_says_so():
    values = np.array([0.79, 0.8, 0.81, np.nan])
    assert outcomes.parse("dice>0.8", [DICE]).success(values).tolist()[:3] == [0, 0, 1]
    assert outcomes.parse("dice >= 0.8", [DICE]).success(values).tolist()[:3] == [0, 1, 1]
    assert np.isnan(outcomes.parse("dice>0.8", [DICE]).success(values)[3])


def test_the_best_quarter_by_a_distance_is_the_smallest_quarter():
    rule = outcomes.parse("top25:hd95_mm", [DICE, HD95])
    assert rule.success(np.array([4.0, 3.0, 2.0, 1.0])).tolist() == [0, 0, 0, 1]


def test_the_best_quarter_without_a_measure_is_by_the_first():
    assert outcomes.parse("top25", [HD95, DICE]).measure == "hd95_mm"


def test_the_best_quarter_agrees_with_numpys_percentile():
    scores = np.random.default_rng(1).random(1000)
    ours = outcomes.parse("top25", [DICE]).success(scores)
    assert ours.tolist() == (scores >= np.percentile(scores, 75, method="higher")).tolist()


@pytest.mark.parametrize("text", ["dice", "dice=0.8", "top", "top0", "top100", "dice>x", "", ">0.8", "top25:"])
def test_a_rule_that_cannot_be_read_says_what_is_expected(text):
    with pytest.raises(UsageError, match="cannot read the outcome"):
        outcomes.parse(text, [DICE])


def test_a_rule_on_a_measure_that_is_not_there_lists_those_that_are():
    with pytest.raises(UsageError, match="needs the measure 'iou'; there are: dice, hd95_mm"):
        outcomes.parse("iou>0.5", [DICE, HD95])


def test_direction_unit_and_margin_follow_from_the_name():
    assert (DICE.higher_is_better, DICE.unit, DICE.margin) == (True, "", 0.05)
    assert (HD95.higher_is_better, HD95.unit, HD95.margin) == (False, "mm", 5.0)
    other = outcomes.measure("kappa", np.array([1.0, 2.0, 3.0]))
    assert other.margin == pytest.approx(0.25)
    assert not outcomes.measure("error", np.array([1.0, 2.0]), lower_is_better=["error"]).higher_is_better


def test_a_given_margin_replaces_the_default():
    assert outcomes.measure("dice", np.array([0.0, 1.0]), ["dice=0.02"]).margin == 0.02
    assert outcomes.rate_margin(["rate=0.2"]) == 0.2
    with pytest.raises(UsageError, match="cannot read the margin"):
        outcomes.rate_margin(["rate"])
