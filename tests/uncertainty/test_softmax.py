"""Scores of logits against exact arithmetic, pytorch-ood and scipy, where confident cases must not tie."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import entropy as scipy_entropy
from sklearn.metrics import roc_auc_score

from medaudit.errors import DataError, UsageError
from medaudit.uncertainty import softmax as scores

PEER = json.loads((Path(__file__).parent / "peers.json").read_text())["pytorch_ood"]
ALL = {
    "max_probability": scores.max_probability,
    "entropy": scores.entropy,
    "margin": scores.margin,
    "energy": scores.energy,
    "max_logit": scores.max_logit,
    "generalised_entropy": scores.generalised_entropy,
    "doctor": scores.doctor,
}
of_probabilities = pytest.mark.parametrize(
    "name", ["max_probability", "entropy", "margin", "generalised_entropy", "doctor"]
)


def overlapping(seed=0, cases=300, classes=4, scale=1.0):
    """Logits that are right more often than by chance, and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, cases)
    return scale * (rng.normal(size=(cases, classes)) + 1.5 * np.eye(classes)[labels]), labels


@pytest.mark.parametrize(
    ("peer", "ours"),
    [
        ("max_probability", scores.max_probability),
        ("entropy", scores.entropy),
        ("energy_2", lambda z: scores.energy(z, 2.0)),
        ("max_logit", scores.max_logit),
        ("gen", lambda z: scores.generalised_entropy(z) / 3),
        ("gen_top2", lambda z: scores.generalised_entropy(z, 0.5, 2) / 2),
    ],
)
def test_scores_are_those_of_pytorch_ood(peer, ours):
    np.testing.assert_allclose(ours(np.array(PEER["logits"])), PEER[peer], rtol=1e-9)


def test_scores_of_known_probabilities():
    p = np.array([[0.5, 0.3, 0.2], [0.8, 0.1, 0.1]])
    z = np.log(p) + 7
    squares = (p**2).sum(axis=1)
    np.testing.assert_allclose(scores.max_probability(z), [0.5, 0.2])
    np.testing.assert_allclose(scores.margin(z), [0.8, 0.3])
    np.testing.assert_allclose(scores.entropy(z), scipy_entropy(p, axis=1))
    np.testing.assert_allclose(scores.doctor(z), (1 - squares) / squares)
    np.testing.assert_allclose(scores.energy(z), -7)


@of_probabilities
def test_confident_cases_do_not_tie(name):
    # From a gap of 37 on, 1 - max p is 0 in double precision.
    gaps = np.arange(30.0, 300.0)
    score = ALL[name](np.stack([gaps, np.zeros_like(gaps), np.zeros_like(gaps)], axis=1))
    assert (np.diff(score) < 0).all()
    assert (score > 0).all()


def test_a_gap_of_50_keeps_all_its_digits():
    # 1 - p with p = 1 / (1 + e^-50), in exact fractions of the double nearest to e^-50.
    small = Fraction(float(np.exp(-50.0)))
    exact = float(small / (1 + small))
    assert scores.max_probability([[50.0, 0.0]])[0] == pytest.approx(exact, rel=1e-15)
    assert scores.margin([[50.0, 0.0]])[0] == pytest.approx(2 * exact, rel=1e-15)
    assert scores.entropy([[50.0, 0.0]])[0] == pytest.approx(exact * (50 + 1), rel=1e-13)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(*[st.floats(-200, 200)] * 3), min_size=1, max_size=6), st.floats(-50, 50))
def test_softmax_scores_forget_a_constant_and_energy_does_not(rows, constant):
    z = np.array(rows)
    for name in ("max_probability", "entropy", "margin", "doctor"):
        # 200 + 50 has lost digits of 1e-14: relative in the probabilities.
        np.testing.assert_allclose(ALL[name](z + constant), ALL[name](z), rtol=1e-10, atol=1e-300)
    np.testing.assert_allclose(scores.energy(z + constant), scores.energy(z) - constant, rtol=0, atol=1e-11)
    np.testing.assert_allclose(np.exp(scores.log_softmax(z)).sum(axis=1), 1, rtol=1e-13)


@pytest.mark.parametrize("name", ["entropy", "margin", "doctor"])
def test_with_two_classes_all_rank_as_the_maximum_probability(name):
    z = np.random.default_rng(1).normal(size=(500, 2)) * 10
    assert (np.argsort(ALL[name](z)) == np.argsort(scores.max_probability(z))).all()


@pytest.mark.parametrize("scale", [0.3, 1.0, 8.0])
def test_temperature_is_the_minimum_that_brent_finds(scale):
    z, labels = overlapping(scale=scale)
    peer = minimize_scalar(
        lambda beta: scores.negative_log_likelihood(beta * z, labels), bracket=(0.1, 1.0), method="brent", tol=1e-12
    )
    found = scores.temperature(z, labels)
    assert 1 / found == pytest.approx(peer.x, rel=1e-6)
    assert scores.negative_log_likelihood(z / found, labels) <= peer.fun + 1e-14
    assert scores.negative_log_likelihood(z / found, labels) <= scores.negative_log_likelihood(z, labels)


def test_temperature_of_scaled_logits_is_scaled():
    z, labels = overlapping(2)
    assert scores.temperature(5 * z, labels) == pytest.approx(5 * scores.temperature(z, labels), rel=1e-12)


def test_temperature_keeps_predictions_and_with_two_classes_the_ranks():
    z, labels = overlapping(3, classes=2)
    cooled = z / scores.temperature(z, labels)
    wrong = z.argmax(axis=1) != labels
    assert (cooled.argmax(axis=1) == z.argmax(axis=1)).all()
    assert roc_auc_score(wrong, scores.max_probability(cooled)) == roc_auc_score(wrong, scores.max_probability(z))
    # With three classes it may change: the second class matters more or less.
    three = np.array([[2.0, 0.0, 0.0], [2.3, 1.2, -9.0]])
    assert np.diff(scores.max_probability(three)) > 0
    assert np.diff(scores.max_probability(three / 4)) < 0


def test_temperature_without_an_optimum_is_at_the_edge():
    labels = np.array([0, 1, 1, 0])
    assert scores.temperature(np.eye(2)[labels], labels) == scores.TEMPERATURES[0]
    assert scores.temperature(np.eye(2)[1 - labels], labels) == scores.TEMPERATURES[1]
    assert scores.temperature([[1.0, 0.0], [0.0, 0.5]], [0, 0]) > 0  # one class is enough


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    ("logits", "says"),
    [([[0.0, 1.0], [np.nan, 0.0]], "row 1"), ([[np.inf, 1.0]], "row 0"), ([[1.0]], "2 classes"), ([], "1 case")],
)
def test_bad_logits_are_named(name, logits, says):
    with pytest.raises(DataError, match=says):
        ALL[name](logits)


@pytest.mark.parametrize(
    ("labels", "says"),
    [([0, -1], "row 1"), ([0, 2], "0 to 1"), ([0], "one a case"), ([0.5, 1], "whole"), (["a", "b"], "whole")],
)
def test_bad_labels_are_named(labels, says):
    with pytest.raises(DataError, match=says):
        scores.temperature([[0.0, 1.0], [1.0, 0.0]], labels)


@pytest.mark.parametrize(
    "call",
    [
        lambda z: scores.energy(z, 0.0),
        lambda z: scores.energy(z, np.nan),
        lambda z: scores.generalised_entropy(z, gamma=0),
        lambda z: scores.generalised_entropy(z, top=3),
    ],
)
def test_bad_options_are_refused(call):
    with pytest.raises(UsageError, match="expected"):
        call([[0.0, 1.0]])
