"""Thresholds and sets against TorchCP and MAPIE, and the promise itself, split after split."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import betabinom, binom, kstest

from medaudit.errors import DataError, UsageError
from medaudit.uncertainty.conformal import Conformal, threshold

PEERS = json.loads((Path(__file__).parent / "peers.json").read_text())
PROBLEM = {name: np.array(value) for name, value in PEERS["problem"].items()}
TRAIN, TEST = (
    softmax(0.4 * (PROBLEM[x] @ PROBLEM["weight"].T + PROBLEM["bias"]), axis=1) for x in ("features", "test")
)
METHODS = pytest.mark.parametrize("method", ["lac", "aps", "raps"])


def world(cases, seed, classes=4, separation=1.0):
    """Probabilities that are not quite right, and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, cases)
    return softmax(2 * (rng.normal(size=(cases, classes)) + separation * np.eye(classes)[labels]), axis=1), labels


@METHODS
@pytest.mark.parametrize("mondrian", [False, True])
@pytest.mark.parametrize("alpha", [0.1, 0.2])
def test_thresholds_and_sets_are_those_of_torchcp(method, mondrian, alpha):
    peer = PEERS["torchcp"][f"{method}{'_mondrian' if mondrian else ''}_{alpha}"]
    ours = Conformal.fit(TRAIN, PROBLEM["labels"], alpha, method, mondrian, seed=None, penalty=0.05)
    np.testing.assert_allclose(ours.thresholds, np.broadcast_to(peer["thresholds"], 3), rtol=1e-12)
    np.testing.assert_array_equal(ours.sets(TEST), np.array(peer["sets"], dtype=bool))


@pytest.mark.parametrize("alpha", [0.1, 0.2])
def test_least_ambiguous_sets_are_those_of_mapie(alpha):
    peer = PEERS["mapie"][f"lac_{1 - alpha}"]
    ours = Conformal.fit(TRAIN, PROBLEM["labels"], alpha)
    assert ours.thresholds[0] == pytest.approx(peer["quantile"], rel=1e-12)
    np.testing.assert_array_equal(ours.sets(TEST), np.array(peer["sets"], dtype=bool))


@pytest.mark.parametrize(
    ("n", "alpha", "rank"),
    [(9, 0.1, 9), (19, 0.1, 18), (100, 0.1, 91), (39, 0.05, 38), (8, 0.1, None), (999, 0.3, 700)],
)
def test_threshold_is_the_order_statistic(n, alpha, rank):
    # The ranks are ceil((n + 1) (1 - alpha)) in exact arithmetic: 20 x 0.9 is 18, whatever its last digit.
    found = threshold(np.random.default_rng(0).permutation(np.arange(1.0, n + 1)), alpha)
    assert found == (np.inf if rank is None else rank)


@METHODS
def test_coverage_over_splits_is_beta_binomial(method):
    # With continuous scores the hits among m new cases follow the beta-binomial (m, n + 1 - l, l), l = (n + 1) a.
    n, m, alpha, splits = 59, 200, 0.2, 500
    p, labels = world(splits * (n + m), seed=1)
    p, labels = p.reshape(splits, n + m, -1), labels.reshape(splits, n + m)
    hits = np.empty(splits)
    for s in range(splits):
        fitted = Conformal.fit(p[s, :n], labels[s, :n], alpha, method, seed=s)
        hits[s] = fitted.sets(p[s, n:])[np.arange(m), labels[s, n:]].sum()
    law = betabinom(m, n + 1 - 12, 12)
    assert hits.mean() / m == pytest.approx(0.8, abs=4 * law.std() / m / np.sqrt(splits))
    spread = np.random.default_rng(0).uniform(law.cdf(hits - 1), law.cdf(hits))
    assert kstest(spread, "uniform").pvalue > 1e-3
    # The test can fail: one rank less would be noticed.
    less = betabinom(m, n - 12, 13)
    assert kstest(np.random.default_rng(0).uniform(less.cdf(hits - 1), less.cdf(hits)), "uniform").pvalue < 1e-3


def test_mondrian_promises_each_class_what_the_marginal_promise_does_not():
    p, labels = world(40_000, seed=2, separation=3.0)
    rare = labels == 3
    p[rare] = np.roll(p[rare], 1, axis=1) * 0.8 + p[rare] * 0.2  # class 3 is mostly taken for class 0
    half = np.arange(len(p)) < 20_000
    for mondrian in (False, True):
        fitted = Conformal.fit(p[half], labels[half], 0.1, mondrian=mondrian)
        found = fitted.sets(p[~half])[np.arange(20_000), labels[~half]]
        by_class = np.array([found[labels[~half] == c].mean() for c in range(4)])
        if mondrian:
            np.testing.assert_allclose(by_class, 0.9, atol=0.02)  # some 5,000 cases a class: 3 se are 0.018
        else:
            assert by_class[3] < 0.8
            assert found.mean() == pytest.approx(0.9, abs=0.01)


