"""Measures of probabilities against scikit-learn, of all cases and of every resample of patients."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, precision_recall_fscore_support, roc_auc_score

from medaudit.errors import DataError
from medaudit.statistics.patients import patient_weights
from medaudit.training.probes.measures import case_outcomes, measure_draws, measures


def cases(n=150, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, classes, n)
    logits = rng.normal(size=(n, classes)) + 1.2 * np.eye(classes)[codes]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    # Coarse, so that there are ties.
    return np.round(p * 8 + 1e-9) / np.round(p * 8 + 1e-9).sum(axis=1, keepdims=True), codes


def by_scikit_learn(p, codes):
    known = np.unique(codes)
    found = p.argmax(axis=1)
    precision, recall, f1, _ = precision_recall_fscore_support(codes, found, labels=known, zero_division=0)
    auroc = [roc_auc_score(codes == c, p[:, c]) for c in known]
    return {
        "accuracy": accuracy_score(codes, found),
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "auroc": auroc,
    }


def test_all_measures_are_scikit_learns():
    p, codes = cases()
    ours, theirs = measures(p, codes), by_scikit_learn(p, codes)
    for name in ("precision", "recall", "f1", "auroc"):
        np.testing.assert_allclose(ours[name], theirs[name], atol=1e-12)
        assert float(ours[f"macro_{name}"]) == pytest.approx(np.mean(theirs[name]))
    assert float(ours["accuracy"]) == pytest.approx(theirs["accuracy"])


def test_each_resample_is_what_scikit_learn_says_of_its_cases_repeated():
    p, codes = cases(60)
    patients = [f"p{i // 2}" for i in range(60)]
    cluster, weights = patient_weights(patients, 12, seed=0)
    drawn = measure_draws(p, codes, cluster, weights)
    for b in range(12):
        rows = np.repeat(np.arange(60), weights[b, cluster])
        theirs = by_scikit_learn(p[rows], codes[rows])
        for name in ("precision", "recall", "f1", "auroc"):
            ours = drawn[name][b]
            np.testing.assert_allclose(ours[np.isfinite(ours)], theirs[name], atol=1e-12)
            assert drawn[f"macro_{name}"][b] == pytest.approx(np.mean(theirs[name]))
        assert drawn["accuracy"][b] == pytest.approx(theirs["accuracy"])


def test_a_class_without_a_case_is_unknown_and_left_out_of_the_averages():
    p, codes = cases()
    some = codes != 2
    found = measures(p[some], codes[some])
    assert np.isnan(found["recall"][2])
    assert np.isnan(found["auroc"][2])
    assert float(found["macro_recall"]) == pytest.approx(np.nanmean(found["recall"]))


def test_outcomes_of_cases_add_up_to_the_measures():
    p, codes = cases()
    found = case_outcomes(p, codes)
    assert found["correct"].mean() == pytest.approx(float(measures(p, codes)["accuracy"]))
    np.testing.assert_allclose(found["brier"], ((p - np.eye(4)[codes]) ** 2).sum(axis=1))


def test_what_is_no_distribution_is_named():
    with pytest.raises(DataError, match="row 1"):
        measures([[0.5, 0.5], [0.5, 0.6]], [0, 1])
