"""Nearest neighbours against scikit-learn's, and the patient that must not vote on itself."""

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from medaudit.errors import DataError
from medaudit.training.probes import knn as module
from medaudit.training.probes.knn import knn


def features(n, d=12, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, classes, n)
    return rng.normal(size=(n, d)) + 0.8 * np.eye(classes, d)[codes], codes


def test_the_votes_are_those_of_scikit_learns_cosine_neighbours_weighted_by_a_softmax(monkeypatch):
    train, codes = features(300)
    test, _ = features(90, seed=1)
    monkeypatch.setattr(module, "_CELLS", 7 * 300)  # blocks of seven test cases
    found = knn(train, codes, test, (1, 10, 37), classes=4)
    for k, ours in zip((1, 10, 37), found.probabilities, strict=True):
        theirs = KNeighborsClassifier(k, metric="cosine", weights=lambda far: np.exp((1 - far) / 0.07))
        np.testing.assert_allclose(ours, theirs.fit(train, codes).predict_proba(test), atol=2e-5)


def test_one_hot_features_are_classified_without_doubt():
    codes = np.arange(40) % 5
    found = knn(np.eye(5)[codes] * 3, codes, np.eye(5), k=(8,))
    np.testing.assert_array_equal(found.probabilities[0], np.eye(5, dtype=np.float32))


def test_more_neighbours_than_cases_are_lowered_and_said():
    train, codes = features(30)
    found = knn(train, codes, train, (10, 200))
    assert found.k == (10, 30)
    assert found.notes == ("k of 200 is lowered to 30, all training cases",)


def test_a_case_of_the_same_patient_has_no_vote():
    train, codes = features(60)
    patients = [f"p{i // 3}" for i in range(60)]
    found = knn(train, codes, train[:1], (59,), train_patients=patients, test_patients=["p0"], classes=4)
    without = knn(train[3:], codes[3:], train[:1], (57,), classes=4)
    np.testing.assert_allclose(found.probabilities, without.probabilities, atol=1e-6)
    alone = knn(train, codes, train[:1], (1,), classes=4).probabilities[0, 0]
    assert alone[codes[0]] == 1  # itself, where patients are not told


def test_no_neighbour_of_another_patient_is_an_error():
    train, codes = features(6)
    with pytest.raises(DataError, match="test case 0 has no neighbour of another patient"):
        knn(train, codes, train[:1], (2,), train_patients=["a"] * 6, test_patients=["a"])


def test_features_that_are_zero_are_named():
    train, codes = features(6)
    train[4] = 0
    with pytest.raises(DataError, match="training case 4"):
        knn(train, codes, train[:1], (2,))
