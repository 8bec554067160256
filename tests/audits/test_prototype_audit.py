"""The shortcut diagnosis on painters whose answers are known by formula."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from painted_worlds import NAMES, world
from scipy.stats import binomtest, ttest_ind

from medaudit.audits.prototypes.effects import Donors, Exchange, conditional_auroc
from medaudit.audits.prototypes.findings import findings
from medaudit.audits.prototypes.labels import attributes_of, two_valued
from medaudit.audits.prototypes.settings import AuditSettings
from medaudit.audits.prototypes.study import exchanged
from medaudit.audits.prototypes.study import study as judge_again
from medaudit.errors import DataError, UsageError
from medaudit.training.attributes import balanced_weights


def verdicts(study):
    return {finding.id: finding.verdict for finding in findings(study)}


def test_what_went_together_in_training_is_a_shortcut_by_total_and_not_by_code():
    found = verdicts(world(0.8, seed=1))
    assert found["shortcut:shortcut->sign"] == found["shortcut:sign->shortcut"] == "supported"
    assert found["absorbed:shortcut->sign"] == found["absorbed:sign->shortcut"] == "refuted"
    for a, b in (("control", "sign"), ("sign", "control"), ("control", "shortcut"), ("shortcut", "control")):
        assert found[f"shortcut:{a}->{b}"] != "supported"


def test_what_the_painter_takes_for_the_other_is_absorbed_in_that_direction_alone():
    found = verdicts(world(0.0, seed=2, absorbed=True))
    assert found["shortcut:shortcut->sign"] == found["absorbed:shortcut->sign"] == "supported"
    assert found["shortcut:sign->shortcut"] != "supported"
    assert found["absorbed:sign->shortcut"] == "refuted"


def test_the_change_is_the_association_in_training():
    for phi in (0.3, 0.6, 0.9):
        found = world(phi, seed=3, noise=0.01).change[1, 0, "total"]
        # Donors come as in the 3,000 training images, whose phi is within four standard errors of the asked one.
        assert abs(found.value - phi) < 4 * np.sqrt((1 - phi**2) / 3_000) + 1 / 256
        assert found.high - found.low < 0.02  # what is painted does not vary within strata here


def test_without_any_association_nothing_is_found_more_often_than_said():
    worlds = [verdicts(world(0.0, seed=100 + k)) for k in range(40)]
    wrong = sum(any(v == "supported" for name, v in one.items() if name.startswith("shortcut:")) for one in worlds)
    # More than 5 % of worlds with one false claim or more would have to be very unlikely to be chance.
    assert binomtest(wrong, len(worlds), 0.05, alternative="greater").pvalue > 0.01


def test_a_screen_sees_the_association_without_painting():
    study = world(0.8, seed=4)
    assert study.screen[0, 1].low > 0.3
    assert study.screen[0, 2].low < 0 < study.screen[0, 2].high
    assert study.screen[0, 1].extra["training"] - study.screen[0, 1].extra["test"] == study.screen[0, 1].value


def test_too_few_donors_cannot_be_told():
    study = world(0.8, seed=5)
    few = [replace(effect, total=replace(effect.total, donors=tuple(side[:19] for side in effect.total.donors)))
           for effect in study.material.effects]  # fmt: skip
    found = findings(judge_again(replace(study.material, effects=few), study.settings))
    main = [f for f in found if f.id.startswith("shortcut:")]
    assert {f.verdict for f in main} == {"insufficient"}
    assert "20 are needed" in main[0].claim


def test_an_attribute_that_the_model_does_not_paint_brings_nothing_along():
    study = world(0.8, seed=6, noise=0.01)

    def faint(exchange):
        return replace(exchange, judged=tuple(0.1 * side for side in exchange.judged))

    dull = [replace(one, total=faint(one.total), code=faint(one.code)) for one in study.material.effects]
    found = findings(judge_again(replace(study.material, effects=dull), study.settings))
    claims = {f.id: f.claim for f in found}
    assert "does not paint it" in claims["shortcut:shortcut->sign"]


def test_auroc_at_equal_values_of_the_others_tells_the_sign_from_its_shortcut():
    rng = np.random.default_rng(0)
    sign = rng.random(4_000) < 0.5
    shortcut = np.where(rng.random(4_000) < 0.95, sign, ~sign)
    labels = np.stack([sign, shortcut], axis=1).astype(float)
    activations = labels + 0.3 * rng.standard_normal((4_000, 2))
    found = conditional_auroc(activations, labels)
    assert found[0, 0] > 0.95
    assert abs(found[0, 1] - 0.5) < 0.1  # all images together: above 0.9
    never = np.stack([sign, sign], axis=1).astype(float)
    assert np.isnan(conditional_auroc(activations, never)).all()


def test_the_interval_and_p_of_an_exchange_are_those_of_two_samples():
    rng = np.random.default_rng(7)
    yes, no = rng.normal(0.5, 0.2, 80), rng.normal(0.4, 0.3, 50)
    exchange = Exchange((np.arange(80), np.arange(50)), (yes[:, None], no[:, None]), (np.zeros(80), np.zeros(50)),
                        np.zeros(0))  # fmt: skip
    found = exchanged(exchange, 0, AuditSettings(resamples=5_000), np.random.default_rng(0))
    welch = ttest_ind(yes, no, equal_var=False)
    assert found.value == pytest.approx(yes.mean() - no.mean())
    assert found.p == pytest.approx(welch.pvalue, rel=0.25, abs=0.004)
    low, high = welch.confidence_interval()
    assert (found.low, found.high) == (pytest.approx(low, abs=0.01), pytest.approx(high, abs=0.01))
    assert found.n == 130


def test_donors_are_drawn_as_their_other_attributes_come():
    rng = np.random.default_rng(8)
    labels = np.stack([np.ones(1_000), np.arange(1_000) < 130, np.arange(1_000) % 2], axis=1).astype(float)
    donors = Donors(np.zeros((1_000, 2)), labels, np.arange(1_000))
    rows, strata = donors.drawn(np.arange(1_000), 0, 100, rng)
    assert len(set(rows.tolist())) == 100
    assert labels[rows, 1].mean() == pytest.approx(0.13, abs=0.011)
    assert (np.abs(np.bincount(strata) - [43.5, 43.5, 6.5, 6.5]) < 1).all()
    assert donors.drawn(np.arange(50), 0, 100, rng)[0].tolist() == list(range(50))


def test_donors_are_those_with_the_attribute_and_alone_those_with_nothing_else():
    labels = np.array([[1, 0], [1, 1], [0, 0], [0, 1], [np.nan, 0], [1, 0]])
    donors = Donors(np.zeros((6, 2)), labels, np.array([7, 8, 9, 9, 7, 7]))  # the first and the last are of one patient
    assert donors.rows(0, 1, alone=False).tolist() == [0, 1]
    assert donors.rows(0, 1, alone=True).tolist() == [0]
    assert donors.rows(0, 0, alone=True).tolist() == [2]


def test_weights_make_combinations_count_alike():
    labels = np.array([[0, 0]] * 90 + [[1, 1]] * 90 + [[0, 1]] * 10 + [[1, 0]] * 10, dtype=float)
    weights = balanced_weights(labels)
    totals = [weights[(labels == np.array(pair)).all(1)].sum() for pair in ((0, 0), (1, 1), (0, 1), (1, 0))]
    assert totals == pytest.approx([50.0] * 4)
    centred = labels - weights @ labels / weights.sum()
    assert (weights * centred[:, 0]) @ centred[:, 1] == pytest.approx(0, abs=1e-9)


def test_attributes_are_read_and_odd_values_named():
    table = pl.DataFrame({"a": ["yes", "No", None, "true"], "b": [1, 0, -1, 1], "c": ["yes", "no", "maybe", "no"]})
    found = attributes_of(table, ["a", "b"])
    assert np.array_equal(found, [[1, 1], [0, 0], [np.nan, np.nan], [1, 1]], equal_nan=True)
    assert two_valued(table) == ["a", "b"]
    with pytest.raises(DataError, match="row 3: 'maybe' is neither yes nor no"):
        attributes_of(table, ["c"])
    with pytest.raises(UsageError, match="no column 'd'"):
        attributes_of(table, ["d"])


@pytest.mark.parametrize("wrong", [{"images": 1}, {"margin": 0.0}, {"captured": 0.4}, {"drawn": -1}, {"steps": 1}])
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        AuditSettings(**wrong)


def test_every_ordered_pair_is_asked_once():
    found = verdicts(world(0.0, seed=7))
    asked = [name for name in found if name.startswith("shortcut:")]
    assert sorted(asked) == sorted(f"shortcut:{a}->{b}" for a in NAMES for b in NAMES if a != b)