@METHODS
@pytest.mark.parametrize("mondrian", [False, True])
@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.37])
def test_sets_hold_the_classes_with_p_values_above_alpha(method, mondrian, alpha):
    p, labels = world(139, seed=3)
    fitted = Conformal.fit(p[:90], labels[:90], alpha, method, mondrian)
    np.testing.assert_array_equal(fitted.p_value(p[90:]) > alpha, fitted.sets(p[90:]))
    np.testing.assert_array_equal(fitted.size(p[90:]), fitted.sets(p[90:]).sum(axis=1))
    np.testing.assert_array_equal(fitted.score(p[90:]), 1 - fitted.p_value(p[90:]).max(axis=1))


@METHODS
def test_p_values_of_the_true_class_are_uniform(method):
    p, labels = world(30_000, seed=4)
    fitted = Conformal.fit(p[:19], labels[:19], 0.1, method)
    # Of one calibration only, over many calibrations: the rank among 19 + 1 is uniform on 1..20.
    ranks = []
    for s in range(1, 1500):
        part = slice(20 * s, 20 * s + 19)
        fitted = Conformal.fit(p[part], labels[part], 0.1, method, seed=s)
        last = 20 * s + 19
        ranks.append(fitted.p_value(p[last : last + 1])[0, labels[last]] * 20)
    counts = np.bincount(np.round(ranks).astype(int), minlength=21)[1:]
    low, high = binom(1499, 1 / 20).ppf([1e-4, 1 - 1e-4])
    assert ((counts >= low) & (counts <= high)).all()


def test_too_few_calibration_cases_put_every_class_in_every_set_and_say_so():
    p, labels = world(8, seed=5)
    fitted = Conformal.fit(p, labels, 0.1)
    assert np.isinf(fitted.thresholds).all()
    assert fitted.sets(TEST @ np.eye(3, 4)).all()
    assert "8 calibration cases" in fitted.notes[0]
    assert "9 or more" in fitted.notes[0]
    assert Conformal.fit(*world(9, seed=5), 0.1).notes == ()


def test_a_class_without_calibration_cases_is_in_every_set():
    p, labels = world(200, seed=6)
    seen = labels != 2
    fitted = Conformal.fit(p[seen], labels[seen], 0.1, mondrian=True)
    assert fitted.sets(p)[:, 2].all()
    assert not fitted.sets(p).all()
    assert (fitted.p_value(p)[:, 2] == 1).all()
    assert "classes 2: 0 calibration cases" in fitted.notes[0]


def test_a_shifted_world_scores_higher_and_breaks_the_promise():
    p, labels = world(4000, seed=7, separation=3.0)
    fitted = Conformal.fit(p[:2000], labels[:2000], 0.1)
    flat = p[2000:] * 0.05 + 0.95 / 4
    assert np.median(fitted.score(flat)) > np.median(fitted.score(p[2000:]))
    assert fitted.sets(flat)[np.arange(2000), labels[2000:]].mean() < 0.5


@METHODS
def test_a_cases_set_does_not_depend_on_those_after_it(method):
    p, labels = world(100, seed=8)
    fitted = Conformal.fit(p[:50], labels[:50], 0.2, method)
    np.testing.assert_array_equal(fitted.sets(p[50:])[:10], fitted.sets(p[50:60]))


def test_confident_cases_do_not_tie():
    p, labels = world(50, seed=9)
    fitted = Conformal.fit(p, labels, 0.1)
    gaps = np.array([40.0, 41, 42])
    sure = softmax(np.stack([gaps, np.zeros(3), np.zeros(3), np.zeros(3)], axis=1), axis=1)
    assert (np.diff(fitted._scores(sure)[:, 0]) < 0).all()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"alpha": 0.0}, "between 0 and 1"),
        ({"alpha": 1.0}, "between 0 and 1"),
        ({"alpha": np.nan}, "between 0 and 1"),
        ({"method": "topk"}, "lac, aps, raps"),
        ({"penalty": -1.0}, "0 or more"),
    ],
)
def test_bad_options_are_refused(options, says):
    with pytest.raises(UsageError, match=says):
        Conformal.fit(*world(50, seed=0), **options)


def test_bad_data_are_named():
    p, labels = world(50, seed=0)
    with pytest.raises(DataError, match="row 3"):
        Conformal.fit(np.where(np.arange(50)[:, None] == 3, np.nan, p), labels)
    with pytest.raises(DataError, match="0 to 3"):
        Conformal.fit(p, labels + 1)
    with pytest.raises(DataError, match="not logits"):
        Conformal.fit(np.log(p), labels)
    with pytest.raises(DataError, match="expected 4"):
        Conformal.fit(p, labels).sets(TEST)
