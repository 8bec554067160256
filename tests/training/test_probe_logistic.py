"""Logistic regression against scikit-learn, fitted anew for each C; C is chosen on validation cases alone."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from medaudit.errors import DataError
from medaudit.training.probes.logistic import PENALTIES, fit_logistic, logistic_probabilities, logistic_probe


def cases(n, seed=0, classes=4, d=15):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, classes, n)
    return 5 + 3 * rng.normal(size=(n, d)) + 2 * np.eye(classes, d)[codes], codes


def test_the_chosen_c_and_its_weights_are_those_of_a_search_by_scikit_learn_from_cold_starts():
    (train, codes), (validation, wanted), (test, _) = cases(240), cases(120, 1), cases(50, 2)
    penalties = PENALTIES[::4]
    probe = logistic_probe(train, codes, validation, wanted, 4, penalties=penalties)
    scaler = StandardScaler().fit(train)
    models = [LogisticRegression(C=c, tol=1e-10, max_iter=10_000) for c in penalties]
    for model in models:
        model.fit(scaler.transform(train), codes)
    accuracy = [float(model.score(scaler.transform(validation), wanted)) for model in models]
    np.testing.assert_allclose([row[1] for row in probe.table], accuracy, atol=1.5 / 120)
    theirs = models[penalties.index(probe.c)]
    np.testing.assert_allclose(probe.weight, theirs.coef_.T, atol=1e-4)
    np.testing.assert_allclose(probe.bias, theirs.intercept_, atol=1e-4)
    ours = logistic_probabilities(probe, test)
    np.testing.assert_allclose(ours, theirs.predict_proba(scaler.transform(test)), atol=1e-4)


def test_the_smallest_of_equally_good_penalties_is_chosen_and_a_refit_uses_all_cases():
    (train, codes), (validation, wanted) = cases(200), cases(80, 1)
    probe = logistic_probe(train, codes, validation, wanted, 4, penalties=PENALTIES[::6], refit=True)
    best = max(row[1] for row in probe.table)
    assert probe.c == min(row[0] for row in probe.table if row[1] == best)
    both = fit_logistic(np.concatenate([train, validation]), np.concatenate([codes, wanted]), 4, probe.c)
    np.testing.assert_array_equal(probe.weight, both.weight)


def test_of_two_classes_and_of_a_class_without_cases_the_probabilities_are_scikit_learns():
    x, codes = cases(100, classes=2)
    two = fit_logistic(x, codes, 2, standardise=False)
    theirs = LogisticRegression(tol=1e-10, max_iter=10_000).fit(x, codes)
    np.testing.assert_allclose(logistic_probabilities(two, x), theirs.predict_proba(x), atol=1e-5)
    gap = fit_logistic(x, np.where(codes == 1, 3, 0), 4, standardise=False)
    p = logistic_probabilities(gap, x)
    np.testing.assert_allclose(p[:, [0, 3]], theirs.predict_proba(x), atol=1e-5)
    assert not p[:, [1, 2]].any()
    assert gap.notes == (
        "no training case of class 1: its probability is 0",
        "no training case of class 2: its probability is 0",
    )


def test_one_class_alone_is_an_error():
    with pytest.raises(DataError, match="all 5 cases are of class 2"):
        fit_logistic(np.ones((5, 2)), np.full(5, 2), 3)
