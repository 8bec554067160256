"""The trust score against the paper's definition, computed with scikit-learn's trees."""

import numpy as np
import pytest
from sklearn.neighbors import KDTree

from medaudit.errors import DataError, UsageError
from medaudit.uncertainty.trust import TrustScore


def clusters(cases=150, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(cases) % 3
    return 2 * np.eye(3, 5)[labels] + rng.normal(size=(cases, 5)), labels


def paper(x, labels, points, predictions, alpha, k):
    """Distances to the alpha-high-density sets of the predicted and of the nearest other class, and their ratio."""
    distances = np.empty((len(points), 3))
    for c in range(3):
        inside = x[labels == c]
        radius = KDTree(inside).query(inside, k=k)[0][:, -1]
        inside = inside[radius <= np.percentile(radius, 100 * (1 - alpha))]
        distances[:, c] = KDTree(inside).query(points, k=1)[0][:, 0]
    rows = np.arange(len(points))
    own = distances[rows, predictions]
    distances[rows, predictions] = np.inf
    return distances.min(axis=1) / own


@pytest.mark.parametrize(("alpha", "k"), [(0.0, 10), (0.1, 10), (0.4, 3)])
def test_trust_is_that_of_the_paper(alpha, k):
    x, labels = clusters()
    points = np.random.default_rng(1).normal(size=(60, 5)) * 2
    predictions = np.random.default_rng(2).integers(0, 3, 60)
    fitted = TrustScore.fit(x, labels, alpha, k)
    expected = paper(x, labels, points, predictions, alpha, k)
    np.testing.assert_allclose(fitted.trust(points, predictions), expected, rtol=1e-9)
    np.testing.assert_allclose(fitted.score(points, predictions), 1 / (1 + expected), rtol=1e-9)


def test_a_wrong_prediction_is_more_uncertain_than_the_right_one():
    x, labels = clusters()
    fitted = TrustScore.fit(x, labels)
    points = 4 * np.eye(3, 5)
    assert (fitted.score(points, [0, 1, 2]) < 0.5).all()
    np.testing.assert_array_less(0.5, fitted.score(points, [1, 2, 0]))


def test_cases_that_lie_on_training_cases_have_finite_scores():
    x, labels = clusters()
    x[1] = x[0]  # the same case in two classes
    fitted = TrustScore.fit(x, labels)
    score = fitted.score(x[[0, 3, 3]], [0, 0, 1])
    np.testing.assert_array_equal(score, [0.5, 0, 1])
    np.testing.assert_array_equal(fitted.trust(x[[0, 3, 3]], [0, 0, 1]), [1, np.inf, 0])


def test_blocks_and_a_far_origin_change_nothing(monkeypatch):
    x, labels = clusters()
    points = np.random.default_rng(1).normal(size=(60, 5))
    whole = TrustScore.fit(x, labels, 0.1).score(points, labels[:60])
    monkeypatch.setattr("medaudit.uncertainty.trust._BLOCK_CELLS", 300)
    moved = TrustScore.fit(x + 1e6, labels, 0.1).score(points + 1e6, labels[:60])
    np.testing.assert_allclose(moved, whole, rtol=1e-8)


def test_bad_input_is_named():
    x, labels = clusters()
    with pytest.raises(DataError, match="two classes"):
        TrustScore.fit(x, labels * 0)
    with pytest.raises(DataError, match="row 1 is predicted as class 7"):
        TrustScore.fit(x, labels).score(x[:2], [0, 7])
    with pytest.raises(DataError, match="expected 5"):
        TrustScore.fit(x, labels).score(x[:, :2], labels)
    with pytest.raises(UsageError, match="alpha"):
        TrustScore.fit(x, labels, alpha=1.0)
    with pytest.raises(UsageError, match="k"):
        TrustScore.fit(x, labels, k=0)
